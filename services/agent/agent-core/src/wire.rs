//! The few fields of xDS messages that the agent reads; resources are never decoded on their way to Envoy.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Variant of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Every response holds all resources of its type.
    StateOfTheWorld,
    /// Responses hold what changed.
    Delta,
}

/// What is read of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Type of its resources.
    pub type_url: String,
    /// What an answer must name.
    pub nonce: String,
    /// Version of the whole.
    pub version: String,
}

/// Bytes that are no such message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no xDS message: {0}")]
pub struct WireError(String);

/// Longest text that is kept of a message. Unit: bytes.
const MAX_TEXT: usize = 64 << 10;

/// Reads a response of either variant: their numbers agree.
///
/// # Errors
/// See [`WireError`].
pub fn response(bytes: &[u8]) -> Result<Response, WireError> {
    let mut found = Response::default();
    walk(bytes, |tag, text| match tag {
        1 => found.version = text,
        4 => found.type_url = text,
        5 => found.nonce = text,
        _ => {}
    })?;
    Ok(found)
}

/// The type that a request is about.
///
/// # Errors
/// See [`WireError`].
pub fn request_type(bytes: &[u8], variant: Variant) -> Result<String, WireError> {
    let field = match variant {
        Variant::StateOfTheWorld => 4,
        Variant::Delta => 2,
    };
    let mut found = String::new();
    walk(bytes, |tag, text| {
        if tag == field {
            found = text;
        }
    })?;
    Ok(found)
}

/// Hands over the texts of fields 1 to 5, top level.
fn walk(mut bytes: &[u8], mut take: impl FnMut(u32, String)) -> Result<(), WireError> {
    let wrong = |error: prost::DecodeError| WireError(error.to_string());
    while bytes.has_remaining() {
        let (tag, wire) = decode_key(&mut bytes).map_err(wrong)?;
        // Resources are field 2 of responses and names field 3 of requests: neither is looked at, but for the type of delta requests.
        if wire != WireType::LengthDelimited || tag > 5 || tag == 3 {
            skip_field(wire, tag, &mut bytes, DecodeContext::default()).map_err(wrong)?;
            continue;
        }
        let length = decode_varint(&mut bytes).map_err(wrong)?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= bytes.len())
            .ok_or_else(|| WireError("a field is longer than the message".into()))?;
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        if length <= MAX_TEXT
            && let Ok(text) = std::str::from_utf8(field)
        {
            take(tag, text.to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_api::any::Any;
    use envoy_api::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        Resource,
    };
    use prost::Message as _;

    #[test]
    fn both_variants_are_read_without_their_resources() {
        let want = Response {
            type_url: "t".into(),
            nonce: "n".into(),
            version: "v".into(),
        };
        let any = Any {
            type_url: "other".into(),
            value: vec![0xff; 100],
        };
        let sotw = DiscoveryResponse {
            version_info: "v".into(),
            resources: vec![any.clone()],
            type_url: "t".into(),
            nonce: "n".into(),
            ..DiscoveryResponse::default()
        };
        assert_eq!(response(&sotw.encode_to_vec()).unwrap(), want);
        let delta = DeltaDiscoveryResponse {
            system_version_info: "v".into(),
            resources: vec![Resource {
                resource: Some(any),
                ..Resource::default()
            }],
            type_url: "t".into(),
            nonce: "n".into(),
            ..DeltaDiscoveryResponse::default()
        };
        assert_eq!(response(&delta.encode_to_vec()).unwrap(), want);
        let request = DiscoveryRequest {
            type_url: "t".into(),
            resource_names: vec!["x".into()],
            ..DiscoveryRequest::default()
        };
        let of = |bytes: Vec<u8>, variant| request_type(&bytes, variant).unwrap();
        assert_eq!(of(request.encode_to_vec(), Variant::StateOfTheWorld), "t");
        let request = DeltaDiscoveryRequest {
            type_url: "t".into(),
            resource_names_subscribe: vec!["x".into()],
            ..DeltaDiscoveryRequest::default()
        };
        assert_eq!(of(request.encode_to_vec(), Variant::Delta), "t");
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bytes in [
            &b"\x0a\x05abc"[..],
            b"\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(response(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(response(b"").unwrap(), Response::default());
    }

    proptest::proptest! {
        /// Whatever comes from a server is a message or none.
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            if let Ok(read) = response(&bytes) {
                proptest::prop_assert!(read.nonce.len() <= bytes.len());
            }
            let _ = request_type(&bytes, Variant::Delta);
        }
    }
}
