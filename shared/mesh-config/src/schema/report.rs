//! Errors of the schema check in words for people.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use jsonschema::{JsonType, ValidationError};
use mesh_types::{Code, Segment};
use serde_json::Value;

use super::{Problems, nearest};

/// Adds what the schema check found about `spec`. Returns where in it.
pub(super) fn add(
    error: &ValidationError<'_>,
    spec: &Value,
    prefix: &[Segment],
    problems: &mut Problems,
) -> Vec<Segment> {
    let at = instance_path(error, spec);
    let path = [prefix, &at].concat();
    let value = error.instance().as_ref();
    if matches!(error.kind(), ValidationErrorKind::Enum { .. }) && !value.is_string() {
        return at; // said already: the type is wrong
    }
    let (code, message) = match error.kind() {
        ValidationErrorKind::Type { kind } => (Code::WrongType, wrong_type(kind, value)),
        ValidationErrorKind::Enum { options } => unknown_value(options, value),
        ValidationErrorKind::Minimum { limit }
        | ValidationErrorKind::ExclusiveMinimum { limit } => (
            Code::OutOfRange,
            format!("{value} is too small, want at least {limit}"),
        ),
        ValidationErrorKind::Maximum { limit }
        | ValidationErrorKind::ExclusiveMaximum { limit } => (
            Code::OutOfRange,
            format!("{value} is too large, want at most {limit}"),
        ),
        ValidationErrorKind::Required { property } => {
            (Code::Required, format!("{property} must be set"))
        }
        _ => (Code::WrongType, error.to_string()),
    };
    problems.push(path, code, message);
    at
}

/// The steps to the value in question. The document tells whether a number is an index or a key.
fn instance_path(error: &ValidationError<'_>, spec: &Value) -> Vec<Segment> {
    let mut at = Some(spec);
    let mut path = Vec::new();
    for segment in error.instance_path() {
        match (segment, at) {
            (LocationSegment::Index(i), Some(Value::Object(map))) => {
                let key = i.to_string();
                at = map.get(&key);
                path.push(Segment::Field(key));
            }
            (LocationSegment::Index(i), _) => {
                at = at.and_then(|v| v.get(i));
                path.push(Segment::Index(i));
            }
            (LocationSegment::Property(name), _) => {
                at = at.and_then(|v| v.get(name.as_ref()));
                path.push(Segment::Field(name.into_owned()));
            }
        }
    }
    path
}

/// The steps of a path that serde tells.
pub(crate) fn path(path: &serde_path_to_error::Path) -> impl Iterator<Item = Segment> {
    path.iter().filter_map(|segment| match segment {
        serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
        serde_path_to_error::Segment::Map { key } => Some(Segment::Field(key.clone())),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    })
}

fn wrong_type(kind: &TypeKind, value: &Value) -> String {
    let TypeKind::Single(want) = kind else {
        return format!("{} does not fit here", describe(value));
    };
    let (want, hint) = match (want, value) {
        (JsonType::String, Value::Bool(_) | Value::Number(_)) => ("text", "; put it in quotes"),
        (JsonType::String, _) => ("text", ""),
        (JsonType::Boolean, _) => ("true or false", ""),
        (JsonType::Integer, Value::String(s)) if s.starts_with('0') => {
            ("a whole number", "; leave out the leading zero")
        }
        (JsonType::Integer, _) => ("a whole number", ""),
        (JsonType::Number, _) => ("a number", ""),
        (JsonType::Array, Value::Object(_)) => ("a list", "; begin each item with a dash"),
        (JsonType::Array, _) => ("a list", ""),
        (JsonType::Object, Value::Array(_)) => ("fields with names", "; leave out the dash"),
        (JsonType::Object, _) => ("fields with names", ""),
        (JsonType::Null, _) => ("nothing", ""),
    };
    format!("want {want}, got {}{hint}", describe(value))
}

fn unknown_value(options: &Value, value: &Value) -> (Code, String) {
    let names: Vec<&str> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let close = value
        .as_str()
        .and_then(|text| nearest(text, names.iter().copied()));
    let hint = close
        .map(|c| format!("; did you mean {c}?"))
        .unwrap_or_default();
    (
        Code::UnknownValue,
        format!("{} is none of {}{hint}", describe(value), names.join(", ")),
    )
}

/// A value in few words; long texts are cut.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => n.to_string(),
        Value::String(s) if s.chars().count() > 60 => {
            format!("{:?}..", s.chars().take(57).collect::<String>())
        }
        Value::String(s) => format!("{s:?}"),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "fields with names".into(),
    }
}
