//! The HTTP API: who is connected, what each proxy has, how far a revision is. Loopback unless told otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use mesh_api::pilot::{PilotStatus, RevisionStatus};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use xds_core::TypeId;

use crate::peers::{ConfigError, Peers};
use crate::planner::Planner;
use crate::roster::Roster;
use crate::whole;

/// Longest time one call waits.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// How many configurations are printed at once.
static PRINTING: Semaphore = Semaphore::const_new(2);

/// What the API answers from.
#[derive(Clone)]
pub struct Api {
    /// This Pilot's proxies.
    pub roster: Arc<Roster>,
    /// The other Pilots.
    pub peers: Arc<Peers>,
    /// The mesh; none when a folder of Envoy resources is served as it is.
    pub planner: Option<Planner>,
}

/// What every Pilot knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proxies {
    /// One entry per Pilot.
    pub pilots: Vec<PilotStatus>,
    /// Pilots that are registered and did not answer.
    pub silent_pilots: Vec<String>,
}

#[derive(Deserialize)]
struct Wait {
    /// How long to wait, as `30s`; unset answers at once.
    wait: Option<String>,
}

#[derive(Deserialize)]
struct Which {
    #[serde(rename = "proxyID", alias = "proxy")]
    proxy: Option<String>,
}

impl Api {
    /// Routes: `/v1/proxies`, `/v1/proxies/{proxy}/config`, `/v1/revision`, `/v1/revisions/{n}`, `/v1/findings`,
    /// `/debug/syncz`, `/debug/config_dump`.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/proxies", get(proxies))
            .route("/v1/proxies/{proxy}/config", get(config))
            .route("/v1/revision", get(revision))
            .route("/v1/revisions/{revision}", get(progress))
            .route("/v1/findings", get(findings))
            .route("/debug/syncz", get(syncz))
            .route("/debug/config_dump", get(config_dump))
            .with_state(self)
    }
}

fn failure(status: StatusCode, code: &str, message: impl Into<String>) -> Response {
    (
        status,
        Json(json!({ "code": code, "message": message.into() })),
    )
        .into_response()
}

async fn proxies(State(api): State<Api>) -> Json<Proxies> {
    let (pilots, silent_pilots) = api.peers.status().await;
    Json(Proxies {
        pilots,
        silent_pilots,
    })
}

async fn revision(State(api): State<Api>) -> Json<Value> {
    Json(json!({ "pilot": api.roster.pilot(), "revision": api.roster.revision() }))
}

async fn progress(
    State(api): State<Api>,
    Path(revision): Path<u64>,
    Query(query): Query<Wait>,
) -> Response {
    let wait = match query
        .wait
        .as_deref()
        .map(service_kit::parse_duration)
        .transpose()
    {
        Ok(wait) => wait.unwrap_or_default().min(MAX_WAIT),
        Err(error) => {
            return failure(
                StatusCode::BAD_REQUEST,
                "malformed",
                format!("wait: {error}"),
            );
        }
    };
    let status: RevisionStatus = if wait.is_zero() {
        api.peers.progress(revision).await
    } else {
        api.peers
            .settle(revision, tokio::time::Instant::now().into_std() + wait)
            .await
    };
    Json(status).into_response()
}

async fn findings(State(api): State<Api>) -> Response {
    let Some(planner) = &api.planner else {
        return Json(json!([])).into_response();
    };
    match planner.mesh().await {
        Some(mesh) => match tokio::task::spawn_blocking(move || mesh.findings()).await {
            Ok(of_mesh) => {
                let mut findings = planner.source_findings();
                findings.extend(of_mesh);
                findings.extend(planner.unprotected().await);
                Json(findings).into_response()
            }
            Err(_) => failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "findings could not be gathered",
            ),
        },
        None => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "this Pilot is going away",
        ),
    }
}

async fn config(State(api): State<Api>, Path(proxy): Path<String>) -> Response {
    resources(&api, &proxy, |all| all).await
}

/// Every resource a proxy should have, as proto3 JSON by kind, in the shape that `shape` gives it.
async fn resources(api: &Api, proxy: &str, shape: fn(Value) -> Value) -> Response {
    let internal = |what: &str| failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", what);
    // Much memory for a big mesh: others wait for their turn.
    let Ok(_turn) = PRINTING.acquire().await else {
        return internal("this Pilot is going away");
    };
    let whole = match api.peers.config(proxy).await {
        Ok(whole) => whole,
        Err(error @ ConfigError::Unknown { .. }) => {
            return failure(StatusCode::NOT_FOUND, "unknown-proxy", error.to_string());
        }
        Err(error) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return failure(status, "pilot-unavailable", error.to_string());
        }
    };
    // And much text: not on a worker that streams need.
    let made = tokio::task::spawn_blocking(move || {
        whole::to_json(whole).and_then(|all| serde_json::to_vec(&shape(all)).ok())
    });
    match made.await {
        Ok(Some(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Ok(None) | Err(_) => internal("the configuration could not be printed"),
    }
}

/// An encoded `Any` as JSON with `@type`.
pub fn envoy_json(any: &[u8]) -> Option<Value> {
    let any = prost_types::Any::decode(any).ok()?;
    envoy_api::json::to_json(&any.type_url, &any.value).ok()
}

/// Istio's shape, for tools that read it.
async fn syncz(State(api): State<Api>) -> Json<Value> {
    let (pilots, _) = api.peers.status().await;
    let entries: Vec<Value> = pilots
        .iter()
        .flat_map(|pilot| &pilot.proxies)
        .map(|proxy| {
            let mut entry = json!({
                "cluster_id": proxy.cluster_id,
                "proxy": proxy.proxy,
                "istio_version": proxy.proxy_version,
            });
            for status in &proxy.types {
                if let Some(type_id) = TypeId::ALL.into_iter().find(|t| t.url() == status.type_url)
                {
                    let kind = match type_id {
                        TypeId::Cds => "cluster",
                        TypeId::Eds => "endpoint",
                        TypeId::Lds => "listener",
                        TypeId::Rds => "route",
                        other => other.label(),
                    };
                    entry[format!("{kind}_sent")] = json!(status.sent_version);
                    entry[format!("{kind}_acked")] = json!(status.acked_version);
                }
            }
            entry
        })
        .collect();
    Json(Value::Array(entries))
}

/// [`envoy_dump`], for tools that read it.
async fn config_dump(State(api): State<Api>, Query(query): Query<Which>) -> Response {
    let Some(proxy) = query.proxy else {
        return failure(
            StatusCode::BAD_REQUEST,
            "required",
            "proxyID: name the proxy, as pod.namespace",
        );
    };
    resources(&api, &proxy, envoy_dump).await
}

/// What a proxy should have, in the shape of Envoy's own dump.
fn envoy_dump(all: Value) -> Value {
    let wrapped = |list: &Value, field: &str| -> Vec<Value> {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|resource| json!({ field: resource }))
            .collect()
    };
    let listeners: Vec<Value> = all["listeners"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|listener| json!({ "name": listener["name"], "active_state": { "listener": listener } }))
        .collect();
    json!({ "configs": [
        { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": wrapped(&all["clusters"], "cluster") },
        { "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": listeners },
        { "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": wrapped(&all["routes"], "route_config") },
        { "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": wrapped(&all["endpoints"], "endpoint_config") },
    ]})
}
