//! Which server an HTTP request reaches.

use std::collections::BTreeMap;

use e2e::site::hosts;
use e2e::wait::eventually;
use e2e::{Answer, Call, Identity, Protocol, Setup, World};

e2e::both_protocols! {
    routes_by_header_and_user,
    splits_by_weight,
    mirrors,
    hashes_consistently,
    delegates_and_merges,
    knows_every_kind_of_service,
    sees_what_it_may,
    fails_over_by_locality,
}

async fn routes_by_header_and_user(protocol: Protocol) {
    let world = World::of("request-routing", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
    let answer = world.client().http2().get("reviews:9080", "/exact").await;
    assert_eq!(answer.backend(), "reviews-v3");
}

fn by_backend(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for answer in answers {
        *count.entry(answer.backend()).or_default() += 1;
    }
    count
}

async fn splits_by_weight(protocol: Protocol) {
    let world = World::of("weighted-split", protocol).await;
    let send = async |path: &str, count| {
        let call = Call::get("reviews:9080", path);
        by_backend(&world.client().burst(&call, count, 8).await)
    };
    let split = send("/", 1000).await;
    let v1 = split["reviews-v1"];
    // Five standard deviations to either side.
    assert!((740..=860).contains(&v1), "{split:?}");
    assert_eq!(v1 + split["reviews-v2"], 1000, "{split:?}");
    assert_eq!(send("/none", 50).await, [("reviews-v2".into(), 50)].into());
    assert_eq!(
        send("/single", 20).await,
        [("reviews-v3".into(), 20)].into()
    );
}

async fn mirrors(protocol: Protocol) {
    let world = World::of("mirroring", protocol).await;
    let [v1, v2, v3] =
        ["reviews-v1", "reviews-v2", "reviews-v3"].map(|name| world.site.server(name));
    let send = async |path: &str| {
        let call = Call::get("reviews:9080", path).header("x-kept", "yes");
        let answers = world.client().burst(&call, 10, 1).await;
        assert_eq!(by_backend(&answers), [("reviews-v1".into(), 10)].into());
    };
    let reach = async |server: &e2e::Backend, count: usize| {
        eventually("copies arrive", async || match server.count() {
            now if now == count => Ok(()),
            now => Err(format!("{} has {now} of {count}", server.name())),
        })
        .await;
    };

    send("/one").await;
    reach(v2, 10).await;
    assert_eq!((v1.count(), v3.count()), (10, 0));
    let copy = &v2.seen()[0];
    assert_eq!((&*copy.host, &*copy.path), ("reviews:9080", "/one"));
    assert_eq!(copy.headers["x-kept"], "yes");

    send("/none").await;
    send("/many").await;
    reach(v2, 20).await;
    reach(v3, 10).await;
    assert!(v2.seen().iter().all(|seen| seen.path != "/none"));
}

async fn hashes_consistently(protocol: Protocol) {
    let world = World::of("consistent-hash", protocol).await;
    let client = world.client();
    let mut owners = BTreeMap::new();
    for _ in 0..3 {
        for user in 0..20 {
            let call = Call::get("reviews:9080", "/").header("x-user", format!("user-{user}"));
            let owner = client.must(&call).await.backend();
            let before = owners.entry(user).or_insert_with(|| owner.clone());
            assert_eq!(*before, owner, "user {user} moved");
        }
    }
    let mut servers: Vec<_> = owners.into_values().collect();
    servers.sort();
    servers.dedup();
    assert!(servers.len() > 1, "everybody is on {servers:?}");

    // By cookie.
    world.edit("subsets.yaml").await;
    for _ in 0..5 {
        let first = client.get("reviews:9080", "/").await;
        let cookie = first.header("set-cookie");
        let cookie = cookie.split(';').next().unwrap_or_default();
        assert!(cookie.starts_with("user="), "{:?}", first.headers);
        let call = Call::get("reviews:9080", "/").header("cookie", cookie);
        let owners = by_backend(&client.burst(&call, 5, 1).await);
        assert_eq!(owners.len(), 1, "{cookie} moved: {owners:?}");
    }
}

async fn delegates_and_merges(protocol: Protocol) {
    let world = World::of("delegation", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
}

async fn knows_every_kind_of_service(protocol: Protocol) {
    let world = World::of("kinds-of-services", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
}

async fn sees_what_it_may(protocol: Protocol) {
    let world = World::of("visibility", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
}

async fn fails_over_by_locality(protocol: Protocol) {
    let mut client = Identity::sidecar("client", hosts::CLIENT);
    let labels = [
        ("topology.kubernetes.io/region", "east"),
        ("topology.kubernetes.io/zone", "one"),
    ];
    client
        .labels
        .extend(labels.map(|(key, value)| (key.into(), value.into())));
    let setup = Setup {
        client,
        ..Setup::of("locality", protocol)
    };
    let world = World::start(setup).await;
    let call = Call::get("stock.shop.test:9080", "/");
    for server in ["reviews-v1", "reviews-v2", "reviews-v3"] {
        // The one before has been left out by now; no retry hides it.
        eventually("failover", async || {
            let answers = world.client().burst(&call, 5, 1).await;
            let servers = by_backend(&answers);
            if servers == [(server.into(), 5)].into() && answers.iter().all(|a| a.status == 200) {
                Ok(())
            } else {
                Err(format!("{servers:?} instead of {server}"))
            }
        })
        .await;
        world.site.server(server).answer(503);
    }
}
