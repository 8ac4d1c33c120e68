//! Which clusters a class gets, and how each finds its endpoints (XDS-TRAFFIC 7.1, 7.2).

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use mesh_config::resource::destination_rule::{ClientTlsMode, SimpleLb, Subset};
use mesh_config::resource::mesh::MeshConfig;
use mesh_config::resource::normal::{MeshPort, ServiceResolution};
use mesh_model::{DestinationRule, ScopedEndpoints, Service, View, service_identities};
use mesh_types::{Hostname, Protocol};
use xds_core::Encoded;

use super::policy::Policy;
use super::secure::Secure;
use super::settings::Settings;
use super::special::{self, Special};
use crate::endpoints::{AssignmentInput, EndpointTls, Reach, Scope};
use crate::naming::ClusterName;
use crate::{Memos, OutboundKey};

/// How a cluster finds its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Discovery {
    /// From us, by EDS.
    Eds,
    /// By DNS, every address.
    StrictDns,
    /// By DNS, one address at a time.
    LogicalDns,
    /// The address the client dialled.
    OriginalDst,
    /// By DNS, the host of the request.
    DynamicDns,
}

/// Everything the message of an outbound cluster is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ClusterInput {
    pub(super) service: Arc<Service>,
    /// Index of the port.
    port: u16,
    /// Index of the subset in the rule.
    subset: Option<u32>,
    pub(super) rule: Option<Arc<DestinationRule>>,
    pub(super) discovery: Discovery,
    /// Endpoints that are part of the cluster itself: only of those resolved by DNS.
    pub(super) inline: Option<AssignmentInput>,
    pub(super) secure: Secure,
    /// Who the servers may be, sorted; empty if that does not matter or nobody knows.
    pub(super) identities: Arc<[Arc<str>]>,
    pub(super) settings: Arc<Settings>,
}

impl ClusterInput {
    pub(super) fn port(&self) -> &MeshPort {
        &self.service.ports[usize::from(self.port)]
    }

    pub(super) fn subset(&self) -> Option<&Subset> {
        let rule = self.rule.as_ref()?;
        rule.spec.subsets.get(self.subset? as usize)
    }

    pub(super) fn policy(&self) -> Policy<'_> {
        self.rule
            .as_ref()
            .map(|rule| Policy::of(&rule.spec, self.port().number, self.subset()))
            .unwrap_or_default()
            .or(self.settings.pool.as_ref(), self.settings.outlier.as_ref())
    }

    pub(super) fn name(&self) -> ClusterName<'_> {
        let subset = self.subset().map_or("", |s| &s.name);
        ClusterName::outbound(self.port().number, subset, self.service.hostname.as_str())
    }

    /// Whether this is a cluster whose endpoints are part of it, and there are none: Envoy would not take it.
    pub(super) fn lacks_endpoints(&self) -> bool {
        self.inline.as_ref().is_some_and(AssignmentInput::is_empty)
    }
}

/// One cluster to be.
pub(crate) struct Planned {
    pub(crate) input: ClusterInput,
    /// What its endpoints are made from, if we serve them.
    pub(crate) assignment: Option<AssignmentInput>,
}

impl Planned {
    /// The cluster's name.
    pub(crate) fn name(&self) -> ClusterName<'_> {
        self.input.name()
    }

    /// Whether its endpoints are part of the cluster itself.
    pub(crate) fn has_inline_endpoints(&self) -> bool {
        self.input.inline.is_some()
    }
}

/// Everything that the clusters and endpoints of an outbound class are made from: classes whose planners are equal get the same of both.
///
/// Nothing of a view or a class but what is here can be read below, so nothing else, such as a namespace, can make a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planner {
    services: Arc<BTreeMap<Hostname, Arc<Service>>>,
    rules: Arc<BTreeMap<Hostname, Arc<DestinationRule>>>,
    endpoints: ScopedEndpoints,
    settings: Arc<Settings>,
    specials: Vec<Special>,
    scope: Scope,
    /// For identities alone; the settings above hold whatever else is read of it.
    mesh: Arc<MeshConfig>,
}

impl Planner {
    pub(crate) fn of(view: &View, key: &OutboundKey, memo: &Memos) -> Planner {
        Planner {
            services: view.services.clone(),
            rules: view.destination_rules.clone(),
            endpoints: view.endpoints.clone(),
            settings: Settings::outbound(&view.mesh, key, memo),
            specials: special::of(view, key),
            scope: Scope::of(&view.mesh, key),
            mesh: view.mesh.clone(),
        }
    }

    /// Gives a view, from which an equal planner was made, this one's allocations. Views that share them are quickly compared.
    pub(crate) fn lend(&self, view: &mut View) {
        view.services = self.services.clone();
        view.destination_rules = self.rules.clone();
        view.endpoints = self.endpoints.clone();
    }

    /// A hash of some of it: scopes that differ mostly differ in how much they see, and in what comes first.
    pub(crate) fn digest(&self) -> u64 {
        let size = (self.services.len(), self.rules.len());
        let first = self.services.first_key_value().map(|(host, _)| host);
        FixedState::default().hash_one((size, first, self.settings.router))
    }

    /// Clusters that belong to no service.
    pub(crate) fn specials(&self, memo: &Memos) -> Vec<Arc<Encoded>> {
        special::clusters(&self.specials, &self.settings, memo)
    }

    /// Every cluster of a service.
    pub(crate) fn all(&self, mut each: impl FnMut(Planned)) {
        for service in self.services.values() {
            self.service(service, &mut each);
        }
    }

    /// The clusters of one host; none if it is not in scope.
    pub(crate) fn host(&self, host: &Hostname, mut each: impl FnMut(Planned)) {
        if let Some(service) = self.services.get(host) {
            self.service(service, &mut each);
        }
    }

    /// The cluster of that name.
    pub(crate) fn named(&self, name: &str) -> Option<Planned> {
        let Some(ClusterName::Outbound { host, .. }) = ClusterName::parse(name) else {
            return None;
        };
        let mut found = None;
        self.host(&Hostname::new(host).ok()?, |planned| {
            if found.is_none() && planned.name().to_string() == name {
                found = Some(planned);
            }
        });
        found
    }

    fn service(&self, service: &Arc<Service>, each: &mut impl FnMut(Planned)) {
        if service.resolution == ServiceResolution::Alias {
            return;
        }
        let rule = self.rules.get(&service.hostname);
        let identities = OnceCell::new();
        let reach = self.scope.reach(service);
        for (index, port) in service.ports.iter().enumerate() {
            let Ok(index) = u16::try_from(index) else {
                break; // more ports than there are numbers: the rest are duplicates
            };
            self.cluster(service, rule, &reach, &identities, index, port, None, each);
            let subsets = rule.map_or(0, |rule| rule.spec.subsets.len());
            if service.resolution != ServiceResolution::DynamicDns {
                for subset in 0..subsets {
                    self.cluster(
                        service,
                        rule,
                        &reach,
                        &identities,
                        index,
                        port,
                        Some(subset as u32),
                        each,
                    );
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // one loop body, called for the whole service and for each subset
    fn cluster(
        &self,
        service: &Arc<Service>,
        rule: Option<&Arc<DestinationRule>>,
        reach: &Reach,
        identities: &OnceCell<Arc<[Arc<str>]>>,
        index: u16,
        port: &MeshPort,
        subset: Option<u32>,
        each: &mut impl FnMut(Planned),
    ) {
        let policy = rule.map_or_else(Policy::default, |rule| {
            let subset = subset.and_then(|i| rule.spec.subsets.get(i as usize));
            Policy::of(&rule.spec, port.number, subset)
        });
        let policy = policy.or(self.settings.pool.as_ref(), self.settings.outlier.as_ref());
        let Some(discovery) = discovery(service, port, &policy, self.settings.router) else {
            return;
        };
        let endpoints = self.endpoints.get(&service.hostname);
        let secure = Secure::of(
            service,
            &policy,
            endpoints.map(|e| &e.peers),
            &self.settings,
        );
        let identities = if secure.names_servers(service, policy.tls) {
            let find = || service_identities(service, endpoints.map(|e| &**e), &self.mesh).into();
            identities.get_or_init(find).clone()
        } else {
            Arc::default()
        };
        let assignment = || AssignmentInput {
            service: service.clone(),
            endpoints: endpoints.cloned(),
            tls: match policy.tls.map(|tls| tls.mode) {
                None => EndpointTls::Auto,
                Some(ClientTlsMode::IstioMutual) => EndpointTls::Always,
                Some(ClientTlsMode::Disable | ClientTlsMode::Simple | ClientTlsMode::Mutual) => {
                    EndpointTls::Never
                }
            },
            port: index,
            subset: subset.and_then(|s| Some((rule?.clone(), s))),
            reach: reach.clone(),
            send_unhealthy: policy
                .outlier_detection
                .is_none_or(|o| o.min_health_percent <= 0),
            first_only: discovery == Discovery::LogicalDns,
        };
        let (inline, served) = match discovery {
            Discovery::Eds => (None, Some(assignment())),
            Discovery::StrictDns | Discovery::LogicalDns => (Some(assignment()), None),
            Discovery::OriginalDst | Discovery::DynamicDns => (None, None),
        };
        each(Planned {
            input: ClusterInput {
                service: service.clone(),
                port: index,
                subset,
                rule: rule.cloned(),
                discovery,
                inline,
                secure,
                identities,
                settings: self.settings.clone(),
            },
            assignment: served,
        });
    }
}

/// How the endpoints of a port are found; `None` if the port has no cluster.
fn discovery(
    service: &Service,
    port: &MeshPort,
    policy: &Policy<'_>,
    router: bool,
) -> Option<Discovery> {
    if port.protocol == Protocol::Udp {
        return None;
    }
    let found = match service.resolution {
        ServiceResolution::ClientSideLb => Discovery::Eds,
        ServiceResolution::DnsLb if service.race_first_connect => Discovery::LogicalDns,
        ServiceResolution::DnsLb => Discovery::StrictDns,
        ServiceResolution::DnsRoundRobinLb => Discovery::LogicalDns,
        ServiceResolution::Passthrough if router => Discovery::Eds,
        ServiceResolution::Passthrough => Discovery::OriginalDst,
        ServiceResolution::DynamicDns => {
            let speaks = matches!(
                port.protocol,
                Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls
            );
            return (service.hostname.is_wildcard() && speaks).then_some(Discovery::DynamicDns);
        }
        ServiceResolution::Alias => return None,
    };
    let simple = policy.load_balancer.and_then(|lb| lb.simple);
    Some(if simple == Some(SimpleLb::Passthrough) {
        Discovery::OriginalDst
    } else {
        found
    })
}
