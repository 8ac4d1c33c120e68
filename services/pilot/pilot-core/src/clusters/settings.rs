//! What clusters read of the mesh's settings and of the proxy, besides their service and its rule.

use std::sync::Arc;

use mesh_config::resource::Duration;
use mesh_config::resource::destination_rule::{
    ConnectionPoolSettings, H2UpgradePolicy, OutlierDetection, TcpKeepalive,
};
use mesh_config::resource::mesh::{InboundMode, MeshConfig};
use mesh_model::{CertificateFiles, ProxyKind};

use crate::tls::{MeshTls, Source};
use crate::{InboundKey, Memos, OutboundKey};

/// Equal for most classes, and then one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Settings {
    pub router: bool,
    pub ipv4: bool,
    pub ipv6: bool,
    pub vanilla: bool,
    pub connect_timeout: Duration,
    pub keepalive: Option<TcpKeepalive>,
    pub dns_refresh_rate: Duration,
    pub h2_upgrade: H2UpgradePolicy,
    pub outbound_stat_name: String,
    pub inbound_stat_name: String,
    pub inbound_mode: InboundMode,
    pub pool: Option<ConnectionPoolSettings>,
    pub outlier: Option<OutlierDetection>,
    /// Whether an agent hands out certificates.
    pub agent: bool,
    /// What mutual TLS is offered with instead of the workload's own certificate.
    pub client_files: Option<CertificateFiles>,
    /// Mutual TLS wherever both ends can.
    pub auto_mtls: bool,
    /// Whether a rule that names a credential that the proxy cannot have closes the cluster.
    pub refuse_unavailable: bool,
    /// What all TLS of the mesh has in common.
    pub tls: MeshTls,
}

impl Settings {
    /// Whether there is a certificate for mutual TLS.
    pub fn can_mutual(&self) -> bool {
        self.agent || self.client_files.is_some()
    }

    /// How files are read.
    pub fn source(&self) -> Source {
        if self.agent {
            Source::Agent
        } else {
            Source::Direct
        }
    }

    fn of(mesh: &MeshConfig, router: bool, ipv4: bool, ipv6: bool, vanilla: bool) -> Settings {
        let policy = mesh.default_traffic_policy.as_ref();
        Settings {
            router,
            ipv4,
            ipv6,
            vanilla,
            connect_timeout: mesh.connect_timeout,
            keepalive: mesh.tcp_keepalive.clone(),
            dns_refresh_rate: mesh.dns_refresh_rate,
            h2_upgrade: mesh.h2_upgrade_policy,
            outbound_stat_name: mesh.outbound_cluster_stat_name.clone(),
            inbound_stat_name: mesh.inbound_cluster_stat_name.clone(),
            inbound_mode: mesh.inbound_traffic_policy.mode,
            pool: policy.and_then(|p| p.connection_pool.clone()),
            outlier: policy.and_then(|p| p.outlier_detection.clone()),
            agent: false,
            client_files: None,
            auto_mtls: mesh.enable_auto_mtls,
            refuse_unavailable: false,
            tls: MeshTls::default(),
        }
    }

    pub(super) fn outbound(mesh: &MeshConfig, key: &OutboundKey, memo: &Memos) -> Arc<Settings> {
        let router = key.view.kind == ProxyKind::Router;
        let settings = Settings {
            agent: key.agent,
            client_files: key.client_files.clone(),
            refuse_unavailable: memo.options.refuse_unavailable_credentials,
            tls: MeshTls::of(mesh, memo.options.compliance),
            ..Settings::of(mesh, router, key.ipv4, key.ipv6, key.vanilla)
        };
        shared(settings, memo)
    }

    pub(super) fn inbound(mesh: &MeshConfig, key: &InboundKey, memo: &Memos) -> Arc<Settings> {
        shared(
            Settings::of(mesh, false, key.ipv4, key.ipv6, key.vanilla),
            memo,
        )
    }
}

/// One `Arc` for equal settings, so that comparing cluster inputs is comparing pointers.
fn shared(settings: Settings, memo: &Memos) -> Arc<Settings> {
    memo.clusters.settings.get_or(settings, Settings::clone)
}
