//! Any bytes, as what callers of Citadel and the servers it asks may say: tokens, the claims of a token that is signed, key sets, token
//! reviews, lists of accounts. All of it is read or refused, and whoever is let in is a workload of our trust domain.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use citadel_core::names::NamedAccount;
use citadel_core::policy::impersonation::{self, TrustedAccounts};
use citadel_core::policy::jwks::Jwks;
use citadel_core::policy::jwt::{self, JwtRule};
use citadel_core::policy::kubernetes::{self, Review};
use citadel_core::policy::{Attestation, Bearer, Caller, Pod, Token, bearer};
use libfuzzer_sys::fuzz_target;
use mesh_types::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

const NOW: OffsetDateTime = time::macros::datetime!(2026-06-01 12:00 UTC);

struct World {
    key: EcdsaKeyPair,
    keys: Jwks,
    rule: JwtRule,
    audiences: Vec<String>,
    domain: TrustDomain,
    agent: Caller,
    trusted: TrustedAccounts,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = key.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let keys = format!(r#"{{"keys": [{{"kty": "EC", "crv": "P-256", "x": "{x}", "y": "{y}"}}]}}"#);
    let audiences = vec!["istio-ca".to_owned()];
    let rule = r#"{"issuer": "https://issuer"}"#;
    let identity = SpiffeId::parse("spiffe://cluster.local/ns/istio-system/sa/ztunnel");
    World {
        keys: Jwks::parse(keys.as_bytes()).expect("a key set"),
        key,
        rule: JwtRule::parse(rule, &audiences).expect("a rule"),
        audiences,
        domain: TrustDomain::default(),
        agent: Caller {
            identity: identity.expect("an identity"),
            attestation: Attestation::Kubernetes,
            requester: String::new(),
            node: None,
            pod: Some(Pod {
                name: "a".into(),
                uid: "b".into(),
            }),
            serial: None,
            token: None,
        },
        trusted: "istio-system/ztunnel".parse().expect("an account"),
    }
});

fn known(caller: &Caller) {
    let workload = caller.identity.workload().expect("a workload");
    assert_eq!(*workload.trust_domain(), WORLD.domain);
}

/// As a token, whole or the part between the dots.
fn token(data: &[u8]) {
    let world = &*WORLD;
    let header = [b"Bearer ", data].concat();
    if let Ok(Some(Bearer::Other(token))) = bearer([header.as_slice()]) {
        // Nobody but us can sign.
        jwt::authenticate(&token, &world.rule, &world.keys, &world.domain, NOW)
            .expect_err("a forged token");
    }
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#),
        URL_SAFE_NO_PAD.encode(data)
    );
    let signature = world.key.sign(&SystemRandom::new(), message.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature.expect("a signature"));
    let token = Token::new(format!("{message}.{signature}"));
    if let Ok(caller) = jwt::authenticate(&token, &world.rule, &world.keys, &world.domain, NOW) {
        known(&caller);
    }
}

fuzz_target!(|data: &[u8]| {
    let world = &*WORLD;
    token(data);
    let _ = Jwks::parse(data);
    if let Ok(review) = Review::parse(data)
        && let Ok(caller) = kubernetes::authenticate(&review, &world.audiences, &world.domain)
    {
        known(&caller);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = JwtRule::parse(text, &world.audiences);
    let _ = text.parse::<TrustedAccounts>();
    let _ = text.parse::<NamedAccount>();
    let domains = std::slice::from_ref(&world.domain);
    if let Ok(wanted) =
        impersonation::target(&world.agent, text, Some("c"), &world.trusted, domains)
    {
        assert_eq!(*wanted.trust_domain(), world.domain);
    }
});
