//! What comes in `authorization: Bearer ..`.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::Refusal;

/// Longest token that is looked at. Unit: bytes.
pub const MAX_TOKEN: usize = 16 << 10;

/// What a join token begins with.
const JOIN: &str = "flotilla-join.";

/// A token: prints as nothing, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token of this text.
    pub fn new(text: impl Into<String>) -> Token {
        Token(Zeroizing::new(text.into()))
    }

    /// The text, for whoever verifies it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of it: a name for it that may be kept.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A bearer token, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bearer {
    /// One of our join tokens: nobody else gets to see it.
    Join(JoinToken),
    /// Anything else, a JWT in all likelihood.
    Other(Token),
}

/// The one bearer token among the values of `authorization`; other schemes are ignored.
///
/// # Errors
/// More than one, or text that no token can be.
pub fn bearer<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Bearer>, Refusal> {
    let mut found = None;
    for value in values {
        let Some(token) = value.strip_prefix(b"Bearer ") else {
            continue;
        };
        if found.replace(token).is_some() {
            return Err(Refusal::Bearers);
        }
    }
    let Some(token) = found else { return Ok(None) };
    if token.is_empty() || token.len() > MAX_TOKEN || !token.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::BearerText);
    }
    let text = std::str::from_utf8(token).map_err(|_| Refusal::BearerText)?;
    if text.starts_with(JOIN) {
        return JoinToken::parse(text).map(Bearer::Join).map(Some);
    }
    Ok(Some(Bearer::Other(Token::new(text))))
}

/// A one-time join token: `flotilla-join.ID.SECRET`, 16 hexadecimal digits and 32 bytes in base64url. Only a hash of the secret is kept
/// anywhere but with whom it is for.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: String,
    text: Token,
}

impl JoinToken {
    /// Reads a token.
    ///
    /// # Errors
    /// [`Refusal::NoJoinToken`].
    pub fn parse(text: &str) -> Result<JoinToken, Refusal> {
        let parse = || {
            let (id, secret) = text.strip_prefix(JOIN)?.split_once('.')?;
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if id.len() != 16 || !id.bytes().all(hex) {
                return None;
            }
            let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
            (secret.len() == 32).then(|| JoinToken {
                id: id.to_owned(),
                text: Token::new(text),
            })
        };
        parse().ok_or(Refusal::NoJoinToken)
    }

    /// The public part, by which it is known.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole of it, for whoever looks it up.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(*byte)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<Bearer>, Refusal> {
        bearer(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn there_is_one_bearer_token_or_none() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Basic abc", "bearer x"]), Ok(None));
        assert_eq!(
            of(&["Basic abc", "Bearer x.y.z"]),
            Ok(Some(Bearer::Other(Token::new("x.y.z"))))
        );
        assert_eq!(of(&["Bearer a", "Bearer b"]), Err(Refusal::Bearers));
        for bad in ["Bearer ", "Bearer a b", "Bearer a\u{7f}", "Bearer ä"] {
            assert_eq!(of(&[bad]), Err(Refusal::BearerText), "{bad}");
        }
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN + 1));
        assert_eq!(of(&[&long]), Err(Refusal::BearerText));
    }

    #[test]
    fn a_join_token_is_read_back_and_nothing_like_it() {
        let text = format!(
            "flotilla-join.0101010101010101.{}",
            URL_SAFE_NO_PAD.encode([2; 32])
        );
        let Ok(Some(Bearer::Join(token))) = of(&[&format!("Bearer {text}")]) else {
            panic!("no join token");
        };
        assert_eq!((token.id(), token.expose()), ("0101010101010101", &*text));
        for bad in [
            "flotilla-join.",
            "flotilla-join.0101010101010101",
            "flotilla-join.0101010101010101.",
            "flotilla-join.0101010101010101.AA",
            &text.replace("0101", "01XX"),
            &format!("{text}x"),
        ] {
            assert_eq!(
                of(&[&format!("Bearer {bad}")]),
                Err(Refusal::NoJoinToken),
                "{bad}"
            );
        }
        assert_eq!(format!("{token:?}"), "JoinToken(0101010101010101)");
    }

    #[test]
    fn tokens_do_not_print() {
        assert_eq!(format!("{:?}", Token::new("abc")), "Token(..)");
    }
}
