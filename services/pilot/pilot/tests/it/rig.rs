//! A running Pilot, its folder, and what it says over HTTP.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of configuration.
pub struct Folder(pub TempDir);

impl Folder {
    /// With these services in namespace `default`, see [`entry`].
    pub fn of(services: &[(&str, u16)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        for (name, port) in services {
            folder.write(name, &entry(name, *port, "10.1.0.1"));
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes `NAME.yaml` at once.
    pub fn write(&self, name: &str, text: &str) {
        let partial = self.path().join(format!(".{name}.partial"));
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, self.path().join(format!("{name}.yaml"))).unwrap();
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(format!("{name}.yaml"))).unwrap();
    }
}

/// A ServiceEntry `NAME.example.com` with one HTTP port (TCP from 8000 on) and one endpoint.
pub fn entry(name: &str, port: u16, address: &str) -> String {
    let protocol = if port < 8000 { "HTTP" } else { "TCP" };
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: [{name}.example.com]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {port}, name: main, protocol: {protocol}}}]
  endpoints: [{{address: {address}}}]
"#
    )
}

/// A Pilot process. Killed when dropped; its log is shown if the test fails.
pub struct Pilot {
    child: Child,
    work: TempDir,
    pub grpc: SocketAddr,
    /// xDS over TLS, if it has an identity.
    pub grpc_tls: Option<SocketAddr>,
    pub http: SocketAddr,
    pub monitoring: SocketAddr,
}

impl Pilot {
    /// One that reads a folder, ready.
    pub async fn of(folder: &Folder) -> Pilot {
        let pilot = Pilot::start(&["--config-dir", folder.path().to_str().unwrap()]).await;
        pilot.ready().await;
        pilot
    }

    /// Any, as soon as it listens.
    pub async fn start(args: &[&str]) -> Pilot {
        Pilot::launch(command(args)).await
    }

    /// One whose files end at about fifty kilobytes, as if the disk were full, until [`Pilot::free_disk`].
    pub async fn on_a_full_disk(args: &[&str]) -> Pilot {
        Pilot::limited("trap '' XFSZ; ulimit -S -f 100", args).await
    }

    /// One that is started by a shell after these commands.
    pub async fn limited(limits: &str, args: &[&str]) -> Pilot {
        let inner = command(args);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("{limits}; exec \"$0\" \"$@\""));
        shell.arg(inner.get_program()).args(inner.get_args());
        Pilot::launch(shell).await
    }

    /// There is room on the disk again.
    pub fn free_disk(&self) {
        let freed = Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string(), "--fsize=unlimited"])
            .status();
        assert!(freed.unwrap().success());
    }

    async fn launch(mut command: Command) -> Pilot {
        let work = tempfile::tempdir().unwrap();
        let ports = work.path().join("ports");
        let mut child = command
            .arg("--ports-file")
            .arg(&ports)
            .stderr(File::create(work.path().join("stderr")).unwrap())
            .stdout(File::create(work.path().join("stdout")).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            if let Ok(text) = std::fs::read(&ports) {
                break text;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("Pilot ended ({status}): {}", logs(work.path()));
            }
            assert!(Instant::now() < deadline, "{}", logs(work.path()));
            sleep(Duration::from_millis(10)).await;
        };
        let ports: Value = serde_json::from_slice(&text).unwrap();
        let address = |name: &str| ports[name].as_str().unwrap().parse().unwrap();
        Pilot {
            child,
            grpc: address("grpc"),
            grpc_tls: ports["grpc-tls"].as_str().map(|at| at.parse().unwrap()),
            http: address("http"),
            monitoring: address("monitoring"),
            work,
        }
    }

    /// Waits until `/ready` says so.
    pub async fn ready(&self) {
        self.until("/ready says so", async || {
            get(self.monitoring, "/ready").await.0 == 200
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

    /// The revision that every snapshot holds.
    pub async fn revision(&self) -> u64 {
        json(self.http, "/v1/revision").await["revision"]
            .as_u64()
            .unwrap()
    }

    /// Does something to the configuration and waits until it is a revision, which is returned.
    pub async fn after(&self, change: impl FnOnce()) -> u64 {
        let before = self.revision().await;
        change();
        self.until("a new revision", async || self.revision().await > before)
            .await;
        self.revision().await
    }

    /// This Pilot's own proxies, as `/v1/proxies` lists them.
    pub async fn proxies(&self) -> Vec<Value> {
        let all = json(self.http, "/v1/proxies").await;
        all["pilots"][0]["proxies"].as_array().unwrap().clone()
    }

    /// A series of `/metrics`, by name and labels as printed.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = get(self.monitoring, "/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("there is no {series} in\n{text}"))
            .parse()
            .unwrap()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub fn terminate(&self) {
        let kill = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.unwrap().success());
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
        logs(self.work.path())
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// `pilot` with free ports. A flag given again takes the place of these.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pilot"));
    for flag in [
        "--grpc-addr",
        "--secure-grpc-addr",
        "--http-addr",
        "--monitoring-addr",
    ] {
        if !args.contains(&flag) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn logs(work: &Path) -> String {
    let read =
        |name: &str| std::fs::read_to_string(PathBuf::from(work).join(name)).unwrap_or_default();
    read("stderr") + &read("stdout")
}

/// Status and body of a GET.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // HTTP/1.0: the answer ends with the connection.
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap().unwrap();
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

/// The JSON of a GET that succeeds.
pub async fn json(address: SocketAddr, path: &str) -> Value {
    let (status, body) = get(address, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}
