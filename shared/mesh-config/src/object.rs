//! A configuration object: who it is, and what it says.

use std::sync::Arc;

use mesh_types::{Key, Kind, Labels, Version};
use serde::{Deserialize, Serialize};

use crate::resource::authorization_policy::AuthorizationPolicy;
use crate::resource::destination_rule::DestinationRule;
use crate::resource::gateway::Gateway;
use crate::resource::mesh::MeshConfig;
use crate::resource::normal::{MeshEndpoints, MeshJwks, MeshService, MeshTrust, MeshWorkload};
use crate::resource::peer_authentication::PeerAuthentication;
use crate::resource::platform::{ConfigMap, EndpointSlice, Namespace, Node, Pod, Secret, Service};
use crate::resource::request_authentication::RequestAuthentication;
use crate::resource::service_entry::{ServiceEntry, WorkloadEntry};
use crate::resource::sidecar::Sidecar;
use crate::resource::virtual_service::VirtualService;

/// What every object has besides its spec.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Identity.
    pub key: Key,
    /// Creation time in microseconds since 1970, 0 when unknown. Older objects win many conflicts.
    #[serde(default, skip_serializing_if = "crate::resource::is_unset")]
    pub created_us: i64,
    /// Labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Annotations, without those that only repeat the object (`kubectl.kubernetes.io/last-applied-configuration`).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}

/// A configuration object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Identity and metadata.
    pub meta: Meta,
    /// Spec.
    pub body: Body,
    /// Content hash of metadata and spec.
    pub version: Version,
}

impl Object {
    /// An object with its content hash.
    pub fn new(meta: Meta, body: Body) -> Object {
        let version = mesh_types::version_of_json(&(&meta, &body));
        Object {
            meta,
            body,
            version,
        }
    }
}

macro_rules! bodies {
    ($($kind:ident),* $(,)?) => {
        /// The spec of an object, by kind. Shared, since many indexes hold the same one.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
        #[serde(untagged)]
        #[allow(missing_docs)]
        pub enum Body { $($kind(Arc<$kind>),)* }

        impl Body {
            /// What kind of object this is the spec of.
            pub fn kind(&self) -> Kind {
                match self { $(Body::$kind(_) => Kind::$kind,)* }
            }

            /// Reads the spec of a kind from JSON that this crate wrote; nothing is checked beyond the types.
            pub fn from_json(kind: Kind, json: serde_json::Value) -> Result<Body, serde_json::Error> {
                Ok(match kind { $(Kind::$kind => Body::$kind(Arc::new(serde_json::from_value(json)?)),)* })
            }

            /// As [`Body::from_json`], with the place of an error.
            pub(crate) fn from_json_tracked(
                kind: Kind,
                json: &serde_json::Value,
            ) -> Result<Body, serde_path_to_error::Error<serde_json::Error>> {
                Ok(match kind { $(Kind::$kind => Body::$kind(Arc::new(serde_path_to_error::deserialize(json)?)),)* })
            }
        }

        $(impl From<$kind> for Body {
            fn from(value: $kind) -> Body { Body::$kind(Arc::new(value)) }
        })*
    };
}

bodies! {
    MeshConfig, Namespace, Node, Service, EndpointSlice, Pod, Secret, ConfigMap, ServiceEntry, WorkloadEntry, Sidecar, Gateway,
    DestinationRule, VirtualService, PeerAuthentication, RequestAuthentication, AuthorizationPolicy, MeshService, MeshEndpoints,
    MeshWorkload, MeshTrust, MeshJwks,
}
