//! Port 15020: who may end what, and metrics.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::pilot::Pilot;
use super::rig::{Agent, Setup, get, request};

/// An address of this machine that is not loopback.
fn outside() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .connect("192.0.2.1:9")
        .expect("a machine with a network");
    socket.local_addr().unwrap().ip()
}

async fn start(pilot: &Pilot) -> Agent {
    let agent = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .arg("--status-addr", "0.0.0.0:0")
        .start()
        .await;
    agent.ready().await;
    agent
}

async fn ask(at: SocketAddr, method: &str, path: &str) -> u16 {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close");
    request(at, &head).await.unwrap().0
}

/// Status of a POST from the address that the proxy connects to applications from.
async fn by_the_proxy(at: SocketAddr, path: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 6], 0).into()).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Case 31: from elsewhere nobody ends anything, whatever the method; here only POST does.
#[tokio::test(flavor = "multi_thread")]
async fn only_this_machine_may_end_it() {
    let pilot = Pilot::plain().await;
    let mut agent = start(&pilot).await;
    let elsewhere = SocketAddr::new(outside(), agent.status.port());
    for path in ["/quitquitquit", "/drain"] {
        assert_eq!(ask(elsewhere, "POST", path).await, 403);
        assert_eq!(ask(elsewhere, "GET", path).await, 403);
        assert_eq!(ask(agent.status, "GET", path).await, 405);
        assert_eq!(ask(agent.status, "PUT", path).await, 405);
    }
    assert_eq!(ask(elsewhere, "GET", "/debug/ndsz").await, 403);
    assert_eq!(ask(elsewhere, "GET", "/healthz/ready").await, 200);
    // What comes by the proxy comes from loopback, and is somebody else's all the same.
    for path in ["/quitquitquit", "/drain"] {
        assert_eq!(by_the_proxy(agent.status, path).await, 403);
    }
    assert!(!agent.has_ended());
    let before = tokio::time::Instant::now();
    assert_eq!(ask(agent.status, "POST", "/quitquitquit").await, 200);
    assert_eq!(agent.ended().await.code(), Some(0));
    // No drain, which takes five seconds.
    assert!(
        before.elapsed().as_secs_f64() < 4.5,
        "{:?}",
        before.elapsed()
    );
}

/// One scrape has Envoy, the agent and the application, last; one that does not answer is left out and counted.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_all_three_come_in_one_answer() {
    let pilot = Pilot::plain().await;
    let app = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = app.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        use axum::routing::get;
        let answer = async |headers: http::HeaderMap| {
            let said = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
            format!(
                "app_requests 7\napp_asked{{accept={:?},timeout={:?}}} 1\n",
                said("accept").unwrap_or_default(),
                said("x-prometheus-scrape-timeout-seconds").unwrap_or_default()
            )
        };
        let router = axum::Router::new().route("/m", get(answer));
        axum::serve(app, router).await.unwrap();
    });
    let annotations = format!(r#"{{"scrape":"true","path":"/m","port":"{port}"}}"#);
    let agent = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .var("ISTIO_PROMETHEUS_ANNOTATIONS", &annotations)
        .start()
        .await;
    agent.ready().await;
    let head = "GET /stats/prometheus HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: text/plain\r\nX-Prometheus-Scrape-Timeout-Seconds: 3";
    let (status, text) = request(agent.status, head).await.unwrap();
    assert_eq!(status, 200);
    let at = |what: &str| {
        text.find(what)
            .unwrap_or_else(|| panic!("no {what} in {text}"))
    };
    assert!(at("envoy_server_state") < at("istio_agent_scrapes_total"));
    assert!(at("istio_agent_scrapes_total") < at("app_requests 7"));
    assert!(text.contains("app_asked{accept=\"text/plain\",timeout=\"3\"} 1"));
    // Names that the application has too are the application's.
    assert!(text.contains("\nistio_agent_process_cpu_seconds_total "));
    let process = text.lines().filter(|line| line.starts_with("process_"));
    assert_eq!(process.collect::<Vec<_>>(), Vec::<&str>::new());
    let mut types: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("# TYPE "))
        .collect();
    types.sort_unstable();
    let all = types.len();
    types.dedup();
    assert_eq!(types.len(), all);
    serving.abort();
    let _ = serving.await;
    let failures = "istio_agent_scrape_failures_total{type=\"application\"}";
    agent
        .until("the failure is counted", async || {
            agent.metric(failures).await >= 1.0
        })
        .await;
    let (status, text) = get(agent.status, "/metrics").await.unwrap();
    assert!(status == 200 && text.contains("envoy_server_state"));
    assert_eq!(
        agent
            .metric("istio_agent_scrape_failures_total{type=\"envoy\"}")
            .await,
        0.0
    );
    // Envoy's own listener knows nothing but its metrics.
    assert_eq!(
        get(agent.prometheus, "/stats/prometheus").await.unwrap().0,
        200
    );
    assert_eq!(get(agent.prometheus, "/quitquitquit").await.unwrap().0, 404);
    assert_eq!(get(agent.health, "/quitquitquit").await.unwrap().0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_of_the_proxys_own_ports_is_refused() {
    let told = Setup::new()
        .pilots(&["http://127.0.0.1:1".into()])
        .var("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"port":"15090"}"#)
        .refused()
        .await;
    assert!(told.contains("port 15090 is the proxy's own"), "{told}");
}

/// `agent wait` and `agent request`.
#[tokio::test(flavor = "multi_thread")]
async fn commands_beside_the_agent_wait_and_ask() {
    let pilot = Pilot::plain().await;
    let agent = start(&pilot).await;
    let run = |args: Vec<String>| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(args)
            .output();
        let output = output.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let url = |at: SocketAddr| format!("http://{at}/healthz/ready");
    let (code, told) = run(vec!["wait".into(), "--url".into(), url(agent.health)]);
    assert_eq!((code, told.as_str()), (Some(0), "the proxy is ready\n"));
    let nobody = SocketAddr::new(agent.ip, 9);
    let (code, _) = run(["wait", "--timeoutSeconds", "1", "--url", &url(nobody)]
        .map(str::to_owned)
        .to_vec());
    assert_eq!(code, Some(1));
    let admin = agent.admin.to_string();
    let (code, told) = run(["request", "GET", "server_info", "--addr", &admin]
        .map(str::to_owned)
        .to_vec());
    assert!(
        code == Some(0) && told.contains("\"state\": \"LIVE\""),
        "{told}"
    );
    let (code, _) = run(["request", "GET", "nothing", "--addr", &admin]
        .map(str::to_owned)
        .to_vec());
    assert_eq!(code, Some(1));
}
