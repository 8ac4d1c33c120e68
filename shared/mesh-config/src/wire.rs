//! Objects as JSON between our own parts: Galley's store and the way from Galley to Pilot.
//!
//! The form is exact: reading back what was written gives an equal object with the same version.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Body, Meta, Object};

/// Bytes that are no object in wire form.
#[derive(Debug, thiserror::Error)]
#[error("not an object in wire form: {0}")]
pub struct WireError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Wire {
    meta: Meta,
    body: Value,
}

#[derive(Serialize)]
struct WireRef<'a> {
    meta: &'a Meta,
    body: &'a Body,
}

/// An object as JSON: `{"meta": {"key": ..}, "body": ..}`.
///
/// A value that JSON cannot carry would make `null`; our types have none.
pub fn encode(object: &Object) -> Value {
    serde_json::to_value(WireRef {
        meta: &object.meta,
        body: &object.body,
    })
    .unwrap_or(Value::Null)
}

/// An object from the JSON that [`encode`] made.
pub fn decode_wire(json: Value) -> Result<Object, WireError> {
    let Wire { meta, body } = serde_json::from_value(json)?;
    let body = Body::from_json(meta.key.kind, body)?;
    Ok(Object::new(meta, body))
}

impl Object {
    /// The object as bytes of JSON, the same for the same content.
    pub fn to_wire(&self) -> Vec<u8> {
        serde_json::to_vec(&WireRef {
            meta: &self.meta,
            body: &self.body,
        })
        .unwrap_or_default()
    }

    /// The object that [`Object::to_wire`] wrote. Its version is computed anew.
    pub fn from_wire(bytes: &[u8]) -> Result<Object, WireError> {
        decode_wire(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mesh_types::{Hostname, Key, Kind, Labels, Locality, Protocol};

    use super::*;
    use crate::resource::destination_rule::{
        ConsistentHashLb, DestinationRule, LoadBalancerSettings, TrafficPolicy,
    };
    use crate::resource::mesh::MeshConfig;
    use crate::resource::normal::{
        Health, MeshEndpoint, MeshEndpoints, MeshPort, MeshService, MeshWorkload, Registry,
        ServiceResolution,
    };
    use crate::resource::platform::{IntOrString, K8sServicePort, Service, ServiceSpec};
    use crate::resource::{Double, Duration};

    #[track_caller]
    fn round_trip(body: impl Into<Body>) -> String {
        let body = body.into();
        let meta = Meta {
            key: Key::new(body.kind(), "shop", "reviews"),
            created_us: 7,
            labels: Labels::from_iter([("app", "reviews")]),
            annotations: Labels::default(),
        };
        let object = Object::new(meta, body);
        let read = Object::from_wire(&object.to_wire()).unwrap();
        assert_eq!(read, object);
        assert_eq!(read.version, object.version);
        assert_eq!(decode_wire(encode(&object)).unwrap(), object);
        String::from_utf8(object.to_wire()).unwrap()
    }

    #[test]
    fn unset_fields_are_not_written_and_empty_messages_are() {
        let rule = DestinationRule {
            host: "reviews".into(),
            traffic_policy: Some(TrafficPolicy {
                load_balancer: Some(LoadBalancerSettings {
                    consistent_hash: Some(ConsistentHashLb::default()),
                    warmup_duration_secs: Some(Duration::from_millis(1500)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        expect_test::expect![[r#"{"meta":{"key":{"kind":"DestinationRule","namespace":"shop","name":"reviews"},"createdUs":7,"labels":{"app":"reviews"}},"body":{"host":"reviews","trafficPolicy":{"loadBalancer":{"consistentHash":{},"warmupDurationSecs":"1.5s"}}}}"#]]
        .assert_eq(&round_trip(rule));
    }

    #[test]
    fn normal_forms_and_platform_objects_survive() {
        let host = Hostname::new("reviews.shop.svc.cluster.local").unwrap();
        round_trip(MeshService {
            hostname: host.clone(),
            name: "reviews".into(),
            registry: Registry::Kubernetes,
            entry: "".into(),
            resolution: ServiceResolution::ClientSideLb,
            external: false,
            addresses: vec!["10.0.0.1".into()],
            auto_addresses: Vec::new(),
            ports: vec![MeshPort {
                name: "http".into(),
                number: 80,
                protocol: Protocol::Http,
                target_port: 8080,
            }],
            export_to: vec!["*".into()],
            labels: Labels::default(),
            selector: mesh_types::Selector(Labels::from_iter([("app", "reviews")])),
            alias_of: None,
            subject_alt_names: Vec::new(),
            service_accounts: Vec::new(),
            node_local: true,
            race_first_connect: false,
            selects_workloads: false,
        });
        round_trip(MeshEndpoints {
            hostname: host,
            endpoints: vec![MeshEndpoint {
                addresses: vec!["10.1.0.1".into()],
                port: 8080,
                port_name: "http".into(),
                labels: Labels::default(),
                weight: 3,
                network: "".into(),
                locality: Locality::parse("a/b"),
                cluster: "c".into(),
                service_account: "".into(),
                mtls: true,
                workload: "w".into(),
                namespace: "shop".into(),
                node: "".into(),
                health: Health::Draining,
            }],
        });
        round_trip(MeshWorkload {
            addresses: vec![Arc::from("10.1.0.1")],
            labels: Labels::default(),
            locality: Locality::default(),
            network: "".into(),
            cluster: "".into(),
            service_account: "".into(),
            node: "n".into(),
            workload: "".into(),
        });
        round_trip(Service {
            spec: ServiceSpec {
                ports: vec![K8sServicePort {
                    port: 80,
                    target_port: Some(IntOrString::String("http".into())),
                    ..Default::default()
                }],
                ..Default::default()
            },
            ..Default::default()
        });
    }

    #[test]
    fn mesh_config_keeps_what_it_does_not_know_and_exact_numbers() {
        let mut config = MeshConfig::default();
        config.other.0.insert(
            "extensionProviders".into(),
            serde_json::json!([{"name": "x", "n": 0.1}]),
        );
        config.default_config.tracing = Some(crate::resource::mesh::Tracing {
            sampling: Double(100.0 / 3.0),
            ..Default::default()
        });
        round_trip(config);
    }

    #[test]
    fn garbage_is_an_error() {
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"meta":{"key":{"kind":"Nope","namespace":"","name":""}},"body":{}}"#,
        ] {
            assert!(Object::from_wire(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(Kind::ALL.len(), 22);
    }
}
