//! JSON Schemas made from the resource types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The schema of a type, without references, `null`, or defaults: structural in the sense of Kubernetes but for members named
/// `x-flotilla-..`.
pub(super) fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    tidy(&mut schema);
    schema
}

fn tidy(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    for drop in ["title", "default", "nullable", "$schema"] {
        map.shift_remove(drop);
    }
    if let Some(Value::Array(choices)) = map.shift_remove("anyOf") {
        // `Option<enum>`: the type, or null. Null is handled before the schema is asked.
        let inner = choices
            .into_iter()
            .find(|c| c.get("nullable").is_none())
            .unwrap_or_default();
        if let Value::Object(inner) = inner {
            for (key, value) in inner {
                map.entry(key).or_insert(value);
            }
        }
    }
    if let Some(Value::Array(variants)) = map.shift_remove("oneOf") {
        // An enum with documented variants.
        let names: Vec<Value> = variants
            .iter()
            .filter_map(|v| v.get("enum")?.as_array())
            .flatten()
            .cloned()
            .collect();
        map.insert("type".into(), "string".into());
        map.insert("enum".into(), names.into());
    }
    limits(map);
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            tidy(inner);
        }
    }
}

/// Turns Rust's integer formats, which others do not know, into limits.
fn limits(map: &mut Map<String, Value>) {
    let (low, high) = match map.get("format").and_then(Value::as_str) {
        Some("uint32") => (json!(0), json!(u32::MAX)),
        Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
        Some("uint64") => (json!(0), json!(u64::MAX)),
        _ => return,
    };
    if map.get("format").and_then(Value::as_str) != Some("int32") {
        map.shift_remove("format");
    }
    map.insert("minimum".into(), low);
    map.insert("maximum".into(), high);
}
