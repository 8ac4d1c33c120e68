//! What can be wrong with a resource, and where.

/// One mistake in a resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct JsonError {
    /// Where it is, in the author's own field names: `filterChains[0].filters[2].typedConfig.statPrefix`; map keys
    /// stand in brackets and quotes. A lone `.` is the resource itself.
    pub path: String,
    /// What is wrong there.
    pub reason: JsonReason,
}

/// What a value can do wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonReason {
    /// The message has no field of this name.
    #[error("{message} has no such field")]
    UnknownField {
        /// Full name of the message.
        message: String,
    },
    /// No message of this name is known, or the type URL has no `/`.
    #[error(
        "unknown type {0:?}, want something like \"type.googleapis.com/envoy.config.cluster.v3.Cluster\""
    )]
    UnknownType(String),
    /// The enum has no value of this name.
    #[error("{name:?} is no value of {kind}")]
    UnknownEnumValue {
        /// The name as written.
        name: String,
        /// Full name of the enum.
        kind: String,
    },
    /// A value of another kind, or outside its range.
    #[error("got {got}, want {want}")]
    Unexpected {
        /// What stands there, shortened.
        got: String,
        /// What would be right.
        want: &'static str,
    },
    /// A value whose kind is right and whose content is not, in the words of its parser.
    #[error("{0}")]
    Malformed(String),
    /// The field stands there under its camel-case name and its proto name.
    #[error("is given twice")]
    Twice,
    /// Only one field of the group may be set, and another one already is.
    #[error("excludes {0}, which is set too")]
    Excludes(String),
    /// Lists and objects nest too deep.
    #[error("is nested more than {0} levels deep")]
    TooDeep(usize),
}

/// Everything found wrong with a resource, in the order of its text. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(JsonError::to_string).collect::<Vec<_>>().join("; "))]
pub struct JsonErrors(pub Vec<JsonError>);

impl JsonErrors {
    /// Most errors reported for one resource.
    pub const MAX: usize = 50;
}

/// Why a resource cannot be printed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PrintError {
    /// No message of this name is known.
    #[error("unknown type {0:?}")]
    UnknownType(String),
    /// The bytes are not a message of that type.
    #[error("malformed message: {0}")]
    Malformed(prost::DecodeError),
}
