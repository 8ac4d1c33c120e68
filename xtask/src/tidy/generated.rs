//! Generated files are as `cargo xtask codegen` would write them now.

use anyhow::Result;

use super::Problem;
use crate::codegen::{self, CODES};
use crate::repo::Repo;

/// Generated files that are missing or stale.
pub fn check(repo: &Repo) -> Result<Vec<Problem>> {
    if !repo.has(CODES) {
        return Ok(vec![Problem::error(
            CODES,
            "is missing: the list of findings is made from it",
        )]);
    }
    let files = codegen::all(repo)?;
    let stale = files
        .into_iter()
        .filter(|file| repo.text(&file.path) != Some(&file.text));
    Ok(stale
        .map(|file| Problem::error(file.path, "is not fresh: run cargo xtask codegen"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::FINDINGS;

    #[test]
    fn a_new_code_makes_the_list_stale() {
        let one = "codes! {\n/// Bad.\nBad = \"bad\", Error;\n}";
        let repo = Repo::of(&[(CODES, one)]);
        let fresh = codegen::all(&repo).unwrap().remove(0).text;
        assert_eq!(check(&repo).unwrap().len(), 1);
        assert_eq!(
            check(&Repo::of(&[(CODES, one), (FINDINGS, &fresh)])).unwrap(),
            []
        );
        let two = one.replace("}", "/// Worse.\nWorse = \"worse\", Error;\n}");
        assert_eq!(
            check(&Repo::of(&[(CODES, &two), (FINDINGS, &fresh)]))
                .unwrap()
                .len(),
            1
        );
    }
}
