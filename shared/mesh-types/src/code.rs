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
    /// Example: a quote that is never closed. Remedy: the message names line and column; other documents of the file are not affected.
    Syntax = "syntax", Error;
    /// A limit of the parser (size, nesting, aliases, number of values) was reached.
    /// Example: an object of 5 MB, or YAML aliases that multiply. Remedy: split the object; write out what aliases repeat.
    TooLarge = "too-large", Error;
    /// The document has no usable `apiVersion`, `kind` or `metadata.name`.
    /// Example: a bare list, or a file of Helm values. Remedy: add what is missing, or keep the file out of the folder.
    NotAnObject = "not-an-object", Error;
    /// A kind or API group the plane does not read; an error if only a slip of the pen for one it reads, an info for Kubernetes' own kinds.
    /// Example: `apiVersion: istio.io/v1, kind: VirtualService`. Remedy: correct the group if the plane was meant; nothing otherwise.
    UnknownKind = "unknown-kind", Warning;
    /// A version of a known kind that the plane does not read.
    /// Example: `networking.istio.io/v2`. Remedy: write one of those in the message, for example `networking.istio.io/v1`.
    UnknownVersion = "unknown-version", Error;
    /// A field that the resource does not have.
    /// Example: `spec.http[0].timout`. Remedy: the message names the nearest field; remove what belongs to no one.
    UnknownField = "unknown-field", Error;
    /// A value of the wrong type.
    /// Example: `hosts: a.com` where a list is wanted, `version: 1.10` where text is. Remedy: as the message says, often quotes or a dash.
    WrongType = "wrong-type", Error;
    /// A text that is none of an enum's names or of the words a field knows.
    /// Example: `simple: ROUND_ROBBIN`, `retryOn: gateway-eror`. Remedy: choose one of those in the message.
    UnknownValue = "unknown-value", Error;
    /// A number, duration or size outside its range.
    /// Example: port 70000, weights that add up to 0, a timeout of 0.5ms. Remedy: stay within the range in the message.
    OutOfRange = "out-of-range", Error;
    /// A field that must be set is not.
    /// Example: a route without destination. Remedy: set it.
    Required = "required", Error;
    /// Fields that exclude one another are set together, or one is set without the other it needs.
    /// Example: `redirect` beside `route`. Remedy: keep one.
    Conflict = "conflict", Error;
    /// A text that does not have the form its field needs (host, address, regex, name, duration, ..).
    /// Example: `host: http://a.com`, `timeout: 5`. Remedy: write it as the message shows.
    Malformed = "malformed", Error;
    /// The same name or key is given twice where it must be unique.
    /// Example: two subsets named v1, `a.com` beside `*.com` in one VirtualService. Remedy: rename or remove one.
    Duplicate = "duplicate", Error;
    /// The same object is defined in two places; one of them wins.
    /// Example: one VirtualService in two files. Remedy: remove one.
    DuplicateObject = "duplicate-object", Error;
    /// An object that points to something that does not exist.
    /// Example: a route to a subset that no DestinationRule has. Remedy: create it, or correct the name.
    MissingReference = "missing-reference", Warning;
    /// A field, value or kind that is understood but not acted on by this version.
    /// Example: `trafficPolicy.proxyProtocol`, an EnvoyFilter. Remedy: the message says what happens instead; do not rely on it yet.
    NotSupported = "not-supported", Warning;
    /// A field or value that Istio has deprecated.
    /// Example: `mirrorPercent`. Remedy: write the newer one in the message.
    Deprecated = "deprecated", Info;
    /// Part of the object can never take effect.
    /// Example: a route behind one that matches everything. Remedy: move or remove it.
    NoEffect = "no-effect", Warning;
    /// Something that is allowed and rarely meant.
    /// Example: a workloadSelector without labels. Remedy: be explicit, or leave it if it is meant.
    Risky = "risky", Warning;
    /// A file or folder could not be read.
    /// Example: missing permission. Remedy: the message has the system's reason; what was read before stays in force.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo xtask codegen` makes the page; this says so before CI does.
    #[test]
    fn the_page_lists_every_code_and_no_other() {
        let page = include_str!("../../../docs/findings.md");
        let listed: Vec<&str> = page
            .lines()
            .filter_map(|l| l.strip_prefix("| `")?.split('`').next())
            .collect();
        let mut all: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        all.sort_unstable();
        assert_eq!(listed, all);
    }

    #[test]
    fn every_code_says_what_to_do() {
        let page = include_str!("../../../docs/findings.md");
        for row in page.lines().filter(|l| l.starts_with("| `")) {
            assert!(
                row.contains("Example: ") && row.contains("Remedy: "),
                "{row}"
            );
        }
    }
}
