//! Who certifies the pods: a Citadel beside Pilot, and an operator's certificate for the test itself.

use std::path::PathBuf;

use futures::future::join_all;
use testkit::nats::Nats;

use super::workload::Workload;
use super::{CA, NODE, XDS_TLS, relay};
use crate::certificates::{Roots, enrolled_tls};
use crate::citadel::{Citadel, write_for};
use crate::pilot::Pilot;
use crate::site::{Site, hosts};

/// Service account of Pilot.
const PILOT: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
/// Who the test is when it asks the plane.
const OPERATOR: &str = "spiffe://cluster.local/ns/istio-system/sa/flotilla-operator";

/// How identities come about; see the methods of [`super::Builder`] of the same names.
#[derive(Debug, Default)]
pub(super) struct Wish {
    pub identity: bool,
    pub nats: bool,
    pub roots: Option<Roots>,
    pub citadel_flags: Vec<String>,
}

/// The authority, and what goes with it.
#[derive(Debug)]
pub struct Plane {
    /// Citadel.
    pub citadel: Citadel,
    /// NATS, if Citadel and Pilot have one.
    pub nats: Option<Nats>,
    /// Folder of the operator's certificate.
    pub operator: PathBuf,
    token: PathBuf,
    pods: Vec<(String, String, PathBuf, u32)>,
}

impl Plane {
    /// Nothing is started; Pilot is told that it is somebody.
    pub(super) fn new(
        wish: &Wish,
        workloads: &[Workload],
        pilot: &mut Pilot,
        site: &Site,
    ) -> Plane {
        let mut citadel = Citadel::new(&site.net, hosts::CITADEL, site.dir());
        if let Some(roots) = &wish.roots {
            citadel.plug_in(roots);
        }
        citadel.process.push_args(wish.citadel_flags.clone());
        let token = site.dir().join("pilot.token");
        pilot.identify(&citadel, &token, &site.dir().join("pilot-identity"));
        let nats = wish.nats.then(Nats::prepare);
        if let Some(nats) = &nats {
            for process in [&mut citadel.process, &mut pilot.process] {
                process.push_args(["--bus".to_owned(), nats.url()]);
            }
        }
        let agents = workloads
            .iter()
            .filter(|workload| workload.capture.is_some());
        let agent = |workload: &Workload| {
            let root = super::agent::root(site, &workload.name);
            (
                workload.name.clone(),
                workload.spiffe_id(),
                root,
                workload.proxy_uid,
            )
        };
        Plane {
            citadel,
            nats,
            operator: site.dir().join("operator"),
            token,
            pods: agents.map(agent).collect(),
        }
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

    /// Starts Citadel and lets everybody in: tokens for Pilot and the agents, a certificate for the test.
    pub async fn start(&mut self, pilot: &mut Pilot) {
        if let Some(nats) = &mut self.nats {
            nats.launch();
        }
        self.citadel.start().await;
        let names: Vec<String> = self.pods.iter().map(|(name, ..)| name.clone()).collect();
        let pods = join_all(names.iter().map(|name| self.admit(name)));
        let own = async {
            let token = self.citadel.token(PILOT).await;
            write_for(0, &self.token, &token);
        };
        tokio::join!(pods, own, self.citadel.enroll(OPERATOR, &self.operator));
        pilot.ask_as(enrolled_tls(&self.operator));
    }

    /// Gets the test itself a new certificate, for instance after the root has changed.
    ///
    /// # Panics
    /// If Citadel gives none.
    pub async fn enroll(&self, pilot: &mut Pilot) {
        self.citadel.enroll(OPERATOR, &self.operator).await;
        pilot.ask_as(enrolled_tls(&self.operator));
    }

    /// A new token for the agent of a pod, and the roots by which it knows Citadel.
    ///
    /// # Panics
    /// If Citadel makes none.
    pub async fn admit(&self, pod: &str) {
        let found = self.pods.iter().find(|(name, ..)| name == pod);
        let (_, id, root, user) = found.unwrap_or_else(|| panic!("{pod} has no agent"));
        let token = self.citadel.token(id).await;
        let roots = std::fs::read_to_string(self.citadel.roots()).expect("Citadel's roots");
        write_for(*user, &root.join(super::agent::TOKEN), &token);
        write_for(*user, &root.join(super::agent::ROOTS), &roots);
    }
}
