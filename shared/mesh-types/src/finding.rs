//! What we tell the author of an object.

use serde::{Deserialize, Serialize};

use crate::{Code, FieldPath, Key};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
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
        FieldError {
            path,
            code,
            message: brief(message.into()),
        }
    }
}

/// Longest message of a finding. Unit: bytes. What a message quotes may be as long as an object.
const MAX_MESSAGE: usize = 1000;

/// The message, or of a longer one its beginning and its end.
fn brief(message: String) -> String {
    if message.len() <= MAX_MESSAGE {
        return message;
    }
    let head = message.floor_char_boundary(MAX_MESSAGE / 2);
    let tail = message.ceil_char_boundary(message.len() - MAX_MESSAGE / 2 + '…'.len_utf8());
    format!("{}…{}", &message[..head], &message[tail..])
}

/// Something its author should know about an object. Ends on the user's object, in the log, in a metric and in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What kind of problem; listed in `docs/findings.md`.
    pub code: Code,
    /// The object, if it could be identified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The file (or other place) it was read from; empty when unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The line of the file where the document begins, or where its text cannot be read; from 1, 0 when unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: u32,
    /// Where in the object.
    pub path: FieldPath,
    /// For people: what is wrong and what to try.
    pub message: String,
}

fn is_zero(line: &u32) -> bool {
    *line == 0
}

impl Finding {
    /// A finding about a text that could not be told to be an object.
    pub fn about_text(code: Code, message: impl Into<String>) -> Finding {
        Finding {
            level: code.level(),
            code,
            key: None,
            file: String::new(),
            line: 0,
            path: FieldPath::root(),
            message: brief(message.into()),
        }
    }

    /// The finding that a field error of an object makes.
    pub fn of(key: &Key, error: FieldError) -> Finding {
        Finding::new(key, error.path, error.code, error.message)
    }

    /// This finding, with the place of the document it is about.
    pub fn at(mut self, file: &str, line: u32) -> Finding {
        self.file = file.into();
        self.line = line;
        self
    }

    /// Whether the object is refused because of it.
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }

    /// A finding about a field of an object, at the level its code has by default.
    pub fn new(key: &Key, path: FieldPath, code: Code, message: impl Into<String>) -> Finding {
        Finding {
            level: code.level(),
            code,
            key: Some(key.clone()),
            file: String::new(),
            line: 0,
            path,
            message: brief(message.into()),
        }
    }
}

/// One line for people: `FILE:LINE: KIND NAMESPACE/NAME: PATH: MESSAGE [CODE]`, without what is unknown.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if self.line > 0 {
                write!(f, ":{}", self.line)?;
            }
            f.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        if !self.path.segments().is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} [{}]", self.message, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn prints_what_is_known_and_reads_back() {
        let key = Key::new(Kind::VirtualService, "shop", "reviews");
        let path = FieldPath::parse("spec.http[2].route");
        let finding =
            Finding::new(&key, path, Code::OutOfRange, "weights add up to 0").at("a.yaml", 7);
        assert_eq!(
            finding.to_string(),
            "a.yaml:7: VirtualService shop/reviews: spec.http[2].route: weights add up to 0 [out-of-range]"
        );
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
        assert_eq!(
            Finding::about_text(Code::Syntax, "oops").to_string(),
            "oops [syntax]"
        );
    }

    #[test]
    fn a_long_message_keeps_its_beginning_and_its_end() {
        let message = format!("\"{}\" is no host", "ä".repeat(100_000));
        let finding = Finding::about_text(Code::Malformed, message);
        assert!(finding.message.len() <= MAX_MESSAGE);
        assert!(finding.message.starts_with("\"ää"));
        assert!(finding.message.ends_with("ä\" is no host"));
    }
}
