//! A `flotilla up` under test.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test.
pub const FLOTILLA: &str = env!("CARGO_BIN_EXE_flotilla");

/// A loopback network that nobody else uses: by test process, and by test in it.
pub fn network() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Consecutive process ids are eight networks apart.
    let number = 100 * 256 + (std::process::id() * 8 + count) % (100 * 256);
    format!("127.{}.{}", number / 256, number % 256)
}

/// A running mesh.
pub struct Up {
    child: Child,
    lines: Receiver<String>,
    /// Everything that was printed and looked at.
    pub seen: Vec<String>,
    pub dir: tempfile::TempDir,
    pub network: String,
}

impl Up {
    /// Starts it, with flags of the test.
    pub fn start(flags: &[&str]) -> Up {
        let dir = tempfile::tempdir().unwrap();
        let network = network();
        let mut child = Command::new(FLOTILLA)
            .arg("up")
            .arg("--dir")
            .arg(dir.path().join("mesh"))
            .args(["--network", &network, "--any-ports"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Up {
            child,
            lines,
            seen: Vec::new(),
            dir,
            network,
        }
    }

    /// The next line that contains a text.
    #[track_caller]
    pub fn line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(why) => panic!(
                    "no line with {text:?} ({}); it said:\n{}\nand logged:\n{}",
                    match why {
                        RecvTimeoutError::Timeout => "in time",
                        RecvTimeoutError::Disconnected => "before it ended",
                    },
                    self.seen.join("\n"),
                    self.log()
                ),
            }
        }
    }

    fn log(&self) -> String {
        let logs = self.dir.path().join("mesh/logs");
        ["flotilla", "galley", "pilot"]
            .iter()
            .filter_map(|name| std::fs::read_to_string(logs.join(format!("{name}.log"))).ok())
            .collect()
    }

    /// A file of the working copy.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("mesh/config").join(name)
    }

    /// Replaces a text in a file of the working copy, as an editor does: a new file under the old name.
    #[track_caller]
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let file = self.file(name);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        let new = file.with_extension("new");
        std::fs::write(&new, text.replace(from, to)).unwrap();
        std::fs::rename(&new, &file).unwrap();
    }

    /// The page, with its status.
    pub fn page(&self) -> (u16, String) {
        get(&format!("{}.1:8000", self.network), "/productpage")
    }

    /// Whether the proxy before an application ends a connection that is spoken to in plaintext.
    pub fn plaintext_is_refused(&self, host: u8) -> bool {
        let mut stream = TcpStream::connect(format!("{}.{host}:9080", self.network)).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.is_empty()
    }

    /// Waits until the page contains a text.
    #[track_caller]
    pub fn page_with(&self, text: &str) -> String {
        let mut last = (0, String::new());
        await_that(&format!("{text:?} on the page"), || {
            last = self.page();
            last.0 == 200 && last.1.contains(text)
        });
        last.1
    }

    /// Every process it started, and those that these started, by id and program.
    pub fn children(&self) -> BTreeSet<(i32, String)> {
        let all = processes();
        let mut parents = BTreeSet::from([self.child.id() as i32]);
        let mut found = BTreeSet::new();
        loop {
            let next: Vec<&Process> = all
                .iter()
                .filter(|process| parents.contains(&process.parent))
                .filter(|process| !parents.contains(&process.pid))
                .collect();
            if next.is_empty() {
                return found;
            }
            for process in next {
                parents.insert(process.pid);
                found.insert((process.pid, process.program.clone()));
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        await_that("the end of flotilla up", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Sends a signal and checks that nothing is left afterwards.
    #[track_caller]
    pub fn ends_with_all_children(&mut self, signal: Signal) -> ExitStatus {
        let children = self.children();
        self.signal(signal);
        let status = self.ended();
        await_that("the end of its children", || {
            let there: BTreeSet<(i32, String)> = processes()
                .into_iter()
                .filter(|process| !process.zombie)
                .map(|process| (process.pid, process.program))
                .collect();
            children.is_disjoint(&there)
        });
        status
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Its children follow, by the system's own means.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Process {
    pid: i32,
    parent: i32,
    program: String,
    zombie: bool,
}

fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (program, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            let mut fields = rest.split_whitespace();
            Some(Process {
                pid,
                program: program.to_owned(),
                zombie: fields.next()? == "Z",
                parent: fields.next()?.parse().ok()?,
            })
        })
        .collect()
}

/// Polls a condition until it holds.
#[track_caller]
pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An HTTP answer: status and body; 0 if there is none.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let Ok(answer) = ask() else {
        return (0, String::new());
    };
    let status = answer
        .split_whitespace()
        .nth(1)
        .and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}

/// A command of the program under test: exit code, standard output, standard error.
pub fn flotilla(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(FLOTILLA)
        .args(arguments)
        .env_remove("FLOTILLA_PILOT")
        .env_remove("FLOTILLA_GALLEY")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A folder with files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        write_file(&dir.path().join(name), text);
    }
    dir
}

fn write_file(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
