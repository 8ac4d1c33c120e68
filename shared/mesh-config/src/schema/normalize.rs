//! One form for what protobuf JSON allows to write in several.

use mesh_types::{Code, Segment};
use serde_json::{Map, Number, Value};

use super::shape::{Fields, Shape, Unused};
use super::{Problems, nearest};
use crate::resource::Duration;

/// Brings a value into the form that its shape has, in place, and reports fields that no one knows.
///
/// Accepted: `snake_case` for `camelCase`, an enum's number for its name, numbers and booleans in quotes where a number or boolean is
/// wanted, YAML 1.1's `yes` and `off`, `null` for "not set". What fits nowhere stays as it is: the schema check that follows names it.
pub(super) fn normalize(value: &mut Value, shape: &Shape, at: &[Segment], problems: &mut Problems) {
    Walk {
        path: at.to_vec(),
        problems,
    }
    .value(value, shape);
}

struct Walk<'a> {
    path: Vec<Segment>,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    fn value(&mut self, value: &mut Value, shape: &Shape) {
        match (shape, &mut *value) {
            (Shape::Object(fields), Value::Object(map)) => self.object(map, fields),
            // A key without value stays, for the schema check to report: without it the map would mean more than its author thinks.
            (Shape::Map(inner), Value::Object(map)) => {
                for (key, item) in map.iter_mut() {
                    self.within(Segment::Field(key.clone()), item, inner);
                }
            }
            (Shape::List(inner), Value::Array(items)) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.within(Segment::Index(i), item, inner);
                }
            }
            (Shape::Enum(names), Value::Number(n)) => {
                let name = n.as_u64().and_then(|n| names.get(usize::try_from(n).ok()?));
                if name.is_none() {
                    let message = format!("{n} is the number of none of {}", names.join(", "));
                    self.replace(Code::UnknownValue, message);
                }
                *value = name.or(names.first()).cloned().into();
            }
            (Shape::Duration, Value::String(text)) if Duration::parse(text).is_none() => {
                let message =
                    format!("{text:?} is no duration; write for example 1.5s, 100ms or 1h");
                self.replace(Code::Malformed, message);
                *value = "0s".into();
            }
            (Shape::Duration, Value::Number(n)) => {
                let message = format!("{n} is no duration; write {n}s if seconds are meant");
                self.replace(Code::Malformed, message);
                *value = "0s".into();
            }
            (Shape::Bool, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => *value = true.into(),
                "false" | "no" | "off" => *value = false.into(),
                _ => {}
            },
            (Shape::Integer, Value::String(text)) => {
                if let Some(n) = integer(text) {
                    *value = Value::Number(n);
                }
            }
            (Shape::Integer, Value::Number(n)) => {
                // 5.0 is 5 in protobuf JSON.
                if let Some(float) = n
                    .as_f64()
                    .filter(|f| n.is_f64() && f.fract() == 0.0 && f.abs() < 9e15)
                {
                    *value = (float as i64).into();
                }
            }
            (Shape::Number, Value::String(text)) => {
                let number = text.parse::<f64>().ok().and_then(Number::from_f64);
                if let Some(n) = number.filter(|_| plain_decimal(text)) {
                    *value = Value::Number(n);
                }
            }
            _ => {}
        }
    }

    /// Reports a value that is about to be replaced, so that the rest can still be read.
    fn replace(&mut self, code: Code, message: String) {
        self.problems.push(self.path.clone(), code, message);
        self.problems.replaced(self.path.clone());
    }

    fn within(&mut self, segment: Segment, value: &mut Value, shape: &Shape) {
        // Leaves that fit already, most of them, cost no path.
        match (shape, &*value) {
            (Shape::Text, Value::String(_)) | (Shape::Bool, Value::Bool(_)) | (Shape::Any, _) => {
                return;
            }
            (Shape::Integer, Value::Number(n)) if !n.is_f64() => return,
            _ => {}
        }
        self.path.push(segment);
        self.value(value, shape);
        self.path.pop();
    }

    fn object(&mut self, map: &mut Map<String, Value>, fields: &Fields) {
        if map
            .iter()
            .any(|(name, value)| value.is_null() || !fields.known.contains_key(name))
        {
            self.rename(map, fields);
        }
        for (name, value) in map.iter_mut() {
            if let Some(shape) = fields.known.get(name) {
                self.within(Segment::Field(name.clone()), value, shape);
            }
        }
    }

    /// Drops unset fields, gives fields their JSON name and reports the others.
    fn rename(&mut self, map: &mut Map<String, Value>, fields: &Fields) {
        for (written, value) in std::mem::take(map) {
            let canonical = camel_case(&written);
            let name = if fields.known.contains_key(&written) {
                &written
            } else {
                &canonical
            };
            let mut path = self.path.clone();
            path.push(Segment::Field(name.clone()));
            if !fields.known.contains_key(name) {
                if let Some(unused) = fields.unused.get(name.as_str()) {
                    self.unused(path, *unused);
                    if !value.is_null() {
                        map.insert(name.clone(), value);
                    }
                } else {
                    path.pop();
                    path.push(Segment::Field(written.clone()));
                    let known = fields
                        .known
                        .keys()
                        .map(String::as_str)
                        .chain(fields.unused.keys().copied());
                    self.problems
                        .push(path, Code::UnknownField, unknown_field(&written, known));
                }
                continue;
            }
            if name != &written {
                self.problems.renamed(path.clone(), written.clone());
            }
            if value.is_null() {
                continue;
            }
            if map.insert(name.clone(), value).is_some() {
                let message = format!("{name} is given twice, in two spellings; keep one");
                self.problems.push(path, Code::Duplicate, message);
            }
        }
    }

    fn unused(&mut self, path: Vec<Segment>, unused: Unused) {
        match unused {
            Unused::NotYet => self.problems.push(
                path,
                Code::NotSupported,
                "this version does not act on the field; it is kept as written",
            ),
            Unused::Removed => self.problems.push(
                path,
                Code::NoEffect,
                "Istio no longer acts on the field, and neither does this plane; remove it",
            ),
            Unused::Elsewhere => {}
        }
    }
}

fn unknown_field<'a>(written: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(close) = nearest(&camel_case(written), known.clone()) {
        return format!("no such field; did you mean {close}?");
    }
    let mut names: Vec<&str> = known.take(13).collect();
    if names.is_empty() {
        return "no such field; nothing can be set here".into();
    }
    names.sort_unstable();
    let more = if names.len() > 12 { ", .." } else { "" };
    names.truncate(12);
    format!("no such field; there are {}{more}", names.join(", "))
}

/// A whole number in decimal, without leading zeros, which mean octal to some readers.
fn integer(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    text.parse::<i64>()
        .map(Number::from)
        .or_else(|_| text.parse::<u64>().map(Number::from))
        .ok()
}

fn plain_decimal(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'))
        && !(text.len() > 1 && text.starts_with('0') && !text.starts_with("0."))
}

/// `http2_max_requests` → `http2MaxRequests`.
pub(super) fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = !out.is_empty();
        } else if upper {
            out.push(c.to_ascii_uppercase());
            upper = false;
        } else {
            out.push(c);
        }
    }
    out
}
