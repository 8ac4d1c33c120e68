//! `flotilla validate`: the parser of the plane, on files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use config_source::Scanner;
use mesh_registry::Options;
use pilot::files::Files;

use crate::report::Report;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File or folder to check, - for the standard input; repeatable
    #[arg(
        short,
        long = "filename",
        value_name = "FILE|DIR",
        required_unless_present = "mesh_config"
    )]
    filename: Vec<PathBuf>,

    /// File with the mesh's settings (MeshConfig)
    #[arg(long, alias = "meshConfig", value_name = "FILE")]
    mesh_config: Option<PathBuf>,

    /// Namespace of objects that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// One line per finding, or json
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints one line per finding; fails if one is an error.
pub fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    for path in args.filename.iter_mut().filter(|path| **path == *"-") {
        *path = "/dev/stdin".into();
    }
    // A name mistyped in a script must not pass for good configuration.
    let named = args.filename.iter().map(|path| ("-f", path));
    for (flag, path) in named.chain(args.mesh_config.iter().map(|path| ("--mesh-config", path))) {
        std::fs::metadata(path).with_context(|| format!("{flag} {}", path.display()))?;
    }
    let scanner = Scanner::new(args.filename, &*args.namespace);
    let (scan, _) = scanner.with_mesh_config(args.mesh_config).scan();
    let mut files = Files::new(Options::default());
    files.take(&scan);
    let reports: Vec<Report> = files.findings().iter().map(Report::from).collect();
    if args.output.is_table() {
        reports
            .iter()
            .for_each(|report| table::say!("{}", report.line()));
        let objects = scan.files.values().map(|file| file.objects.len()).sum();
        eprintln!("{}", summary(objects, scan.files.len(), reports.len()));
    } else {
        table::print(&reports, args.output)?;
    }
    Ok(if reports.iter().any(Report::is_error) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// "12 objects in 3 files are good, 1 finding".
fn summary(objects: usize, files: usize, findings: usize) -> String {
    let count = |n: usize, what: &str| match n {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let are = if objects == 1 { "is" } else { "are" };
    format!(
        "{} in {} {are} good, {}",
        count(objects, "object"),
        count(files, "file"),
        count(findings, "finding")
    )
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn one_is_not_many() {
        assert_eq!(summary(1, 1, 0), "1 object in 1 file is good, 0 findings");
    }
}
