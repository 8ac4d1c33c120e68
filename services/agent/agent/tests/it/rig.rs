//! A running agent, and ways to ask it and its Envoy.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::authority::{Authority, TOKEN};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An address of loopback that no other test of this machine uses, so that every port of it is free.
pub fn own_ip() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = std::process::id()
        .wrapping_mul(61)
        .wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    Ipv4Addr::new(
        127,
        (100 + n / 62_000 % 100) as u8,
        (n / 250 % 248 + 2) as u8,
        (n % 250 + 2) as u8,
    )
    .into()
}

/// Where Envoy is.
pub fn envoy() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../.cache/bin/envoy");
    assert!(
        path.is_file(),
        "{} is missing: run e2e/tools/setup.sh",
        path.display()
    );
    path.canonicalize().unwrap()
}

/// What an agent is started with.
pub struct Setup {
    pub ip: IpAddr,
    pub root: TempDir,
    vars: Vec<(String, String)>,
    args: Vec<String>,
}

impl Setup {
    /// An agent of namespace `default`, service account `web`.
    pub fn new() -> Setup {
        let ip = own_ip();
        let mut setup = Setup {
            ip,
            root: tempfile::tempdir().unwrap(),
            vars: Vec::new(),
            args: Vec::new(),
        };
        for (name, value) in [
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "default"),
            ("SERVICE_ACCOUNT", "web"),
            ("ECC_SIGNATURE_ALGORITHM", "ECDSA"),
        ] {
            setup = setup.var(name, value);
        }
        setup.var("INSTANCE_IP", &ip.to_string())
    }

    /// With an identity of an authority, shown by a token.
    pub fn with_authority(self, authority: &Authority) -> Setup {
        self.write("var/run/secrets/istio/root-cert.pem", &authority.roots());
        self.write("var/run/secrets/tokens/istio-token", TOKEN);
        self.var("CA_ADDR", &authority.address.to_string())
    }

    pub fn var(mut self, name: &str, value: &str) -> Setup {
        self.vars.push((name.into(), value.into()));
        self
    }

    pub fn arg(mut self, flag: &str, value: &str) -> Setup {
        self.args.extend([flag.to_owned(), value.to_owned()]);
        self
    }

    pub fn pilots(self, pilots: &[String]) -> Setup {
        self.var("DISCOVERY_ADDRESS", &pilots.join(","))
    }

    /// Writes a file below the root folder, in one step.
    pub fn write(&self, path: &str, text: &str) {
        write(&self.root.path().join(path), text);
    }

    /// The command, without what is told of ports.
    pub fn command(&self) -> Command {
        let at = |port: u16| SocketAddr::new(self.ip, port).to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .args(["proxy", "sidecar", "--root-dir"])
            .arg(self.root.path())
            .arg("--envoy")
            .arg(envoy())
            .args([
                "--concurrency",
                "1",
                "--log-output-level",
                "default:info,agent:debug",
            ]);
        for (flag, port) in [
            ("--status-addr", 15_020),
            ("--envoy-admin-addr", 15_000),
            ("--envoy-status-addr", 15_021),
            ("--envoy-prometheus-addr", 15_090),
            ("--dns-addr", 15_053),
        ] {
            if !self.args.iter().any(|arg| arg == flag) {
                command.args([flag, &at(port)]);
            }
        }
        command.args(&self.args).stdin(Stdio::null());
        for (name, value) in &self.vars {
            command.env(name, value);
        }
        command
    }

    fn spawn(&self) -> Child {
        self.command()
            .arg("--ports-file")
            .arg(self.root.path().join("ports"))
            .stderr(File::create(self.root.path().join("stderr")).unwrap())
            .stdout(File::create(self.root.path().join("stdout")).unwrap())
            .spawn()
            .unwrap()
    }

    /// Starts it, without waiting for anything: addresses are those that were asked for.
    pub fn begin(self) -> Agent {
        let at = |port: u16| SocketAddr::new(self.ip, port);
        Agent {
            child: self.spawn(),
            ip: self.ip,
            status: at(15_020),
            admin: at(15_000),
            health: at(15_021),
            prometheus: at(15_090),
            dns: None,
            root: self.root,
        }
    }

    /// Starts it; returns when Envoy is being started.
    pub async fn start(self) -> Agent {
        let ports = self.root.path().join("ports");
        let mut child = self.spawn();
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            if let Ok(text) = std::fs::read(&ports) {
                break text;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the agent ended ({status}): {}", logs(self.root.path()));
            }
            assert!(Instant::now() < deadline, "{}", logs(self.root.path()));
            sleep(Duration::from_millis(10)).await;
        };
        let ports: Value = serde_json::from_slice(&text).unwrap();
        let address = |name: &str| {
            let text = ports[name].as_str();
            text.map(|text| text.parse().unwrap())
        };
        Agent {
            child,
            ip: self.ip,
            status: address("status").unwrap(),
            admin: address("envoy-admin").unwrap(),
            health: address("envoy-status").unwrap(),
            prometheus: address("envoy-prometheus").unwrap(),
            dns: address("dns"),
            root: self.root,
        }
    }

    /// Starts one that is refused: what it says.
    pub async fn refused(self) -> String {
        let child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.unwrap();
        let output = timeout(
            PATIENCE,
            tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()),
        );
        let output = output.await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

/// A running agent. Killed when dropped; its log is shown if the test fails.
pub struct Agent {
    child: Child,
    pub ip: IpAddr,
    pub status: SocketAddr,
    pub admin: SocketAddr,
    pub health: SocketAddr,
    pub prometheus: SocketAddr,
    pub dns: Option<SocketAddr>,
    pub root: TempDir,
}

impl Agent {
    /// A path below its root folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// The socket of secrets.
    pub fn secrets(&self) -> PathBuf {
        self.path("var/run/secrets/workload-spiffe-uds/socket")
    }

    /// Waits until the proxy is ready, by Envoy's own listener.
    pub async fn ready(&self) {
        self.until("ready", async || {
            get(self.health, "/healthz/ready")
                .await
                .is_ok_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until a condition holds.
    pub async fn until(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What Envoy's administration says.
    pub async fn admin(&self, path: &str) -> String {
        let (status, body) = get(self.admin, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Serial numbers of the certificates that Envoy uses, and of the authorities that it believes.
    pub async fn serials(&self) -> (Vec<String>, Vec<String>) {
        let all: Value = serde_json::from_str(&self.admin("/certs").await).unwrap();
        let certificates = all["certificates"].as_array().cloned().unwrap_or_default();
        let of = |kind: &str| {
            let found = certificates
                .iter()
                .flat_map(|one| one[kind].as_array().into_iter().flatten());
            let mut serials: Vec<String> = found
                .map(|one| one["serial_number"].as_str().unwrap().to_owned())
                .collect();
            serials.sort();
            serials.dedup();
            serials
        };
        (of("cert_chain"), of("ca_cert"))
    }

    /// A series of the agent's own metrics, by name and labels as printed.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = get(self.status, "/metrics").await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {series} in\n{text}"))
            .parse()
            .unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Process id of its Envoy.
    pub fn envoy_pid(&self) -> i32 {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running: {}", self.logs());
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn logs(&self) -> String {
        logs(self.root.path())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

fn logs(root: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
    read("stdout") + &read("stderr")
}

/// Writes a file in one step.
pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).unwrap();
    std::fs::rename(partial, path).unwrap();
}

/// Status and body of a request without a body.
pub async fn request(at: SocketAddr, head: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await?;
        stream
            .write_all(format!("{head}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or_else(|| std::io::Error::other("no answer"))?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Ok((
        status,
        if chunked {
            dechunk(body)
        } else {
            body.to_owned()
        },
    ))
}

fn dechunk(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&rest[..size]);
        text = &rest[size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}

/// A GET.
pub async fn get(at: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    request(
        at,
        &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close"),
    )
    .await
}
