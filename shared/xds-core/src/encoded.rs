//! One resource, encoded once for every stream that needs it.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::TypeId;
use crate::proto::{field_len, key, put_field, put_varint};

/// An immutable resource in its wire form, shared by every class and stream that carries it.
///
/// The bytes are one field 2 of `DeltaDiscoveryResponse`: a `Resource {version, name, resource}` whose `Any` comes last, so the entry
/// of a state-of-the-world response (field 2 of `DiscoveryResponse`, the `Any` alone) is a suffix of them.
pub struct Encoded {
    name: Arc<str>,
    version: u64,
    entry: Bytes,
    any_at: u32,
}

impl Encoded {
    /// Encodes a resource from its message bytes.
    ///
    /// `name` is the name proxies subscribe to. Equal type, name and bytes give an equal entry and version on every replica.
    pub fn new(name: impl Into<Arc<str>>, type_id: TypeId, message: &[u8]) -> Self {
        Self::with_url(name, type_id.url(), message)
    }

    /// As [`Encoded::new`], for a type URL that is not one of [`TypeId`].
    pub fn with_url(name: impl Into<Arc<str>>, type_url: &str, message: &[u8]) -> Self {
        let name: Arc<str> = name.into();
        let version = content_hash(type_url, message);
        let hex = hex16(version);

        let any = field_len(type_url.len()) + field_len(message.len());
        let resource = field_len(hex.len()) + field_len(name.len()) + field_len(any);
        let mut out = BytesMut::with_capacity(field_len(resource));
        out.put_u8(key(2));
        put_varint(resource as u64, &mut out);
        put_field(1, &hex, &mut out);
        put_field(3, name.as_bytes(), &mut out);
        let any_at = out.len() as u32; // a name and a type URL: far below 4 GiB
        out.put_u8(key(2));
        put_varint(any as u64, &mut out);
        put_field(1, type_url.as_bytes(), &mut out);
        put_field(2, message, &mut out);
        Self {
            name,
            version,
            entry: out.freeze(),
            any_at,
        }
    }

    /// The name proxies subscribe to.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Content hash of type URL and message; in delta responses as 16 hex digits.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The entry of a delta response, key and length included.
    pub fn delta_entry(&self) -> &Bytes {
        &self.entry
    }

    /// The entry of a state-of-the-world response, key and length included.
    pub fn sotw_entry(&self) -> Bytes {
        self.entry.slice(self.any_at as usize..)
    }

    /// The resource as an encoded `google.protobuf.Any`.
    pub fn any(&self) -> &[u8] {
        let entry = &self.entry[self.any_at as usize..];
        let prefix = 1 + entry[1..].iter().take_while(|b| **b >= 0x80).count() + 1;
        &entry[prefix..]
    }

    /// Whether a proxy that has `self` would gain nothing from `other`.
    pub fn same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || (self.version == other.version && self.entry == other.entry)
    }

    /// What this resource adds to the version of a set.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut h = Xxh3::with_seed(self.version);
        h.update(self.name.as_bytes());
        h.digest()
    }

    /// The entry in either protocol, without copying.
    pub(crate) fn entry(&self, delta: bool) -> Bytes {
        if delta {
            self.entry.clone()
        } else {
            self.sotw_entry()
        }
    }

    pub(crate) fn entry_bytes(&self, delta: bool) -> &[u8] {
        if delta {
            &self.entry
        } else {
            &self.entry[self.any_at as usize..]
        }
    }
}

impl fmt::Debug for Encoded {
    /// Name and version only: resources may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:016x}", self.name, self.version)
    }
}

/// Hash of a resource's content, equal on every replica: xxh3-64 of the type URL's hash and the message.
fn content_hash(type_url: &str, message: &[u8]) -> u64 {
    let mut h = Xxh3::with_seed(xxh3_64(type_url.as_bytes()));
    h.update(message);
    h.digest()
}

/// Sixteen lower-case hex digits, without going through a `String`.
pub(crate) fn hex16(v: u64) -> [u8; 16] {
    std::array::from_fn(|i| b"0123456789abcdef"[(v >> (60 - 4 * i)) as usize & 15])
}

/// Reads what [`hex16`] wrote; anything else is `None`.
pub(crate) fn parse_hex16(s: &[u8]) -> Option<u64> {
    if s.len() != 16 {
        return None;
    }
    s.iter().try_fold(0, |v, b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            _ => return None,
        };
        Some(v << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Any, Resource};
    use prost::Message;

    #[test]
    fn delta_entry_decodes_as_a_resource_and_its_suffix_as_an_any() {
        let long = vec![7; 300];
        for message in [&b""[..], b"abc", &long] {
            let e = Encoded::new("outbound|80||a", TypeId::Cds, message);
            let mut buf = e.delta_entry().clone();
            assert_eq!(buf[0], 0x12);
            let r = Resource::decode_length_delimited(buf.split_off(1)).unwrap();
            assert_eq!(r.name, "outbound|80||a");
            assert_eq!(r.version, format!("{:016x}", e.version()));
            let any = r.resource.unwrap();
            assert_eq!(
                (any.type_url.as_str(), any.value.as_slice()),
                (TypeId::Cds.url(), message)
            );
            assert_eq!(Any::decode(e.any()).unwrap(), any);
            assert_eq!(
                Any::decode_length_delimited(e.sotw_entry().split_off(1)).unwrap(),
                any
            );
        }
    }

    #[test]
    fn version_is_of_type_and_content_not_of_name() {
        let a = Encoded::new("a", TypeId::Cds, b"x");
        assert_eq!(a.version(), Encoded::new("b", TypeId::Cds, b"x").version());
        assert_ne!(a.version(), Encoded::new("a", TypeId::Lds, b"x").version());
        assert_ne!(a.version(), Encoded::new("a", TypeId::Cds, b"y").version());
        assert_ne!(
            a.fingerprint(),
            Encoded::new("b", TypeId::Cds, b"x").fingerprint()
        );
    }

    #[test]
    fn hex_round_trip() {
        for v in [0, 1, 0xdead_beef, u64::MAX] {
            assert_eq!(std::str::from_utf8(&hex16(v)).unwrap(), format!("{v:016x}"));
            assert_eq!(parse_hex16(&hex16(v)), Some(v));
        }
        assert_eq!(parse_hex16(b"00000000000000G0"), None);
        assert_eq!(parse_hex16(b"0"), None);
    }
}
