//! Who else is asked.

use mesh_model::{Mesh, PolicySettings};

use super::*;

const SERVICE: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authz, namespace: default}
spec: {hosts: [authz.example.com], ports: [{number: 9000, name: grpc, protocol: GRPC}], resolution: STATIC, endpoints: [{address: 10.9.9.9}]}
---
";

fn mesh(providers: &str) -> String {
    format!(
        "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {{name: istio}}\nspec: {{extensionProviders: [{providers}]}}\n---\n{SERVICE}"
    )
}

fn grpc(name: &str) -> String {
    format!("{{name: {name}, envoyExtAuthzGrpc: {{service: authz.example.com, port: 9000}}}}")
}

fn ask(name: &str, path: &str) -> String {
    policy(
        &format!("c-{name}"),
        &format!(
            "action: CUSTOM, provider: {{name: {name}}}, rules: [{{to: [{{operation: {{paths: [{path}]}}}}]}}]"
        ),
    )
}

#[test]
fn what_is_for_an_authorizer_is_asked_and_the_rest_is_not() {
    let yaml = mesh(&grpc("a")) + &ask("a", "/a*");
    check(&yaml, &[("GET /ab", "ask a"), ("GET /b", "200")]);
    let denied = yaml
        + &policy(
            "d",
            "action: DENY, rules: [{to: [{operation: {methods: [POST]}}]}]",
        );
    check(&denied, &[("POST /ab", "403"), ("GET /ab", "ask a")]);
}

/// Case 59.
#[test]
fn where_nobody_can_be_asked_what_is_for_them_is_refused() {
    let refuses = |yaml: String| check(&yaml, &[("GET /ab", "403"), ("GET /b", "200")]);
    refuses(mesh("") + &ask("a", "/a*"));
    refuses(mesh(&grpc("a")).replace("port: 9000}", "port: 9001}") + &ask("a", "/a*"));
    refuses(
        mesh(&grpc("a").replace("authz.example.com", "other/authz.example.com")) + &ask("a", "/a*"),
    );
    let two = mesh(&format!("{}, {}", grpc("a"), grpc("b"))) + &ask("a", "/a*") + &ask("b", "/c");
    check(
        &two,
        &[("GET /ab", "403"), ("GET /c", "403"), ("GET /b", "200")],
    );
    let layers = guard(&two).http_layers();
    assert_eq!(
        decide(&layers, &request("GET /c")),
        [Step::Refused(Some(
            "istio-ext-authz-b-ns[default]-policy[c-b]-rule[0]-deny-due-to-bad-CUSTOM-action"
                .into()
        ))]
    );
}

/// Case 60.
#[test]
fn only_the_authorizer_that_a_policy_names_is_asked() {
    let yaml =
        mesh(&format!("{}, {}", grpc("a"), grpc("a-b"))) + &ask("a", "/x") + &ask("a-b", "/y");
    let mut world = World::default();
    world.mesh = Mesh::default().with_policies(PolicySettings {
        several_authorizers: true,
    });
    world.apply(&yaml);
    let layers = guard_in(&world).http_layers();
    let of = |text: &str| decide(&layers, &request(text));
    assert_eq!(of("GET /x"), [Step::Asked("a".into())]);
    assert_eq!(of("GET /y"), [Step::Asked("a-b".into())]);
    assert_eq!(of("GET /z"), []);
}

#[test]
fn over_http_nobody_is_asked_about_bytes() {
    let http = "{name: a, envoyExtAuthzHttp: {service: authz.example.com, port: 9000}}";
    let yaml = mesh(http) + &ask("a", "/x");
    assert_eq!(guard(&yaml).network_layers().len(), 0);
    let yaml = mesh(&grpc("a")) + &ask("a", "/x");
    assert_eq!(
        outcome(&decide(&guard(&yaml).network_layers(), &request("- -"))),
        "ask a"
    );
}

/// The check of the object refuses it; a policy that is only tried asks nobody.
#[test]
fn a_dry_run_asks_nobody() {
    let mut world = World::new(&(mesh(&grpc("a")) + &ask("a", "/x")));
    let key = mesh_types::Key::new(mesh_types::Kind::AuthorizationPolicy, "default", "c-a");
    let mut object = world.mesh.object(&key).unwrap().as_ref().clone();
    object.meta.annotations.insert("istio.io/dry-run", "true");
    world.fact_object(mesh_config::Object::new(object.meta, object.body));
    assert_eq!(guard_in(&world).http_layers().len(), 0);
}

/// What is read from the filters is what they were made from.
#[test]
fn a_chain_is_read_as_it_was_written() {
    use envoy_api::envoy::config::listener::v3::filter::ConfigType as Network;
    use envoy_api::envoy::extensions::filters::network::http_connection_manager::v3::http_filter::ConfigType as Http;
    let yaml = mesh(&grpc("a"))
        + &ask("a", "/x")
        + &policy("d", "action: DENY, rules: [{}]")
        + "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: r, namespace: default}\nspec: {jwtRules: [{issuer: i}]}\n";
    let guard = guard(&yaml);
    let written = |layers: Vec<Layer>| layers.iter().map(Check::from).collect::<Vec<_>>();
    let http = guard
        .http_filters()
        .iter()
        .filter_map(|f| match &f.config_type {
            Some(Http::TypedConfig(config)) => Check::read(config),
            _ => None,
        });
    assert!(http.collect::<Vec<_>>() == written(guard.http_layers()));
    let network = guard
        .network_filters()
        .iter()
        .filter_map(|f| match &f.config_type {
            Some(Network::TypedConfig(config)) => Check::read(config),
            _ => None,
        });
    assert!(network.collect::<Vec<_>>() == written(guard.network_layers()));
}
