//! Whom the workload trusts: kept here, served to Envoy as `ROOTCA`.

use std::collections::BTreeSet;
use std::sync::Arc;

use agent_core::trust::{Anchors, Teller};
use mesh_api::citadel::TrustBundle;
use parking_lot::Mutex;

use crate::sds::Store;

/// The one place where what is told about trust comes together. Clones share it.
#[derive(Clone)]
pub struct TrustKeeper(Arc<Inner>);

struct Inner {
    domain: String,
    anchors: Mutex<Anchors>,
    store: Store,
}

impl TrustKeeper {
    /// Nothing is known yet; what comes goes to `store`.
    pub fn new(domain: impl Into<String>, store: Store) -> TrustKeeper {
        TrustKeeper(Arc::new(Inner {
            domain: domain.into(),
            anchors: Mutex::default(),
            store,
        }))
    }

    /// Roots and revocation lists that came with the certificate.
    pub fn take_authority(&self, roots: BTreeSet<String>, crls: BTreeSet<String>) {
        let mut anchors = self.0.anchors.lock();
        anchors.set_authority(roots, crls);
        self.publish(&anchors);
    }

    /// A revocation list of a file; `None`: there is no such file.
    pub fn take_crl(&self, crl: Option<String>) {
        let mut anchors = self.0.anchors.lock();
        anchors.set_crl(crl);
        self.publish(&anchors);
    }

    /// Citadel's bundle, over Pilot or from itself: the version of `ROOTCA` that has it.
    ///
    /// # Errors
    /// It cannot be used; what was in force stays.
    pub fn take_bundle(&self, bundle: TrustBundle, teller: Teller) -> Result<u64, String> {
        let mut anchors = self.0.anchors.lock();
        let newer = anchors.set_bundle(bundle.clone(), teller, &self.0.domain);
        if newer.map_err(|error| error.to_string())? {
            tracing::info!(
                generation = bundle.generation,
                roots = bundle.roots.len(),
                crls = bundle.crls.len(),
                "the trust bundle is another one"
            );
        }
        Ok(self.publish(&anchors))
    }

    /// Roots in Istio's way: the version of `ROOTCA` that has them.
    ///
    /// # Errors
    /// They cannot be used; what was in force stays.
    pub fn take_pcds(&self, roots: &[String]) -> Result<u64, String> {
        let mut anchors = self.0.anchors.lock();
        anchors.set_pcds(roots).map_err(|error| error.to_string())?;
        Ok(self.publish(&anchors))
    }

    fn publish(&self, anchors: &Anchors) -> u64 {
        match anchors.trusted() {
            Some(trusted) => self.0.store.set_trusted(&trusted),
            None => 0,
        }
    }

    /// Returns when Envoy has taken this version of `ROOTCA`, or a later one, everywhere it has asked for it; at once if it has not.
    ///
    /// # Errors
    /// Envoy has rejected it.
    pub async fn settled(&self, version: u64) -> Result<(), String> {
        self.0.store.trusted_by_envoy(version).await
    }
}
