//! Requests.

use mesh_config::resource::normal::MeshTrust;

use super::*;

/// Case 49.
#[test]
fn without_rules_nothing_is_allowed_and_nothing_refused() {
    let nothing = guard(&policy("p", ""));
    let [
        Layer::Rbac {
            rules: Some(rules), ..
        },
    ] = &nothing.http_layers()[..]
    else {
        panic!("one filter")
    };
    let names: Vec<_> = rules.policies.keys().collect();
    assert_eq!(names, ["ns[default]-policy[p]-rule[0]"]);
    check(&policy("p", ""), &[("GET /", "403")]);
    check(
        &policy("p", "action: DENY, rules: [{}]"),
        &[("GET /", "403")],
    );
    assert!(Guard::of(&World::new("").inbound(&sidecar("default")).0).is_none());
}

/// Case 50.
#[test]
fn a_refusal_wins_and_whatever_is_not_allowed_is_refused() {
    let both = policy("a", "rules: [{to: [{operation: {paths: [/a*]}}]}]")
        + &policy(
            "d",
            "action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]",
        );
    check(
        &both,
        &[("GET /ab", "200"), ("POST /ab", "403"), ("GET /b", "403")],
    );
}

/// Case 54.
#[test]
fn identities_are_compared_as_a_whole() {
    let from = |source: &str| {
        policy(
            "p",
            &format!("rules: [{{from: [{{source: {{{source}}}}}]}}]"),
        )
    };
    check(
        &from("namespaces: ['a.b*']"),
        &[
            ("GET / peer=td/ns/a.b/sa/x", "200"),
            ("GET / peer=td/ns/a.bc/sa/x", "200"),
            ("GET / peer=td/ns/aXb/sa/x", "403"),
            ("GET /", "403"),
        ],
    );
    check(
        &from("serviceAccounts: [x, other/y]"),
        &[
            ("GET / peer=td/ns/default/sa/x", "200"),
            ("GET / peer=td/ns/default/sa/x-evil", "403"),
            ("GET / peer=td/ns/default-evil/sa/x", "403"),
            ("GET / peer=td/ns/other/sa/x", "403"),
            ("GET / peer=td/ns/other/sa/y", "200"),
        ],
    );
    check(
        &from("trustDomains: [td, 'a*', '*z']"),
        &[
            ("GET / peer=td/ns/a/sa/b", "200"),
            ("GET / peer=td-evil/ns/a/sa/b", "403"),
            ("GET / peer=abc/ns/a/sa/b", "200"),
            ("GET / peer=xyz/ns/a/sa/b", "200"),
            ("GET / peer=x/z/ns/a/sa/b", "403"),
        ],
    );
    check(
        &from("principals: ['*/ns/a/sa/b', 'td/ns/c*']"),
        &[
            ("GET / peer=any/ns/a/sa/b", "200"),
            ("GET / peer=any/ns/a/sa/bc", "403"),
            ("GET / peer=td/ns/cd/sa/e", "200"),
            ("GET / peer=tdd/ns/c/sa/e", "403"),
        ],
    );
    check(
        &from("principals: ['*']"),
        &[("GET / peer=a/b", "200"), ("GET /", "403")],
    );
    check(
        &from("notPrincipals: ['*']"),
        &[("GET / peer=a/b", "403"), ("GET /", "200")],
    );
}

/// Case 53.
#[test]
fn an_identity_of_the_mesh_is_meant_in_every_trust_domain_of_it() {
    let mesh = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio}\nspec: {trustDomain: new-td, trustDomainAliases: [old-td]}\n---\n";
    let policies = policy(
        "p",
        "rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/b]}}]}, {when: [{key: source.trustDomain, values: [old-td]}], from: [{source: {namespaces: [c]}}]}]",
    );
    check(
        &format!("{mesh}{policies}"),
        &[
            ("GET / peer=new-td/ns/a/sa/b", "200"),
            ("GET / peer=old-td/ns/a/sa/b", "200"),
            ("GET / peer=cluster.local/ns/a/sa/b", "403"),
            ("GET / peer=new-td/ns/c/sa/x", "200"),
            ("GET / peer=third/ns/c/sa/x", "403"),
        ],
    );
}

/// Case 55.
#[test]
fn who_a_token_is_of() {
    // Tokens of every issuer are taken.
    let check = |yaml: &str, want: &[(&str, &str)]| {
        check(
            &(yaml.to_owned() + &tokens::rules("{jwksUri: 'https://keys.example'}")),
            want,
        );
    };
    let from = |values: &str| {
        policy(
            "p",
            &format!("rules: [{{from: [{{source: {{requestPrincipals: [{values}]}}}}]}}]"),
        )
    };
    let token =
        |iss: &str, sub: &str| format!("GET / claims={{\"iss\":\"{iss}\",\"sub\":\"{sub}\"}}");
    let (a, b) = (
        token("https://iss.example", "x"),
        token("https://iss.example", ""),
    );
    let other = token("https://iss.example.evil", "x");
    check(
        &from("'https://iss.example/*'"),
        &[(&a, "200"), (&b, "403"), (&other, "403")],
    );
    check(&from("'*'"), &[(&a, "200"), ("GET /", "403")]);
    check(&from("'*/x'"), &[(&a, "200"), (&token("i", "y"), "403")]);
    check(&from("'*x'"), &[(&a, "200"), (&token("i", "yx"), "200")]);
    check(
        &from("'https*'"),
        &[
            (&token("https:", "x"), "200"),
            (&token("https", "x"), "200"),
        ],
    );
    check(
        &from("a/b"),
        &[(&token("a", "b"), "200"), (&token("a", "bc"), "403")],
    );
    check(
        &policy(
            "p",
            "rules: [{when: [{key: 'request.auth.claims[groups]', values: [g*]}, {key: request.auth.audiences, notValues: [bad]}]}]",
        ),
        &[
            (r#"GET / claims={"groups":["x","gg"],"aud":"good"}"#, "200"),
            (r#"GET / claims={"groups":"g","aud":["bad"]}"#, "403"),
            (r#"GET / claims={"groups":["x"]}"#, "403"),
            ("GET /", "403"),
        ],
    );
    check(
        &policy(
            "p",
            "rules: [{when: [{key: 'request.auth.claims[a][b]', values: [c]}]}]",
        ),
        &[
            (r#"GET / claims={"a":{"b":"c"}}"#, "200"),
            (r#"GET / claims={"a":"c"}"#, "403"),
        ],
    );
}

/// Case 56.
#[test]
fn headers_hosts_and_methods() {
    check(
        &policy(
            "p",
            "rules: [{when: [{key: 'request.headers[X-User]', values: ['*']}]}, {to: [{operation: {hosts: [EXAMPLE.com]}}]}, {to: [{operation: {methods: [get]}}]}, {when: [{key: 'request.headers[x-role]', notValues: [a, 'b*']}], to: [{operation: {paths: [/r]}}]}]",
        ),
        &[
            ("GET / x-user=a", "200"),
            ("GET /", "403"),
            ("GET / host=example.COM", "200"),
            ("GET / host=example.com.evil", "403"),
            ("get /", "200"),
            ("GET /r", "200"),
            ("GET /r x-role=bc", "403"),
        ],
    );
}

/// Case 57.
#[test]
fn templates_of_paths() {
    check(
        &policy(
            "p",
            "rules: [{to: [{operation: {paths: ['/a/{*}/b', '/c/{**}']}}]}]",
        ),
        &[
            ("GET /a/x/b", "200"),
            ("GET /a/x/y/b", "403"),
            ("GET /a/x/b?q=/y", "200"),
            ("GET /c/x", "200"),
            ("GET /c/x/y", "200"),
            ("GET /c/", "200"),
            ("GET /c", "403"),
            ("GET /c//x", "200"),
            ("GET /a//b", "403"),
            ("GET /a/[x]/b", "403"),
            ("GET /c/x\"y", "403"),
            ("GET /d/x", "403"),
        ],
    );
}

#[test]
fn places_and_names_on_the_way() {
    check(
        &policy(
            "p",
            "rules: [{from: [{source: {ipBlocks: [10.1.0.0/16, '192.168.0.7'], notRemoteIpBlocks: [1.2.3.4]}}]}, {when: [{key: connection.sni, values: ['*.a.com']}, {key: destination.ip, values: [10.0.0.0/8]}]}, {to: [{operation: {ports: ['9000'], notPaths: [/x]}}]}]",
        ),
        &[
            ("GET / source=10.1.2.3", "200"),
            ("GET / source=10.1.2.3 remote=1.2.3.4", "403"),
            ("GET / source=10.2.0.0", "403"),
            ("GET / source=192.168.0.7", "200"),
            ("GET / source=192.168.0.8", "403"),
            ("GET / sni=b.a.com", "200"),
            ("GET / port=9000", "200"),
            ("GET /x port=9000", "403"),
        ],
    );
}

/// Case 61: a policy that is only tried decides nothing and says what it would have.
#[test]
fn dry_runs_decide_nothing() {
    let tried = |action: &str, rules: &str| {
        policy("t", &format!("action: {action}, rules: {rules}")).replace(
            "name: t,",
            "name: t, annotations: {istio.io/dry-run: 'true'},",
        )
    };
    let steps = |yaml: &str| decide(&guard(yaml).http_layers(), &request("GET /"));
    let name = "ns[default]-policy[t]-rule[0]".to_owned();
    assert_eq!(
        steps(&tried("DENY", "[{}]")),
        [Step::WouldRefuse(Some(name.clone()))]
    );
    assert_eq!(steps(&tried("ALLOW", "[]")), [Step::WouldRefuse(None)]);
    assert_eq!(
        steps(&tried("ALLOW", "[{}]")),
        [Step::WouldAllow(name.clone())]
    );
    let allowed =
        tried("ALLOW", "[{to: [{operation: {paths: [/x]}}]}]") + &policy("a", "rules: [{}]");
    assert_eq!(
        steps(&allowed),
        [
            Step::WouldRefuse(None),
            Step::Allowed("ns[default]-policy[a]-rule[0]".into())
        ]
    );
}

/// Case 61, an annotation that came past the checks: the policy is in force.
#[test]
fn a_dry_run_that_is_neither_yes_nor_no_is_none() {
    let mut world = World::new(&policy("d", "action: DENY, rules: [{}]"));
    let mut object = world.mesh.objects().next().unwrap().as_ref().clone();
    object.meta.annotations.insert("istio.io/dry-run", "maybe");
    world.fact_object(mesh_config::Object::new(object.meta, object.body));
    let steps = decide(&guard_in(&world).http_layers(), &request("GET /"));
    assert_eq!(outcome(&steps), "403");
}

#[test]
fn audits_mark_and_decide_nothing() {
    let yaml = policy(
        "l",
        "action: AUDIT, rules: [{to: [{operation: {methods: [GET]}}]}]",
    );
    let steps = decide(&guard(&yaml).http_layers(), &request("GET /"));
    assert_eq!(
        steps,
        [Step::Audited("ns[default]-policy[l]-rule[0]".into())]
    );
}

#[test]
fn identities_that_were_taken_back_are_refused_before_anything_else() {
    let mut world = World::new(&policy("a", "rules: [{}]"));
    let denied = ["spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/a"];
    world.fact(
        MeshTrust::key(),
        MeshTrust {
            denied: denied.into_iter().map(Into::into).collect(),
        },
    );
    let guard = guard_in(&world);
    for layers in [guard.http_layers(), guard.network_layers()] {
        let of = |text: &str| outcome(&decide(&layers, &request(text)));
        assert_eq!(of("GET / peer=td/ns/a/sa/b"), "403");
        assert_eq!(of("GET / peer=td/ns/a/sa/bc"), "200");
        assert_eq!(of("GET /"), "200");
    }
}
