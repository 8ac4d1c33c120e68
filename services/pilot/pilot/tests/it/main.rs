//! The `pilot` program against scripted clients over real sockets: what the protocol promises, and what bad input may not do.
//!
//! Start reading at [`rig`] (a running Pilot and its folder) and [`ads`] (a client that does what it is told).

#![allow(
    clippy::unwrap_used,
    reason = "what fails here fails the test, and the place says it all"
)]

mod ads;
mod citadel;
mod delta;
mod folders;
mod galley;
mod limits;
mod peers;
mod process;
mod refusals;
mod rejections;
mod rig;
mod sotw;
mod tls;
mod tokens;
mod trust;
