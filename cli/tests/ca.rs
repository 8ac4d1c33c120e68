//! `flotilla citadel` and `flotilla ca`, as an operator types them.

#![allow(
    clippy::disallowed_methods,
    reason = "starts processes and waits for them outside of any runtime"
)]
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::{FLOTILLA, await_that, flotilla, get};

/// A running Citadel. Killed when dropped.
struct Citadel {
    child: Child,
    dir: tempfile::TempDir,
    grpc: String,
}

impl Drop for Citadel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Citadel {
    fn start() -> Citadel {
        let dir = tempfile::tempdir().unwrap();
        let ports = dir.path().join("ports");
        let child = Command::new(FLOTILLA)
            .args([
                "citadel",
                "--grpc-addr=127.0.0.1:0",
                "--monitoring-addr=127.0.0.1:0",
            ])
            .arg("--root-ca-dir")
            .arg(dir.path().join("cacerts"))
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--ports-file")
            .arg(&ports)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut found = Value::Null;
        await_that("readiness", || {
            let text = std::fs::read(&ports).unwrap_or_default();
            found = serde_json::from_slice(&text).unwrap_or_default();
            let address = found["monitoring"].as_str();
            address.is_some_and(|address| get(address, "/ready").0 == 200)
        });
        Citadel {
            child,
            grpc: found["grpc"].as_str().unwrap().to_owned(),
            dir,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A command over the socket.
    #[track_caller]
    fn ca(&self, arguments: &[&str]) -> (i32, String, String) {
        let socket = self.path("data/operator.sock");
        let all = [&["ca"], arguments].concat();
        flotilla(&all, &[("FLOTILLA_CA_SOCKET", &socket)])
    }

    /// The same, over TLS with an identity.
    fn over_tls(&self, folder: &str, arguments: &[&str]) -> (i32, String, String) {
        let flags = ["--ca-addr", &self.grpc, "--identity", folder];
        flotilla(&[&["ca"], arguments, &flags].concat(), &[])
    }

    /// A folder with an identity, by a join token.
    #[track_caller]
    fn enroll(&self, id: &str, out: &str) -> String {
        let root = self.path("root.pem");
        let (code, token, error) =
            self.ca(&["token", "create", "--spiffe-id", id, "--ca-root", &root]);
        assert_eq!(code, 0, "{error}");
        let out = self.path(out);
        let flags = ["--ca-addr", &self.grpc, "--ca-root", &root, "--out", &out];
        let all = [&["ca", "enroll"], &flags[..]].concat();
        let (code, said, error) = flotilla(&all, &[("FLOTILLA_JOIN_TOKEN", token.trim())]);
        assert_eq!(code, 0, "{error}");
        assert!(said.starts_with(id), "{said}");
        // Once.
        let again = self.path("again");
        let flags = ["--ca-addr", &self.grpc, "--ca-root", &root, "--out", &again];
        let all = [&["ca", "enroll"], &flags[..]].concat();
        let (code, _, error) = flotilla(&all, &[("FLOTILLA_JOIN_TOKEN", token.trim())]);
        assert_eq!(code, 1);
        assert!(error.contains("token create"), "{error}");
        out
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn an_operator_sees_and_steers_the_authority() {
    let citadel = Citadel::start();
    let (code, out, error) = citadel.ca(&["status"]);
    assert_eq!(code, 0, "{error}");
    for words in [
        "trust domain   cluster.local",
        "self-signed",
        "EC P-256",
        "signs, trusted",
    ] {
        assert!(out.contains(words), "{words:?} in {out}");
    }
    let app = "spiffe://cluster.local/ns/shop/sa/cart";
    let folder = citadel.enroll(app, "cart");
    let key = Path::new(&folder).join("key.pem");
    let mode = std::os::unix::fs::PermissionsExt::mode(&key.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let (code, out, _) = citadel.ca(&["journal", "--spiffe-id", app, "-o", "json"]);
    assert_eq!(code, 0);
    let entries = json(&out);
    assert_eq!(entries[0]["event"], "issued");
    assert_eq!(entries[0]["attestation"], "join-token");
    let serial = entries[0]["serial"].as_str().unwrap();
    let (_, table, _) = citadel.ca(&["journal"]);
    assert!(table.contains(serial) && table.starts_with("N "), "{table}");

    let (code, out, _) = citadel.ca(&["revoke", "--serial", serial, "--hold", "--reason", "lost"]);
    assert_eq!(code, 0);
    assert!(
        out.starts_with(&format!(
            "revocation 1: serial {serial} (on hold) (1 certificates)"
        )),
        "{out}"
    );
    let (_, out, _) = citadel.ca(&["revocations"]);
    assert!(out.contains("lost") && out.contains("socket"), "{out}");
    let (code, out, error) = citadel.ca(&["lift", "1", "--reason", "found"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("revocation 1 is lifted"), "{out}");
    let (code, _, error) = citadel.ca(&["lift", "1", "--reason", "found"]);
    assert_eq!(
        (code, error.trim()),
        (1, "flotilla: revocation 1 is not in force")
    );

    let (code, out, _) = citadel.ca(&["rotate", "status"]);
    assert_eq!(code, 0);
    assert!(out.contains("none"), "{out}");
    let (code, _, error) = citadel.ca(&["rotate", "pause"]);
    assert_eq!(code, 1);
    assert!(error.contains("rotate start"), "{error}");
    let (code, out, error) = citadel.ca(&["rotate", "start"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("distributing the new root"), "{out}");
    let (code, _, _) = citadel.ca(&["rotate", "force"]);
    assert_eq!(code, 2, "a reason is wanted");
    let (code, out, _) = citadel.ca(&["rotate", "abort"]);
    assert_eq!(code, 0);
    assert!(out.contains("none"), "{out}");
}

#[test]
fn over_tls_a_role_is_needed() {
    let citadel = Citadel::start();
    let account = |name: &str| format!("spiffe://cluster.local/ns/istio-system/sa/{name}");
    let viewer = citadel.enroll(&account("flotilla-viewer"), "viewer");
    let nobody = citadel.enroll(&account("nobody"), "nobody");
    let (code, out, error) = citadel.over_tls(&viewer, &["status", "-o", "json"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(json(&out)["trust_domain"], "cluster.local");
    let (code, _, error) = citadel.over_tls(&viewer, &["rotate", "start"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("needs the role operator") && error.contains("--operators"),
        "{error}"
    );
    let (code, _, error) = citadel.over_tls(&nobody, &["status"]);
    assert_eq!(code, 1);
    assert!(error.contains("needs the role viewer"), "{error}");
}

#[test]
fn what_is_not_there_says_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("operator.sock").display().to_string();
    let (code, _, error) = flotilla(&["ca", "status", "--ca-socket", &socket], &[]);
    assert_eq!(code, 1);
    assert!(
        error.contains("--ca-socket") && error.contains("--ca-addr"),
        "{error}"
    );
    // Nobody behind it.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (code, _, error) = flotilla(&["ca", "status", "--ca-socket", &socket], &[]);
    assert_eq!(code, 1);
    assert!(error.contains("is Citadel running"), "{error}");
    let missing = dir.path().join("nothing").display().to_string();
    let flags = ["--ca-addr", "127.0.0.1:1", "--identity", &missing];
    let (code, _, error) = flotilla(&[&["ca", "status"], &flags[..]].concat(), &[]);
    assert_eq!(code, 1);
    assert!(error.contains("nothing"), "{error}");
    let (code, _, error) = flotilla(&["ca", "revoke", "--reason", "x"], &[]);
    assert_eq!(code, 2, "{error}");
}
