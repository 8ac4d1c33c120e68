//! Where YAML documents begin and end.

/// A document's text and the line it begins at, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub text: &'a str,
    pub line: u32,
}

/// Splits a text at its document markers.
///
/// YAML lets no document contain a line that begins with `---` or `...` followed by a space or nothing, not even inside quotes, so the
/// split needs no parser: an error in one document cannot spread to its neighbours.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut pieces = Vec::new();
    let (mut begin, mut begin_line) = (0, 1);
    let mut offset = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let end = offset + line.len();
        if is_marker(line, "---") && offset > begin {
            pieces.push(Piece {
                text: &text[begin..offset],
                line: begin_line,
            });
            (begin, begin_line) = (offset, number);
        } else if is_marker(line, "...") {
            pieces.push(Piece {
                text: &text[begin..offset],
                line: begin_line,
            });
            (begin, begin_line) = (end, number + 1);
        }
        offset = end;
    }
    pieces.push(Piece {
        text: &text[begin..],
        line: begin_line,
    });
    pieces.retain(|piece| !is_blank(piece.text));
    pieces
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there is nothing but comments, directives and a bare marker.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let rest = if is_marker(line, "---") {
            &line[3..]
        } else {
            line
        };
        let rest = rest.trim();
        rest.is_empty() || rest.starts_with('#') || line.starts_with('%')
    })
}

#[cfg(test)]
mod tests {
    use super::split;

    fn pieces(text: &str) -> Vec<(u32, &str)> {
        split(text).into_iter().map(|p| (p.line, p.text)).collect()
    }

    #[test]
    fn markers_split_and_empty_documents_go() {
        assert_eq!(
            pieces("a: 1\n---\nb: 2\n"),
            [(1, "a: 1\n"), (2, "---\nb: 2\n")]
        );
        assert_eq!(pieces("# x\n---\n# y\n---\na: 1"), [(4, "---\na: 1")]);
        assert_eq!(
            pieces("%YAML 1.2\n---\na: 1\n...\n# end\n"),
            [(2, "---\na: 1\n")]
        );
        assert_eq!(
            pieces("\u{feff}--- {a: 1}\r\n---\r\n"),
            [(1, "--- {a: 1}\r\n")]
        );
    }

    #[test]
    fn markers_inside_indented_text_and_longer_dashes_do_not_split() {
        let text = "a: |\n  ---\n  b\nc: ----\n-----BEGIN\n";
        assert_eq!(pieces(text), [(1, text)]);
        assert_eq!(pieces(""), []);
    }
}
