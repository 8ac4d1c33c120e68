//! Values in place of wrong ones, so that everything else in an object is read and checked in the same go.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use mesh_types::{Code, FieldError, Segment};
use serde_json::{Value, json};

/// What may stand where a value is wrong: the emptiest value of the type that is wanted.
pub(super) fn for_error(error: &ValidationError<'_>) -> Value {
    match error.kind() {
        ValidationErrorKind::Type {
            kind: TypeKind::Single(want),
        } => match want {
            JsonType::String => json!(""),
            JsonType::Boolean => json!(false),
            JsonType::Integer | JsonType::Number => json!(0),
            JsonType::Array => json!([]),
            JsonType::Object => json!({}),
            JsonType::Null => Value::Null,
        },
        _ => Value::Null,
    }
}

/// Puts a stand-in at a path: a field goes, so that it has its default; an item of a list is replaced, so that the others keep their
/// numbers. Returns whether that changed anything.
pub(crate) fn replace(spec: &mut Value, at: &[Segment], value: Value) -> bool {
    let Some((last, way)) = at.split_last() else {
        return std::mem::replace(spec, value) != *spec;
    };
    let parent = way.iter().try_fold(spec, |value, step| match step {
        Segment::Field(name) => value.get_mut(name),
        Segment::Index(i) => value.get_mut(*i),
    });
    match (parent, last) {
        (Some(Value::Object(map)), Segment::Field(name)) => map.shift_remove(name).is_some(),
        (Some(Value::Array(items)), Segment::Index(i)) => items
            .get_mut(*i)
            .is_some_and(|item| std::mem::replace(item, value) != *item),
        _ => false,
    }
}

/// Whether a check may have found something only because of a stand-in: it concerns the same value, or how fields go together.
pub(super) fn misleads(stand_ins: &[Vec<Segment>], error: &FieldError) -> bool {
    let at = error.path.segments();
    let relation = matches!(error.code, Code::Conflict | Code::NoEffect | Code::Risky);
    stand_ins
        .iter()
        .any(|stand_in| relation || at.starts_with(stand_in) || stand_in.starts_with(at))
}
