//! The HTTP API: what is in force, what came before, what is wrong with the sources. Loopback unless told otherwise.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use config_source::Scan;
use mesh_types::Finding;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Store, StoreError};
use tokio::sync::watch;

use crate::published::Published;
use crate::source::{FindingView, SourceSet};

/// Most revisions one answer lists.
const MAX_LIMIT: u32 = 1000;

/// What the API answers from.
#[derive(Clone)]
pub struct Api {
    /// What the keeper has published.
    pub published: Published,
    /// What an analysis of the whole shows.
    pub analysis: watch::Receiver<Arc<Vec<Finding>>>,
    /// The newest scan.
    pub scans: watch::Receiver<Option<Scan>>,
    /// The sources.
    pub sources: SourceSet,
}

/// One revision.
#[derive(Debug, Serialize)]
struct RevisionView {
    revision: u64,
    committed_us: i64,
    source: String,
    summary: String,
    digest: String,
}

impl From<store::Revision> for RevisionView {
    fn from(revision: store::Revision) -> RevisionView {
        RevisionView {
            revision: revision.n,
            committed_us: revision.committed_us,
            source: revision.source,
            summary: revision.summary,
            digest: revision.digest,
        }
    }
}

#[derive(Deserialize)]
struct Page {
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct Which {
    namespace: Option<String>,
}

impl Api {
    /// Routes: `/v1/revision`, `/v1/revisions?limit=`, `/v1/revisions/{n}`, `/v1/findings?namespace=`, `/v1/sources`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/revision", get(revision))
            .route("/v1/revisions", get(revisions))
            .route("/v1/revisions/{n}", get(changes))
            .route("/v1/findings", get(findings))
            .route("/v1/sources", get(sources))
            .with_state(self)
    }

    fn store(&self) -> Option<Store> {
        self.published.store.borrow().clone()
    }
}

fn no_store() -> Response {
    failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "no-store",
        "the store is not open yet; see /ready",
    )
}

fn failure(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    (
        status,
        Json(json!({ "code": code, "message": message.into() })),
    )
        .into_response()
}

/// A client hears less than the log.
fn store_failure(error: &StoreError) -> Response {
    if let StoreError::NoRevision { .. } = error {
        return failure(StatusCode::NOT_FOUND, "no-revision", error.to_string());
    }
    tracing::warn!(%error, "the store did not answer a request");
    failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "store",
        "the store cannot be read now; see the log",
    )
}

/// The newest revision: answered from memory, also when the store is away.
async fn revision(State(api): State<Api>) -> Response {
    let snapshot = api.published.snapshot.borrow().clone();
    Json(json!({
        "revision": snapshot.revision,
        "committed_us": snapshot.committed_us,
        "objects": snapshot.len(),
        "writer": *api.published.writer.borrow(),
    }))
    .into_response()
}

async fn revisions(State(api): State<Api>, Query(page): Query<Page>) -> Response {
    let Some(store) = api.store() else {
        return no_store();
    };
    match store.history(page.limit.unwrap_or(20).min(MAX_LIMIT)).await {
        Ok(list) => {
            Json(list.into_iter().map(RevisionView::from).collect::<Vec<_>>()).into_response()
        }
        Err(error) => store_failure(&error),
    }
}

async fn changes(State(api): State<Api>, Path(n): Path<u64>) -> Response {
    let Some(store) = api.store() else {
        return no_store();
    };
    let found = async {
        let changes = store.changes_of(n).await?;
        Ok((store.revision(n).await?, changes))
    };
    match found.await {
        Ok((revision, changes)) => {
            let changes: Vec<_> = changes
                .iter()
                .map(|change| {
                    json!({
                        "kind": change.key.kind,
                        "namespace": change.key.namespace,
                        "name": change.key.name,
                        "change": if change.now.is_some() { "upsert" } else { "delete" },
                    })
                })
                .collect();
            Json(json!({ "revision": revision.map(RevisionView::from), "changes": changes }))
                .into_response()
        }
        Err(error) => store_failure(&error),
    }
}

async fn findings(State(api): State<Api>, Query(which): Query<Which>) -> Response {
    let (found, analysis) = (
        api.published.findings.borrow().clone(),
        api.analysis.borrow().clone(),
    );
    let list: Vec<FindingView<'_>> = found
        .iter()
        .chain(analysis.iter())
        .filter(|finding| {
            which.namespace.as_deref().is_none_or(|wanted| {
                finding
                    .key
                    .as_ref()
                    .is_some_and(|key| &*key.namespace == wanted)
            })
        })
        .map(FindingView::from)
        .collect();
    Json(list).into_response()
}

async fn sources(State(api): State<Api>) -> Response {
    let scan = api.scans.borrow().clone();
    Json(api.sources.status(scan.as_ref())).into_response()
}
