//! Resources as proto3 JSON, the form Envoy reads from files and prints in dumps.
//!
//! [`to_json`] prints, [`from_json`] reads strictly and says where something is wrong. Both put the type in `@type`, at
//! the top as inside every `Any`. Validation rules (ranges, required fields) are Envoy's and not checked here.

mod error;
mod parse;
mod print;

use prost_reflect::DynamicMessage;
use serde_json::Value;

pub use error::{JsonError, JsonErrors, JsonReason, PrintError};

use crate::reflect;

/// An encoded message as proto3 JSON with `@type` first: fields by number under their camel-case names, map entries
/// by key, fields without a value left out.
///
/// An inner `Any` that cannot be opened (unknown type, malformed bytes, too deep) is printed as its `@type` and its
/// `value` in base64, which [`from_json`] then refuses.
///
/// Errors: the type is unknown, or the bytes are no such message.
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<Value, PrintError> {
    let kind = reflect::descriptor(type_url)
        .ok_or_else(|| PrintError::UnknownType(type_url.to_owned()))?;
    let message = DynamicMessage::decode(kind, bytes).map_err(PrintError::Malformed)?;
    Ok(print::typed(type_url, &message, print::MAX_DEPTH))
}

/// Reads a message whose type is in `@type`: its type URL, and its bytes in the one encoding of its content.
///
/// Names may be camel case or as in the proto files. Unknown fields, unknown types and unknown enum names are errors.
///
/// Errors: all that were found, each with its path, up to [`JsonErrors::MAX`].
pub fn from_json(value: &Value) -> Result<(String, Vec<u8>), JsonErrors> {
    let (type_url, message) = parse::typed(value)?;
    Ok((type_url, reflect::encode(&message)))
}

#[cfg(test)]
mod tests;
