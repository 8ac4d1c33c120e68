//! Tokens.

use envoy_api::json::to_json;
use expect_test::{Expect, expect};
use mesh_config::resource::normal::{JwksSource, MeshJwks};
use prost::{Message, Name};
use serde_json::Value;

use super::*;

pub(super) fn rules(rules: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: r, namespace: default}}\nspec: {{jwtRules: [{rules}]}}\n---\n"
    )
}

fn filter(guard: &Guard) -> Value {
    let layers = guard.http_layers();
    let Some(Layer::Tokens(tokens)) = layers.iter().find(|l| matches!(l, Layer::Tokens(_))) else {
        return Value::Null;
    };
    use envoy_api::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
    to_json(&JwtAuthentication::type_url(), &tokens.encode_to_vec()).unwrap()
}

fn show(value: &Value, pointer: &str, want: Expect) {
    let found = value
        .pointer(pointer)
        .map_or("-".to_owned(), Value::to_string);
    want.assert_eq(&found);
}

const KEYS: &str = "jwks: '{\"keys\":[]}'";

/// What is decided by claims is decided by those of tokens that are taken, and of them as the token filter leaves them behind.
#[test]
fn claims_are_those_of_tokens_that_are_taken() {
    let scoped = policy(
        "p",
        "rules: [{when: [{key: 'request.auth.claims[scope]', values: [write]}]}]",
    );
    let (taken, other) = (
        r#"GET / claims={"iss":"a.com","scope":"write"}"#,
        r#"GET / claims={"iss":"b.com","scope":"write"}"#,
    );
    check(&scoped, &[(taken, "403")]);
    let yaml = scoped + &rules(&format!("{{issuer: a.com, {KEYS}}}"));
    check(&yaml, &[(taken, "200"), (other, "401"), ("GET /", "403")]);
    let several = Request {
        claims: Some(serde_json::json!({"iss": "a.com", "scope": "read  write"})),
        ..request("GET /")
    };
    let layers = guard(&yaml).http_layers();
    assert_eq!(outcome(&decide(&layers, &several)), "200");
}

/// Case 44.
#[test]
fn no_token_or_a_valid_one_of_some_issuer() {
    let one = filter(&guard(&rules(&format!("{{issuer: a.com, {KEYS}}}"))));
    show(
        &one,
        "/rules/0/requires",
        expect![[
            r#"{"requiresAny":{"requirements":[{"providerName":"origins-0"},{"allowMissing":{}}]}}"#
        ]],
    );
    let two = filter(&guard(&rules(&format!(
        "{{issuer: b.com, {KEYS}}}, {{issuer: a.com, {KEYS}}}"
    ))));
    show(&two, "/providers/origins-0/issuer", expect![[r#""a.com""#]]);
    show(&two, "/providers/origins-1/issuer", expect![[r#""b.com""#]]);
    show(
        &two,
        "/rules/0/requires",
        expect![[
            r#"{"requiresAny":{"requirements":[{"providerName":"origins-0"},{"providerName":"origins-1"},{"requiresAll":{"requirements":[{"requiresAny":{"requirements":[{"providerName":"origins-0"},{"allowMissing":{}}]}},{"requiresAny":{"requirements":[{"providerName":"origins-1"},{"allowMissing":{}}]}}]}}]}}"#
        ]],
    );
    show(&two, "/rules/0/match", expect![[r#"{"prefix":"/"}"#]]);
    show(&two, "/bypassCorsPreflight", expect!["true"]);
}

/// Case 48, as far as the filter goes.
#[test]
fn every_field_of_a_rule() {
    let all = filter(&guard(&rules(&format!(
        "{{issuer: a, audiences: [x, y], {KEYS}, fromHeaders: [{{name: h, prefix: 'Bearer '}}], fromParams: [p], fromCookies: [c], outputPayloadToHeader: x-payload, outputClaimToHeaders: [{{header: x-g, claim: g}}], forwardOriginalToken: true, spaceDelimitedClaims: [roles, scope]}}"
    ))));
    show(
        &all,
        "/providers/origins-0",
        expect![[
            r#"{"issuer":"a","audiences":["x","y"],"localJwks":{"inlineString":"{\"keys\":[]}"},"forward":true,"fromHeaders":[{"name":"h","valuePrefix":"Bearer "}],"fromParams":["p"],"forwardPayloadHeader":"x-payload","payloadInMetadata":"payload","fromCookies":["c"],"claimToHeaders":[{"headerName":"x-g","claimName":"g"}],"normalizePayloadInMetadata":{"spaceDelimitedClaims":["permission","roles","scope"]}}"#
        ]],
    );
}

/// Case 46: nobody's key stands in for keys that cannot be had.
#[test]
fn without_keys_every_token_is_refused() {
    let uri = rules("{issuer: a, jwksUri: 'https://a.com/k'}, {issuer: b}");
    let mut world = World::new(&uri);
    let keys = |world: &World, index: usize| {
        let filter = filter(&guard_in(world));
        let at = format!("/providers/origins-{index}/localJwks/inlineString");
        filter
            .pointer(&at)
            .and_then(Value::as_str)
            .unwrap()
            .to_owned()
    };
    assert!(keys(&world, 0).contains("nobody") && keys(&world, 1).contains("nobody"));
    let wanted: Vec<_> = world.mesh.wanted_keys().into_iter().collect();
    let source = JwksSource::Uri("https://a.com/k".into());
    let issuer = JwksSource::Discovery("b".into());
    assert_eq!(wanted, [source.clone(), issuer.clone()]);
    for source in [source.clone(), issuer] {
        let keys = Some("{\"keys\": [1]}".into());
        world.fact(source.key(), MeshJwks { source, keys });
    }
    assert_eq!(
        (keys(&world, 0), keys(&world, 1)),
        ("{\"keys\": [1]}".into(), "{\"keys\": [1]}".into())
    );
    world.fact(source.key(), MeshJwks { source, keys: None });
    assert!(keys(&world, 0).contains("nobody"));
}

#[test]
fn tokens_are_read_before_policies_ask_for_them_and_after_authorizers() {
    let yaml = rules(&format!("{{issuer: a, {KEYS}}}"))
        + &policy("a", "rules: [{}]")
        + &policy("d", "action: DENY, rules: [{}]")
        + &policy("l", "action: AUDIT, rules: [{}]");
    let guard = guard(&yaml);
    let kinds: Vec<_> = guard
        .http_filters()
        .iter()
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "envoy.filters.http.jwt_authn",
            "envoy.filters.http.rbac",
            "envoy.filters.http.rbac",
            "envoy.filters.http.rbac"
        ]
    );
    assert_eq!(guard.network_filters().len(), 3);
    // Of rules without any, nothing is made.
    let (view, _) = World::new(&rules("")).inbound(&sidecar("default"));
    assert!(Guard::of(&view).is_none_or(|g| g.http_filters().is_empty()));
}
