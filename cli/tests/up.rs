//! `flotilla up` with real Envoys: a page is served, edits are live, mistakes are refused, and nothing is left behind.
//!
//! Needs the program `sample` beside `flotilla`: `cargo build -p sample`, or a build of the workspace.

#![allow(
    clippy::disallowed_methods,
    reason = "starts processes and waits for them outside of any runtime"
)]
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use support::{Up, await_that, flotilla, folder, network};

const V1: &str = "{host: reviews, subset: v1}";

/// The same for one process and for several.
fn a_user_tries_it(flags: &[&str], processes: usize) {
    let mut up = Up::start(flags);
    let url = up.line("  page     ");
    assert!(url.contains(&format!("http://{}.1:8000/productpage", up.network)));
    up.line("Ctrl-C ends all of it.");
    let first = up.line("revision ");
    assert!(first.contains(" live on 7/7 proxies, "), "{first}");
    assert_eq!(up.children().len(), processes, "{:?}", up.children());
    let page = up.page().1;
    assert!(page.contains("reviews v1") && !page.contains("★"), "{page}");
    // Everything is spoken to over mutual TLS alone.
    assert!(up.plaintext_is_refused(10), "productpage takes plaintext");

    // An edit is live, on the page and by the word of Pilot.
    up.edit("reviews.yaml", V1, "{host: reviews, subset: v3}");
    let live = up.line("revision ");
    assert!(live.contains(" live on 7/7 proxies in "), "{live}");
    let page = up.page_with("reviews v3");
    assert!(
        page.contains("ratings v1") && page.contains("stars red"),
        "{page}"
    );

    // A mistake is told with its place, and changes nothing.
    up.edit("reviews.yaml", "weight: 100", "weight: lots");
    let refused = up.line("refused: ");
    for part in [
        "reviews.yaml:",
        "VirtualService default/reviews",
        "spec.http[0].route[0].weight",
        "\"lots\"",
        "[wrong-type]",
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    let (status, page) = up.page();
    assert!(
        status == 200 && page.contains("reviews v3"),
        "{status} {page}"
    );

    // Mended, with another change.
    up.edit("reviews.yaml", "weight: lots", "weight: 100");
    up.line("no longer refused: VirtualService default/reviews");
    up.edit("reviews.yaml", "subset: v3}", "subset: v2}");
    let live = up.line(" live on 7/7 proxies in ");
    assert!(live.starts_with("revision "), "{live}");
    assert!(up.page_with("reviews v2").contains("stars black"));

    // What dies is started again, and says so.
    let (envoy, _) = up
        .children()
        .into_iter()
        .find(|(_, program)| program == "envoy")
        .unwrap();
    kill_process(Pid::from_raw(envoy).unwrap(), Signal::KILL).unwrap();
    let ended = up.line("and is started again");
    assert!(
        ended.starts_with("the Envoy of ") && ended.contains(" ended with exit code 1, "),
        "{ended}"
    );
    up.page_with("reviews v2");

    assert!(up.ends_with_all_children(Signal::TERM).success());
}

#[test]
fn one_process_serves_a_page_and_ends_with_everything_it_started() {
    a_user_tries_it(&[], 20);
}

#[test]
fn split_behaves_the_same() {
    a_user_tries_it(&["--split"], 24);
}

#[test]
fn the_commands_work_against_it() {
    let mut up = Up::start(&[]);
    let command = up.line("FLOTILLA_PILOT=");
    up.line(" live on 7/7 proxies");
    let variables: Vec<(&str, &str)> = command
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .collect();
    let run = |arguments: &[&str]| {
        let (code, out, err) = flotilla(arguments, &variables);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    };
    let status = run(&["proxy-status"]);
    assert_eq!(status.lines().count(), 8, "{status}");
    assert!(
        !status.contains("STALE") && !status.contains("ERROR"),
        "{status}"
    );
    let routes = run(&["pc", "route", "productpage-v1", "--name", "15002"]);
    assert!(routes.contains("reviews.default"), "{routes}");
    let clusters = run(&["pc", "c", "productpage-v1.default", "--subset", "v2"]);
    assert!(
        clusters.contains("reviews.default.svc.cluster.local") && clusters.lines().count() == 2,
        "{clusters}"
    );
    assert!(run(&["wait", "--timeout", "30s"]).contains("live on 7 of 7 proxies"));

    // Who is who, and an identity that is taken back and given again.
    let secrets = run(&["pc", "secret", "reviews-v1"]);
    let reviews = "spiffe://cluster.local/ns/default/sa/bookinfo-reviews";
    assert!(
        secrets.contains(reviews) && secrets.contains("ROOTCA"),
        "{secrets}"
    );
    let status = run(&["ca", "status"]);
    assert!(status.contains("self-signed"), "{status}");
    assert!(run(&["ca", "journal", "--spiffe-id", reviews]).contains("join-token"));
    run(&["ca", "revoke", "--spiffe-id", reviews, "--reason", "a test"]);
    up.page_with("Reviews are not available");
    run(&["ca", "lift", "1", "--reason", "a test"]);
    up.page_with("reviews v1");
    // Pilot had hung up on whoever has no identity.
    await_that("all proxies are back", || {
        run(&["proxy-status"]).lines().count() == 8
    });
    assert!(run(&["authz", "check", "reviews-v1"]).contains("No policy"));

    // A rotation waits for what these proxies say.
    run(&["ca", "rotate", "start"]);
    await_that("acknowledgements of the new root", || {
        run(&["ca", "rotate", "status"]).contains("7 of 7 proxies")
    });
    assert_eq!(run(&["findings"]), "no findings\n");
    let (code, _, error) = flotilla(&["ps", "nobody"], &variables);
    assert!(code == 1 && error.contains("no proxy nobody"), "{error}");
    up.edit("reviews.yaml", "weight: 100", "weight: lots");
    up.line("refused: ");
    assert!(run(&["findings"]).contains("wrong-type"));
    assert!(up.ends_with_all_children(Signal::INT).success());
}

#[test]
fn killed_hard_it_leaves_nothing_behind() {
    let mut up = Up::start(&["--split"]);
    up.line(" live on 7/7 proxies");
    assert_eq!(up.children().len(), 24);
    assert!(!up.ends_with_all_children(Signal::KILL).success());
}

#[test]
fn what_is_missing_or_taken_is_said_before_anything_starts() {
    let dir = folder(&[]);
    let state = dir.path().join("mesh");
    let up = |more: &[&str]| {
        let base = ["up", "--any-ports", "--dir", state.to_str().unwrap()];
        let (code, out, error) = flotilla(&[&base[..], more].concat(), &[]);
        assert_eq!((code, &*out), (1, ""), "{error}");
        error
    };
    let error = up(&["--envoy", "/no/envoy"]);
    assert!(
        error.contains("--envoy /no/envoy: this is no program"),
        "{error}"
    );
    let error = up(&["--split", "--nats-server", "/no/nats"]);
    assert!(error.contains("--nats-server /no/nats"), "{error}");

    let network = network();
    let _taken = std::net::TcpListener::bind(format!("{network}.1:8000")).unwrap();
    let error = up(&["--network", &network]);
    assert!(
        error.contains(&format!("the sample needs {network}.1:8000"))
            && error.contains("--network"),
        "{error}"
    );
}
