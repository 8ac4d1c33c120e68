//! The name a resource goes by on the wire, read without decoding the resource.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::type_url;

/// Types whose name is the string in field 1.
const NAMED: &[&str] = &[
    type_url::CLUSTER,
    type_url::ENDPOINT,
    type_url::LISTENER,
    type_url::ROUTE,
    type_url::SCOPED_ROUTE,
    type_url::VIRTUAL_HOST,
    type_url::SECRET,
    type_url::EXTENSION_CONFIG,
    type_url::RUNTIME,
];

/// Name of an encoded resource: `cluster_name` of a `ClusterLoadAssignment`, `name` of the other xDS types.
///
/// `None` when the type has no name in itself, the name is empty, or the bytes are malformed before or in it. A
/// `VirtualHost` gives its own name; on the wire VHDS puts that of its route configuration before it.
#[must_use]
pub fn resource_name(type_url: &str, bytes: &[u8]) -> Option<String> {
    if !NAMED.contains(&type_url) {
        return None;
    }
    let mut rest = bytes;
    let mut name = None;
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).ok()?;
        if (tag, wire) == (1, WireType::LengthDelimited) {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let (value, after) = rest.split_at_checked(length)?;
            name = Some(std::str::from_utf8(value).ok()?); // the last one counts, as for any scalar
            rest = after;
        } else {
            skip_field(wire, tag, &mut rest, DecodeContext::default()).ok()?;
        }
    }
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use prost::Message;

    #[test]
    fn name_is_read_from_the_bytes() {
        let cluster = Cluster {
            name: "a".into(),
            alt_stat_name: "b".into(),
            ..Cluster::default()
        };
        let endpoints = ClusterLoadAssignment {
            cluster_name: "c".into(),
            ..ClusterLoadAssignment::default()
        };
        let name = |url, bytes: Vec<u8>| resource_name(url, &bytes);
        assert_eq!(
            name(type_url::CLUSTER, cluster.encode_to_vec()).as_deref(),
            Some("a")
        );
        assert_eq!(
            name(type_url::ENDPOINT, endpoints.encode_to_vec()).as_deref(),
            Some("c")
        );
        assert_eq!(name(type_url::CLUSTER, Vec::new()), None);
        assert_eq!(name(type_url::BOOTSTRAP, cluster.encode_to_vec()), None);
    }

    #[test]
    fn malformed_bytes_have_no_name() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x0a, 1, 0xff],
            &[0xff],
        ] {
            assert_eq!(resource_name(type_url::CLUSTER, bytes), None, "{bytes:?}");
        }
    }
}
