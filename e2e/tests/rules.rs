//! What proxies do to requests and answers on the way.

use e2e::backend::Behaviour;
use e2e::{Protocol, World};

e2e::both_protocols! {
    redirects,
    rewrites,
    answers_preflights,
    edits_headers,
    responds_directly,
}

async fn redirects(protocol: Protocol) {
    let world = World::of("redirect", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
    assert_eq!(world.site.server("ratings-v1").count(), 0);
}

async fn rewrites(protocol: Protocol) {
    let world = World::of("rewrite", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
}

async fn answers_preflights(protocol: Protocol) {
    let world = World::of("cors", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
}

async fn edits_headers(protocol: Protocol) {
    let world = World::of("headers", protocol).await;
    let headers = [
        ("x-answer-set", "server"),
        ("x-answer-add", "server"),
        ("x-secret", "server"),
    ];
    world.site.server("ratings-v1").behave(Behaviour {
        headers: headers
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..Behaviour::default()
    });
    world.expect(&world.client(), "requests.txt").await;
}

async fn responds_directly(protocol: Protocol) {
    let world = World::of("direct-response", protocol).await;
    world.expect(&world.client(), "requests.txt").await;
    assert_eq!(world.site.server("ratings-v1").count(), 1);
}
