//! Documents of a text as JSON values, within bounds.

use mesh_types::{Code, Finding};
use serde_json::Value;
use serde_saphyr::Error;

use super::yaml::{self, Piece};
use super::{Origin, Place};

/// Bounds on what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest text in bytes. Default 32 MiB.
    pub text: usize,
    /// Largest object in bytes of its content. Default 1.5 MiB, as in etcd.
    pub object: usize,
    /// Most values in one document. Default 2 million; YAML and JSON alike.
    pub nodes: usize,
    /// Deepest nesting. Default 64.
    pub depth: usize,
    /// Most values that YAML aliases (`*name`) may add to a document. Default 100 000.
    pub aliased: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            text: 32 << 20,
            object: 3 << 19,
            nodes: 2_000_000,
            depth: 64,
            aliased: 100_000,
        }
    }
}

type Document = Result<Value, Box<Finding>>;

/// The documents of a text, each read or refused by itself.
pub(super) fn documents<'a>(
    text: &'a str,
    origin: &'a Origin<'a>,
) -> Box<dyn Iterator<Item = (Place, Document)> + 'a> {
    let first = Place {
        document: 1,
        line: 1,
    };
    if text.len() > origin.limits.text {
        let message = format!(
            "the text has {} bytes, at most {} are read; split it",
            text.len(),
            origin.limits.text
        );
        return Box::new(std::iter::once((
            first,
            Err(refusal(Code::TooLarge, message, origin, 1)),
        )));
    }
    let trimmed = text.trim_start_matches('\u{feff}').trim_start();
    if origin.file.ends_with(".json") || trimmed.starts_with(['{', '[']) {
        match json(trimmed, origin) {
            // Text in braces may be YAML after all, unless its name says otherwise.
            Err(finding) if finding.code == Code::Syntax && !origin.file.ends_with(".json") => {}
            document => return Box::new(std::iter::once((first, document))),
        }
    }
    Box::new((1..).zip(yaml::split(text)).map(|(document, piece)| {
        (
            Place {
                document,
                line: piece.line,
            },
            yaml_document(&piece, origin),
        )
    }))
}

fn refusal(code: Code, message: String, origin: &Origin<'_>, line: u32) -> Box<Finding> {
    Box::new(Finding::about_text(code, message).at(origin.file, line))
}

fn json(text: &str, origin: &Origin<'_>) -> Document {
    let separators = text
        .bytes()
        .filter(|b| matches!(b, b',' | b':' | b'['))
        .count();
    if separators > origin.limits.nodes {
        let message = format!(
            "more than {} values in one document; split it",
            origin.limits.nodes
        );
        return Err(refusal(Code::TooLarge, message, origin, 1));
    }
    serde_json::from_str(text).map_err(|error| {
        let message = if text.is_empty() {
            "the file is empty".into()
        } else {
            format!("not JSON: {error}")
        };
        refusal(
            Code::Syntax,
            message,
            origin,
            u32::try_from(error.line()).unwrap_or(u32::MAX),
        )
    })
}

fn yaml_document(piece: &Piece<'_>, origin: &Origin<'_>) -> Document {
    let limits = &origin.limits;
    let mut options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: limits.nodes,
            max_events: limits.nodes.saturating_mul(3),
            max_depth: limits.depth,
            max_total_scalar_bytes: limits.text,
            max_total_comment_bytes: limits.text,
            max_recorded_anchor_events: limits.aliased,
            flow_nesting_limit: limits.depth,
            max_inclusion_depth: 0,
            enforce_alias_anchor_ratio: false,
        },
        // 0755 is 493 to one reader and 755 to another: keep it as text, which no number field takes.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        // `no`, `on`, `y` are words; where a field wants true or false, they are read as such later.
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
    };
    options.alias_limits.max_total_replayed_events = limits.aliased;
    options.alias_limits.max_replay_stack_depth = 16;
    serde_saphyr::from_str_with_options(piece.text, options)
        .map_err(|error| yaml_error(&error, piece, origin))
}

fn yaml_error(error: &Error, piece: &Piece<'_>, origin: &Origin<'_>) -> Box<Finding> {
    let at = error.location().filter(|at| at.line() > 0);
    let line = piece.line + at.map_or(0, |at| u32::try_from(at.line()).unwrap_or(u32::MAX) - 1);
    let place = at
        .map(|at| format!("line {line}, column {}: ", at.column()))
        .unwrap_or_default();
    let text = error.without_snippet().render();
    if let Some(limit) = limit(&text, &origin.limits) {
        return refusal(Code::TooLarge, format!("{place}{limit}"), origin, line);
    }
    // The parser counts lines from the start of the document, which helps nobody: its own place is left out.
    let reason = text.split(" at line ").next().unwrap_or_default();
    let reason = reason
        .split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or_default();
    refusal(Code::Syntax, format!("{place}{reason}"), origin, line)
}

/// Which limit a message of the parser is about, for people.
fn limit(text: &str, limits: &Limits) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let about = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if !about(&["budget", "limit", "recursion", "too deep", "depth"]) {
        None
    } else if about(&["anchor", "alias"]) {
        Some(format!(
            "aliases add more than {} values; write out what they repeat",
            limits.aliased
        ))
    } else if about(&["recursion", "deep", "depth", "nest"]) {
        Some(format!("nested more than {} deep", limits.depth))
    } else {
        Some(format!(
            "more than {} values or {} bytes in one document; split it",
            limits.nodes, limits.text
        ))
    }
}
