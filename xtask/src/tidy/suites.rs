//! End-to-end suites: `e2e/suites/BEHAVIOUR/{README.md,config/,expect/}`, each run by a test and each expectation looked at.

use std::collections::BTreeSet;

use super::Problem;
use crate::repo::{Repo, file_name};

const SUITES: &str = "e2e/suites";

/// Suites without a README or a test, and expectations that nothing compares.
pub fn check(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    let code: String = repo
        .below("e2e")
        .filter(|path| path.ends_with(".rs"))
        .filter_map(|path| repo.text(path))
        .collect();
    let suites: BTreeSet<&str> = repo
        .below(SUITES)
        .filter_map(|path| {
            path.strip_prefix(SUITES)?
                .strip_prefix('/')?
                .split_once('/')
        })
        .map(|(suite, _)| suite)
        .collect();
    for suite in suites {
        let folder = format!("{SUITES}/{suite}");
        if !repo.has(&format!("{folder}/README.md")) {
            problems.push(Problem::error(
                &folder,
                "has no README.md that says what it proves",
            ));
        }
        if !code.contains(suite) {
            problems.push(Problem::error(
                &folder,
                "is named in no Rust source of e2e: nothing runs it",
            ));
        }
        let inputs: BTreeSet<&str> = repo
            .below(&format!("{folder}/config"))
            .map(|path| stem(file_name(path)))
            .collect();
        for path in repo.below(&format!("{folder}/expect")) {
            let name = file_name(path);
            if !code.contains(name) && !inputs.contains(stem(name)) {
                problems.push(Problem::error(
                    path,
                    "stale: no file of config/ has its name and no Rust source of e2e names it",
                ));
            }
        }
    }
    problems
}

fn stem(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;

    #[test]
    fn suites_are_run_and_expectations_used() {
        let repo = Repo::of(&[
            (
                "e2e/tests/traffic.rs",
                r#"suite("mirroring", "answer.txt")"#,
            ),
            ("e2e/suites/mirroring/README.md", ""),
            ("e2e/suites/mirroring/config/half.yaml", ""),
            ("e2e/suites/mirroring/expect/half.json", ""),
            ("e2e/suites/mirroring/expect/answer.txt", ""),
            ("e2e/suites/mirroring/expect/old.json", ""),
            ("e2e/suites/gone/config/a.yaml", ""),
        ]);
        expect![[r#"
            error: e2e/suites/gone: has no README.md that says what it proves
            error: e2e/suites/gone: is named in no Rust source of e2e: nothing runs it
            error: e2e/suites/mirroring/expect/old.json: stale: no file of config/ has its name and no Rust source of e2e names it
        "#]]
        .assert_eq(&shown(&check(&repo)));
    }
}
