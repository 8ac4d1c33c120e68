//! JSON to messages, strictly.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    Value as Proto,
};
use serde_json::{Map, Value};

use super::print::{is_special, is_wrapper};
use super::{JsonError, JsonErrors, JsonReason};
use crate::reflect::{self, ANY};

/// How deep lists and objects may nest; deeper than what Envoy's own parser takes.
const MAX_DEPTH: usize = 100;

/// The message a JSON object with `@type` stands for, and its type URL.
pub(super) fn typed(value: &Value) -> Result<(String, DynamicMessage), JsonErrors> {
    let mut parser = Parser::default();
    // Checked once up front: everything below recurses.
    if deeper_than(value, MAX_DEPTH) {
        parser.report(JsonReason::TooDeep(MAX_DEPTH));
    } else if let Some(message) = parser.typed(value)
        && parser.errors.is_empty()
    {
        return Ok(message);
    }
    Err(JsonErrors(parser.errors))
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return value.is_array() || value.is_object();
    };
    match value {
        Value::Array(items) => items.iter().any(|item| deeper_than(item, below)),
        Value::Object(entries) => entries.values().any(|entry| deeper_than(entry, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Where we are, and what was found so far. A value that is wrong is reported and left out.
#[derive(Default)]
struct Parser {
    path: Vec<Step>,
    errors: Vec<JsonError>,
}

enum Step {
    Field(String),
    Key(String),
    Index(usize),
}

impl Parser {
    fn report(&mut self, reason: JsonReason) {
        if self.errors.len() < JsonErrors::MAX {
            self.errors.push(JsonError {
                path: self.path(),
                reason,
            });
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Key(key) => path.push_str(&format!("[{key:?}]")),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        if path.is_empty() {
            path.push('.');
        }
        path
    }

    fn at<T>(&mut self, step: Step, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let value = read(self);
        self.path.pop();
        value
    }

    fn unexpected<T>(&mut self, got: &Value, want: &'static str) -> Option<T> {
        self.report(JsonReason::Unexpected {
            got: shown(got),
            want,
        });
        None
    }

    fn object<'a>(&mut self, value: &'a Value) -> Option<&'a Map<String, Value>> {
        match value {
            Value::Object(object) => Some(object),
            _ => self.unexpected(value, "an object"),
        }
    }

    fn typed(&mut self, value: &Value) -> Option<(String, DynamicMessage)> {
        let object = self.object(value)?;
        let (type_url, kind) = self.at(Step::Field("@type".into()), |parser| {
            match object.get("@type") {
                Some(Value::String(url)) => {
                    match reflect::descriptor(url).filter(|_| url.contains('/')) {
                        Some(kind) => Some((url.clone(), kind)),
                        None => {
                            parser.report(JsonReason::UnknownType(url.clone()));
                            None
                        }
                    }
                }
                Some(other) => parser.unexpected(other, "a type URL"),
                None => parser.unexpected(&Value::Null, "a type URL"),
            }
        })?;
        let message = if is_special(kind.full_name()) {
            for key in object
                .keys()
                .filter(|key| !matches!(key.as_str(), "@type" | "value"))
            {
                self.unknown_field(key, &kind);
            }
            let inner = object.get("value").unwrap_or(&Value::Null);
            self.at(Step::Field("value".into()), |parser| {
                parser.message(kind, inner)
            })
        } else {
            Some(self.fields(kind, object, true))
        };
        Some((type_url, message?))
    }

    fn unknown_field(&mut self, name: &str, kind: &MessageDescriptor) {
        let message = kind.full_name().to_owned();
        self.at(Step::Field(name.to_owned()), |parser| {
            parser.report(JsonReason::UnknownField { message })
        });
    }

    fn message(&mut self, kind: MessageDescriptor, value: &Value) -> Option<DynamicMessage> {
        let name = kind.full_name();
        if name == ANY {
            return self.any(kind, value);
        }
        if is_wrapper(name) {
            let field = kind.get_field(1)?;
            let inner = self.scalar(&field.kind(), value)?;
            let mut message = DynamicMessage::new(kind);
            message.set_field(&field, inner);
            return Some(message);
        }
        if is_special(name) {
            return self.special(kind, value);
        }
        let object = self.object(value)?;
        Some(self.fields(kind, object, false))
    }

    /// Times, structs and whatever else `prost_reflect` reads as well as we could.
    fn special(&mut self, kind: MessageDescriptor, value: &Value) -> Option<DynamicMessage> {
        let want = match kind.name() {
            "Duration" => Some("a duration in seconds, such as \"1.5s\""),
            "Timestamp" => Some("a time such as \"2026-01-31T12:00:00Z\""),
            "FieldMask" => Some("field names such as \"user,address.city\""),
            _ => None,
        };
        match (DynamicMessage::deserialize(kind, value), want) {
            (Ok(message), _) => Some(message),
            (Err(_), Some(want)) => self.unexpected(value, want),
            (Err(error), None) => {
                self.report(JsonReason::Malformed(error.to_string()));
                None
            }
        }
    }

    fn any(&mut self, kind: MessageDescriptor, value: &Value) -> Option<DynamicMessage> {
        let mut any = DynamicMessage::new(kind);
        if self.object(value)?.is_empty() {
            return Some(any);
        }
        let (type_url, inner) = self.typed(value)?;
        any.try_set_field_by_number(1, Proto::String(type_url))
            .ok()?;
        any.try_set_field_by_number(2, Proto::Bytes(reflect::encode(&inner).into()))
            .ok()?;
        Some(any)
    }

    /// `in_any`: the object holds `@type` beside the fields.
    fn fields(
        &mut self,
        kind: MessageDescriptor,
        object: &Map<String, Value>,
        in_any: bool,
    ) -> DynamicMessage {
        let mut message = DynamicMessage::new(kind.clone());
        let mut seen = BTreeSet::new();
        let mut groups: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in object {
            if in_any && name == "@type" {
                continue;
            }
            let Some(field) = kind
                .get_field_by_json_name(name)
                .or_else(|| kind.get_field_by_name(name))
            else {
                self.unknown_field(name, &kind);
                continue;
            };
            self.path.push(Step::Field(name.clone()));
            if !seen.insert(field.number()) {
                self.report(JsonReason::Twice);
            } else if let Some(parsed) = self.field(&field, value) {
                let other = field
                    .containing_oneof()
                    .and_then(|group| groups.insert(group.name().to_owned(), name));
                match other {
                    Some(other) => self.report(JsonReason::Excludes(other.to_owned())),
                    None => message.set_field(&field, parsed),
                }
            }
            self.path.pop();
        }
        message
    }

    /// The field's value; `None` when it is `null`, which means unset, or wrong.
    fn field(&mut self, field: &FieldDescriptor, value: &Value) -> Option<Proto> {
        let kind = field.kind();
        if value.is_null() && !takes_null(field) {
            return None;
        }
        if field.is_map() {
            let entry = kind.as_message()?;
            return self.map(
                &entry.map_entry_key_field().kind(),
                &entry.map_entry_value_field().kind(),
                value,
            );
        }
        if !field.is_list() {
            return self.one(&kind, value);
        }
        let Value::Array(items) = value else {
            return self.unexpected(value, "a list");
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            list.extend(self.at(Step::Index(index), |parser| parser.one(&kind, item)));
        }
        Some(Proto::List(list))
    }

    fn map(&mut self, key_kind: &Kind, value_kind: &Kind, value: &Value) -> Option<Proto> {
        let mut entries: HashMap<MapKey, Proto> = HashMap::new();
        for (key, value) in self.object(value)? {
            self.path.push(Step::Key(key.clone()));
            let parsed_key = map_key(key_kind, key);
            if parsed_key.is_none() {
                self.unexpected::<()>(&Value::String(key.clone()), "a key of the map's type");
            }
            let parsed = self.one(value_kind, value);
            if let (Some(key), Some(value)) = (parsed_key, parsed) {
                entries.insert(key, value);
            }
            self.path.pop();
        }
        Some(Proto::Map(entries))
    }

    fn one(&mut self, kind: &Kind, value: &Value) -> Option<Proto> {
        match kind {
            Kind::Message(kind) => self.message(kind.clone(), value).map(Proto::Message),
            Kind::Enum(names) => self.enum_value(names, value),
            scalar => self.scalar(scalar, value),
        }
    }

    fn enum_value(&mut self, names: &EnumDescriptor, value: &Value) -> Option<Proto> {
        let number = match value {
            Value::Null if names.full_name() == NULL => 0,
            Value::String(name) => match names.get_value_by_name(name) {
                Some(value) => value.number(),
                None => {
                    let kind = names.full_name().to_owned();
                    self.report(JsonReason::UnknownEnumValue {
                        name: name.clone(),
                        kind,
                    });
                    return None;
                }
            },
            other => match integer(other).and_then(|number| i32::try_from(number).ok()) {
                Some(number) => number,
                None => return self.unexpected(other, "the name of an enum value, or its number"),
            },
        };
        Some(Proto::EnumNumber(number))
    }

    fn scalar(&mut self, kind: &Kind, value: &Value) -> Option<Proto> {
        let (parsed, want) = match kind {
            Kind::Bool => (value.as_bool().map(Proto::Bool), "true or false"),
            Kind::String => (
                value.as_str().map(|text| Proto::String(text.to_owned())),
                "a string",
            ),
            Kind::Bytes => (
                value.as_str().and_then(base64).map(Proto::Bytes),
                "bytes in base64",
            ),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (
                integer(value)
                    .and_then(|n| n.try_into().ok())
                    .map(Proto::I32),
                "a 32-bit integer",
            ),
            Kind::Uint32 | Kind::Fixed32 => (
                integer(value)
                    .and_then(|n| n.try_into().ok())
                    .map(Proto::U32),
                "a 32-bit integer of 0 or more",
            ),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (
                integer(value)
                    .and_then(|n| n.try_into().ok())
                    .map(Proto::I64),
                "a 64-bit integer",
            ),
            Kind::Uint64 | Kind::Fixed64 => (
                integer(value)
                    .and_then(|n| n.try_into().ok())
                    .map(Proto::U64),
                "a 64-bit integer of 0 or more",
            ),
            Kind::Float => (
                float(value).and_then(narrow).map(Proto::F32),
                "a number in the range of a float",
            ),
            Kind::Double => (float(value).map(Proto::F64), "a number"),
            // Messages and enums never come here.
            Kind::Message(_) | Kind::Enum(_) => (None, "a scalar"),
        };
        match parsed {
            Some(parsed) => Some(parsed),
            None => self.unexpected(value, want),
        }
    }
}

const NULL: &str = "google.protobuf.NullValue";

/// Whether `null` is a value of the field, rather than its absence.
fn takes_null(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(kind) => {
            !field.is_list() && !field.is_map() && kind.full_name() == "google.protobuf.Value"
        }
        Kind::Enum(names) => names.full_name() == NULL,
        _ => false,
    }
}

fn map_key(kind: &Kind, key: &str) -> Option<MapKey> {
    match kind {
        Kind::String => Some(MapKey::String(key.to_owned())),
        Kind::Bool => key.parse().ok().map(MapKey::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => key.parse().ok().map(MapKey::I32),
        Kind::Uint32 | Kind::Fixed32 => key.parse().ok().map(MapKey::U32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => key.parse().ok().map(MapKey::I64),
        Kind::Uint64 | Kind::Fixed64 => key.parse().ok().map(MapKey::U64),
        Kind::Float | Kind::Double | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => None,
    }
}

/// An integer as a number or, as 64-bit ones are written, a string; `1.0` and `1e3` are integers too.
fn integer(value: &Value) -> Option<i128> {
    let whole =
        |number: f64| (number.fract() == 0.0 && number.abs() < 1e19).then_some(number as i128);
    match value {
        Value::Number(number) => match number.as_i128() {
            Some(integer) => Some(integer),
            None => number.as_f64().and_then(whole),
        },
        Value::String(text) => text
            .parse()
            .ok()
            .or_else(|| text.parse().ok().and_then(whole)),
        _ => None,
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => None,
    }
}

fn narrow(number: f64) -> Option<f32> {
    let narrow = number as f32;
    (narrow.is_finite() || !number.is_finite()).then_some(narrow)
}

/// Standard or URL-safe alphabet, with or without padding.
fn base64(text: &str) -> Option<Bytes> {
    const ANY_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    GeneralPurpose::new(alphabet, ANY_PADDING)
        .decode(text)
        .ok()
        .map(Bytes::from)
}

/// A value in an error: its text when short, else its kind.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Null => "nothing".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::String(text) if text.len() > LONGEST => "a long string".into(),
        short => short.to_string(),
    }
}
