//! An issuer of JWTs.

use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An issuer with one key.
pub struct Issuer {
    key: EcdsaKeyPair,
    name: String,
}

/// Seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the program under test looks at the wall clock"
)]
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs().try_into().unwrap()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    pub fn new() -> Issuer {
        Issuer {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            name: "https://issuer.test".into(),
        }
    }

    /// Of this name, where its keys are found.
    pub fn named(name: &str) -> Issuer {
        Issuer {
            name: name.to_owned(),
            ..Issuer::new()
        }
    }

    pub fn rule(&self) -> String {
        json!({"issuer": self.name, "audiences": ["istio-ca"]}).to_string()
    }

    pub fn jwks(&self) -> String {
        let point = self.key.public_key().as_ref();
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": b64(&point[1..33]), "y": b64(&point[33..])}]})
            .to_string()
    }

    /// A good token of a service account.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.with(|claims| {
            claims["sub"] = json!(format!("system:serviceaccount:{namespace}:{account}"));
        })
    }

    /// A token of default/app, changed.
    pub fn with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = json!({
            "iss": self.name, "aud": ["istio-ca"], "exp": now() + 600, "nbf": now() - 5,
            "sub": "system:serviceaccount:default:app",
        });
        change(&mut claims);
        let header = json!({"alg": "ES256", "kid": "1"});
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        format!("{message}.{}", b64(signature.unwrap()))
    }
}
