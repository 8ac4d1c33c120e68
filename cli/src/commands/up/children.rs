//! Processes that this one started: watched, started again when they end, ended with this one.
//!
//! All methods belong on the main thread: `flotilla child` ties a process to the thread that starts it (see `commands::child`).

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use service_kit::Backoff;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A process that ended is started again after this long, or longer if it keeps ending.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// One that ran for this long gets the shortest pause again.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// After SIGTERM, processes have this long before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How often a file is looked for.
const POLL: Duration = Duration::from_millis(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name for people: "envoy of reviews-v2".
    pub name: String,
    /// Program, absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables that it gets besides ours.
    pub variables: Vec<(&'static str, OsString)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// Which child.
pub type Index = usize;

#[derive(Debug)]
struct Entry {
    spec: Spec,
    /// While it runs.
    pid: Option<Pid>,
    waiter: Option<tokio::task::AbortHandle>,
    started: Instant,
    backoff: Backoff,
    /// When to start it again.
    due: Option<Instant>,
}

/// Processes.
#[derive(Debug)]
pub struct Children {
    flotilla: PathBuf,
    entries: Vec<Entry>,
    ended: mpsc::UnboundedSender<(Index, ExitStatus)>,
    endings: mpsc::UnboundedReceiver<(Index, ExitStatus)>,
    grace: Duration,
}

/// Something that happened to a child.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub how: String,
    /// Where its output went.
    pub log: PathBuf,
}

impl Children {
    /// None yet. `flotilla` is this program.
    pub fn new(flotilla: PathBuf) -> Children {
        // Unbounded, and bounded by its senders: each child ends once.
        let (ended, endings) = mpsc::unbounded_channel();
        Children {
            flotilla,
            entries: Vec::new(),
            ended,
            endings,
            grace: GRACE,
        }
    }

    /// Starts a process.
    pub fn start(&mut self, spec: Spec) -> anyhow::Result<Index> {
        let index = self.entries.len();
        self.entries.push(Entry {
            spec,
            pid: None,
            waiter: None,
            started: Instant::now(),
            backoff: Backoff::new(PAUSE, LONGEST_PAUSE),
            due: None,
        });
        self.launch(index)?;
        Ok(index)
    }

    /// Arguments for the next start of a process, which may not be the ones of the first.
    pub fn set_arguments(&mut self, index: Index, arguments: Vec<OsString>) {
        self.entries[index].spec.arguments = arguments;
    }

    fn launch(&mut self, index: Index) -> anyhow::Result<()> {
        let entry = &mut self.entries[index];
        let spec = &entry.spec;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&spec.log)
            .with_context(|| spec.log.display().to_string())?;
        let mut child = Command::new(&self.flotilla)
            .args(["child", "--parent", &std::process::id().to_string(), "--"])
            .arg(&spec.program)
            .args(&spec.arguments)
            .envs(spec.variables.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal reaches this process alone, which ends the others in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", spec.name))?;
        entry.pid = pid(&child);
        entry.started = Instant::now();
        entry.due = None;
        let ended = self.ended.clone();
        let waiter = tokio::spawn(async move {
            if let Ok(status) = child.wait().await {
                let _ = ended.send((index, status));
            }
        });
        entry.waiter = Some(waiter.abort_handle());
        Ok(())
    }

    /// Waits until a process is ready, which `look` finds out; an error if a process ends before.
    pub async fn wait_for<T>(
        &mut self,
        index: Index,
        look: impl Fn() -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut poll = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                _ = poll.tick() => if let Some(found) = look() {
                    return Ok(found);
                },
                Some((which, status)) = self.endings.recv() => {
                    let ending = self.take(which, status);
                    bail!("{} {}: {}", ending.name, ending.how, last_line(&ending.log));
                }
            }
            if self.entries[index].pid.is_none() {
                bail!("{} has ended", self.entries[index].spec.name);
            }
        }
    }

    /// Starts again what has ended, for ever; returns when something ended, to tell.
    pub async fn watch(&mut self) -> anyhow::Result<Ending> {
        loop {
            let due = self.entries.iter().filter_map(|entry| entry.due).min();
            tokio::select! {
                Some((index, status)) = self.endings.recv() => {
                    let ending = self.take(index, status);
                    let entry = &mut self.entries[index];
                    if entry.started.elapsed() > LONG_ENOUGH {
                        entry.backoff.reset();
                    }
                    entry.due = Some(Instant::now() + entry.backoff.next_delay());
                    return Ok(ending);
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    for index in 0..self.entries.len() {
                        if self.entries[index].due.is_some_and(|due| due <= Instant::now()) {
                            self.launch(index)?;
                        }
                    }
                }
            }
        }
    }

    fn take(&mut self, index: Index, status: ExitStatus) -> Ending {
        let entry = &mut self.entries[index];
        entry.pid = None;
        entry.waiter = None;
        Ending {
            name: entry.spec.name.clone(),
            how: how(status),
            log: entry.spec.log.clone(),
        }
    }

    /// Ends these processes: asks them first, and makes them after a while.
    pub async fn stop(&mut self, which: impl IntoIterator<Item = Index>) {
        let which: Vec<Index> = which.into_iter().collect();
        for index in &which {
            self.entries[*index].due = None;
            if let Some(pid) = self.entries[*index].pid {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + self.grace;
        while which.iter().any(|index| self.entries[*index].pid.is_some()) {
            match tokio::time::timeout_at(deadline, self.endings.recv()).await {
                Ok(Some((index, status))) => drop(self.take(index, status)),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        for index in &which {
            let entry = &self.entries[*index];
            if let Some(pid) = entry.pid {
                tracing::warn!(name = entry.spec.name, "did not end when asked to: killed");
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        while which.iter().any(|index| self.entries[*index].pid.is_some()) {
            let Some((index, status)) = self.endings.recv().await else {
                return;
            };
            self.take(index, status);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Drop for Children {
    /// For errors on the way; after `stop` there is nothing left to do.
    fn drop(&mut self) {
        for entry in &self.entries {
            // Dropping the task's `Child` kills it; the signal is for a runtime that drops nothing any more.
            if let (Some(waiter), Some(pid)) = (&entry.waiter, entry.pid) {
                let _ = kill_process(pid, Signal::KILL);
                waiter.abort();
            }
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The last line of a log that says something.
pub fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rfind(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands for this program: runs what stands behind `child --parent PID --`.
    fn stand_in(dir: &Path) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.join("flotilla");
        std::fs::write(&path, "#!/bin/sh\nshift 4\nexec \"$@\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn spec(dir: &Path, script: &str) -> Spec {
        Spec {
            name: "it".into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            variables: Vec::new(),
            log: dir.join("log"),
        }
    }

    #[tokio::test]
    async fn what_ends_is_told_and_started_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(stand_in(dir.path()));
        children
            .start(spec(dir.path(), "echo once >> \"$0.runs\"; exit 3"))
            .unwrap();
        let first = children.watch().await.unwrap();
        assert_eq!(first.how, "ended with exit code 3");
        let second = children.watch().await.unwrap();
        assert_eq!(second.name, "it");
        children.stop(0..1).await;
    }

    #[tokio::test]
    async fn the_stubborn_are_killed_and_the_willing_asked() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(stand_in(dir.path()));
        children.grace = Duration::from_millis(300);
        let ready = dir.path().join("ready");
        let script = format!(
            "trap '' TERM; echo yes > {}; while :; do sleep 1; done",
            ready.display()
        );
        let stubborn = children.start(spec(dir.path(), &script)).unwrap();
        children.start(spec(dir.path(), "sleep 1000")).unwrap();
        children
            .wait_for(stubborn, || ready.exists().then_some(()))
            .await
            .unwrap();
        children.stop(0..2).await;
        assert!(children.entries.iter().all(|entry| entry.pid.is_none()));
    }

    #[tokio::test]
    async fn one_that_ends_before_it_is_ready_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let mut children = Children::new(stand_in(dir.path()));
        let index = children
            .start(spec(dir.path(), "echo the port is taken; exit 1"))
            .unwrap();
        let error = children.wait_for(index, || None::<()>).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "it ended with exit code 1: the port is taken"
        );
    }
}
