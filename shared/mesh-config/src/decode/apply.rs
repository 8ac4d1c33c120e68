//! A document to the objects it holds.

use mesh_types::{Code, FieldError, FieldPath, Finding, Kind, Level, Segment};
use serde_json::{Map, Value};

use super::metadata;
use super::{Decoded, Origin, Place};
use crate::mesh_config::{self, MESH_CONFIG_NAME};
use crate::schema::{Problems, form, nearest, path_of, read, replace};
use crate::support::{self, OtherKind};
use crate::{Body, Meta, Object, check};

/// Adds what a document holds.
pub(super) fn document(value: Value, place: Place, origin: &Origin<'_>, out: &mut Decoded) {
    Documents { place, origin, out }.add(value, None, 0);
}

struct Documents<'a> {
    place: Place,
    origin: &'a Origin<'a>,
    out: &'a mut Decoded,
}

/// `apiVersion` and `kind` as written.
#[derive(Clone)]
struct Type {
    api_version: String,
    kind: String,
}

impl Type {
    fn group(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or("", |(group, _)| group)
    }

    fn version(&self) -> &str {
        self.api_version
            .split_once('/')
            .map_or(&self.api_version, |(_, version)| version)
    }
}

/// Most lists within lists.
const LISTS: usize = 4;

impl Documents<'_> {
    fn add(&mut self, value: Value, inherited: Option<&Type>, depth: usize) {
        let mut map = match value {
            Value::Null if inherited.is_none() => return,
            Value::Object(map) => map,
            other => {
                let got = crate::schema::describe(&other);
                return self.refuse(
                    Code::NotAnObject,
                    format!("want an object with apiVersion and kind, got {got}"),
                );
            }
        };
        let Some(written) = self.take_type(&mut map, inherited) else {
            return;
        };
        if let Some(item_kind) = written.kind.strip_suffix("List")
            && (map.contains_key("items") || item_kind.is_empty())
        {
            if depth == LISTS {
                return self.refuse(
                    Code::TooLarge,
                    format!("more than {LISTS} lists within lists"),
                );
            }
            let items = match map.remove("items") {
                Some(Value::Array(items)) => items,
                None | Some(Value::Null) => Vec::new(),
                Some(_) => {
                    return self.refuse(Code::NotAnObject, "items of a list must be a list".into());
                }
            };
            // Items of a typed list (`ServiceList`) may leave out what the list says.
            let item = Type {
                kind: item_kind.into(),
                ..written.clone()
            };
            let item = (!item_kind.is_empty()).then_some(&item);
            items
                .into_iter()
                .for_each(|value| self.add(value, item, depth + 1));
            return;
        }
        self.object(map, &written);
    }

    fn take_type(
        &mut self,
        map: &mut Map<String, Value>,
        inherited: Option<&Type>,
    ) -> Option<Type> {
        let mut take = |name: &str, inherited: Option<&String>| match map.remove(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            None | Some(Value::Null) => inherited.cloned(),
            Some(_) => None,
        };
        let api_version = take("apiVersion", inherited.map(|t| &t.api_version));
        let kind = take("kind", inherited.map(|t| &t.kind));
        match (api_version, kind) {
            (Some(api_version), Some(kind)) => Some(Type { api_version, kind }),
            (api_version, kind) => {
                let missing = match (api_version, kind) {
                    (None, None) => "apiVersion and kind".to_owned(),
                    (None, Some(kind)) => format!("apiVersion of this {kind}"),
                    (Some(_), _) => "kind".to_owned(),
                };
                let hint = if ["defaultConfig", "trustDomain", "rootNamespace"]
                    .iter()
                    .any(|f| map.contains_key(*f))
                {
                    "; a bare mesh configuration is given with --mesh-config, or as apiVersion mesh.istio.io/v1alpha1, kind MeshConfig"
                } else {
                    ""
                };
                self.refuse(Code::NotAnObject, format!("{missing} must be set{hint}"));
                None
            }
        }
    }

    fn object(&mut self, mut map: Map<String, Value>, written: &Type) {
        let size = size(&map);
        let metadata = map.remove("metadata");
        let Some(kind) = self.known_kind(written, metadata.as_ref()) else {
            return;
        };
        let mut problems = Problems::default();
        let meta = metadata::read(kind, metadata, self.origin, &mut problems);
        if size > self.origin.limits.object {
            let message = format!(
                "the object has about {size} bytes, at most {} are taken",
                self.origin.limits.object
            );
            return self.findings(
                kind,
                meta.as_ref(),
                vec![FieldError::new(FieldPath::root(), Code::TooLarge, message)],
            );
        }
        let versions = versions(kind);
        if !versions.contains(&written.version()) {
            let message = format!(
                "{} is not a version of {kind} that is read; write {}",
                written.api_version,
                names(kind)
            );
            problems.push(
                vec![Segment::Field("apiVersion".into())],
                Code::UnknownVersion,
                message,
            );
        }
        let mut meta = meta;
        let body = self.body(kind, &mut meta, map, &mut problems);
        if let (Some(meta), Some(body)) = (&meta, &body) {
            metadata::dry_run(meta, body, &mut problems);
            let errors = check::check(meta, body);
            problems.extend(errors);
            problems.extend(support::notes(body));
        }
        let refuse = problems.refuse();
        let errors = problems.into_errors();
        self.findings(kind, meta.as_ref(), errors);
        if let (Some(meta), Some(body), false) = (meta, body, refuse) {
            self.out.objects.push((Object::new(meta, body), self.place));
        }
    }

    fn body(
        &mut self,
        kind: Kind,
        meta: &mut Option<Meta>,
        mut map: Map<String, Value>,
        problems: &mut Problems,
    ) -> Option<Body> {
        if kind == Kind::ConfigMap
            && let Some(meta) = meta
            && &*meta.key.name == MESH_CONFIG_NAME
            && *meta.key.namespace == *self.origin.root_namespace
        {
            meta.key = mesh_config::key();
            return mesh_config::from_config_map(&map, problems).map(Body::from);
        }
        let Some(form) = form(kind) else {
            let mut value = Value::Object(map);
            drop_nulls(&mut value);
            return platform(kind, value, problems);
        };
        let spec = match map.remove("spec") {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(spec) => spec,
        };
        map.remove("status");
        for name in map.keys() {
            let close = nearest(name, ["spec", "metadata"].into_iter());
            let hint = close.map_or("; settings stand under spec".to_owned(), |c| {
                format!("; did you mean {c}?")
            });
            problems.push(
                vec![Segment::Field(name.clone())],
                Code::UnknownField,
                format!("no such field{hint}"),
            );
        }
        let at = [Segment::Field("spec".into())];
        macro_rules! read {
            ($type:ty) => {
                read::<$type>(form, &at, spec, problems).map(Body::from)
            };
        }
        match kind {
            Kind::VirtualService => read!(crate::resource::virtual_service::VirtualService),
            Kind::DestinationRule => read!(crate::resource::destination_rule::DestinationRule),
            Kind::Gateway => read!(crate::resource::gateway::Gateway),
            Kind::ServiceEntry => read!(crate::resource::service_entry::ServiceEntry),
            Kind::WorkloadEntry => read!(crate::resource::service_entry::WorkloadEntry),
            Kind::Sidecar => read!(crate::resource::sidecar::Sidecar),
            Kind::PeerAuthentication => {
                read!(crate::resource::peer_authentication::PeerAuthentication)
            }
            Kind::RequestAuthentication => {
                read!(crate::resource::request_authentication::RequestAuthentication)
            }
            Kind::AuthorizationPolicy => {
                read!(crate::resource::authorization_policy::AuthorizationPolicy)
            }
            Kind::MeshConfig => mesh_config::read(form, &at, spec, problems).map(Body::from),
            Kind::Namespace
            | Kind::Node
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Pod
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::MeshService
            | Kind::MeshEndpoints
            | Kind::MeshWorkload
            | Kind::MeshTrust
            | Kind::MeshJwks => None,
        }
    }

    /// The kind, if it is one of those that are written by people.
    fn known_kind(&mut self, written: &Type, metadata: Option<&Value>) -> Option<Kind> {
        let group = written.group();
        let kind =
            Kind::parse(&written.kind).filter(|k| k.group() == group && !versions(*k).is_empty());
        if kind.is_some() {
            return kind;
        }
        let name = |field: &str| {
            metadata
                .and_then(|m| m.get(field))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let who = [name("namespace"), name("name")]
            .into_iter()
            .filter(|p| !p.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        let what = format!("{} {who} ({})", written.kind, written.api_version);
        let mut finding = match support::other_kind(group, &written.kind) {
            OtherKind::NotYet => Finding::about_text(
                Code::NotSupported,
                format!("{what} has no effect: this version does not act on its kind"),
            ),
            OtherKind::Kubernetes => {
                let mut finding = Finding::about_text(
                    Code::UnknownKind,
                    format!("{what} is not for the mesh; left alone"),
                );
                finding.level = Level::Info;
                finding
            }
            OtherKind::Unknown => {
                let written_by_people = Kind::ALL.into_iter().filter(|k| !versions(*k).is_empty());
                let same = written_by_people
                    .clone()
                    .find(|k| k.as_str() == written.kind);
                let near = nearest(&written.kind, written_by_people.map(Kind::as_str));
                let (hint, mistyped) = match (same, near) {
                    (Some(kind), _) => (
                        format!("; did you mean apiVersion {}?", names(kind)),
                        support::mistyped_group(kind.group(), group),
                    ),
                    (None, Some(near)) => (
                        format!("; did you mean kind {near}?"),
                        support::is_mesh_group(group),
                    ),
                    (None, None) => (String::new(), false),
                };
                let mut finding = Finding::about_text(
                    Code::UnknownKind,
                    format!("{what} is left alone: nothing here reads its kind{hint}"),
                );
                if mistyped {
                    // Nobody else can mean it. An object that was in force before it was mistyped stays.
                    finding.level = Level::Error;
                }
                finding
            }
        };
        finding = finding.at(self.origin.file, self.place.line);
        self.out.findings.push(finding);
        None
    }

    fn refuse(&mut self, code: Code, message: String) {
        self.out
            .findings
            .push(Finding::about_text(code, message).at(self.origin.file, self.place.line));
    }

    fn findings(&mut self, kind: Kind, meta: Option<&Meta>, errors: Vec<FieldError>) {
        let place = self.place;
        let file = self.origin.file;
        self.out.findings.extend(errors.into_iter().map(|error| {
            let finding = match meta {
                Some(meta) => Finding::of(&meta.key, error),
                None => Finding {
                    message: format!("{} (in a {kind})", error.message),
                    path: error.path,
                    ..Finding::about_text(error.code, "")
                },
            };
            finding.at(file, place.line)
        }));
    }
}

/// The versions of a kind that are read; none for kinds that only the plane itself writes.
pub(crate) fn versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::VirtualService
        | Kind::DestinationRule
        | Kind::Gateway
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::Sidecar => &["v1", "v1beta1", "v1alpha3"],
        Kind::PeerAuthentication | Kind::RequestAuthentication | Kind::AuthorizationPolicy => {
            &["v1", "v1beta1"]
        }
        Kind::EndpointSlice => &["v1", "v1beta1"],
        Kind::Namespace
        | Kind::Node
        | Kind::Service
        | Kind::Pod
        | Kind::Secret
        | Kind::ConfigMap => &["v1"],
        Kind::MeshConfig => &["v1alpha1"],
        Kind::MeshService
        | Kind::MeshEndpoints
        | Kind::MeshWorkload
        | Kind::MeshTrust
        | Kind::MeshJwks => &[],
    }
}

/// `networking.istio.io/v1, networking.istio.io/v1beta1 or ..`.
fn names(kind: Kind) -> String {
    let group = if kind.group().is_empty() {
        String::new()
    } else {
        format!("{}/", kind.group())
    };
    let names: Vec<String> = versions(kind)
        .iter()
        .map(|v| format!("{group}{v}"))
        .collect();
    names.join(" or ")
}

/// Most wrong values of one Kubernetes object that are told.
const TOLD: usize = 100;

/// A Kubernetes object. serde stops at the first wrong value: it is told, left out, and the rest is read again.
fn platform(kind: Kind, mut value: Value, problems: &mut Problems) -> Option<Body> {
    for _ in 0..=TOLD {
        match Body::from_json_tracked(kind, &value) {
            Ok(body) => return Some(body),
            Err(error) => {
                let at: Vec<Segment> = path_of(error.path()).collect();
                let changed = replace(&mut value, &at, Value::Object(Map::new()));
                problems.push(at.clone(), Code::WrongType, error.inner().to_string());
                if !changed {
                    break;
                }
                problems.replaced(at);
            }
        }
    }
    None
}

/// Kubernetes reads `null` as "not set".
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// About how many bytes the content has.
fn size(map: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => items.iter().map(|i| of(i) + 1).sum::<usize>() + 2,
            Value::Object(map) => size(map),
            Value::Null | Value::Bool(_) | Value::Number(_) => 5,
        }
    }
    map.iter()
        .map(|(key, value)| key.len() + of(value) + 4)
        .sum()
}
