//! End-to-end tests: real processes on loopback, judged by the traffic that goes through them.
//!
//! What is here starts and stops things and sends requests; what must hold is said by the tests in `e2e/tests/`, and by the files in
//! `e2e/suites/BEHAVIOUR/`: `README.md` (what the suite proves), `config/` (what is in force from the start), `edits/` (files that come
//! later), `expect/` (requests and their answers, see [`exchange`]). It must never know how Pilot arrives at what it sends.
//!
//! # Writing a suite
//!
//! Every suite builds on the common mesh of `e2e/mesh/` (its README lists services and addresses) and is run once per variant of xDS:
//!
//! ```ignore
//! e2e::both_protocols! { routes_by_header }
//!
//! async fn routes_by_header(protocol: Protocol) {
//!     let world = World::of("request-routing", protocol).await;      // all is live from here on
//!     world.expect(&world.client(), "requests.txt").await;           // expect/requests.txt
//!     world.edit("everyone-v3.yaml").await;                          // edits/..., live when this returns
//!     assert_eq!(world.client().get("reviews", "/").await.backend(), "reviews-v3");
//! }
//! ```
//!
//! Configuration is written with addresses in 127.1.1.0/24, valid as it stands. Each world has a /24 of its own and replaces them, so that
//! worlds run side by side, every port of theirs is free, and a process started again has the address it had.
//!
//! # Parts, for tests that stop and start them
//!
//! [`Site`] is addresses, a configuration folder ([`Site::put`], [`Site::remove`]) and servers ([`Site::server`], which count and can fail or
//! dawdle). [`Pilot`], [`Galley`] and [`Envoy`] are made from it, each with a [`process::Process`] that is started, killed
//! (`kill`: as by a crash; `terminate`: SIGTERM) and started again; NATS is [`testkit::nats::Nats`]. [`World::split`] is a mesh on NATS, Galley
//! and Pilot, [`World::prepare`] one of which nothing is started yet; [`World::galley`], [`World::nats`] and the field `pilot` are at hand for
//! killing and starting, [`World::another_pilot`] makes more. [`cli`] runs the operator's commands. [`Traffic`] sends requests in the background meanwhile and counts what fails. [`wait::eventually`] waits for a condition; nothing
//! waits for a while. Everything that was started ends with its owner, and shows its log if the test failed.
//!
//! # Pods
//!
//! [`Pods`] are network namespaces with applications, rules of `agent capture` and a proxy each: for what only shows when connections are
//! really captured. They need root.
//!
//! The programs under test are those cargo has built beside the tests: after a change, `cargo build -p flotilla -p agent` before `cargo test -p e2e`.

pub mod authorizer;
pub mod backend;
pub mod capture;
pub mod certificates;
pub mod citadel;
pub mod cli;
pub mod client;
pub mod dial;
pub mod envoy;
pub mod exchange;
pub mod galley;
pub mod hello;
pub mod net;
pub mod pilot;
pub mod pods;
pub mod process;
pub mod site;
pub mod tokens;
pub mod traffic;
pub mod wait;
pub mod world;

pub use backend::Backend;
pub use citadel::Citadel;
pub use client::{Answer, Call, Client};
pub use envoy::{Envoy, Identity, Protocol};
pub use galley::Galley;
pub use pilot::{Pilot, Source};
pub use pods::{Pods, Workload};
pub use site::Site;
pub use traffic::Traffic;
pub use world::{Plane, Setup, World};

/// Makes two tests of every `async fn NAME(protocol: Protocol)` in scope: `state_of_the_world::NAME` and `delta::NAME`.
#[macro_export]
macro_rules! both_protocols {
    ($($name:ident),+ $(,)?) => {
        mod state_of_the_world {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::Protocol::StateOfTheWorld).await;
                }
            )+
        }
        mod delta {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::Protocol::Delta).await;
                }
            )+
        }
    };
}
