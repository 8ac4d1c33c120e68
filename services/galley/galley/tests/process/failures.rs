//! What fails around it: the disk, the database, the bus, a port, a client.

use std::process::Command;

use bus::{Bus as _, NatsBus};
use galley::REVISION_SUBJECT;
use testkit::nats::Nats;
use testkit::postgres::Postgres;

use crate::client::Client;
use crate::harness::{Galley, PATIENCE, Start, folder, save, service, wait};

/// What `/ready` says about the store, if it cannot be used.
fn store_note(galley: &Galley) -> Option<String> {
    galley.ready()["degraded"]["store"]
        .as_str()
        .map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_survived() {
    let (dir, mesh, store) = folder();
    let file = mesh.join("a.yaml");
    save(&file, &service("a", 1));
    // Files of this process end at half a megabyte, as if the disk were full.
    let galley = Start::new(dir.path(), "one", &store, &[&mesh])
        .through(&[
            "sh",
            "-c",
            "trap '' XFSZ; ulimit -S -f 1000; exec \"$0\" \"$@\"",
        ])
        .start()
        .await;
    let mut client = Client::default();
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.reach(&mut stream, 1).await;
    let text = format!("annotations: {{x: \"{}\"}}, labels:", "x".repeat(1 << 20));
    let large = service("large", 1).replace("labels:", &text);
    save(&file, &(service("a", 2) + &large));
    let note = wait("the note", async || store_note(&galley)).await;
    assert!(note.contains("serving revision 1"), "{note}");
    assert!(galley.metric("flotilla_galley_store_errors_total") >= 1.0);
    assert_eq!(galley.ready()["ready"], true);
    // It still serves, also new subscribers.
    let mut fresh = Client::default();
    let mut other = fresh.connect(&galley.grpc()).await.unwrap();
    fresh.reach(&mut other, 1).await;
    assert_eq!(fresh.says(), "a=1");
    // There is space again: nobody has to do anything.
    let freed = Command::new("prlimit")
        .args(["--pid", &galley.pid().to_string(), "--fsize=unlimited"])
        .status();
    assert!(freed.unwrap().success());
    client.reach(&mut stream, 2).await;
    assert_eq!(client.says(), "a=2 large=1");
    wait("no note", async || {
        store_note(&galley).is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for() {
    let mut server = Postgres::start();
    let store = server.database("away");
    let (dir, mesh, _) = folder();
    let file = mesh.join("a.yaml");
    save(&file, &service("a", 1));
    let start = Start::new(dir.path(), "one", &store, &[&mesh]);
    let galley = start.start().await;
    let mut client = Client::default();
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.reach(&mut stream, 1).await;

    server.kill();
    save(&file, &service("a", 2));
    wait("the note", async || store_note(&galley)).await;
    let mut fresh = Client::default();
    let mut other = fresh.connect(&galley.grpc()).await.unwrap();
    fresh.reach(&mut other, 1).await;
    assert_eq!(fresh.says(), "a=1");
    // One that starts now waits, and says for what.
    let late = Start::new(dir.path(), "late", &store, &[&mesh])
        .start()
        .await;
    assert_eq!(late.ready()["ready"], false);
    assert!(late.ready()["waiting"]["revision"].is_string());

    server.restart();
    client.reach(&mut stream, 2).await;
    assert_eq!(client.says(), "a=2");
    late.reaches(2).await;
    wait("readiness", async || {
        late.ready()["ready"].as_bool().filter(|ready| *ready)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_may_be_away_and_tells_when_it_is_there() {
    let mut nats = Nats::prepare();
    let (dir, mesh, store) = folder();
    let file = mesh.join("a.yaml");
    save(&file, &service("a", 1));
    let galley = Start::new(dir.path(), "one", &store, &[&mesh])
        .arg(format!("--bus={}", nats.url()))
        .start()
        .await;
    let mut client = Client::default();
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.reach(&mut stream, 1).await;
    save(&file, &service("a", 2));
    client.reach(&mut stream, 2).await;

    nats.launch();
    let bus = NatsBus::connect(&nats.url(), &bus::BusOptions::default())
        .await
        .unwrap();
    let mut news = bus.subscribe(REVISION_SUBJECT).await.unwrap();
    let mut state = bus.state();
    state.wait_for(|state| state.connected).await.unwrap();
    // Galley's own connection comes back some time: edits are told from then on.
    let told = async {
        for n in 3.. {
            save(&file, &service("a", n));
            client.reach(&mut stream, n as u64).await;
            let soon = std::time::Duration::from_millis(500);
            if let Ok(Some(message)) = tokio::time::timeout(soon, news.next()).await {
                return (n.to_string(), message.payload);
            }
        }
        unreachable!()
    };
    let (number, payload) = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(payload, number.as_bytes());
}

#[test]
fn mistakes_in_flags_are_told() {
    let (dir, mesh, store) = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let source = format!("--source={}", mesh.display());
    let store = format!("--store={store}");
    let any = ["--http-addr=127.0.0.1:0", "--monitoring-addr=127.0.0.1:0"];
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_galley"))
            .args(args)
            .args(any)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(!out.status.success(), "{args:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let said = run(&[&source, &store, &format!("--grpc-addr={taken}")]);
    assert!(
        said.contains("--grpc-addr") && said.contains("taken"),
        "{said}"
    );
    let said = run(&[&source, &store, "--grpc-addr=0.0.0.0:0"]);
    assert!(said.contains("--insecure"), "{said}");
    let said = run(&[&source, "--store=mysql://x", "--grpc-addr=127.0.0.1:0"]);
    assert!(said.contains("sqlite"), "{said}");
    let said = run(&["--source=k8s://", &store, "--grpc-addr=127.0.0.1:0"]);
    assert!(said.contains("k8s"), "{said}");
}
