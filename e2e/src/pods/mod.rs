//! Pods: network namespaces with applications, rules by `agent capture`, and a proxy that gets whatever connections are captured.
//!
//! ```ignore
//! let pods = Pods::new(Protocol::Delta)
//!     .pod(Workload::new("a"))
//!     .pod(Workload::new("b").http(80, 8080).tcp(9000, 9000))
//!     .config(include_str!("..."))                        // more of it; services and pods are written by themselves
//!     .start()
//!     .await;
//! let answer = pods.get("a").request("http://b/path").await;     // by b's service address, through both proxies
//! pods.outside().request("http://10.244.0.12:8080/").await;      // from beside the pods, uncaptured
//! pods.get("b").exec(&["id", "-u"]).await;                             // a process as the application's user
//! ```
//!
//! Nobody else is on the pods' network, so addresses and ports are always the same and may be written out: see [`address`]. The plane is
//! outside, on loopback like in every other test; what pods reach of it is passed on at [`NODE`] ([`Pods::offer`]).
//!
//! With [`Builder::identity`] a Citadel certifies everybody: Pilot serves xDS over TLS, and each pod's proxy is run by an agent that was let in
//! by a one-time token, as in production. `pods.plane()` is that Citadel, to ask, kill and start again; agents are the pods' proxies.
//!
//! Applications run in the test's process, on sockets that are in the pod and of the application's user; that is all that rules look at.

mod agent;
mod builder;
mod plane;
mod pod;
mod relay;
mod workload;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use testkit::netns::Namespace;

use crate::client::{Answer, Call, CallError, Client};
use crate::pilot::Pilot;
use crate::site::Site;
use crate::traffic::Traffic;

pub use builder::Builder;
pub use plane::Plane;
pub use pod::{Pod, Proxy};
pub use workload::Workload;

/// The proxy's user and group.
pub const PROXY: u32 = 1337;
/// The applications' user and group.
pub const APPLICATION: u32 = 1000;
/// Where everything outside the pods is for them: the other end of their default route.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 1));
/// Port of xDS at [`NODE`].
pub const XDS: u16 = 15_010;
/// Port of xDS over TLS there.
pub const XDS_TLS: u16 = 15_012;
/// Port of Citadel there.
pub const CA: u16 = 8060;

/// Address of the pod of that number, from 0 on in the order of [`Builder::pod`].
pub fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 244, 0, 11 + number).into()
}

/// Address of its service.
pub fn service_address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 96, 0, 11 + number).into()
}

/// Pods, and the plane that their proxies ask. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Pods {
    pods: BTreeMap<String, Pod>,
    outside: Outside,
    /// What the plane relays into the pods' network.
    relays: Vec<relay::Relay>,
    /// Pilot.
    pub pilot: Pilot,
    plane: Option<Plane>,
    /// Configuration folder and logs.
    pub site: Site,
}

impl Pods {
    /// Pods whose proxies speak a variant of xDS.
    #[allow(clippy::new_ret_no_self, reason = "pods are described before they are")]
    pub fn new(protocol: crate::Protocol) -> Builder {
        Builder::new(protocol)
    }

    /// A pod.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn get(&self, name: &str) -> &Pod {
        let pod = self.pods.get(name);
        pod.unwrap_or_else(|| panic!("no pod is named {name}"))
    }

    /// The same, to stop and start its proxy.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn get_mut(&mut self, name: &str) -> &mut Pod {
        let pod = self.pods.get_mut(name);
        pod.unwrap_or_else(|| panic!("no pod is named {name}"))
    }

    /// Whoever is beside the pods, at [`NODE`], without a proxy.
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Who certifies the pods.
    ///
    /// # Panics
    /// If nobody does.
    pub fn plane(&self) -> &Plane {
        self.plane.as_ref().expect("pods with identity")
    }

    /// The same, to kill and start it.
    ///
    /// # Panics
    /// If nobody does.
    pub fn plane_mut(&mut self) -> &mut Plane {
        self.plane.as_mut().expect("pods with identity")
    }

    /// Starts NATS and Citadel of pods that were only prepared, and lets everybody in.
    ///
    /// # Panics
    /// If nobody certifies, or Citadel does not come up in time.
    pub async fn start_authority(&mut self) {
        let plane = self.plane.as_mut().expect("pods with identity");
        plane.start(&mut self.pilot).await;
    }

    /// Gets the test itself a new certificate, by which it asks Pilot: for instance after the root has changed.
    ///
    /// # Panics
    /// If nobody certifies, or Citadel gives none.
    pub async fn enroll(&mut self) {
        let plane = self.plane.as_ref().expect("pods with identity");
        plane.enroll(&mut self.pilot).await;
    }

    /// Lets pods reach an address of this machine at a port of [`NODE`].
    ///
    /// # Panics
    /// If the port is taken.
    pub fn offer(&mut self, port: u16, to: SocketAddr) {
        let at = SocketAddr::new(NODE, port);
        let relay = relay::Relay::new(&self.outside.namespace, at, to);
        self.relays.push(relay);
    }

    /// Requests of `http://HOST[:PORT]/PATH` in the background by a pod's application, that many per second.
    ///
    /// # Panics
    /// If there is no such pod or host.
    pub fn traffic(&self, from: &str, url: &str, per_second: u32) -> Traffic {
        let (to, host, path) = self.outside.names.resolve(url);
        let client = self.get(from).client(to);
        Traffic::steady(client, Call::get(host, path), per_second)
    }

    /// Waits until the newest revision is live on every proxy that runs.
    ///
    /// # Panics
    /// If that takes too long, or a proxy rejects something.
    pub async fn live(&self) {
        let revision = self.pilot.revision().await;
        self.pilot.live(revision, self.proxies()).await;
    }

    /// Changes the configuration; returns its revision when that is live everywhere.
    ///
    /// # Panics
    /// As [`Pods::live`].
    pub async fn change(&self, change: impl FnOnce(&Site)) -> u64 {
        let before = self.pilot.revision().await;
        change(&self.site);
        let revision = self.pilot.newer_than(before).await;
        self.pilot.live(revision, self.proxies()).await;
        revision
    }

    fn proxies(&self) -> usize {
        self.pods.values().filter(|pod| pod.has_proxy()).count()
    }
}

/// Addresses of services by the names that applications use.
#[derive(Debug, Default)]
pub(crate) struct Names(pub BTreeMap<String, IpAddr>);

impl Names {
    /// The address and the authority of `http://HOST[:PORT]/...`, and the path.
    pub fn resolve(&self, url: &str) -> (SocketAddr, String, String) {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port),
            _ => (authority, "80"),
        };
        let port = port.parse().unwrap_or_else(|_| panic!("{url}: no port"));
        let ip = host.parse().ok().or_else(|| self.0.get(host).copied());
        let ip = ip.unwrap_or_else(|| panic!("{url}: no service is called {host}"));
        (SocketAddr::new(ip, port), authority.into(), path.into())
    }
}

/// Somebody beside the pods whose connections nobody captures.
#[derive(Debug)]
pub struct Outside {
    pub(crate) namespace: Arc<Namespace>,
    names: Arc<Names>,
}

impl Outside {
    /// A client of an address.
    pub fn client(&self, to: SocketAddr) -> Client {
        Client::to(to).from_namespace(self.namespace.clone(), APPLICATION)
    }

    /// A GET of `http://HOST[:PORT]/PATH`, over a connection of its own.
    ///
    /// # Errors
    /// There is no response.
    pub async fn request(&self, url: &str) -> Result<Answer, CallError> {
        let (to, host, path) = self.names.resolve(url);
        self.client(to).send(&Call::get(host, path)).await
    }

    /// What a program prints that runs there.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn exec(&self, argv: &[&str]) -> std::process::Output {
        pod::exec(&self.namespace, APPLICATION, argv).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_services_and_addresses() {
        let names = Names([("b".to_owned(), service_address(1))].into());
        let resolved = |url| {
            let (to, host, path) = names.resolve(url);
            format!("{to} {host} {path}")
        };
        assert_eq!(resolved("http://b/x?y"), "10.96.0.12:80 b /x?y");
        assert_eq!(
            resolved("http://10.244.0.11:8080"),
            "10.244.0.11:8080 10.244.0.11:8080 /"
        );
    }
}
