//! Decision records: `docs/adr/NNNN-slug.md`, a number once, a page each, always the same four sections.

use std::collections::BTreeMap;

use super::Problem;
use crate::repo::{Repo, file_name};

const FOLDER: &str = "docs/adr";
const SECTIONS: &[&str] = &["## Context", "## Choice", "## Alternatives", "## Cost"];
/// Lines of one page.
const PAGE: usize = 80;

/// Records whose name, number or sections are off.
pub fn check(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    for path in repo
        .below(FOLDER)
        .filter(|path| file_name(path) != "README.md")
    {
        let Some(number) = number(file_name(path)) else {
            problems.push(Problem::error(path, "is not named NNNN-slug.md"));
            continue;
        };
        if let Some(first) = numbers.insert(number, path) {
            problems.push(Problem::error(path, format!("has the number of {first}")));
        }
        let text = repo.text(path).unwrap_or_default();
        if !text.starts_with(&format!("# {number}: ")) {
            problems.push(Problem::error(
                path,
                format!("does not begin with `# {number}: ` and a title"),
            ));
        }
        for section in SECTIONS
            .iter()
            .filter(|section| !text.lines().any(|line| line == **section))
        {
            problems.push(Problem::error(path, format!("has no section `{section}`")));
        }
        if text.lines().count() > PAGE {
            problems.push(Problem::error(
                path,
                format!("is longer than a page of {PAGE} lines"),
            ));
        }
    }
    problems
}

fn number(name: &str) -> Option<&str> {
    let (number, slug) = name.strip_suffix(".md")?.split_once('-')?;
    let sound = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit()) && !slug.is_empty();
    sound.then_some(number)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;

    #[test]
    fn records_are_numbered_once_and_complete() {
        let whole = "# 0001: Layers\n\n## Context\n\n## Choice\n\n## Alternatives\n\n## Cost\n";
        let repo = Repo::of(&[
            ("docs/adr/0001-layers.md", whole),
            ("docs/adr/0001-other.md", whole),
            (
                "docs/adr/0002-short.md",
                "# Short\n\n## Context\n\n## Choice\n\n## Cost\n",
            ),
            ("docs/adr/notes.md", ""),
        ]);
        expect![[r#"
            error: docs/adr/0001-other.md: has the number of docs/adr/0001-layers.md
            error: docs/adr/0002-short.md: does not begin with `# 0002: ` and a title
            error: docs/adr/0002-short.md: has no section `## Alternatives`
            error: docs/adr/notes.md: is not named NNNN-slug.md
        "#]]
        .assert_eq(&shown(&check(&repo)));
    }
}
