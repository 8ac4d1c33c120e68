//! Node agents that ask on behalf of the pods of their node.
//!
//! [`target`] is what can be told before anybody is asked; [`authorize`] decides from facts about pods.

use std::collections::BTreeSet;
use std::str::FromStr;

use mesh_types::{SpiffeId, TrustDomain, WorkloadId};

use super::{Attestation, Caller};

/// Service accounts that may ask for others.
///
/// Source: environment `CA_TRUSTED_NODE_ACCOUNTS`, `namespace/serviceaccount,..`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedAccounts(BTreeSet<(String, String)>);

/// A list of trusted accounts that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no service account, want namespace/serviceaccount, separated by commas")]
pub struct TrustedAccountsError(String);

impl FromStr for TrustedAccounts {
    type Err = TrustedAccountsError;

    fn from_str(text: &str) -> Result<TrustedAccounts, TrustedAccountsError> {
        let mut accounts = BTreeSet::new();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let bad = || TrustedAccountsError(one.to_owned());
            let (namespace, name) = one.split_once('/').ok_or_else(bad)?;
            WorkloadId::new(TrustDomain::default(), namespace, name).map_err(|_| bad())?;
            accounts.insert((namespace.to_owned(), name.to_owned()));
        }
        Ok(TrustedAccounts(accounts))
    }
}

impl TrustedAccounts {
    /// Whether nobody may ask for others.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFact {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// The node it runs on; empty before it was placed.
    pub node: String,
    /// `Pending`, `Running`, `Succeeded`, `Failed`.
    pub phase: String,
}

/// Why nobody may be impersonated. For the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonationRefusal {
    /// Nothing is configured.
    #[error("nobody may ask for others: CA_TRUSTED_NODE_ACCOUNTS is empty")]
    NotConfigured,
    /// No `clusterid`, or one without an authorizer.
    #[error("clusterid does not name this cluster")]
    Cluster,
    /// The caller showed something else than a Kubernetes token of a pod.
    #[error("the caller is not known by a Kubernetes token that is bound to a pod")]
    NotAPod,
    /// The caller's account is not on the list.
    #[error("{0} is not among the trusted node accounts")]
    NotTrusted(SpiffeId),
    /// The identity asked for is no workload's.
    #[error("the identity asked for is no workload's")]
    NoWorkload,
    /// The identity asked for is of another trust domain.
    #[error("the identity asked for is of trust domain {0}, which is not ours")]
    ForeignDomain(TrustDomain),
    /// The caller's pod does not exist.
    #[error("the caller's pod does not exist")]
    NoCallerPod,
    /// The caller's pod was made again, or runs as somebody else.
    #[error("the caller's pod has another uid or service account than its token")]
    OtherPod,
    /// No live pod of that identity on the caller's node.
    #[error("no live pod on the caller's node has the identity asked for")]
    NotOnNode,
    /// Facts about pods cannot be had now.
    #[error("{0}")]
    NotNow(String),
}

/// Steps 1 and 2: whether the caller may ask for others at all, and whom it asks for. `cluster` is the cluster that the request named.
///
/// # Errors
/// See [`ImpersonationRefusal`].
pub fn target(
    caller: &Caller,
    requested: &str,
    cluster: Option<&str>,
    trusted: &TrustedAccounts,
    domains: &[TrustDomain],
) -> Result<WorkloadId, ImpersonationRefusal> {
    if trusted.is_empty() {
        return Err(ImpersonationRefusal::NotConfigured);
    }
    if cluster.is_none() {
        return Err(ImpersonationRefusal::Cluster);
    }
    if caller.attestation != Attestation::Kubernetes || caller.pod.is_none() {
        return Err(ImpersonationRefusal::NotAPod);
    }
    let account = caller
        .identity
        .workload()
        .map(|id| (id.namespace().to_owned(), id.service_account().to_owned()));
    if !account.is_some_and(|account| trusted.0.contains(&account)) {
        return Err(ImpersonationRefusal::NotTrusted(caller.identity.clone()));
    }
    let wanted = WorkloadId::parse(requested).map_err(|_| ImpersonationRefusal::NoWorkload)?;
    match domains
        .iter()
        .find(|domain| *domain == wanted.trust_domain())
    {
        // Spelt as configured.
        Some(domain) => Ok(wanted.in_domain(domain.clone())),
        None => Err(ImpersonationRefusal::ForeignDomain(
            wanted.trust_domain().clone(),
        )),
    }
}

/// Step 3: the caller's pod is the one of its token. Gives the node.
///
/// # Errors
/// See [`ImpersonationRefusal`].
pub fn node<'a>(
    caller: &Caller,
    pod: Option<&'a PodFact>,
) -> Result<&'a str, ImpersonationRefusal> {
    let pod = pod.ok_or(ImpersonationRefusal::NoCallerPod)?;
    let (Some(bound), Some(id)) = (&caller.pod, caller.identity.workload()) else {
        return Err(ImpersonationRefusal::NotAPod);
    };
    let same = pod.namespace == id.namespace()
        && pod.service_account == id.service_account()
        && pod.name == bound.name
        && pod.uid == bound.uid;
    if !same {
        return Err(ImpersonationRefusal::OtherPod);
    }
    if pod.node.is_empty() {
        return Err(ImpersonationRefusal::NotOnNode);
    }
    Ok(&pod.node)
}

/// Step 4: a live pod of `wanted` runs on `node`. The facts may hold pods of other nodes and accounts.
///
/// # Errors
/// [`ImpersonationRefusal::NotOnNode`].
pub fn authorize(
    wanted: &WorkloadId,
    node: &str,
    pods: &[PodFact],
) -> Result<SpiffeId, ImpersonationRefusal> {
    let live = pods.iter().any(|pod| {
        pod.node == node
            && pod.namespace == wanted.namespace()
            && pod.service_account == wanted.service_account()
            && pod.phase != "Failed"
            && pod.phase != "Succeeded"
    });
    if live {
        Ok(wanted.to_spiffe_id())
    } else {
        Err(ImpersonationRefusal::NotOnNode)
    }
}

#[cfg(test)]
mod tests;
