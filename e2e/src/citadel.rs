//! A real Citadel, and what its operators do.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::certificates::Roots;
use crate::cli::{Told, flotilla};
use crate::client::Client;
use crate::net::Network;
use crate::pilot::ok;
use crate::process::{Process, built};
use crate::wait::eventually;

/// A Citadel, started or not. Its addresses do not change when it is started again.
#[derive(Debug)]
pub struct Citadel {
    /// The process: start, kill, terminate, log.
    pub process: Process,
    /// Address of certificates and trust, over TLS.
    pub grpc: SocketAddr,
    /// Address of metrics and readiness.
    pub monitoring: SocketAddr,
    data: PathBuf,
}

impl Citadel {
    /// A Citadel at the address `host` of a network, not started. Log and data go below `dir`. It makes a root by itself.
    ///
    /// # Panics
    /// If a folder cannot be made.
    pub fn new(net: &Network, host: u8, dir: &Path) -> Citadel {
        let [grpc, monitoring] = [8060, 15_014].map(|port| net.at(host, port));
        let data = dir.join("citadel-data");
        let authority = dir.join("cacerts");
        std::fs::create_dir_all(&authority)
            .unwrap_or_else(|error| panic!("{}: {error}", authority.display()));
        let args = [
            ("--name", "citadel".to_owned()),
            ("--grpc-addr", grpc.to_string()),
            ("--monitoring-addr", monitoring.to_string()),
            ("--data-dir", data.display().to_string()),
            ("--root-ca-dir", authority.display().to_string()),
        ];
        let args = args
            .into_iter()
            .flat_map(|(flag, value)| [flag.into(), value]);
        let args = std::iter::once("citadel".to_owned()).chain(args).collect();
        Citadel {
            process: Process::new("citadel", built("flotilla"), args, dir),
            grpc,
            monitoring,
            data,
        }
    }

    /// Makes these roots its own, before its first start: what they certify is of this mesh then.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn plug_in(&self, roots: &Roots) {
        let folder = self.data.with_file_name("cacerts");
        roots.write_authority(&folder);
    }

    /// Starts it and waits until it issues.
    ///
    /// # Panics
    /// If it does not in time, or ends.
    pub async fn start(&mut self) {
        self.process.start();
        self.ready().await;
    }

    /// Waits until it issues.
    ///
    /// # Panics
    /// If it does not in time, or ends.
    pub async fn ready(&mut self) {
        let client = Client::to(self.monitoring);
        eventually("Citadel is ready", async || {
            self.process.check_running();
            ok(&client, "/ready").await.map(|_| ())
        })
        .await;
    }

    /// Flags that give a service an identity of this Citadel: the file of a one-time token, and a folder for what it gets.
    pub fn identity_flags(&self, token: &Path, folder: &Path) -> Vec<String> {
        let flags = [
            ("--ca-addr", self.grpc.to_string()),
            ("--ca-root", self.roots().display().to_string()),
            ("--join-token-file", token.display().to_string()),
            ("--identity-dir", folder.display().to_string()),
        ];
        let flags = flags.into_iter();
        flags
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    /// File of the roots that it tells whoever asks for the first time.
    pub fn roots(&self) -> PathBuf {
        self.data.join("root-cert.pem")
    }

    /// A metric; 0 if it does not exist.
    ///
    /// # Panics
    /// Without an answer.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = ok(&Client::to(self.monitoring), "/metrics").await;
        let page = page.unwrap_or_else(|error| panic!("{error}"));
        let value = page.lines().find_map(|line| line.strip_prefix(series));
        value
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or_default()
    }

    /// `flotilla ca ARGS`, as an operator on this machine; whatever comes of it.
    ///
    /// # Panics
    /// As [`flotilla`].
    pub async fn ca(&self, args: &[&str]) -> Told {
        let socket = self.data.join("operator.sock").display().to_string();
        flotilla(&[&["ca"], args, &["--ca-socket", &socket]].concat()).await
    }

    /// What `flotilla ca ARGS` prints as JSON.
    ///
    /// # Panics
    /// As [`flotilla`], or if the command fails.
    pub async fn told(&self, args: &[&str]) -> Value {
        let told = self.ca(&[args, &["-o", "json"]].concat()).await;
        assert_eq!(told.code, 0, "{args:?}: {}", told.error);
        told.json()
    }

    /// A one-time token for `spiffe://..` on a node.
    ///
    /// # Panics
    /// If there is none.
    pub async fn token(&self, id: &str, node: &str) -> String {
        let args = ["token", "create", "--node", node, "--spiffe-id", id];
        let told = self.ca(&args).await;
        assert_eq!(told.code, 0, "{told:?}");
        told.out.trim().to_owned()
    }

    /// Gets a certificate of that identity and life into a folder, as `flotilla ca enroll` does, in place of what is there.
    ///
    /// # Panics
    /// If it gives none.
    pub async fn enroll(&self, id: &str, life: &str, out: &Path) {
        let token = self.token(id, "operator").await;
        let (url, root) = (self.grpc.to_string(), self.roots());
        let (root, out) = (root.display().to_string(), out.display().to_string());
        let args = [
            "ca",
            "enroll",
            "--ca-addr",
            &url,
            "--ca-root",
            &root,
            "--out",
            &out,
            "--ttl",
            life,
            "--token",
            &token,
        ];
        let told = flotilla(&args).await;
        assert_eq!(told.code, 0, "{}", told.error);
    }
}

/// Writes a file that only a user may read.
///
/// # Panics
/// If it cannot.
pub(crate) fn write_for(user: u32, file: &Path, text: &str) {
    let written = std::fs::write(file, text)
        .and_then(|()| std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)))
        .and_then(|()| std::os::unix::fs::chown(file, Some(user), Some(user)));
    written.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
