//! The endpoints every service answers: `/metrics`, `/ready`, `/healthz`, `/version`.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde::Serialize;

use crate::{Ready, ReadyReport};

/// What `/version` answers. Make it with [`version!`](crate::version!), which takes the numbers of the calling crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// The service: "pilot".
    pub name: &'static str,
    /// Its version: "0.1.0".
    pub version: &'static str,
    /// The commit it was built from, if the build was told (`FLOTILLA_GIT_SHA`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_sha: Option<&'static str>,
}

/// The [`Version`](crate::Version) of the crate that calls it.
#[macro_export]
macro_rules! version {
    () => {
        $crate::Version {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            git_sha: option_env!("FLOTILLA_GIT_SHA"),
        }
    };
}

#[derive(Clone)]
struct Endpoints {
    registry: Registry,
    ready: Ready,
    version: Version,
}

/// A router with:
/// - `/metrics`: `registry` in Prometheus's text format;
/// - `/ready`: 200 if ready, else 503, both with a [`ReadyReport`] as JSON;
/// - `/healthz`: 200 as long as the process answers at all;
/// - `/version`: `version` as JSON.
pub fn http_router(registry: Registry, ready: Ready, version: Version) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready_report))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/version",
            get(|State(e): State<Endpoints>| async move { Json(e.version) }),
        )
        .with_state(Endpoints {
            registry,
            ready,
            version,
        })
}

async fn metrics(State(endpoints): State<Endpoints>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&endpoints.registry.gather(), &mut text) {
        Ok(()) => {
            let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            ([(header::CONTENT_TYPE, format)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be printed");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics cannot be printed, see the log\n",
            )
                .into_response()
        }
    }
}

async fn ready_report(State(endpoints): State<Endpoints>) -> (StatusCode, Json<ReadyReport>) {
    let report = endpoints.ready.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use expect_test::{Expect, expect};
    use http_body_util::BodyExt as _;
    use hyper::Request;
    use tower::ServiceExt as _;

    async fn check(router: &Router, path: &str, want: Expect) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        want.assert_eq(&format!("{status} {}", String::from_utf8_lossy(&body)));
    }

    #[tokio::test]
    async fn answers_as_tools_expect() {
        let registry = Registry::new();
        let pushes = prometheus::IntCounter::new("pilot_xds_pushes", "Pushes.").unwrap();
        registry.register(Box::new(pushes.clone())).unwrap();
        pushes.inc();
        let ready = Ready::default();
        let config = ready.condition("config", "the first snapshot");
        let router = http_router(
            registry,
            ready,
            Version {
                name: "pilot",
                version: "0.1.0",
                git_sha: None,
            },
        );
        check(&router, "/healthz", expect!["200 ok\n"]).await;
        check(
            &router,
            "/version",
            expect![[r#"200 {"name":"pilot","version":"0.1.0"}"#]],
        )
        .await;
        check(
            &router,
            "/metrics",
            expect![[r#"
                200 # HELP pilot_xds_pushes Pushes.
                # TYPE pilot_xds_pushes counter
                pilot_xds_pushes 1
            "#]],
        )
        .await;
        check(
            &router,
            "/ready",
            expect![[r#"503 {"ready":false,"waiting":{"config":"the first snapshot"}}"#]],
        )
        .await;
        config.met();
        check(&router, "/ready", expect![[r#"200 {"ready":true}"#]]).await;
        check(&router, "/else", expect!["404 "]).await;
    }
}
