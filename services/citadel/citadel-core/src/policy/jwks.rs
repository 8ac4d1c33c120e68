//! Published keys of a token issuer (RFC 7517), read once and kept ready for use.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Longest document that is read, in bytes.
pub const MAX_JWKS: usize = 1 << 20;

/// Most keys of one document.
pub const MAX_KEYS: usize = 100;

/// Algorithms a token may be signed with. HMAC and `none` are not among them: whoever may verify those may sign them.
const ALGORITHMS: [(&str, Algorithm, Family); 9] = [
    ("RS256", Algorithm::RS256, Family::Rsa),
    ("RS384", Algorithm::RS384, Family::Rsa),
    ("RS512", Algorithm::RS512, Family::Rsa),
    ("PS256", Algorithm::PS256, Family::Rsa),
    ("PS384", Algorithm::PS384, Family::Rsa),
    ("PS512", Algorithm::PS512, Family::Rsa),
    ("ES256", Algorithm::ES256, Family::P256),
    ("ES384", Algorithm::ES384, Family::P384),
    ("EdDSA", Algorithm::EdDSA, Family::Ed25519),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A key set, ready to verify with.
#[derive(Debug, Clone)]
pub struct Jwks {
    keys: Vec<Key>,
    skipped: usize,
}

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    family: Family,
    /// The only algorithm it is for, if the document says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// Why a document is no key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Above [`MAX_JWKS`].
    #[error("the key set has {0} bytes, at most {MAX_JWKS} are read")]
    TooLong(usize),
    /// Not JSON.
    #[error("the key set is no JSON (line {line}, column {column})")]
    Json {
        /// 1, 2, 3...
        line: usize,
        /// 1, 2, 3...
        column: usize,
    },
    /// No `keys`, or something else than a list.
    #[error("the key set has no list \"keys\"")]
    NoKeys,
    /// Above [`MAX_KEYS`].
    #[error("the key set has {0} keys, at most {MAX_KEYS} are read")]
    TooMany(usize),
    /// None can verify a token.
    #[error(
        "none of the {0} keys of the key set can be used: want RSA (2048 bits at least), EC P-256 or P-384, or Ed25519, for signatures"
    )]
    NoneUsable(usize),
}

impl Jwks {
    /// Reads a key set. Keys of other kinds, or for other uses, are left out: an issuer may publish those too.
    ///
    /// # Errors
    /// See [`JwksError`].
    pub fn parse(document: &[u8]) -> Result<Jwks, JwksError> {
        if document.len() > MAX_JWKS {
            return Err(JwksError::TooLong(document.len()));
        }
        let value: Value = serde_json::from_slice(document).map_err(|error| JwksError::Json {
            line: error.line(),
            column: error.column(),
        })?;
        let Some(Value::Array(list)) = value.get("keys") else {
            return Err(JwksError::NoKeys);
        };
        if list.len() > MAX_KEYS {
            return Err(JwksError::TooMany(list.len()));
        }
        let keys: Vec<Key> = list.iter().filter_map(read).collect();
        if keys.is_empty() {
            return Err(JwksError::NoneUsable(list.len()));
        }
        Ok(Jwks {
            skipped: list.len() - keys.len(),
            keys,
        })
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set without usable keys is not made.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys were left out.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether one of the keys made `signature` (base64url) over `message`. With a `kid` only keys of that name are asked, and those
    /// without a name.
    pub(super) fn verify(
        &self,
        algorithm: &str,
        kid: Option<&str>,
        message: &[u8],
        signature: &str,
    ) -> Verified {
        let known = ALGORITHMS.iter().find(|(name, ..)| *name == algorithm);
        let Some(&(_, algorithm, family)) = known else {
            return Verified::Algorithm;
        };
        let mut asked = false;
        for key in &self.keys {
            let named = match (kid, &key.id) {
                (Some(wanted), Some(id)) => wanted == id,
                (None, _) | (_, None) => true,
            };
            let fits = key.family == family && key.algorithm.is_none_or(|only| only == algorithm);
            if !named || !fits {
                continue;
            }
            asked = true;
            if jsonwebtoken::crypto::verify(signature, message, &key.key, algorithm)
                .unwrap_or(false)
            {
                return Verified::Yes;
            }
        }
        if asked { Verified::No } else { Verified::NoKey }
    }
}

/// What verifying says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verified {
    /// One of the keys signed it.
    Yes,
    /// None of the keys did.
    No,
    /// No key of that name and kind.
    NoKey,
    /// The algorithm is not allowed.
    Algorithm,
}

fn read(value: &Value) -> Option<Key> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    if let Some(Value::Array(operations)) = value.get("key_ops")
        && !operations.iter().any(|one| one == "verify")
    {
        return None;
    }
    let (family, key) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (
            Family::Rsa,
            DecodingKey::from_rsa_components(long_modulus(text("n")?)?, text("e")?).ok()?,
        ),
        ("EC", Some(curve)) => {
            let family = match curve {
                "P-256" => Family::P256,
                "P-384" => Family::P384,
                _ => return None,
            };
            let key = DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?;
            (family, key)
        }
        ("OKP", Some("Ed25519")) => (
            Family::Ed25519,
            DecodingKey::from_ed_components(text("x")?).ok()?,
        ),
        _ => return None,
    };
    let algorithm = match text("alg") {
        None => None,
        Some(name) => {
            let known = ALGORITHMS.iter().find(|(known, ..)| *known == name);
            let &(_, algorithm, of) = known?;
            if of != family {
                return None;
            }
            Some(algorithm)
        }
    };
    Some(Key {
        id: text("kid").map(str::to_owned),
        family,
        algorithm,
        key,
    })
}

/// The modulus, if it has 2048 bits at least: 256 bytes are 342 characters of base64.
fn long_modulus(n: &str) -> Option<&str> {
    (n.len() >= 342).then_some(n)
}
