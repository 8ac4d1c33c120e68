//! From the authority and Pilot to Envoy, and what happens when one of them is away.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use envoy_api::type_url::{CLUSTER, LISTENER};
use serde_json::{Value, json};

use super::authority::{Authority, workload};
use super::pilot::Pilot;
use super::rig::{Agent, Setup, envoy};

/// A listener that answers every connection with a word, over mutual TLS with the workload's secrets.
pub fn tls_listener(at: SocketAddr) -> Value {
    let sds = json!({
        "apiConfigSource": {
            "apiType": "GRPC", "transportApiVersion": "V3", "setNodeOnFirstMessageOnly": true,
            "grpcServices": [{"envoyGrpc": {"clusterName": "sds-grpc"}}],
        },
        "initialFetchTimeout": "0s", "resourceApiVersion": "V3",
    });
    let mut listener = listener(at, "over TLS");
    listener["filterChains"][0]["transportSocket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "requireClientCertificate": true,
            "commonTlsContext": {
                "tlsCertificateSdsSecretConfigs": [{"name": "default", "sdsConfig": sds}],
                "validationContextSdsSecretConfig": {"name": "ROOTCA", "sdsConfig": sds},
            },
        },
    });
    listener
}

/// A listener that answers every request with a word.
pub fn listener(at: SocketAddr, word: &str) -> Value {
    json!({
        "name": format!("{}_{}", at.ip(), at.port()),
        "address": {"socketAddress": {"address": at.ip().to_string(), "portValue": at.port()}},
        "filterChains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "statPrefix": "test",
                "routeConfig": {"virtualHosts": [{"name": "all", "domains": ["*"], "routes": [{
                    "match": {"prefix": "/"},
                    "directResponse": {"status": 200, "body": {"inlineString": word}},
                }]}]},
                "httpFilters": [{
                    "name": "envoy.filters.http.router",
                    "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

/// A Pilot with a certificate of the authority's.
pub async fn pilot(authority: &Authority) -> Pilot {
    let id = workload("istio-system", "istio-pilot-service-account");
    let root = authority.root();
    Pilot::tls(root.identity(&id, &authority.roots())).await
}

/// An agent with a TLS listener at port 8443, ready.
pub async fn with_listener(setup: Setup, pilot: &Pilot) -> Agent {
    pilot.set_json(LISTENER, &[tls_listener((setup.ip, 8443).into())]);
    let agent = setup.start().await;
    agent.ready().await;
    agent
        .until("Envoy has both secrets", async || {
            let (own, roots) = agent.serials().await;
            own.len() == 1 && !roots.is_empty()
        })
        .await;
    agent
}

/// Case 30: 503 before the first configuration, 200 after it; and everything that comes before it.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_configuration_reach_envoy() {
    let authority = Authority::start().await;
    let pilot = pilot(&authority).await;
    let setup = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .var("XDS_HEADER_X_TEST", "yes");
    let agent = with_listener(setup, &pilot).await;
    assert_eq!(authority.asked(), 1);
    assert_eq!(pilot.peers(), ["spiffe://cluster.local/ns/default/sa/web"]);
    let first = &pilot.asked(CLUSTER)[0];
    assert_eq!(
        first.node,
        format!(
            "sidecar~{}~web-1.default~default.svc.cluster.local",
            agent.ip
        )
    );
    assert_eq!(first.metadata["x-test"], "yes");
    // No token: the certificate says who it is.
    assert!(!first.metadata.contains_key("authorization"));
    let expiry = "istio_agent_cert_expiry_timestamp_seconds{resource_name=\"default\"}";
    assert!(agent.metric(expiry).await > 1.7e9);
    // The whole of it answers: a client of the mesh is served.
    let root = authority.root();
    let client = root.identity(&workload("default", "client"), &authority.roots());
    let word = tls_read((agent.ip, 8443).into(), client).await.unwrap();
    assert_eq!(word, "over TLS");
    let stranger = super::authority::Root::new();
    let stranger = stranger.identity(&workload("default", "client"), &authority.roots());
    assert!(tls_read((agent.ip, 8443).into(), stranger).await.is_err());
}

/// What a TLS server says, if it is `web` and takes this client.
pub async fn tls_read(
    at: SocketAddr,
    client: service_kit::tls::Identities,
) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = service_kit::tls::ServerId::spiffe(workload("default", "web"));
    let config = service_kit::tls::client_config(client, server);
    let tcp = tokio::net::TcpStream::connect(at).await?;
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut tls = connector.connect(at.ip().into(), tcp).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    Ok(body.unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_waits_for_pilot() {
    let pilot = Pilot::plain().await;
    let address = pilot.address;
    pilot.down();
    let agent = Setup::new()
        .pilots(&[format!("http://{address}")])
        .start()
        .await;
    agent
        .until("Envoy answers that it is not ready", async || {
            let (status, body) = super::rig::get(agent.status, "/healthz/ready")
                .await
                .unwrap();
            status == 503 && body.contains("no configuration yet")
        })
        .await;
}

/// Pilots are tried in turn, and what Envoy has stays meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn another_pilot_takes_over_and_envoy_keeps_what_it_has() {
    let authority = Authority::start().await;
    let (one, two) = (pilot(&authority).await, pilot(&authority).await);
    let setup = Setup::new()
        .with_authority(&authority)
        .pilots(&[one.address.to_string(), two.address.to_string()]);
    two.set_json(LISTENER, &[tls_listener((setup.ip, 8443).into())]);
    let agent = with_listener(setup, &one).await;
    assert_eq!(two.streams().0, 0);
    one.down();
    let root = authority.root();
    let client = root.identity(&workload("default", "client"), &authority.roots());
    agent
        .until("the other Pilot is asked", async || {
            let word = tls_read((agent.ip, 8443).into(), client.clone()).await;
            assert_eq!(word.unwrap(), "over TLS");
            two.asked(LISTENER)
                .iter()
                .any(|asked| !asked.nonce.is_empty())
        })
        .await;
    // And it goes on from there.
    two.set_json(
        LISTENER,
        &[
            tls_listener((agent.ip, 8443).into()),
            listener((agent.ip, 8001).into(), "second"),
        ],
    );
    agent
        .until("the new listener", async || {
            agent.admin("/listeners").await.contains(":8001")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_of_the_world_works_too() {
    let pilot = Pilot::plain().await;
    let setup = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .var("ISTIO_DELTA_XDS", "false");
    pilot.set_json(LISTENER, &[listener((setup.ip, 8001).into(), "hello")]);
    let agent = setup.start().await;
    agent.ready().await;
    assert!(agent.admin("/listeners").await.contains(":8001"));
    // Nobody has secrets here, and Pilot is told so by the absence of a version.
    let config = std::fs::read_to_string(agent.path("etc/istio/proxy/envoy-rev.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["node"]["metadata"]["ISTIO_VERSION"], Value::Null);
}

/// Envoy's end is the agent's, with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_envoy_ends_the_agent() {
    let pilot = Pilot::plain().await;
    let mut agent = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .start()
        .await;
    agent.ready().await;
    let pid = agent.envoy_pid().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-9", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(agent.ended().await.code(), Some(1));
    assert!(agent.logs().contains("Envoy was ended by signal 9"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_takes_envoy_along() {
    let pilot = Pilot::plain().await;
    let mut agent = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .start()
        .await;
    agent.ready().await;
    let process = format!("/proc/{}", agent.envoy_pid());
    agent.signal("KILL");
    agent.ended().await;
    agent
        .until("Envoy is gone", async || {
            !std::path::Path::new(&process).exists()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_cannot_be_acted_on_are_refused_by_name() {
    let told = Setup::new()
        .var("CA_PROVIDER", "Vault")
        .var("WORKLOAD_IDENTITY_SOCKET_FILE", "../../tmp/x")
        .refused()
        .await;
    assert!(
        told.contains("CA_PROVIDER: \"Vault\" is no provider, use Citadel"),
        "{told}"
    );
    assert!(
        told.contains("WORKLOAD_IDENTITY_SOCKET_FILE: \"../../tmp/x\" is a path"),
        "{told}"
    );
}

/// Envoy itself reads every kind of bootstrap.
#[test]
fn envoy_takes_the_bootstraps() {
    use agent_core::bootstrap::{Places, json};
    use agent_core::options::{Sources, read};
    for (more, identity, v6) in [
        (&[][..], true, false),
        (
            &[
                ("ENVOY_SECURE_METRICS_PORT", "15091"),
                ("ENVOY_SECURE_MERGED_METRICS_PORT", "15092"),
                ("ISTIO_DELTA_XDS", "false"),
                ("ISTIO_META_EXTRA_STAT_TAGS", "one,two"),
                (
                    "PROXY_CONFIG",
                    "{runtimeValues: {a: '1', overload.global_downstream_max_connections: '10'}, proxyStatsMatcher: {inclusionRegexps: ['a.*']}, extraStatTags: [three]}",
                ),
            ],
            false,
            true,
        ),
    ] {
        let vars = [("POD_NAME", "web-1"), ("INSTANCE_IP", "10.0.0.7")];
        let vars = vars.iter().chain(more);
        let options = read(&Sources {
            vars: vars
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..Sources::default()
        })
        .unwrap();
        let ip: std::net::IpAddr = if v6 { "::1" } else { "127.0.0.1" }.parse().unwrap();
        let made = json(
            &options,
            &Places {
                admin: (ip, 15_000).into(),
                status: (ip, 15_021).into(),
                prometheus: (ip, 15_090).into(),
                agent: (ip, 15_020).into(),
                xds: "/x/XDS".into(),
                sds: "/x/socket".into(),
                files: Some("/x/files-socket".into()),
                external: Some("/x/external".into()),
                identity,
            },
        )
        .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bootstrap.json");
        std::fs::write(&file, made.to_string()).unwrap();
        let output = std::process::Command::new(envoy())
            .args([
                "--mode",
                "validate",
                "-l",
                "warning",
                "--allow-unknown-static-fields",
                "-c",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}\n{made:#}");
        assert!(!told.contains("[warning]"), "{told}");
    }
}

/// Case 24: renewed in time; while the authority is away what there is stays; when it is back the new one is pushed.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_and_pushed() {
    let authority = Authority::start().await;
    authority.set_ttl(Duration::from_secs(6));
    let pilot = pilot(&authority).await;
    let setup = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .var("SECRET_GRACE_PERIOD_RATIO_JITTER", "0");
    let agent = with_listener(setup, &pilot).await;
    let (first, roots) = agent.serials().await;
    agent
        .until("another certificate", async || {
            agent.serials().await.0 != first
        })
        .await;
    assert_eq!(agent.serials().await.1, roots);
    let second = agent.serials().await.0;
    let asked = authority.asked();
    authority.down().await;
    // Longer than until the next renewal: it is tried, and in vain.
    agent
        .until("the agent has tried", async || {
            agent.logs().matches("no certificate, trying again").count() >= 1
        })
        .await;
    assert_eq!(agent.serials().await.0, second);
    assert_eq!(authority.asked(), asked);
    let failed = "istio_agent_num_failed_outgoing_requests{request_type=\"csr\"}";
    assert!(agent.metric(failed).await >= 1.0);
    assert!(
        agent
            .metric("istio_agent_num_outgoing_requests{request_type=\"csr\"}")
            .await
            >= 3.0
    );
    authority.up().await;
    agent
        .until("another certificate", async || {
            agent.serials().await.0 != second
        })
        .await;
}
