//! A real Pilot, and what it says about revisions and proxies.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::Value;

use crate::citadel::Citadel;
use crate::client::{Call, Client};
use crate::net::Network;
use crate::process::{Process, built};
use crate::wait::eventually;

/// Where a Pilot gets configuration.
#[derive(Debug, Clone)]
pub enum Source {
    /// Straight from folders, and mesh settings from a file.
    Files {
        /// Folders.
        folders: Vec<PathBuf>,
        /// File of bare MeshConfig.
        mesh_config: PathBuf,
    },
    /// From Galley.
    Galley(SocketAddr),
    /// From Galley over mutual TLS.
    SecureGalley(SocketAddr),
    /// No Pilot, but `flotilla serve-xds`: a folder of Envoy resources, served as they are.
    Envoy(PathBuf),
}

/// A Pilot, started or not. Its addresses do not change when it is started again.
#[derive(Debug)]
pub struct Pilot {
    /// The process: start, kill, terminate, log.
    pub process: Process,
    /// Address of xDS without TLS.
    pub grpc: SocketAddr,
    /// Address of xDS over TLS, if it has an identity.
    pub secure: SocketAddr,
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// Address of metrics and readiness.
    pub monitoring: SocketAddr,
    /// How its API is asked, if it has an identity.
    asked_by: Option<Arc<ClientConfig>>,
}

impl Pilot {
    /// A Pilot at the address `host` of a network, not started. Logs and data go below `dir`.
    pub fn new(name: &str, net: &Network, host: u8, source: &Source, dir: &Path) -> Pilot {
        let ports = [15_010, 15_012, 8080, 15_014];
        let [grpc, secure, http, monitoring] = ports.map(|port| net.at(host, port));
        let mut args: Vec<String> = vec!["pilot".into(), "--name".into(), name.into()];
        match source {
            Source::Files {
                folders,
                mesh_config,
            } => {
                for folder in folders {
                    args.extend(["--config-dir".into(), folder.display().to_string()]);
                }
                args.extend(["--mesh-config".into(), mesh_config.display().to_string()]);
            }
            Source::Galley(address) => {
                args.extend(["--galley".into(), format!("http://{address}")])
            }
            Source::SecureGalley(address) => {
                args.extend(["--galley".into(), format!("https://{address}")])
            }
            Source::Envoy(folder) => args = vec!["serve-xds".into(), folder.display().to_string()],
        }
        let flags = [
            ("--grpc-addr", grpc.to_string()),
            ("--http-addr", http.to_string()),
            ("--monitoring-addr", monitoring.to_string()),
        ];
        args.extend(
            flags
                .into_iter()
                .flat_map(|(flag, value)| [flag.into(), value]),
        );
        Pilot {
            process: Process::new(name, built("flotilla"), args, dir),
            grpc,
            secure,
            http,
            monitoring,
            asked_by: None,
        }
    }

    /// Gives it an identity, before it is started: a Citadel to ask, the file of a one-time token, and a folder for what it gets.
    pub fn identify(&mut self, citadel: &Citadel, token: &Path, folder: &Path) {
        let address = ["--secure-grpc-addr".to_owned(), self.secure.to_string()];
        self.process.push_args(address);
        self.process
            .push_args(citadel.identity_flags(token, folder));
    }

    /// Asks its API over TLS from now on, as whoever that is.
    pub fn ask_as(&mut self, who: Arc<ClientConfig>) {
        self.asked_by = Some(who);
    }

    /// Starts it and waits until it is ready: its first snapshot is built.
    ///
    /// # Panics
    /// If it is not ready in time.
    pub async fn start(&mut self) {
        self.process.start();
        self.ready().await;
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// If it is not ready in time, or ends.
    pub async fn ready(&mut self) {
        let client = Client::to(self.monitoring);
        eventually("Pilot is ready", async || {
            self.process.check_running();
            ok(&client, "/ready").await.map(|_| ())
        })
        .await;
    }

    /// An answer of the HTTP API.
    ///
    /// # Errors
    /// No answer, or another status than 200.
    pub async fn api(&self, path: &str) -> Result<Value, String> {
        let client = Client::to(self.http);
        let client = match &self.asked_by {
            None => client,
            Some(who) => client.over_tls(who.clone()),
        };
        let body = ok(&client, path).await?;
        serde_json::from_str(&body).map_err(|error| format!("{path}: {error}: {body}"))
    }

    /// An answer of the HTTP API that must be there.
    ///
    /// # Panics
    /// Without one.
    pub async fn ask(&self, path: &str) -> Value {
        self.api(path)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The newest revision its snapshots hold.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn revision(&self) -> u64 {
        self.ask("/v1/revision").await["revision"]
            .as_u64()
            .expect("a number")
    }

    /// Waits for a revision newer than `before` to be built; returns it.
    ///
    /// # Panics
    /// If there is none in time.
    pub async fn newer_than(&self, before: u64) -> u64 {
        eventually("a newer revision", async || {
            match self.api("/v1/revision").await?["revision"].as_u64() {
                Some(now) if now > before => Ok(now),
                now => Err(format!("{now:?} after {before}")),
            }
        })
        .await
    }

    /// Waits until a revision is live on every connected proxy, at least `proxies` of them.
    ///
    /// # Panics
    /// If a proxy rejects it, or is not there in time.
    pub async fn live(&self, revision: u64, proxies: usize) {
        eventually("the revision is live", async || {
            let path = format!("/v1/revisions/{revision}?wait=20s");
            let status = self.api(&path).await?;
            assert_eq!(
                status["rejected"],
                serde_json::json!([]),
                "{}",
                self.rejections().await
            );
            let count = |name: &str| status[name].as_u64().unwrap_or_default();
            if count("live") == count("total") && count("total") >= proxies as u64 {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .await;
    }

    /// Every proxy that is connected to this Pilot or a peer, as `/v1/proxies` shows it.
    ///
    /// # Errors
    /// No answer.
    pub async fn proxies(&self) -> Result<Vec<Value>, String> {
        let all = self.api("/v1/proxies").await?;
        let pilots = all["pilots"].as_array().into_iter().flatten();
        let proxies = pilots.flat_map(|pilot| pilot["proxies"].as_array().into_iter().flatten());
        Ok(proxies.cloned().collect())
    }

    /// What proxies have rejected, one line each.
    pub async fn rejections(&self) -> String {
        let mut lines = String::new();
        for proxy in self.proxies().await.unwrap_or_default() {
            for kind in proxy["types"].as_array().into_iter().flatten() {
                if let Some(text) = kind["rejection"]["message"].as_str() {
                    lines += &format!("{} rejects {}: {text}\n", proxy["proxy"], kind["type_url"]);
                }
            }
        }
        lines
    }
}

/// The body of a GET with status 200.
pub(crate) async fn ok(client: &Client, path: &str) -> Result<String, String> {
    let answer = client
        .send(&Call::get("localhost", path))
        .await
        .map_err(|error| format!("{path}: {error}"))?;
    if answer.status == 200 {
        Ok(answer.text())
    } else {
        Err(format!("{path}: {}: {}", answer.status, answer.text()))
    }
}
