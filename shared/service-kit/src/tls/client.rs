//! The client's end: who we are, whom we believe, and who the server should be.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::SpiffeId;
use rustls::ClientConfig;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use pki::Use;

use super::{Identities, Refused, TlsSettings, Trust, trust, verifier};

/// How long a change of trust may take until every connection was looked at again.
const SPREAD: Duration = Duration::from_millis(500);

/// Who a client is and whom it believes, now and later.
#[derive(Clone, Debug)]
pub struct ClientTls {
    side: Side,
    settings: TlsSettings,
}

#[derive(Clone, Debug)]
enum Side {
    Watched(Identities),
    Anonymous(Arc<Trust>),
}

impl From<Identities> for ClientTls {
    /// With the newest certificate and trust for each new connection. As long as there is none, connections fail.
    fn from(identities: Identities) -> ClientTls {
        ClientTls {
            side: Side::Watched(identities),
            settings: TlsSettings::default(),
        }
    }
}

impl From<Arc<Trust>> for ClientTls {
    /// Without a certificate, for who has none yet.
    fn from(trust: Arc<Trust>) -> ClientTls {
        ClientTls {
            side: Side::Anonymous(trust),
            settings: TlsSettings::default(),
        }
    }
}

impl ClientTls {
    /// With other versions and ciphers than the default ones.
    #[must_use]
    pub fn with_settings(mut self, settings: TlsSettings) -> ClientTls {
        self.settings = settings;
        self
    }

    /// Whom we believe now; `None` while that is not known.
    pub fn trust(&self) -> Option<Arc<Trust>> {
        match &self.side {
            Side::Watched(identities) => identities.borrow().as_ref().map(|i| i.trust().clone()),
            Side::Anonymous(trust) => Some(trust.clone()),
        }
    }

    pub(super) fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        match &self.side {
            Side::Watched(identities) => identities
                .borrow()
                .as_ref()
                .map(|i| i.certified_key().clone()),
            Side::Anonymous(_) => None,
        }
    }

    /// Returns when a later trust refuses the server of a connection, with the reason. Never returns otherwise.
    pub(super) async fn refuses(
        &self,
        chain: Vec<CertificateDer<'static>>,
        server: ServerId,
    ) -> Refused {
        let Side::Watched(identities) = &self.side else {
            return std::future::pending().await;
        };
        refused_later(identities.clone(), |trust, now| {
            server.verify(trust, &chain, now)
        })
        .await
    }
}

/// Returns when a change of trust makes `check` fail. Never returns otherwise.
pub(super) async fn refused_later(
    mut identities: Identities,
    check: impl Fn(&Trust, UnixTime) -> Result<(), Refused>,
) -> Refused {
    let mut known = trust_of(&mut identities);
    // Checked once more at the start: the trust may have changed since the handshake.
    loop {
        if let Some(trust) = &known
            && let Err(refused) = check(trust, UnixTime::now())
        {
            return refused;
        }
        loop {
            if identities.changed().await.is_err() {
                return std::future::pending().await;
            }
            let next = trust_of(&mut identities);
            if next != known {
                known = next;
                break;
            }
        }
        // Connections are many, and need not all be looked at in the same moment.
        let share = rand::RngExt::random_range(&mut rand::rng(), 0.0..=1.0);
        tokio::time::sleep(SPREAD.mul_f64(share)).await;
    }
}

fn trust_of(identities: &mut Identities) -> Option<Arc<Trust>> {
    let newest = identities.borrow_and_update();
    newest.as_ref().map(|identity| identity.trust().clone())
}

/// Who a server must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerId {
    /// One of these, whatever name or address it was reached by.
    Spiffe(Arc<[SpiffeId]>),
    /// Whoever has this DNS name or IP address in its certificate, under a root of any trust domain.
    Name(ServerName<'static>),
}

impl ServerId {
    /// One SPIFFE ID.
    pub fn spiffe(id: SpiffeId) -> ServerId {
        ServerId::Spiffe([id].into())
    }

    /// A DNS name or IP address.
    ///
    /// # Errors
    /// It is neither.
    pub fn name(name: &str) -> Result<ServerId, String> {
        match ServerName::try_from(name.to_owned()) {
            Ok(name) => Ok(ServerId::Name(name)),
            Err(_) => Err(format!("{name:?} is neither a DNS name nor an IP address")),
        }
    }

    pub(super) fn verify(
        &self,
        trust: &Trust,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refused> {
        match self {
            ServerId::Name(name) => trust::verify_name(trust, chain, name, now),
            ServerId::Spiffe(ids) => {
                let id = trust::verify(trust, chain, Use::Server, now)?;
                if ids.contains(&id) {
                    return Ok(());
                }
                let wanted: Vec<String> = ids.iter().map(ToString::to_string).collect();
                Err(Refused::SomebodyElse {
                    found: id.to_string(),
                    wanted: wanted.join(" or "),
                })
            }
        }
    }
}

/// A configuration for a client of any protocol; give it ALPN names if the protocol wants some. It reads certificate and trust anew for
/// each connection, and resumes none, so that it may be kept for ever.
pub fn client_config(tls: impl Into<ClientTls>, server: ServerId) -> ClientConfig {
    let tls = tls.into();
    let settings = tls.settings.clone();
    verifier::config(tls, server, &settings)
}
