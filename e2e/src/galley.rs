//! A real Galley.

use std::net::SocketAddr;

use crate::client::Client;
use crate::pilot::ok;
use crate::process::{Process, built};
use crate::site::{Site, hosts};
use crate::wait::eventually;

/// A Galley, started or not. Its addresses do not change when it is started again, and its store stays.
#[derive(Debug)]
pub struct Galley {
    /// The process: start, kill, terminate, log.
    pub process: Process,
    /// Address that Pilots ask.
    pub grpc: SocketAddr,
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// Address of metrics and readiness.
    pub monitoring: SocketAddr,
}

impl Galley {
    /// A Galley of a site's configuration with a SQLite store, not started.
    pub fn new(site: &Site) -> Galley {
        let [grpc, http, monitoring] =
            [9901, 8080, 15_014].map(|port| site.net.at(hosts::GALLEY, port));
        let store = format!("sqlite://{}", site.dir().join("galley.db").display());
        let flags = [
            ("--config-dir", site.config_dir().display().to_string()),
            ("--mesh-config", site.mesh_config().display().to_string()),
            ("--store", store),
            ("--grpc-addr", grpc.to_string()),
            ("--http-addr", http.to_string()),
            ("--monitoring-addr", monitoring.to_string()),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]);
        let args = std::iter::once("galley".to_owned()).chain(flags).collect();
        Galley {
            process: Process::new("galley", built("flotilla"), args, site.dir()),
            grpc,
            http,
            monitoring,
        }
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// If it is not ready in time, or ends.
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
        eventually("Galley is ready", async || {
            self.process.check_running();
            ok(&client, "/ready").await.map(|_| ())
        })
        .await;
    }
}
