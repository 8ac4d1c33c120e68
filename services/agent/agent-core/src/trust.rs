//! Whom the workload trusts, of all that was told about it.

use std::collections::BTreeSet;

use mesh_api::citadel::TrustBundle;

use crate::secrets::{Trusted, read_roots};

/// What is known of whom to trust.
///
/// A bundle that has a number comes from Citadel, whichever way it took, and is the whole truth: a root that is not in it any more is trusted no
/// more. Without one, it is the authority's own root and what Istio's way of telling (PCDS) adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors {
    authority: Trusted,
    crl: Option<String>,
    pcds: BTreeSet<String>,
    bundle: Option<TrustBundle>,
}

/// A bundle that cannot be used; the one before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It holds no certificate.
    #[error("the bundle holds no certificate")]
    Empty,
    /// It is another domain's.
    #[error("the bundle is of trust domain {found:?}, want {want:?}")]
    Domain {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        want: String,
    },
    /// More than anybody needs.
    #[error("the bundle is larger than {MAX_BUNDLE} bytes")]
    TooLarge,
}

/// Largest bundle that is taken. Unit: bytes.
const MAX_BUNDLE: usize = 4 << 20;

impl Anchors {
    /// Roots and revocation lists that came with the certificate, in PEM. No roots leave what was there.
    pub fn set_authority(&mut self, roots: BTreeSet<String>, crls: BTreeSet<String>) {
        if !roots.is_empty() {
            let crls = crls.iter().filter(|crl| !crl.trim().is_empty());
            let crls = crls.map(|crl| line(crl)).collect();
            self.authority = Trusted { roots, crls };
        }
    }

    /// A revocation list that was mounted beside the control plane's root.
    pub fn set_crl(&mut self, crl: Option<String>) {
        self.crl = crl.filter(|crl| !crl.trim().is_empty());
    }

    /// Takes Citadel's bundle; whether anything is different now. An older one than is held changes nothing.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn set_bundle(&mut self, bundle: TrustBundle, domain: &str) -> Result<bool, BundleError> {
        if !bundle.trust_domain.is_empty() && bundle.trust_domain != domain {
            return Err(BundleError::Domain {
                found: bundle.trust_domain,
                want: domain.to_owned(),
            });
        }
        let texts = bundle.roots.iter().chain(&bundle.crls);
        if texts.map(String::len).sum::<usize>() > MAX_BUNDLE {
            return Err(BundleError::TooLarge);
        }
        read_roots(bundle.roots.join("\n").as_bytes()).map_err(|_| BundleError::Empty)?;
        let newer = self.bundle.as_ref().is_none_or(|held| {
            bundle.generation > held.generation
                || (bundle.generation == held.generation && *held != bundle)
        });
        if newer {
            self.bundle = Some(bundle);
        }
        Ok(newer)
    }

    /// Takes what Istio's control plane tells; an empty list means nothing more than the authority's root.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn set_pcds(&mut self, roots: &[String]) -> Result<(), BundleError> {
        if roots.iter().map(String::len).sum::<usize>() > MAX_BUNDLE {
            return Err(BundleError::TooLarge);
        }
        self.pcds = match roots {
            [] => BTreeSet::new(),
            _ => read_roots(roots.join("\n").as_bytes()).map_err(|_| BundleError::Empty)?,
        };
        Ok(())
    }

    /// Digest of the bundle in force; empty if there is none.
    pub fn digest(&self) -> &str {
        self.bundle.as_ref().map_or("", |bundle| &bundle.digest)
    }

    /// Fingerprint of the root that signs now, if that is known.
    pub fn signing(&self) -> Option<&str> {
        let signing = &self.bundle.as_ref()?.signing;
        (!signing.is_empty()).then_some(signing)
    }

    /// Whom to trust now. `None` while nothing is known, which is not "nobody".
    pub fn trusted(&self) -> Option<Trusted> {
        let (roots, mut crls): (BTreeSet<String>, BTreeSet<String>) = match &self.bundle {
            Some(bundle) => (
                read_roots(bundle.roots.join("\n").as_bytes()).unwrap_or_default(),
                bundle.crls.iter().map(|crl| line(crl)).collect(),
            ),
            None => (
                self.authority.roots.union(&self.pcds).cloned().collect(),
                self.authority.crls.clone(),
            ),
        };
        crls.extend(self.crl.as_deref().map(line));
        (!roots.is_empty()).then_some(Trusted { roots, crls })
    }
}

fn line(text: &str) -> String {
    format!("{}\n", text.trim_end())
}
