//! `agent capture`: hands a pod's traffic to its proxy, or stops doing so.
//!
//! What rules are wanted and what that means for those in force is decided in `agent_core::capture`; here programs are run and files read.
//! Everything happens on one thread of its own, which may move into another network namespace without the rest of the process.

mod args;
mod programs;
mod run;
mod validate;

use std::process::ExitCode;

pub use args::Args;

/// Exit code when rules turn out not to be in force; whoever repairs pods waits for it.
const NOT_CAPTURED: u8 = 126;

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Settings are refused.
    #[error("{}", list(.0))]
    Settings(Vec<agent_core::capture::SettingError>),
    /// Rules are there that nobody allowed to touch.
    #[error(transparent)]
    Plan(#[from] agent_core::capture::PlanError),
    /// `--iptables-version` means nothing.
    #[error(
        "--iptables-version {0:?}: want what `iptables --version` prints, such as `1.8.9 (nf_tables)`"
    )]
    Version(String),
    /// A file of the system cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Another network namespace cannot be entered.
    #[error(
        "network namespace {path}: {error}; entering it needs CAP_SYS_ADMIN in the host's user namespace"
    )]
    Namespace {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// No variant of iptables works.
    #[error(
        "no iptables works here; install the package `iptables`, run as root with the capabilities NET_ADMIN and NET_RAW. What was tried:\n  {}",
        .0.join("\n  ")
    )]
    NoIptables(Vec<String>),
    /// A program failed.
    #[error(transparent)]
    Program(#[from] programs::ProgramError),
    /// Rules were taken, but are not shown as they were given.
    #[error("{program} shows other rules than were applied; is somebody else writing them?\n  {}", .differences.join("\n  "))]
    Changed {
        /// Which program shows them.
        program: String,
        /// What differs.
        differences: Vec<String>,
    },
    /// The thread that does it cannot be had.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    /// Validation cannot be made at all.
    #[error(transparent)]
    Validation(#[from] validate::ValidationError),
}

fn list(errors: &[agent_core::capture::SettingError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl CaptureError {
    fn exit_code(&self) -> u8 {
        match self {
            CaptureError::Validation(validate::ValidationError::NotCaptured(_)) => NOT_CAPTURED,
            _ => 1,
        }
    }
}

/// Does what the arguments say, and says what was done, or what failed and what to try.
///
/// Exit code: 0 if all is as wanted, 126 if validation finds that traffic is not captured, else 1.
pub fn run(args: Args) -> ExitCode {
    let outcome = std::thread::Builder::new()
        .name("capture".into())
        .spawn(move || run::run(&args))
        .map_err(CaptureError::Start)
        .and_then(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}
