//! Kinds of others.

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

/// What a kind is to us that is none of [`mesh_types::Kind`].
pub(crate) fn other_kind(group: &str, kind: &str) -> OtherKind {
    match (group, kind) {
        ("networking.istio.io", "EnvoyFilter" | "WorkloadGroup" | "ProxyConfig")
        | (
            "security.istio.io",
            "PeerAuthentication" | "RequestAuthentication" | "AuthorizationPolicy",
        )
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
