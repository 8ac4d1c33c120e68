//! `flotilla.citadel.v1.Operator`: what operators ask, over TLS with a role, or over the socket of the data folder.

use std::pin::Pin;
use std::sync::Arc;

use citadel_core::revocation;
use futures::Stream;
use mesh_api::citadel::operator_server::{Operator, OperatorServer};
use mesh_api::citadel::rotate_request::Step;
use mesh_api::citadel::{
    CaStatus, CreateTokenRequest, JoinToken, JournalEntry, JournalRequest, LiftRequest, Revocation,
    RevocationList, RevocationsRequest, RevokeRequest, RotateRequest, Rotation, StatusRequest,
};
use mesh_types::{TrustDomain, WorkloadId};
use service_kit::roles::{Forbidden, Role, Roles};
use service_kit::tls::Peer;
use store::StoreError;
use time::{Duration, OffsetDateTime};
use tonic::{Extensions, Request, Response, Status};

use crate::ledger::{
    Integrity, Ledger, Query, RevokeError, TokenError, journal_entry, revocation_message, target_of,
};
use crate::roots::Roots;
use crate::rotate::{Rotor, RotorError};
use crate::socket::OverSocket;

/// Longest request.
const MAX_REQUEST: usize = 64 << 10;
/// Most entries of one answer about the journal.
const MAX_ENTRIES: u32 = 10_000;
/// Entries that are read at once.
const PAGE: u32 = 500;
/// Life of a join token if the request does not say.
const TOKEN_TTL: u32 = 600;
/// Longest life of a join token: a week.
const LONGEST_TOKEN_TTL: u32 = 7 * 86_400;

/// The service.
#[derive(Clone)]
pub struct OperatorService {
    /// Who may what, over TLS.
    pub roles: Roles,
    /// The ledger.
    pub ledger: Ledger,
    /// The rotation of the root.
    pub rotor: Rotor,
    /// What signs, and what is trusted.
    pub roots: Arc<Roots>,
    /// Ours.
    pub trust_domain: TrustDomain,
    /// Our name.
    pub replica: Arc<str>,
}

impl OperatorService {
    /// The service with its bounds.
    pub fn server(self) -> OperatorServer<OperatorService> {
        OperatorServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }

    /// Who asks, if that one may.
    fn requester(&self, extensions: &Extensions, wanted: Role) -> Result<String, Status> {
        if extensions.get::<OverSocket>().is_some() {
            return Ok("socket".into());
        }
        let peer = Peer::of(extensions);
        match self.roles.check(peer, wanted) {
            Ok(()) => Ok(peer.map(|peer| peer.id.to_string()).unwrap_or_default()),
            Err(refused) => {
                tracing::warn!(%refused, "an operator's request is refused");
                Err(match refused {
                    Forbidden::Anonymous => Status::unauthenticated(refused.to_string()),
                    Forbidden::Role { .. } => Status::permission_denied(refused.to_string()),
                })
            }
        }
    }
}

fn away(error: &StoreError) -> Status {
    tracing::warn!(%error, "the ledger did not answer an operator");
    Status::unavailable("the database cannot be used now; see Citadel's log, and try again")
}

fn revoke_status(error: RevokeError) -> Status {
    match error {
        RevokeError::Store(error) => away(&error),
        RevokeError::NotInForce(_) => Status::not_found(error.to_string()),
        RevokeError::TooMany | RevokeError::TooManyInForce => {
            Status::resource_exhausted(error.to_string())
        }
        RevokeError::ForGood(_) => Status::failed_precondition(error.to_string()),
    }
}

#[tonic::async_trait]
impl Operator for OperatorService {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<CaStatus>, Status> {
        self.requester(request.extensions(), Role::Viewer)?;
        let now = OffsetDateTime::now_utc();
        let read = async {
            let leader = self.ledger.leader().await?;
            let live = self.ledger.live_certificates(now).await?;
            let position = self.ledger.position().await?;
            Ok::<_, StoreError>((leader, live, position))
        };
        let (leader, live, position) = read.await.map_err(|error| away(&error))?;
        let bundle = self.roots.bundles().borrow().clone();
        let integrity = self.ledger.integrity().borrow().clone();
        Ok(Response::new(CaStatus {
            replica: self.replica.to_string(),
            leader: Roots::replica_of(&leader).to_owned(),
            trust_domain: self.trust_domain.to_string(),
            mode: self.roots.mode().as_str().into(),
            authorities: self.roots.authorities(),
            bundle: bundle.map(|bundle| (*bundle).clone()),
            rotation: Some(self.rotor.rotation()),
            live_certificates: live,
            journal_entries: position.sequence,
            journal_intact: !matches!(integrity, Integrity::Broken(_)),
        }))
    }

    type JournalStream = Pin<Box<dyn Stream<Item = Result<JournalEntry, Status>> + Send>>;

    async fn journal(
        &self,
        request: Request<JournalRequest>,
    ) -> Result<Response<Self::JournalStream>, Status> {
        self.requester(request.extensions(), Role::Viewer)?;
        let asked = request.into_inner();
        let left = match asked.limit {
            0 => 100,
            n => n.min(MAX_ENTRIES),
        };
        let query = Query {
            spiffe_id: asked.spiffe_id,
            serial: asked.serial,
            node: asked.node,
            before: asked.before,
            limit: 0,
        };
        // One page after the other, as the client reads.
        let pages = futures::stream::unfold(
            (self.ledger.clone(), query, left),
            |(ledger, mut query, left)| async move {
                if left == 0 {
                    return None;
                }
                query.limit = left.min(PAGE);
                match ledger.journal(&query).await {
                    Err(error) => Some((vec![Err(away(&error))], (ledger, query, 0))),
                    Ok(page) => {
                        let read = u32::try_from(page.len()).unwrap_or(u32::MAX);
                        let more = read == query.limit && read > 0;
                        if let Some(last) = page.last() {
                            query.before = last.sequence;
                        }
                        let left = if more { left.saturating_sub(read) } else { 0 };
                        let page = page.iter().map(|found| Ok(journal_entry(found))).collect();
                        Some((page, (ledger, query, left)))
                    }
                }
            },
        );
        use futures::StreamExt as _;
        let entries = pages.flat_map(|page: Vec<_>| futures::stream::iter(page));
        Ok(Response::new(Box::pin(entries)))
    }

    async fn revoke(
        &self,
        request: Request<RevokeRequest>,
    ) -> Result<Response<Revocation>, Status> {
        let requester = self.requester(request.extensions(), Role::Operator)?;
        let asked = request.into_inner();
        let target =
            target_of(&asked).ok_or_else(|| Status::invalid_argument("say what is revoked"))?;
        let now = OffsetDateTime::now_utc();
        let target = revocation::check(target, &asked.reason, &self.trust_domain, now)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let revoked = self
            .ledger
            .revoke(target, asked.reason.trim(), &requester, now);
        let revoked = revoked.await.map_err(revoke_status)?;
        tracing::warn!(
            id = revoked.id,
            requester,
            certificates = revoked.certificates.len(),
            "revoked"
        );
        self.roots.nudge();
        Ok(Response::new(revocation_message(&revoked)))
    }

    async fn lift(&self, request: Request<LiftRequest>) -> Result<Response<Revocation>, Status> {
        let requester = self.requester(request.extensions(), Role::Operator)?;
        let asked = request.into_inner();
        revocation::check_reason(&asked.reason)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let now = OffsetDateTime::now_utc();
        let lifted = self
            .ledger
            .lift(asked.id, asked.reason.trim(), &requester, now);
        let lifted = lifted.await.map_err(revoke_status)?;
        tracing::warn!(id = lifted.id, requester, "revocation lifted");
        self.roots.nudge();
        Ok(Response::new(revocation_message(&lifted)))
    }

    async fn revocations(
        &self,
        request: Request<RevocationsRequest>,
    ) -> Result<Response<RevocationList>, Status> {
        self.requester(request.extensions(), Role::Viewer)?;
        let found = self.ledger.revocations(OffsetDateTime::now_utc()).await;
        let found = found.map_err(|error| away(&error))?;
        Ok(Response::new(RevocationList {
            revocations: found.iter().map(revocation_message).collect(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<JoinToken>, Status> {
        let requester = self.requester(request.extensions(), Role::Operator)?;
        let asked = request.into_inner();
        let wrong = |text: String| Status::invalid_argument(text);
        let id = WorkloadId::parse(&asked.spiffe_id).map_err(|error| wrong(error.to_string()))?;
        if id.trust_domain() != &self.trust_domain {
            return Err(wrong(format!(
                "trust domain {} is not ours, want {}",
                id.trust_domain(),
                self.trust_domain
            )));
        }
        if asked.node.len() > 253 || asked.node.contains(char::is_control) {
            return Err(wrong(
                "a node has a name of at most 253 bytes without control characters".into(),
            ));
        }
        let ttl = match asked.ttl_seconds {
            0 => TOKEN_TTL,
            n if n > LONGEST_TOKEN_TTL => {
                return Err(wrong("a join token may be used for a week at most".into()));
            }
            n => n,
        };
        let id = id.in_domain(self.trust_domain.clone()).to_string();
        let ttl = Duration::seconds(ttl.into());
        let now = OffsetDateTime::now_utc();
        let made = self
            .ledger
            .create_token(&id, &asked.node, ttl, &requester, now);
        let made = made.await.map_err(|error| match error {
            TokenError::Store(error) => away(&error),
            TokenError::TooMany | TokenError::Invalid => {
                Status::resource_exhausted(error.to_string())
            }
        })?;
        tracing::info!(id = made.id, identity = id, requester, "join token made");
        let bundle = self.roots.bundles().borrow().clone();
        Ok(Response::new(JoinToken {
            token: made.token.to_string(),
            id: made.id,
            not_after: made.not_after.unix_timestamp(),
            bundle: bundle
                .map(|bundle| bundle.roots.concat())
                .unwrap_or_default(),
        }))
    }

    async fn rotate(&self, request: Request<RotateRequest>) -> Result<Response<Rotation>, Status> {
        let step = request.get_ref().step;
        let step = Step::try_from(step)
            .map_err(|_| Status::invalid_argument(format!("there is no step {step}")))?;
        let role = match step {
            Step::Status => Role::Viewer,
            Step::Start | Step::Pause | Step::Resume | Step::Abort | Step::Force => Role::Operator,
        };
        let requester = self.requester(request.extensions(), role)?;
        if step == Step::Status {
            return Ok(Response::new(self.rotor.rotation()));
        }
        let reason = request.into_inner().reason;
        let rotation = self.rotor.step(step, &reason, &requester).await;
        rotation.map(Response::new).map_err(|error| match error {
            RotorError::Store(error) => away(&error),
            RotorError::Refused(_) => Status::failed_precondition(error.to_string()),
        })
    }
}
