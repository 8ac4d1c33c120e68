//! A real PostgreSQL server for tests: own folder, own port on loopback, gone afterwards.
//!
//! Uses the standard library alone, so that a test may include this one file instead of the whole crate.

#![allow(
    clippy::disallowed_methods,
    reason = "starts a process and waits for it outside of any runtime"
)]

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A running server with a superuser `flotilla` that needs no password. Killed, and its folder removed, when dropped.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a database cluster and starts a server on it. Takes about two seconds.
    ///
    /// # Panics
    /// If PostgreSQL is not installed (`e2e/tools/setup.sh --tests` installs it) or does not start.
    pub fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let bin = programs().expect("PostgreSQL is not installed: no initdb in PATH or /usr/lib/postgresql/*/bin; run e2e/tools/setup.sh --tests");
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("flotilla-postgres-{}-{n}", std::process::id()));
        // Left over from a killed test run with the same process id.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("a folder for PostgreSQL");
        let user = other_user();
        if let Some((uid, gid)) = user {
            chown(&dir, Some(uid), Some(gid)).expect("a folder of another user");
        }
        let mut postgres = Self {
            bin,
            dir,
            port: 0,
            user,
            server: None,
        };
        let data = postgres.data();
        postgres.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "flotilla",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
        );
        postgres.port = free_port();
        postgres.launch();
        postgres
    }

    /// Makes an empty database and returns its URL. `name`: lower-case letters, digits and `_`.
    ///
    /// # Panics
    /// If it exists already.
    pub fn database(&self, name: &str) -> String {
        let port = self.port.to_string();
        self.run(
            "createdb",
            &["-h", "127.0.0.1", "-p", &port, "-U", "flotilla", name],
        );
        format!("postgres://flotilla@127.0.0.1:{port}/{name}")
    }

    /// Kills the server as a power cut would: no chance to say or finish anything.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Starts the server again, on the same port and folder, after [`Postgres::kill`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    fn data(&self) -> String {
        self.dir.join("data").display().to_string()
    }

    fn launch(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let port = self.port.to_string();
        let socket = format!("unix_socket_directories={}", self.dir.display());
        while Instant::now() < deadline {
            let log = std::fs::File::options()
                .append(true)
                .create(true)
                .open(self.dir.join("log"))
                .expect("a log for PostgreSQL");
            // Data on disk need not survive the machine, only the server: no fsync.
            let mut server = self
                .command("postgres")
                .args([
                    "-D",
                    &self.data(),
                    "-p",
                    &port,
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    &socket,
                ])
                .args([
                    "-c",
                    "fsync=off",
                    "-c",
                    "max_connections=50",
                    "-c",
                    "shared_buffers=16MB",
                ])
                .stderr(log)
                .spawn()
                .expect("postgres starts");
            // It ends at once if backends of a killed predecessor still hold the shared memory: then again.
            while Instant::now() < deadline && server.try_wait().expect("a child").is_none() {
                let ready = self
                    .command("pg_isready")
                    .args(["-q", "-h", "127.0.0.1", "-p", &port])
                    .status();
                if ready.is_ok_and(|status| status.success()) {
                    self.server = Some(server);
                    return;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
            let _ = server.kill();
            let _ = server.wait();
        }
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self
            .command(program)
            .args(args)
            .stderr(Stdio::piped())
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The folder of all the programs we use: Debian keeps them out of PATH, and a PATH may have links to some of them.
fn programs() -> Option<PathBuf> {
    let has = |dir: &Path| {
        ["initdb", "postgres", "pg_isready", "createdb"]
            .iter()
            .all(|name| dir.join(name).is_file())
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(dir) = std::env::split_paths(&path).find(|dir| has(dir)) {
        return Some(dir);
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut dirs: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|dir| has(dir))
        .collect();
    dirs.sort();
    dirs.pop()
}

/// PostgreSQL refuses to run as root: then `postgres` or `nobody` runs it.
fn other_user() -> Option<(u32, u32)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    if uid.split_ascii_whitespace().nth(1)? != "0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].into_iter().find_map(|name| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let probe: io::Result<u16> =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok(listener.local_addr()?.port()));
    probe.expect("a free port on loopback")
}
