//! The HTTP API: who is connected, what each proxy has, how far a revision is. Loopback unless told otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use mesh_api::pilot::{PilotStatus, RevisionStatus};
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xds_core::TypeId;

use crate::peers::Peers;
use crate::planner::Planner;
use crate::roster::Roster;

/// Longest time one call waits.
const MAX_WAIT: Duration = Duration::from_secs(600);

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
    match resources(&api, &proxy).await {
        Ok(all) => Json(all).into_response(),
        Err(response) => response,
    }
}

/// Every resource a proxy should have, as proto3 JSON by kind.
async fn resources(api: &Api, proxy: &str) -> Result<Value, Response> {
    let Some(connection) = api.roster.find(proxy) else {
        let message = match api.peers.holder(proxy).await {
            Some(pilot) => format!("{proxy} is connected to {pilot}; ask that Pilot"),
            None => format!("{proxy} is not connected; `flotilla proxy-status` lists who is"),
        };
        return Err(failure(StatusCode::NOT_FOUND, "unknown-proxy", message));
    };
    let snapshot = connection.snapshot.borrow().clone();
    // Much text for a big mesh: not on a worker that streams need.
    let made = tokio::task::spawn_blocking(move || {
        let list = |type_id: TypeId| {
            let layers = snapshot.layers(type_id);
            let print = |encoded: &std::sync::Arc<xds_core::Encoded>| {
                envoy_json(encoded.any()).unwrap_or_else(
                    || json!({ "name": &**encoded.name(), "error": "this resource cannot be printed" }),
                )
            };
            Value::Array(layers.iter().map(print).collect())
        };
        json!({
            "clusters": list(TypeId::Cds),
            "endpoints": list(TypeId::Eds),
            "listeners": list(TypeId::Lds),
            "routes": list(TypeId::Rds),
            "secrets": [],
        })
    });
    made.await.map_err(|_| {
        let what = "the configuration could not be printed";
        failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", what)
    })
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

/// What a proxy should have, in the shape of Envoy's own dump.
async fn config_dump(State(api): State<Api>, Query(query): Query<Which>) -> Response {
    let Some(proxy) = query.proxy else {
        return failure(
            StatusCode::BAD_REQUEST,
            "required",
            "proxyID: name the proxy, as pod.namespace",
        );
    };
    let all = match resources(&api, &proxy).await {
        Ok(all) => all,
        Err(response) => return response,
    };
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
    Json(json!({ "configs": [
        { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": wrapped(&all["clusters"], "cluster") },
        { "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": listeners },
        { "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": wrapped(&all["routes"], "route_config") },
        { "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": wrapped(&all["endpoints"], "endpoint_config") },
    ]})).into_response()
}
