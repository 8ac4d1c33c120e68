//! Starting the program, and looking at it from outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Anybody, Client};
use crate::issuer::Issuer;

/// Longest time anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running citadel. Killed when dropped.
pub struct Citadel {
    child: Child,
    ports: BTreeMap<String, SocketAddr>,
    data: PathBuf,
    log: PathBuf,
}

/// How a citadel is started.
#[derive(Clone)]
pub struct Start {
    args: Vec<String>,
    data: PathBuf,
    ports: PathBuf,
    log: PathBuf,
}

impl Start {
    /// With its data in `dir`/`name`, everything it says in a file, and an empty folder of plugged-in files.
    pub fn new(dir: &Path, name: &str) -> Start {
        let data = dir.join(name);
        let ports = dir.join(format!("{name}.ports"));
        let args = [
            "--grpc-addr=127.0.0.1:0".to_owned(),
            "--monitoring-addr=127.0.0.1:0".to_owned(),
            "--log-output-level=default:info,citadel:trace".to_owned(),
            format!("--name={name}"),
            format!("--root-ca-dir={}", dir.join("no-cacerts").display()),
            format!("--ports-file={}", ports.display()),
            format!("--data-dir={}", data.display()),
        ];
        Start {
            args: args.into(),
            data,
            ports,
            log: dir.join(format!("{name}.log")),
        }
    }

    /// That takes the tokens of `issuer`.
    pub fn with_issuer(self, dir: &Path, issuer: &Issuer) -> Start {
        let file = dir.join("jwks.json");
        std::fs::write(&file, issuer.jwks()).unwrap();
        self.arg(format!("--jwt-rule={}", issuer.rule()))
            .arg(format!("--jwks-file={}", file.display()))
    }

    /// With a flag `--name=value`, in place of the same flag if it is there.
    pub fn arg(mut self, arg: impl Into<String>) -> Start {
        let arg = arg.into();
        let name = arg.split_inclusive('=').next().unwrap_or_default();
        self.args.retain(|other| !other.starts_with(name));
        self.args.push(arg);
        self
    }

    fn spawn(&self) -> Child {
        let _ = std::fs::remove_file(&self.ports);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        Command::new(env!("CARGO_BIN_EXE_citadel"))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap()
    }

    /// Listening, perhaps not ready.
    pub async fn launch(&self) -> Citadel {
        let mut child = self.spawn();
        let ports = wait("the ports file", async || {
            let ended = child.try_wait().unwrap();
            assert_eq!(ended, None, "citadel ended: {}", self.said());
            let text = std::fs::read(&self.ports).ok()?;
            serde_json::from_slice(&text).ok()
        })
        .await;
        Citadel {
            child,
            ports,
            data: self.data.clone(),
            log: self.log.clone(),
        }
    }

    /// Ready.
    pub async fn start(&self) -> Citadel {
        let mut citadel = self.launch().await;
        citadel.until_ready().await;
        citadel
    }

    /// That does not start: what it says.
    pub async fn fails(&self) -> String {
        let mut child = self.spawn();
        let status = wait("the end", async || child.try_wait().unwrap()).await;
        assert!(!status.success());
        self.said()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Citadel {
    pub fn grpc(&self) -> SocketAddr {
        self.ports["grpc"]
    }

    pub fn socket(&self) -> PathBuf {
        self.data.join("operator.sock")
    }

    pub fn root_file(&self) -> PathBuf {
        self.data.join("root-cert.pem")
    }

    /// Everything it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// A client without a certificate, that trusts what the data folder says.
    pub async fn anybody(&self) -> Anybody {
        let roots = wait("the roots", async || {
            std::fs::read_to_string(self.root_file()).ok()
        });
        Anybody::new(self.grpc(), &roots.await)
    }

    /// A client with a certificate of the mesh's own.
    pub async fn client(&self, token: &str) -> Client {
        let anybody = self.anybody().await;
        anybody.enroll(token).await
    }

    pub async fn until_ready(&mut self) {
        wait("readiness", async || {
            let ended = self.child.try_wait().unwrap();
            let said = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert_eq!(ended, None, "citadel ended: {}", said());
            (get(self.ports["monitoring"], "/ready").0 == 200).then_some(())
        })
        .await;
    }

    /// What `/ready` says.
    pub fn ready(&self) -> (u16, Value) {
        let (status, text) = get(self.ports["monitoring"], "/ready");
        (status, serde_json::from_str(&text).unwrap())
    }

    /// The value of a metric, with its labels as printed.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = get(self.ports["monitoring"], "/metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .parse()
            .unwrap()
    }

    /// SIGTERM, and whether it ended well.
    pub async fn stop(mut self) {
        let done = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(done.unwrap().success());
        let status = wait("the end", async || self.child.try_wait().unwrap()).await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Citadel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: citadel\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Asks again and again until there is an answer.
pub async fn wait<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A folder, an issuer, and a ready citadel that takes its tokens.
pub async fn ready() -> (TempDir, Issuer, Citadel) {
    let (dir, issuer) = (tempfile::tempdir().unwrap(), Issuer::new());
    let start = Start::new(dir.path(), "citadel").with_issuer(dir.path(), &issuer);
    let citadel = start.start().await;
    (dir, issuer, citadel)
}
