//! Stable codes of findings.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Level;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $level:ident;)*) => {
        /// What kind of problem a finding is about. The text never changes once released; `docs/findings.md` lists them all.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $variant,)* }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$variant,)*];

            /// The stable text.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// The code of that text.
            pub fn parse(text: &str) -> Option<Code> {
                Code::ALL.iter().copied().find(|code| code.as_str() == text)
            }

            /// How bad a finding of this code is.
            pub fn level(self) -> Level {
                match self { $(Code::$variant => Level::$level,)* }
            }
        }
    };
}

codes! {
    /// The text is not YAML or JSON.
    Syntax = "syntax", Error;
    /// A parser limit (size, nesting, aliases) was reached.
    TooLarge = "too-large", Error;
    /// The document has no usable `apiVersion`, `kind` or `metadata.name`.
    NotAnObject = "not-an-object", Error;
    /// A kind or API group the plane does not read.
    UnknownKind = "unknown-kind", Warning;
    /// A version of a known kind that the plane does not read.
    UnknownVersion = "unknown-version", Error;
    /// A field that the resource does not have.
    UnknownField = "unknown-field", Error;
    /// A value of the wrong type.
    WrongType = "wrong-type", Error;
    /// A text that is none of an enum's names.
    UnknownValue = "unknown-value", Error;
    /// A number, duration or size outside its range.
    OutOfRange = "out-of-range", Error;
    /// A field that must be set is not.
    Required = "required", Error;
    /// Fields that exclude one another are set together.
    Conflict = "conflict", Error;
    /// A text that does not have the form its field needs (host, address, regex, name, duration, ..).
    Malformed = "malformed", Error;
    /// The same name or key is given twice where it must be unique.
    Duplicate = "duplicate", Error;
    /// The same object is defined in two places; one of them wins.
    DuplicateObject = "duplicate-object", Error;
    /// An object that points to something that does not exist.
    MissingReference = "missing-reference", Warning;
    /// A field that is understood but not acted on yet.
    NotSupported = "not-supported", Warning;
    /// A field or value that Istio has deprecated.
    Deprecated = "deprecated", Info;
    /// Part of the object can never take effect.
    NoEffect = "no-effect", Warning;
    /// Something that is allowed and rarely meant.
    Risky = "risky", Warning;
    /// A file or folder could not be read.
    Unreadable = "unreadable", Error;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let text = String::deserialize(deserializer)?;
        Code::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is no code of a finding")))
    }
}
