//! `metadata` of an object.

use std::sync::Arc;

use mesh_types::{Code, Key, Kind, Labels, Segment};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Origin;
use crate::check::names;
use crate::mesh_config::{self, MESH_CONFIG_NAME};
use crate::resource::authorization_policy::Action;
use crate::schema::{Problems, describe, nearest};
use crate::{Body, Meta};

/// Annotations that repeat the object or record who wrote it: content for the API server, none for the mesh.
const DROPPED: &[&str] = &["kubectl.kubernetes.io/last-applied-configuration"];

/// Fields that are read.
const READ: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
];

/// Fields that the API server keeps, and that mean nothing here.
const LEFT_ALONE: &[&str] = &[
    "clusterName",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Annotation of an AuthorizationPolicy that is only tried.
const DRY_RUN: &str = "istio.io/dry-run";

/// Annotations that only the plane itself may set.
const INTERNAL: &[&str] = &[
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parent-namespace",
    "internal.istio.io/parents",
];

/// What is wrong with an AuthorizationPolicy that is only tried.
pub(super) fn dry_run(meta: &Meta, body: &Body, problems: &mut Problems) {
    let (Body::AuthorizationPolicy(policy), Some(value)) = (body, meta.annotations.get(DRY_RUN))
    else {
        return;
    };
    let words = [
        "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
    ];
    let (code, message) = match policy.action {
        _ if !words.contains(&value) => (
            Code::Malformed,
            format!("{value:?} is neither true nor false"),
        ),
        Action::Allow | Action::Deny => return,
        Action::Audit | Action::Custom => (
            Code::Conflict,
            "dry run is for the actions ALLOW and DENY; remove it".to_owned(),
        ),
    };
    let at = [path("annotations"), vec![Segment::Field(DRY_RUN.into())]].concat();
    problems.push(at, code, message);
}

/// Reads `metadata`. `None` when there is no usable name.
pub(super) fn read(
    kind: Kind,
    metadata: Option<Value>,
    origin: &Origin<'_>,
    problems: &mut Problems,
) -> Option<Meta> {
    let mut map = match metadata {
        Some(Value::Object(map)) => map,
        None | Some(Value::Null) if kind == Kind::MeshConfig => Map::new(),
        None | Some(Value::Null) => {
            problems.push(path("name"), Code::NotAnObject, "metadata.name must be set");
            return None;
        }
        Some(other) => {
            let message = format!("want fields with names, got {}", describe(&other));
            problems.push(
                vec![Segment::Field("metadata".into())],
                Code::NotAnObject,
                message,
            );
            return None;
        }
    };
    let cluster_wide = matches!(kind, Kind::Namespace | Kind::Node | Kind::MeshConfig);
    let namespace = match map.remove("namespace") {
        _ if cluster_wide => String::new(),
        None | Some(Value::Null) => origin.default_namespace.to_owned(),
        Some(Value::String(name)) if name.is_empty() => origin.default_namespace.to_owned(),
        Some(Value::String(name)) => {
            if !names::is_label(&name) {
                problems.push(path("namespace"), Code::Malformed, names::want_label(&name));
            }
            name
        }
        Some(other) => {
            problems.push(path("namespace"), Code::WrongType, want_text(&other));
            origin.default_namespace.to_owned()
        }
    };
    let name = match map.remove("name") {
        Some(Value::String(name)) if !name.is_empty() => Some(name),
        None | Some(Value::Null) if kind == Kind::MeshConfig => Some(MESH_CONFIG_NAME.to_owned()),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            problems.push(
                path("name"),
                Code::NotAnObject,
                "metadata.name must be text; put it in quotes",
            );
            None
        }
        None | Some(Value::Null | Value::String(_)) => {
            let hint = if map.contains_key("generateName") {
                "; generateName is for the API server alone"
            } else {
                ""
            };
            problems.push(
                path("name"),
                Code::NotAnObject,
                format!("metadata.name must be set{hint}"),
            );
            None
        }
    };
    let labels = texts("labels", map.remove("labels"), problems);
    for (key, value) in labels.iter() {
        if let Err(message) = names::label_pair(key, value) {
            problems.push(
                [path("labels"), vec![Segment::Field(key.into())]].concat(),
                Code::Malformed,
                message,
            );
        }
    }
    let mut annotations = texts("annotations", map.remove("annotations"), problems);
    annotations.0.retain(|key, _| !DROPPED.contains(&&**key));
    for (key, _) in annotations.iter() {
        let at = || [path("annotations"), vec![Segment::Field(key.into())]].concat();
        if INTERNAL.contains(&key) {
            problems.push(
                at(),
                Code::Conflict,
                "only the plane itself sets this annotation; remove it",
            );
        }
        if key == DRY_RUN
            && kind != Kind::AuthorizationPolicy
            && crate::schema::form(kind).is_some()
        {
            problems.push(
                at(),
                Code::Conflict,
                format!("dry run is for AuthorizationPolicy, not for a {kind}; remove it"),
            );
        }
    }
    let created_us =
        created(map.remove("creationTimestamp"), problems).unwrap_or(origin.created_us);
    for field in map
        .keys()
        .filter(|field| !LEFT_ALONE.contains(&field.as_str()))
    {
        let known = READ.iter().chain(LEFT_ALONE).copied();
        let hint = nearest(field, known).map_or("; settings stand under spec".to_owned(), |near| {
            format!("; did you mean {near}?")
        });
        let message = format!("no such field{hint}");
        problems.push(path(field), Code::UnknownField, message);
    }
    let name = name?;
    if !names::is_subdomain(&name) {
        let message = format!(
            "{name:?} is no name; use lower-case letters, digits, - and ., at most 253, letters or digits at both ends"
        );
        problems.push(path("name"), Code::Malformed, message);
    }
    if kind == Kind::MeshConfig {
        if name != MESH_CONFIG_NAME {
            let message = format!("a mesh has one MeshConfig; name it {MESH_CONFIG_NAME}");
            problems.push(path("name"), Code::Malformed, message);
        }
        return Some(Meta {
            key: mesh_config::key(),
            created_us,
            labels,
            annotations,
        });
    }
    Some(Meta {
        key: Key::new(kind, namespace, name),
        created_us,
        labels,
        annotations,
    })
}

fn path(name: &str) -> Vec<Segment> {
    vec![
        Segment::Field("metadata".into()),
        Segment::Field(name.into()),
    ]
}

fn want_text(got: &Value) -> String {
    format!("want text, got {}; put it in quotes", describe(got))
}

fn texts(field: &str, value: Option<Value>, problems: &mut Problems) -> Labels {
    let mut out = Labels::default();
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (key, value) in map {
                let value: Arc<str> = match value {
                    Value::String(text) => text.into(),
                    Value::Null => "".into(),
                    other => {
                        let at = [path(field), vec![Segment::Field(key)]].concat();
                        problems.push(at, Code::WrongType, want_text(&other));
                        continue;
                    }
                };
                out.insert(key, value);
            }
        }
        Some(other) => {
            problems.push(
                path(field),
                Code::WrongType,
                format!("want names with texts, got {}", describe(&other)),
            );
        }
    }
    out
}

fn created(value: Option<Value>, problems: &mut Problems) -> Option<i64> {
    let text = match value? {
        Value::String(text) => text,
        Value::Null => return None,
        other => {
            problems.push(
                path("creationTimestamp"),
                Code::WrongType,
                want_text(&other),
            );
            return None;
        }
    };
    match OffsetDateTime::parse(&text, &Rfc3339) {
        Ok(time) => i64::try_from(time.unix_timestamp_nanos() / 1000).ok(),
        Err(_) => {
            let message = format!("{text:?} is no time; write for example 2024-05-01T12:00:00Z");
            problems.push(path("creationTimestamp"), Code::Malformed, message);
            None
        }
    }
}
