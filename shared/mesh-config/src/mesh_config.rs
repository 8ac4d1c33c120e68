//! MeshConfig: three ways to write it, one to merge it.
//!
//! It may be a bare file (`--mesh-config`), the key `mesh` of the ConfigMap `istio` in the root namespace, or an object of our own
//! (`mesh.istio.io/v1alpha1`). What is written replaces the default, field by field at the top; `defaultConfig` is merged one level
//! deeper, and `trustDomainAliases` are sorted.

use mesh_types::{Code, FieldError, Finding, Key, Kind, Segment};
use serde_json::{Map, Value};

use crate::decode::{Limits, Origin, single_document};
use crate::resource::mesh::MeshConfig;
use crate::schema::{Form, Problems, form};
use crate::{check, support};

/// The name of a mesh's one MeshConfig, and of the ConfigMap that may hold it.
pub const MESH_CONFIG_NAME: &str = "istio";

/// The key of a mesh's one MeshConfig.
pub(crate) fn key() -> Key {
    Key::new(Kind::MeshConfig, "", MESH_CONFIG_NAME)
}

/// Reads a bare mesh configuration, or one of the other two forms. What cannot be read has its default, and a finding.
pub fn decode_mesh_config(text: &str) -> (MeshConfig, Vec<Finding>) {
    let origin = Origin::default();
    let value = match single_document(text, &origin) {
        Ok(value) => value,
        Err(finding) => return (MeshConfig::default(), vec![*finding]),
    };
    if value.get("kind").is_some() && value.get("apiVersion").is_some() {
        // The ConfigMap may stand in any namespace here: its author named the file.
        let namespace = value
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
            .unwrap_or("default")
            .to_owned();
        let decoded = crate::decode_value(
            value,
            &Origin {
                root_namespace: &namespace,
                ..origin
            },
        );
        let config = decoded
            .objects
            .into_iter()
            .find_map(|(object, _)| match object.body {
                crate::Body::MeshConfig(config) => Some((*config).clone()),
                _ => None,
            });
        let mut findings = decoded.findings;
        if config.is_none() && findings.is_empty() {
            findings.push(Finding::about_text(
                Code::NotAnObject,
                "this object holds no mesh configuration",
            ));
        }
        return (config.unwrap_or_default(), findings);
    }
    let mut problems = Problems::default();
    let config = form(Kind::MeshConfig).and_then(|form| read(form, &[], value, &mut problems));
    if let Some(config) = &config {
        problems.extend(own_checks(config));
    }
    let refuse = problems.refuse();
    let findings = problems
        .into_errors()
        .into_iter()
        .map(|error| Finding::of(&key(), error))
        .collect();
    (config.filter(|_| !refuse).unwrap_or_default(), findings)
}

fn own_checks(config: &MeshConfig) -> Vec<FieldError> {
    let body = crate::Body::from(config.clone());
    let meta = crate::Meta {
        key: key(),
        created_us: 0,
        labels: Default::default(),
        annotations: Default::default(),
    };
    let strip = |error: FieldError| {
        // Objects keep their settings under `spec`, a bare file does not.
        let rest = error
            .path
            .segments()
            .iter()
            .skip(1)
            .cloned()
            .collect::<Vec<_>>();
        FieldError {
            path: rest.into(),
            ..error
        }
    };
    check::check(&meta, &body)
        .into_iter()
        .chain(support::notes(&body))
        .map(strip)
        .collect()
}

/// Reads what was written over the defaults.
pub(crate) fn read(
    form: &Form,
    at: &[Segment],
    spec: Value,
    problems: &mut Problems,
) -> Option<MeshConfig> {
    let spec = if spec.is_null() {
        Value::Object(Map::new())
    } else {
        spec
    };
    // serde takes every field that is not written from `MeshConfig::default()`, and those of `defaultConfig` from its own: the merge.
    let mut config: MeshConfig = crate::schema::read(form, at, spec, problems)?;
    config.trust_domain_aliases.sort();
    config.trust_domain_aliases.dedup();
    Some(config)
}

/// Reads the ConfigMap `istio`.
pub(crate) fn from_config_map(
    map: &Map<String, Value>,
    problems: &mut Problems,
) -> Option<MeshConfig> {
    let at = |key: &str| vec![Segment::Field("data".into()), Segment::Field(key.into())];
    let data = map.get("data").and_then(Value::as_object);
    let networks = data
        .and_then(|d| d.get("meshNetworks"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !matches!(networks.trim(), "" | "networks: {}" | "{}") {
        problems.push(
            at("meshNetworks"),
            Code::NotSupported,
            "this version does not act on networks of other clusters",
        );
    }
    let Some(text) = data.and_then(|d| d.get("mesh")).and_then(Value::as_str) else {
        problems.push(
            at("mesh"),
            Code::Required,
            "the mesh configuration is expected here, as text",
        );
        return None;
    };
    let limits = Limits::default();
    match single_document(
        text,
        &Origin {
            limits,
            ..Origin::default()
        },
    ) {
        Ok(value) => read(form(Kind::MeshConfig)?, &at("mesh"), value, problems),
        Err(finding) => {
            problems.push(at("mesh"), finding.code, finding.message);
            None
        }
    }
}
