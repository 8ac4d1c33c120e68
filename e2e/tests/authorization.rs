//! Who may do what: policies, tokens and authorizers, by what passes the server's proxy.

use std::time::Duration;

use e2e::authorizer::Authorizer;
use e2e::site::hosts;
use e2e::tokens::{EXPIRED, FORGED, KEYS, OF_ANOTHER_ISSUER, OF_JOE, VALID};
use e2e::wait::eventually;
use e2e::{Backend, Call, Client, Identity, Protocol, Setup, World};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

e2e::both_protocols! {
    decides_by_rules,
    checks_tokens,
    routes_by_claims_at_a_gateway,
    asks_authorizers,
    decides_about_bytes,
    only_counts_in_a_dry_run,
    sees_paths_as_the_mesh_normalizes_them,
    keeps_the_door_shut_when_a_policy_cannot_be_understood,
}

/// A mesh with the workload `stock`.
struct Shop {
    world: World,
    http: Client,
    bytes: Client,
    _servers: Vec<Backend>,
}

impl Shop {
    async fn open(protocol: Protocol, mesh_config: &str) -> Shop {
        let mut world = World::prepare(Setup {
            mesh_config: mesh_config.into(),
            ..Setup::of("authorization", protocol)
        })
        .await;
        // Keys may be fetched from this machine, which is forbidden otherwise.
        let allowed = ["--allowed-cidrs-in-jwks-uris", "127.0.0.0/8"];
        world.pilot.process.push_args(allowed.map(str::to_owned));
        world.pilot.process.start();
        world.sidecar.process.start();
        world.up().await;
        let at = |port| world.site.net.at(hosts::MORE_SIDECARS, port);
        let servers = vec![
            Backend::http("stock", at(9079)).await,
            Backend::tcp("lines", at(9071)).await,
        ];
        let stock = world
            .add(Identity::sidecar("stock", hosts::MORE_SIDECARS))
            .await;
        let (http, bytes) = (stock.client(9080), stock.client(9001));
        Shop {
            world,
            http,
            bytes,
            _servers: servers,
        }
    }

    /// Replaces all policies.
    async fn policies(&self, yaml: &str) {
        self.world
            .change(|site| site.put("policies.yaml", yaml))
            .await;
    }

    async fn status(&self, call: &Call) -> u16 {
        // A connection of before may still be under rules of before.
        self.http.fresh().must(call).await.status.as_u16()
    }

    async fn get(&self, path: &str) -> u16 {
        self.status(&Call::get("stock", path)).await
    }

    /// What comes back for one line of bytes.
    async fn line(&self) -> String {
        let Ok(stream) = self.bytes.connect().await else {
            return String::new();
        };
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        let _ = stream.write_all(b"hi\n").await;
        let _ = stream.read_line(&mut greeting).await;
        let mut line = String::new();
        let _ = stream.read_line(&mut line).await;
        line.trim_end().to_owned()
    }
}

/// A policy of namespace `default`, its spec in flow form.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec: {{selector: {{matchLabels: {{app: stock}}}}, {spec}}}\n"
    )
}

fn tokens(selector: &str, more: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens, namespace: default}}\nspec: {{selector: {{matchLabels: {{{selector}}}}}, jwtRules: [{{issuer: 'https://issuer.test', jwks: '{KEYS}'{more}}}]}}\n"
    )
}

fn bearer(call: Call, token: &str) -> Call {
    call.header("authorization", format!("Bearer {token}"))
}

async fn decides_by_rules(protocol: Protocol) {
    let shop = Shop::open(protocol, "").await;
    assert_eq!(shop.get("/").await, 200, "without policies all is allowed");

    shop.policies(&policy("nothing", "rules: []")).await;
    assert_eq!(shop.get("/").await, 403, "no rule allows nothing");
    shop.policies(&policy("all", "action: DENY, rules: [{}]"))
        .await;
    assert_eq!(shop.get("/").await, 403);

    let rules = "rules: [
        {from: [{source: {ipBlocks: [127.0.0.0/8]}}], to: [{operation: {methods: [GET], paths: [/shelf*]}}], when: [{key: 'request.headers[x-user]', values: ['*']}]},
        {to: [{operation: {hosts: [admin.test], ports: ['9080']}}]},
        {to: [{operation: {paths: ['/a/{*}/b']}}]},
        {from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}], to: [{operation: {paths: [/far]}}]}]";
    let refused = "action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}, {operation: {paths: [/secret*]}}]}]";
    shop.policies(&(policy("some", rules) + &policy("never", refused)))
        .await;
    shop.world.expect(&shop.http.fresh(), "rules.txt").await;

    // Of another place, nothing.
    let elsewhere = "rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]";
    shop.policies(&policy("some", elsewhere)).await;
    assert_eq!(shop.get("/shelf").await, 403);
    // Without mutual TLS nobody has a name: who must have one is refused, who must not have one is not.
    let named = "rules: [{from: [{source: {principals: ['*']}}]}]";
    shop.policies(&policy("some", named)).await;
    assert_eq!(shop.get("/").await, 403);
    let unnamed = "rules: [{from: [{source: {notNamespaces: [evil]}}]}]";
    shop.policies(&policy("some", unnamed)).await;
    assert_eq!(shop.get("/").await, 200);

    // Of the root namespace for everybody, of other workloads for nobody here.
    let root = policy(
        "root",
        "action: DENY, rules: [{to: [{operation: {paths: [/root]}}]}]",
    )
    .replace("namespace: default", "namespace: istio-system")
    .replace("selector: {matchLabels: {app: stock}}, ", "");
    let other = policy("other", "action: DENY, rules: [{}]").replace("app: stock", "app: other");
    shop.policies(&(root + &other)).await;
    assert_eq!((shop.get("/root").await, shop.get("/").await), (403, 200));
    shop.world.change(|site| site.remove("policies.yaml")).await;
    assert_eq!(shop.get("/root").await, 200);
}

/// Cases 45 and 48, 55.
async fn checks_tokens(protocol: Protocol) {
    let shop = Shop::open(protocol, "").await;
    let outputs =
        ", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-sub, claim: sub}]";
    shop.policies(&tokens("app: stock", outputs)).await;
    let with = async |token: &str| shop.status(&bearer(Call::get("stock", "/"), token)).await;
    assert_eq!(shop.get("/").await, 200, "no token at all");
    assert_eq!(with(VALID).await, 200);
    for (token, why) in [
        ("nonsense", "malformed"),
        (EXPIRED, "expired"),
        (OF_ANOTHER_ISSUER, "of another issuer"),
        (FORGED, "forged"),
    ] {
        assert_eq!(with(token).await, 401, "{why}");
    }
    let answer = shop
        .http
        .fresh()
        .must(&bearer(Call::get("stock", "/"), VALID))
        .await;
    let seen = &answer.seen()["headers"];
    assert_eq!(seen["authorization"], serde_json::Value::Null);
    assert_eq!(
        (seen["x-sub"].as_str(), seen["x-payload"].as_str()),
        (Some("jane"), VALID.split('.').nth(1))
    );
    let by_parameter = format!("/?access_token={VALID}");
    assert_eq!(shop.get(&by_parameter).await, 200);

    shop.policies(&tokens(
        "app: stock",
        ", forwardOriginalToken: true, audiences: [shop], fromCookies: [session]",
    ))
    .await;
    let cookie = Call::get("stock", "/").header("cookie", format!("session={VALID}"));
    assert_eq!(shop.status(&cookie).await, 200);
    let cookie = Call::get("stock", "/").header("cookie", format!("session={OF_JOE}"));
    assert_eq!(shop.status(&cookie).await, 403, "for another audience");

    let must = "rules: [{from: [{source: {requestPrincipals: ['https://issuer.test/*']}}], when: [{key: 'request.auth.claims[groups]', values: [adm*]}, {key: 'request.auth.claims[scope]', values: [write]}, {key: request.auth.audiences, values: [shop]}]}]";
    shop.policies(&(tokens("app: stock", "") + &policy("must", must)))
        .await;
    assert_eq!(shop.get("/").await, 403, "a token must be there");
    assert_eq!((with(VALID).await, with(OF_JOE).await), (200, 403));

    // Keys from elsewhere.
    let keys = Backend::http("keys", shop.world.site.net.at(53, 8000)).await;
    keys.behave(e2e::backend::Behaviour {
        body: Some(KEYS.into()),
        ..Default::default()
    });
    let by_uri = |uri: &str| {
        tokens("app: stock", "").replace(&format!("jwks: '{KEYS}'"), &format!("jwksUri: '{uri}'"))
    };
    let uri = format!("http://{}/keys", shop.world.site.net.at(53, 8000));
    shop.policies(&by_uri(&uri)).await;
    eventually("keys are fetched", async || match with(VALID).await {
        200 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    assert_eq!((with(FORGED).await, shop.get("/").await), (401, 200));

    // Keys that nobody gives: whoever has no token may pass, no token is believed.
    shop.policies(&by_uri("http://169.254.169.254/latest"))
        .await;
    assert_eq!((shop.get("/").await, with(VALID).await), (200, 401));
}

async fn routes_by_claims_at_a_gateway(protocol: Protocol) {
    let mut world = World::of("authorization", protocol).await;
    let gateway = world
        .add(Identity::gateway("ingress", hosts::INGRESS))
        .await;
    let client = gateway.client(8080);
    let get = || Call::get("shop.test", "/");
    let to = async |call: Call| {
        let answer = client.fresh().must(&call).await;
        (answer.status.as_u16(), answer.backend())
    };
    assert_eq!(to(get()).await, (200, "reviews-v1".into()));
    let text = tokens("istio: ingress", "");
    world.change(|site| site.put("policies.yaml", &text)).await;
    assert_eq!(to(get()).await, (200, "reviews-v1".into()));
    assert_eq!(to(bearer(get(), VALID)).await, (200, "reviews-v3".into()));
    assert_eq!(to(bearer(get(), OF_JOE)).await, (200, "reviews-v1".into()));
    assert_eq!(to(bearer(get(), FORGED)).await.0, 401);
    let closed = text
        + &policy(
            "must",
            "rules: [{from: [{source: {requestPrincipals: ['*']}}]}]",
        )
        .replace("app: stock", "istio: ingress");
    world
        .change(|site| site.put("policies.yaml", &closed))
        .await;
    assert_eq!(to(get()).await, (403, String::new()));
    assert_eq!(to(bearer(get(), OF_JOE)).await, (200, "reviews-v1".into()));
}

const PROVIDERS: &str = "extensionProviders:
- name: over-http
  envoyExtAuthzHttp:
    service: http.authorizer.test
    port: 8000
    pathPrefix: /check
    statusOnError: '503'
    includeRequestHeadersInCheck: [x-user]
    includeAdditionalHeadersInCheck: { x-asks: stock }
    headersToUpstreamOnAllow: [x-decided]
    headersToDownstreamOnDeny: [x-why]
- name: over-grpc
  envoyExtAuthzGrpc: { service: default/grpc.authorizer.test, port: 8000 }
";

/// Case 59 by traffic, and what an authorizer sees and says.
async fn asks_authorizers(protocol: Protocol) {
    let shop = Shop::open(protocol, PROVIDERS).await;
    let net = &shop.world.site.net;
    let http = Backend::http("authorizer", net.at(51, 8000)).await;
    let grpc = Authorizer::start(net.at(52, 8000)).await;
    let custom = |name: &str| {
        policy(
            "ask",
            &format!(
                "action: CUSTOM, provider: {{name: {name}}}, rules: [{{to: [{{operation: {{paths: [/ask*]}}}}]}}]"
            ),
        )
    };

    shop.policies(&custom("over-http")).await;
    let ask = || {
        Call::get("stock", "/ask/1")
            .header("x-user", "jane")
            .header("x-other", "no")
    };
    http.behave(e2e::backend::Behaviour {
        headers: vec![
            ("x-decided".into(), "yes".into()),
            ("x-why".into(), "because".into()),
        ],
        ..Default::default()
    });
    let answer = shop.http.fresh().must(&ask()).await;
    assert_eq!(
        (
            answer.status.as_u16(),
            answer.seen()["headers"]["x-decided"].as_str()
        ),
        (200, Some("yes"))
    );
    let seen = http.seen().pop().expect("it was asked");
    assert_eq!(seen.path, "/check/ask/1");
    let header = |name: &str| seen.headers.get(name).cloned().unwrap_or_default();
    assert_eq!(
        (header("x-user"), header("x-asks"), header("x-other")),
        ("jane".into(), "stock".into(), String::new())
    );
    assert_eq!(shop.get("/other").await, 200);
    assert_eq!(http.count(), 1, "nobody is asked about the rest");
    http.behave(e2e::backend::Behaviour {
        status: Some(401),
        headers: vec![("x-why".into(), "because".into())],
        ..Default::default()
    });
    let answer = shop.http.fresh().must(&ask()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-why")),
        (401, "because".into())
    );
    drop(http);
    eventually("nobody answers", async || match shop.status(&ask()).await {
        503 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;

    shop.policies(&custom("over-grpc")).await;
    assert_eq!((shop.get("/ask").await, grpc.asked()), (200, 1));
    grpc.refuse(true);
    assert_eq!(
        (
            shop.get("/ask").await,
            shop.get("/other").await,
            grpc.asked()
        ),
        (403, 200, 2)
    );
    // Nobody can look for a path in bytes: they are all asked about.
    assert_eq!((shop.line().await, grpc.asked()), (String::new(), 3));
    grpc.refuse(false);
    assert_eq!((shop.line().await, grpc.asked()), ("lines: hi".into(), 4));

    // Nobody to ask: what would be asked about is refused.
    shop.policies(&custom("nobody")).await;
    assert_eq!(
        (shop.get("/ask").await, shop.get("/other").await),
        (403, 200)
    );
    // An authorizer for one thing and an authorizer for another are one too many.
    let two = custom("over-grpc") + &custom("over-http").replace("name: ask,", "name: ask2,");
    shop.policies(&two).await;
    assert_eq!((shop.get("/ask").await, grpc.asked()), (403, 4));
}

/// Case 51.
async fn decides_about_bytes(protocol: Protocol) {
    let shop = Shop::open(protocol, "").await;
    assert_eq!(shop.line().await, "lines: hi");
    let to = |action: &str, operation: &str| {
        policy(
            "p",
            &format!("action: {action}, rules: [{{to: [{{operation: {{{operation}}}}}]}}]"),
        )
    };
    shop.policies(&to("DENY", "methods: [POST]")).await;
    assert_eq!(
        (shop.line().await, shop.get("/").await),
        (String::new(), 200)
    );
    shop.policies(&to("ALLOW", "paths: [/x]")).await;
    assert_eq!(
        (shop.line().await, shop.get("/x").await),
        (String::new(), 200)
    );
    shop.policies(&to("ALLOW", "ports: ['9001']")).await;
    assert_eq!(
        (shop.line().await, shop.get("/").await),
        ("lines: hi".into(), 403)
    );
    shop.policies(&to("DENY", "ports: ['9001']")).await;
    assert_eq!(
        (shop.line().await, shop.get("/").await),
        (String::new(), 200)
    );
    let from = "rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]";
    shop.policies(&policy("p", from)).await;
    assert_eq!(shop.line().await, "");
}

/// Case 61.
async fn only_counts_in_a_dry_run(protocol: Protocol) {
    let shop = Shop::open(protocol, "").await;
    let tried = policy(
        "tried",
        "action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]",
    )
    .replace(
        "namespace: default}",
        "namespace: default, annotations: {istio.io/dry-run: 'true'}}",
    );
    shop.policies(&tried).await;
    assert_eq!((shop.get("/x").await, shop.get("/y").await), (200, 200));
    let stock = shop.world.proxy("stock");
    let counted = async || {
        let page = stock
            .admin("/stats?filter=istio_dry_run_deny")
            .await
            .expect("statistics");
        let of = |end: &str| {
            let line = page
                .lines()
                .find(|line| line.starts_with("http.") && line.contains(end));
            line.and_then(|l| l.rsplit_once(": "))
                .map_or(0, |(_, n)| n.parse().unwrap_or(0))
        };
        (of("shadow_denied"), of("shadow_allowed"))
    };
    assert_eq!(counted().await, (1, 1));
}

/// Case 58.
async fn sees_paths_as_the_mesh_normalizes_them(protocol: Protocol) {
    let shop = Shop::open(protocol, "").await;
    shop.policies(&policy(
        "admin",
        "action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]",
    ))
    .await;
    const FORMS: [&str; 5] = ["/admin#x", "/%61dmin", "/./admin", "//admin", "/%2fadmin"];
    let statuses = async || {
        let mut out = Vec::new();
        for form in FORMS {
            out.push(raw_get(&shop.http, form).await);
        }
        out
    };
    assert_eq!(shop.get("/admin").await, 403);
    // Envoy takes no fragment at all, unless its bootstrap says so, as the agent's does.
    for (mode, want) in [
        ("NONE", [400, 200, 200, 200, 200]),
        ("DEFAULT", [400, 403, 403, 200, 200]),
        ("MERGE_SLASHES", [400, 403, 403, 403, 200]),
        ("DECODE_AND_MERGE_SLASHES", [400, 403, 403, 403, 403]),
    ] {
        let text = format!("pathNormalization: {{normalization: {mode}}}\n");
        if mode != "DEFAULT" {
            shop.world.change(|site| site.set_mesh_config(&text)).await;
        } else {
            shop.world.change(|site| site.set_mesh_config("")).await;
        }
        assert_eq!(statuses().await, want, "{mode}");
    }
}

/// The status of a request whose target is written as it is.
async fn raw_get(client: &Client, target: &str) -> u16 {
    let mut stream = client.connect().await.expect("a connection");
    let request = format!("GET {target} HTTP/1.1\r\nhost: stock\r\nconnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{target}: {answer:?}"))
}

/// Whatever is wrong with a policy, it never opens what was shut.
async fn keeps_the_door_shut_when_a_policy_cannot_be_understood(protocol: Protocol) {
    let shop = Shop::open(protocol, "").await;
    shop.policies(&policy(
        "p",
        "action: DENY, rules: [{to: [{operation: {paths: [/shut]}}]}]",
    ))
    .await;
    assert_eq!((shop.get("/shut").await, shop.get("/").await), (403, 200));
    // Refused by the check: what was in force stays.
    for (bad, why) in [
        (
            "action: DENY, rules: [{when: [{key: request.nope, values: [x]}]}]",
            "request.nope",
        ),
        (
            "action: DENY, rules: [{from: [{source: {}}]}]",
            "must say something",
        ),
        ("action: DENI, rules: [{}]", "DENI"),
        ("action: DENY, rulez: [{}]", "rules"),
    ] {
        shop.world.site.put("policies.yaml", &policy("p", bad));
        eventually("it is told", async || {
            let all = shop.world.pilot.api("/v1/findings").await?;
            let told = |f: &serde_json::Value| {
                f["level"] == "error" && f["message"].as_str().is_some_and(|m| m.contains(why))
            };
            match all.as_array().is_some_and(|all| all.iter().any(told)) {
                true => Ok(()),
                false => Err(all.to_string()),
            }
        })
        .await;
        assert_eq!(
            (shop.get("/shut").await, shop.get("/").await),
            (403, 200),
            "{bad}"
        );
    }
}
