//! The traffic policy in effect for a port and subset (XDS-TRAFFIC 7.5).

use mesh_config::resource::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings,
    OutlierDetection, PortTrafficPolicy, ProxyProtocol, RetryBudget, Subset, TrafficPolicy,
    TunnelSettings,
};

/// The blocks in effect, each as one rule wrote it: blocks replace each other whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Policy<'a> {
    /// Connection limits.
    pub connection_pool: Option<&'a ConnectionPoolSettings>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<&'a OutlierDetection>,
    /// Load balancing.
    pub load_balancer: Option<&'a LoadBalancerSettings>,
    /// TLS towards the service.
    pub tls: Option<&'a ClientTlsSettings>,
    /// Bound on concurrent retries.
    pub retry_budget: Option<&'a RetryBudget>,
    /// PROXY protocol towards the service.
    pub proxy_protocol: Option<&'a ProxyProtocol>,
    /// TCP inside HTTP.
    pub tunnel: Option<&'a TunnelSettings>,
}

impl<'a> Policy<'a> {
    /// What a rule says about a port, and about a subset of it if one is given. The mesh's default policy is not in it yet.
    pub fn of(rule: &'a DestinationRule, port: u16, subset: Option<&'a Subset>) -> Policy<'a> {
        let mut policy = rule
            .traffic_policy
            .as_ref()
            .map(|top| match for_port(top, port) {
                // The port's block replaces everything, what it leaves unset included.
                Some(own) => Policy::default().replaced_by(own),
                None => Policy::default().overlaid_by(top),
            })
            .unwrap_or_default();
        if let Some(own) = subset.and_then(|s| s.traffic_policy.as_ref()) {
            policy = policy.overlaid_by(own);
            if let Some(port) = for_port(own, port) {
                policy = policy.replaced_by(port);
            }
        }
        policy
    }

    /// The policy with the mesh's defaults for blocks that no rule set.
    pub fn or(
        mut self,
        pool: Option<&'a ConnectionPoolSettings>,
        outlier: Option<&'a OutlierDetection>,
    ) -> Policy<'a> {
        self.connection_pool = self.connection_pool.or(pool);
        self.outlier_detection = self.outlier_detection.or(outlier);
        self
    }

    fn overlaid_by(self, own: &'a TrafficPolicy) -> Policy<'a> {
        Policy {
            connection_pool: own.connection_pool.as_ref().or(self.connection_pool),
            outlier_detection: own.outlier_detection.as_ref().or(self.outlier_detection),
            load_balancer: own.load_balancer.as_ref().or(self.load_balancer),
            tls: own.tls.as_ref().or(self.tls),
            retry_budget: own.retry_budget.as_ref().or(self.retry_budget),
            proxy_protocol: own.proxy_protocol.as_ref().or(self.proxy_protocol),
            tunnel: own.tunnel.as_ref().or(self.tunnel),
        }
    }

    fn replaced_by(self, port: &'a PortTrafficPolicy) -> Policy<'a> {
        Policy {
            connection_pool: port.connection_pool.as_ref(),
            outlier_detection: port.outlier_detection.as_ref(),
            load_balancer: port.load_balancer.as_ref(),
            tls: port.tls.as_ref(),
            ..self
        }
    }
}

fn for_port(policy: &TrafficPolicy, port: u16) -> Option<&PortTrafficPolicy> {
    policy.port_level_settings.iter().find(|settings| {
        settings
            .port
            .as_ref()
            .is_some_and(|p| p.number == u32::from(port))
    })
}
