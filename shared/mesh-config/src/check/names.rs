//! Forms of names, as Kubernetes and DNS define them.

/// A DNS-1123 label: lower-case letters, digits and dashes, 1..=63 characters, a letter or digit at both ends.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_case(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

/// As [`is_label`], with letters of either case.
pub(crate) fn is_label_of_any_case(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// What to say about a text that should be a label.
pub(crate) fn want_label(text: &str) -> String {
    format!(
        "{text:?} is no name; use letters, digits and -, at most 63, a letter or digit at both ends"
    )
}

/// A DNS-1123 subdomain: labels with dots between, at most 253 characters.
pub(crate) fn is_subdomain(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A label's key (`[prefix/]name`) and value.
pub(crate) fn label_pair(key: &str, value: &str) -> Result<(), String> {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(p, n)| (Some(p), n));
    if prefix.is_some_and(|p| !is_subdomain(&p.to_ascii_lowercase())) {
        return Err(format!(
            "{key:?} is no label: what stands before / must be a DNS name"
        ));
    }
    if !is_label_text(name) {
        return Err(format!(
            "{key:?} is no label: use letters, digits, -, _ and ., at most 63, a letter or digit at both ends"
        ));
    }
    if !value.is_empty() && !is_label_text(value) {
        return Err(format!(
            "{value:?} is no label value: use letters, digits, -, _ and ., at most 63, a letter or digit at both ends"
        ));
    }
    Ok(())
}

fn is_label_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
}
