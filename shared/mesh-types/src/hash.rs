//! Content versions: equal content has an equal version, on every replica and after every restart.

use serde::Serialize;
use serde_json::Value;

/// A content hash (xxh3, 64 bits) that serves as a version.
pub type Version = u64;

/// The version of raw bytes.
pub fn version_of(bytes: &[u8]) -> Version {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The version of anything serde can write, independent of map order.
///
/// A value that serde_json cannot represent (a map with non-text keys) hashes as `null`; our types have none.
pub fn version_of_json<T: Serialize>(value: &T) -> Version {
    let mut text = Vec::with_capacity(256);
    write_sorted(
        &serde_json::to_value(value).unwrap_or(Value::Null),
        &mut text,
    );
    version_of(&text)
}

/// Writes JSON with object members in key order.
fn write_sorted(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by(|a, b| a.0.cmp(b.0));
            out.push(b'{');
            for (key, member) in members {
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b"\0:");
                write_sorted(member, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_sorted(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::String(text) => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Null => out.push(b'n'),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn member_order_does_not_matter() {
        assert_eq!(
            version_of_json(&json!({"a": 1, "b": [2]})),
            version_of_json(&json!({"b": [2], "a": 1}))
        );
    }

    #[test]
    fn item_order_matters() {
        assert_ne!(
            version_of_json(&json!([1, 2])),
            version_of_json(&json!([2, 1]))
        );
    }
}
