//! Two Galleys on one store: one writes, the other follows and takes over.

use testkit::postgres::Postgres;

use crate::client::Client;
use crate::harness::{Galley, Start, folder, save, service, wait};

fn writes(galley: &Galley) -> bool {
    galley.get("/v1/revision")["writer"] == true
}

async fn two(store: &str) {
    let (dir, mesh, _) = folder();
    let file = mesh.join("a.yaml");
    save(&file, &service("a", 1));
    // Long enough that a busy machine does not lose it by itself.
    let start = |name: &str| Start::new(dir.path(), name, store, &[&mesh]).arg("--lease-ttl=2s");
    let one = start("one").start().await;
    wait("the first to write", async || writes(&one).then_some(())).await;
    one.reaches(1).await;
    let two = start("two").start().await;
    two.reaches(1).await;
    let mut client = Client::default();
    let mut stream = client.connect(&two.grpc()).await.unwrap();

    // The second serves what the first commits.
    save(&file, &service("a", 2));
    client.reach(&mut stream, 2).await;
    assert_eq!(client.says(), "a=2");
    assert!(!writes(&two));
    // Who follows may see it in the store before who wrote has published it.
    one.reaches(2).await;
    assert_eq!((one.revision(), two.revision()), (2, 2));

    // The first hangs: the second takes over, and when the first wakes up it is fenced off and follows.
    one.signal("STOP");
    save(&file, &service("a", 3));
    client.reach(&mut stream, 3).await;
    assert_eq!(client.says(), "a=3");
    assert!(writes(&two));
    one.signal("CONT");
    one.reaches(3).await;
    wait("the first to follow", async || {
        (!writes(&one)).then_some(())
    })
    .await;
    save(&file, &service("a", 4));
    client.reach(&mut stream, 4).await;
    one.reaches(4).await;
    assert_eq!(
        (client.says().as_str(), one.revision(), two.revision()),
        ("a=4", 4, 4)
    );

    // The second is killed: the first writes again.
    two.kill();
    save(&file, &service("a", 5));
    one.reaches(5).await;
    let mut stream = client.connect(&one.grpc()).await.unwrap();
    client.reach(&mut stream, 5).await;
    assert_eq!((client.says().as_str(), client.came), ("a=5", 1));
    let revisions = one.get("/v1/revisions");
    assert_eq!(revisions.as_array().unwrap().len(), 5, "{revisions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writes_and_the_other_takes_over_on_sqlite() {
    let (_dir, _, store) = folder();
    two(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writes_and_the_other_takes_over_on_postgres() {
    let server = Postgres::start();
    two(&server.database("writers")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sources_the_store_is_served() {
    let (dir, mesh, store) = folder();
    save(
        &mesh.join("a.yaml"),
        &(service("a", 1) + &service("b", 1).replace("route:", "rout:")),
    );
    let writer = Start::new(dir.path(), "one", &store, &[&mesh])
        .start()
        .await;
    let reader = Start::new(dir.path(), "two", &store, &[]).start().await;
    reader.reaches(1).await;
    wait("the writer's findings", async || {
        (!reader.findings().is_empty()).then_some(())
    })
    .await;
    assert_eq!(reader.findings(), writer.findings());
    writer.stop().await;
    assert_eq!(reader.revision(), 1);
    assert!(!writes(&reader));
}
