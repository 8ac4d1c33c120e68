//! Asking the Kubernetes API server about tokens and pods: single HTTPS requests, bounded and remembered.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use citadel_core::limits::{Limits, Rate, Verdict};
use citadel_core::policy::impersonation::PodFact;
use citadel_core::policy::kubernetes::{self, Review};
use citadel_core::policy::remembered::Remembered;
use citadel_core::policy::{Caller, Refusal, Token};
use hyper::{Method, StatusCode, header};
use mesh_types::TrustDomain;
use parking_lot::Mutex;
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::https::{self, Target};
use crate::metrics::Metrics;

/// Longest answer that is read. A list of the pods of one service account on one node fits many times.
const MAX_ANSWER: usize = 8 << 20;

/// Reviews that are on their way at once; more wait.
const AT_ONCE: usize = 64;

/// Answers that are remembered.
const REMEMBERED: usize = 10_000;

/// How long a good token is not asked about again: a deleted pod's token works for so long.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// The same for a bad token.
const BAD_FOR: Duration = Duration::from_secs(5);

/// Tokens from one address that the API server is asked about. A node that comes back has a few hundred pods.
const ADDRESS: Rate = Rate {
    per_second: NonZeroU32::new(20).unwrap(),
    burst: NonZeroU32::new(500).unwrap(),
};

/// The API server.
#[derive(Debug, Clone)]
pub struct Api {
    /// Whom to trust as API server.
    pub tls: Arc<ClientConfig>,
    /// Its address.
    pub base: Target,
    /// File with our own token, read each time: the kubelet replaces it.
    pub token: Option<PathBuf>,
}

impl Api {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, bytes::Bytes), String> {
        let target = self
            .base
            .with_path(path)
            .map_err(|error| error.to_string())?;
        let mut headers = vec![(header::ACCEPT, "application/json".to_owned())];
        if !body.is_empty() {
            headers.push((header::CONTENT_TYPE, "application/json".to_owned()));
        }
        if let Some(file) = &self.token {
            let token = tokio::fs::read_to_string(file).await;
            let token = token.map_err(|error| format!("{}: {error}", file.display()))?;
            headers.push((header::AUTHORIZATION, format!("Bearer {}", token.trim())));
        }
        https::ask(&self.tls, &target, method, &headers, body, MAX_ANSWER)
            .await
            .map_err(|error| format!("the API server cannot be asked: {error}"))
    }

    async fn review(&self, token: &Token, audiences: &[String]) -> Result<Review, Refusal> {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let body = kubernetes::question(token, audiences);
        let answer = self.ask(Method::POST, path, body).await;
        let (status, body) = answer.map_err(Refusal::NotNow)?;
        if !status.is_success() {
            return Err(Refusal::NotNow(format!(
                "the API server refuses to review tokens: {status}"
            )));
        }
        Review::parse(&body)
    }

    /// A pod by name.
    ///
    /// # Errors
    /// The API server cannot be asked, in words.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<PodFact>, String> {
        if !is_name(namespace) || !is_name(name) {
            return Ok(None);
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let (status, body) = self.ask(Method::GET, &path, Vec::new()).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let pod: PodObject = parse(status, &body)?;
        Ok(Some(pod.into()))
    }

    /// The pods of a service account on a node.
    ///
    /// # Errors
    /// The API server cannot be asked, in words.
    pub async fn pods(
        &self,
        namespace: &str,
        service_account: &str,
        node: &str,
    ) -> Result<Vec<PodFact>, String> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<PodObject>,
        }
        if ![namespace, service_account, node].into_iter().all(is_name) {
            return Ok(Vec::new());
        }
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods?fieldSelector=spec.nodeName%3D{node}%2Cspec.serviceAccountName%3D{service_account}"
        );
        let (status, body) = self.ask(Method::GET, &path, Vec::new()).await?;
        let list: List = parse(status, &body)?;
        Ok(list.items.into_iter().map(PodFact::from).collect())
    }
}

/// What of a pod is read.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PodObject {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    service_account_name: String,
    node_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    phase: String,
}

impl From<PodObject> for PodFact {
    fn from(pod: PodObject) -> PodFact {
        PodFact {
            namespace: pod.metadata.namespace,
            name: pod.metadata.name,
            uid: pod.metadata.uid,
            service_account: pod.spec.service_account_name,
            node: pod.spec.node_name,
            phase: pod.status.phase,
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, String> {
    if !status.is_success() {
        return Err(format!("the API server refuses to tell of pods: {status}"));
    }
    serde_json::from_slice(body).map_err(|_| "the API server answered no pods".to_owned())
}

/// What may stand in a path: names of objects are DNS subdomains.
fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=253).contains(&text.len())
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// Who callers with Kubernetes tokens are.
pub struct Reviewer {
    /// The API server.
    pub api: Api,
    audiences: Vec<String>,
    trust_domain: TrustDomain,
    known: Mutex<Remembered<[u8; 32], Result<Caller, Refusal>>>,
    places: Semaphore,
    asked: Mutex<Limits<IpAddr>>,
    metrics: Metrics,
    start: Instant,
}

impl Reviewer {
    /// Asks `api`, for tokens with one of `audiences`.
    pub fn new(
        api: Api,
        audiences: Vec<String>,
        trust_domain: TrustDomain,
        metrics: Metrics,
    ) -> Reviewer {
        Reviewer {
            api,
            audiences,
            trust_domain,
            known: Mutex::new(Remembered::new(REMEMBERED)),
            places: Semaphore::new(AT_ONCE),
            asked: Mutex::new(Limits::new(ADDRESS, None, REMEMBERED)),
            metrics,
            start: Instant::now(),
        }
    }

    /// The caller a token is of.
    ///
    /// # Errors
    /// What is missing, or [`Refusal::NotNow`].
    pub async fn authenticate(&self, token: &Token, from: IpAddr) -> Result<Caller, Refusal> {
        let name = token.fingerprint();
        if let Some(known) = self.known(&name) {
            return known;
        }
        // Tokens that nobody has seen are made up easily; whoever sends many of them must not keep others waiting.
        if self.asked.lock().take(from, self.start.elapsed()) != Verdict::Allowed {
            self.metrics.limited_address();
            return Err(Refusal::NotNow(format!(
                "{from} sends too many tokens that are not known yet"
            )));
        }
        // The semaphore is never closed.
        let place = self.places.acquire().await;
        let _place = place.map_err(|error| Refusal::NotNow(error.to_string()))?;
        // Whoever waited may find that somebody else has asked meanwhile.
        if let Some(known) = self.known(&name) {
            return known;
        }
        let review = self.api.review(token, &self.audiences).await?;
        let answer = kubernetes::authenticate(&review, &self.audiences, &self.trust_domain);
        let good_for = if answer.is_ok() { GOOD_FOR } else { BAD_FOR };
        let mut known = self.known.lock();
        known.put(name, answer.clone(), good_for, self.start.elapsed());
        answer
    }

    fn known(&self, name: &[u8; 32]) -> Option<Result<Caller, Refusal>> {
        self.known.lock().get(name, self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn what_is_no_name_does_not_get_into_a_path() {
        for good in ["default", "a-1.b", "ip-10-0-0-1.ec2.internal"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "..",
            "a/b",
            "a%2fb",
            "A",
            "a b",
            "a?x",
            &"a".repeat(254),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
