//! The agent of a pod: `flotilla agent proxy`, as the proxy's user, with Envoy as its child.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::workload::Workload;
use super::{CA, NODE, XDS_TLS};
use crate::Protocol;
use crate::process::{built, fetched};
use crate::site::Site;

/// Files below an agent's folder: its one-time token, and the roots by which it knows Citadel at first.
pub(super) const TOKEN: &str = "join-token";
pub(super) const ROOTS: &str = "first-roots.pem";

/// The folder that stands for the pod's file system.
pub(super) fn root(site: &Site, name: &str) -> PathBuf {
    site.dir().join(format!("{name}.agent"))
}

/// Makes the folder; returns the words of the agent's command.
///
/// # Panics
/// If it cannot be made.
pub(super) fn command(
    workload: &Workload,
    ip: std::net::IpAddr,
    protocol: Protocol,
    site: &Site,
) -> Vec<String> {
    let root = root(site, &workload.name);
    let user = Some(workload.proxy_uid);
    std::fs::create_dir(&root)
        .and_then(|()| std::os::unix::fs::chown(&root, user, user))
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut words = vec!["env".to_owned()];
    words.extend(variables(workload, protocol));
    words.push(
        built("flotilla")
            .canonicalize()
            .expect("a path")
            .display()
            .to_string(),
    );
    words.extend(["agent", "proxy", "sidecar"].map(str::to_owned));
    words.extend(flags(workload, ip, &root));
    words
}

fn variables(workload: &Workload, protocol: Protocol) -> Vec<String> {
    let mut variables = vec![
        ("ECC_SIGNATURE_ALGORITHM".to_owned(), "ECDSA".to_owned()),
        (
            "TERMINATION_DRAIN_DURATION_SECONDS".to_owned(),
            "0".to_owned(),
        ),
        (
            "ISTIO_DELTA_XDS".to_owned(),
            (protocol == Protocol::Delta).to_string(),
        ),
    ];
    let metadata = workload.node_metadata();
    for (key, value) in metadata.as_object().into_iter().flatten() {
        variables.push(match value {
            Value::String(text) => (format!("ISTIO_META_{key}"), text.clone()),
            other => (format!("ISTIO_METAJSON_{key}"), other.to_string()),
        });
    }
    variables.extend(workload.variables.clone());
    let words = variables
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"));
    words.collect()
}

fn flags(workload: &Workload, ip: std::net::IpAddr, root: &Path) -> Vec<String> {
    let below = |name: &str| root.join(name).display().to_string();
    let mut words = Vec::new();
    for (flag, value) in [
        ("--root-dir", root.display().to_string()),
        ("--discovery-address", format!("{NODE}:{XDS_TLS}")),
        ("--ca-addr", format!("{NODE}:{CA}")),
        ("--ca-root", below(ROOTS)),
        ("--join-token-file", below(TOKEN)),
        ("--namespace", workload.namespace.clone()),
        ("--service-account", workload.account.clone()),
        ("--pod-name", workload.name.clone()),
        ("--ip", ip.to_string()),
        ("--concurrency", "1".to_owned()),
        (
            "--envoy",
            fetched("envoy")
                .canonicalize()
                .expect("a path")
                .display()
                .to_string(),
        ),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    for (key, value) in &workload.labels {
        words.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    words
}
