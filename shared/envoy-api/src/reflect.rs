//! Every message Envoy knows, by name: also those that `build.rs` made no Rust type of.

use std::sync::LazyLock;

use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};

use crate::type_url::message_name;

pub use prost_reflect;

/// How deep `Any` may stand inside `Any`; what is deeper is copied as it is.
const MAX_ANYS: usize = 16;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // Infallible: the bytes are part of this binary, and the tests read them.
    DescriptorPool::decode(include_bytes!(env!("ENVOY_DESCRIPTORS")).as_slice())
        .expect("embedded descriptors are valid")
});

/// Descriptors of every message. The first call takes about 65 ms.
#[must_use]
pub fn pool() -> &'static DescriptorPool {
    &POOL
}

/// Descriptor of the message a type URL names, or `None` for a message Envoy does not have.
#[must_use]
pub fn descriptor(type_url: &str) -> Option<MessageDescriptor> {
    pool().get_message_by_name(message_name(type_url))
}

/// Encodes a message so that equal messages give equal bytes: fields by number, map entries by key, unknown fields
/// last, and the same inside every `Any`.
///
/// `DynamicMessage`'s own `encode` leaves map entries in the order of a hash map.
#[must_use]
pub fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.encoded_len());
    put_message(message, &mut out, MAX_ANYS);
    out
}

fn put_message(message: &DynamicMessage, out: &mut Vec<u8>, anys: usize) {
    let is_any = message.descriptor().full_name() == ANY;
    for (field, value) in message.fields() {
        match value {
            Value::Bytes(bytes) if is_any => {
                let inner = any_type(message).and_then(|kind| reencode(kind, bytes, anys));
                put_bytes(field.number(), inner.as_deref().unwrap_or(bytes), out);
            }
            value => put_field(&field, value, out, anys),
        }
    }
    for unknown in message.unknown_fields() {
        unknown.encode(out);
    }
}

/// Full name of the message that holds another of any type.
pub(crate) const ANY: &str = "google.protobuf.Any";

/// Descriptor of what an `Any` holds.
fn any_type(any: &DynamicMessage) -> Option<MessageDescriptor> {
    descriptor(any.get_field_by_number(1)?.as_str()?)
}

/// The bytes in their one encoding; `None` when they are not that message, or lie too deep.
fn reencode(kind: MessageDescriptor, bytes: &[u8], anys: usize) -> Option<Vec<u8>> {
    let anys = anys.checked_sub(1)?;
    let message = DynamicMessage::decode(kind, bytes).ok()?;
    let mut out = Vec::with_capacity(bytes.len());
    put_message(&message, &mut out, anys);
    Some(out)
}

fn put_field(field: &FieldDescriptor, value: &Value, out: &mut Vec<u8>, anys: usize) {
    match value {
        Value::Message(message) if !field.is_group() => {
            put_submessage(field.number(), message, out, anys)
        }
        Value::List(items) if matches!(field.kind(), Kind::Message(_)) && !field.is_group() => {
            for message in items.iter().filter_map(Value::as_message) {
                put_submessage(field.number(), message, out, anys);
            }
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return;
            };
            let mut sorted: Vec<(&MapKey, &Value)> = entries.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
            for (key, value) in sorted {
                let mut body = Vec::new();
                put_scalar(&entry.map_entry_key_field(), key.clone().into(), &mut body);
                // Like the generated code, which leaves out an empty message here.
                if value
                    .as_message()
                    .is_none_or(|message| message.encoded_len() > 0)
                {
                    put_field(&entry.map_entry_value_field(), value, &mut body, anys);
                }
                put_bytes(field.number(), &body, out);
            }
        }
        scalar => put_scalar(field, scalar.clone(), out),
    }
}

fn put_submessage(number: u32, message: &DynamicMessage, out: &mut Vec<u8>, anys: usize) {
    let mut body = Vec::new();
    put_message(message, &mut body, anys);
    put_bytes(number, &body, out);
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A value without maps in it, through a message that has only this field.
fn put_scalar(field: &FieldDescriptor, value: Value, out: &mut Vec<u8>) {
    let mut alone = DynamicMessage::new(field.parent_message().clone());
    alone.set_field(field, value);
    // Infallible: a Vec grows, and the field's value came from a message or parser that checked its type.
    alone.encode(out).expect("a Vec has room");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any::pack;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::core::v3::Metadata;
    use crate::type_url;

    /// A cluster with maps in it, and maps inside an `Any`.
    fn cluster() -> Cluster {
        let mut metadata = Metadata::default();
        let mut nested = Metadata::default();
        for n in 0..30 {
            nested
                .typed_filter_metadata
                .insert(format!("n{n}"), pack(&Metadata::default()));
        }
        for n in 0..30 {
            metadata
                .typed_filter_metadata
                .insert(format!("k{n}"), pack(&nested));
            let fields = (0..5)
                .map(|f| (format!("f{f}"), prost_types::Value::default()))
                .collect();
            metadata
                .filter_metadata
                .insert(format!("m{n}"), prost_types::Struct { fields });
        }
        Cluster {
            name: "a".into(),
            metadata: Some(metadata),
            ..Cluster::default()
        }
    }

    #[test]
    fn equal_messages_encode_to_equal_bytes() {
        let want = cluster().encode_to_vec();
        for _ in 0..20 {
            let kind = descriptor(type_url::CLUSTER).unwrap();
            let got = encode(&DynamicMessage::decode(kind, &*want).unwrap());
            assert!(got == want, "the typed and the dynamic encoding differ");
        }
    }

    #[test]
    fn unknown_fields_and_unknown_types_are_kept() {
        let mut bytes = Cluster {
            name: "a".into(),
            ..Cluster::default()
        }
        .encode_to_vec();
        prost::encoding::string::encode(4000, &"later".to_owned(), &mut bytes);
        let decode =
            |bytes: &[u8], url| DynamicMessage::decode(descriptor(url).unwrap(), bytes).unwrap();
        assert_eq!(encode(&decode(&bytes, type_url::CLUSTER)), bytes);

        let any = prost_types::Any {
            type_url: "x/not.Known".into(),
            value: vec![1, 2, 3],
        }
        .encode_to_vec();
        assert_eq!(encode(&decode(&any, "x/google.protobuf.Any")), any);
    }

    #[test]
    fn every_xds_type_is_in_the_pool() {
        for url in [
            type_url::CLUSTER,
            type_url::ENDPOINT,
            type_url::LISTENER,
            type_url::ROUTE,
            type_url::SCOPED_ROUTE,
            type_url::VIRTUAL_HOST,
            type_url::SECRET,
            type_url::EXTENSION_CONFIG,
            type_url::RUNTIME,
            type_url::HEALTH_CHECK,
            type_url::BOOTSTRAP,
        ] {
            assert!(descriptor(url).is_some(), "{url}");
        }
    }
}
