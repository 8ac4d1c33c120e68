//! From a request to a certificate, and to the line of the journal that tells of it.
//!
//! The steps are separate values: the life that is granted ([`Policy::life`]), the request that was checked ([`pki::csr::check`]), the
//! template, the signed certificate, its check by the linter ([`pki::Authority::issue`]), the journal's entry. Whoever calls [`issue`]
//! hands the certificate out only once the entry is kept.

use aws_lc_rs::digest;
use mesh_types::SpiffeId;
use pki::csr::{self, CsrError};
use pki::{Authority, IssueError, LeafRequest, Serial};
use time::{Duration, OffsetDateTime};

use crate::journal::{Entry, Event};
use crate::policy::Caller;
use crate::revocation;

/// How long certificates live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// If the request does not say.
    pub default_life: Duration,
    /// At most; who asks for more gets nothing.
    pub longest_life: Duration,
}

impl Policy {
    /// The life that a request for `seconds` is granted. Zero and less ask for the default, which is no longer than `chain_left`: what is
    /// left of the certificates above it.
    ///
    /// # Errors
    /// [`Refused::Life`] above the longest.
    pub fn life(&self, seconds: i64, chain_left: Duration) -> Result<Duration, Refused> {
        if seconds <= 0 {
            return Ok(self.default_life.min(chain_left.max(Duration::SECOND)));
        }
        // Compared as seconds: a number that no nanoseconds can hold is too long, not short.
        let life = Duration::seconds(seconds);
        if life > self.longest_life {
            return Err(Refused::Life(self.longest_life.whole_seconds()));
        }
        Ok(life)
    }
}

/// What is asked for, by whom.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The request in PEM, as it came.
    pub csr: &'a str,
    /// Seconds it shall live.
    pub seconds: i64,
    /// The signer it names; empty for the mesh's own.
    pub signer: &'a str,
    /// Who asks.
    pub caller: &'a Caller,
    /// Whom the certificate is for: the caller, or somebody it may ask for.
    pub identity: &'a SpiffeId,
    /// Host names beside it.
    pub hosts: &'a [String],
}

/// A certificate, not handed out yet.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf, intermediates, and last the trust bundle: PEM.
    pub chain: Vec<String>,
    /// What the journal keeps of it.
    pub entry: Entry,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No signer yet.
    #[error("the authority is not ready: it has no key yet")]
    NotReady,
    /// The request itself.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// It shall live too long; the longest, in seconds.
    #[error("the requested life is longer than the longest that is granted, {0} seconds")]
    Life(i64),
    /// A signer that nobody knows.
    #[error("there is no signer of that name")]
    Signer,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(IssueError),
}

/// What a client is told, as gRPC has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The request must change.
    InvalidArgument,
    /// Trying again may help.
    Internal,
}

impl Refused {
    /// Istio's word for it, in the metric.
    pub fn kind(&self) -> &'static str {
        match self {
            Refused::NotReady => "CA_NOT_READY",
            Refused::Csr(_) => "CSR_ERROR",
            Refused::Life(_) => "TTL_ERROR",
            Refused::Signer | Refused::Signing(_) => "CERT_GEN_ERROR",
        }
    }

    /// The code.
    pub fn status(&self) -> Status {
        match self {
            Refused::Csr(_) | Refused::Life(_) => Status::InvalidArgument,
            Refused::NotReady | Refused::Signer | Refused::Signing(_) => Status::Internal,
        }
    }

    /// What the client hears. What went wrong within is for the log.
    pub fn words(&self) -> String {
        match self {
            Refused::Signing(_) => "CSR signing error (signing failed)".to_owned(),
            Refused::NotReady | Refused::Csr(_) | Refused::Life(_) | Refused::Signer => {
                format!("CSR signing error ({self})")
            }
        }
    }

    /// Whether the CSR could not be read.
    pub fn is_parsing(&self) -> bool {
        matches!(
            self,
            Refused::Csr(CsrError::Pem(_) | CsrError::Malformed | CsrError::TooLong(_))
        )
    }
}

/// Whether a revocation keeps the caller from a certificate for `identity`.
pub fn revoked(
    revocations: &revocation::InForce,
    caller: &Caller,
    identity: &SpiffeId,
) -> Option<u64> {
    let identity = identity.to_string();
    let ask = |spiffe_id: &str| {
        revocations.refuses(revocation::Caller {
            spiffe_id,
            node: caller.node.as_deref().unwrap_or_default(),
            serial: caller.serial.as_deref().unwrap_or_default(),
        })
    };
    // A node agent that was taken back asks for nobody any more.
    ask(&identity).or_else(|| ask(&caller.identity.to_string()))
}

/// Signs a request. `bundle` is the trust bundle in PEM, all roots in one text; `random` makes the serial number.
///
/// # Errors
/// See [`Refused`].
pub fn issue(
    authority: &Authority,
    bundle: &str,
    request: Request<'_>,
    policy: Policy,
    random: [u8; 16],
    now: OffsetDateTime,
) -> Result<Issued, Refused> {
    if !request.signer.is_empty() {
        return Err(Refused::Signer);
    }
    let life = policy.life(request.seconds, authority.chain_not_after() - now)?;
    let csr = csr::check(request.csr)?;
    let leaf = LeafRequest {
        id: request.identity,
        public_key: &csr.public_key,
        ttl: life,
        names: request.hosts,
        common_name: csr.has_common_name,
    };
    let leaf = authority
        .issue(&leaf, Serial::at(now, random), now)
        .map_err(Refused::Signing)?;
    let caller = request.caller;
    let impersonated = *request.identity != caller.identity;
    let entry = Entry {
        serial: leaf.serial().to_string(),
        spiffe_id: request.identity.to_string(),
        requester: caller.requester.clone(),
        attestation: caller.attestation.as_str().to_owned(),
        node: caller.node.clone().unwrap_or_default(),
        not_after: leaf.not_after().unix_timestamp(),
        detail: if impersonated {
            "for a pod of its node"
        } else {
            ""
        }
        .to_owned(),
        issuer: issuer(authority),
        replaces: caller.serial.clone().unwrap_or_default(),
        ..Entry::new(now.unix_timestamp(), Event::Issued)
    };
    let mut chain: Vec<String> = std::iter::once(&leaf)
        .chain(authority.chain())
        .map(pki::Certificate::to_pem)
        .collect();
    chain.push(bundle.to_owned());
    Ok(Issued { chain, entry })
}

/// The journal's name of the key that signs.
pub fn issuer(authority: &Authority) -> String {
    issuer_of(authority.certificate())
}

/// The journal's name of the key of a signing certificate.
pub fn issuer_of(certificate: &pki::Certificate) -> String {
    let digest = digest::digest(&digest::SHA256, certificate.spki_der());
    crate::policy::token::hex(digest.as_ref())
}

#[cfg(test)]
mod tests;
