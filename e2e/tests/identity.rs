//! Pods with identities: a Citadel that certifies, agents that keep certificates, and mutual TLS between what they stand beside.
//!
//! What each kind of port takes in each mode is in `mtls.rs`; who may do what once he is in, in `callers.rs`.

use e2e::certificates::{Certified, Roots};
use e2e::dial::{self, HTTP, REQUEST, outcome};
use e2e::pods::{Pods, Workload, service_address};
use e2e::wait::eventually;
use e2e::{Call, Protocol};
use serde_json::Value;

e2e::both_protocols! {
    c059_between_agents,
}

fn id(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

/// `a` and `b` with agents, `c` without; service `mixed` is `b` and `c`.
async fn pods(protocol: Protocol) -> Pods {
    Pods::new(protocol)
        .pod(Workload::new("a"))
        .pod(
            Workload::new("b")
                .http(80, 8080)
                .tcp(9000, 9000)
                .unknown_http(7777),
        )
        .pod(Workload::new("c").http(80, 8080).bare())
        .config(&mixed())
        .certified_by(Roots::new())
        .start()
        .await
}

const MIXED: u8 = 50;

fn mixed() -> String {
    let [b, c] = [1, 2].map(e2e::pods::address);
    let ip = service_address(MIXED);
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: mixed, namespace: default }}\n\
         spec: {{ clusterIP: {ip}, ports: [{{ name: http, port: 80, targetPort: 8080 }}] }}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{ name: mixed-1, namespace: default, labels: {{ kubernetes.io/service-name: mixed }} }}\n\
         ports: [{{ name: http, port: 8080 }}]\n\
         endpoints:\n- {{ addresses: [{b}], conditions: {{ ready: true }}, targetRef: {{ kind: Pod, name: b, namespace: default }} }}\n\
         - {{ addresses: [{c}], conditions: {{ ready: true }}, targetRef: {{ kind: Pod, name: c, namespace: default }} }}\n"
    )
}

fn peers(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{ name: peers, namespace: default }}\nspec: {{ {spec} }}\n"
    )
}

fn rule(host: &str, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: {host}, namespace: default }}\n\
         spec: {{ host: {host}, trafficPolicy: {{ tls: {{ mode: {tls} }} }} }}\n"
    )
}

/// What the application was told of the client: both ends of mutual TLS; nothing without it.
fn ends(seen: &Value) -> (String, String) {
    let shown = &seen["headers"]["x-forwarded-client-cert"];
    let shown = shown.as_str().unwrap_or_default();
    let part = |name: &str| {
        let mut parts = shown.split([',', ';']);
        let found = parts.find_map(|part| part.strip_prefix(name));
        found.unwrap_or_default().to_owned()
    };
    (part("URI="), part("By="))
}

struct World {
    pods: Pods,
}

impl World {
    async fn peers(&self, spec: &str) {
        let text = peers(spec);
        self.pods.change(|site| site.put("peers.yaml", &text)).await;
    }

    async fn rule(&self, host: &str, tls: &str) {
        let text = rule(host, tls);
        self.pods.change(|site| site.put("rule.yaml", &text)).await;
    }

    /// What `a` gets by a URL: `mutual`, `plain` or a status of failure.
    async fn by_a(&self, url: &str) -> String {
        let answer = self.pods.get("a").get(url).await;
        match (answer.status.as_u16(), ends(&answer.seen())) {
            (200, (client, _)) if client == id("a") => "mutual".into(),
            (200, (client, _)) if client.is_empty() => "plain".into(),
            (200, other) => format!("{other:?}"),
            (status, _) => status.to_string(),
        }
    }

    /// What comes back at a port of `b` from beside the pods, without TLS.
    async fn plain(&self, port: u16) -> String {
        let to = (self.pods.get("b").ip(), port).into();
        dial::plain(&self.pods, to, REQUEST).await
    }

    /// The same inside mutual TLS.
    async fn mutual(&self, own: &Certified) -> String {
        let to = (self.pods.get("b").ip(), 8080).into();
        outcome(&dial::mutual(&self.pods, to, Some(own), HTTP).await)
    }
}

async fn c059_between_agents(protocol: Protocol) {
    let world = World {
        pods: pods(protocol).await,
    };
    let pods = &world.pods;
    let (a, b) = (pods.get("a"), pods.get("b"));

    // A process of the application, captured on its way out and in: both identities are shown.
    let url = format!("http://{}/curl", service_address(1));
    let curl = a.exec(&["curl", "--silent", "--fail", &url]).await;
    assert!(curl.status.success(), "{curl:?}");
    let seen: Value = serde_json::from_slice(&curl.stdout).expect("what b saw");
    assert_eq!(
        (&seen["backend"], &seen["peer"]),
        (&"b".into(), &"127.0.0.6".into())
    );
    assert_eq!(ends(&seen), (id("a"), id("b")));
    assert_eq!(world.by_a("http://b/").await, "mutual");

    // Case 37: without a policy both are taken.
    assert_eq!(world.plain(8080).await, "200 http");
    // C-061, case 41: under STRICT only mutual TLS with certificates of this mesh, in force, for identities of this mesh.
    world.peers("mtls: { mode: STRICT }").await;
    b.server(8080).forget();
    assert_eq!(world.plain(8080).await, "closed");
    assert_eq!(world.plain(9000).await, "closed");
    // Bytes go the same way as requests.
    let bytes = a.client((service_address(1), 9000).into());
    assert_eq!(dial::line(&bytes).await, "b: hi");
    let roots = pods.plane().roots();
    for (why, own) in [
        ("another root", Roots::new().certify(&id("a"))),
        ("expired", roots.expired(&id("a"))),
        (
            "another mesh",
            roots.certify("spiffe://td.evil/ns/default/sa/a"),
        ),
        (
            "a name alike",
            roots.certify("spiffe://cluster.local.evil/ns/default/sa/a"),
        ),
    ] {
        assert_eq!(world.mutual(&own).await, "closed", "{why}");
    }
    assert_eq!(b.server(8080).count(), 0);
    assert_eq!(
        world.mutual(&roots.certify(&id("stranger"))).await,
        "200 http"
    );
    assert_eq!(world.by_a("http://b/").await, "mutual");

    // Case 42: automatic mutual TLS looks at each endpoint.
    assert_eq!(world.by_a("http://c/").await, "plain");
    let mut ways = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let call = Call::get("mixed", "/");
        let answer = a
            .client((service_address(MIXED), 80).into())
            .must(&call)
            .await;
        ways.insert((answer.backend(), ends(&answer.seen()).0));
    }
    assert_eq!(
        Vec::from_iter(ways),
        [("b".to_owned(), id("a")), ("c".to_owned(), String::new())]
    );

    // A DestinationRule decides before it.
    world.rule("b", "DISABLE").await;
    assert_eq!(world.by_a("http://b/").await, "503");
    world.peers("mtls: { mode: PERMISSIVE }").await;
    assert_eq!(world.by_a("http://b/").await, "plain");
    world.rule("b", "ISTIO_MUTUAL").await;
    assert_eq!(world.by_a("http://b/").await, "mutual");
    world.rule("c", "ISTIO_MUTUAL").await;
    assert_eq!(world.by_a("http://c/").await, "503");
    pods.change(|site| site.remove("rule.yaml")).await;

    world.peers("mtls: { mode: DISABLE }").await;
    assert_eq!(world.by_a("http://b/").await, "plain");
    assert_eq!(world.plain(8080).await, "200 http");
    assert_eq!(world.mutual(&roots.certify(&id("a"))).await, "closed");

    // C-054, case 38: ports are the application's, not the service's.
    let by_port = |port: u16| {
        format!(
            "selector: {{ matchLabels: {{ app: b }} }}, mtls: {{ mode: STRICT }}, portLevelMtls: {{ {port}: {{ mode: DISABLE }} }}"
        )
    };
    world.peers(&by_port(8080)).await;
    assert_eq!(
        (world.plain(8080).await, world.plain(9000).await),
        ("200 http".into(), "closed".into())
    );
    assert_eq!(world.by_a("http://b/").await, "plain");
    world.peers(&by_port(80)).await;
    assert_eq!(
        (world.plain(8080).await, world.plain(9000).await),
        ("closed".into(), "closed".into())
    );
    // The proxy of `a` may have a connection from before, which ends with its first answer.
    eventually("mutual TLS again", async || {
        match &*world.by_a("http://b/").await {
            "mutual" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    // A port of no service has a mode too; clients cannot know what it takes, and pass plaintext through.
    let unknown = format!("http://{}:7777/", b.ip());
    let refused = a.request(&unknown).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(world.plain(7777).await, "closed");
    world.peers(&by_port(7777)).await;
    assert_eq!(world.by_a(&unknown).await, "plain");
    assert_eq!(world.plain(7777).await, "200 http");
    assert_eq!(world.plain(8080).await, "closed");
}

/// With TPROXY the application sees the client's address besides.
#[tokio::test]
async fn by_tproxy() {
    let world = World {
        pods: Pods::new(Protocol::Delta)
            .pod(Workload::new("a"))
            .pod(Workload::new("b").http(80, 8080).tproxy())
            .config(&peers("mtls: { mode: STRICT }"))
            .identity()
            .start()
            .await,
    };
    let a = world.pods.get("a");
    let answer = a.get("http://b/").await;
    let seen = answer.seen();
    assert_eq!(ends(&seen), (id("a"), id("b")), "{answer:?}");
    assert_eq!(seen["peer"], a.ip().to_string());
    assert_eq!(world.plain(8080).await, "closed");
}
