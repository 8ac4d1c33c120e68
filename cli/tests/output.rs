//! What becomes of output that nobody takes.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::process::{Command, Output, Stdio};

fn validate(output: &str, stdout: impl Into<Stdio>) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], unknown: 1}\n";
    std::fs::write(dir.path().join("a.yaml"), text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_flotilla"))
        .args(["validate", "-o", output, "-f"])
        .arg(dir.path())
        .stdout(stdout)
        .output()
        .unwrap()
}

/// `| head`: a reader who has enough changes nothing about the verdict.
#[test]
fn a_reader_may_leave() {
    for output in ["short", "json", "yaml"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let left = validate(output, writer);
        let told = String::from_utf8(left.stderr).unwrap();
        assert!(!told.contains("panicked"), "{told}");
        let read = validate(output, Stdio::piped());
        assert_eq!(left.status.code(), read.status.code(), "{told}");
        assert!(!read.stdout.is_empty());
    }
}

/// A full disk is told.
#[test]
fn output_that_is_lost_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let lost = validate("json", full);
    let told = String::from_utf8(lost.stderr).unwrap();
    assert_eq!(lost.status.code(), Some(1));
    assert!(told.contains("the output cannot be written"), "{told}");
}
