//! Asking a service's HTTP API, over TLS where we are somebody.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use identity::accounts;
use mesh_types::WorkloadId;
use serde::de::DeserializeOwned;
use service_kit::tls::{self, ClientTls, Identities, ServerId, TlsIdentity};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

/// Largest answer that is read. Unit: bytes.
const MAX_ANSWER: usize = 256 << 20;
/// Where `flotilla up` keeps the certificate of whoever operates its mesh.
const OPERATOR: &str = ".flotilla/operator";

/// Who we are.
#[derive(Debug, Clone, clap::Args)]
pub struct Access {
    /// Folder with our certificate (cert-chain.pem, key.pem, root-cert.pem), as `flotilla ca enroll` writes it; default .flotilla/operator, which `flotilla up` makes, if it is there
    #[arg(long, env = "FLOTILLA_IDENTITY", value_name = "DIR")]
    pub identity: Option<PathBuf>,

    /// Namespace of the control plane
    #[arg(
        long,
        alias = "istioNamespace",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    pub control_plane_namespace: String,
}

/// Where Pilot's API is.
#[derive(Debug, Clone, clap::Args)]
pub struct PilotAddress {
    /// Address of any Pilot's HTTP API; over TLS if we have a certificate, unless it begins with http://
    #[arg(
        long,
        env = "FLOTILLA_PILOT",
        value_name = "URL",
        default_value = "127.0.0.1:8080"
    )]
    pilot: String,

    #[command(flatten)]
    access: Access,
}

impl PilotAddress {
    /// The service.
    pub fn service(&self) -> anyhow::Result<Service> {
        self.access.service(&self.pilot, accounts::PILOT)
    }
}

/// Where Galley's API is.
#[derive(Debug, Clone, clap::Args)]
pub struct GalleyAddress {
    /// Address of Galley's HTTP API; over TLS if we have a certificate, unless it begins with http://
    #[arg(
        long,
        env = "FLOTILLA_GALLEY",
        value_name = "URL",
        default_value = "127.0.0.1:8081"
    )]
    galley: String,

    #[command(flatten)]
    access: Access,
}

impl GalleyAddress {
    /// The service.
    pub fn service(&self) -> anyhow::Result<Service> {
        self.access.service(&self.galley, accounts::GALLEY)
    }
}

impl Access {
    /// A service of the control plane that runs as an account.
    fn service(&self, address: &str, account: &str) -> anyhow::Result<Service> {
        let usual = Path::new(OPERATOR);
        let folder = match &self.identity {
            Some(folder) => Some(folder.as_path()),
            None if usual.join("key.pem").exists() => Some(usual),
            None => None,
        };
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let rest = rest.trim_end_matches('/');
        match (scheme, folder) {
            ("http", _) | ("", None) => Ok(Service::plain(format!("http://{rest}"))),
            ("https", None) => bail!(
                "{address} wants to know who we are: give a folder with a certificate by --identity; `flotilla ca enroll` makes one"
            ),
            ("" | "https", Some(folder)) => {
                let who = Who::read(folder)?;
                who.service(
                    format!("https://{rest}"),
                    &self.control_plane_namespace,
                    account,
                )
            }
            _ => bail!(
                "{address} is no address: write HOST:PORT, https://HOST:PORT or http://HOST:PORT"
            ),
        }
    }
}

/// Somebody with a certificate.
#[derive(Debug, Clone)]
pub struct Who {
    identity: Arc<TlsIdentity>,
}

impl Who {
    /// Reads the certificate of a folder.
    pub fn read(folder: &Path) -> anyhow::Result<Who> {
        let material = identity::folder::read(folder)
            .with_context(|| "--identity: `flotilla ca enroll` makes such a folder")?;
        Ok(Who {
            identity: Arc::new(material.identity()?),
        })
    }

    /// For channels and clients; nothing replaces it.
    pub fn identities(&self) -> Identities {
        watch::channel(Some(self.identity.clone())).1
    }

    /// Who an account of the control plane is.
    pub fn server(&self, namespace: &str, account: &str) -> anyhow::Result<ServerId> {
        let domain = self.identity.id().trust_domain().clone();
        let id = WorkloadId::new(domain, namespace, account)?;
        Ok(ServerId::spiffe(id.to_spiffe_id()))
    }

    /// A service at a URL.
    pub fn service(&self, base: String, namespace: &str, account: &str) -> anyhow::Result<Service> {
        tls::install_provider();
        let tls = ClientTls::from(self.identities());
        let config = tls::client_config(tls, self.server(namespace, account)?);
        Ok(Service {
            base,
            tls: Some(Arc::new(config)),
        })
    }
}

/// A service's API.
#[derive(Debug, Clone)]
pub struct Service {
    base: String,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Service {
    /// One without TLS.
    pub fn plain(base: String) -> Service {
        Service { base, tls: None }
    }

    /// Gets JSON; an error says what the service said.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.base);
        let (status, body) = self.fetch(&url, patience).await?;
        if !status.is_success() {
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let message = said["message"].as_str().map_or_else(
                || String::from_utf8_lossy(&body).into_owned(),
                str::to_owned,
            );
            bail!("{message} ({status} from {url})");
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("{url} answered something else than expected"))
    }

    async fn fetch(&self, url: &str, patience: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let answer = async {
            let authority = uri.authority().context("there is no host")?;
            let port = authority.port_u16();
            let port = port.unwrap_or(if self.tls.is_some() { 443 } else { 80 });
            let host = authority.host();
            let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
            let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
                .header(header::HOST, authority.as_str())
                .body(Empty::<Bytes>::new())?;
            match &self.tls {
                None => exchange(tcp, request).await,
                Some(config) => {
                    // Who it is, is in its certificate; the name is for the server's choice alone.
                    let name = rustls::pki_types::ServerName::try_from(host.to_owned())?;
                    let tls = TlsConnector::from(config.clone())
                        .connect(name, tcp)
                        .await?;
                    exchange(tls, request).await
                }
            }
        };
        tokio::time::timeout(patience, answer)
            .await
            .map_err(|_| anyhow!("{url} did not answer within {}s", patience.as_secs()))?
            .with_context(|| {
                format!("{url} cannot be reached; is it running, and is this its address?")
            })
    }
}

/// Gets text without TLS, with the status it came with.
pub async fn text(url: &str, patience: Duration) -> anyhow::Result<(u16, String)> {
    let nobody = Service::plain(String::new());
    let (status, body) = nobody.fetch(url, patience).await?;
    Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

async fn exchange<T>(io: T, request: Request<Empty<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| anyhow!("{error}"))?.to_bytes();
        Ok((status, body))
    };
    tokio::pin!(connection);
    tokio::select! {
        answer = answer => answer,
        // It drives the answer, which is ready first unless the connection broke.
        ended = &mut connection => match ended {
            Ok(()) => bail!("the connection ended"),
            Err(error) => Err(error.into()),
        },
    }
}
