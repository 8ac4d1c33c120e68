//! How pods come about.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use testkit::netns::Namespace;

use super::agent;
use super::plane::Wish;
use super::pod::{ADMIN, as_user, listen};
use super::relay::Relay;
use super::workload::{Speaks, Workload};
use super::{NODE, Names, Outside, Plane, Pod, Pods, Proxy, XDS, address, service_address};
use crate::backend::Backend;
use crate::certificates::Roots;
use crate::envoy::{Protocol, bootstrap};
use crate::galley::Galley;
use crate::pilot::{Pilot, Source};
use crate::process::{Process, fetched};
use crate::site::{Site, hosts};

/// Pods that are still being described.
#[derive(Debug)]
pub struct Builder {
    protocol: Protocol,
    workloads: Vec<Workload>,
    config: Vec<String>,
    mesh_config: String,
    wish: Wish,
}

impl Builder {
    pub(super) fn new(protocol: Protocol) -> Builder {
        Builder {
            protocol,
            workloads: Vec::new(),
            config: Vec::new(),
            mesh_config: String::new(),
            wish: Wish::default(),
        }
    }

    /// One more pod.
    pub fn pod(mut self, workload: Workload) -> Builder {
        self.workloads.push(workload);
        self
    }

    /// More configuration: documents of YAML.
    pub fn config(mut self, text: &str) -> Builder {
        self.config.push(text.into());
        self
    }

    /// Mesh settings: bare MeshConfig.
    pub fn mesh_config(mut self, text: &str) -> Builder {
        self.mesh_config = text.into();
        self
    }

    /// Certified by a Citadel of their own: Pilot and every pod with a proxy, which an agent runs. Endpoints with a proxy say that they take
    /// mutual TLS.
    pub fn identity(mut self) -> Builder {
        self.wish.identity = true;
        self
    }

    /// The same, and that Citadel's root is this one, so that the test may certify whomever it likes.
    pub fn certified_by(mut self, roots: Roots) -> Builder {
        self.wish.roots = Some(roots);
        self.identity()
    }

    /// The same as [`Builder::identity`] with a NATS for news between Citadel and Pilot.
    pub fn nats(mut self) -> Builder {
        self.wish.nats = true;
        self.identity()
    }

    /// The same as [`Builder::nats`], and that Pilot gets configuration from a Galley over mutual TLS.
    pub fn galley(mut self) -> Builder {
        self.wish.galley = true;
        self.nats()
    }

    /// More flags of Pilot.
    pub fn pilot_flags(mut self, flags: &[&str]) -> Builder {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        self.wish.pilot_flags.extend(flags);
        self.identity()
    }

    /// How long the test's own certificate lives, instead of an hour: a rotation of the root waits for it.
    pub fn operator_life(mut self, life: &str) -> Builder {
        self.wish.operator_life = life.into();
        self.identity()
    }

    /// More flags of Citadel.
    pub fn citadel_flags(mut self, flags: &[&str]) -> Builder {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        self.wish.citadel_flags.extend(flags);
        self.identity()
    }

    /// Everything up, and the newest revision live on every proxy.
    ///
    /// # Panics
    /// Without root, or if something does not come up in time.
    pub async fn start(self) -> Pods {
        let mut pods = self.prepare().await;
        if let Some(plane) = &mut pods.plane {
            plane.start(&mut pods.pilot).await;
            if let Some(galley) = &mut plane.galley {
                galley.process.start();
            }
        }
        pods.pilot.process.start();
        for pod in pods.pods.values_mut() {
            if let Some(proxy) = &mut pod.proxy {
                proxy.process.start();
            }
        }
        pods.pilot.ready().await;
        for pod in pods.pods.values_mut() {
            if pod.has_proxy() {
                pod.proxy_ready().await;
            }
        }
        if pods.proxies() > 0 {
            pods.live().await;
        }
        pods
    }

    /// Pods with their servers and rules; neither plane nor proxies are started.
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub async fn prepare(mut self) -> Pods {
        if self.wish.identity {
            self.workloads = self
                .workloads
                .into_iter()
                .map(Workload::certified)
                .collect();
        }
        let site = Site::empty();
        site.set_mesh_config(&self.mesh_config);
        // Proxies are somebody else.
        std::fs::set_permissions(site.dir(), std::fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|error| panic!("{}: {error}", site.dir().display()));
        let names = Arc::new(self.names());
        let outside = Outside {
            namespace: Arc::new(node()),
            names: names.clone(),
        };
        let galley = self.wish.galley.then(|| Galley::new(&site));
        let source = match &galley {
            Some(galley) => Source::SecureGalley(galley.grpc),
            None => Source::Files {
                folders: vec![site.config_dir()],
                mesh_config: site.mesh_config(),
            },
        };
        let mut pilot = Pilot::new("pilot", &site.net, hosts::PILOT, &source, site.dir());
        let wish = std::mem::take(&mut self.wish);
        self.wish.identity = wish.identity;
        let plane = wish
            .identity
            .then(|| Plane::new(wish, &self.workloads, &mut pilot, galley, &site));
        let relays = match &plane {
            Some(plane) => plane.relays(&pilot, &outside.namespace),
            None => {
                let xds = SocketAddr::new(NODE, XDS);
                vec![Relay::new(&outside.namespace, xds, pilot.grpc)]
            }
        };
        let mut pods = BTreeMap::new();
        for (number, workload) in (0..).zip(&self.workloads) {
            let text = workload.config(address(number), service_address(number));
            site.put(&format!("pod-{}.yaml", workload.name), &text);
            let pod = self.make(number, workload, &outside, &site).await;
            pods.insert(workload.name.clone(), pod);
        }
        for (number, text) in self.config.iter().enumerate() {
            site.put(&format!("config-{number}.yaml"), text);
        }
        Pods {
            pods,
            outside,
            relays,
            pilot,
            plane,
            site,
        }
    }

    fn names(&self) -> Names {
        let named = (0..).zip(&self.workloads).flat_map(|(number, workload)| {
            let (name, namespace) = (&workload.name, &workload.namespace);
            let long = format!("{name}.{namespace}");
            [name.clone(), long].map(|name| (name, service_address(number)))
        });
        Names(named.collect())
    }

    async fn make(&self, number: u8, workload: &Workload, outside: &Outside, site: &Site) -> Pod {
        let namespace = Arc::new(Namespace::new());
        let ip = address(number);
        let port = format!("pod{number}");
        outside.namespace.join(&port, &namespace, "eth0");
        outside.namespace.ip(&format!("link set {port} master br0"));
        namespace.ip(&format!("address add {ip}/16 dev eth0"));
        namespace.ip(&format!("route add default via {NODE}"));
        let all = workload.ports.iter().chain(&workload.hidden);
        let serve = |port: &super::workload::Port| {
            let at = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port.application);
            let listener = listen(&namespace, super::APPLICATION, at);
            match port.speaks {
                Speaks::Http | Speaks::Unsaid | Speaks::HttpAsTcp => {
                    Backend::http_on(&workload.name, listener)
                }
                Speaks::Tcp => Backend::tcp_on(&workload.name, listener),
            }
        };
        let servers = all.map(serve).collect();
        let pod = Pod {
            name: workload.name.clone(),
            ip,
            servers,
            proxy: None,
            names: outside.names.clone(),
            namespace,
        };
        let Some(flags) = &workload.capture else {
            return pod;
        };
        pod.capture(flags).await;
        Pod {
            proxy: Some(self.proxy(workload, &pod, site)),
            ..pod
        }
    }

    /// An Envoy, or an agent that runs one, as the proxy's user.
    fn proxy(&self, workload: &Workload, pod: &Pod, site: &Site) -> Proxy {
        let mut words = as_user(&pod.namespace, workload.proxy_uid);
        // It ends with the test, which is forgotten when it becomes somebody else; and it may look into folders of the test's user.
        let ends = [
            "--pdeathsig",
            "KILL",
            "--inh-caps",
            "+dac_read_search",
            "--ambient-caps",
            "+dac_read_search",
        ];
        words.extend(ends.map(str::to_owned));
        words.extend(match self.wish.identity {
            true => agent::command(workload, pod.ip, self.protocol, site),
            false => self.envoy(workload, pod, site),
        });
        let program = words.remove(0).into();
        Proxy {
            process: Process::new(&pod.name, program, words, site.dir()),
            agent: self.wish.identity,
        }
    }

    /// Words of the command of an Envoy alone.
    fn envoy(&self, workload: &Workload, pod: &Pod, site: &Site) -> Vec<String> {
        let node = workload.identity().node(pod.ip);
        let admin = SocketAddr::new(IpAddr::from(Ipv4Addr::LOCALHOST), ADMIN);
        let pilots = [SocketAddr::new(NODE, XDS)];
        let bootstrap = bootstrap(&node, admin, &pilots, self.protocol, None);
        let file = site.dir().join(format!("{}.bootstrap.json", pod.name));
        std::fs::write(&file, format!("{bootstrap:#}")).expect("a bootstrap file");
        let envoy = fetched("envoy").canonicalize().expect("a path");
        let file = file.display().to_string();
        let flags = crate::envoy::flags(&file).map(str::to_owned);
        std::iter::once(envoy.display().to_string())
            .chain(flags)
            .collect()
    }
}

/// The machine that all pods are on: a bridge, and the plane's end of it.
fn node() -> Namespace {
    let namespace = Namespace::new();
    namespace.ip("link add br0 type bridge");
    namespace.ip("link set br0 up");
    namespace.ip(&format!("address add {NODE}/16 dev br0"));
    namespace
}
