//! Everything one proxy would be sent, without anybody asking: for `flotilla render` and for tests.

use std::sync::Arc;

use mesh_model::{Mesh, Proxy, ProxyKind};
use xds_core::{Encoded, TypeId};

use super::Generator;
use crate::secrets::redacted;
use crate::{InboundKey, OutboundKey};

/// The resources of one proxy, each list in name order.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// Clusters.
    pub clusters: Vec<Arc<Encoded>>,
    /// Endpoints.
    pub endpoints: Vec<Arc<Encoded>>,
    /// Listeners.
    pub listeners: Vec<Arc<Encoded>>,
    /// RouteConfigurations.
    pub routes: Vec<Arc<Encoded>>,
    /// Credentials of a gateway, without private keys.
    pub secrets: Vec<Arc<Encoded>>,
}

/// What a proxy gets of a mesh. The proxy is completed by what the mesh knows of its workload.
pub fn render(mesh: &Mesh, proxy: &Proxy) -> Rendered {
    let mut proxy = proxy.clone();
    mesh.complete(&mut proxy);
    let key = OutboundKey::of(mesh, &proxy);
    let view = mesh.view(&key.view);
    let generator = Generator::default();
    let outbound = generator.outbound(&view, &key);
    let inbound = (proxy.kind == ProxyKind::Sidecar)
        .then(|| generator.inbound(&view, &InboundKey::of(mesh, &view, &proxy)));
    let snapshot = outbound.snapshot(inbound.as_ref(), mesh.revision().0);
    let sorted = |type_id| {
        let mut items: Vec<Arc<Encoded>> = snapshot.layers(type_id).iter().cloned().collect();
        items.sort_by(|a, b| a.name().cmp(b.name()));
        items
    };
    Rendered {
        clusters: sorted(TypeId::Cds),
        endpoints: sorted(TypeId::Eds),
        listeners: sorted(TypeId::Lds),
        routes: sorted(TypeId::Rds),
        secrets: sorted(TypeId::Sds).iter().map(redacted).collect(),
    }
}
