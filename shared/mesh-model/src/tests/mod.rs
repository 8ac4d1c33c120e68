//! Conformance cases (C-nnn) and properties of the mesh and its views.

mod changes;
mod findings;
mod gateways;
mod policies;
mod properties;
mod rules;
mod sidecars;
mod targets;
mod virtual_services;
