//! Telling a program that reads certificates from the folder, and does not look again by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use service_kit::Stop;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::folder::{self, Material};

/// How long to wait for a program that does not run.
const AGAIN: Duration = Duration::from_secs(5);

/// Sends SIGHUP to the process whose number is in `pid_file` whenever there is something new in `material`, until `stop`; again and again
/// while there is no such process. For NATS and others that take in new certificates at this signal.
pub async fn hang_up_on_change(
    mut material: watch::Receiver<Option<Arc<Material>>>,
    pid_file: PathBuf,
    stop: Stop,
) {
    loop {
        let waits = tokio::select! {
            () = stop.wait() => return,
            heard = material.wait_for(Option::is_some) => heard.is_ok(),
        };
        if !waits {
            return stop.wait().await;
        }
        material.mark_unchanged();
        while let Err(error) = hang_up(&pid_file) {
            tracing::warn!(error, file = %pid_file.display(), "the program is not told of its new certificate yet");
            tokio::select! { () = stop.wait() => return, () = sleep(AGAIN) => {} }
        }
        tracing::info!(file = %pid_file.display(), "the program was told of its new certificate");
        let changed = tokio::select! {
            () = stop.wait() => return,
            changed = material.changed() => changed,
        };
        if changed.is_err() {
            return stop.wait().await;
        }
    }
}

fn hang_up(pid_file: &Path) -> Result<(), String> {
    let text = folder::read_file(pid_file).map_err(|error| error.to_string())?;
    let text = text.ok_or("there is no such file")?;
    let number = text.trim().parse::<i32>().ok().filter(|number| *number > 1);
    let pid = number
        .and_then(Pid::from_raw)
        .ok_or("there is no process number in it")?;
    kill_process(pid, Signal::HUP).map_err(|error| error.to_string())
}
