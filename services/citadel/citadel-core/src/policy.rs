//! Who is asking: the decision of each authenticator, and how they follow each other.
//!
//! The order is client certificate, join token, JWT of the configured issuer, Kubernetes. The first that knows the caller wins; what the
//! others said is remembered for the log, and a caller hears none of it.

pub mod fetch;
pub mod impersonation;
pub mod jwks;
pub mod jwt;
pub mod kubernetes;
pub mod remembered;
pub mod token;

use std::fmt;

use mesh_types::{SpiffeId, TrustDomain, WorkloadId};

pub use token::{Bearer, JoinToken, Token, bearer};

/// How a caller showed who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attestation {
    /// A certificate of ours, shown in the TLS handshake.
    ClientCertificate,
    /// A one-time join token.
    JoinToken,
    /// A token of the configured issuer, verified with its keys.
    Jwt,
    /// A token that the Kubernetes API server vouches for.
    Kubernetes,
    /// Citadel itself asks, for its own certificate.
    Own,
}

impl Attestation {
    /// As the journal has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Attestation::ClientCertificate => "client-certificate",
            Attestation::JoinToken => "join-token",
            Attestation::Jwt => "jwt",
            Attestation::Kubernetes => "kubernetes",
            Attestation::Own => "own",
        }
    }
}

impl fmt::Display for Attestation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody whose identity is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is: what its certificate will say.
    pub identity: SpiffeId,
    /// How that was shown.
    pub attestation: Attestation,
    /// Who asks, for the journal: a SPIFFE ID, or the id of a join token.
    pub requester: String,
    /// Its node, if known.
    pub node: Option<String>,
    /// The pod its Kubernetes token is bound to.
    pub pod: Option<Pod>,
    /// Serial number of the certificate it showed, in lower-case hexadecimal.
    pub serial: Option<String>,
    /// Id of the join token it showed, to be used up.
    pub token: Option<String>,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its uid: a pod that was made again has another.
    pub uid: String,
}

/// Why an authenticator does not know the caller. For the log: never holds a token or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than one bearer token.
    #[error("more than one bearer token came along")]
    Bearers,
    /// A token that no token can be.
    #[error("the bearer token is empty, longer than 16 KiB, or no printable text")]
    BearerText,
    /// The prefix of a join token, and something else after it.
    #[error("a join token that is none: want flotilla-join.ID.SECRET")]
    NoJoinToken,
    /// A join token that does not exist, was used, has expired, or has another secret.
    #[error("join token {0} is unknown, used up or expired")]
    JoinToken(String),
    /// A certificate of another trust domain.
    #[error("the certificate is of trust domain {0}, which is not ours")]
    ForeignCertificate(TrustDomain),
    /// An identity that is no workload's.
    #[error("{0} is the identity of no workload")]
    NoWorkload(SpiffeId),
    /// Not three parts of base64 and JSON.
    #[error("the token is no JWT")]
    NoJwt,
    /// An extension that must be understood, and is not.
    #[error("the JWT has critical extensions that are not known")]
    Critical,
    /// An algorithm that is not allowed: HMAC and `none` are among them.
    #[error("the JWT is signed with an algorithm that is not allowed")]
    Algorithm,
    /// No key of that name and kind.
    #[error("the issuer has published no key that the JWT could be signed with")]
    NoKey,
    /// The signature is wrong.
    #[error("the signature of the JWT is wrong")]
    Signature,
    /// Another issuer.
    #[error("the JWT is of another issuer")]
    Issuer,
    /// It would be good for ever.
    #[error("the JWT has no expiry")]
    NoExpiry,
    /// It was good.
    #[error("the JWT has expired")]
    Expired,
    /// It will be good.
    #[error("the JWT is not valid yet")]
    NotYet,
    /// It is for somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// Not `system:serviceaccount:NAMESPACE:NAME`.
    #[error("the token is of no service account")]
    NoServiceAccount,
    /// The API server does not know the token.
    #[error("the API server says that the token is not valid")]
    NotAuthenticated,
    /// The API server knows the caller, as something else than a service account.
    #[error("the caller is not in the group of service accounts")]
    Group,
    /// The API server's answer is none.
    #[error("the API server answered something else than a TokenReview")]
    NoReview,
    /// `clusterid` of a cluster that is not known.
    #[error("clusterid names a cluster that is not known")]
    Cluster,
    /// `clusterid` more than once.
    #[error("clusterid came more than once")]
    Clusters,
    /// The authenticator cannot work now; what is missing.
    #[error("{0}")]
    NotNow(String),
}

/// What was tried, and what came of it.
#[derive(Debug, Default)]
pub struct Attempts(Vec<(&'static str, Refusal)>);

impl Attempts {
    /// An authenticator did not know the caller.
    pub fn refused(&mut self, by: Attestation, why: Refusal) {
        self.0.push((by.as_str(), why));
    }

    /// The request itself is wrong, whoever looks at it.
    pub fn malformed(&mut self, why: Refusal) {
        self.0.push(("request", why));
    }

    /// Whether one of them could not work, so that asking again later may help.
    pub fn not_now(&self) -> bool {
        self.0
            .iter()
            .any(|(_, why)| matches!(why, Refusal::NotNow(_)))
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no certificate and no bearer token came along");
        }
        for (n, (by, why)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{by}: {why}")?;
        }
        Ok(())
    }
}

/// The caller that showed a certificate, already verified by the handshake: a workload of our trust domain.
///
/// # Errors
/// Another trust domain, or an identity that is no workload's.
pub fn certificate(
    identity: &SpiffeId,
    serial: String,
    trust_domain: &TrustDomain,
) -> Result<Caller, Refusal> {
    if identity.trust_domain() != trust_domain {
        return Err(Refusal::ForeignCertificate(identity.trust_domain().clone()));
    }
    let Some(workload) = identity.workload() else {
        return Err(Refusal::NoWorkload(identity.clone()));
    };
    // Spelt as configured, whatever the case of the old certificate.
    let identity = workload.in_domain(trust_domain.clone()).to_spiffe_id();
    Ok(Caller {
        requester: identity.to_string(),
        identity,
        attestation: Attestation::ClientCertificate,
        node: None,
        pod: None,
        serial: Some(serial),
        token: None,
    })
}

/// The caller that showed join token `id`, made for `identity` on `node` (empty: any).
///
/// # Errors
/// As [`certificate`]: the token is of a time when the trust domain had another name.
pub fn join(
    identity: &SpiffeId,
    id: String,
    node: String,
    trust_domain: &TrustDomain,
) -> Result<Caller, Refusal> {
    let caller = certificate(identity, String::new(), trust_domain)?;
    Ok(Caller {
        attestation: Attestation::JoinToken,
        requester: id.clone(),
        node: Some(node).filter(|node| !node.is_empty()),
        serial: None,
        token: Some(id),
        ..caller
    })
}

/// The workload of `system:serviceaccount:NAMESPACE:NAME`, exactly four parts.
fn service_account(subject: &str, trust_domain: &TrustDomain) -> Result<WorkloadId, Refusal> {
    let mut parts = subject.split(':');
    match (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        (Some("system"), Some("serviceaccount"), Some(namespace), Some(name), None) => {
            WorkloadId::new(trust_domain.clone(), namespace, name)
                .map_err(|_| Refusal::NoServiceAccount)
        }
        _ => Err(Refusal::NoServiceAccount),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::default()
    }

    /// Case 10, the rule itself.
    #[test]
    fn a_service_account_has_four_parts() {
        let id = |subject| service_account(subject, &domain()).map(|id| id.to_string());
        assert_eq!(
            id("system:serviceaccount:default:app").unwrap(),
            "spiffe://cluster.local/ns/default/sa/app"
        );
        for bad in [
            "",
            "system:serviceaccount",
            "system:serviceaccount:a",
            "system:serviceaccount:a:",
            "system:serviceaccount::b",
            "system:serviceaccount:a:b:c",
            "system:node:a:b",
            "user:serviceaccount:a:b",
            "system:serviceaccount:A/../b:c",
            "system:serviceaccount:a:b/sa/c",
        ] {
            assert_eq!(id(bad), Err(Refusal::NoServiceAccount), "{bad}");
        }
    }

    #[test]
    fn certificates_of_our_workloads_renew() {
        let ask = |id: &str| certificate(&SpiffeId::parse(id).unwrap(), "0a".into(), &domain());
        let caller = ask("spiffe://Cluster.local/ns/a/sa/b").unwrap();
        assert_eq!(
            caller.identity.to_string(),
            "spiffe://cluster.local/ns/a/sa/b"
        );
        assert_eq!(caller.serial.as_deref(), Some("0a"));
        assert!(matches!(
            ask("spiffe://other/ns/a/sa/b"),
            Err(Refusal::ForeignCertificate(_))
        ));
        assert!(matches!(
            ask("spiffe://cluster.local/a"),
            Err(Refusal::NoWorkload(_))
        ));
        assert!(matches!(
            ask("spiffe://cluster.local"),
            Err(Refusal::NoWorkload(_))
        ));
    }

    #[test]
    fn a_join_token_is_of_one_identity_and_maybe_of_a_node() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/a/sa/b").unwrap();
        let caller = join(&id, "01".into(), "n1".into(), &domain()).unwrap();
        assert_eq!(caller.identity, id);
        assert_eq!(
            (&*caller.requester, caller.token.as_deref()),
            ("01", Some("01"))
        );
        assert_eq!((caller.node.as_deref(), caller.serial), (Some("n1"), None));
        let other = TrustDomain::new("other").unwrap();
        assert!(join(&id, "01".into(), String::new(), &other).is_err());
    }

    #[test]
    fn the_log_hears_every_reason() {
        let mut attempts = Attempts::default();
        assert_eq!(
            attempts.to_string(),
            "no certificate and no bearer token came along"
        );
        attempts.refused(Attestation::Jwt, Refusal::Expired);
        assert!(!attempts.not_now());
        attempts.refused(
            Attestation::Kubernetes,
            Refusal::NotNow("the API server is away".into()),
        );
        assert!(attempts.not_now());
        assert_eq!(
            attempts.to_string(),
            "jwt: the JWT has expired; kubernetes: the API server is away"
        );
    }
}
