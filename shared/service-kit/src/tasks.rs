//! The long-running tasks of a process: named, counted in readiness, awaited at stop.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{Id, JoinError, JoinSet};

use crate::ready::Condition;
use crate::{Ready, Stop};

/// What can go wrong in a task, as text fit for the log of the process it ends.
pub type TaskFailure = Box<dyn std::error::Error + Send + Sync>;

/// The tasks a process (or a part of one) consists of.
///
/// A task that returns an error or panics triggers the stop signal the set was made with: a process with a dead part must
/// not look alive. A task that returns `Ok` is done, and no longer counts. While a task runs it is a met condition
/// `task/NAME` of the process's readiness; after it failed, an unmet one.
#[derive(Debug)]
pub struct Tasks {
    stop: Stop,
    ready: Ready,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    set: JoinSet<Result<(), String>>,
    names: BTreeMap<Id, String>,
}

/// How one task went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The task returned an error.
    #[error("task {name} failed: {reason}")]
    Failed {
        /// The task.
        name: String,
        /// Its error, with causes.
        reason: String,
    },
    /// The task panicked: a bug.
    #[error("task {name} panicked: {message} (this is a bug, please report it)")]
    Panicked {
        /// The task.
        name: String,
        /// The panic's message.
        message: String,
    },
    /// The task was still running when the time to stop was over, and was dropped.
    #[error("task {name} did not stop within {bound:?}, dropped")]
    StillRunning {
        /// The task.
        name: String,
        /// How long it was waited for.
        bound: Duration,
    },
}

/// Everything that went wrong in a set of tasks, in the order it was noticed. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TasksError(pub Vec<TaskError>);

impl fmt::Display for TasksError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for TasksError {}

impl Tasks {
    /// An empty set. A task that fails triggers `stop`; give a child to confine the damage to a part.
    pub fn new(stop: &Stop, ready: &Ready) -> Self {
        Self {
            stop: stop.clone(),
            ready: ready.clone(),
            running: Mutex::default(),
        }
    }

    /// The signal this set stops by; give it to the tasks.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Starts a task that ends by itself when it is done or the stop signal was triggered.
    pub fn spawn<E>(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: Into<TaskFailure>,
    {
        let name = name.into();
        let watch = Watch::new(self, &name);
        let mut running = self.running.lock();
        let handle = running.set.spawn(async move {
            let mut watch = watch;
            let result = task.await;
            let result = result.map_err(|error| chain(&*error.into()));
            watch.end = Some(result.clone());
            result
        });
        running.names.insert(handle.id(), name);
    }

    /// As [`Tasks::spawn`], for a task that cannot fail.
    pub fn spawn_infallible(
        &self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async {
            task.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// How many tasks are running.
    pub fn len(&self) -> usize {
        self.running.lock().set.len()
    }

    /// Whether no task was started, or all were joined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the stop signal or for all tasks to end, whichever is first; then for the remaining tasks, `bound` at
    /// most; then drops what still runs.
    ///
    /// # Errors
    /// Every task that failed, panicked or had to be dropped.
    pub async fn join(self, bound: Duration) -> Result<(), TasksError> {
        let Running { mut set, mut names } = std::mem::take(&mut *self.running.lock());
        let mut errors = Vec::new();
        loop {
            tokio::select! {
                () = self.stop.wait() => break,
                ended = set.join_next_with_id() => match ended {
                    Some(ended) => errors.extend(outcome(ended, &mut names)),
                    None => break,
                },
            }
        }
        let drain = async {
            while let Some(ended) = set.join_next_with_id().await {
                errors.extend(outcome(ended, &mut names));
            }
        };
        if tokio::time::timeout(bound, drain).await.is_err() {
            errors.extend(
                names
                    .into_values()
                    .map(|name| TaskError::StillRunning { name, bound }),
            );
            set.shutdown().await;
        }
        for error in &errors {
            tracing::error!("{error}");
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(TasksError(errors))
        }
    }
}

fn outcome(
    ended: Result<(Id, Result<(), String>), JoinError>,
    names: &mut BTreeMap<Id, String>,
) -> Option<TaskError> {
    match ended {
        Ok((id, result)) => {
            let name = names.remove(&id).unwrap_or_default();
            result
                .err()
                .map(|reason| TaskError::Failed { name, reason })
        }
        Err(error) => {
            let name = names.remove(&error.id()).unwrap_or_default();
            let message = match error.try_into_panic() {
                Ok(panic) => panic_text(&*panic),
                // Only `set.shutdown()` cancels, after the names were reported.
                Err(_) => return None,
            };
            Some(TaskError::Panicked { name, message })
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// An error and its causes, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// Tells readiness and the stop signal how a task ended, also when it panicked or was dropped.
struct Watch {
    name: String,
    stop: Stop,
    condition: Option<Condition>,
    end: Option<Result<(), String>>,
}

impl Watch {
    fn new(tasks: &Tasks, name: &str) -> Self {
        let condition = tasks
            .ready
            .condition(format!("task/{name}"), "the task to start");
        condition.met();
        Self {
            name: name.to_owned(),
            stop: tasks.stop.clone(),
            condition: Some(condition),
            end: None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(condition) = self.condition.take() else {
            return;
        };
        match &self.end {
            Some(Ok(())) => {
                tracing::debug!(task = self.name, "task ended");
                condition.remove();
            }
            Some(Err(reason)) => {
                tracing::error!(task = self.name, error = %reason, "task failed, stopping");
                condition.unmet(format!("failed: {reason}"));
                self.stop.trigger();
            }
            None => {
                if std::thread::panicking() {
                    tracing::error!(task = self.name, "task panicked, stopping");
                    condition.unmet("panicked");
                    self.stop.trigger();
                } else {
                    condition.unmet("dropped");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    fn tasks() -> (Stop, Ready, Tasks) {
        let stop = Stop::new();
        let ready = Ready::default();
        let tasks = Tasks::new(&stop, &ready);
        (stop, ready, tasks)
    }

    #[tokio::test]
    async fn tasks_that_end_in_time_are_no_error() {
        let (stop, ready, tasks) = tasks();
        let heard = stop.clone();
        tasks.spawn_infallible("loop", async move { heard.wait().await });
        tasks.spawn("once", async { Ok::<(), std::io::Error>(()) });
        assert_eq!(tasks.len(), 2);
        assert!(ready.is_ready());
        stop.trigger();
        tasks.join(BOUND).await.unwrap();
        assert!(ready.is_ready());
    }

    #[tokio::test]
    async fn a_failing_task_stops_the_others_and_readiness() {
        let (stop, ready, tasks) = tasks();
        let heard = stop.clone();
        tasks.spawn_infallible("loop", async move { heard.wait().await });
        tasks.spawn("source", async { Err("no such folder") });
        let errors = tasks.join(BOUND).await.unwrap_err();
        assert_eq!(errors.to_string(), "task source failed: no such folder");
        assert!(stop.triggered());
        assert_eq!(
            ready.report().waiting["task/source"],
            "failed: no such folder"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_message() {
        let (stop, ready, tasks) = tasks();
        tasks.spawn_infallible("bad", async { panic!("index {}", 7) });
        let errors = tasks.join(BOUND).await.unwrap_err();
        assert_eq!(
            errors.0,
            [TaskError::Panicked {
                name: "bad".into(),
                message: "index 7".into()
            }]
        );
        assert!(stop.triggered() && !ready.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_named_and_dropped() {
        let (stop, _, tasks) = tasks();
        tasks.spawn_infallible("deaf", std::future::pending());
        stop.trigger();
        let errors = tasks.join(BOUND).await.unwrap_err();
        assert_eq!(
            errors.to_string(),
            "task deaf did not stop within 5s, dropped"
        );
    }
}
