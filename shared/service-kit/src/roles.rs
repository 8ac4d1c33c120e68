//! Who may ask what: roles of SPIFFE IDs, and routers that want one.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use mesh_types::SpiffeId;
use serde_json::json;

use crate::tls::Peer;

/// What somebody may do. Who may do more may do less too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and change.
    Operator,
}

impl Role {
    /// "viewer", "operator".
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }
}

/// Who has which role. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Arc<Sets>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Sets {
    operators: BTreeSet<SpiffeId>,
    viewers: BTreeSet<SpiffeId>,
}

impl Roles {
    /// Operators (who are viewers too) and viewers.
    pub fn new(
        operators: impl IntoIterator<Item = SpiffeId>,
        viewers: impl IntoIterator<Item = SpiffeId>,
    ) -> Roles {
        Roles(Arc::new(Sets {
            operators: operators.into_iter().collect(),
            viewers: viewers.into_iter().collect(),
        }))
    }

    /// The role of an identity; `None` if it has none.
    pub fn of(&self, id: &SpiffeId) -> Option<Role> {
        if self.0.operators.contains(id) {
            Some(Role::Operator)
        } else if self.0.viewers.contains(id) {
            Some(Role::Viewer)
        } else {
            None
        }
    }

    /// Whether a client may do what `wanted` may.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, peer: Option<&Peer>, wanted: Role) -> Result<(), Forbidden> {
        let peer = peer.ok_or(Forbidden::Anonymous)?;
        if self.of(&peer.id) >= Some(wanted) {
            Ok(())
        } else {
            Err(Forbidden::Role {
                id: peer.id.clone(),
                wanted,
            })
        }
    }

    /// The same router, for clients of this role only: others get 401 or 403 (of gRPC: UNAUTHENTICATED or PERMISSION_DENIED).
    pub fn require(&self, wanted: Role, router: Router) -> Router {
        let rule = Rule::Role(self.clone(), wanted);
        router.layer(from_fn_with_state(rule, guard))
    }

    /// The same router, where GET, HEAD and OPTIONS want a viewer and everything else an operator.
    pub fn require_by_method(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(Rule::Method(self.clone()), guard))
    }

    /// The same router, for clients of this role and for these identities: the service's own clients, which have no role.
    pub fn require_or(
        &self,
        wanted: Role,
        ids: impl IntoIterator<Item = SpiffeId>,
        router: Router,
    ) -> Router {
        let ids: BTreeSet<SpiffeId> = ids.into_iter().collect();
        let rule = Rule::RoleOr(self.clone(), wanted, Arc::new(ids));
        router.layer(from_fn_with_state(rule, guard))
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Nobody knows who asks.
    #[error("a client certificate is needed")]
    Anonymous,
    /// Somebody who lacks the role.
    #[error("{id} may not: this needs the role {}", wanted.as_str())]
    Role {
        /// Who asks.
        id: SpiffeId,
        /// What is needed.
        wanted: Role,
    },
}

#[derive(Clone, Debug)]
enum Rule {
    Role(Roles, Role),
    Method(Roles),
    RoleOr(Roles, Role, Arc<BTreeSet<SpiffeId>>),
}

impl Rule {
    fn check(&self, peer: Option<&Peer>, method: &Method) -> Result<(), Forbidden> {
        match self {
            Rule::Role(roles, wanted) => roles.check(peer, *wanted),
            Rule::Method(roles) => {
                let looks = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
                let wanted = if looks { Role::Viewer } else { Role::Operator };
                roles.check(peer, wanted)
            }
            Rule::RoleOr(_, _, ids) if peer.is_some_and(|peer| ids.contains(&peer.id)) => Ok(()),
            Rule::RoleOr(roles, wanted, _) => roles.check(peer, *wanted),
        }
    }
}

async fn guard(State(rule): State<Rule>, request: Request, next: Next) -> Response {
    match rule.check(Peer::of(request.extensions()), request.method()) {
        Ok(()) => next.run(request).await,
        Err(refused) => {
            tracing::info!(path = request.uri().path(), %refused, "request refused");
            refused.answer(request.headers())
        }
    }
}

impl Forbidden {
    /// The answer to a request with these headers: JSON with a code and a message, or a gRPC status.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let message = self.to_string();
        let grpc = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if grpc {
            let status = match self {
                Forbidden::Anonymous => tonic::Status::unauthenticated(message),
                Forbidden::Role { .. } => tonic::Status::permission_denied(message),
            };
            return status.into_http();
        }
        let (status, code) = match self {
            Forbidden::Anonymous => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Forbidden::Role { .. } => (StatusCode::FORBIDDEN, "forbidden"),
        };
        let mut response =
            (status, Json(json!({ "code": code, "message": message }))).into_response();
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use expect_test::{Expect, expect};
    use http_body_util::BodyExt as _;
    use pki::{Authority, KeyType, LeafRequest, PrivateKey, Serial};
    use tower::ServiceExt as _;

    fn id(account: &str) -> SpiffeId {
        SpiffeId::parse(&format!(
            "spiffe://cluster.local/ns/istio-system/sa/{account}"
        ))
        .unwrap()
    }

    fn peer(account: &str) -> Peer {
        let now = time::OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000);
        let domain = id(account).trust_domain().clone();
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let serial = Serial::from_random([1; 16]);
        let life = time::Duration::hours(1);
        let root = Authority::self_signed(key.clone(), &domain, life, serial.clone(), now).unwrap();
        let request = LeafRequest {
            id: &id(account),
            public_key: key.public_key(),
            ttl: life,
            names: &[],
            common_name: false,
        };
        Peer {
            id: id(account),
            certificate: Arc::new(root.issue(&request, serial, now).unwrap()),
        }
    }

    fn request(method: &str, who: Option<&str>) -> Request {
        let mut request = Request::builder()
            .method(method)
            .uri("/v1/thing")
            .body(Body::empty())
            .unwrap();
        if let Some(account) = who {
            request.extensions_mut().insert(peer(account));
        }
        request
    }

    fn router() -> Router {
        Router::new().route(
            "/v1/thing",
            get(|| async { "ok" }).post(|| async { "done" }),
        )
    }

    async fn check(router: &Router, request: Request, want: Expect) {
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let grpc = response.headers().get("grpc-status").cloned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let grpc = grpc.map_or(String::new(), |s| format!(" grpc {}", s.to_str().unwrap()));
        want.assert_eq(&format!(
            "{status}{grpc} {}",
            String::from_utf8_lossy(&body)
        ));
    }

    #[tokio::test]
    async fn a_viewer_looks_and_an_operator_changes() {
        let roles = Roles::new([id("boss")], [id("auditor")]);
        let router = roles.require_by_method(router());
        check(&router, request("GET", Some("auditor")), expect!["200 ok"]).await;
        check(&router, request("GET", Some("boss")), expect!["200 ok"]).await;
        check(&router, request("POST", Some("boss")), expect!["200 done"]).await;
        check(&router, request("POST", Some("auditor")), expect![[r#"403 {"code":"forbidden","message":"spiffe://cluster.local/ns/istio-system/sa/auditor may not: this needs the role operator"}"#]]).await;
        check(&router, request("GET", Some("else")), expect![[r#"403 {"code":"forbidden","message":"spiffe://cluster.local/ns/istio-system/sa/else may not: this needs the role viewer"}"#]]).await;
        check(
            &router,
            request("GET", None),
            expect![[
                r#"401 {"code":"unauthenticated","message":"a client certificate is needed"}"#
            ]],
        )
        .await;
    }

    #[tokio::test]
    async fn grpc_is_answered_with_a_status() {
        let roles = Roles::new([], [id("watcher")]);
        let router = roles.require_or(Role::Viewer, [id("pilot")], router());
        for who in ["pilot", "watcher"] {
            check(&router, request("POST", Some(who)), expect!["200 done"]).await;
        }
        for (who, want) in [
            (Some("else"), expect!["200 grpc 7 "]),
            (None, expect!["200 grpc 16 "]),
        ] {
            let mut request = request("POST", who);
            let kind = HeaderValue::from_static("application/grpc+proto");
            request.headers_mut().insert(header::CONTENT_TYPE, kind);
            check(&router, request, want).await;
        }
    }

    #[test]
    fn nobody_has_a_role_by_default() {
        assert_eq!(Roles::default().of(&id("boss")), None);
    }
}
