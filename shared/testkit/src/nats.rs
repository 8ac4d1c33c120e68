//! A real NATS server with JetStream for tests: own folder, own port on loopback, killed and started again at will.
//!
//! Uses the standard library alone, so that a test may include this one file instead of the whole crate.

#![allow(
    clippy::disallowed_methods,
    reason = "starts a process and waits for it outside of any runtime"
)]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A NATS server. Killed, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Nats {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    jetstream: bool,
    config: Option<PathBuf>,
    server: Option<Child>,
}

impl Nats {
    /// Takes a port and a folder, but starts nothing yet: for tests of what happens before the server is there.
    ///
    /// # Panics
    /// If nats-server is not found: in `$FLOTILLA_NATS_SERVER`, `.cache/bin`, `.venv/bin` of the workspace, or PATH.
    pub fn prepare() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = program().expect(
            "nats-server is not found in $FLOTILLA_NATS_SERVER, .cache/bin, .venv/bin or PATH; run e2e/tools/setup.sh",
        );
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("flotilla-nats-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("a folder for NATS");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let port = listener.local_addr().expect("its address").port();
        Self {
            program,
            dir,
            port,
            jetstream: true,
            config: None,
            server: None,
        }
    }

    /// As [`Nats::prepare`], with a configuration file; relative paths in it are within [`Nats::dir`].
    ///
    /// # Panics
    /// As [`Nats::prepare`].
    pub fn prepare_with(config: &Path) -> Self {
        let mut nats = Self::prepare();
        nats.config = Some(config.to_owned());
        nats
    }

    /// Its folder: what it runs in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes it read its configuration, and the certificates named there, again.
    ///
    /// # Panics
    /// If it does not run.
    pub fn reload(&self) {
        self.signal("-HUP");
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let server = self.server.as_ref().expect("a running NATS");
        let sent = Command::new("kill")
            .args([signal, &server.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// A running server.
    ///
    /// # Panics
    /// As [`Nats::prepare`], or if it does not start.
    pub fn start() -> Self {
        let mut nats = Self::prepare();
        nats.launch();
        nats
    }

    /// A running server without JetStream: messages, but no buckets.
    ///
    /// # Panics
    /// As [`Nats::prepare`], or if it does not start.
    pub fn start_plain() -> Self {
        let mut nats = Self::prepare();
        nats.jetstream = false;
        nats.launch();
        nats
    }

    /// Where it listens, or will.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server and waits until it takes connections. Does nothing if it runs.
    ///
    /// # Panics
    /// If it does not start within 15 seconds.
    pub fn launch(&mut self) {
        if self.server.is_some() {
            return;
        }
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.dir.join("log"))
            .expect("a log for NATS");
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command.current_dir(&self.dir);
        if self.jetstream && self.config.is_none() {
            command.arg("-js").arg("-sd").arg(self.dir.join("data"));
        }
        let server = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.server = Some(server);
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nats-server does not start:\n{}", self.log());
    }

    /// Stops the server where it stands: connections stay open, and nothing is answered. Killing it ends that.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Kills the server without a goodbye.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Kills the server and throws away everything it stored: buckets and streams are lost.
    pub fn wipe(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(self.dir.join("data"));
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("FLOTILLA_NATS_SERVER") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var_os("PATH").unwrap_or_default();
    [workspace.join(".cache/bin"), workspace.join(".venv/bin")]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join("nats-server"))
        .find(|path| path.is_file())
}
