//! Which policies are for whom, and what a change of one touches.

use expect_test::{Expect, expect};
use mesh_config::resource::normal::MeshTrust;
use mesh_config::{Meta, Object};
use mesh_types::{Key, Labels};

use crate::testing::{World, proxy};
use crate::{Change, Delta, View};

/// Names of the policies of a view: AuthorizationPolicies, RequestAuthentications, authorizers.
fn show(view: &View) -> String {
    let policies = &view.policies;
    let rules: Vec<_> = policies
        .authorization
        .iter()
        .map(|p| p.key.path())
        .collect();
    let tokens: Vec<_> = policies.tokens.iter().map(|p| p.key.path()).collect();
    format!(
        "{} | {} | {:?}",
        rules.join(" "),
        tokens.join(" "),
        policies.authorizers
    )
}

#[track_caller]
fn check(world: &World, kind: &str, namespace: &str, app: &str, want: Expect) {
    let key = world.mesh.view_key(&proxy(kind, namespace, app));
    want.assert_eq(&show(&world.mesh.view(&key)));
}

const POLICIES: &str = "AuthorizationPolicy n/late created=9
---
AuthorizationPolicy n/early created=1
---
AuthorizationPolicy n/p
selector: {matchLabels: {app: p}}
---
AuthorizationPolicy istio-system/all created=20
---
AuthorizationPolicy istio-system/q
selector: {matchLabels: {app: q}}
---
AuthorizationPolicy n/attached
targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}
---
RequestAuthentication istio-system/t
---
RequestAuthentication m/t
";

#[test]
fn those_of_the_root_namespace_come_first_then_the_oldest() {
    let world = World::new(POLICIES);
    check(
        &world,
        "sidecar",
        "n",
        "p",
        expect!["istio-system/all n/early n/p n/late | istio-system/t | {}"],
    );
    check(
        &world,
        "sidecar",
        "m",
        "q",
        expect!["istio-system/q istio-system/all | istio-system/t m/t | {}"],
    );
    check(
        &world,
        "router",
        "n",
        "x",
        expect!["istio-system/all n/early n/late | istio-system/t | {}"],
    );
    // Not twice for those who live there.
    check(
        &world,
        "sidecar",
        "istio-system",
        "q",
        expect!["istio-system/q istio-system/all | istio-system/t | {}"],
    );
}

#[test]
fn what_is_attached_to_a_gateway_is_for_its_pods_alone() {
    let world = World::new(POLICIES);
    let mut pod = proxy("router", "n", "x");
    pod.labels
        .insert("gateway.networking.k8s.io/gateway-name", "g");
    let view = world.mesh.view(&world.mesh.view_key(&pod));
    expect!["istio-system/all n/early n/attached n/late | istio-system/t | {}"]
        .assert_eq(&show(&view));
}

#[test]
fn a_policy_touches_those_who_see_it() {
    let mut world = World::new("svc a.n http:80");
    let views = [("n", "p"), ("n", "q"), ("m", "p")];
    let views = views.map(|(namespace, app)| {
        let key = world.mesh.view_key(&proxy("sidecar", namespace, app));
        let labelled = crate::testing::labelled(&key, app);
        world.mesh.view(&labelled)
    });
    let touched = |world: &World, delta: &Delta| {
        views
            .each_ref()
            .map(|view| world.mesh.touch(view, delta).policies)
    };
    let delta = world.apply("AuthorizationPolicy n/a\nselector: {matchLabels: {app: p}}");
    assert_eq!(touched(&world, &delta), [true, false, false]);
    assert!(delta.selectors, "who is in which class may be different");
    let delta = world.apply("RequestAuthentication istio-system/a");
    assert_eq!(touched(&world, &delta), [true, true, true]);
    let delta = world.apply("AuthorizationPolicy elsewhere/a");
    assert_eq!(touched(&world, &delta), [false, false, false]);
    let meta = Meta {
        key: MeshTrust::key(),
        created_us: 0,
        labels: Labels::default(),
        annotations: Labels::default(),
    };
    let denied = MeshTrust {
        denied: vec!["spiffe://td/ns/a/sa/b".into()],
    };
    let object = Object::new(meta, denied.into());
    let delta = world.change(&[Change::Upsert(object.into())]);
    assert_eq!(touched(&world, &delta), [true, true, true]);
}

#[test]
fn an_authorizer_is_where_its_service_is_in_scope() {
    let mut world = World::new("svc ask.com.n http:80 se
---
MeshConfig /mesh
\"extensionProviders\": [{\"name\": \"x\", \"envoyExtAuthzGrpc\": {\"service\": \"n/ask.com\", \"port\": 80}}, {\"name\": \"y\", \"envoyExtAuthzHttp\": {\"service\": \"ask.com\", \"port\": 81}}]
---
AuthorizationPolicy n/x
action: CUSTOM
provider: {name: x}
rules: [{}]
---
AuthorizationPolicy n/y
action: CUSTOM
provider: {name: y}
rules: [{}]");
    let view = world.sidecar("n");
    expect![[r#"n/x n/y |  | {"x": (Hostname("ask.com"), 80)}"#]].assert_eq(&show(&view));
    let delta = world.delete(mesh_types::Kind::MeshService, "n", "ask.com");
    let touch = world.mesh.touch(&view, &delta);
    assert!(touch.policies);
    expect!["n/x n/y |  | {}"].assert_eq(&show(&world.mesh.update_view(&view, &touch)));
    let key = Key::new(mesh_types::Kind::AuthorizationPolicy, "n", "x");
    assert!(world.mesh.object(&key).is_some());
}

/// Case 53, the warning.
#[test]
fn whoever_is_not_there_is_told() {
    let world = World::new("svc ask.com.n http:80 se
---
MeshConfig /mesh
\"trustDomain\": \"td\", \"trustDomainAliases\": [\"old-*\"], \"extensionProviders\": [{\"name\": \"x\", \"envoyExtAuthzGrpc\": {\"service\": \"n/ask.com\", \"port\": 81}}, {\"name\": \"z\", \"envoyExtAuthzGrpc\": {\"service\": \"ask.com\", \"port\": 80}}]
---
AuthorizationPolicy n/x
action: CUSTOM
provider: {name: x}
rules: [{}]
---
AuthorizationPolicy n/y
action: CUSTOM
provider: {name: y}
rules: [{}]
---
AuthorizationPolicy n/z
action: CUSTOM
provider: {name: z}
rules: [{}]
---
AuthorizationPolicy n/p
rules: [{from: [{source: {principals: [td/ns/a/sa/b, third/ns/a/sa/b, 'old-1/ns/a/sa/b', '*/ns/a/sa/b']}}], when: [{key: source.principal, notValues: [cluster.local/ns/a/sa/b, 'third*/ns/a/sa/b']}]}]");
    let lines = world.mesh.findings().into_iter().map(|f| {
        let key = f.key.map(|key| key.path()).unwrap_or_default();
        format!("{key} {}: {} [{}]\n", f.path, f.message, f.code)
    });
    expect![[r#"
        n/p spec.rules[0].from[0].source.principals[1]: third is none of the mesh's trust domains [risky]
        n/p spec.rules[0].when[0].notValues[1]: third* is none of the mesh's trust domains [risky]
        n/x spec.provider.name: its service n/ask.com is not there, or has no port 81: what the policy is for is refused [missing-reference]
        n/y spec.provider.name: "y" is none of the mesh's extensionProviders that can be asked: what the policy is for is refused [missing-reference]
    "#]].assert_eq(&lines.collect::<String>());
}
