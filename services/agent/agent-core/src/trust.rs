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
    /// Generation that the authority itself told last.
    told: u64,
}

/// Who told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Citadel itself. An older generation than it told before is not late, but what counts: its ledger was set back.
    Authority,
    /// Pilot, which may lag behind.
    Pilot,
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

    /// Takes Citadel's bundle; whether anything is different now. An older one than is held changes nothing, unless Citadel itself went back.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn set_bundle(
        &mut self,
        bundle: TrustBundle,
        teller: Teller,
        domain: &str,
    ) -> Result<bool, BundleError> {
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
        let told = match teller {
            Teller::Authority => std::mem::replace(&mut self.told, bundle.generation),
            Teller::Pilot => 0,
        };
        let newer = self.bundle.as_ref().is_none_or(|held| {
            bundle.generation < told
                || bundle.generation > held.generation
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

#[cfg(test)]
mod tests {
    use super::*;
    use pki::{Authority, KeyType, PrivateKey, Serial};
    use time::macros::datetime;

    fn root(n: u8) -> String {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let (life, serial) = (time::Duration::days(1), Serial::from_random([n; 16]));
        let domain = "cluster.local".parse().unwrap();
        let now = datetime!(2026-01-01 0:00 UTC);
        let made = Authority::self_signed(key, &domain, life, serial, now).unwrap();
        made.roots().to_pem()
    }

    fn bundle(generation: u64, root: &str) -> TrustBundle {
        TrustBundle {
            trust_domain: "cluster.local".into(),
            generation,
            roots: vec![root.to_owned()],
            crls: vec!["list".to_owned()],
            signing: "f".into(),
            ..TrustBundle::default()
        }
    }

    fn set(
        anchors: &mut Anchors,
        bundle: TrustBundle,
        teller: Teller,
    ) -> Result<bool, BundleError> {
        anchors.set_bundle(bundle, teller, "cluster.local")
    }

    fn of(text: &str) -> BTreeSet<String> {
        [text.to_owned()].into()
    }

    #[test]
    fn without_a_bundle_the_authority_and_pcds_count_together() {
        let (a, b) = (root(1), root(2));
        let mut anchors = Anchors::default();
        assert_eq!(anchors.trusted(), None);
        anchors.set_authority(of(&a), of("\n"));
        anchors.set_pcds(std::slice::from_ref(&b)).unwrap();
        assert_eq!(anchors.set_pcds(&["x".into()]), Err(BundleError::Empty));
        anchors.set_authority(BTreeSet::new(), BTreeSet::new());
        let found = anchors.trusted().unwrap();
        assert_eq!(found.roots, [a, b].into());
        assert!(found.crls.is_empty());
    }

    #[test]
    fn a_bundle_is_the_whole_truth_and_the_newest_counts() {
        let (a, b, c) = (root(1), root(2), root(3));
        let mut anchors = Anchors::default();
        anchors.set_authority(of(&a), BTreeSet::new());
        anchors.set_crl(Some("mounted".into()));
        assert_eq!(set(&mut anchors, bundle(7, &b), Teller::Pilot), Ok(true));
        assert_eq!(
            set(&mut anchors, bundle(7, &b), Teller::Authority),
            Ok(false)
        );
        assert_eq!(set(&mut anchors, bundle(6, &c), Teller::Pilot), Ok(false));
        let found = anchors.trusted().unwrap();
        assert_eq!(found.roots, of(&b));
        let lists = ["list\n".to_owned(), "mounted\n".to_owned()];
        assert_eq!(found.crls, lists.into());
        assert_eq!(anchors.signing(), Some("f"));
        // Citadel's ledger was set back, which only Citadel itself can tell.
        assert_eq!(
            set(&mut anchors, bundle(2, &c), Teller::Authority),
            Ok(true)
        );
        assert_eq!(anchors.trusted().unwrap().roots, of(&c));
        let foreign = anchors.set_bundle(bundle(9, &a), Teller::Pilot, "other");
        assert!(matches!(foreign, Err(BundleError::Domain { .. })));
        let none = set(&mut anchors, bundle(9, "x"), Teller::Pilot);
        assert_eq!(none, Err(BundleError::Empty));
    }
}
