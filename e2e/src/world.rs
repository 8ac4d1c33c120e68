//! A whole mesh: the common mesh with a suite's configuration, the plane, and the client's sidecar.

use testkit::nats::Nats;

use crate::client::Client;
use crate::envoy::{Envoy, Identity, Protocol};
use crate::exchange;
use crate::galley::Galley;
use crate::pilot::{Pilot, Source};
use crate::process::workspace;
use crate::site::{HTTP, Site, hosts, suite_file};

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Folder of `e2e/suites` whose `config/` is in force from the start.
    pub suite: &'static str,
    /// Variant of xDS its proxies speak.
    pub protocol: Protocol,
    /// The client's proxy.
    pub client: Identity,
    /// Mesh settings, bare MeshConfig; may be empty.
    pub mesh_config: String,
    /// Which processes the plane is.
    pub plane: Plane,
}

/// Which processes the plane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// One Pilot that reads the folder by itself.
    Files,
    /// NATS, Galley, and one Pilot.
    Split,
}

impl Setup {
    /// The mesh of a suite with Pilot on files.
    pub fn of(suite: &'static str, protocol: Protocol) -> Setup {
        Setup {
            suite,
            protocol,
            client: Identity::sidecar("client", hosts::CLIENT),
            mesh_config: String::new(),
            plane: Plane::Files,
        }
    }
}

/// A mesh. Everything ends when it is dropped.
#[derive(Debug)]
pub struct World {
    /// The client's sidecar.
    pub sidecar: Envoy,
    /// Proxies that were added.
    more: Vec<Envoy>,
    /// Pilot.
    pub pilot: Pilot,
    /// Galley of a split plane.
    galley: Option<Galley>,
    /// NATS of a split plane.
    nats: Option<Nats>,
    /// Addresses, configuration, servers.
    pub site: Site,
    suite: &'static str,
    protocol: Protocol,
}

impl World {
    /// The mesh of a suite, everything up and live, with Pilot on files.
    ///
    /// # Panics
    /// If something does not come up in time, or an object of the configuration is not taken as it is.
    pub async fn of(suite: &'static str, protocol: Protocol) -> World {
        World::start(Setup::of(suite, protocol)).await
    }

    /// The same with a client whose connections are captured ([`crate::capture`]), and mesh settings (lines of bare MeshConfig). It is no
    /// workload that the common mesh's Sidecar selects.
    ///
    /// # Panics
    /// As [`World::of`].
    pub async fn captured(suite: &'static str, protocol: Protocol, mesh_config: &str) -> World {
        World::start(Setup {
            client: Identity::sidecar("walker", hosts::CLIENT).captured(),
            mesh_config: mesh_config.into(),
            ..Setup::of(suite, protocol)
        })
        .await
    }

    /// The same as [`World::of`] with a plane of NATS, Galley and Pilot.
    ///
    /// # Panics
    /// As [`World::of`].
    pub async fn split(suite: &'static str, protocol: Protocol) -> World {
        World::start(Setup {
            plane: Plane::Split,
            ..Setup::of(suite, protocol)
        })
        .await
    }

    /// Everything up and live.
    ///
    /// # Panics
    /// As [`World::of`].
    pub async fn start(setup: Setup) -> World {
        let mut world = World::prepare(setup).await;
        if let Some(nats) = &mut world.nats {
            nats.launch();
        }
        // Side by side: each asks again until the others are there.
        if let Some(galley) = &mut world.galley {
            galley.process.start();
        }
        world.pilot.process.start();
        world.sidecar.process.start();
        world.up().await;
        for log in [
            Some(&world.pilot.process),
            world.galley.as_ref().map(|galley| &galley.process),
        ] {
            let log = log.map(crate::process::Process::log).unwrap_or_default();
            let told: Vec<&str> = log.lines().filter(|line| line.contains("code=")).collect();
            assert!(told.is_empty(), "not taken as it is: {told:#?}");
        }
        world
    }

    /// Addresses, folders and servers; the processes are there, but none is started. For tests of what happens before all of them are: start
    /// them by [`World::galley`], [`World::nats`], [`World::pilot`] and [`World::sidecar`], then [`World::up`].
    ///
    /// # Panics
    /// If a file or an address cannot be had.
    pub async fn prepare(setup: Setup) -> World {
        let site = Site::new().await;
        site.set_mesh_config(&setup.mesh_config);
        site.put_folder(
            &workspace()
                .join("e2e/suites")
                .join(setup.suite)
                .join("config"),
        );
        let nats = (setup.plane == Plane::Split).then(Nats::prepare);
        let mut galley = (setup.plane == Plane::Split).then(|| Galley::new(&site));
        let source = match &galley {
            None => Source::Files {
                folders: vec![site.config_dir()],
                mesh_config: site.mesh_config(),
            },
            Some(galley) => Source::Galley(galley.grpc),
        };
        if let (Some(nats), Some(galley)) = (&nats, &mut galley) {
            galley.process.push_args(["--bus".into(), nats.url()]);
        }
        let pilot = pilot(0, &site, &source, nats.as_ref());
        let Setup {
            suite, protocol, ..
        } = setup;
        World {
            sidecar: Envoy::new(setup.client, &site.net, &[pilot.grpc], protocol, site.dir()),
            more: Vec::new(),
            pilot,
            galley,
            nats,
            site,
            suite,
            protocol,
        }
    }

    /// Waits until everything that has been started is ready and the newest revision is live on every proxy.
    ///
    /// # Panics
    /// If that takes too long, or a process ends.
    pub async fn up(&mut self) {
        if let Some(galley) = &mut self.galley {
            galley.ready().await;
        }
        self.pilot.ready().await;
        self.sidecar.ready().await;
        self.live().await;
    }

    /// Galley.
    ///
    /// # Panics
    /// If Pilot reads files by itself.
    pub fn galley(&mut self) -> &mut Galley {
        self.galley.as_mut().expect("a split plane")
    }

    /// NATS.
    ///
    /// # Panics
    /// If Pilot reads files by itself.
    pub fn nats(&mut self) -> &mut Nats {
        self.nats.as_mut().expect("a split plane")
    }

    /// Another Pilot of a split plane, not started: `pilot-N`, `number` from 1 on.
    ///
    /// # Panics
    /// If Pilot reads files by itself.
    pub fn another_pilot(&self, number: u8) -> Pilot {
        let galley = self.galley.as_ref().expect("a split plane");
        let source = Source::Galley(galley.grpc);
        pilot(number, &self.site, &source, self.nats.as_ref())
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

    /// A proxy that was added.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn proxy(&self, name: &str) -> &Envoy {
        let mut all = self.more.iter();
        all.find(|envoy| envoy.identity.name == name)
            .unwrap_or_else(|| panic!("no proxy {name} was added"))
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

    /// Puts `edits/FILE` of the suite among the configuration, by its name without folders; returns its revision when that is live
    /// everywhere.
    ///
    /// # Panics
    /// If that takes too long, or a proxy rejects something.
    pub async fn edit(&self, file: &str) -> u64 {
        let text = suite_file(self.suite, &format!("edits/{file}"));
        let name = file.rsplit('/').next().unwrap_or(file);
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

/// The Pilot of that number, on NATS and with a folder of its own if there is a NATS.
fn pilot(number: u8, site: &Site, source: &Source, nats: Option<&Nats>) -> Pilot {
    let name = match number {
        0 => "pilot".to_owned(),
        _ => format!("pilot-{number}"),
    };
    let mut pilot = Pilot::new(&name, &site.net, hosts::PILOT + number, source, site.dir());
    if let Some(nats) = nats {
        let data = site.dir().join(format!("{name}-data"));
        let flags = ["--bus".into(), nats.url(), "--data-dir".into()];
        pilot.process.push_args(flags);
        pilot.process.push_args([data.display().to_string()]);
    }
    pilot
}
