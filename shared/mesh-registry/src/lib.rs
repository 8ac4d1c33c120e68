//! Normalizes what platforms call services and workloads into the plane's own form.
//!
//! Kubernetes Services, EndpointSlices, Pods and Nodes and Istio's ServiceEntries and WorkloadEntries go in; `MeshService`, `MeshEndpoints`
//! and `MeshWorkload` objects come out, and policy objects pass through. Galley runs this, and Pilot when it reads files itself; nothing
//! behind it knows a platform. The crate must never know where objects come from or what a proxy is told about them.
//!
//! Start reading at [`Registry::apply`]: costs follow the namespaces that a change touches.

mod addresses;
mod entry;
mod kubernetes;
mod protocol;
mod registry;
mod workload;

pub use registry::{ChangeSet, Options, Registry};
