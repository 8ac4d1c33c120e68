//! Mutual TLS by traffic: what a captured workload takes in each mode, whom it lets in, and what sidecars speak among themselves.
//!
//! Proxies have their certificates in files; what agents do about them is told elsewhere.

use e2e::certificates::{Certified, Roots};
use e2e::dial::{BYTES, HTTP, REQUEST, outcome, plain};
use e2e::hello::client_hello;
use e2e::pods::{Pods, Workload};
use e2e::{Call, Protocol};

e2e::both_protocols! {
    c050_to_c053_what_a_port_takes,
    c061_who_is_let_in,
    c079_sidecars_among_themselves,
}

/// Ports of workload `b`: bytes, HTTP, not said, no service.
const PORTS: [(&str, u16); 4] = [
    ("tcp", 7070),
    ("http", 8080),
    ("auto", 8181),
    ("none", 8282),
];
fn id(account: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{account}")
}

async fn pods(protocol: Protocol, roots: &Roots) -> Pods {
    Pods::new(protocol)
        .pod(
            Workload::new("a")
                .label("security.istio.io/tlsMode", "istio")
                .metadata(roots.metadata(&id("a"))),
        )
        .pod(
            Workload::new("b")
                .label("security.istio.io/tlsMode", "istio")
                .metadata(roots.metadata(&id("b")))
                // HTTP servers everywhere: what the proxy takes for bytes is seen by what the answer lacks.
                .unsaid(81, 8181)
                .http(80, 8080)
                .http_as_tcp(70, 7070)
                .unknown_http(8282),
        )
        .start()
        .await
}

fn peer(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{ name: default, namespace: default }}\nspec: {{ mtls: {{ mode: {mode} }} }}\n"
    )
}

async fn raw(pods: &Pods, port: u16, sent: &[u8]) -> String {
    plain(pods, (pods.get("b").ip(), port).into(), sent).await
}

async fn mutual(pods: &Pods, port: u16, own: Option<&Certified>, alpn: &[&str]) -> Vec<u8> {
    e2e::dial::mutual(pods, (pods.get("b").ip(), port).into(), own, alpn).await
}

/// Every kind of client at a port: plaintext HTTP; other bytes; TLS of strangers; mutual TLS with HTTP, and with bytes.
async fn all(pods: &Pods, port: u16, own: &Certified) -> String {
    let http = raw(pods, port, REQUEST).await;
    let other = raw(pods, port, b"hello\r\n\r\n").await;
    let tls = raw(pods, port, &client_hello("b.example")).await;
    let inside = outcome(&mutual(pods, port, Some(own), HTTP).await);
    let bytes = outcome(&mutual(pods, port, Some(own), BYTES).await);
    format!("{http} | {other} | {tls} | {inside} | {bytes}")
}

async fn c050_to_c053_what_a_port_takes(protocol: Protocol) {
    let roots = Roots::new();
    let pods = pods(protocol, &roots).await;
    let own = roots.certify(&id("probe"));
    // TLS that nobody ends reaches the application, whose answer to it is 400, as bytes.
    let bytes = "200 bytes | 400 bytes | 400 bytes | closed | closed";
    let table = [
        ("DISABLE", "tcp", bytes),
        (
            "DISABLE",
            "http",
            "200 http | 400 http | 400 http | closed | closed",
        ),
        (
            "DISABLE",
            "auto",
            "200 http | 400 bytes | 400 bytes | closed | closed",
        ),
        (
            "PERMISSIVE",
            "tcp",
            "200 bytes | 400 bytes | 400 bytes | 200 bytes | 200 bytes",
        ),
        (
            "PERMISSIVE",
            "http",
            "200 http | 400 http | closed | 200 http | 200 http",
        ),
        (
            "PERMISSIVE",
            "auto",
            "200 http | 400 bytes | 400 bytes | 200 http | 200 bytes",
        ),
        (
            "STRICT",
            "tcp",
            "closed | closed | TLS | 200 bytes | 200 bytes",
        ),
        (
            "STRICT",
            "http",
            "closed | closed | TLS | 200 http | 200 http",
        ),
        (
            "STRICT",
            "auto",
            "closed | closed | TLS | 200 http | 200 bytes",
        ),
    ];
    let mut wrong = String::new();
    for mode in ["DISABLE", "PERMISSIVE", "STRICT"] {
        pods.change(|site| site.put("peer.yaml", &peer(mode))).await;
        for (kind, port) in PORTS {
            // A port of no service is treated as one whose protocol is not said.
            let row = if kind == "none" { "auto" } else { kind };
            let want = table.iter().find(|(m, k, _)| (*m, *k) == (mode, row));
            let (_, _, want) = want.expect("a row");
            let is = all(&pods, port, &own).await;
            if is != *want {
                wrong += &format!("{mode} {kind}: {is}\n   want {want}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

async fn c061_who_is_let_in(protocol: Protocol) {
    let roots = Roots::new();
    let pods = pods(protocol, &roots).await;
    pods.change(|site| site.put("peer.yaml", &peer("STRICT")))
        .await;
    let answer = async |own: Option<&Certified>| {
        let bytes = mutual(&pods, 8080, own, HTTP).await;
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // Case 41: a mesh whose name begins alike, another root, yesterday's certificate, none at all.
    let evil = roots.certify("spiffe://cluster.local.evil/ns/default/sa/a");
    let other = roots.certify("spiffe://other/ns/default/sa/a");
    let rogue = Roots::new().certify(&id("a"));
    let expired = roots.expired(&id("a"));
    for own in [
        Some(&evil),
        Some(&other),
        Some(&rogue),
        Some(&expired),
        None,
    ] {
        assert_eq!(outcome(answer(own).await.as_bytes()), "closed", "{own:?}");
    }
    assert_eq!(pods.get("b").server(8080).count(), 0);

    // C-059: the application learns who it was; what the client claims is kept before it.
    let good = answer(Some(&roots.certify(&id("a")))).await;
    let body: serde_json::Value =
        serde_json::from_str(good.split("\r\n\r\n").nth(1).unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {good}"));
    let shown = body["headers"]["x-forwarded-client-cert"]
        .as_str()
        .unwrap_or_default();
    let parts: Vec<&str> = shown.split([',', ';']).collect();
    assert_eq!(parts[0], "By=me", "{shown}");
    for part in [format!("By={}", id("b")), format!("URI={}", id("a"))] {
        assert!(parts[1..].contains(&&*part), "{shown}");
    }
    assert!(
        parts.iter().any(|part| part.starts_with("Hash=")),
        "{shown}"
    );
    assert!(
        parts.iter().any(|part| part.starts_with("Subject=")),
        "{shown}"
    );

    // An alias of the mesh's trust domain is the mesh.
    let old = "trustDomainAliases: [other]";
    pods.change(|site| site.set_mesh_config(old)).await;
    assert_eq!(outcome(answer(Some(&other)).await.as_bytes()), "200 http");
    assert_eq!(outcome(answer(Some(&evil)).await.as_bytes()), "closed");
}

async fn c079_sidecars_among_themselves(protocol: Protocol) {
    let roots = Roots::new();
    let pods = pods(protocol, &roots).await;
    let a = pods.get("a");
    let shown = async |url: &str| {
        let answer = a.get(url).await;
        let seen = answer.seen();
        let shown = seen["headers"]["x-forwarded-client-cert"].as_str();
        (answer.status.as_u16(), shown.unwrap_or_default().to_owned())
    };
    let by_a = |(status, shown): &(u16, String)| {
        *status == 200 && shown.contains(&format!("URI={}", id("a")))
    };
    // Case 42: nobody said anything, both can.
    let seen = shown("http://b/").await;
    assert!(by_a(&seen), "{seen:?}");
    pods.change(|site| site.put("peer.yaml", &peer("STRICT")))
        .await;
    let seen = shown("http://b/").await;
    assert!(by_a(&seen), "{seen:?}");
    // Bytes go the same way.
    assert_eq!(shown("http://b:70/").await, (200, String::new()));
    assert_eq!(shown("http://b:81/").await.0, 200);

    let rule = |tls: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: b, namespace: default }}\nspec: {{ host: b, trafficPolicy: {{ tls: {{ {tls} }} }} }}\n"
        )
    };
    pods.change(|site| site.put("rule.yaml", &rule("mode: DISABLE")))
        .await;
    assert_eq!(
        a.get("http://b/").await.status.as_u16(),
        503,
        "plaintext is not taken"
    );
    // Secure naming: a server that is somebody else is not spoken to.
    let other = id("somebody-else");
    let named = rule(&format!("mode: ISTIO_MUTUAL, subjectAltNames: ['{other}']"));
    pods.change(|site| site.put("rule.yaml", &named)).await;
    assert_eq!(a.get("http://b/").await.status.as_u16(), 503);
    pods.change(|site| site.put("rule.yaml", &rule("mode: ISTIO_MUTUAL")))
        .await;
    let seen = shown("http://b/").await;
    assert!(by_a(&seen), "{seen:?}");
    pods.change(|site| site.remove("rule.yaml")).await;

    // The application's port takes plaintext alone, and clients know; the others keep what they had.
    let port = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: b, namespace: default }\n\
                spec: { selector: { matchLabels: { app: b } }, portLevelMtls: { 8080: { mode: DISABLE } } }\n";
    pods.change(|site| site.put("port.yaml", port)).await;
    assert_eq!(shown("http://b/").await, (200, String::new()));
    assert_eq!(raw(&pods, 8080, REQUEST).await, "200 http");
    assert_eq!(raw(&pods, 8181, REQUEST).await, "closed");
    let answer = a
        .client((e2e::pods::service_address(1), 81).into())
        .send(&Call::get("b", "/"))
        .await;
    assert_eq!(answer.expect("an answer").status.as_u16(), 200);
}
