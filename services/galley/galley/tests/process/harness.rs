//! Starting the program, asking it over HTTP, and writing what it reads.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

/// Longest time anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running galley. Killed when dropped.
pub struct Galley {
    child: Child,
    ports: BTreeMap<String, SocketAddr>,
}

/// How a galley is started.
#[derive(Clone)]
pub struct Start {
    program: Vec<String>,
    args: Vec<String>,
    ports: PathBuf,
}

impl Start {
    /// On a store, with `sources`; `dir` is for its own files.
    pub fn new(dir: &Path, name: &str, store: &str, sources: &[&Path]) -> Start {
        let mut args: Vec<String> = [
            "--grpc-addr=127.0.0.1:0",
            "--http-addr=127.0.0.1:0",
            "--monitoring-addr=127.0.0.1:0",
            "--lease-ttl=300ms",
            "--poll=100ms",
        ]
        .map(str::to_owned)
        .into();
        let ports = dir.join(format!("{name}.ports"));
        args.push(format!("--ports-file={}", ports.display()));
        args.push(format!("--store={store}"));
        args.extend(
            sources
                .iter()
                .map(|path| format!("--source=file://{}", path.display())),
        );
        Start {
            program: vec![env!("CARGO_BIN_EXE_galley").into()],
            args,
            ports,
        }
    }

    /// With a flag `--name=value`, in place of the same flag if it is there.
    pub fn arg(mut self, arg: impl Into<String>) -> Start {
        let arg = arg.into();
        let name = arg.split_inclusive('=').next().unwrap_or_default();
        self.args.retain(|other| !other.starts_with(name));
        self.args.push(arg);
        self
    }

    /// Through another program, which gets the galley's command line after its own.
    pub fn through(mut self, program: &[&str]) -> Start {
        let own = std::mem::take(&mut self.program);
        self.program = program
            .iter()
            .map(|word| (*word).to_owned())
            .chain(own)
            .collect();
        self
    }

    pub async fn start(&self) -> Galley {
        let _ = std::fs::remove_file(&self.ports);
        let mut child = Command::new(&self.program[0])
            .args(&self.program[1..])
            .args(&self.args)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let ports = wait("the ports file", async || {
            assert_eq!(child.try_wait().unwrap(), None, "galley ended");
            let text = std::fs::read(&self.ports).ok()?;
            serde_json::from_slice(&text).ok()
        })
        .await;
        Galley { child, ports }
    }
}

impl Galley {
    pub fn grpc(&self) -> String {
        format!("http://{}", self.ports["grpc"])
    }

    /// What it listens on under a name of the file of ports.
    pub fn addr(&self, name: &str) -> SocketAddr {
        self.ports[name]
    }

    /// GET of the API, as JSON.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = get(self.ports["http"], path);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// What `/ready` says.
    pub fn ready(&self) -> Value {
        serde_json::from_str(&get(self.ports["monitoring"], "/ready").1).unwrap()
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

    pub fn revision(&self) -> u64 {
        self.get("/v1/revision")["revision"].as_u64().unwrap()
    }

    pub async fn reaches(&self, revision: u64) {
        wait(&format!("revision {revision}"), async || {
            (self.revision() >= revision).then_some(())
        })
        .await;
    }

    /// `kind name code` of every finding that is an error: nothing here refers to hosts that exist, which is another matter.
    pub fn findings(&self) -> Vec<String> {
        let list = self.get("/v1/findings");
        let text = |f: &Value, field: &str| f[field].as_str().unwrap_or("-").to_owned();
        list.as_array()
            .unwrap()
            .iter()
            .filter(|f| f["level"] == "error")
            .map(|f| {
                format!(
                    "{} {} {}",
                    text(f, "kind"),
                    text(f, "name"),
                    text(f, "code")
                )
            })
            .collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid().to_string()])
            .status();
        assert!(done.unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and whether it ended well.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let status = wait("the end", async || self.child.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Galley {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: galley\r\nconnection: close\r\n\r\n"
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

/// A VirtualService with a number in its labels and its host.
pub fn service(name: &str, number: usize) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop, labels: {{n: \"{number}\"}}}}\nspec: {{hosts: [{name}.com], http: [{{route: [{{destination: {{host: {name}.com}}}}]}}]}}\n"
    )
}

/// Replaces a file as editors do: whole, by renaming a new one over it.
pub fn save(path: &Path, text: &str) {
    let name = path.file_name().unwrap().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.tmp"));
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

/// A folder for a test, with `mesh` in it, and the URL of a SQLite store.
pub fn folder() -> (tempfile::TempDir, PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let mesh = dir.path().join("mesh");
    std::fs::create_dir(&mesh).unwrap();
    let store = format!("sqlite://{}", dir.path().join("galley.db").display());
    (dir, mesh, store)
}
