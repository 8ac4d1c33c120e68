//! Who certifies the pods: a Citadel beside Pilot, what else the plane is made of, and an operator's certificate for the test itself.

use std::path::PathBuf;

use futures::future::join_all;
use testkit::nats::Nats;

use super::workload::Workload;
use super::{CA, NODE, XDS_TLS, relay};
use crate::certificates::{Roots, enrolled_tls};
use crate::citadel::{Citadel, write_for};
use crate::galley::Galley;
use crate::pilot::Pilot;
use crate::site::{Site, hosts};

/// Service accounts of Pilot and Galley.
const PILOT: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
const GALLEY: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-galley-service-account";
/// Who the test is when it asks the plane.
const OPERATOR: &str = "spiffe://cluster.local/ns/istio-system/sa/flotilla-operator";

/// How identities come about; see the methods of [`super::Builder`] of the same names.
#[derive(Debug)]
pub(super) struct Wish {
    pub identity: bool,
    pub nats: bool,
    pub galley: bool,
    pub roots: Option<Roots>,
    pub citadel_flags: Vec<String>,
    pub pilot_flags: Vec<String>,
    pub operator_life: String,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish {
            identity: false,
            nats: false,
            galley: false,
            roots: None,
            citadel_flags: Vec::new(),
            pilot_flags: Vec::new(),
            operator_life: "1h".into(),
        }
    }
}

/// The authority, and what goes with it.
#[derive(Debug)]
pub struct Plane {
    /// Citadel.
    pub citadel: Citadel,
    /// NATS, if the plane has one.
    pub nats: Option<Nats>,
    /// Galley, if Pilot does not read files by itself.
    pub galley: Option<Galley>,
    /// Folder of the operator's certificate.
    pub operator: PathBuf,
    roots: Option<Roots>,
    operator_life: String,
    services: Vec<(&'static str, PathBuf)>,
    pods: Vec<Admission>,
}

/// Whom a pod's agent asks to be, and where it looks for what shows that.
#[derive(Debug)]
struct Admission {
    pod: String,
    id: String,
    node: String,
    root: PathBuf,
    user: u32,
}

impl Plane {
    /// Nothing is started; Pilot is told that it is somebody.
    pub(super) fn new(
        wish: Wish,
        workloads: &[Workload],
        pilot: &mut Pilot,
        mut galley: Option<Galley>,
        site: &Site,
    ) -> Plane {
        let mut citadel = Citadel::new(&site.net, hosts::CITADEL, site.dir());
        if let Some(roots) = &wish.roots {
            citadel.plug_in(roots);
        }
        citadel.process.push_args(wish.citadel_flags);
        let below = |name: &str| site.dir().join(name);
        let mut services = vec![(PILOT, below("pilot.token"))];
        pilot.identify(&citadel, &below("pilot.token"), &below("pilot-identity"));
        pilot.process.push_args(wish.pilot_flags);
        if let Some(galley) = &mut galley {
            let token = below("galley.token");
            let flags = citadel.identity_flags(&token, &below("galley-identity"));
            galley.process.push_args(flags);
            services.push((GALLEY, token));
        }
        let nats = wish.nats.then(Nats::prepare);
        if let Some(nats) = &nats {
            let galley = galley.as_mut().map(|galley| &mut galley.process);
            for process in [&mut citadel.process, &mut pilot.process]
                .into_iter()
                .chain(galley)
            {
                process.push_args(["--bus".to_owned(), nats.url()]);
            }
        }
        let agents = workloads
            .iter()
            .filter(|workload| workload.capture.is_some());
        let agent = |workload: &Workload| Admission {
            pod: workload.name.clone(),
            id: workload.spiffe_id(),
            node: workload.node.clone(),
            root: super::agent::root(site, &workload.name),
            user: workload.proxy_uid,
        };
        Plane {
            citadel,
            nats,
            galley,
            operator: site.dir().join("operator"),
            roots: wish.roots,
            operator_life: wish.operator_life,
            services,
            pods: agents.map(agent).collect(),
        }
    }

    /// The root that Citadel was given ([`super::Builder::certified_by`]): whom it certifies is of this mesh.
    ///
    /// # Panics
    /// If Citadel made one itself.
    pub fn roots(&self) -> &Roots {
        self.roots.as_ref().expect("a root of the test's")
    }

    /// What pods reach of it.
    pub(super) fn relays(
        &self,
        pilot: &Pilot,
        namespace: &testkit::netns::Namespace,
    ) -> Vec<relay::Relay> {
        let offers = [(XDS_TLS, pilot.secure), (CA, self.citadel.grpc)];
        offers
            .map(|(port, to)| relay::Relay::new(namespace, (NODE, port).into(), to))
            .into()
    }

    /// Starts NATS and Citadel and lets everybody in: tokens for Pilot, Galley and the agents, a certificate for the test.
    pub async fn start(&mut self, pilot: &mut Pilot) {
        if let Some(nats) = &mut self.nats {
            nats.launch();
        }
        self.citadel.start().await;
        let pods = join_all(self.pods.iter().map(|pod| self.admit(&pod.pod)));
        let services = join_all(self.services.iter().map(async |(id, file)| {
            let token = self.citadel.token(id, "node-0").await;
            write_for(0, file, &token);
        }));
        tokio::join!(pods, services, self.enroll(pilot));
    }

    /// Gets the test itself a new certificate, for instance after the root has changed.
    ///
    /// # Panics
    /// If Citadel gives none.
    pub async fn enroll(&self, pilot: &mut Pilot) {
        let (life, folder) = (&self.operator_life, &self.operator);
        self.citadel.enroll(OPERATOR, life, folder).await;
        pilot.ask_as(enrolled_tls(folder));
    }

    /// A new token for the agent of a pod, and the roots by which it knows Citadel.
    ///
    /// # Panics
    /// If Citadel makes none.
    pub async fn admit(&self, pod: &str) {
        let found = self.pods.iter().find(|found| found.pod == pod);
        let found = found.unwrap_or_else(|| panic!("{pod} has no agent"));
        let token = self.citadel.token(&found.id, &found.node).await;
        let roots = std::fs::read_to_string(self.citadel.roots()).expect("Citadel's roots");
        write_for(found.user, &found.root.join(super::agent::ROOTS), &roots);
        write_for(found.user, &found.root.join(super::agent::TOKEN), &token);
    }
}
