//! Decoding takes any text, and what it makes survives the way between the parts. `PROPTEST_CASES=100000` makes a night of it.

use mesh_config::{
    Object, Origin, decode_bytes, decode_mesh_config, decode_text, decode_wire, encode,
};
use proptest::prelude::*;

/// A text with most features of the six kinds, to be damaged.
const SEED: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: b, labels: {app: x}}
spec:
  hosts: [a.com, "*.b.com"]
  gateways: [mesh, ns/gw]
  http:
  - match: [{uri: {prefix: /a}, headers: {x: {regex: "a.*"}}}]
    route: [{destination: {host: a, subset: v1, port: {number: 80}}, weight: 20}, {destination: {host: b}, weight: 80}]
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,503"}
    fault: {delay: {percentage: {value: 0.1}, fixedDelay: 5s}}
    timeout: 1.5s
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: &n d}
spec:
  host: a
  traffic_policy:
    load_balancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}, maglev: {tableSize: 65537}}}
    outlierDetection: {consecutive5xxErrors: "3", interval: 1m}
  subsets: [{name: *n, labels: {v: "1"}}]
---
apiVersion: v1
kind: List
items:
- {apiVersion: networking.istio.io/v1alpha3, kind: ServiceEntry, metadata: {name: s}, spec: {hosts: [c.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: 2}}
- {apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80, targetPort: http}]}}
- {apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, spec: {defaultConfig: {tracing: {sampling: 33.333}}, extensionProviders: [{name: x}]}}
- {apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s}, spec: {egress: [{hosts: ["./*"]}]}}
- {apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: s}, spec: {servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ["*"]}]}}
"#;

fn look(text: &[u8]) {
    let decoded = decode_bytes(text, &Origin::default());
    for (object, _) in &decoded.objects {
        assert_eq!(
            Object::from_wire(&object.to_wire()).ok().as_ref(),
            Some(object)
        );
        let again = decode_wire(encode(object)).map(|object| object.version);
        assert_eq!(again.ok(), Some(object.version));
    }
    for finding in &decoded.findings {
        let _ = finding.to_string();
    }
}

#[test]
fn the_seed_is_good() {
    let decoded = decode_text(SEED, &Origin::default());
    assert_eq!(decoded.objects.len(), 7, "{:?}", decoded.findings);
    look(SEED.as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        look(&bytes);
    }

    #[test]
    fn any_text(text in "[-a-z0-9:{}\\[\\]&*!|>'\"%@#,. \n\t~?]{0,120}") {
        look(text.as_bytes());
        decode_mesh_config(&text);
    }

    #[test]
    fn damaged_objects(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[-a-z0-9:{}\\[\\]&*!|>'\"%@#,./ \n~]{0,6}"), 1..5)
    ) {
        let mut text: Vec<char> = SEED.chars().collect();
        for (at, removed, inserted) in edits {
            let at = at.index(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, inserted.chars());
        }
        look(text.into_iter().collect::<String>().as_bytes());
    }
}
