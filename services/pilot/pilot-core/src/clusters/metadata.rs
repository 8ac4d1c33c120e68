//! What a cluster says about where it came from: read by telemetry, access logs and `istioctl` (XDS-TRAFFIC 7.3).

use envoy_api::envoy::config::core::v3::Metadata;
use mesh_model::{DestinationRule, Service};
use prost_types::Value;

use crate::proto;

/// The `istio` block of a cluster's metadata, piece by piece.
#[derive(Default)]
pub(super) struct IstioMetadata(Vec<(&'static str, Value)>);

impl IstioMetadata {
    /// The services a request to the cluster may be for.
    pub(super) fn services<'a>(
        mut self,
        services: impl IntoIterator<Item = &'a Service>,
    ) -> IstioMetadata {
        let one = |service: &Service| {
            proto::nested(proto::object([
                ("host", proto::text(service.hostname.as_str())),
                ("name", proto::text(&*service.name)),
                ("namespace", proto::text(&*service.key.namespace)),
            ]))
        };
        let services: Vec<Value> = services.into_iter().map(one).collect();
        if !services.is_empty() {
            self.0.push(("services", proto::list(services)));
        }
        self
    }

    /// The rule that applied.
    pub(super) fn rule(mut self, rule: Option<&DestinationRule>) -> IstioMetadata {
        if let Some(rule) = rule {
            let (namespace, name) = (&rule.key.namespace, &rule.key.name);
            let path = format!(
                "/apis/networking.istio.io/v1/namespaces/{namespace}/destination-rule/{name}"
            );
            self.0.push(("config", proto::text(path)));
        }
        self
    }

    /// The subset.
    pub(super) fn subset(mut self, subset: Option<&str>) -> IstioMetadata {
        self.0
            .extend(subset.map(|name| ("subset", proto::text(name))));
        self
    }

    /// Whether the service lies outside the mesh.
    pub(super) fn external(mut self, external: bool) -> IstioMetadata {
        self.0
            .extend(external.then(|| ("external", proto::flag(true))));
        self
    }

    /// The metadata; `None` if nothing was said.
    pub(super) fn build(self) -> Option<Metadata> {
        if self.0.is_empty() {
            return None;
        }
        Some(Metadata {
            filter_metadata: [("istio".to_owned(), proto::object(self.0))].into(),
            ..Metadata::default()
        })
    }
}
