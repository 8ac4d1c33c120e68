//! Processes under test: started, killed and started again at will, gone when their owner is dropped.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// How much of a log is shown when a test fails.
const TAIL: u64 = 12 * 1024;

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A program of this workspace, as cargo built it beside the tests.
///
/// # Panics
/// If it has not been built.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this test");
    let path = own
        .ancestors()
        .nth(2)
        .map(|profile| profile.join(name))
        .filter(|path| path.is_file());
    path.unwrap_or_else(|| panic!("{name} is not built; run: cargo build -p {name}"))
}

/// A program that `e2e/tools/setup.sh` fetched.
///
/// # Panics
/// If it is not there.
pub fn fetched(name: &str) -> PathBuf {
    let path = workspace().join(".cache/bin").join(name);
    assert!(
        path.exists(),
        "{name} is not in .cache/bin; run e2e/tools/setup.sh"
    );
    path
}

/// A process that may be started, killed, and started again with the same arguments. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet. What it prints is appended to `NAME.log` in `dir`.
    pub fn new(name: &str, program: PathBuf, args: Vec<String>, dir: &Path) -> Process {
        Process {
            name: name.into(),
            program,
            args,
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Adds arguments for the next start.
    pub fn push_args<S: Into<String>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.args.extend(args.into_iter().map(Into::into));
    }

    /// Starts it; does nothing if it runs.
    ///
    /// # Panics
    /// If the system cannot start it.
    pub fn start(&mut self) {
        if self.is_running() {
            return;
        }
        let log = || {
            File::options()
                .append(true)
                .create(true)
                .open(&self.log)
                .expect("a log file")
        };
        // The kernel kills it with the thread that started it, even if that is killed itself.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(&self.args);
        let started = command
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn();
        self.child = Some(started.unwrap_or_else(|error| panic!("{}: {error}", self.name)));
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it at once, without a goodbye, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM) and waits until it did.
    ///
    /// # Panics
    /// If it does not end within `bound`.
    pub async fn terminate(&mut self, bound: Duration) -> ExitStatus {
        self.signal("TERM");
        self.ended(bound).await
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it does not end within `bound`.
    pub async fn ended(&mut self, bound: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("it was started");
        let ended = wait::within(bound, async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        let status = ended
            .await
            .unwrap_or_else(|error| panic!("{}: within {bound:?}: {error}", self.name));
        self.child = None;
        status
    }

    /// Stops it as a debugger would: it does nothing more, but its connections stay.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Process::pause`].
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.pid().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{}: no SIG{signal}",
            self.name
        );
    }

    /// Everything it printed.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// # Panics
    /// If it does not run any more, with its log.
    pub fn check_running(&mut self) {
        if !self.is_running() {
            panic!("{} ended:\n{}", self.name, self.tail());
        }
    }

    fn tail(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.tail());
        }
    }
}
