//! Printing the bootstrap, in a process of its own: the descriptors of all that Envoy knows, which printing needs, are more than everything else that
//! the agent holds, and are needed once.

use std::io::{self, Read as _, Write as _};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// How long it may take, on a machine that starts a hundred pods at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// Largest bootstrap. Unit: bytes.
const MAX: u64 = 64 << 20;

/// An encoded bootstrap as JSON.
///
/// # Errors
/// The process cannot be started, takes too long, or says what is wrong on the error output, which is ours too.
pub(crate) async fn printed(encoded: &[u8]) -> io::Result<Vec<u8>> {
    // This very program, which may be `agent` or `flotilla`.
    let mut child = Command::new("/proc/self/exe")
        .arg("print-bootstrap")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = child.stdin.take();
    let give = async {
        if let Some(mut stdin) = stdin {
            stdin.write_all(encoded).await?;
        }
        Ok::<_, io::Error>(())
    };
    let run = async { tokio::try_join!(give, child.wait_with_output()) };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "printing it takes too long");
    let ((), output) = timeout(PATIENCE, run).await.map_err(late)??;
    if !output.status.success() {
        let how = format!("printing it {}", crate::envoy::how(output.status));
        return Err(io::Error::other(how));
    }
    Ok(output.stdout)
}

/// What that process does: from its input to its output.
pub(crate) fn print() -> anyhow::Result<ExitCode> {
    let mut encoded = Vec::new();
    io::stdin().take(MAX).read_to_end(&mut encoded)?;
    let json = agent_core::bootstrap::print(&encoded)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{json:#}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
