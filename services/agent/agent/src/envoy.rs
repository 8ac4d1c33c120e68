//! Envoy's process and its administration.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use agent_core::options::Options;
use tokio::process::{Child, Command};

use crate::http::{Answer, Ask, AskError, Beyond, ask};

/// How long Envoy may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// How long its administration may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer of the administration.
pub const MAX_ANSWER: usize = 128 << 20;

/// Arguments of Envoy.
pub fn arguments(
    options: &Options,
    bootstrap: PathBuf,
    override_text: Option<String>,
) -> Vec<OsString> {
    let envoy = &options.envoy;
    let drain = options.proxy_config.drain_duration.as_secs().to_string();
    let primary_v6 = options.node.addresses.iter().all(std::net::IpAddr::is_ipv6);
    let mut found: Vec<OsString> = vec!["-c".into(), bootstrap.into()];
    for argument in [
        "--drain-time-s",
        &drain,
        "--drain-strategy",
        "immediate",
        "--local-address-ip-version",
        if primary_v6 { "v6" } else { "v4" },
        "--file-flush-interval-msec",
        "1000",
        "--disable-hot-restart",
        "--allow-unknown-static-fields",
        "-l",
        &envoy.log_level,
        "--component-log-level",
        &envoy.component_log_level,
    ] {
        found.push(argument.into());
    }
    if envoy.skip_deprecated_logs {
        found.push("--skip-deprecated-logs".into());
    }
    if envoy.concurrency > 0 {
        found.push("--concurrency".into());
        found.push(envoy.concurrency.to_string().into());
    }
    if let Some(text) = override_text {
        found.push("--config-yaml".into());
        found.push(text.into());
    }
    found
}

/// A running Envoy. It ends with the agent, however the agent ends: it is started through this program's own `child`, which asks the system for
/// that. Must be made on the main thread, since the system's promise is about the thread that starts it.
pub struct Envoy {
    child: Child,
}

impl Envoy {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(binary: &std::path::Path, arguments: &[OsString]) -> std::io::Result<Envoy> {
        if !binary.is_file() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                format!(
                    "{} is no file; say where Envoy is with --envoy",
                    binary.display()
                ),
            ));
        }
        // This very program, also when its file has been replaced meanwhile.
        let child = Command::new("/proc/self/exe")
            .args(["child", "--parent", &std::process::id().to_string(), "--"])
            .arg(binary)
            .args(arguments)
            .stdin(Stdio::null())
            // Signals of a terminal are for the agent alone, which drains first.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Envoy { child })
    }

    /// Returns when it has ended by itself.
    pub async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it: asks, and makes it after a while.
    pub async fn stop(&mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(GRACE, self.child.wait())
            .await
            .is_err()
        {
            tracing::warn!("Envoy did not end when asked to: killed");
            let _ = self.child.kill().await;
        }
    }
}

/// How a process ended, in words.
pub fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Envoy's administration.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// An answer, whatever its status.
    ///
    /// # Errors
    /// There is none.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let host = self.0.to_string();
        let request = Ask {
            method,
            path,
            host: &host,
            headers: &[],
            most: MAX_ANSWER,
            beyond: Beyond::Refuse,
            patience,
        };
        ask(self.0, &request).await
    }

    /// The text of an answer with status 200.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn text(&self, method: &str, path: &str) -> Result<String, String> {
        match self.ask(method, path, PATIENCE).await {
            Ok(answer) if answer.status == 200 => Ok(answer.text()),
            Ok(answer) => Err(format!("{path}: status {}", answer.status)),
            Err(error) => Err(format!("{path}: {error}")),
        }
    }

    /// Statistics whose names match a regular expression.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn stats(&self, filter: &str) -> Result<String, String> {
        let mut path = "/stats?usedonly&filter=".to_owned();
        for b in filter.bytes() {
            match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => path.push(b.into()),
                other => path.push_str(&format!("%{other:02X}")),
            }
        }
        self.text("GET", &path).await
    }
}
