//! Identities of everything that runs: Citadel's one-time tokens, which this process may make since Citadel's socket is its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use mesh_api::citadel::{CreateTokenRequest, StatusRequest};
use mesh_types::{TrustDomain, WorkloadId};

use super::state::State;
use crate::commands::ca::connect::{self, Client};
use crate::commands::ca::enroll::{self, Enrolment};

/// How long a token may be used. Unit: seconds; whoever it is for uses it at once.
const TOKEN_LIFE: u32 = 600;
/// Namespace of the control plane.
pub const PLANE: &str = "istio-system";
/// How often Citadel is asked whether it is there.
const POLL: Duration = Duration::from_millis(20);

/// Citadel, and where what it gives is kept.
#[derive(Debug, Clone)]
pub struct Identities {
    socket: PathBuf,
    /// Address of Citadel, host:port.
    pub ca: SocketAddr,
    /// Its root certificates.
    pub root: PathBuf,
    tokens: PathBuf,
    operator: PathBuf,
    trust_domain: TrustDomain,
}

impl Identities {
    /// Those of a Citadel that listens.
    pub fn new(state: &State, ca: SocketAddr) -> Identities {
        let citadel = state.dir.join("citadel");
        Identities {
            socket: citadel.join("operator.sock"),
            ca,
            root: citadel.join("root-cert.pem"),
            tokens: state.dir.join("run/tokens"),
            operator: state.operator(),
            trust_domain: TrustDomain::default(),
        }
    }

    /// Waits until Citadel can issue.
    ///
    /// # Errors
    /// None: an authority that is not there yet is waited for. Whoever calls watches whether it ended.
    pub async fn ready(&self) {
        let mut poll = tokio::time::interval(POLL);
        loop {
            poll.tick().await;
            if !self.root.exists() {
                continue;
            }
            if let Ok(mut client) = self.client().await
                && let Ok(status) = client.status(StatusRequest {}).await
                && status.get_ref().authorities.iter().any(|one| one.signing)
            {
                return;
            }
        }
    }

    async fn client(&self) -> anyhow::Result<Client> {
        connect::over_socket(&self.socket).await
    }

    async fn token(&self, id: &WorkloadId, node: &str) -> anyhow::Result<String> {
        let request = CreateTokenRequest {
            spiffe_id: id.to_string(),
            ttl_seconds: TOKEN_LIFE,
            node: node.to_owned(),
        };
        let answer = self.client().await?.create_token(request).await;
        let token = answer.with_context(|| format!("Citadel makes no token for {id}"))?;
        Ok(token.into_inner().token)
    }

    /// File of the token of a name.
    pub fn token_file(&self, name: &str) -> PathBuf {
        self.tokens.join(name)
    }

    /// Makes a token for an account and writes it into the file of a name, in place of an older one.
    pub async fn admit(&self, name: &str, namespace: &str, account: &str) -> anyhow::Result<()> {
        let id = WorkloadId::new(self.trust_domain.clone(), namespace, account)?;
        let token = self.token(&id, name).await?;
        let file = self.token_file(name);
        service_kit::replace_file(&file, token.as_bytes(), 0o600)
            .with_context(|| file.display().to_string())
    }

    /// The same for a service of the control plane.
    pub async fn admit_service(&self, name: &str, account: &str) -> anyhow::Result<()> {
        self.admit(name, PLANE, account).await
    }

    /// Gets an operator's certificate for the commands of `flotilla`, in place of an older one.
    pub async fn enroll_operator(&self) -> anyhow::Result<()> {
        let account = identity::accounts::OPERATOR;
        let id = WorkloadId::new(self.trust_domain.clone(), PLANE, account)?;
        let roots =
            std::fs::read_to_string(&self.root).with_context(|| self.root.display().to_string())?;
        let enrolment = Enrolment {
            token: self.token(&id, "operator").await?,
            ca_addr: self.ca.to_string(),
            roots,
            trust_domain: self.trust_domain.clone(),
            citadel: connect::citadel_of(&self.trust_domain)?,
            ttl: Duration::ZERO,
        };
        enroll::get(enrolment).await?.write(&self.operator)
    }
}
