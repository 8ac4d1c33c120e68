//! `flotilla validate`: the parser of the plane, on files.

use std::path::PathBuf;
use std::process::ExitCode;

use config_source::Scanner;
use mesh_types::{Finding, Level};

use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File or folder to check; repeatable
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true)]
    filename: Vec<PathBuf>,

    /// Namespace of objects that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// One line per finding, or json
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Prints one line per finding; fails if one is an error.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut scanner = Scanner::new(args.filename, &*args.namespace);
    let (scan, _) = scanner.scan();
    let findings: Vec<&Finding> = scan.findings().collect();
    match args.output {
        Output::Short => findings
            .iter()
            .for_each(|finding| println!("{}", line(finding))),
        output => table::print(&findings, output)?,
    }
    if args.output == Output::Short {
        let objects: usize = scan.files.values().map(|file| file.objects.len()).sum();
        eprintln!(
            "{objects} objects in {} files are good, {} findings",
            scan.files.len(),
            findings.len()
        );
    }
    let bad = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// File, level, object, place, code and message.
pub fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    let object = finding
        .key
        .as_ref()
        .map(|key| format!("{key}: "))
        .unwrap_or_default();
    let path = finding.path.to_string();
    let path = if path.is_empty() {
        path
    } else {
        format!("{path}: ")
    };
    let file = if finding.file.is_empty() {
        String::new()
    } else {
        format!("{}: ", finding.file)
    };
    format!(
        "{file}{level}: {object}{path}{} [{}]",
        finding.message, finding.code
    )
}
