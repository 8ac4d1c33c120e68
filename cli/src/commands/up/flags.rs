//! The arguments of what the plane is made of.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::ValueEnum as _;

use super::args::Args;
use super::identities::Identities;
use super::state::State;

/// A listener of the plane: its name in the ports file, its flag, and the port that the commands of `flotilla` expect.
pub type Listener = (&'static str, &'static str, u16);

/// Of Citadel.
pub const CITADEL: [Listener; 2] = [
    ("grpc", "--grpc-addr", 8060),
    ("monitoring", "--monitoring-addr", 15016),
];
/// Of Galley.
pub const GALLEY: [Listener; 3] = [
    ("grpc", "--grpc-addr", 9901),
    ("http", "--http-addr", 8081),
    ("monitoring", "--monitoring-addr", 15015),
];
/// Of Pilot.
pub const PILOT: [Listener; 4] = [
    ("grpc", "--grpc-addr", 15010),
    ("grpc-tls", "--secure-grpc-addr", 15012),
    ("http", "--http-addr", 8080),
    ("monitoring", "--monitoring-addr", 15014),
];

/// Where one service listens, by listener.
pub type Addresses = BTreeMap<String, SocketAddr>;

/// Where a service says where it listens.
pub fn ports_file(state: &State, service: &str) -> PathBuf {
    state.dir.join("run").join(format!("{service}.json"))
}

/// Arguments of the NATS server.
pub fn nats_arguments(state: &State, port: i32) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-a".into(), "127.0.0.1".into(), "-p".into()];
    arguments.push(port.to_string().into());
    arguments.extend(["-js".into(), "-sd".into(), state.dir.join("nats").into()]);
    arguments.extend(["--ports_file_dir".into(), state.dir.join("run/nats").into()]);
    arguments
}

/// Arguments of Citadel.
pub fn citadel_arguments(args: &Args, state: &State, bus: &str) -> Vec<OsString> {
    let mut arguments = common(args, state, "citadel", &CITADEL, bus);
    let data = state.dir.join("citadel");
    arguments.extend(["--root-ca-dir".into(), data.join("cacerts").into()]);
    arguments.extend(["--data-dir".into(), data.into()]);
    arguments
}

/// Arguments of Galley.
pub fn galley_arguments(
    args: &Args,
    state: &State,
    identities: &Identities,
    bus: &str,
) -> Vec<OsString> {
    let mut arguments = common(args, state, "galley", &GALLEY, bus);
    arguments.extend([
        "--source".into(),
        url("file", &state.config()),
        "--store".into(),
        url("sqlite", &state.dir.join("galley/galley.db")),
    ]);
    arguments.extend(identity_arguments(state, identities, "galley"));
    arguments
}

/// Arguments of Pilot.
pub fn pilot_arguments(
    args: &Args,
    state: &State,
    identities: &Identities,
    galley: &Addresses,
    bus: &str,
) -> anyhow::Result<Vec<OsString>> {
    let galley = address(galley, "grpc", "Galley")?;
    let mut arguments = common(args, state, "pilot", &PILOT, bus);
    arguments.extend([
        "--galley".into(),
        format!("https://{galley}").into(),
        "--data-dir".into(),
        state.dir.join("pilot").into(),
    ]);
    arguments.extend(identity_arguments(state, identities, "pilot"));
    Ok(arguments)
}

fn identity_arguments(state: &State, identities: &Identities, service: &str) -> Vec<OsString> {
    vec![
        "--ca-addr".into(),
        identities.ca.to_string().into(),
        "--ca-root".into(),
        identities.root.clone().into(),
        "--join-token-file".into(),
        identities.token_file(service).into(),
        "--identity-dir".into(),
        state.dir.join(service).join("identity").into(),
    ]
}

/// An address that a service said.
pub fn address(addresses: &Addresses, listener: &str, service: &str) -> anyhow::Result<SocketAddr> {
    let found = addresses.get(listener).copied();
    found.ok_or_else(|| anyhow!("{service} does not say where it listens ({listener})"))
}

fn url(scheme: &str, path: &Path) -> OsString {
    let mut url = OsString::from(format!("{scheme}://"));
    url.push(path);
    url
}

fn common(
    args: &Args,
    state: &State,
    service: &str,
    listeners: &[Listener],
    bus: &str,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = listeners
        .iter()
        .flat_map(|(_, flag, port)| {
            let port = if args.any_ports {
                0
            } else {
                free_or_any(*port)
            };
            [(*flag).into(), format!("127.0.0.1:{port}").into()]
        })
        .collect();
    let format = args.log_format.to_possible_value();
    arguments.extend([
        "--bus".into(),
        bus.into(),
        "--ports-file".into(),
        ports_file(state, service).into(),
        "--log-output-level".into(),
        args.log_output_level.clone().into(),
        "--log-format".into(),
        format
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
            .into(),
    ]);
    arguments
}

/// The port if nobody has it, else 0, which is any.
fn free_or_any(port: u16) -> u16 {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => port,
        Err(_) => 0,
    }
}

/// The arguments of a service that must listen where it listened before.
pub fn pinned(
    service: &str,
    mut arguments: Vec<OsString>,
    listeners: &[Listener],
    addresses: &Addresses,
) -> Vec<OsString> {
    for (name, flag, _) in listeners {
        let at = arguments.iter().position(|argument| argument == flag);
        if let (Some(at), Some(address)) = (at, addresses.get(*name)) {
            arguments[at + 1] = address.to_string().into();
        }
    }
    arguments.insert(0, service.into());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_is_started_again_listens_where_it_did() {
        let arguments = ["--grpc-addr", "127.0.0.1:0", "--bus", "memory:"].map(OsString::from);
        let addresses = Addresses::from([("grpc".to_owned(), "127.0.0.1:4711".parse().unwrap())]);
        assert_eq!(
            pinned("pilot", arguments.to_vec(), &PILOT, &addresses),
            ["pilot", "--grpc-addr", "127.0.0.1:4711", "--bus", "memory:"]
        );
    }

    #[test]
    fn a_taken_port_is_any_port() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(free_or_any(port), 0);
    }
}
