//! Reaching the authority: over the socket in its data folder, or over TLS.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use hyper_util::rt::TokioIo;
use identity::accounts;
use mesh_api::citadel::operator_client::OperatorClient;
use mesh_types::SpiffeId;
use service_kit::tls::{self, ServerId};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Endpoint;

use crate::client::Who;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the authority is.
#[derive(Debug, Clone, clap::Args)]
pub struct Address {
    /// Socket of a Citadel on this machine: operator.sock in its data folder
    #[arg(
        long,
        env = "FLOTILLA_CA_SOCKET",
        value_name = "FILE",
        default_value = ".flotilla/citadel/operator.sock"
    )]
    ca_socket: PathBuf,

    /// Address of any Citadel, over TLS, instead of the socket
    #[arg(
        long,
        env = "FLOTILLA_CA_ADDR",
        value_name = "URL",
        requires = "identity"
    )]
    ca_addr: Option<String>,

    /// Folder with our certificate (cert-chain.pem, key.pem, root-cert.pem), as `flotilla ca enroll` writes it
    #[arg(long, env = "FLOTILLA_IDENTITY", value_name = "DIR")]
    identity: Option<PathBuf>,

    /// Who Citadel is; default the service account istio-citadel-service-account of istio-system in our trust domain
    #[arg(long, value_name = "ID", value_parser = SpiffeId::parse)]
    ca_id: Option<SpiffeId>,
}

/// A client over either way.
pub type Client = OperatorClient<Transport>;

/// Either way.
#[derive(Clone)]
pub enum Transport {
    /// The socket of this machine.
    Socket(tonic::transport::Channel),
    /// TLS.
    Tls(tls::Channel),
}

impl tower::Service<hyper::Request<Body>> for Transport {
    type Response = hyper::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = tonic::transport::channel::ResponseFuture;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        match self {
            Transport::Socket(channel) => tower::Service::poll_ready(channel, cx),
            Transport::Tls(channel) => tower::Service::poll_ready(channel, cx),
        }
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        match self {
            Transport::Socket(channel) => tower::Service::call(channel, request),
            Transport::Tls(channel) => tower::Service::call(channel, request),
        }
    }
}

impl Address {
    /// A client; says what to try if there is nobody.
    ///
    /// # Errors
    /// In words.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let transport = match (&self.ca_addr, &self.identity) {
            (Some(address), Some(folder)) => {
                let who = Who::read(folder)?;
                let citadel = match &self.ca_id {
                    Some(id) => ServerId::spiffe(id.clone()),
                    None => who.server("istio-system", accounts::CITADEL)?,
                };
                Transport::Tls(tls::connect(address, who.identities(), citadel)?)
            }
            _ => return over_socket(&self.ca_socket).await,
        };
        Ok(OperatorClient::new(transport))
    }

    /// An answer within a time, or what to try.
    ///
    /// # Errors
    /// What Citadel says, or that it says nothing.
    pub async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> anyhow::Result<T> {
        let late = || anyhow!("{} does not answer within 30s", self.who());
        match tokio::time::timeout(PATIENCE, answer).await {
            Err(_) => Err(late()),
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.explain(&status)),
        }
    }

    /// What a status means, and what to try.
    pub fn explain(&self, status: &Status) -> anyhow::Error {
        use tonic::Code;
        let who = self.who();
        let said = status.message();
        match status.code() {
            Code::Unavailable => anyhow!(
                "{who} cannot be reached: {}; is it running, and is this its address?",
                cause(status)
            ),
            Code::Unauthenticated => {
                anyhow!("{said}; give a folder with a certificate by --identity")
            }
            Code::PermissionDenied => anyhow!(
                "{said}; operators are named by --operators of citadel, viewers by --viewers"
            ),
            Code::Unknown | Code::Internal | Code::Cancelled if said.contains("transport") => {
                anyhow!("{who} ended the connection: {}", cause(status))
            }
            _ => anyhow!("{said}"),
        }
    }

    fn who(&self) -> String {
        match &self.ca_addr {
            Some(address) => format!("Citadel at {address}"),
            None => format!("Citadel at {}", self.ca_socket.display()),
        }
    }
}

/// The innermost reason, which says more than "transport error".
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        last = error.to_string();
        next = error.source();
    }
    last
}

/// A client of the Citadel whose socket this is.
///
/// # Errors
/// There is no socket, or nobody behind it.
pub async fn over_socket(path: &Path) -> anyhow::Result<Client> {
    Ok(OperatorClient::new(Transport::Socket(socket(path).await?)))
}

async fn socket(path: &Path) -> anyhow::Result<tonic::transport::Channel> {
    if !path.exists() {
        bail!(
            "there is no {}; give the operator.sock of Citadel's data folder by --ca-socket, or its address by --ca-addr",
            path.display()
        );
    }
    let path = path.to_owned();
    let shown = path.display().to_string();
    let dial = tower::service_fn(move |_: hyper::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The address is not used, but there must be one.
    let channel = Endpoint::from_static("http://citadel")
        .connect_with_connector(dial)
        .await;
    channel.map_err(|error| {
        anyhow!(
            "{shown}: {}; is Citadel running, and is this user its owner?",
            cause(&error)
        )
    })
}

/// Who Citadel is, if nobody says something else.
pub fn citadel_of(trust_domain: &mesh_types::TrustDomain) -> anyhow::Result<SpiffeId> {
    let text = format!("spiffe://{trust_domain}/ns/istio-system/sa/istio-citadel-service-account");
    Ok(SpiffeId::parse(&text)?)
}
