//! Policies by who calls: identities of mutual TLS between agents, tokens, addresses, and authorizers.
//!
//! Everything else that policies look at is in `authorization.rs`.

use std::time::Duration;

use e2e::authorizer::Authorizer;
use e2e::dial;
use e2e::pods::{NODE, Pods, Workload, service_address};
use e2e::tokens::{FORGED, KEYS, OF_JOE, VALID};
use e2e::{Call, Protocol};
use hyper::Method;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// Port of the authorizer at the node.
const AUTHORIZER: u16 = 9191;

/// `default/a` and, in namespace `shop` and of account `cart`, `c`; both call `b`, and `b` takes mutual TLS alone.
async fn pods() -> Pods {
    let fixed = format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{ name: peers, namespace: default }}\nspec: {{ mtls: {{ mode: STRICT }} }}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{ name: authorizer, namespace: default }}\n\
         spec: {{ hosts: [authorizer.test], location: MESH_EXTERNAL, resolution: STATIC, ports: [{{ number: {AUTHORIZER}, name: grpc, protocol: GRPC }}], endpoints: [{{ address: {NODE} }}] }}\n"
    );
    let mesh = format!(
        "extensionProviders:\n- name: asks\n  envoyExtAuthzGrpc: {{ service: default/authorizer.test, port: {AUTHORIZER} }}\n"
    );
    Pods::new(Protocol::Delta)
        .pod(Workload::new("a"))
        .pod(Workload::new("b").http(80, 8080).tcp(9000, 9000))
        .pod(Workload::new("c").namespace("shop").account("cart"))
        .config(&fixed)
        .mesh_config(&mesh)
        .identity()
        .start()
        .await
}

/// A policy of `b`, its spec in flow form.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{ name: {name}, namespace: default }}\n\
         spec: {{ selector: {{ matchLabels: {{ app: b }} }}, {spec} }}\n"
    )
}

/// One rule with one source.
fn from(source: &str) -> String {
    policy(
        "p",
        &format!("rules: [{{from: [{{source: {{{source}}}}}]}}]"),
    )
}

fn to(operation: &str) -> String {
    policy(
        "p",
        &format!("rules: [{{to: [{{operation: {{{operation}}}}}]}}]"),
    )
}

struct World(Pods);

impl World {
    async fn policies(&self, yaml: &str) {
        self.0.change(|site| site.put("policies.yaml", yaml)).await;
        // A connection between proxies keeps the rules it was made under, and ends with its first answer under new ones.
        for pod in ["a", "c"] {
            self.status(pod, Call::get("b.default", "/")).await;
        }
    }

    async fn status(&self, pod: &str, call: Call) -> u16 {
        let client = self.0.get(pod).client((service_address(1), 80).into());
        client.must(&call).await.status.as_u16()
    }

    async fn line(&self, pod: &str) -> &'static str {
        let client = self.0.get(pod).client((service_address(1), 9000).into());
        match &*dial::line(&client).await {
            "b: hi" => "yes",
            "" => "no",
            other => panic!("{other}"),
        }
    }

    /// Of each caller: GET /, POST /, GET /admin, and whether bytes pass.
    async fn row(&self) -> String {
        let mut out = Vec::new();
        for pod in ["a", "c"] {
            for (method, path) in [
                (Method::GET, "/"),
                (Method::POST, "/"),
                (Method::GET, "/admin"),
            ] {
                let status = self.status(pod, Call::new(method, "b.default", path)).await;
                out.push(status.to_string());
            }
            out.push(self.line(pod).await.to_owned());
        }
        out.join(" ")
    }
}

#[tokio::test]
async fn what_policies_see() {
    let world = World(pods().await);
    const A: &str = "200 200 200 yes 403 403 403 no";
    const C: &str = "403 403 403 no 200 200 200 yes";
    const ALL: &str = "200 200 200 yes 200 200 200 yes";
    const NONE: &str = "403 403 403 no 403 403 403 no";
    let of_a = world.0.get("a").ip();
    let deny = |source: &str| from(source).replace("spec: {", "spec: { action: DENY,");
    let both = policy("all", "rules: [{}]") + &deny("principals: [cluster.local/ns/default/sa/a]");
    let table = [
        ("nobody", policy("p", "rules: []"), NONE),
        (
            "principal",
            from("principals: [cluster.local/ns/default/sa/a]"),
            A,
        ),
        ("any principal", from("principals: ['*']"), ALL),
        ("principal by its end", from("principals: ['*/sa/cart']"), C),
        (
            "another mesh's",
            from("principals: [td.evil/ns/default/sa/a]"),
            NONE,
        ),
        (
            "not principal",
            from("notPrincipals: [cluster.local/ns/default/sa/a]"),
            C,
        ),
        ("namespace", from("namespaces: [shop]"), C),
        ("not namespace", from("notNamespaces: [shop]"), A),
        ("account", from("serviceAccounts: [shop/cart]"), C),
        ("account of here", from("serviceAccounts: [a, cart]"), A),
        ("address", from(&format!("ipBlocks: [{of_a}]")), A),
        ("not address", from(&format!("notIpBlocks: [{of_a}/32]")), C),
        (
            "path",
            to("paths: [/admin]"),
            "403 403 200 no 403 403 200 no",
        ),
        (
            "method",
            to("methods: [POST]"),
            "403 200 403 no 403 200 403 no",
        ),
        (
            "port of bytes",
            to("ports: ['9000']"),
            "403 403 403 yes 403 403 403 yes",
        ),
        (
            "port of requests",
            to("ports: ['8080']"),
            "200 200 200 no 200 200 200 no",
        ),
        (
            "who and what",
            policy(
                "p",
                "rules: [{from: [{source: {namespaces: [shop]}}], to: [{operation: {methods: [GET], notPaths: [/admin]}}]}]",
            ),
            "403 403 403 no 200 403 403 no",
        ),
        ("case 50: refusal wins", both, C),
        ("refusal alone", deny("namespaces: [shop]"), A),
    ];
    let mut wrong = String::new();
    for (name, text, want) in table {
        world.policies(&text).await;
        let is = world.row().await;
        if is != want {
            wrong += &format!("{name}: {is}\n   want {want}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");

    tokens(&world).await;
    authorizer(world).await;
}

/// A token beside the identity: both count.
async fn tokens(world: &World) {
    let known = format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{ name: tokens, namespace: default }}\n\
         spec: {{ selector: {{ matchLabels: {{ app: b }} }}, jwtRules: [{{ issuer: 'https://issuer.test', jwks: '{KEYS}' }}] }}\n"
    );
    let rules = "rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/a], requestPrincipals: ['https://issuer.test/*']}}], \
                 when: [{key: 'request.auth.claims[groups]', values: [admin]}]}]";
    world.policies(&(known + &policy("p", rules))).await;
    let with = async |pod: &str, token: &str| {
        let call = Call::get("b.default", "/").header("authorization", format!("Bearer {token}"));
        world.status(pod, call).await
    };
    assert_eq!(world.status("a", Call::get("b.default", "/")).await, 403);
    assert_eq!((with("a", VALID).await, with("c", VALID).await), (200, 403));
    assert_eq!(
        (with("a", OF_JOE).await, with("a", FORGED).await),
        (403, 401)
    );
}

/// One that is asked about some callers only.
async fn authorizer(World(mut pods): World) {
    let authorizer = Authorizer::start(pods.site.net.at(52, AUTHORIZER)).await;
    let at = pods.site.net.at(52, AUTHORIZER);
    pods.offer(AUTHORIZER, at);
    let world = World(pods);
    // Identities are not known yet when an authorizer is asked; addresses are.
    let of_c = world.0.get("c").ip();
    let asks = format!(
        "action: CUSTOM, provider: {{ name: asks }}, rules: [{{from: [{{source: {{ipBlocks: [{of_c}]}}}}]}}]"
    );
    world.policies(&policy("asks", &asks)).await;
    let get = async |pod: &str| world.status(pod, Call::get("b.default", "/")).await;
    let before = authorizer.asked();
    let asked = || authorizer.asked() - before;
    assert_eq!((get("a").await, asked()), (200, 0));
    assert_eq!((get("c").await, asked()), (200, 1));
    authorizer.refuse(true);
    assert_eq!((get("c").await, asked()), (403, 2));
    assert_eq!((world.line("c").await, asked()), ("no", 3));
    assert_eq!((world.line("a").await, asked()), ("yes", 3));
    // Nobody to ask: refused.
    drop(authorizer);
    assert_eq!((get("c").await, get("a").await), (403, 200));
}

/// A connection that was open before its client was refused ends when the proxy has drained what it served before.
#[tokio::test]
async fn open_connections_end_with_the_drain() {
    let drain = Workload::new("b")
        .tcp(9000, 9000)
        .variable("PROXY_CONFIG", "drainDuration: 2s");
    let pods = Pods::new(Protocol::Delta)
        .pod(Workload::new("a"))
        .pod(drain)
        .identity()
        .start()
        .await;
    let client = pods.get("a").client((service_address(1), 9000).into());
    let stream = client.connect().await.expect("a connection");
    let mut lines = BufReader::new(stream);
    lines.write_all(b"hi\n").await.expect("it is open");
    let mut said = String::new();
    while said.lines().count() < 2 {
        assert_ne!(lines.read_line(&mut said).await.expect("it is open"), 0);
    }
    assert_eq!(said, "b\nb: hi\n");

    let refused = policy(
        "p",
        "action: DENY, rules: [{from: [{source: {principals: ['*']}}]}]",
    );
    pods.change(|site| site.put("policies.yaml", &refused))
        .await;
    assert_eq!(dial::line(&client).await, "");
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), lines.read_to_end(&mut rest));
    // Closed or reset, whichever the proxy does.
    let _ = end.await.expect("the open connection ends");
    assert_eq!(rest, b"");
}
