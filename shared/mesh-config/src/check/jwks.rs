//! JSON Web Key Sets and where they are.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// Whether a set has more than public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Public keys.
    Public,
    /// A private or symmetric key, which whoever reads the object can sign tokens with.
    Secret,
}

/// Reads a set; why it is none. Nothing of its content is in the answer.
pub(super) fn set(text: &str) -> Result<Content, String> {
    let json: Value = serde_json::from_str(text).map_err(|_| "is not JSON".to_owned())?;
    let keys = json.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or("has no list `keys`; want {\"keys\": [..]}")?;
    let mut content = Content::Public;
    for (index, key) in keys.iter().enumerate() {
        let kind = key.get("kty").and_then(Value::as_str);
        let wanted: &[&str] = match kind {
            Some("RSA") => &["n", "e"],
            Some("EC") => &["x", "y"],
            Some("OKP") => &["x"],
            Some("oct") => &["k"],
            _ => return Err(format!("key {index} has no `kty` of RSA, EC, OKP or oct")),
        };
        for name in wanted {
            let member = key.get(name).and_then(Value::as_str);
            let bytes = member.and_then(|m| URL_SAFE_NO_PAD.decode(m.trim_end_matches('=')).ok());
            if bytes.is_none_or(|bytes| bytes.is_empty()) {
                return Err(format!("key {index} has no `{name}` in base64url"));
            }
        }
        if matches!(kind, Some("EC" | "OKP")) && key.get("crv").and_then(Value::as_str).is_none() {
            return Err(format!("key {index} has no `crv`"));
        }
        if kind == Some("oct") || key.get("d").is_some() {
            content = Content::Secret;
        }
    }
    Ok(content)
}

/// A place to fetch from: http or https, a host, and a port that is a number if there is one.
pub(super) fn uri(text: &str) -> Result<(), String> {
    let wrong = |what: &str| {
        Err(format!(
            "{text:?} {what}; write for example https://a.example.com/keys"
        ))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return wrong("is no URI");
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return wrong("is of neither http nor https");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("has spaces");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((host, port)) if super::values::is_ip(host) => (host, port),
            _ => return wrong("has no host"),
        },
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    if host.is_empty() {
        return wrong("has no host");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if port.parse::<u16>().is_ok() => Ok(()),
        _ => wrong("has no number for a port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let rsa = r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#;
        assert_eq!(set(rsa), Ok(Content::Public));
        assert_eq!(set(r#"{"keys":[]}"#), Ok(Content::Public));
        for secret in [
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
            r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB","d":"AQAB"}]}"#,
        ] {
            assert_eq!(set(secret), Ok(Content::Secret));
        }
        for bad in [
            "",
            "<html>",
            "[]",
            r#"{"keys":3}"#,
            r#"{"keys":[3]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB"}]}"#,
            r#"{"keys":[{"kty":"EC","x":"AQAB","y":"AQAB"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}"#,
        ] {
            let why = set(bad).unwrap_err();
            assert!(!why.contains("html"), "{why}");
        }
    }

    #[test]
    fn places() {
        for good in [
            "https://a.com",
            "http://a.com:80/x?y",
            "https://[::1]:8443/k",
            "HTTPS://a/",
        ] {
            assert_eq!(uri(good), Ok(()));
        }
        for bad in [
            "",
            "a.com/k",
            "ftp://a.com",
            "https://",
            "https:///k",
            "https://a:b/",
            "https://a:99999",
            "https://[x]/",
            "https://a b/",
        ] {
            assert!(uri(bad).is_err(), "{bad}");
        }
    }
}
