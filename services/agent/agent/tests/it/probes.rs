//! Probes of an application.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get as route;
use http::{StatusCode, header};
use serde_json::json;

use super::pilot::Pilot;
use super::rig::{Setup, get, own_ip, request};

/// What an application saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

async fn application(
    State(seen): State<Seen>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    seen.0.lock().unwrap().push(format!(
        "{} {} host={} agent={} x={}",
        peer.ip(),
        request.uri(),
        header("host"),
        header("user-agent"),
        header("x-probe"),
    ));
    let redirect =
        |to: &str| (StatusCode::FOUND, [(header::LOCATION, to.to_owned())]).into_response();
    match request.uri().path() {
        "/here" => redirect("/ok"),
        "/away" => redirect("http://169.254.169.254/latest"),
        "/round" => redirect("/round"),
        "/bad" => (StatusCode::SERVICE_UNAVAILABLE, "not now").into_response(),
        "/long" => "x".repeat(100_000).into_response(),
        "/endless" => {
            let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(1000)));
            axum::body::Body::from_stream(chunks).into_response()
        }
        _ => "fine".into_response(),
    }
}

/// Cases 32 and 33: a probe goes where the configuration says, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn probes_reach_the_application_and_nothing_else() {
    let pilot = Pilot::plain().await;
    let ip = own_ip();
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let router = axum::Router::new()
        .fallback(route(application))
        .with_state(seen.clone())
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let closed = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let closed_port = closed.local_addr().unwrap().port();
    drop(closed);
    let http = |path: &str| json!({"httpGet": {"path": path, "port": port}});
    let probers = json!({
        "/app-health/app/livez": {"httpGet": {"path": "/ok?x=1", "port": port, "httpHeaders": [
            {"name": "Host", "value": "app.test"}, {"name": "X-Probe", "value": "own"}]}},
        "/app-health/app/readyz": http("/bad"),
        "/app-health/app/startupz": http("/long"),
        "/app-health/endless/livez": http("/endless"),
        "/app-health/here/livez": http("/here"),
        "/app-health/away/livez": http("/away"),
        "/app-health/round/livez": http("/round"),
        "/app-health/tcp/livez": {"tcpSocket": {"port": port}},
        "/app-health/closed/livez": {"tcpSocket": {"port": closed_port}},
        "/app-health/closed/readyz": {"httpGet": {"port": closed_port}},
        "/app-health/nogrpc/livez": {"grpc": {"port": port}},
    });
    let agent = Setup::new()
        .var("INSTANCE_IP", &ip.to_string())
        .pilots(&[format!("http://{}", pilot.address)])
        .var("ISTIO_KUBE_APP_PROBERS", &probers.to_string())
        .start()
        .await;
    let saw = || std::mem::take(&mut *seen.0.lock().unwrap());
    let head = "GET /app-health/app/livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\nuser-agent: kube-probe/1.30\r\nx-probe: theirs";
    assert_eq!(
        request(agent.status, head).await.unwrap(),
        (200, "fine".into())
    );
    assert_eq!(
        saw(),
        ["127.0.0.6 /ok?x=1 host=app.test agent=kube-probe/1.30 x=own"]
    );
    let probe = async |path: &str| get(agent.status, path).await.unwrap();
    assert_eq!(
        probe("/app-health/app/readyz").await,
        (503, "not now".into())
    );
    let (status, body) = probe("/app-health/app/startupz").await;
    assert_eq!((status, body.len()), (200, 10 << 10));
    let (status, body) = probe("/app-health/endless/livez").await;
    assert_eq!((status, body.len()), (200, 10 << 10));
    saw();
    assert_eq!(probe("/app-health/here/livez").await.0, 200);
    assert_eq!(saw().len(), 2);
    // Case 33: reported as well, and nothing is sent there.
    assert_eq!(probe("/app-health/away/livez").await.0, 200);
    assert_eq!(saw().len(), 1);
    assert_eq!(probe("/app-health/round/livez").await.0, 500);
    assert_eq!(saw().len(), 11);
    assert_eq!(probe("/app-health/tcp/livez").await.0, 200);
    assert_eq!(probe("/app-health/closed/livez").await.0, 500);
    assert_eq!(probe("/app-health/closed/readyz").await.0, 500);
    assert_eq!(probe("/app-health/nogrpc/livez").await.0, 500);
    // Case 32.
    saw();
    for path in [
        "/app-health/../../debug/pprof",
        "/app-health/none/readyz",
        "/app-health/app/livez/",
        "/app-health/%61pp/livez",
        "/app-lifecycle/app/prestopz",
    ] {
        assert_eq!(probe(path).await.0, 400, "{path}");
    }
    for path in ["/debug/pprof", "/other", "//app-health/app/livez"] {
        assert_eq!(probe(path).await.0, 404, "{path}");
    }
    assert_eq!(saw(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_that_it_serves_is_alive() {
    let pilot = Pilot::plain().await;
    let ip = own_ip();
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A health server in a few bytes: the message {status: SERVING}, or another for a service of another name, or to anybody whom capture
    // rules would lead to the proxy.
    let health = async |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
        let body = axum::body::to_bytes(request.into_body(), 1000)
            .await
            .unwrap();
        let serving = body.len() == 5 || body.ends_with(b"good");
        let serving = serving && peer.ip().to_string() == "127.0.0.6";
        let frame: [u8; 7] = [0, 0, 0, 0, 2, 8, if serving { 1 } else { 2 }];
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let frames = [
            Ok::<_, std::convert::Infallible>(http_body::Frame::data(
                bytes::Bytes::copy_from_slice(&frame),
            )),
            Ok(http_body::Frame::trailers(trailers)),
        ];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
        (
            [(header::CONTENT_TYPE, "application/grpc")],
            axum::body::Body::new(body),
        )
    };
    let router =
        axum::Router::new().route("/grpc.health.v1.Health/Check", axum::routing::post(health));
    let stop = service_kit::Stop::new();
    tokio::spawn(service_kit::serve_http(listener, router, stop));
    let grpc = |service: &str| json!({"grpc": {"port": port, "service": service}});
    let probers = json!({
        "/app-health/all/livez": grpc(""),
        "/app-health/good/livez": grpc("good"),
        "/app-health/bad/livez": grpc("bad!"),
    });
    let agent = Setup::new()
        .var("INSTANCE_IP", &ip.to_string())
        .pilots(&[format!("http://{}", pilot.address)])
        .var("ISTIO_KUBE_APP_PROBERS", &probers.to_string())
        .start()
        .await;
    for (path, want) in [("all", 200), ("good", 200), ("bad", 500)] {
        let path = format!("/app-health/{path}/livez");
        assert_eq!(get(agent.status, &path).await.unwrap().0, want, "{path}");
    }
}
