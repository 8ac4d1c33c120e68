use std::sync::LazyLock;

use aws_lc_rs::rand;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use serde_json::{Value, json};

use super::super::jwks::{JwksError, MAX_JWKS};
use super::*;

const NOW: i64 = 1_800_000_000;

static EC: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn ec_jwk(kid: &str) -> Value {
    let point = EC.public_key().as_ref();
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..65])})
}

fn rsa_jwk(kid: &str) -> Value {
    let key = RSA.public_key();
    json!({
        "kty": "RSA", "kid": kid, "alg": "RS256",
        "n": b64(key.modulus().big_endian_without_leading_zero()),
        "e": b64(key.exponent().big_endian_without_leading_zero()),
    })
}

fn keys() -> Jwks {
    let document = json!({"keys": [ec_jwk("ec"), rsa_jwk("rsa")]});
    Jwks::parse(document.to_string().as_bytes()).unwrap()
}

fn rule() -> JwtRule {
    JwtRule::parse(
        r#"{"issuer": "https://issuer", "jwks_uri": "https://issuer/keys", "audiences": ["istio-ca"]}"#,
        &[],
    )
    .unwrap()
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer", "aud": ["istio-ca", "other"], "exp": NOW + 600, "nbf": NOW - 5, "iat": NOW - 5,
        "sub": "system:serviceaccount:default:app",
        "kubernetes.io": {"namespace": "default", "node": {"name": "n1"}},
    })
}

fn signed(header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let random = rand::SystemRandom::new();
    let signature = match header["alg"].as_str() {
        Some("ES256") => EC
            .sign(&random, message.as_bytes())
            .unwrap()
            .as_ref()
            .to_vec(),
        Some("RS256") => {
            let mut out = vec![0; RSA.public_modulus_len()];
            RSA.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut out)
                .unwrap();
            out
        }
        // Whatever a forger puts there: the public key as the secret of an HMAC.
        Some("HS256") => {
            let key =
                aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, EC.public_key().as_ref());
            aws_lc_rs::hmac::sign(&key, message.as_bytes())
                .as_ref()
                .to_vec()
        }
        _ => Vec::new(),
    };
    format!("{message}.{}", b64(signature))
}

fn ask(token: &str) -> Result<Caller, Refusal> {
    authenticate(
        &Token::new(token),
        &rule(),
        &keys(),
        &TrustDomain::default(),
        OffsetDateTime::from_unix_timestamp(NOW).unwrap(),
    )
}

fn with(change: impl FnOnce(&mut Value)) -> Result<Caller, Refusal> {
    let mut claims = claims();
    change(&mut claims);
    ask(&signed(&json!({"alg": "ES256", "kid": "ec"}), &claims))
}

#[test]
fn tokens_of_the_issuer_are_known() {
    for header in [
        json!({"alg": "ES256", "kid": "ec"}),
        json!({"alg": "RS256", "kid": "rsa"}),
        json!({"alg": "ES256"}),
    ] {
        let caller = ask(&signed(&header, &claims())).unwrap();
        assert_eq!(
            caller.identity.to_string(),
            "spiffe://cluster.local/ns/default/sa/app"
        );
        assert_eq!(caller.node.as_deref(), Some("n1"));
        assert_eq!(caller.attestation, Attestation::Jwt);
    }
    assert!(with(|c| c["aud"] = json!("istio-ca")).is_ok());
}

/// Case 10: subjects with too few and too many parts.
#[test]
fn subjects_that_are_no_service_account_are_refused() {
    for sub in [
        "system:serviceaccount",
        "system:serviceaccount:a:b:c",
        "system:serviceaccount:a",
        "admin",
        "",
    ] {
        assert_eq!(
            with(|c| c["sub"] = json!(sub)).unwrap_err(),
            Refusal::NoServiceAccount,
            "{sub}"
        );
    }
    let none = with(|c| {
        c.as_object_mut().unwrap().remove("sub");
    });
    assert_eq!(none.unwrap_err(), Refusal::NoServiceAccount);
}

#[test]
fn claims_are_checked() {
    let refused = |name: &'static str, value: Value| with(|c| c[name] = value).unwrap_err();
    assert_eq!(refused("iss", json!("https://evil")), Refusal::Issuer);
    assert_eq!(refused("iss", Value::Null), Refusal::Issuer);
    assert_eq!(refused("aud", json!("kubernetes")), Refusal::Audience);
    assert_eq!(refused("aud", json!([])), Refusal::Audience);
    assert_eq!(refused("aud", Value::Null), Refusal::Audience);
    assert_eq!(refused("aud", json!(7)), Refusal::NoJwt);
    assert_eq!(refused("exp", json!(NOW)), Refusal::Expired);
    assert_eq!(refused("exp", json!(-1)), Refusal::Expired);
    assert_eq!(refused("exp", Value::Null), Refusal::NoExpiry);
    assert_eq!(refused("exp", json!("soon")), Refusal::NoJwt);
    assert_eq!(refused("nbf", json!(NOW + 61)), Refusal::NotYet);
    assert!(with(|c| c["nbf"] = json!(NOW + 59)).is_ok());
}

/// `none`, HMAC with a public key, and algorithms of another kind of key are no signatures.
#[test]
fn only_signatures_of_published_keys_count() {
    let header = |header: Value| ask(&signed(&header, &claims())).unwrap_err();
    assert_eq!(header(json!({"alg": "none"})), Refusal::Algorithm);
    assert_eq!(header(json!({"alg": "None"})), Refusal::Algorithm);
    assert_eq!(
        header(json!({"alg": "HS256", "kid": "ec"})),
        Refusal::Algorithm
    );
    assert_eq!(header(json!({"alg": "HS256"})), Refusal::Algorithm);
    assert_eq!(
        header(json!({"alg": "ES256", "kid": "rsa"})),
        Refusal::NoKey
    );
    assert_eq!(header(json!({"alg": "ES256", "kid": "x"})), Refusal::NoKey);
    assert_eq!(header(json!({"alg": "ES384"})), Refusal::NoKey);
    // Its key says that it is for RS256 alone.
    assert_eq!(
        header(json!({"alg": "PS256", "kid": "rsa"})),
        Refusal::NoKey
    );
    assert_eq!(
        header(json!({"alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false})),
        Refusal::Critical
    );
    let good = signed(&json!({"alg": "ES256", "kid": "ec"}), &claims());
    let other = signed(&json!({"alg": "ES256", "kid": "ec"}), &json!({}));
    let (_, signature) = other.rsplit_once('.').unwrap();
    let (message, _) = good.rsplit_once('.').unwrap();
    assert_eq!(
        ask(&format!("{message}.{signature}")).unwrap_err(),
        Refusal::Signature
    );
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        &format!("{good}.x"),
        message,
        &format!("{message}."),
        &format!("{message}.!"),
    ] {
        assert!(ask(bad).is_err(), "{bad}");
    }
}

#[test]
fn malformed_key_sets_are_refused() {
    let parse = |text: &str| Jwks::parse(text.as_bytes()).unwrap_err();
    assert!(matches!(parse("<html>"), JwksError::Json { .. }));
    assert_eq!(parse(r#"{"keys": 3}"#), JwksError::NoKeys);
    assert_eq!(parse("[]"), JwksError::NoKeys);
    assert_eq!(parse(r#"{"keys": []}"#), JwksError::NoneUsable(0));
    assert_eq!(
        parse(&" ".repeat(MAX_JWKS + 1)),
        JwksError::TooLong(MAX_JWKS + 1)
    );
    let many: Vec<Value> = (0..101).map(|n| ec_jwk(&n.to_string())).collect();
    assert_eq!(
        parse(&json!({ "keys": many }).to_string()),
        JwksError::TooMany(101)
    );
    let unusable = json!({"keys": [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "hmac"},
        {"kty": "RSA", "n": b64([0x80; 128]), "e": "AQAB"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "AA"},
        {"kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB"},
        {"kty": 3}, 7, null,
    ]});
    assert_eq!(parse(&unusable.to_string()), JwksError::NoneUsable(8));
    let mixed = json!({"keys": [unusable["keys"][0], ec_jwk("ec")]}).to_string();
    let keys = Jwks::parse(mixed.as_bytes()).unwrap();
    assert_eq!((keys.len(), keys.skipped()), (1, 1));
}

#[test]
fn a_rule_is_read_as_istio_writes_it() {
    assert_eq!(rule().audiences, ["istio-ca"]);
    let short = JwtRule::parse(r#"{"issuer": "https://i"}"#, &["istio-ca".into()]).unwrap();
    assert_eq!(short.audiences, ["istio-ca"]);
    assert_eq!(short.jwks_uri, None);
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"issuer": "", "audiences": []}"#,
        r#"{"issuer": "i", "fromHeaders": []}"#,
    ] {
        assert!(JwtRule::parse(bad, &[]).is_err(), "{bad}");
    }
}

proptest::proptest! {
    /// Whatever comes, it is refused, not a crash.
    #[test]
    fn no_text_is_a_token(text in "[ -~]{0,200}") {
        proptest::prop_assert!(ask(&text).is_err());
    }
}
