//! What we tell the author of an object.

use serde::Serialize;

use crate::{Code, FieldPath, Key};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing; nothing is wrong.
    Info,
    /// The object is in force, but part of it does nothing or may surprise.
    Warning,
    /// The object, or the named part of it, is refused.
    Error,
}

/// A problem at one place of one object: `spec.http[2].route: weights add up to 90, want 100`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// Where.
    pub path: FieldPath,
    /// What kind of problem, stable for machines.
    pub code: Code,
    /// What is wrong and what would be right, for people.
    pub message: String,
}

impl FieldError {
    /// An error at a place.
    pub fn new(path: FieldPath, code: Code, message: impl Into<String>) -> FieldError {
        FieldError { path, code, message: message.into() }
    }
}

/// Something its author should know about an object. Ends on the user's object, in the log, in a metric and in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What kind of problem; listed in `docs/findings.md`.
    pub code: Code,
    /// The object, if it could be identified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The file (or other place) it was read from; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Where in the object.
    pub path: FieldPath,
    /// For people: what is wrong and what to try.
    pub message: String,
}

impl Finding {
    /// A finding about a field of an object, at the level its code has by default.
    pub fn new(key: &Key, path: FieldPath, code: Code, message: impl Into<String>) -> Finding {
        Finding {
            level: code.level(),
            code,
            key: Some(key.clone()),
            file: String::new(),
            path,
            message: message.into(),
        }
    }
}
