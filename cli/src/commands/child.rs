//! `flotilla child`: becomes another program that ends when its parent does, however the parent ends.
//!
//! The wish is Linux's "parent death signal", which outlives the exec. It is about the *thread* that started the child: that thread must
//! live as long as the parent wants its child.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Process id of the parent
    #[arg(long, value_name = "PID")]
    parent: i32,

    /// Program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Becomes the program.
pub fn run(args: &Args) -> anyhow::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("the system does not tell of a parent's end")?;
    // It may have ended before the line above.
    if getppid() != Pid::from_raw(args.parent) {
        bail!("the parent has ended");
    }
    let [program, arguments @ ..] = &*args.command else {
        bail!("no program is named");
    };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{} cannot be run", program.display()))
}
