//! From a folder to a subscriber, on both databases.

use std::fs;

use mesh_types::Kind;
use testkit::postgres::Postgres;

use crate::client::Client;
use crate::harness::{Start, folder, save, service, wait};

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_road_on_sqlite() {
    let (_dir, _, store) = folder();
    road(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_road_on_postgres() {
    let server = Postgres::start();
    road(&server.database("road")).await;
}

/// Everything a user does to a folder, seen by a subscriber.
async fn road(store: &str) {
    let (dir, mesh, _) = folder();
    let file = mesh.join("a.yaml");
    save(&file, &(service("a", 1) + &service("b", 1)));
    let start = Start::new(dir.path(), "one", store, &[&mesh]);
    let galley = start.start().await;
    let mut client = Client::default();
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.reach(&mut stream, 1).await;
    assert_eq!((client.revision, client.says().as_str()), (1, "a=1 b=1"));
    wait("readiness", async || {
        galley.ready()["ready"].as_bool().filter(|ready| *ready)
    })
    .await;

    // A change of one object of two: one object goes over the wire.
    save(&file, &(service("a", 2) + &service("b", 1)));
    client.reach(&mut stream, 2).await;
    assert_eq!((client.says().as_str(), client.came), ("a=2 b=1", 1));

    // Bad beside good: the bad one keeps its last good version and is told about, the good one goes on.
    let bad = service("a", 3).replace("route:", "rout:");
    save(&file, &(bad + &service("b", 3)));
    client.reach(&mut stream, 3).await;
    assert_eq!(client.says(), "a=2 b=3");
    assert!(
        galley
            .findings()
            .contains(&"VirtualService a unknown-field".to_owned()),
        "{:?}",
        galley.findings()
    );
    let findings = galley.get("/v1/findings?namespace=shop");
    let finding = &findings[0];
    assert_eq!(finding["code"], "unknown-field", "{findings}");
    assert_eq!(finding["path"], "spec.http[0].rout");
    assert_eq!(finding["file"], file.display().to_string());
    assert_eq!(
        (
            finding["kind"].as_str(),
            finding["namespace"].as_str(),
            finding["name"].as_str()
        ),
        (Some("VirtualService"), Some("shop"), Some("a"))
    );
    let failed = "galley_validation_failed{group=\"networking.istio.io\",reason=\"unknown-field\",resource=\"VirtualService\"}";
    assert!(galley.metric(failed) >= 1.0);
    assert!(
        galley.metric("flotilla_galley_findings{code=\"unknown-field\",level=\"error\"}") >= 1.0
    );

    // A text that is no YAML keeps everything of its file; another file goes on.
    save(&file, "a: [\n");
    save(&mesh.join("c.yaml"), &service("c", 4));
    client.reach(&mut stream, 4).await;
    assert_eq!(client.says(), "a=2 b=3 c=4");

    // Repaired; and of two definitions the first counts.
    save(&file, &(service("a", 5) + &service("b", 3)));
    save(&mesh.join("d.yaml"), &service("a", 6));
    wait("the repair", async || {
        (galley.findings() == ["VirtualService a duplicate-object"]).then_some(())
    })
    .await;
    client.reach(&mut stream, 5).await;
    assert_eq!(client.says(), "a=5 b=3 c=4");

    // Rewriting the same commits nothing: the next change is the next revision.
    fs::remove_file(mesh.join("d.yaml")).unwrap();
    wait("no findings", async || {
        galley.findings().is_empty().then_some(())
    })
    .await;
    let before = galley.revision();
    for _ in 0..5 {
        save(&file, &(service("a", 5) + &service("b", 3)));
    }
    save(&mesh.join("c.yaml"), &service("c", 7));
    client.reach(&mut stream, before + 1).await;
    assert_eq!(client.says(), "a=5 b=3 c=7");
    assert_eq!(galley.revision(), before + 1);

    // What editors leave while saving is not configuration.
    for name in [".x.yaml.swp", "#x.yaml#", "x.yaml~", "4913"] {
        fs::write(mesh.join(name), service("x", 1)).unwrap();
    }
    // A folder that vanishes is unknown, not empty; when it is back, things go on.
    let away = dir.path().join("away");
    fs::rename(&mesh, &away).unwrap();
    wait("the loss", async || {
        let sources = galley.get("/v1/sources");
        (sources[0]["state"] == "unreadable").then_some(())
    })
    .await;
    wait("its finding", async || {
        (galley.findings() == ["- - unreadable"]).then_some(())
    })
    .await;
    assert_eq!(galley.revision(), before + 1);

    // Also for a galley that is started then: it resumes from the store.
    galley.stop().await;
    let galley = start.start().await;
    galley.reaches(before + 1).await;
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.revision = 0;
    client.reach(&mut stream, before + 1).await;
    assert_eq!((client.says().as_str(), client.came), ("a=5 b=3 c=7", 0));
    let mut fresh = Client::default();
    let mut other = fresh.connect(&galley.grpc()).await.unwrap();
    fresh.reach(&mut other, before + 1).await;
    assert_eq!(fresh.says(), "a=5 b=3 c=7");
    fs::rename(&away, &mesh).unwrap();
    wait("its return", async || {
        galley.findings().is_empty().then_some(())
    })
    .await;
    assert_eq!(galley.revision(), before + 1);

    // An empty folder is an empty mesh.
    for name in ["a.yaml", "c.yaml"] {
        fs::remove_file(mesh.join(name)).unwrap();
    }
    wait("an empty mesh", async || {
        (galley.get("/v1/revision")["objects"] == 0).then_some(())
    })
    .await;
    client.reach(&mut stream, galley.revision()).await;
    assert_eq!(client.says(), "");
    let revisions = galley.get("/v1/revisions?limit=2");
    assert_eq!(revisions.as_array().unwrap().len(), 2);
    assert_eq!(revisions[0]["revision"], galley.revision());
    let first = galley.get("/v1/revisions/1");
    assert_eq!(first["changes"].as_array().unwrap().len(), 2, "{first}");
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_distributed_in_normal_form_and_large_objects_refused_alone() {
    let (dir, mesh, store) = folder();
    let settings = dir.path().join("mesh.yaml");
    save(&settings, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n");
    save(
        &mesh.join("service.yaml"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}\n",
    );
    let comment = "x".repeat(5 << 20);
    let large = service("large", 1).replace("n: \"1\"", &format!("n: \"{comment}\""));
    save(&mesh.join("large.yaml"), &(large + &service("small", 1)));
    let start = Start::new(dir.path(), "one", &store, &[&mesh])
        .arg(format!("--meshConfigFile={}", settings.display()))
        .arg("--domain=mesh.test");
    let galley = start.start().await;
    let mut client = Client::default();
    let mut stream = client.connect(&galley.grpc()).await.unwrap();
    client.reach(&mut stream, 1).await;
    assert_eq!(client.says(), "small=1");
    assert_eq!(client.names(Kind::MeshConfig).len(), 1);
    let services = client.names(Kind::MeshService);
    assert_eq!(services.len(), 1);
    assert!(
        services[0].contains("web.shop.svc.mesh.test"),
        "{services:?}"
    );
    assert!(
        galley.findings().iter().any(|f| f.ends_with("too-large")),
        "{:?}",
        galley.findings()
    );
}
