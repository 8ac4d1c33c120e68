//! Listeners that speak TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Extensions;
use parking_lot::Mutex;
use pki::{Certificate, Use, VerifyError, offset_time};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client::refused_later;
use super::handshakes::Handshakes;
use super::plaintext::{self, First};
use super::verifier::VerifyClients;
use super::{Identities, Peer, Refused, TlsIdentity, TlsSettings, trust};
use crate::serve::{accept_all, drive, spread};
use crate::{ServeConfig, Stop};

/// What a TLS listener wants of its clients, and what it is.
#[derive(Clone, Debug)]
pub struct TlsServer {
    /// Who we are. Connections that come before that is known wait for it, `handshake_timeout` at most.
    pub identity: Identities,
    /// Whether clients must show a certificate.
    pub clients: Clients,
    /// Versions and ciphers.
    pub settings: TlsSettings,
    /// How long a client may take from connecting to the end of its handshake. Default 5 s.
    pub handshake_timeout: Duration,
    /// Most handshakes under way; when there are as many, one that takes longer than 2 s makes room for another. Default 2048.
    pub max_handshakes: usize,
    /// A connection older than this is asked to leave, so that the client is verified again; a tenth more or less. If
    /// [`ServeConfig::max_age`] says something, that counts. Whatever it says, no connection outlives its client's certificate.
    /// Default 30 min.
    pub max_age: Duration,
}

/// Whether clients must show a certificate. One that is shown must be valid in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Who shows none is anonymous: there is no [`Peer`] with its requests.
    Optional,
    /// Who shows none does not get in.
    Required,
}

/// How old a handshake is when it may be ended for another one.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(2);

impl TlsServer {
    /// A listener with the defaults.
    pub fn new(identity: Identities, clients: Clients) -> TlsServer {
        TlsServer {
            identity,
            clients,
            settings: TlsSettings::default(),
            handshake_timeout: Duration::from_secs(5),
            max_handshakes: 2048,
            max_age: Duration::from_secs(30 * 60),
        }
    }
}

/// As [`serve`](crate::serve()), over TLS: HTTP/1 and HTTP/2 by ALPN on one port. Handlers find the client as [`Peer`], if it has a
/// certificate, and its address as `ConnectInfo<SocketAddr>`.
///
/// Every connection is made with the newest identity. When the trust changes, connections whose client it refuses end: at once if the
/// certificate was taken back, otherwise as if they were too old.
///
/// # Errors
/// None at present: a failing `accept` is retried. The type leaves room for it.
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    config: ServeConfig,
    tls: TlsServer,
    stop: Stop,
) -> io::Result<()> {
    let patience = HANDSHAKE_PATIENCE.min(tls.handshake_timeout);
    let shared = Arc::new(Shared {
        handshakes: Handshakes::new(tls.max_handshakes, patience),
        newest: Mutex::new(None),
        config,
        tls,
        stop: stop.clone(),
    });
    accept_all(listener, &shared.config, &stop, |tcp, peer| {
        let (shared, router) = (shared.clone(), router.clone());
        async move {
            if let Some(shaken) = shared.shake(tcp, peer).await {
                shared.serve(shaken, peer, router).await;
            }
        }
    })
    .await;
    Ok(())
}

struct Shared {
    config: ServeConfig,
    tls: TlsServer,
    stop: Stop,
    handshakes: Handshakes,
    /// The configuration of the newest identity: one each, so that no session outlives the trust it was made under.
    newest: Mutex<Option<(Arc<TlsIdentity>, Arc<ServerConfig>)>>,
}

/// A connection after its handshake.
struct Shaken {
    stream: TlsStream<TcpStream>,
    client: Option<Client>,
}

struct Client {
    peer: Peer,
    chain: Vec<CertificateDer<'static>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the client hung up before it said anything")]
    Closed,
    #[error("the client speaks plaintext")]
    Plaintext,
    #[error("the handshake took too long")]
    Slow,
    #[error("the handshake took long, and others wait")]
    Evicted,
    #[error("there is no certificate of ours yet")]
    NoIdentity,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("handshake: {0}")]
    Handshake(#[from] io::Error),
    #[error("cannot listen with this identity: {0}")]
    Config(#[from] rustls::Error),
}

impl Shared {
    /// The handshake, within its bounds.
    async fn shake(&self, tcp: TcpStream, peer: SocketAddr) -> Option<Shaken> {
        let bounded = timeout(self.tls.handshake_timeout, self.admitted(tcp));
        let outcome = tokio::select! {
            () = self.stop.wait() => return None,
            outcome = bounded => outcome.unwrap_or(Err(Failed::Slow)),
        };
        match outcome {
            Ok(shaken) => Some(shaken),
            Err(error @ (Failed::Config(_) | Failed::NoIdentity)) => {
                tracing::warn!(%peer, %error, "no TLS");
                None
            }
            // Anybody can make these happen as often as they like.
            Err(error) => {
                tracing::debug!(%peer, %error, "no TLS");
                None
            }
        }
    }

    async fn admitted(&self, tcp: TcpStream) -> Result<Shaken, Failed> {
        let place = self.handshakes.enter().await;
        tokio::select! {
            () = place.evicted() => Err(Failed::Evicted),
            outcome = self.handshake(tcp) => outcome,
        }
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<Shaken, Failed> {
        match plaintext::first(&tcp).await {
            First::Tls => {}
            First::Closed => return Err(Failed::Closed),
            first @ (First::Http1 | First::Http2) => {
                plaintext::refuse(tcp, first).await;
                return Err(Failed::Plaintext);
            }
        }
        let _ = tcp.set_nodelay(true);
        let (identity, config) = self.newest().await?;
        let stream = TlsAcceptor::from(config).accept(tcp).await?;
        let connection = stream.get_ref().1;
        let Some(chain) = connection.peer_certificates() else {
            return Ok(Shaken {
                stream,
                client: None,
            });
        };
        let chain: Vec<_> = chain.iter().map(|der| der.clone().into_owned()).collect();
        // Who resumes a session is not verified again by rustls, and time has passed.
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            trust::verify(identity.trust(), &chain, Use::Client, UnixTime::now())?;
        }
        let peer = peer_of(&chain)?;
        Ok(Shaken {
            stream,
            client: Some(Client { peer, chain }),
        })
    }

    /// The newest identity, waiting for the first one, and its configuration.
    async fn newest(&self) -> Result<(Arc<TlsIdentity>, Arc<ServerConfig>), Failed> {
        let mut identities = self.tls.identity.clone();
        let found = identities
            .wait_for(Option::is_some)
            .await
            .map_err(|_| Failed::NoIdentity)?
            .clone();
        let identity = found.ok_or(Failed::NoIdentity)?;
        let mut newest = self.newest.lock();
        if let Some((of, config)) = &*newest
            && Arc::ptr_eq(of, &identity)
        {
            return Ok((identity, config.clone()));
        }
        let config = Arc::new(server_config(&self.tls, &identity)?);
        *newest = Some((identity.clone(), config.clone()));
        Ok((identity, config))
    }

    async fn serve(&self, shaken: Shaken, addr: SocketAddr, router: Router) {
        let Shaken { stream, client } = shaken;
        let peer = client.as_ref().map(|client| client.peer.clone());
        let mark = move |extensions: &mut Extensions| {
            extensions.insert(ConnectInfo(addr));
            if let Some(peer) = &peer {
                extensions.insert(peer.clone());
            }
        };
        let age = spread(self.config.max_age.unwrap_or(self.tls.max_age));
        let age = client
            .as_ref()
            .map_or(age, |client| age.min(left(&client.peer)));
        let leave = async {
            tokio::select! {
                () = self.stop.wait() => None,
                () = sleep(age) => Some(self.config.max_age_grace),
                refused = self.refused(client.as_ref()) => {
                    tracing::info!(peer = %addr, error = %refused, "a client is asked to leave");
                    Some(match refused {
                        Refused::Revoked(_) => Duration::ZERO,
                        _ => self.config.max_age_grace,
                    })
                }
            }
        };
        drive(stream, addr, mark, router, &self.config, leave).await;
    }

    /// Returns when a later trust refuses the client.
    async fn refused(&self, client: Option<&Client>) -> Refused {
        let Some(client) = client else {
            return std::future::pending().await;
        };
        refused_later(self.tls.identity.clone(), |trust, now| {
            trust::verify(trust, &client.chain, Use::Client, now).map(|_| ())
        })
        .await
    }
}

/// How long a certificate is still valid.
fn left(peer: &Peer) -> Duration {
    let left = peer.certificate.not_after() - offset_time(UnixTime::now());
    left.try_into().unwrap_or_default()
}

fn peer_of(chain: &[CertificateDer<'_>]) -> Result<Peer, Refused> {
    let leaf = chain.first().ok_or(Refused::Missing)?;
    let certificate = Certificate::from_der(leaf).map_err(VerifyError::from)?;
    Ok(Peer {
        id: certificate.spiffe_id().map_err(VerifyError::from)?,
        certificate: Arc::new(certificate),
    })
}

/// Shows one certificate to everybody, whatever name they ask for.
#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn server_config(tls: &TlsServer, identity: &TlsIdentity) -> Result<ServerConfig, rustls::Error> {
    let verifier = VerifyClients {
        trust: identity.trust().clone(),
        required: tls.clients == Clients::Required,
    };
    let mut config = ServerConfig::builder_with_provider(tls.settings.provider())
        .with_protocol_versions(&tls.settings.versions())?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(OneKey(identity.certified_key().clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
