//! Text to objects.
//!
//! A text holds any number of documents, a document one object or a list of them. Each is decoded by itself: what is wrong with one
//! never hides another. Everything is bounded by [`Limits`].

mod apply;
mod document;
mod metadata;
mod yaml;

use mesh_types::{Code, Finding, Level};
use serde_json::Value;

use crate::Object;
pub(crate) use apply::versions;
pub use document::Limits;

/// Where a text comes from, and what its objects take from there.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Name of the file for findings; a name that ends in `.json` is read as JSON alone.
    pub file: &'a str,
    /// Namespace of objects that name none.
    pub default_namespace: &'a str,
    /// Namespace whose ConfigMap `istio` holds the MeshConfig.
    pub root_namespace: &'a str,
    /// Creation time of objects without `metadata.creationTimestamp`, in microseconds since 1970. Use 0 or a remembered time: the time of
    /// reading would make a new version of the same content each time.
    pub created_us: i64,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Origin<'_> {
    fn default() -> Self {
        Origin {
            file: "",
            default_namespace: "default",
            root_namespace: "istio-system",
            created_us: 0,
            limits: Limits::default(),
        }
    }
}

/// Where in its text an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The document, counted from 1 (empty ones too).
    pub document: u32,
    /// The line its document begins at, from 1.
    pub line: u32,
}

/// What a text held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The objects in force, in the order of the text.
    pub objects: Vec<(Object, Place)>,
    /// What their authors should know; an object with an error is not among `objects`.
    pub findings: Vec<Finding>,
}

impl Decoded {
    /// Whether something was refused.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|f| f.level == Level::Error)
    }
}

/// Decodes bytes that should be UTF-8.
pub fn decode_bytes(bytes: &[u8], origin: &Origin<'_>) -> Decoded {
    match std::str::from_utf8(bytes) {
        Ok(text) => decode_text(text, origin),
        Err(error) => {
            let line = 1 + bytes[..error.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            let message = format!("line {line} is not UTF-8 text");
            let finding = Finding::about_text(Code::Syntax, message).at(origin.file, line as u32);
            Decoded {
                objects: Vec::new(),
                findings: vec![finding],
            }
        }
    }
}

/// Decodes YAML documents, or one JSON document.
pub fn decode_text(text: &str, origin: &Origin<'_>) -> Decoded {
    let mut out = Decoded::default();
    for (place, document) in document::documents(text, origin) {
        match document {
            Ok(value) => apply::document(value, place, origin, &mut out),
            Err(finding) => out.findings.push(*finding),
        }
    }
    out
}

/// Decodes one document that has been read already: an object or a list of them.
pub fn decode_value(value: Value, origin: &Origin<'_>) -> Decoded {
    let mut out = Decoded::default();
    apply::document(
        value,
        Place {
            document: 1,
            line: 0,
        },
        origin,
        &mut out,
    );
    out
}

/// The first document of a text as it is; an empty text is `null`.
pub(crate) fn single_document(text: &str, origin: &Origin<'_>) -> Result<Value, Box<Finding>> {
    document::documents(text, origin)
        .next()
        .map_or(Ok(Value::Null), |(_, document)| document)
}

#[cfg(test)]
mod tests;
