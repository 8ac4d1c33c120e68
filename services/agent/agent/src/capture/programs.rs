//! Programs of the system, each with a bound on its time and on what it may print.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use agent_core::capture::{Family, Restore, Seen, State, Variant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::CaptureError;

/// Where programs are found, whoever calls.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest time one program may take: more than it waits for its lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long iptables waits while another program holds its lock.
const LOCK_SECONDS: &str = "10";
/// iptables' code for "another program holds the lock".
const LOCKED: i32 = 4;
/// Most that is read of what a program prints, in bytes.
const PRINTED: u64 = 32 * 1024 * 1024;
/// Most of an error's text that is told, in bytes.
const TOLD: usize = 2000;

/// A program that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not there, or cannot be started.
    #[error("{command}: {error}")]
    Start {
        /// What was run.
        command: String,
        /// Why not.
        error: io::Error,
    },
    /// It took too long.
    #[error("{0}: it did not end within {PATIENCE:?}")]
    Slow(String),
    /// Another program holds the lock.
    #[error("{0}: another program holds the lock of iptables; try again when it has ended")]
    Locked(String),
    /// It failed.
    #[error("{command}: {said}{}", advice(said))]
    Failed {
        /// What was run.
        command: String,
        /// What it said, cut short.
        said: String,
    },
}

fn advice(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    if said.contains("permission denied") || said.contains("not permitted") {
        "; run as root with the capabilities NET_ADMIN and NET_RAW"
    } else if said.contains("no such file or directory")
        || said.contains("missing kernel module")
        || said.contains("no chain/target/match")
        || said.contains("extension")
        || said.contains("table does not exist")
    {
        "; the kernel may lack a module (xt_owner, xt_REDIRECT, xt_TPROXY, xt_CT, xt_comment ...): load it on the node, or try the other of `--force-iptables-binary nft` and `legacy`"
    } else {
        ""
    }
}

/// Runs programs.
#[derive(Debug, Clone, Default)]
pub(super) struct Programs {
    /// The file that iptables-legacy locks, if not the system's.
    pub lock: Option<PathBuf>,
}

impl Programs {
    /// What a program prints.
    pub async fn run(
        &self,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String, ProgramError> {
        let command = format!("{program} {}", args.join(" "));
        let mut builder = Command::new(program);
        builder
            .args(args)
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(lock) = &self.lock {
            builder.env("XTABLES_LOCKFILE", lock);
        }
        let start = |error| ProgramError::Start {
            command: command.clone(),
            error,
        };
        let child = builder.spawn().map_err(start)?;
        let Ok(ended) = timeout(PATIENCE, talk(child, input)).await else {
            return Err(ProgramError::Slow(command));
        };
        let (status, out, err) = ended.map_err(start)?;
        if status.success() {
            return Ok(out);
        }
        if status.code() == Some(LOCKED) {
            return Err(ProgramError::Locked(command));
        }
        let mut said: String = err.trim().chars().take(TOLD).collect();
        if said.is_empty() {
            said = status.to_string();
        }
        Err(ProgramError::Failed { command, said })
    }

    /// `ip` with these arguments.
    pub async fn ip(&self, args: &[String]) -> Result<String, ProgramError> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.run("ip", &args, "").await
    }

    /// Rules in force.
    pub async fn state(&self, variant: Variant, family: Family) -> Result<State, ProgramError> {
        let program = variant.program(family, "save");
        Ok(State::parse(&self.run(&program, &[], "").await?))
    }

    /// One run of `iptables-restore`.
    pub async fn restore(&self, restore: &Restore) -> Result<(), ProgramError> {
        let program = restore.variant.program(restore.family, "restore");
        let args = ["--noflush", "-w", LOCK_SECONDS];
        self.run(&program, &args, &restore.text).await.map(drop)
    }

    /// Variants that work, with what they show. IPv6 must be readable only if `v6`.
    pub async fn seen(&self, v6: bool) -> Result<Vec<(Variant, Seen)>, CaptureError> {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        for variant in [Variant::Nft, Variant::Legacy, Variant::Plain] {
            // The plain names stand for one of the others where there are such.
            if variant == Variant::Plain && !out.is_empty() {
                break;
            }
            match self.seen_by(variant, v6).await {
                Ok(seen) => out.push((variant, seen)),
                Err(error) => errors.push(error.to_string()),
            }
        }
        match out.is_empty() {
            true => Err(CaptureError::NoIptables(errors)),
            false => Ok(out),
        }
    }

    pub async fn seen_by(&self, variant: Variant, v6: bool) -> Result<Seen, ProgramError> {
        Ok(Seen {
            v4: self.state(variant, Family::V4).await?,
            v6: match self.state(variant, Family::V6).await {
                Ok(state) => state,
                Err(error) if v6 => return Err(error),
                Err(_) => State::default(),
            },
        })
    }

    /// The variant behind the plain name.
    pub async fn default_variant(&self) -> Option<Variant> {
        let version = self.run("iptables", &["--version"], "").await;
        version.ok().and_then(|text| Variant::of_version(&text))
    }
}

/// Gives a program its input and reads what it prints until it ends.
async fn talk(
    mut child: Child,
    input: &str,
) -> io::Result<(std::process::ExitStatus, String, String)> {
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input says itself why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((), out, err) = tokio::join!(write, read(stdout), read(stderr));
    Ok((child.wait().await?, out?, err?))
}

async fn read(pipe: Option<impl tokio::io::AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        (&mut pipe).take(PRINTED).read_to_end(&mut bytes).await?;
        // Whatever more there is must not block the program.
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
