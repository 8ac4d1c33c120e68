//! Requests in the background, for tests that change or break something meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use crate::client::{Answer, Call, CallError, Client};
use crate::wait::eventually;

/// What became of the requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers by status and backend: `200 reviews-v1`.
    pub answers: BTreeMap<String, usize>,
    /// What failed: no answer, or a status of 500 and above.
    pub failures: Vec<String>,
}

impl Tally {
    /// How many requests have ended.
    pub fn total(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failures.len()
    }

    fn count(&mut self, turn: usize, outcome: Result<Answer, CallError>) {
        match outcome {
            Ok(answer) => {
                let line = format!("{} {}", answer.status.as_u16(), answer.backend());
                if answer.status.is_server_error() {
                    let failure = format!("request {turn}: {line}: {}", answer.text());
                    self.failures.push(failure);
                } else {
                    *self.answers.entry(line).or_default() += 1;
                }
            }
            Err(error) => self.failures.push(format!("request {turn}: {error}")),
        }
    }
}

/// Most requests of [`Traffic::steady`] that may wait for their answers; one more is a failure.
const MOST: usize = 2000;

/// Requests again and again, until stopped or dropped.
#[derive(Debug)]
pub struct Traffic {
    tally: Arc<Mutex<Tally>>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Starts sending `call`, one request after the other. Every second request opens a connection of its own, so that both new and old
    /// connections are tried.
    pub fn start(client: Client, call: Call) -> Traffic {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let told = tally.clone();
        let task = tokio::spawn(async move {
            for turn in 0.. {
                let outcome = send(&client, &call, turn).await;
                told.lock().count(turn, outcome);
            }
        });
        Traffic { tally, task }
    }

    /// Starts sending `call` that often, whether or not the ones before are answered; connections as [`Traffic::start`].
    pub fn steady(client: Client, call: Call, per_second: u32) -> Traffic {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let told = tally.clone();
        let task = tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / per_second);
            // Those that are under way end with this task.
            let mut requests = JoinSet::new();
            for turn in 0.. {
                clock.tick().await;
                while requests.try_join_next().is_some() {}
                if requests.len() >= MOST {
                    let late = format!("request {turn}: {MOST} others have no answer yet");
                    told.lock().failures.push(late);
                    continue;
                }
                let (client, call, told) = (client.clone(), call.clone(), told.clone());
                requests.spawn(async move {
                    let outcome = send(&client, &call, turn).await;
                    told.lock().count(turn, outcome);
                });
            }
        });
        Traffic { tally, task }
    }

    /// What became of the requests so far.
    pub fn so_far(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Waits until `count` more requests have ended: those that saw whatever was done before.
    ///
    /// # Panics
    /// If they do not in time.
    pub async fn more(&self, count: usize) {
        let wanted = self.so_far().total() + count;
        eventually("requests go on", async || {
            let total = self.so_far().total();
            if total >= wanted {
                Ok(())
            } else {
                Err(format!("{total} of {wanted}"))
            }
        })
        .await;
    }

    /// Stops; the tally.
    ///
    /// # Panics
    /// If a request has failed, or there was none.
    pub fn without_failure(self) -> Tally {
        let tally = self.so_far();
        assert!(
            tally.failures.is_empty(),
            "{} of {} requests failed: {:#?}",
            tally.failures.len(),
            tally.total(),
            tally.failures
        );
        assert!(tally.total() > 0, "no request ended");
        tally
    }
}

async fn send(client: &Client, call: &Call, turn: usize) -> Result<Answer, CallError> {
    match turn % 2 {
        0 => client.send(call).await,
        _ => client.fresh().send(call).await,
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}
