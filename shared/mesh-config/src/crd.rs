//! CustomResourceDefinitions of the kinds people write, made from the same types that decode them. `deploy/crds` has them as files.

use mesh_types::Kind;
use serde_json::{Value, json};

use crate::schema::form;

struct Names {
    kind: Kind,
    plural: &'static str,
    short: &'static str,
    /// Columns of `kubectl get`: name, type and JSON path.
    columns: &'static [(&'static str, &'static str)],
}

const KINDS: &[Names] = &[
    Names {
        kind: Kind::AuthorizationPolicy,
        plural: "authorizationpolicies",
        short: "ap",
        columns: &[("Action", ".spec.action")],
    },
    Names {
        kind: Kind::DestinationRule,
        plural: "destinationrules",
        short: "dr",
        columns: &[("Host", ".spec.host")],
    },
    Names {
        kind: Kind::Gateway,
        plural: "gateways",
        short: "gw",
        columns: &[],
    },
    Names {
        kind: Kind::PeerAuthentication,
        plural: "peerauthentications",
        short: "pa",
        columns: &[("Mode", ".spec.mtls.mode")],
    },
    Names {
        kind: Kind::RequestAuthentication,
        plural: "requestauthentications",
        short: "ra",
        columns: &[],
    },
    Names {
        kind: Kind::ServiceEntry,
        plural: "serviceentries",
        short: "se",
        columns: &[
            ("Hosts", ".spec.hosts"),
            ("Location", ".spec.location"),
            ("Resolution", ".spec.resolution"),
        ],
    },
    Names {
        kind: Kind::Sidecar,
        plural: "sidecars",
        short: "",
        columns: &[],
    },
    Names {
        kind: Kind::VirtualService,
        plural: "virtualservices",
        short: "vs",
        columns: &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")],
    },
    Names {
        kind: Kind::WorkloadEntry,
        plural: "workloadentries",
        short: "we",
        columns: &[("Address", ".spec.address")],
    },
];

/// The CustomResourceDefinitions of the kinds people write, by name: every version that is read, `v1` stored.
pub fn crds() -> Vec<Value> {
    KINDS.iter().filter_map(crd).collect()
}

fn crd(names: &Names) -> Option<Value> {
    let mut spec = form(names.kind)?.json.clone();
    strip(&mut spec);
    let mut columns: Vec<Value> = names
        .columns
        .iter()
        .map(|(name, path)| json!({"name": name, "type": "string", "jsonPath": path}))
        .collect();
    columns.push(json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}));
    let versions: Vec<Value> = crate::decode::versions(names.kind)
        .iter()
        .map(|version| {
            json!({
                "name": version,
                "served": true,
                "storage": *version == "v1",
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": spec,
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            })
        })
        .collect();
    let singular = names.kind.as_str().to_ascii_lowercase();
    let short: &[&str] = if names.short.is_empty() {
        &[]
    } else {
        &[names.short]
    };
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{}", names.plural, names.kind.group())},
        "spec": {
            "group": names.kind.group(),
            "names": {
                "kind": names.kind.as_str(),
                "listKind": format!("{}List", names.kind),
                "plural": names.plural,
                "singular": singular,
                "shortNames": short,
                "categories": ["istio-io", names.kind.group().replace('.', "-")],
            },
            "scope": "Namespaced",
            "versions": versions,
        },
    }))
}

/// Removes what the API server does not know.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|name, _| !name.starts_with("x-flotilla-"));
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the API server calls structural: every node has a type, and no node has what it forbids.
    fn structural(schema: &Value, at: &str) {
        let map = schema.as_object().unwrap();
        assert!(
            map.contains_key("type") || map.contains_key("x-kubernetes-preserve-unknown-fields"),
            "{at}: no type"
        );
        for key in map.keys() {
            let known = [
                "type",
                "description",
                "properties",
                "additionalProperties",
                "items",
                "enum",
                "format",
                "minimum",
                "maximum",
                "required",
                "x-kubernetes-preserve-unknown-fields",
            ];
            assert!(known.contains(&key.as_str()), "{at}: {key}");
        }
        for (name, inner) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            structural(inner, &format!("{at}.{name}"));
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(inner) {
                structural(inner, &format!("{at}[]"));
            }
        }
    }

    /// `UPDATE_EXPECT=1 cargo test -p mesh-config crd` writes the files anew.
    #[test]
    fn the_files_to_install_are_fresh() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds");
        let mut wanted = Vec::new();
        for crd in crds() {
            let name = format!("{}.yaml", crd["metadata"]["name"].as_str().unwrap());
            let yaml = serde_saphyr::to_string(&crd).unwrap();
            let text = format!(
                "# Made by `UPDATE_EXPECT=1 cargo test -p mesh-config crd` from the types that decode the kind.\n{yaml}"
            );
            expect_test::expect_file![format!("{folder}/{name}")].assert_eq(&text);
            let read: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(read, crd, "{name}: reads back as it is");
            wanted.push(name);
        }
        let files = std::fs::read_dir(folder).unwrap();
        let mut found: Vec<String> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn are_structural_and_store_one_version() {
        let crds = crds();
        assert_eq!(crds.len(), KINDS.len());
        for crd in crds {
            let versions = crd.pointer("/spec/versions").unwrap().as_array().unwrap();
            assert!(versions.len() >= 2);
            assert_eq!(versions.iter().filter(|v| v["storage"] == true).count(), 1);
            for version in versions {
                structural(
                    &version["schema"]["openAPIV3Schema"],
                    crd["metadata"]["name"].as_str().unwrap(),
                );
            }
            assert!(
                crd.to_string().len() < 1 << 20,
                "the API server takes no larger object"
            );
        }
    }
}
