//! The process: when it is ready, what it listens on, how it ends, and what its metrics say from the start.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tonic::Code;

use crate::ads::{Ads, CDS, RDS};
use crate::rig::{Folder, Pilot, command, entry, get, json};

/// Before the first configuration nothing is sent, least of all an empty world; then it is sent to those who wait.
#[tokio::test(flavor = "multi_thread")]
async fn without_configuration_everything_is_withheld() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("config");
    let pilot = Pilot::start(&["--config-dir", dir.to_str().unwrap()]).await;
    let (status, body) = get(pilot.monitoring, "/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("the first revision"), "{body}");
    let mut early = Ads::sotw(&pilot, "early.default").await;
    early.subscribe(CDS, &[]).await;
    let end = early.end().await;
    assert_eq!(end.code(), Code::Unavailable, "{end}");

    let mut waiting = Ads::sotw(&pilot, "waiting.default").await;
    waiting.subscribe(CDS, &[]).await;
    let folder = Folder::of(&[("a", 80)]);
    std::fs::rename(folder.path(), &dir).unwrap();
    assert!(waiting.take(CDS).await.has("outbound|80||a.example.com"));
    pilot.ready().await;
    assert_eq!(get(pilot.monitoring, "/ready").await.0, 200);
}

/// A folder that is there and empty is a configuration: an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_is_a_revision() {
    let folder = Folder::of(&[]);
    let pilot = Pilot::of(&folder).await;
    assert_eq!(pilot.revision().await, 1);
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    assert!(!ads.settle().await.cds.resources.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told_with_flag_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::of(&[]);
    let dir = folder.path().to_str().unwrap().to_owned();
    for flag in ["--grpc-addr", "--http-addr", "--monitoring-addr"] {
        let args = ["--config-dir", &dir, flag, &address].map(str::to_owned);
        let output = tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            command(&args).output().unwrap()
        });
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        let wanted = format!("{flag} {address}: the port is taken");
        assert!(
            text.contains(&wanted) && !text.contains(&format!("--{flag}")),
            "{text}"
        );
    }
}

/// SIGTERM: streams are told to go elsewhere, and the process ends well within its bound. Also before it ever had a configuration.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_cleanly() {
    let folder = Folder::of(&[("a", 80)]);
    let mut pilot = Pilot::of(&folder).await;
    let mut ads = Ads::sotw(&pilot, "p.default").await;
    ads.settle().await;
    pilot.terminate();
    assert_eq!(ads.end().await.code(), Code::Unavailable);
    assert_eq!(pilot.ended().await.code(), Some(0), "{}", pilot.logs());

    let mut pilot = Pilot::start(&["--config-dir", "/does/not/exist"]).await;
    let started = Instant::now();
    pilot.terminate();
    assert_eq!(pilot.ended().await.code(), Some(0), "{}", pilot.logs());
    // The bound is ten seconds; nothing here has a reason to use it up.
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{}",
        pilot.logs()
    );
}

/// Each proxy takes a file, and many systems allow a program 1024 until it asks for more.
#[tokio::test(flavor = "multi_thread")]
async fn it_takes_as_many_connections_as_the_system_allows() {
    let folder = Folder::of(&[("a", 80)]);
    let dir = folder.path().to_str().unwrap();
    let pilot = Pilot::limited("ulimit -S -n 100", &["--config-dir", dir]).await;
    pilot.ready().await;
    assert!(pilot.metric("process_max_fds").await > 1000.0);
}

/// Alerts can be written before anything happened: every series of a closed set is there, at zero.
#[tokio::test(flavor = "multi_thread")]
async fn every_series_is_there_from_the_start() {
    let folder = Folder::of(&[("a", 80), ("b", 81)]);
    let pilot = Pilot::of(&folder).await;
    for family in [
        "pilot_xds_pushes",
        "pilot_total_xds_rejects",
        "pilot_xds_expired_nonce",
    ] {
        for kind in ["cds", "eds", "lds", "rds", "sds", "ecds", "nds", "pcds"] {
            assert_eq!(
                pilot.metric(&format!("{family}{{type=\"{kind}\"}}")).await,
                0.0
            );
        }
    }
    for name in [
        "pilot_xds",
        "pilot_xds_cds_reject",
        "pilot_xds_eds_reject",
        "pilot_xds_lds_reject",
        "pilot_xds_rds_reject",
        "pilot_proxy_convergence_time_count",
        "pilot_virt_services",
        r#"pilot_inbound_updates{type="config"}"#,
    ] {
        assert_eq!(pilot.metric(name).await, 0.0, "{name}");
    }
    assert_eq!(pilot.metric("pilot_services").await, 2.0);
    assert_eq!(
        pilot.metric(r#"pilot_inbound_updates{type="svc"}"#).await,
        2.0
    );
    assert_eq!(pilot.metric("pilot_debounce_time_count").await, 1.0);
    assert_eq!(
        pilot
            .metric(&format!(
                "pilot_info{{version=\"{}\"}}",
                env!("CARGO_PKG_VERSION")
            ))
            .await,
        1.0
    );

    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    pilot
        .after(|| folder.write("a", &entry("a", 82, "10.1.0.1")))
        .await;
    ads.next_of(RDS).await;
    pilot
        .until("convergence is measured", async || {
            pilot.metric("pilot_proxy_convergence_time_count").await == 1.0
        })
        .await;
    assert_eq!(pilot.metric(r#"pilot_xds_pushes{type="cds"}"#).await, 2.0);
    assert_eq!(pilot.metric("pilot_xds").await, 1.0);
}

/// What tools ask for.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers() {
    let folder = Folder::of(&[("a", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    let config = json(pilot.http, "/v1/proxies/p.default/config").await;
    for kind in ["clusters", "endpoints", "listeners", "routes"] {
        let list = config[kind].as_array().unwrap();
        assert!(
            list.iter()
                .all(|r| r["@type"].is_string() && r["error"].is_null()),
            "{list:?}"
        );
        assert!(!list.is_empty(), "{kind}");
    }
    let (status, body) = get(pilot.http, "/v1/proxies/nobody/config").await;
    assert_eq!(status, 404);
    assert!(body.contains("nobody is not connected"), "{body}");
    let dump = json(pilot.http, "/debug/config_dump?proxyID=p.default").await;
    assert_eq!(dump["configs"].as_array().unwrap().len(), 4);
    assert_eq!(get(pilot.http, "/debug/config_dump").await.0, 400);
    let syncz = json(pilot.http, "/debug/syncz").await;
    assert_eq!(syncz[0]["proxy"], "p.default");
    pilot
        .until("the listeners are accepted", async || {
            let syncz = json(pilot.http, "/debug/syncz").await;
            syncz[0]["listener_sent"] == syncz[0]["listener_acked"]
        })
        .await;
    assert_eq!(json(pilot.monitoring, "/version").await["name"], "pilot");
    assert_eq!(get(pilot.http, "/v1/revisions/1?wait=never").await.0, 400);
    let all = json(pilot.http, "/v1/proxies").await;
    assert_eq!(all["pilots"][0]["galley_connected"], false);
    assert_eq!(all["pilots"][0]["stale_seconds"], 0);
    assert_eq!(all["silent_pilots"], json!([]));
}
