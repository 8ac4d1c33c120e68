//! What happens to requests for hosts that nobody knows (XDS-TRAFFIC 6.9).

use std::sync::Arc;

use envoy_api::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_api::envoy::config::route::v3::{DirectResponseAction, Route, route};
use mesh_config::resource::Duration;
use mesh_config::resource::sidecar::{OutboundMode, OutboundTrafficPolicy};
use mesh_model::View;
use smallvec::smallvec;

use super::rule::{Routes, encoded};
use super::wire::Host;
use super::{action, matching};
use crate::OutboundKey;
use crate::naming::{ClusterName, PASSTHROUGH};

const ALLOW: &str = "allow_any";
const BLOCK: &str = "block_all";
/// Status of refused requests.
const BAD_GATEWAY: u32 = 502;

/// The virtual host of all other hosts.
pub(super) fn host(view: &View, key: &OutboundKey) -> Host<'static> {
    let policy = &view.outbound_policy;
    let (name, action) = match policy.mode {
        OutboundMode::RegistryOnly => {
            let refused = DirectResponseAction {
                status: BAD_GATEWAY,
                ..DirectResponseAction::default()
            };
            (BLOCK, route::Action::DirectResponse(refused))
        }
        // Hosts are not resolved at request time: no listener has the filter for it.
        OutboundMode::AllowAny | OutboundMode::AllowAnyDynamicDns => {
            let mut forward = action::basic(Duration::ZERO);
            forward.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster(policy)));
            forward.append_x_forwarded_host = key.proxy_config.http.headers.x_forwarded_host;
            (ALLOW, route::Action::Route(forward))
        }
    };
    let only = Route {
        name: name.to_owned(),
        r#match: Some(matching::route_match(None, false)),
        action: Some(action),
        ..Route::default()
    };
    let routes = Routes {
        catch_all: encoded(&[only]),
        ..Routes::default()
    };
    Host {
        name: name.to_owned(),
        domains: vec!["*".into()],
        routes: smallvec![Arc::new(routes)],
        require_tls: false,
    }
}

/// The address that was dialled, or the proxy that all such traffic goes through.
fn cluster(policy: &OutboundTrafficPolicy) -> String {
    let Some(proxy) = &policy.egress_proxy else {
        return PASSTHROUGH.to_owned();
    };
    let port = proxy.port.as_ref().map_or(0, |port| port.number);
    ClusterName::outbound(u16::try_from(port).unwrap_or(0), &proxy.subset, &proxy.host).to_string()
}
