//! Subjects and patterns, as NATS has them.

use std::fmt::Write as _;

use crate::BusError;

/// Most bytes of a subject, pattern, bucket or encoded key.
const MAX_LENGTH: usize = 512;

/// Checks a subject to publish to: words separated by dots, without spaces, `*` or `>`; 512 bytes at most.
///
/// # Errors
/// [`BusError::Invalid`].
pub fn check_subject(subject: &str) -> Result<(), BusError> {
    if well_formed(subject) && !subject.contains(['*', '>']) {
        Ok(())
    } else {
        Err(BusError::Invalid(format!(
            "{subject:?} is no subject: want words separated by dots"
        )))
    }
}

fn well_formed(text: &str) -> bool {
    text.len() <= MAX_LENGTH
        && text.split('.').all(|word| !word.is_empty())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What a subscription wants: a subject in which `*` stands for one word and a last `>` for one or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BusError::Invalid`].
    pub fn new(text: &str) -> Result<Self, BusError> {
        let wildcards_alone = text
            .split('.')
            .all(|word| matches!(word, "*" | ">") || !word.contains(['*', '>']));
        let rest_last = text
            .strip_suffix('>')
            .unwrap_or(text)
            .split('.')
            .all(|word| word != ">");
        if well_formed(text) && wildcards_alone && rest_last {
            Ok(Self(text.to_owned()))
        } else {
            Err(BusError::Invalid(format!(
                "{text:?} is no pattern: want words separated by dots, * for one word, > at the end for the rest"
            )))
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `subject` is wanted.
    pub fn matches(&self, subject: &str) -> bool {
        let mut words = subject.split('.');
        for want in self.0.split('.') {
            match (want, words.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (want, Some(word)) if want == word => {}
                _ => return false,
            }
        }
        words.next().is_none()
    }
}

/// Makes one word of a subject (or a key) of any text: letters, digits, `-` and `_` stay, every other byte becomes `=` and two
/// hexadecimal digits, so different texts never meet. Empty text becomes `=`.
pub fn token(text: &str) -> String {
    let mut word = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            word.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(word, "={byte:02X}");
        }
    }
    if word.is_empty() {
        word.push('=');
    }
    word
}

/// The reverse of [`token`]; `None` if it did not make `word`.
pub(crate) fn text(word: &str) -> Option<String> {
    if word == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'=' => {
                let hex = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A key as it is stored.
///
/// # Errors
/// [`BusError::Invalid`] if it is too long.
pub(crate) fn key(key: &str) -> Result<String, BusError> {
    let word = token(key);
    if word.len() > MAX_LENGTH {
        let start: String = key.chars().take(40).collect();
        return Err(BusError::Invalid(format!(
            "the key {start:?}.. is too long"
        )));
    }
    Ok(word)
}

/// Checks what a bucket is made with.
pub(crate) fn check_bucket(bucket: &str, ttl: std::time::Duration) -> Result<(), BusError> {
    let named = !bucket.is_empty() && bucket.len() <= 64;
    if !named
        || !bucket
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    {
        return Err(BusError::Invalid(format!(
            "{bucket:?} is no bucket: want 1 to 64 letters, digits, - or _"
        )));
    }
    if ttl < std::time::Duration::from_secs(1) {
        return Err(BusError::Invalid(format!(
            "facts that live for {ttl:?}: want one second or more"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_words() {
        for (pattern, subject, want) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(subject),
                want,
                "{pattern} {subject}"
            );
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for bad in ["", ".", "a.", "a..b", "a b", "a.>.b", "a*", "a.b>", "a\n"] {
            assert!(Pattern::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a.", "a b", "a.*", ">"] {
            assert!(check_subject(bad).is_err(), "{bad:?}");
        }
        assert!(check_subject(&"a".repeat(513)).is_err());
    }

    #[test]
    fn any_text_makes_a_word_and_back() {
        for any in [
            "",
            "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local",
            "=",
            "ä b*>.",
            "a=2E",
        ] {
            let word = token(any);
            check_subject(&word).unwrap();
            assert!(!word.contains('.'));
            assert_eq!(text(&word).as_deref(), Some(any), "{word}");
        }
        assert_eq!(token("web-1.shop"), "web-1=2Eshop");
        assert_eq!(text("=G0"), None);
        assert_eq!(text("=C3"), None);
    }
}
