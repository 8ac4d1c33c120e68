//! Golden files come in pairs: `testdata/NAME.in.EXT` is read, `testdata/NAME.out.EXT` is what comes out.

use std::collections::BTreeSet;

use super::Problem;
use crate::repo::{Repo, file_name};

/// Halves without their other half.
pub fn check(repo: &Repo) -> Vec<Problem> {
    let halves = |mark: &'static str| -> BTreeSet<(&str, &str)> {
        let in_testdata = repo.paths().filter(|path| {
            path.split('/')
                .rev()
                .skip(1)
                .any(|folder| folder == "testdata")
        });
        in_testdata
            .filter_map(|path| Some((stem(path, mark)?, path)))
            .collect()
    };
    let (inputs, outputs) = (halves(".in."), halves(".out."));
    let lonely = |from: &BTreeSet<(&str, &str)>,
                  to: &BTreeSet<(&str, &str)>,
                  message: &str|
     -> Vec<Problem> {
        let known: BTreeSet<&str> = to.iter().map(|(stem, _)| *stem).collect();
        from.iter()
            .filter(|(stem, _)| !known.contains(stem))
            .map(|(_, path)| Problem::error(*path, message))
            .collect()
    };
    let mut problems = lonely(
        &inputs,
        &outputs,
        "has no .out. file: nothing is expected of it",
    );
    problems.extend(lonely(
        &outputs,
        &inputs,
        "has no .in. file: stale, nothing makes it",
    ));
    problems
}

/// The path up to the mark in its last part.
fn stem<'a>(path: &'a str, mark: &str) -> Option<&'a str> {
    let name = file_name(path);
    let at = name.find(mark)?;
    Some(&path[..path.len() - name.len() + at])
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;

    #[test]
    fn halves_without_the_other_are_stale() {
        let repo = Repo::of(&[
            ("c/testdata/a.in.yaml", ""),
            ("c/testdata/a.out.yaml", ""),
            ("c/testdata/a.out.json", ""),
            ("c/testdata/sub/b.in.yaml", ""),
            ("c/testdata/c.out.yaml", ""),
            ("c/src/d.out.yaml", ""),
        ]);
        expect![[r#"
            error: c/testdata/sub/b.in.yaml: has no .out. file: nothing is expected of it
            error: c/testdata/c.out.yaml: has no .in. file: stale, nothing makes it
        "#]]
        .assert_eq(&shown(&check(&repo)));
    }
}
