//! The shape of single files: length, names that say nothing, paths of somebody's machine.

use super::Problem;
use crate::repo::{Repo, file_name};

/// Past this many lines, look for the second concept.
const LONG: usize = 500;
/// Past this many lines, a source file fails.
const TOO_LONG: usize = 800;
/// Module names that collect whatever has no home.
const NAMELESS: &[&str] = &["helper.rs", "helpers.rs", "misc.rs", "util.rs", "utils.rs"];
/// How paths of one machine begin. In pieces, so that this file passes its own rule.
const MACHINE: &[&str] = &[
    concat!("/home", "/"),
    concat!("/Users", "/"),
    concat!("/root", "/"),
    concat!("/work", "/"),
    concat!("/tmp", "/brief"),
];
/// Where a text is looked at for such paths.
const WRITTEN: &[&str] = &[
    "rs", "md", "toml", "sh", "yaml", "yml", "proto", "Makefile", "run",
];

/// Problems of single files.
pub fn check(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in repo.texts() {
        if path.ends_with(".rs") {
            problems.extend(length(path, text));
            if NAMELESS.contains(&file_name(path)) {
                problems.push(Problem::error(
                    path,
                    "name the concept: a file of this name collects whatever has no home",
                ));
            }
        }
        if WRITTEN
            .iter()
            .any(|end| path.rsplit(['.', '/']).next() == Some(end))
        {
            problems.extend(machine(path, text));
        }
    }
    problems
}

fn length(path: &str, text: &str) -> Option<Problem> {
    let lines = text.lines().count();
    if lines > TOO_LONG && path.contains("/src/") {
        Some(Problem::error(
            path,
            format!("{lines} lines, over {TOO_LONG}: split it by concept"),
        ))
    } else if lines > LONG {
        Some(Problem::warning(
            path,
            format!("{lines} lines, over {LONG}: look for the second concept"),
        ))
    } else {
        None
    }
}

fn machine(path: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in MACHINE {
            let here = |(at, _): (usize, &str)| {
                let before = line[..at].chars().next_back();
                let after = line[at + word.len()..].chars().next();
                // A path begins here, and goes on: `app/root/` is relative and `"/root/"` alone names the folder of any machine.
                before.is_none_or(|c| !(c.is_alphanumeric() || "/.}_-".contains(c)))
                    && (word.ends_with("brief")
                        || after.is_some_and(|c| c.is_alphanumeric() || c == '.'))
            };
            if line.match_indices(word).any(here) {
                problems.push(Problem::error(
                    format!("{path}:{}", number + 1),
                    format!("a path of one machine: {word}"),
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;

    #[test]
    fn length_warns_then_fails() {
        let (long, too_long) = ("\n".repeat(501), "\n".repeat(801));
        let repo = Repo::of(&[
            ("a/src/ok.rs", ""),
            ("a/src/b.rs", &long),
            ("a/src/c.rs", &too_long),
            ("a/tests/d.rs", &too_long),
        ]);
        expect![[r#"
            warning: a/src/b.rs: 501 lines, over 500: look for the second concept
            error: a/src/c.rs: 801 lines, over 800: split it by concept
            warning: a/tests/d.rs: 801 lines, over 500: look for the second concept
        "#]]
        .assert_eq(&shown(&check(&repo)));
    }

    #[test]
    fn names_and_paths_that_do_not_travel() {
        let mine = format!(
            "see {} and app{} and {}",
            concat!("/home", "/me/x"),
            concat!("/home", "/me"),
            concat!("/root", "/")
        );
        let repo = Repo::of(&[
            ("a/src/utils.rs", ""),
            ("README.md", &mine),
            ("bin.dat", &mine),
        ]);
        let shown = shown(&check(&repo));
        expect![[r#"
            error: README.md:1: a path of one machine: /HOME/
            error: a/src/utils.rs: name the concept: a file of this name collects whatever has no home
        "#]]
        .assert_eq(&shown.replace(concat!("/home", "/"), "/HOME/"));
    }
}
