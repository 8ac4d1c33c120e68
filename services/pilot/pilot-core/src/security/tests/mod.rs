//! What policies decide, by the messages that Envoy gets.

mod accepted;
mod authorizers;
mod bytes;
mod requests;
mod tokens;
mod updates;

use std::sync::Arc;

use super::decide::{Check, Request, Step};
use super::{Guard, Layer};
use crate::testing::{World, sidecar};

/// What every step makes of a request.
fn decide(layers: &[Layer], request: &Request) -> Vec<Step> {
    let checks: Vec<Check> = layers.iter().map(Check::from).collect();
    super::decide::decide(&checks, request)
}

/// A policy of namespace `default`, its spec in YAML flow form.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n---\n"
    )
}

/// The guard of a sidecar of namespace `default`, labelled `app: p`.
#[track_caller]
fn guard(yaml: &str) -> Arc<Guard> {
    guard_in(&World::new(yaml))
}

#[track_caller]
fn guard_in(world: &World) -> Arc<Guard> {
    let (view, _) = world.inbound(&sidecar("default"));
    Guard::of(&view).unwrap()
}

/// A request: words `METHOD PATH [name=value]..`, where `peer`, `source`, `remote`, `port`, `sni` and `claims` (JSON) are what they say and
/// any other name is a header.
fn request(text: &str) -> Request {
    let mut words = text.split_whitespace();
    let mut out = Request {
        source: Some([10, 0, 0, 9].into()),
        destination: Some([10, 0, 0, 1].into()),
        port: 8080,
        ..Request::default()
    };
    let method = words.next().unwrap().to_owned();
    out.headers.insert(":method".into(), method);
    out.path = words.next().unwrap().to_owned();
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "peer" => out.peer = Some(format!("spiffe://{value}")),
            "source" => out.source = Some(value.parse().unwrap()),
            "remote" => out.remote = Some(value.parse().unwrap()),
            "port" => out.port = value.parse().unwrap(),
            "sni" => out.server_name = value.to_owned(),
            "claims" => out.claims = Some(serde_json::from_str(value).unwrap()),
            "host" => drop(out.headers.insert(":authority".into(), value.to_owned())),
            name => drop(out.headers.insert(name.to_owned(), value.to_owned())),
        }
    }
    out
}

/// What comes out, in short: `200`, `403`, or who is asked.
fn outcome(steps: &[Step]) -> String {
    match steps.last() {
        Some(Step::Refused(_)) => "403".into(),
        Some(Step::Stranger) => "401".into(),
        Some(Step::Asked(name)) => format!("ask {name}"),
        Some(Step::Allowed(_) | Step::Audited(_) | Step::WouldAllow(_) | Step::WouldRefuse(_))
        | None => "200".into(),
    }
}

/// Each request beside what comes out of it.
#[track_caller]
fn check(yaml: &str, want: &[(&str, &str)]) {
    let layers = guard(yaml).http_layers();
    for (text, want) in want {
        assert_eq!(outcome(&decide(&layers, &request(text))), *want, "{text}");
    }
}
