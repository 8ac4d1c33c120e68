//! The socket of secrets, asked directly.

use std::path::{Path, PathBuf};
use std::time::Duration;

use envoy_api::any::unpack;
use envoy_api::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
};
use envoy_api::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use envoy_api::google::rpc;
use envoy_api::type_url::SECRET;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::authority::{Authority, Root};
use super::chain;
use super::rig::{PATIENCE, Setup};

/// A client of a socket of secrets.
pub async fn client(socket: &Path) -> SecretDiscoveryServiceClient<Channel> {
    let path: PathBuf = socket.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    SecretDiscoveryServiceClient::new(channel)
}

/// A stream that asks for one secret.
pub struct Asking {
    name: String,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

impl Asking {
    pub async fn for_secret(socket: &Path, name: &str) -> Asking {
        let (requests, receiver) = mpsc::channel(16);
        let request = DiscoveryRequest {
            resource_names: vec![name.to_owned()],
            type_url: SECRET.to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.send(request).await.unwrap();
        let responses = client(socket)
            .await
            .stream_secrets(ReceiverStream::new(receiver))
            .await;
        Asking {
            name: name.to_owned(),
            requests,
            responses: responses.unwrap().into_inner(),
        }
    }

    /// The next response, not answered yet.
    pub async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        let next = timeout(PATIENCE, self.responses.next()).await;
        next.expect("no secret comes").expect("the stream ended")
    }

    /// Why no response comes.
    pub async fn refusal(&mut self) -> Status {
        match self.next().await {
            Err(status) => status,
            Ok(_) => panic!("a secret came"),
        }
    }

    /// Answers a response.
    pub async fn answer(&self, response: &DiscoveryResponse, error: Option<&str>) {
        let request = DiscoveryRequest {
            version_info: response.version_info.clone(),
            resource_names: vec![self.name.clone()],
            type_url: SECRET.to_owned(),
            response_nonce: response.nonce.clone(),
            error_detail: error.map(|message| rpc::Status {
                message: message.to_owned(),
                ..rpc::Status::default()
            }),
            ..DiscoveryRequest::default()
        };
        self.requests.send(request).await.unwrap();
    }

    /// The next secret, taken.
    pub async fn take(&mut self) -> Secret {
        let response = self.next().await.unwrap();
        self.answer(&response, None).await;
        secret_of(&response)
    }

    /// Whether nothing comes for a while.
    pub async fn is_quiet(&mut self, time: Duration) -> bool {
        timeout(time, self.responses.next()).await.is_err()
    }
}

/// The one secret of a response.
pub fn secret_of(response: &DiscoveryResponse) -> Secret {
    assert_eq!(response.type_url, SECRET);
    let [any] = &*response.resources else {
        panic!("{} resources", response.resources.len());
    };
    unpack(any).unwrap().unwrap()
}

fn text(source: Option<envoy_api::envoy::config::core::v3::DataSource>) -> String {
    use envoy_api::envoy::config::core::v3::data_source::Specifier;
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        None => String::new(),
        Some(_) => panic!("not inline"),
    }
}

/// Chain and key.
pub fn pair(secret: Secret) -> (String, String) {
    match secret.r#type {
        Some(secret::Type::TlsCertificate(certificate)) => (
            text(certificate.certificate_chain),
            text(certificate.private_key),
        ),
        _ => panic!("no certificate"),
    }
}

/// Roots and revocation lists.
pub fn roots(secret: Secret) -> (String, String) {
    match secret.r#type {
        Some(secret::Type::ValidationContext(context)) => {
            assert_eq!(context.only_verify_leaf_cert_crl, context.crl.is_some());
            (text(context.trusted_ca), text(context.crl))
        }
        _ => panic!("no roots"),
    }
}

/// Case 23: key and chain, and roots for themselves; asked again, the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_workloads_secrets_are_served_without_asking_again() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .var("OUTPUT_CERTS", "out")
        .start()
        .await;
    let mut stream = Asking::for_secret(&agent.secrets(), "default").await;
    let (chain, key) = pair(stream.take().await);
    assert!(chain.starts_with("-----BEGIN CERTIFICATE-----"));
    // As Istio's agent writes keys unless told otherwise.
    assert!(key.starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let mut again = Asking::for_secret(&agent.secrets(), "default").await;
    assert_eq!(pair(again.take().await), (chain.clone(), key.clone()));
    let mut stream = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    assert_eq!(
        roots(stream.take().await),
        (authority.roots(), String::new())
    );
    assert_eq!(authority.asked(), 1);
    // OUTPUT_CERTS.
    let read = |name: &str| std::fs::read_to_string(agent.path("out").join(name)).unwrap();
    assert_eq!(read("cert-chain.pem"), chain);
    assert_eq!(read("key.pem"), key);
    assert_eq!(read("root-cert.pem"), authority.roots());
    use std::os::unix::fs::PermissionsExt as _;
    for path in ["out/key.pem", "out/root-cert.pem"] {
        let mode = std::fs::metadata(agent.path(path)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{path}");
    }
    // Nothing of the key is told anywhere.
    let body = key.lines().nth(1).unwrap();
    assert!(!agent.logs().contains(body));
}

/// Case 26: what is no name of a secret, or names a file that is none.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_get_errors_and_no_content() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .start()
        .await;
    std::fs::write(agent.path("plain"), "root:$6$secret:1:0:99999:7:::\n").unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(agent.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    for (name, code) in [
        ("file-cert:/a~/b~/c", Code::InvalidArgument),
        ("file-cert:/x", Code::InvalidArgument),
        ("file-root:../x", Code::InvalidArgument),
        ("file-root:/etc/../etc/shadow", Code::Unavailable),
        ("file-root:plain", Code::Unavailable),
        ("file-cert:plain~plain", Code::Unavailable),
        ("file-root:pipe", Code::Unavailable),
        ("file-root:/dev/zero", Code::Unavailable),
        ("file-root:/nowhere", Code::Unavailable),
        ("kubernetes://default/web", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let mut stream = Asking::for_secret(&agent.secrets(), name).await;
        let status = stream.refusal().await;
        assert_eq!(status.code(), code, "{name}: {status}");
        assert!(!status.message().contains("secret:"), "{status}");
    }
    assert!(!agent.logs().contains("$6$"));
    // The others of the service are not there.
    let mut client = client(&agent.secrets()).await;
    let status = client.fetch_secrets(DiscoveryRequest::default()).await;
    assert_eq!(status.err().unwrap().code(), Code::Unimplemented);
    let requests = tokio_stream::iter([DeltaDiscoveryRequest::default()]);
    let status = client.delta_secrets(requests).await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
}

/// Case 25: another root between two certificates is pushed once; a rejected secret is not sent again until it changes.
#[tokio::test(flavor = "multi_thread")]
async fn another_root_is_pushed_once_and_a_rejected_one_not_again() {
    let authority = Authority::start().await;
    authority.set_ttl(Duration::from_secs(4));
    let pilot = chain::pilot(&authority).await;
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .start()
        .await;
    let mut own = Asking::for_secret(&agent.secrets(), "default").await;
    let mut root = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    let (first, _) = pair(own.take().await);
    let before = roots(root.take().await).0;
    assert_eq!(before, authority.roots());
    let other = Root::new();
    // Both for a while, as any rotation has it, and the new one signs.
    let both = authority.roots() + &other.pem();
    authority.set_root(other.clone(), both);
    let (second, _) = pair(own.take().await);
    assert_ne!(first, second);
    let pushed = root.next().await.unwrap();
    root.answer(&pushed, Some("as the test says")).await;
    let (after, _) = roots(secret_of(&pushed));
    assert!(after.contains(&other.pem()) && after.contains(&before));
    // The next certificates come, the roots do not.
    pair(own.take().await);
    pair(own.take().await);
    assert!(root.is_quiet(Duration::from_millis(100)).await);
    agent
        .until("the rejection is told", async || {
            agent.metric("istio_agent_sds_rejections_total").await == 1.0
        })
        .await;
    assert!(agent.logs().contains("Envoy rejected a secret"));
}

/// Case 28: another server of secrets on the workload's socket keeps it; the agent serves files.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_of_secrets_keeps_the_socket() {
    let pilot = super::pilot::Pilot::plain().await;
    let setup = Setup::new().pilots(&[format!("http://{}", pilot.address)]);
    // An agent of somebody else, as far as this one knows.
    let socket = setup
        .root
        .path()
        .join("var/run/secrets/workload-spiffe-uds/socket");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = tonic::transport::Server::builder()
        .add_service(envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer::new(pilot.clone()))
        .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener));
    let other = tokio::spawn(other);
    let root = Root::new();
    setup.write("tls/root.pem", &root.pem());
    let agent = setup.start().await;
    agent.ready().await;
    let files = agent.path("var/run/secrets/credential-uds/files-socket");
    let mut stream = Asking::for_secret(&files, "file-root:tls/root.pem").await;
    assert_eq!(roots(stream.take().await).0, root.pem());
    let mut stream = Asking::for_secret(&files, "default").await;
    assert_eq!(stream.refusal().await.code(), Code::InvalidArgument);
    assert!(agent.admin("/clusters").await.contains("sds-files-grpc::"));
    other.abort();
}

/// Whatever is waited for before Envoy starts, SIGTERM ends it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_waits_for_roots_can_be_ended() {
    // Somebody else has the identity, so Pilot is asked with a token, by roots that are not there yet.
    let pilot = super::pilot::Pilot::plain().await;
    let setup = Setup::new().pilots(&[pilot.address.to_string()]);
    let folder = setup.root.path().to_owned();
    let socket = folder.join("var/run/secrets/workload-spiffe-uds/socket");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = tonic::transport::Server::builder()
        .add_service(envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer::new(pilot.clone()))
        .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener));
    let other = tokio::spawn(other);
    let mut agent = setup.begin();
    agent
        .until("it waits", async || {
            agent.logs().contains("roots cannot be read; waiting")
        })
        .await;
    agent.signal("TERM");
    assert_eq!(agent.ended().await.code(), Some(0));
    assert!(!agent.logs().contains("Envoy is started"));
    assert!(socket.exists());
    other.abort();
}

/// Case 28: what is no socket is not deleted; another name without a server is an error.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_are_none_stop_the_agent() {
    let setup = Setup::new().pilots(&["http://127.0.0.1:1".into()]);
    let path = setup
        .root
        .path()
        .join("var/run/secrets/workload-spiffe-uds/socket");
    setup.write("var/run/secrets/workload-spiffe-uds/socket", "precious");
    let kept = tempfile::tempdir().unwrap();
    let link = kept.path().join("link");
    std::fs::hard_link(&path, &link).unwrap();
    let told = setup.refused().await;
    assert!(told.contains("is no socket; it stays"), "{told}");
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "precious");

    let told = Setup::new()
        .pilots(&["http://127.0.0.1:1".into()])
        .var("WORKLOAD_IDENTITY_SOCKET_FILE", "other")
        .refused()
        .await;
    assert!(told.contains("nobody answers there"), "{told}");
}

/// Case 29: a chain without roots is an error, tried again; a refusal is not tried again at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_refuses_is_asked_again_later() {
    let authority = Authority::start().await;
    let pilot = chain::pilot(&authority).await;
    authority.leave_roots_out(true);
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .start()
        .await;
    agent
        .until("a chain without roots is refused", async || {
            agent.logs().contains("answered with 1 certificates")
        })
        .await;
    authority.leave_roots_out(false);
    let mut stream = Asking::for_secret(&agent.secrets(), "default").await;
    pair(stream.take().await);
    drop(agent);

    authority.refuse(Some(Code::Unauthenticated));
    let before = authority.asked();
    let agent = Setup::new()
        .with_authority(&authority)
        .pilots(&[pilot.address.to_string()])
        .start()
        .await;
    agent
        .until("the refusal is told", async || {
            agent.logs().contains("the authority refuses")
        })
        .await;
    assert_eq!(authority.asked(), before + 1);
    authority.refuse(None);
    let mut stream = Asking::for_secret(&agent.secrets(), "default").await;
    pair(stream.take().await);
}
