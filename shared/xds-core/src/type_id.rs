//! The closed list of xDS types this control plane serves.

use std::fmt;

/// One xDS resource type.
///
/// The order of the variants is the order of a push: clusters before their endpoints, listeners before their routes,
/// everything else after. A type URL that is not here is recorded and answered with nothing
/// ([`Outcome::UnknownType`](crate::Outcome::UnknownType)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum TypeId {
    /// Clusters, `envoy.config.cluster.v3.Cluster`.
    Cds,
    /// Endpoints of clusters, `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    Eds,
    /// Listeners, `envoy.config.listener.v3.Listener`.
    Lds,
    /// HTTP routes, `envoy.config.route.v3.RouteConfiguration`.
    Rds,
    /// Certificates and trust bundles, `envoy.extensions.transport_sockets.tls.v3.Secret`.
    Sds,
    /// Filter configurations, `envoy.config.core.v3.TypedExtensionConfig`.
    Ecds,
    /// Name table of the agent's DNS proxy, `istio.networking.nds.v1.NameTable`.
    Nds,
    /// Proxy configuration for the agent, `istio.mesh.v1alpha1.ProxyConfig`.
    Pcds,
    /// Trust bundle for the agent, `flotilla.citadel.v1.TrustBundle`.
    Trust,
}

impl TypeId {
    /// How many types there are.
    pub const COUNT: usize = 9;

    /// Every type, in push order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Cds,
        Self::Eds,
        Self::Lds,
        Self::Rds,
        Self::Sds,
        Self::Ecds,
        Self::Nds,
        Self::Pcds,
        Self::Trust,
    ];

    /// Position in [`TypeId::ALL`], `0..COUNT`.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The type URL, as in `google.protobuf.Any` and in requests.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cds => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Eds => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Lds => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Rds => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Sds => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Ecds => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Nds => "type.googleapis.com/istio.networking.nds.v1.NameTable",
            Self::Pcds => "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig",
            Self::Trust => "type.googleapis.com/flotilla.citadel.v1.TrustBundle",
        }
    }

    /// The type of this URL; `None` for a type that is not served.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.url() == url)
    }

    /// Lower-case short name, the `type` label of metrics: `cds`, `eds`, ...
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cds => "cds",
            Self::Eds => "eds",
            Self::Lds => "lds",
            Self::Rds => "rds",
            Self::Sds => "sds",
            Self::Ecds => "ecds",
            Self::Nds => "nds",
            Self::Pcds => "pcds",
            Self::Trust => "trust",
        }
    }

    /// Whether a first request without names means "everything".
    ///
    /// For these types a state-of-the-world response is the whole set: what is absent is deleted by the client. For the
    /// others (EDS, RDS, SDS, ECDS) a response may hold a part, and an empty list of names means "no longer interested".
    pub const fn wildcard(self) -> bool {
        match self {
            Self::Cds | Self::Lds | Self::Nds | Self::Pcds | Self::Trust => true,
            Self::Eds | Self::Rds | Self::Sds | Self::Ecds => false,
        }
    }

    /// Whether a delta response may list vanished resources of this type as removed.
    ///
    /// Not for ECDS: a filter whose configuration is taken away stops serving, so the last one stays.
    pub const fn removable(self) -> bool {
        !matches!(self, Self::Ecds)
    }
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_in_push_order_and_indexes_agree() {
        for (i, t) in TypeId::ALL.into_iter().enumerate() {
            assert_eq!(t.index(), i);
            assert_eq!(TypeId::from_url(t.url()), Some(t));
        }
        assert!(TypeId::ALL.is_sorted());
        assert_eq!(TypeId::from_url("type.googleapis.com/envoy.Nothing"), None);
    }
}
