//! Pieces that several resources share.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Declares a struct as protobuf JSON writes it: camel case, every field optional, unset fields not written.
macro_rules! resource {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(skip_serializing_if = "crate::resource::common::is_unset")]
                pub $field: $type,
            )*
        }
    };
}
pub(crate) use resource;

/// Whether a field has the value that leaving it out means.
pub(crate) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A length of time, in nanoseconds, as protobuf JSON (`1.5s`) or Go (`1m30s`, `100ms`) write it. May be negative where a field allows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    /// Nanoseconds.
    pub nanos: i128,
}

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration { nanos: 0 };

    /// A duration of whole milliseconds.
    pub const fn from_millis(ms: i64) -> Duration {
        Duration {
            nanos: ms as i128 * 1_000_000,
        }
    }

    /// A duration of whole seconds.
    pub const fn from_secs(s: i64) -> Duration {
        Duration {
            nanos: s as i128 * 1_000_000_000,
        }
    }

    /// Reads `1.5s`, `100ms`, `1h30m`, `-2s`; `None` if the text is no duration or beyond ten thousand years.
    pub fn parse(text: &str) -> Option<Duration> {
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Duration::ZERO);
        }
        if rest.is_empty() || rest.len() > 64 {
            return None;
        }
        let mut nanos: i128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, next) = tail.split_at(unit_len);
            let scale: i128 = match unit {
                "ns" => 1,
                "us" | "µs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return None,
            };
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() || whole.len() > 15 {
                return None;
            }
            if !whole.is_empty() {
                nanos += whole.parse::<i128>().ok()? * scale;
            }
            let mut place = scale;
            for digit in fraction.chars() {
                place /= 10;
                nanos += i128::from(digit.to_digit(10)?) * place;
            }
            rest = next;
        }
        (nanos <= 315_576_000_000 * 1_000_000_000).then_some(Duration {
            nanos: sign * nanos,
        })
    }

    /// Whole seconds, rounded towards zero.
    pub fn seconds(self) -> i64 {
        (self.nanos / 1_000_000_000) as i64
    }

    /// Nanoseconds beyond the whole seconds, with the same sign.
    pub fn subsec_nanos(self) -> i32 {
        (self.nanos % 1_000_000_000) as i32
    }
}

impl fmt::Display for Duration {
    /// As protobuf JSON writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, nanos) = (
            if self.nanos < 0 { "-" } else { "" },
            self.nanos.unsigned_abs(),
        );
        let (whole, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{sign}{whole}s");
        }
        let digits = format!("{fraction:09}");
        write!(f, "{sign}{whole}.{}s", digits.trim_end_matches('0'))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        Duration::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is no duration; write for example 1.5s, 100ms or 1h"
            ))
        })
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-flotilla-format": "duration" })
    }
}

/// A finite floating-point number that can be a cache key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Double(pub f64);

impl Eq for Double {}

impl Hash for Double {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

resource! {
/// A share in percent, 0..=100, fractions allowed.
pub struct Percent {
    /// Percent.
    pub value: Double,
}
}

resource! {
/// How a text is compared; exactly one of the three, or none for "present".
pub struct StringMatch {
    /// Equal.
    pub exact: Option<String>,
    /// Starts with.
    pub prefix: Option<String>,
    /// Matches the whole text (RE2).
    pub regex: Option<String>,
}
}

resource! {
/// Selects workloads of the object's namespace. Source: `istio.networking.v1.WorkloadSelector`.
pub struct WorkloadSelector {
    /// Labels that must all be present.
    pub labels: BTreeMap<String, String>,
}
}

resource! {
/// Selects workloads of the object's namespace, as rules and policies write it. Source: `istio.type.v1beta1.WorkloadSelector`.
pub struct MatchingSelector {
    /// Labels that must all be present.
    pub match_labels: BTreeMap<String, String>,
}
}

/// A number that protobuf JSON calls `google.protobuf.UInt32Value`: unset differs from 0.
pub type UInt32Value = Option<u32>;
