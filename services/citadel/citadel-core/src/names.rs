//! The control plane's own identities, and the host names that go with them.

use std::collections::BTreeMap;
use std::str::FromStr;

use mesh_types::{SpiffeError, SpiffeId, TrustDomain, WorkloadId};

/// Service account of Citadel.
pub const CITADEL: &str = "istio-citadel-service-account";
/// Service account of Pilot.
pub const PILOT: &str = "istio-pilot-service-account";
/// Service account of Galley.
pub const GALLEY: &str = "istio-galley-service-account";
/// Service account of the injector.
pub const INJECTOR: &str = "istio-sidecar-injector-service-account";
/// Service account of NATS.
pub const NATS: &str = "nats";
/// Service account of operators.
pub const OPERATOR: &str = "flotilla-operator";
/// Service account of viewers.
pub const VIEWER: &str = "flotilla-viewer";

/// A service account with host names, as a flag has it: `[NAMESPACE/]ACCOUNT=HOST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedAccount {
    /// `None`: the control plane's.
    pub namespace: Option<String>,
    /// The account.
    pub account: String,
    /// A host name or address.
    pub host: String,
}

/// A text that is no such thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no host of a service account, want [NAMESPACE/]ACCOUNT=HOST")]
pub struct NamedAccountError(String);

impl FromStr for NamedAccount {
    type Err = NamedAccountError;

    fn from_str(text: &str) -> Result<NamedAccount, NamedAccountError> {
        let bad = || NamedAccountError(text.to_owned());
        let (who, host) = text.split_once('=').ok_or_else(bad)?;
        let (namespace, account) = match who.split_once('/') {
            Some((namespace, account)) => (Some(namespace), account),
            None => (None, who),
        };
        let checked = WorkloadId::new(TrustDomain::default(), namespace.unwrap_or("a"), account);
        if checked.is_err() || host.is_empty() {
            return Err(bad());
        }
        Ok(NamedAccount {
            namespace: namespace.map(str::to_owned),
            account: account.to_owned(),
            host: host.to_owned(),
        })
    }
}

/// Host names by identity: those of the control plane, by which it is called by whoever looks at names rather than identities (Istio's
/// agents, the Kubernetes API server).
#[derive(Debug, Clone)]
pub struct ControlPlane {
    trust_domain: TrustDomain,
    namespace: String,
    hosts: BTreeMap<SpiffeId, Vec<String>>,
}

impl ControlPlane {
    /// The control plane of `namespace`. `revision`: its name, if it has one. `custom`: more names of Citadel and Pilot. `named`: names of
    /// any service account.
    ///
    /// # Errors
    /// The namespace is none.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: &str,
        revision: &str,
        custom: &[String],
        named: &[NamedAccount],
    ) -> Result<ControlPlane, SpiffeError> {
        let mut plane = ControlPlane {
            trust_domain,
            namespace: namespace.to_owned(),
            hosts: BTreeMap::new(),
        };
        let svc = |name: &str| format!("{name}.{namespace}.svc");
        let mut shared = vec![svc("istiod"), svc("istiod-remote"), svc("istio-pilot")];
        if !revision.is_empty() && revision != "default" {
            shared.push(svc(&format!("istiod-{revision}")));
        }
        shared.extend(custom.iter().filter(|name| !name.is_empty()).cloned());
        let citadel = ["istio-citadel", "istio-ca"].map(svc);
        let all = [
            (CITADEL, [citadel.as_slice(), &shared].concat()),
            (PILOT, shared),
            (GALLEY, vec![svc("istio-galley")]),
            (INJECTOR, vec![svc("istio-sidecar-injector")]),
        ];
        for (account, hosts) in all {
            let id = plane.id(account)?;
            plane.hosts.insert(id, hosts);
        }
        for one in named {
            let namespace = one.namespace.as_deref().unwrap_or(namespace);
            let id = WorkloadId::new(plane.trust_domain.clone(), namespace, &one.account)?;
            let hosts = plane.hosts.entry(id.to_spiffe_id()).or_default();
            hosts.push(one.host.clone());
        }
        for hosts in plane.hosts.values_mut() {
            let mut seen = std::collections::BTreeSet::new();
            hosts.retain(|host| seen.insert(host.clone()));
        }
        Ok(plane)
    }

    /// The identity of one of the control plane's accounts.
    ///
    /// # Errors
    /// The account is none.
    pub fn id(&self, account: &str) -> Result<SpiffeId, SpiffeError> {
        let id = WorkloadId::new(self.trust_domain.clone(), &self.namespace, account)?;
        Ok(id.to_spiffe_id())
    }

    /// Host names that a certificate of `id` has besides: none for most.
    pub fn hosts(&self, id: &SpiffeId) -> &[String] {
        self.hosts.get(id).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane() -> ControlPlane {
        let custom = ["localhost".to_owned(), String::new()];
        let named = ["nats=127.0.0.1", "shop/web=web.example.com", "nats=nats"]
            .map(|text| text.parse().unwrap());
        ControlPlane::new(
            TrustDomain::default(),
            "istio-system",
            "canary",
            &custom,
            &named,
        )
        .unwrap()
    }

    #[test]
    fn pilot_answers_to_the_names_that_agents_expect() {
        let plane = plane();
        let of = |account| plane.hosts(&plane.id(account).unwrap()).join(" ");
        assert_eq!(
            of(PILOT),
            "istiod.istio-system.svc istiod-remote.istio-system.svc istio-pilot.istio-system.svc istiod-canary.istio-system.svc localhost"
        );
        assert!(
            of(CITADEL)
                .starts_with("istio-citadel.istio-system.svc istio-ca.istio-system.svc istiod.")
        );
        assert_eq!(of("nats"), "127.0.0.1 nats");
        let web = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/web").unwrap();
        assert_eq!(plane.hosts(&web), ["web.example.com"]);
        let other =
            SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/istio-pilot-service-account");
        assert!(plane.hosts(&other.unwrap()).is_empty());
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for bad in ["", "a", "a=", "=b", "A=b", "a/b/c=d", "/a=b"] {
            assert!(bad.parse::<NamedAccount>().is_err(), "{bad}");
        }
    }
}
