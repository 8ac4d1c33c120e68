//! Nonces that say which revision they carry.

use std::fmt;

/// The nonce of one response: `<revision>-<counter>`, the revision in decimal, the counter of the stream in hexadecimal.
///
/// A proxy's own dump of its configuration and an operator's log line thereby tell which revision was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nonce {
    /// The mesh revision of the snapshot the response was made from.
    pub revision: u64,
    /// Counts the responses of a stream, from 1.
    pub counter: u64,
}

impl Nonce {
    /// Reads what `Display` wrote; anything else, such as a nonce of another server, is `None`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (revision, counter) = std::str::from_utf8(text).ok()?.split_once('-')?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
        (digits(revision) && digits(counter)).then_some(())?;
        Some(Self {
            revision: revision.parse().ok()?,
            counter: u64::from_str_radix(counter, 16).ok()?,
        })
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.revision, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let nonce = Nonce {
            revision: 42,
            counter: 31,
        };
        assert_eq!(nonce.to_string(), "42-1f");
        assert_eq!(Nonce::parse(b"42-1f"), Some(nonce));
        for other in [
            "",
            "-",
            "42",
            "42-",
            "-1",
            "+1-1",
            "a-1",
            "1-1-1",
            "99999999999999999999-1",
        ] {
            assert_eq!(Nonce::parse(other.as_bytes()), None, "{other}");
        }
    }
}
