//! Messages to JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, ReflectMessage, Value as Proto,
};
use serde_json::{Map, Number, Value};

use crate::reflect::{self, ANY};

/// How deep messages may nest before an `Any` stays closed.
pub(super) const MAX_DEPTH: usize = 100;

/// The message as an object that starts with its type.
pub(super) fn typed(type_url: &str, message: &DynamicMessage, depth: usize) -> Value {
    let mut object = Map::new();
    object.insert("@type".into(), type_url.into());
    if is_special(message.descriptor().full_name()) {
        object.insert("value".into(), self::message(message, depth));
    } else {
        put_fields(message, depth, &mut object);
    }
    Value::Object(object)
}

/// Whether a message has a JSON form other than an object of its fields.
pub(super) fn is_special(full_name: &str) -> bool {
    full_name
        .strip_prefix("google.protobuf.")
        .is_some_and(|name| {
            matches!(
                name,
                "Any"
                    | "Timestamp"
                    | "Duration"
                    | "FieldMask"
                    | "Struct"
                    | "Value"
                    | "ListValue"
                    | "Empty"
            ) || is_wrapper(full_name)
        })
}

/// Whether a message is a scalar in a message, there to tell "unset" from "zero".
pub(super) fn is_wrapper(full_name: &str) -> bool {
    matches!(
        full_name.strip_prefix("google.protobuf."),
        Some(
            "BoolValue"
                | "BytesValue"
                | "DoubleValue"
                | "FloatValue"
                | "Int32Value"
                | "Int64Value"
                | "StringValue"
                | "UInt32Value"
                | "UInt64Value"
        )
    )
}

fn message(message: &DynamicMessage, depth: usize) -> Value {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        ANY => any(message, depth),
        // Out of range they have no text form: then seconds and nanos show what is wrong.
        "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask" => {
            serde_json::to_value(message).unwrap_or_else(|_| fields(message, depth))
        }
        // Its one field is a map or list of values; what a value holds is one of its fields, or nothing.
        "google.protobuf.Struct" => {
            first_field(message, depth).unwrap_or_else(|| Value::Object(Map::new()))
        }
        "google.protobuf.ListValue" => {
            first_field(message, depth).unwrap_or_else(|| Value::Array(Vec::new()))
        }
        "google.protobuf.Value" => first_field(message, depth).unwrap_or(Value::Null),
        name if is_wrapper(name) => match descriptor.get_field(1) {
            Some(field) => scalar(&field.kind(), &message.get_field(&field)),
            None => Value::Null,
        },
        _ => fields(message, depth),
    }
}

fn first_field(message: &DynamicMessage, depth: usize) -> Option<Value> {
    let mut fields = message.fields();
    let (field, value) = fields.next()?;
    Some(any_value(&field, value, depth))
}

fn fields(message: &DynamicMessage, depth: usize) -> Value {
    let mut object = Map::new();
    put_fields(message, depth, &mut object);
    Value::Object(object)
}

fn put_fields(message: &DynamicMessage, depth: usize, object: &mut Map<String, Value>) {
    for (field, value) in message.fields() {
        object.insert(
            field.json_name().to_owned(),
            any_value(&field, value, depth),
        );
    }
}

fn any(any: &DynamicMessage, depth: usize) -> Value {
    let type_url = any.get_field_by_number(1);
    let bytes = any.get_field_by_number(2);
    let type_url = type_url
        .as_deref()
        .and_then(Proto::as_str)
        .unwrap_or_default();
    let bytes = bytes
        .as_deref()
        .and_then(Proto::as_bytes)
        .map(|bytes| bytes.as_ref())
        .unwrap_or_default();
    if type_url.is_empty() && bytes.is_empty() {
        return Value::Object(Map::new());
    }
    let inner = reflect::descriptor(type_url)
        .filter(|_| depth > 0)
        .and_then(|kind| DynamicMessage::decode(kind, bytes).ok());
    match inner {
        Some(inner) => typed(type_url, &inner, depth - 1),
        None => {
            let mut object = Map::new();
            object.insert("@type".into(), type_url.into());
            object.insert("value".into(), BASE64_STANDARD.encode(bytes).into());
            Value::Object(object)
        }
    }
}

fn any_value(field: &FieldDescriptor, value: &Proto, depth: usize) -> Value {
    match value {
        Proto::List(items) => items
            .iter()
            .map(|item| one(&field.kind(), item, depth))
            .collect(),
        Proto::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return Value::Null;
            };
            let kind = entry.map_entry_value_field().kind();
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
            sorted
                .into_iter()
                .map(|(key, value)| (map_key(key), one(&kind, value, depth)))
                .collect()
        }
        single => one(&field.kind(), single, depth),
    }
}

fn one(kind: &Kind, value: &Proto, depth: usize) -> Value {
    match value {
        Proto::Message(inner) => message(inner, depth.saturating_sub(1)),
        scalar_value => scalar(kind, scalar_value),
    }
}

fn map_key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn scalar(kind: &Kind, value: &Proto) -> Value {
    match value {
        Proto::Bool(value) => (*value).into(),
        Proto::I32(value) => (*value).into(),
        Proto::U32(value) => (*value).into(),
        Proto::I64(value) => value.to_string().into(),
        Proto::U64(value) => value.to_string().into(),
        // The shortest text of the float, not the digits of the double it would widen to.
        Proto::F32(value) => value.to_string().parse().map_or(Value::Null, float),
        Proto::F64(value) => float(*value),
        Proto::String(value) => value.clone().into(),
        Proto::Bytes(value) => BASE64_STANDARD.encode(value).into(),
        Proto::EnumNumber(number) => match kind {
            Kind::Enum(names) => enum_value(names, *number),
            _ => (*number).into(),
        },
        // Never inside a scalar.
        Proto::Message(_) | Proto::List(_) | Proto::Map(_) => Value::Null,
    }
}

fn enum_value(names: &EnumDescriptor, number: i32) -> Value {
    match names.get_value(number) {
        Some(_) if names.full_name() == "google.protobuf.NullValue" => Value::Null,
        Some(value) => value.name().into(),
        None => number.into(),
    }
}

/// A whole number without a fraction, as everyone writes it.
fn float(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53, up to which doubles hold every integer
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return (value as i64).into();
    }
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}
