//! A schema in the form that is quick to walk.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a value should look like.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// A message with known fields.
    Object(Fields),
    /// A map from text.
    Map(Box<Shape>),
    /// A list.
    List(Box<Shape>),
    /// One of these names; the position is the number that protobuf gives it.
    Enum(Vec<String>),
    /// A length of time.
    Duration,
    /// Text.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Anything: kept as written.
    Any,
}

/// The fields of a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    /// Fields by their JSON name.
    pub known: BTreeMap<String, Shape>,
    /// Fields that are kept and not acted on.
    pub unused: BTreeMap<&'static str, Unused>,
}

/// Why a field is kept but not acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    /// Its time may come.
    NotYet,
    /// Istio has removed or deprecated it.
    Removed,
    /// It matters to another part (agent, injector, or Pilot, which reads it as written) and not here; worth no word.
    Elsewhere,
}

impl Shape {
    /// The shape that a schema describes.
    pub fn new(schema: &Value) -> Shape {
        if let Some(names) = schema
            .get("x-flotilla-numbers")
            .or(schema.get("enum"))
            .and_then(Value::as_array)
        {
            return Shape::Enum(
                names
                    .iter()
                    .filter_map(Value::as_str)
                    .map(Into::into)
                    .collect(),
            );
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => {
                match (schema.get("properties"), schema.get("additionalProperties")) {
                    (Some(Value::Object(properties)), _) => Shape::Object(Fields {
                        known: properties
                            .iter()
                            .map(|(name, schema)| (name.clone(), Shape::new(schema)))
                            .collect(),
                        unused: BTreeMap::new(),
                    }),
                    (_, Some(values @ Value::Object(_))) => {
                        Shape::Map(Box::new(Shape::new(values)))
                    }
                    _ => Shape::Any,
                }
            }
            Some("array") => {
                Shape::List(Box::new(schema.get("items").map_or(Shape::Any, Shape::new)))
            }
            Some("string") if schema.get("x-flotilla-format").is_some() => Shape::Duration,
            Some("string") => Shape::Text,
            Some("boolean") => Shape::Bool,
            Some("integer") => Shape::Integer,
            Some("number") => Shape::Number,
            _ => Shape::Any,
        }
    }

    /// The fields of the message at a path of field names.
    pub fn fields_mut(&mut self, path: &[&str]) -> Option<&mut Fields> {
        match (self, path) {
            (Shape::Object(fields), []) => Some(fields),
            (Shape::Object(fields), [first, rest @ ..]) => {
                fields.known.get_mut(*first)?.fields_mut(rest)
            }
            _ => None,
        }
    }
}
