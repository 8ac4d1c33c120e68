//! What the Kubernetes API server says about a token, turned into an identity.

use std::collections::BTreeMap;

use mesh_types::TrustDomain;
use serde::{Deserialize, Serialize};

use super::{Attestation, Caller, Pod, Refusal, Token, service_account};

/// The group every service account is in.
const GROUP: &str = "system:serviceaccounts";

/// The names this cluster goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    /// Its id.
    pub local: String,
    /// Other names it is known by.
    pub aliases: Vec<String>,
}

impl Clusters {
    /// Which cluster the request metadata `clusterid` means: absent and empty mean this one.
    ///
    /// # Errors
    /// Another cluster, or more than one value.
    pub fn choose<'a>(&self, values: &[&'a str]) -> Result<Option<&'a str>, Refusal> {
        match values {
            [] | [""] => Ok(None),
            [one] if *one == self.local || self.aliases.iter().any(|alias| alias == one) => {
                Ok(Some(one))
            }
            [_] => Err(Refusal::Cluster),
            _ => Err(Refusal::Clusters),
        }
    }
}

/// The body of a TokenReview to create.
pub fn question(token: &Token, audiences: &[String]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Spec<'a> {
        token: &'a str,
        audiences: &'a [String],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Question<'a> {
        api_version: &'static str,
        kind: &'static str,
        spec: Spec<'a>,
    }
    let question = Question {
        api_version: "authentication.k8s.io/v1",
        kind: "TokenReview",
        spec: Spec {
            token: token.expose(),
            audiences,
        },
    };
    // Text and lists of text can always be written.
    serde_json::to_vec(&question).unwrap_or_default()
}

/// `status` of a TokenReview.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Review {
    /// Whether the token is good.
    pub authenticated: bool,
    /// Why it could not be told.
    pub error: String,
    /// Audiences of the token among those that were asked for.
    pub audiences: Vec<String>,
    /// Whose it is.
    pub user: User,
}

/// `status.user` of a TokenReview.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
    /// More: the pod it is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Review {
    /// Reads the API server's answer.
    ///
    /// # Errors
    /// It is no TokenReview with a status.
    pub fn parse(body: &[u8]) -> Result<Review, Refusal> {
        #[derive(Deserialize)]
        struct Answer {
            kind: String,
            status: Review,
        }
        let answer: Answer = serde_json::from_slice(body).map_err(|_| Refusal::NoReview)?;
        if answer.kind != "TokenReview" {
            return Err(Refusal::NoReview);
        }
        Ok(answer.status)
    }
}

/// The caller a review is about, in our trust domain whatever the token says.
///
/// # Errors
/// What is missing. An API server that answers without audiences has not looked at them, and is not believed.
pub fn authenticate(
    review: &Review,
    audiences: &[String],
    trust_domain: &TrustDomain,
) -> Result<Caller, Refusal> {
    if !review.error.is_empty() || !review.authenticated {
        return Err(Refusal::NotAuthenticated);
    }
    if !review.audiences.iter().any(|one| audiences.contains(one)) {
        return Err(Refusal::Audience);
    }
    if !review.user.groups.iter().any(|group| group == GROUP) {
        return Err(Refusal::Group);
    }
    let workload = service_account(&review.user.username, trust_domain)?;
    let extra = |name: &str| match review.user.extra.get(name).map(Vec::as_slice) {
        Some([one]) if !one.is_empty() => Some(one.clone()),
        _ => None,
    };
    let pod = extra("authentication.kubernetes.io/pod-name")
        .zip(extra("authentication.kubernetes.io/pod-uid"))
        .map(|(name, uid)| Pod { name, uid });
    let identity = workload.to_spiffe_id();
    Ok(Caller {
        requester: identity.to_string(),
        identity,
        attestation: Attestation::Kubernetes,
        node: extra("authentication.kubernetes.io/node-name"),
        pod,
        serial: None,
        token: None,
    })
}

#[cfg(test)]
mod tests;
