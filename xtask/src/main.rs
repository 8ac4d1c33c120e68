//! Chores of this repository: `cargo xtask tidy` and `cargo xtask codegen`.
//!
//! It knows the shape of the repository and nothing of what the product does: no crate of the product is a dependency, so it
//! builds in seconds and works while the rest does not compile. Start reading at [`tidy`], one module per rule.

mod codegen;
mod repo;
mod tidy;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  tidy       check what compilers do not: layers, names in documents, goldens, sizes, fragments, decision records
  codegen    write generated files anew (docs/findings.md)
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1);
    let outcome = match command.as_deref() {
        Some("tidy") => run_tidy(),
        Some("codegen") => run_codegen(),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(true)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(false)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace, whatever folder cargo was called in.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder")
}

fn run_tidy() -> Result<bool> {
    let problems = tidy::all(root()?)?;
    for problem in &problems {
        println!("{problem}");
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    println!("tidy: {errors} errors, {warnings} warnings");
    Ok(errors == 0)
}

fn run_codegen() -> Result<bool> {
    let root = root()?;
    for file in codegen::all(&repo::Repo::read(root)?)? {
        let path = root.join(&file.path);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == file.text) {
            println!("codegen: {} is fresh", file.path);
            continue;
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&path, &file.text)
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("codegen: wrote {}", file.path);
    }
    Ok(true)
}
