//! A whole mesh on files: the common mesh with a suite's configuration, one Pilot that reads it, and the client's sidecar.

use crate::client::Client;
use crate::envoy::{Envoy, Identity, Protocol};
use crate::exchange;
use crate::pilot::{Pilot, Source};
use crate::process::workspace;
use crate::site::{HTTP, Site, hosts, suite_file};

/// A running mesh. Everything ends when it is dropped.
#[derive(Debug)]
pub struct World {
    /// The client's sidecar.
    pub sidecar: Envoy,
    /// Proxies that were added.
    more: Vec<Envoy>,
    /// Pilot.
    pub pilot: Pilot,
    /// Addresses, configuration, servers.
    pub site: Site,
    suite: &'static str,
    protocol: Protocol,
}

impl World {
    /// The mesh of a suite, everything up and live.
    ///
    /// # Panics
    /// If something does not come up in time.
    pub async fn of(suite: &'static str, protocol: Protocol) -> World {
        let sidecar = Identity::sidecar("client", hosts::CLIENT);
        World::with_client(suite, protocol, sidecar, "").await
    }

    /// The same with a client of one's own, and mesh settings (bare MeshConfig).
    ///
    /// # Panics
    /// If something does not come up in time.
    pub async fn with_client(
        suite: &'static str,
        protocol: Protocol,
        client: Identity,
        mesh_config: &str,
    ) -> World {
        let site = Site::new().await;
        site.set_mesh_config(mesh_config);
        site.put_folder(&workspace().join("e2e/suites").join(suite).join("config"));
        let source = Source::Files {
            folders: vec![site.config_dir()],
            mesh_config: site.mesh_config(),
        };
        let mut pilot = Pilot::new("pilot", &site.net, hosts::PILOT, &source, site.dir());
        // Side by side: Envoy asks again until Pilot is there.
        pilot.process.start();
        let mut sidecar = Envoy::new(client, &site.net, &[pilot.grpc], protocol, site.dir());
        sidecar.process.start();
        pilot.ready().await;
        sidecar.ready().await;
        let world = World {
            sidecar,
            more: Vec::new(),
            pilot,
            site,
            suite,
            protocol,
        };
        world.live().await;
        world
    }

    /// The same with a client whose connections are captured ([`crate::capture`]), and mesh settings (lines of bare MeshConfig). It is no
    /// workload that the common mesh's Sidecar selects.
    ///
    /// # Panics
    /// If something does not come up in time.
    pub async fn captured(suite: &'static str, protocol: Protocol, mesh_config: &str) -> World {
        let client = Identity::sidecar("walker", hosts::CLIENT).captured();
        World::with_client(suite, protocol, client, mesh_config).await
    }

    /// Adds a proxy; returns when everything is live on it.
    ///
    /// # Panics
    /// If it does not come up in time.
    pub async fn add(&mut self, identity: Identity) -> &Envoy {
        let (site, pilots) = (&self.site, [self.pilot.grpc]);
        let mut envoy = Envoy::new(identity, &site.net, &pilots, self.protocol, site.dir());
        envoy.start().await;
        self.more.push(envoy);
        self.live().await;
        self.more.last().expect("it was just added")
    }

    /// A client at the application beside the sidecar, of its HTTP port.
    pub fn client(&self) -> Client {
        self.sidecar.client(HTTP)
    }

    /// Waits until the newest revision is live on every proxy of this world.
    ///
    /// # Panics
    /// If that takes too long, or a proxy rejects something.
    pub async fn live(&self) {
        let revision = self.pilot.revision().await;
        self.pilot.live(revision, self.more.len() + 1).await;
    }

    /// Puts a file of the suite among the configuration, as `NAME` of `edits/NAME`; returns its revision when that is live everywhere.
    ///
    /// # Panics
    /// If that takes too long, or a proxy rejects something.
    pub async fn edit(&self, name: &str) -> u64 {
        let text = suite_file(self.suite, &format!("edits/{name}"));
        self.change(|site| site.put(name, &text)).await
    }

    /// Changes the configuration; returns its revision when that is live everywhere.
    ///
    /// # Panics
    /// If that takes too long, or a proxy rejects something.
    pub async fn change(&self, change: impl FnOnce(&Site)) -> u64 {
        let before = self.pilot.revision().await;
        change(&self.site);
        let revision = self.pilot.newer_than(before).await;
        self.pilot.live(revision, self.more.len() + 1).await;
        revision
    }

    /// Sends every request of `expect/FILE` and compares the answers.
    ///
    /// # Panics
    /// If one differs; says all differences.
    pub async fn expect(&self, client: &Client, file: &str) {
        let text = suite_file(self.suite, &format!("expect/{file}"));
        let mut differences = String::new();
        for exchange in exchange::parse(&self.site.net.localize(&text)) {
            let answer = client.must(&exchange.call).await;
            if let Err(difference) = exchange.check(&answer) {
                differences += &format!("{difference}\n");
            }
        }
        assert!(
            differences.is_empty(),
            "{}/{file}:\n{differences}",
            self.suite
        );
    }
}
