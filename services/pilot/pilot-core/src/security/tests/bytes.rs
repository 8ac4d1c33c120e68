//! Connections whose bytes nobody looks into.

use mesh_config::resource::authorization_policy::AuthorizationPolicy;

use super::*;

#[track_caller]
fn connections(yaml: &str, want: &[(&str, &str)]) {
    let layers = guard(yaml).network_layers();
    for (text, want) in want {
        assert_eq!(outcome(&decide(&layers, &request(text))), *want, "{text}");
    }
}

/// Case 51.
#[test]
fn what_cannot_be_looked_at_refuses() {
    let deny = policy(
        "d",
        "action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]",
    );
    connections(&deny, &[("- -", "403")]);
    let allow = policy("a", "rules: [{to: [{operation: {paths: [/x]}}]}]");
    connections(&allow, &[("- -", "403")]);
    let layers = guard(&allow).network_layers();
    let [
        Layer::Rbac {
            rules: Some(rules), ..
        },
    ] = &layers[..]
    else {
        panic!("one filter")
    };
    assert!(rules.policies.is_empty());
}

#[test]
fn what_remains_of_a_rule_is_wider_if_it_refuses_and_gone_if_it_allows() {
    let mixed = |action: &str| {
        policy(
            "p",
            &format!(
                "action: {action}, rules: [{{from: [{{source: {{namespaces: [a], requestPrincipals: ['*']}}}}], to: [{{operation: {{ports: ['1'], methods: [GET]}}}}]}}]"
            ),
        )
    };
    connections(
        &mixed("DENY"),
        &[
            ("- - peer=td/ns/a/sa/b port=1", "403"),
            ("- - peer=td/ns/a/sa/b port=2", "200"),
            ("- - peer=td/ns/b/sa/b port=1", "200"),
        ],
    );
    connections(&mixed("ALLOW"), &[("- - peer=td/ns/a/sa/b port=1", "403")]);
    connections(
        &policy("p", "rules: [{to: [{operation: {ports: ['1']}}]}]"),
        &[("- - port=1", "200"), ("- - port=2", "403")],
    );
}

/// Case 52: values that came past the checks.
#[test]
fn values_that_mean_nothing_open_no_door() {
    let with = |spec: serde_json::Value| {
        let mut world = World::default();
        let spec: AuthorizationPolicy = serde_json::from_value(spec).unwrap();
        world.fact(
            mesh_types::Key::new(mesh_types::Kind::AuthorizationPolicy, "default", "p"),
            spec,
        );
        let guard = guard_in(&world);
        move |text: &str| outcome(&decide(&guard.http_layers(), &request(text)))
    };
    let networks = serde_json::json!({"ipBlocks": ["10.0.0.0/8", "bad"]});
    let allow = with(serde_json::json!({"rules": [{"from": [{"source": networks.clone()}]}]}));
    assert_eq!(allow("GET / source=10.0.0.1"), "403");
    let deny =
        with(serde_json::json!({"action": "DENY", "rules": [{"from": [{"source": networks}]}]}));
    assert_eq!(deny("GET / source=10.0.0.1"), "403");
    assert_eq!(deny("GET / source=11.0.0.1"), "200");
    let unknown = serde_json::json!({"when": [{"key": "request.nope", "values": ["a"]}], "to": [{"operation": {"methods": ["GET"]}}]});
    let allow = with(serde_json::json!({"rules": [unknown.clone()]}));
    assert_eq!(allow("GET /"), "403");
    let deny = with(serde_json::json!({"action": "DENY", "rules": [unknown]}));
    assert_eq!(deny("GET /"), "403");
    assert_eq!(deny("POST /"), "200");
    for nothing in [
        serde_json::json!({"from": []}),
        serde_json::json!({"from": [{}]}),
        serde_json::json!({"to": [{"operation": {}}]}),
        serde_json::json!({"to": [{"operation": {"ports": ["http"]}}]}),
        serde_json::json!({"to": [{"operation": {"paths": ["/a/{x}"]}}]}),
    ] {
        let allow = with(serde_json::json!({"rules": [nothing.clone()]}));
        assert_eq!(allow("GET /"), "403", "{nothing}");
        let deny = with(serde_json::json!({"action": "DENY", "rules": [nothing.clone()]}));
        assert_eq!(deny("GET /"), "403", "{nothing}");
    }
}
