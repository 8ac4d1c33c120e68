//! Several answers of Prometheus's formats as one.

/// Prometheus's text format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// All in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: Vec<u8>,
}

/// Puts together what the proxy says, in text format, and what applications say, last.
///
/// The one application's OpenMetrics stay that, if `accepted` (what the client said) takes them; the proxy's text then loses what OpenMetrics do not allow.
/// Otherwise everything is text, and OpenMetrics lose what text has no place for.
pub fn merge(proxy: &[&[u8]], applications: &[Part], accepted: Option<&str>) -> Merged {
    let open = |part: &Part| {
        part.content_type
            .starts_with("application/openmetrics-text")
    };
    let takes = accepted.is_some_and(|said| said.contains("application/openmetrics-text"));
    let as_open = takes && matches!(applications, [one] if open(one));
    let mut body = Vec::new();
    for part in proxy {
        if as_open {
            let allowed = |line: &[u8]| {
                let comment = line.starts_with(b"#");
                let known = [&b"# TYPE "[..], b"# HELP ", b"# UNIT "];
                !line.is_empty() && (!comment || known.iter().any(|known| line.starts_with(known)))
            };
            lines(part, &mut body, |line, body| {
                if allowed(line) {
                    body.extend_from_slice(line);
                    body.push(b'\n');
                }
            });
        } else {
            whole(part, &mut body);
        }
    }
    for part in applications {
        if as_open {
            whole(&part.body, &mut body);
            if !body.ends_with(b"# EOF\n") {
                body.extend_from_slice(b"# EOF\n");
            }
        } else if open(part) {
            lines(&part.body, &mut body, text_of_open);
        } else {
            whole(&part.body, &mut body);
        }
    }
    Merged {
        content_type: if as_open { OPEN_METRICS } else { TEXT },
        body,
    }
}

fn whole(part: &[u8], body: &mut Vec<u8>) {
    body.extend_from_slice(part);
    if !part.is_empty() && !part.ends_with(b"\n") {
        body.push(b'\n');
    }
}

fn lines(part: &[u8], body: &mut Vec<u8>, mut each: impl FnMut(&[u8], &mut Vec<u8>)) {
    for line in part.split(|b| *b == b'\n') {
        each(line.strip_suffix(b"\r").unwrap_or(line), body);
    }
}

/// Types that text has no word for; one of them makes a scraper refuse everything.
const OPEN_TYPES: [&[u8]; 4] = [b" unknown", b" info", b" stateset", b" gaugehistogram"];

/// A line of OpenMetrics as text: without its end mark, units, exemplars, and types of its own.
fn text_of_open(line: &[u8], body: &mut Vec<u8>) {
    if line.is_empty() || line == b"# EOF" || line.starts_with(b"# UNIT ") {
        return;
    }
    if line.starts_with(b"# TYPE ") && OPEN_TYPES.iter().any(|kind| line.ends_with(kind)) {
        return;
    }
    let mut end = line.len();
    if !line.starts_with(b"#")
        && let Some(exemplar) = outside_quotes(line, b" # {")
    {
        end = exemplar;
    }
    body.extend_from_slice(&line[..end]);
    body.push(b'\n');
}

/// Where a mark stands that is not inside a label's value.
fn outside_quotes(line: &[u8], mark: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in line.iter().enumerate() {
        if !quoted && line[at..].starts_with(mark) {
            return Some(at);
        }
        match b {
            b'\\' if quoted => escaped = !escaped,
            b'"' if !escaped => quoted = !quoted,
            _ => escaped = false,
        }
        if *b != b'\\' {
            escaped = false;
        }
    }
    None
}
