//! The form of each resource: JSON Schemas made from the types, and the reader that goes by them.
//!
//! A spec goes through three steps, and problems of all of them are gathered: [`normalize`] turns the liberties of protobuf JSON (snake
//! case, numbers of enums, numbers in quotes, `null`) into one form and reports unknown fields; the JSON Schema check reports wrong
//! types, names and ranges; then serde builds the type. What is reported has a stand-in from then on, so that the rest is read, too.

mod generate;
mod nearest;
mod normalize;
mod report;
mod shape;
mod stand_in;

use std::sync::LazyLock;

use mesh_types::{Code, FieldError, FieldPath, Kind, Segment};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::resource::authorization_policy::AuthorizationPolicy;
use crate::resource::destination_rule::DestinationRule;
use crate::resource::gateway::Gateway;
use crate::resource::mesh::MeshConfig;
use crate::resource::peer_authentication::PeerAuthentication;
use crate::resource::request_authentication::RequestAuthentication;
use crate::resource::service_entry::{ServiceEntry, WorkloadEntry};
use crate::resource::sidecar::Sidecar;
use crate::resource::virtual_service::VirtualService;
use crate::support;
pub(crate) use nearest::nearest;
pub(crate) use report::{describe, path as path_of};
pub(crate) use shape::{Shape, Unused};
pub(crate) use stand_in::replace;

/// The form of one kind's spec.
pub(crate) struct Form {
    /// JSON Schema (OpenAPI 3 dialect, inline).
    pub json: Value,
    shape: Shape,
    validator: jsonschema::Validator,
}

impl Form {
    fn new<T: JsonSchema>() -> Form {
        let json = generate::schema::<T>();
        let shape = Shape::new(&json);
        // The schema comes from our own types; a test builds every one of them.
        let validator =
            jsonschema::validator_for(&json).expect("schemas of our own types are valid");
        Form {
            json,
            shape,
            validator,
        }
    }
}

/// The forms of all kinds that have a schema.
pub(crate) fn form(kind: Kind) -> Option<&'static Form> {
    macro_rules! forms {
        ($($kind:ident),*) => {
            match kind {
                $(Kind::$kind => {
                    static FORM: LazyLock<Form> = LazyLock::new(Form::new::<$kind>);
                    Some(&*FORM)
                })*
                Kind::MeshConfig => {
                    static FORM: LazyLock<Form> = LazyLock::new(|| {
                        let mut form = Form::new::<MeshConfig>();
                        support::add_unused_mesh_fields(&mut form.shape);
                        form
                    });
                    Some(&*FORM)
                }
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
        };
    }
    forms!(
        VirtualService,
        DestinationRule,
        Gateway,
        ServiceEntry,
        WorkloadEntry,
        Sidecar,
        PeerAuthentication,
        RequestAuthentication,
        AuthorizationPolicy
    )
}

/// What reading a spec found, with paths as its author wrote them.
#[derive(Default)]
pub(crate) struct Problems {
    errors: Vec<FieldError>,
    renames: Vec<(Vec<Segment>, String)>,
    /// Where something stands that nobody wrote, in place of what was reported.
    stand_ins: Vec<Vec<Segment>>,
}

impl Problems {
    /// Adds a problem at a path in canonical spelling.
    pub fn push(&mut self, path: Vec<Segment>, code: Code, message: impl Into<String>) {
        self.errors
            .push(FieldError::new(FieldPath::from(path), code, message));
    }

    /// Adds what the checks of a spec found, with paths in canonical spelling, but for what they may say because of a stand-in.
    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        let written = errors
            .into_iter()
            .filter(|error| !stand_in::misleads(&self.stand_ins, error));
        self.errors.extend(written);
    }

    /// From now on something stands at this path that nobody wrote.
    pub fn replaced(&mut self, at: Vec<Segment>) {
        self.stand_ins.push(at);
    }

    /// Whether something was found that refuses the object.
    pub fn refuse(&self) -> bool {
        self.errors
            .iter()
            .any(|e| e.code.level() == mesh_types::Level::Error)
    }

    fn renamed(&mut self, canonical: Vec<Segment>, written: String) {
        self.renames.push((canonical, written));
    }

    /// Every problem, in the order of the text's own spelling, each once.
    pub fn into_errors(self) -> Vec<FieldError> {
        let renames = self.renames;
        let mut errors: Vec<FieldError> = Vec::with_capacity(self.errors.len());
        for mut error in self.errors {
            if !renames.is_empty() {
                error.path = as_written(&error.path, &renames);
            }
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        errors
    }
}

fn as_written(path: &FieldPath, renames: &[(Vec<Segment>, String)]) -> FieldPath {
    let segments = path.segments();
    let written = segments.iter().enumerate().map(|(i, segment)| {
        let renamed = renames
            .iter()
            .find(|(canonical, _)| canonical[..] == segments[..=i]);
        renamed.map_or_else(
            || segment.clone(),
            |(_, written)| Segment::Field(written.clone()),
        )
    });
    FieldPath::from(written.collect::<Vec<_>>())
}

/// Reads a spec. `None` means that the problems say why not; with problems a value may still come back, so that the meaning can be
/// checked in the same go.
pub(crate) fn read<T: DeserializeOwned>(
    form: &Form,
    prefix: &[Segment],
    mut spec: Value,
    problems: &mut Problems,
) -> Option<T> {
    normalize::normalize(&mut spec, &form.shape, prefix, problems);
    if !form.validator.is_valid(&spec) {
        let mut wrong = Vec::new();
        for error in form.validator.iter_errors(&spec) {
            let at = report::add(&error, &spec, prefix, problems);
            wrong.push((at, stand_in::for_error(&error)));
        }
        for (at, value) in wrong {
            replace(&mut spec, &at, value);
            problems.replaced([prefix, &at].concat());
        }
    }
    match serde_path_to_error::deserialize(spec) {
        Ok(typed) => Some(typed),
        Err(error) => {
            if !problems.refuse() {
                let path = prefix
                    .iter()
                    .cloned()
                    .chain(report::path(error.path()))
                    .collect();
                problems.push(path, Code::WrongType, error.inner().to_string());
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;
