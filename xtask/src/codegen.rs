//! Files that are made from other files. `cargo xtask codegen` writes them; `tidy` checks that they are fresh.

use anyhow::{Context, Result, bail};

use crate::repo::Repo;

/// A generated file as it should be.
pub struct Generated {
    /// Relative to the root.
    pub path: String,
    /// All of its text.
    pub text: String,
}

/// Where the codes of findings are defined.
pub const CODES: &str = "shared/mesh-types/src/code.rs";
/// The list of them for users.
pub const FINDINGS: &str = "docs/findings.md";

/// Every generated file.
pub fn all(repo: &Repo) -> Result<Vec<Generated>> {
    let source = repo
        .text(CODES)
        .with_context(|| format!("{CODES} is missing"))?;
    Ok(vec![Generated {
        path: FINDINGS.into(),
        text: findings(&codes(source)?),
    }])
}

/// One code of a finding as its source defines it.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable text.
    pub text: String,
    /// Error, Warning or Info.
    pub level: String,
    /// Its doc comment.
    pub doc: String,
}

/// Reads the lines `/// doc` and `Variant = "text", Level;` of the `codes!` list.
pub fn codes(source: &str) -> Result<Vec<Code>> {
    let mut lines = source
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "codes! {")
        .skip(1);
    let mut codes = Vec::new();
    let mut doc = Vec::new();
    loop {
        match lines.next() {
            None => bail!("{CODES} has no `codes! {{ .. }}` list"),
            Some("}") => return Ok(codes),
            Some(line) => {
                if let Some(text) = line.strip_prefix("///") {
                    doc.push(text.trim());
                } else if let Some((text, level)) = definition(line) {
                    codes.push(Code {
                        text: text.into(),
                        level: level.into(),
                        doc: doc.join(" "),
                    });
                    doc.clear();
                } else if !line.is_empty() && !line.starts_with("//") {
                    bail!("{CODES}: not understood: {line}");
                }
            }
        }
    }
}

fn definition(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(" = \"")?;
    let (text, rest) = rest.split_once("\", ")?;
    Some((text, rest.strip_suffix(';')?))
}

fn findings(codes: &[Code]) -> String {
    let mut out = format!(
        "# Findings\n\n\
         What the plane tells the author of an object: in the log, in `flotilla findings`, in `flotilla validate` and in metrics.\n\
         A code never changes its meaning once released. An *error* refuses the object (the last good version stays in force), a\n\
         *warning* leaves it in force although part of it does nothing or may surprise, an *info* is worth knowing.\n\n\
         Made by `cargo xtask codegen` from `{CODES}`; change it there.\n\n\
         | code | level | meaning |\n|---|---|---|\n"
    );
    let mut rows: Vec<&Code> = codes.iter().collect();
    rows.sort_by(|a, b| a.text.cmp(&b.text));
    for code in rows {
        let level = code.level.to_lowercase();
        out.push_str(&format!(
            "| `{}` | {level} | {} |\n",
            code.text,
            code.doc.replace('|', "\\|")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_with_their_comments() {
        let source = "enum X { }\ncodes! {\n    /// Not\n    /// YAML.\n    Syntax = \"syntax\", Error;\n}\n";
        let want = Code {
            text: "syntax".into(),
            level: "Error".into(),
            doc: "Not YAML.".into(),
        };
        assert_eq!(codes(source).unwrap(), [want]);
    }

    #[test]
    fn a_list_that_is_not_understood_is_an_error_rather_than_shorter() {
        assert!(codes("codes! {\n  Syntax => 1,\n}").is_err());
        assert!(codes("codes! {\n").is_err());
        assert!(codes("").is_err());
    }
}
