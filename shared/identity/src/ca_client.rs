//! Asking a certificate authority to sign, in the words of `istio.v1.auth`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::istio::ca::IstioCertificateRequest;
use mesh_api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_types::TrustDomain;
use service_kit::tls::{
    self, Channel, ClientTls, ConnectError, ServerId, TlsIdentity, TlsSettings, Trust, read_trust,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use zeroize::Zeroizing;

use crate::folder;

/// Most calls for one signature.
const ATTEMPTS: u32 = 6;
/// Delay before the second call; doubles, a tenth more or less.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest token that is sent. Unit: bytes.
const MAX_TOKEN: usize = 16 << 10;
/// Largest answer. Unit: bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Where an authority is, and how it is known.
#[derive(Clone, Debug)]
pub struct CaClient {
    endpoint: Endpoint,
    server: ServerId,
    trust_domain: TrustDomain,
    roots: Option<PathBuf>,
    settings: TlsSettings,
    metadata: MetadataMap,
    observer: Option<Observer>,
}

/// One call for a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which one for the same signature; 1 is the first.
    pub attempt: u32,
    /// How long it took.
    pub took: Duration,
    /// Whether there is no certificate.
    pub failed: bool,
}

/// Who is told of each call.
#[derive(Clone)]
struct Observer(Arc<dyn Fn(Call) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// What shows the authority who asks.
#[derive(Clone)]
pub enum Credential {
    /// A token in a file, read for each call: whoever keeps it may replace it. Without the file, or with an empty one, nothing is shown.
    TokenFile(PathBuf),
    /// A token.
    Token(Zeroizing<String>),
    /// A certificate in a folder (see [`folder`]), read for each call.
    Folder(PathBuf),
    /// A certificate.
    Certificate(Arc<TlsIdentity>),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::TokenFile(path) => write!(f, "token in {}", path.display()),
            Credential::Token(_) => f.write_str("token"),
            Credential::Folder(path) => write!(f, "certificate in {}", path.display()),
            Credential::Certificate(_) => f.write_str("certificate"),
        }
    }
}

/// What was signed, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The leaf, and those that lead to a root.
    pub chain: String,
    /// All roots.
    pub roots: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The roots for the connection are not there, or cannot be read.
    #[error("the authority's root certificates: {0}")]
    Roots(String),
    /// What should show who we are cannot be read.
    #[error("what shows who we are: {0}")]
    Credential(String),
    /// It was not reached, or could not. Worth another try, later.
    #[error("{0}")]
    Unavailable(String),
    /// It does not want to. Another try shows nothing new.
    #[error("the authority refuses: {message} ({code:?})")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// It answered something that is no chain.
    #[error("the authority answered with {0} certificates, want at least a leaf and the roots")]
    Short(usize),
}

impl SignError {
    /// Whether the same call may succeed at another time.
    fn passes(&self) -> bool {
        match self {
            SignError::Unavailable(_) | SignError::Short(_) => true,
            SignError::Roots(_) | SignError::Credential(_) | SignError::Refused { .. } => false,
        }
    }
}

impl CaClient {
    /// A client of the authority at `address` (`host:port`), which must be `server`. Connects when it is used.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(
        address: &str,
        server: ServerId,
        trust_domain: TrustDomain,
    ) -> Result<CaClient, ConnectError> {
        Ok(CaClient {
            endpoint: tls::endpoint(address)?,
            server,
            trust_domain,
            roots: None,
            settings: TlsSettings::default(),
            metadata: MetadataMap::new(),
            observer: None,
        })
    }

    /// With a file of root certificates, for when nothing better is known. Read anew for each connection.
    #[must_use]
    pub fn with_roots(mut self, file: PathBuf) -> CaClient {
        self.roots = Some(file);
        self
    }

    /// With these versions and ciphers.
    #[must_use]
    pub fn with_settings(mut self, settings: TlsSettings) -> CaClient {
        self.settings = settings;
        self
    }

    /// Sends a header with each call, such as `clusterid`.
    ///
    /// # Errors
    /// Name or value cannot be sent.
    pub fn with_header(mut self, name: &str, value: &str) -> Result<CaClient, String> {
        let wrong = || format!("{name}: {value} is no header");
        let key = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
        let key = key.map_err(|_| wrong())?;
        let value: AsciiMetadataValue = value.parse().map_err(|_| wrong())?;
        self.metadata.insert(key, value);
        Ok(self)
    }

    /// Tells `observer` of each call for a signature, for metrics.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Fn(Call) + Send + Sync + 'static) -> CaClient {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// The address.
    pub fn address(&self) -> String {
        let uri = self.endpoint.uri();
        uri.authority()
            .map_or_else(String::new, ToString::to_string)
    }

    /// Asks for a certificate of the key in `csr` (PKCS#10 in PEM) for `ttl`. `known` is whom we believe already; without it, and every
    /// other time in case it is outdated, the file of roots counts.
    ///
    /// Tries up to six times if there may be an answer another time, over another connection each.
    ///
    /// # Errors
    /// See [`SignError`].
    pub async fn sign(
        &self,
        csr: &str,
        ttl: Duration,
        credential: &Credential,
        known: Option<&Arc<Trust>>,
    ) -> Result<Issued, SignError> {
        let mut delay = FIRST_DELAY;
        for attempt in 1.. {
            let began = Instant::now();
            let outcome = match self.trust(known, attempt).await {
                Ok(trust) => self.try_sign(csr, ttl, credential, trust).await,
                Err(error) => Err(error),
            };
            if let Some(Observer(observer)) = &self.observer {
                observer(Call {
                    attempt,
                    took: began.elapsed(),
                    failed: outcome.is_err(),
                });
            }
            let error = match outcome {
                Ok(issued) => return Ok(issued),
                Err(error) => error,
            };
            if attempt == ATTEMPTS || !error.passes() {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "no certificate, trying again");
            let share = rand::RngExt::random_range(&mut rand::rng(), 0.9..=1.1);
            tokio::time::sleep(delay.mul_f64(share)).await;
            delay *= 2;
        }
        unreachable!("the loop ends with the last attempt")
    }

    /// Whom to believe in the given attempt: what is known and the file take turns, since either may be outdated.
    pub(crate) async fn trust(
        &self,
        known: Option<&Arc<Trust>>,
        attempt: u32,
    ) -> Result<Arc<Trust>, SignError> {
        match known {
            Some(known) if attempt % 2 == 1 => Ok(known.clone()),
            Some(known) => Ok(self.file_trust().await.unwrap_or_else(|_| known.clone())),
            None => self.file_trust().await,
        }
    }

    async fn try_sign(
        &self,
        csr: &str,
        ttl: Duration,
        credential: &Credential,
        trust: Arc<Trust>,
    ) -> Result<Issued, SignError> {
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            metadata: None,
        });
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(PATIENCE);
        let mut client: ClientTls = trust.clone().into();
        match credential {
            Credential::TokenFile(path) => {
                if let Some(token) = token(path).await? {
                    request
                        .metadata_mut()
                        .insert("authorization", bearer(&token)?);
                }
            }
            Credential::Token(token) => {
                request
                    .metadata_mut()
                    .insert("authorization", bearer(token)?);
            }
            Credential::Folder(path) => {
                let path = path.clone();
                let identity = blocking(move || folder::read(&path)?.identity_with(trust)).await;
                client = only(identity.map_err(SignError::Credential)?);
            }
            Credential::Certificate(identity) => client = only(identity.with_trust(trust)),
        }
        let channel = self.channel(client);
        let mut client =
            IstioCertificateServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        let answer = tokio::time::timeout(PATIENCE, client.create_certificate(request))
            .await
            .map_err(|_| SignError::Unavailable(format!("{} does not answer", self.address())))?
            .map_err(|status| self.explain(&status))?;
        let mut chain = answer.into_inner().cert_chain;
        if chain.len() < 2 {
            return Err(SignError::Short(chain.len()));
        }
        let roots = chain.pop().unwrap_or_default();
        Ok(Issued {
            chain: lines(&chain),
            roots,
        })
    }

    /// A channel to the authority, for other services of it.
    pub(crate) fn channel(&self, client: ClientTls) -> Channel {
        let client = client.with_settings(self.settings.clone());
        tls::connect_with(self.endpoint.clone(), client, self.server.clone())
    }

    /// The roots in the file.
    async fn file_trust(&self) -> Result<Arc<Trust>, SignError> {
        let Some(path) = self.roots.clone() else {
            return Err(SignError::Roots("none are known".into()));
        };
        let domain = self.trust_domain.clone();
        let read = blocking(move || {
            let text = folder::read_file(&path)?.ok_or_else(|| {
                let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
                folder::FolderError::Io {
                    path: path.clone(),
                    error: missing,
                }
            })?;
            Ok(Arc::new(read_trust(domain, &text, "")?))
        });
        read.await.map_err(SignError::Roots)
    }

    /// What a status means, with what lies behind it.
    pub(crate) fn explain(&self, status: &Status) -> SignError {
        let transport = std::error::Error::source(status);
        let message = match transport {
            Some(cause) => service_kit::tasks::chain(cause),
            None => status.message().to_owned(),
        };
        let passes = matches!(
            status.code(),
            Code::Cancelled
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::Internal
                | Code::Unavailable
        );
        if passes || transport.is_some() {
            SignError::Unavailable(format!("{}: {message}", self.address()))
        } else {
            SignError::Refused {
                code: status.code(),
                message,
            }
        }
    }
}

/// A client that shows this identity.
fn only(identity: TlsIdentity) -> ClientTls {
    // The value outlives its sender.
    let (_, receiver) = watch::channel(Some(Arc::new(identity)));
    receiver.into()
}

fn lines(blocks: &[String]) -> String {
    blocks
        .iter()
        .map(|block| format!("{}\n", block.trim_end()))
        .collect()
}

fn bearer(token: &str) -> Result<AsciiMetadataValue, SignError> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value: AsciiMetadataValue = text
        .parse()
        .map_err(|_| SignError::Credential("the token has characters that no token has".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token in a file; `None` if there is none, or nothing in it.
pub(crate) async fn token(path: &Path) -> Result<Option<Zeroizing<String>>, SignError> {
    let path = path.to_owned();
    let text = blocking(move || folder::read_file(&path)).await;
    let text = text.map_err(SignError::Credential)?.map(Zeroizing::new);
    let token = text.map(|text| Zeroizing::new(text.trim().to_owned()));
    if token.as_ref().is_some_and(|token| token.len() > MAX_TOKEN) {
        return Err(SignError::Credential(
            "the token is longer than 16 KiB".into(),
        ));
    }
    Ok(token.filter(|token| !token.is_empty()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, folder::FolderError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("reading failed".into()),
    }
}
