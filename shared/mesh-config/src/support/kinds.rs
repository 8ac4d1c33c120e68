//! Kinds of others.

use crate::schema::nearest;

/// What we know about a kind that the plane does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherKind {
    /// A mesh would act on it, and this version does not yet.
    NotYet,
    /// Kubernetes' own: right to be there, and nothing to do with the mesh.
    Kubernetes,
    /// Never heard of.
    Unknown,
}

/// Whether a group is one whose kinds a mesh reads.
pub(crate) fn is_mesh_group(group: &str) -> bool {
    group.ends_with(".istio.io")
}

/// Whether `written` can only be a slip for `group`, which is right for the kind: other vendors have kinds of the same names.
pub(crate) fn mistyped_group(group: &str, written: &str) -> bool {
    is_mesh_group(group)
        && (written.is_empty()
            || written == "istio.io"
            || is_mesh_group(written)
            || nearest(written, std::iter::once(group)).is_some())
}

/// What a kind is to us that is none of [`mesh_types::Kind`].
pub(crate) fn other_kind(group: &str, kind: &str) -> OtherKind {
    match (group, kind) {
        ("networking.istio.io", "EnvoyFilter" | "WorkloadGroup" | "ProxyConfig")
        | ("telemetry.istio.io", "Telemetry")
        | ("extensions.istio.io", "WasmPlugin" | "TrafficExtension")
        | ("install.istio.io", "IstioOperator")
        | ("networking.k8s.io", "Ingress" | "IngressClass") => OtherKind::NotYet,
        (
            "gateway.networking.k8s.io" | "gateway.networking.x-k8s.io" | "multicluster.x-k8s.io",
            _,
        ) => OtherKind::NotYet,
        (
            "",
            "ServiceAccount"
            | "PersistentVolume"
            | "PersistentVolumeClaim"
            | "ReplicationController"
            | "Endpoints",
        )
        | ("", "Event" | "LimitRange" | "ResourceQuota" | "PodTemplate") => OtherKind::Kubernetes,
        ("apps" | "batch" | "policy" | "autoscaling" | "extensions", _) => OtherKind::Kubernetes,
        (group, _) if group.ends_with(".k8s.io") => OtherKind::Kubernetes,
        _ => OtherKind::Unknown,
    }
}
