//! Who signs: a key, its certificate, the chain to a root, and the roots.

mod error;

use std::net::IpAddr;

use mesh_types::{SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, DnsName};
use time::{Duration, OffsetDateTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use crate::bundle::Bundle;
use crate::certificate::{self, Certificate};
use crate::key::{KeyError, KeyType, PrivateKey};
use crate::lint::{self, Lint, lint_ca};
use crate::public_key::PublicKey;
use crate::serial::Serial;
use crate::template::{Issuer, Name, Purpose, Template};
use crate::verify::unix_time;

pub use error::{AuthorityError, IssueError};

/// How far before `now` a certificate begins, for clocks that are slow. Source: Istio's `ClockSkewGracePeriod`.
pub const BACKDATE: Duration = Duration::minutes(2);

/// Life of a self-signed root. Source: `CITADEL_SELF_SIGNED_CA_CERT_TTL`.
pub const ROOT_LIFE: Duration = Duration::days(3650);

/// A signer that was checked: its key and certificate belong together, and what it signs is trusted by whoever has its roots.
///
/// Its `Debug` shows no key.
#[derive(Debug, Clone)]
pub struct Authority {
    key: PrivateKey,
    certificate: Certificate,
    /// From the certificate that signs leaves up to below the root; empty if a root signs them.
    chain: Vec<Certificate>,
    roots: Bundle,
    chain_not_after: OffsetDateTime,
}

/// What a signer is made of, as it was read.
#[derive(Debug, Clone)]
pub struct Material {
    /// Key of the signing certificate. Source: `ca-key.pem`.
    pub key: PrivateKey,
    /// The signing certificate. Source: `ca-cert.pem`.
    pub certificate: Certificate,
    /// Certificates on the way to a root, in any order; the signing certificate and roots may be among them. Source: `cert-chain.pem`.
    pub chain: Vec<Certificate>,
    /// The roots. Source: `root-cert.pem`.
    pub roots: Vec<Certificate>,
}

/// What a leaf shall be.
#[derive(Debug, Clone)]
pub struct LeafRequest<'a> {
    /// Whose it is.
    pub id: &'a SpiffeId,
    /// The key it is of.
    pub public_key: &'a PublicKey,
    /// How long from now on.
    pub ttl: Duration,
    /// Host names and addresses beside the identity: for servers of the control plane, which are called by name too.
    pub names: &'a [String],
    /// Whether its subject shall have a common name: the identity, if that has at most 64 bytes. Source: `PKCS#10` with one, and dual use on.
    pub common_name: bool,
}

impl Authority {
    /// Checks material and makes a signer of it.
    ///
    /// The key must match the certificate, which must be a CA, within its validity, and lead to one of the roots through certificates of the
    /// chain: shown by a leaf of the trust domain that is signed for the purpose and validated as a client would.
    pub fn new(
        material: Material,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Authority, AuthorityError> {
        let Material {
            key,
            certificate,
            chain,
            roots,
        } = material;
        if certificate.public_key() != Some(key.public_key()) {
            return Err(AuthorityError::KeyMismatch);
        }
        check_key_type(key.key_type())?;
        if !certificate.is_ca() {
            return Err(AuthorityError::NotCa);
        }
        if !certificate.may_sign_certificates() {
            return Err(AuthorityError::MayNotSign);
        }
        for one in std::iter::once(&certificate).chain(&chain) {
            check_validity(one, now)?;
        }
        let mut authority = Authority {
            chain_not_after: certificate.not_after(),
            key,
            certificate,
            chain: Vec::new(),
            roots: Bundle::new(roots)?,
        };
        authority.find_chain(&chain, trust_domain, now)?;
        Ok(authority)
    }

    /// A new root that signs leaves itself. Organization: the trust domain; its common name tells roots of different keys apart.
    ///
    /// `life` counts from `now`; [`ROOT_LIFE`] is the default elsewhere.
    pub fn self_signed(
        key: PrivateKey,
        trust_domain: &TrustDomain,
        life: Duration,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Authority, AuthorityError> {
        Authority::root(key, trust_domain, now - BACKDATE, life, serial, now)
    }

    fn root(
        key: PrivateKey,
        trust_domain: &TrustDomain,
        not_before: OffsetDateTime,
        life: Duration,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Authority, AuthorityError> {
        check_key_type(key.key_type())?;
        let not_after = now
            .checked_add(life)
            .filter(|end| *end > now && end.year() <= 9999)
            .ok_or(AuthorityError::Lint(vec![Lint::Validity]))?;
        let id = key.public_key().key_id()[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"));
        let template = Template {
            serial,
            not_before,
            not_after,
            // The longest that X.520 allows.
            organization: Some(trust_domain.as_str().chars().take(64).collect()),
            common_name: Some(format!("root {}", id.collect::<String>())),
            names: Vec::new(),
            purpose: Purpose::Authority { path_len: None },
            public_key: key.public_key().clone(),
        };
        let issuer = Issuer {
            name: &template.subject(),
            key_id: key.public_key().key_id(),
        };
        let content = template.encode(&issuer, &key.signature_algorithm());
        let certificate = Certificate::from_der(&key.envelope(&content)?)?;
        lint_ca(certificate.der()).map_err(AuthorityError::Lint)?;
        let material = Material {
            key,
            roots: vec![certificate.clone()],
            certificate,
            chain: Vec::new(),
        };
        Authority::new(material, trust_domain, now)
    }

    /// The same root with the same key and a new life: what the old one signed verifies with the new one, and the other way round.
    ///
    /// It begins when the old one did: a clock that was ahead, and goes back, does not leave a root that is not valid yet.
    pub fn reissue(
        &self,
        trust_domain: &TrustDomain,
        life: Duration,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Authority, AuthorityError> {
        let not_before = self.certificate.not_before().min(now - BACKDATE);
        Authority::root(
            self.key.clone(),
            trust_domain,
            not_before,
            life,
            serial,
            now,
        )
    }

    /// A certificate for another authority below this one, which signs leaves only. It ends no later than this one.
    pub fn issue_intermediate(
        &self,
        public_key: &PublicKey,
        common_name: &str,
        ttl: Duration,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Certificate, IssueError> {
        let (not_before, not_after) = self.validity(ttl, now)?;
        let certificate = self.sign(&Template {
            serial,
            not_before,
            not_after,
            organization: None,
            common_name: Some(common_name.chars().take(64).collect()),
            names: Vec::new(),
            purpose: Purpose::Authority { path_len: Some(0) },
            public_key: public_key.clone(),
        })?;
        lint_ca(certificate.der()).map_err(IssueError::Lint)?;
        Ok(certificate)
    }

    /// What a leaf will say: valid from two minutes ago until `ttl` from now, but never longer than the signer.
    pub fn template(
        &self,
        request: &LeafRequest<'_>,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Template, IssueError> {
        if request.id.is_trust_domain() {
            return Err(IssueError::TrustDomain);
        }
        let (not_before, not_after) = self.validity(request.ttl, now)?;
        let mut names = vec![Name::Uri(request.id.clone())];
        for name in request.names {
            names.push(if let Ok(ip) = name.parse::<IpAddr>() {
                Name::Ip(ip)
            } else if DnsName::try_from(name.as_str()).is_ok() {
                Name::Dns(name.clone())
            } else {
                return Err(IssueError::Name(name.clone()));
            });
        }
        let common_name = request
            .common_name
            .then(|| request.id.to_string())
            .filter(|text| text.len() <= 64);
        Ok(Template {
            serial,
            not_before,
            not_after,
            organization: None,
            common_name,
            names,
            purpose: Purpose::Leaf,
            public_key: request.public_key.clone(),
        })
    }

    /// Signs a template as it is.
    pub fn sign(&self, template: &Template) -> Result<Certificate, IssueError> {
        Ok(Certificate::from_der(&self.signed(template)?)?)
    }

    /// The signed template in DER.
    fn signed(&self, template: &Template) -> Result<Vec<u8>, KeyError> {
        let issuer = Issuer::of(&self.certificate, self.key.public_key());
        let content = template.encode(&issuer, &self.key.signature_algorithm());
        self.key.envelope(&content)
    }

    /// Template, signature and [`lint_leaf`](crate::lint_leaf) in one.
    pub fn issue(
        &self,
        request: &LeafRequest<'_>,
        serial: Serial,
        now: OffsetDateTime,
    ) -> Result<Certificate, IssueError> {
        let leaf = self.signed(&self.template(request, serial, now)?)?;
        // Read once, for both.
        let parsed = certificate::parse(&leaf)?;
        lint::check(&parsed, true).map_err(IssueError::Lint)?;
        Ok(Certificate::of(&parsed, &leaf)?)
    }

    fn validity(
        &self,
        ttl: Duration,
        now: OffsetDateTime,
    ) -> Result<(OffsetDateTime, OffsetDateTime), IssueError> {
        if self.certificate.not_after() <= now {
            return Err(IssueError::SignerExpired(self.certificate.not_after()));
        }
        if ttl <= Duration::ZERO {
            return Err(IssueError::Lifetime);
        }
        let end = now.checked_add(ttl).ok_or(IssueError::Lifetime)?;
        Ok((now - BACKDATE, end.min(self.certificate.not_after())))
    }

    /// What a client is answered: the leaf, each certificate up to below the root, and last all roots in one text. Source:
    /// `IstioCertificateResponse.cert_chain`.
    pub fn response(&self, leaf: &Certificate) -> Vec<String> {
        let chain = std::iter::once(leaf).chain(&self.chain);
        chain
            .map(Certificate::to_pem)
            .chain([self.roots.to_pem()])
            .collect()
    }

    /// The signing key.
    pub(crate) fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The signing key, for whoever keeps it.
    pub fn private_key(&self) -> &PrivateKey {
        &self.key
    }

    /// The signing certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What is sent after a leaf, up to below the root; empty if a root signs.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The roots that come with it.
    pub fn roots(&self) -> &Bundle {
        &self.roots
    }

    /// The same signer with other roots, which must still trust it.
    pub fn with_roots(
        &self,
        roots: Vec<Certificate>,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Authority, AuthorityError> {
        let material = Material {
            key: self.key.clone(),
            certificate: self.certificate.clone(),
            chain: self.chain.clone(),
            roots,
        };
        Authority::new(material, trust_domain, now)
    }

    /// When the first certificate of the way from leaf to root ends, the root's included: the bound of the default life of leaves.
    pub fn chain_not_after(&self) -> OffsetDateTime {
        self.chain_not_after
    }

    /// Signs a leaf, validates it as a client would, and keeps the way that was found.
    fn find_chain(
        &mut self,
        chain: &[Certificate],
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<(), AuthorityError> {
        let untrusted = |error: webpki::Error| AuthorityError::Untrusted(error.to_string());
        let id = SpiffeId::new(trust_domain.clone(), "/probe")
            .map_err(|error| AuthorityError::Untrusted(error.to_string()))?;
        let probe = self
            .sign(&Template {
                serial: Serial::from_random([1; 16]),
                not_before: now - BACKDATE,
                not_after: now + BACKDATE,
                organization: None,
                common_name: None,
                names: vec![Name::Uri(id)],
                purpose: Purpose::Leaf,
                public_key: self.key.public_key().clone(),
            })
            .map_err(|error| AuthorityError::Untrusted(error.to_string()))?;
        let between: Vec<CertificateDer<'_>> = std::iter::once(&self.certificate)
            .chain(chain)
            .filter(|one| !self.roots.contains(one))
            .map(|one| one.der().clone())
            .collect();
        let end = EndEntityCert::try_from(probe.der()).map_err(untrusted)?;
        let path = end
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                self.roots.anchors(),
                &between,
                unix_time(now),
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(untrusted)?;
        let mut way = Vec::new();
        for step in path.intermediate_certificates() {
            way.push(Certificate::from_der(&step.der())?);
        }
        let anchor = webpki::spki_for_anchor(path.anchor());
        let roots = self.roots.roots().iter();
        let root_end = roots
            .filter(|root| root.spki_der() == anchor.as_ref())
            .map(Certificate::not_after)
            .max();
        let Some(root) = root_end else {
            return Err(AuthorityError::Untrusted("the root is lost".into()));
        };
        // The path validation trusts a root whatever its dates are.
        if root <= now {
            let roots = self.roots.roots().iter();
            let expired = roots
                .filter(|root| root.spki_der() == anchor.as_ref())
                .max_by_key(|root| root.not_after());
            if let Some(expired) = expired {
                check_validity(expired, now)?;
            }
        }
        let ends = way.iter().map(Certificate::not_after);
        self.chain_not_after = ends.fold(self.certificate.not_after().min(root), Ord::min);
        self.chain = way;
        Ok(())
    }
}

fn check_key_type(key_type: KeyType) -> Result<(), AuthorityError> {
    match key_type {
        KeyType::EcP256 | KeyType::EcP384 | KeyType::Rsa(_) => Ok(()),
        KeyType::Ed25519 => Err(AuthorityError::KeyType(key_type.to_string())),
    }
}

fn check_validity(certificate: &Certificate, now: OffsetDateTime) -> Result<(), AuthorityError> {
    let subject = || certificate.subject().to_owned();
    if certificate.not_after() <= now {
        return Err(AuthorityError::Expired {
            subject: subject(),
            not_after: certificate.not_after(),
        });
    }
    if certificate.not_before() > now {
        return Err(AuthorityError::NotYetValid {
            subject: subject(),
            not_before: certificate.not_before(),
        });
    }
    Ok(())
}
