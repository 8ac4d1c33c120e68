//! Changelog fragments: `changelog.d/SLUG.KIND.md`, one change each, a sentence or a few.

use super::Problem;
use crate::repo::{Repo, file_name};

const FOLDER: &str = "changelog.d";
/// Headings of CHANGELOG.md, in its order.
const KINDS: &[&str] = &["added", "changed", "fixed", "removed", "security"];
/// Characters; a change that needs more wants a page in docs/ and a sentence here.
const LONGEST: usize = 1000;

/// Fragments whose name or text the release could not fold in.
pub fn check(repo: &Repo) -> Vec<Problem> {
    let fragments = repo
        .below(FOLDER)
        .filter(|path| file_name(path) != "README.md");
    fragments
        .filter_map(|path| Some(Problem::error(path, fault(path, repo.text(path)?)?)))
        .collect()
}

fn fault(path: &str, text: &str) -> Option<String> {
    let parts: Vec<&str> = file_name(path).split('.').collect();
    let named = matches!(parts[..], [slug, kind, "md"] if is_slug(slug) && KINDS.contains(&kind));
    let text = text.trim();
    if !named {
        Some(format!(
            "is not named SLUG.KIND.md, with a slug of a-z, 0-9 and `-`, and a kind of {}",
            KINDS.join(", ")
        ))
    } else if text.is_empty() {
        Some("says nothing".into())
    } else if text.len() > LONGEST {
        Some(format!(
            "is longer than {LONGEST} characters: put the rest into docs/"
        ))
    } else if text.starts_with(['#', '-', '*']) {
        Some("starts with a heading or a bullet: the release adds those".into())
    } else if !text.ends_with('.') {
        Some("does not end with a full stop".into())
    } else {
        None
    }
}

fn is_slug(slug: &str) -> bool {
    !slug.is_empty()
        && slug
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;

    #[test]
    fn fragments_have_a_kind_and_a_sentence() {
        let repo = Repo::of(&[
            ("changelog.d/README.md", "anything"),
            (
                "changelog.d/retry-budget.added.md",
                "Routes take a retry budget.\n",
            ),
            ("changelog.d/a.better.md", "Better."),
            ("changelog.d/b.fixed.md", " \n"),
            ("changelog.d/c.fixed.md", "- A bullet."),
            ("changelog.d/d.fixed.md", "No stop"),
        ]);
        expect![[r#"
            error: changelog.d/a.better.md: is not named SLUG.KIND.md, with a slug of a-z, 0-9 and `-`, and a kind of added, changed, fixed, removed, security
            error: changelog.d/b.fixed.md: says nothing
            error: changelog.d/c.fixed.md: starts with a heading or a bullet: the release adds those
            error: changelog.d/d.fixed.md: does not end with a full stop
        "#]]
        .assert_eq(&shown(&check(&repo)));
    }
}
