//! Rules that compilers do not check. Each module is one rule: a function from the repository to problems.

mod fragments;
mod generated;
mod goldens;
mod layers;
mod names;
mod records;
mod shape;
mod suites;

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::repo::Repo;
use crate::workspace;

/// Something to put right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    file: String,
    level: Level,
    message: String,
}

/// Whether a problem fails the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error,
    Warning,
}

impl Problem {
    fn error(file: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            file: file.into(),
            level: Level::Error,
            message: message.into(),
        }
    }

    fn warning(file: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            file: file.into(),
            level: Level::Warning,
            message: message.into(),
        }
    }

    /// Fails the check; a warning only tells.
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{level}: {}: {}", self.file, self.message)
    }
}

/// Every problem of the repository, in order of file.
pub fn all(root: &Path) -> Result<Vec<Problem>> {
    let repo = Repo::read(root)?;
    let members = workspace::members(root)?;
    let mut problems = layers::arrows(&members);
    problems.extend(layers::reach(&members, |name| {
        workspace::closure(root, name)
    })?);
    problems.extend(layers::manifests(&repo, &members));
    problems.extend(names::architecture(&repo, &members));
    problems.extend(names::documents(&repo));
    problems.extend(goldens::check(&repo));
    problems.extend(suites::check(&repo));
    problems.extend(shape::check(&repo));
    problems.extend(fragments::check(&repo));
    problems.extend(records::check(&repo));
    problems.extend(generated::check(&repo)?);
    problems.sort();
    Ok(problems)
}

/// The problems as a test wants to see them.
#[cfg(test)]
fn shown(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}
