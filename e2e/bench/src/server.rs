//! The server that is measured: one of ours, started here, or one that runs already.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::door::Door;
use crate::folders::Folders;

/// How long our own server may take until it listens.
const START: Duration = Duration::from_secs(30);

/// A server under measurement. One that was started here ends when this is dropped.
pub struct Server {
    /// Where it serves ADS.
    pub door: Door,
    /// Its process.
    pub pid: u32,
    child: Option<Child>,
}

/// How to start our own server.
#[derive(Debug, Clone)]
pub struct Own {
    /// The program: `flotilla`, or `pilot` alone.
    pub program: PathBuf,
    /// More arguments.
    pub args: Vec<String>,
    /// How it is spoken to, if over TLS.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

impl Server {
    /// A server that runs already.
    pub fn running(address: SocketAddr, pid: u32) -> Server {
        Server {
            door: Door { address, tls: None },
            pid,
            child: None,
        }
    }

    /// Starts our own server on the folders and waits until it listens. Its output goes to `server.log` in `work`.
    ///
    /// # Errors
    /// It cannot be started, or ends at once, or does not listen in time.
    pub async fn start(
        own: &Own,
        folders: &Folders,
        mesh: &Path,
        work: &Path,
    ) -> anyhow::Result<Server> {
        let (ports, log) = (work.join("ports.json"), work.join("server.log"));
        let _ = fs::remove_file(&ports);
        let output = File::create(&log)?;
        let mut command = Command::new(&own.program);
        if own
            .program
            .file_stem()
            .is_some_and(|name| name == "flotilla")
        {
            command.arg("pilot");
        }
        command
            .arg("--config-dir")
            .arg(&folders.fixed)
            .arg("--config-dir")
            .arg(&folders.hot)
            .arg("--mesh-config")
            .arg(mesh)
            .arg("--ports-file")
            .arg(&ports)
            .args([
                "--grpc-addr=127.0.0.1:0",
                "--http-addr=127.0.0.1:0",
                "--monitoring-addr=127.0.0.1:0",
            ])
            .arg("--log-output-level=default:warn")
            .args(&own.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", own.program.display()))?;
        let pid = child.id().context("the server ended at once")?;
        let deadline = Instant::now() + START;
        let address = loop {
            if let Ok(text) = fs::read_to_string(&ports) {
                break address(&text, own.tls.is_some())?;
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the server ended with {status}: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            if Instant::now() > deadline {
                bail!("the server did not listen within {START:?}");
            }
            sleep(Duration::from_millis(10)).await;
        };
        Ok(Server {
            door: Door {
                address,
                tls: own.tls.clone(),
            },
            pid,
            child: Some(child),
        })
    }

    /// Ends a server that was started here, and waits for its end.
    pub async fn end(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().await;
        }
    }
}

fn address(ports: &str, tls: bool) -> anyhow::Result<SocketAddr> {
    let ports: serde_json::Value = serde_json::from_str(ports)?;
    let grpc = ports[if tls { "grpc-tls" } else { "grpc" }]
        .as_str()
        .context("no grpc address in the ports file")?;
    Ok(grpc.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_file_says_where_ads_is() {
        assert_eq!(
            address(r#"{"grpc":"127.0.0.1:40123","http":"127.0.0.1:1"}"#, false).unwrap(),
            "127.0.0.1:40123".parse().unwrap()
        );
        assert!(address("{}", false).is_err());
    }
}
