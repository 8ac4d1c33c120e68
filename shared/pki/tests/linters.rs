//! What the linters of others say of what we make: zlint and pkilint, and py-spiffe, which reads it. `e2e/tools/setup.sh --tests` installs them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use pki::{Certificate, KeyType, PrivateKey};

fn program(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../.cache")
        .join(path);
    assert!(
        path.exists(),
        "{} is not there; run e2e/tools/setup.sh --tests",
        path.display()
    );
    path
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Every kind of certificate that is made, with a name.
fn certificates() -> Vec<(String, Certificate)> {
    let mut out = Vec::new();
    for signer in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa(2048)] {
        let root = root(PrivateKey::generate(signer).unwrap());
        let below = below(&root, ec());
        for holder in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa(2048)] {
            let key = PrivateKey::generate(holder).unwrap();
            out.push((
                format!("leaf, {holder}, of {signer}"),
                leaf(&root, &key, APP, 5),
            ));
        }
        out.push((
            format!("intermediate of {signer}"),
            below.certificate().clone(),
        ));
        out.push((format!("root {signer}"), root.certificate().clone()));
    }
    out
}

/// Findings of zlint that do not count, each with the reason.
const ALLOWED_ZLINT: &[&str] = &[
    // A SPIFFE ID is a URI; the web's authorities may not sign such names.
    "e_ext_san_uniform_resource_identifier_present",
    // What the CA/Browser Forum and browsers want of authorities of the web: policies, a country, places to fetch lists and issuers from,
    // transparency logs. A mesh hands out its lists and chains itself.
    "e_ca_country_name_missing",
    "e_ca_organization_name_missing",
    "e_invalid_ca_certificate_policies",
    "e_sub_ca_certificate_policies_missing",
    "e_sub_ca_crl_distribution_points_missing",
    "e_sub_cert_aia_missing",
    "e_sub_cert_cert_policy_empty",
    "e_sub_cert_certificate_policies_missing",
    "n_ca_digital_signature_not_set",
    "n_ct_sct_policy_count_unsatisfied",
    "n_mp_allowed_eku",
    "n_sub_ca_eku_missing",
    "w_sub_ca_aia_missing",
    "w_sub_cert_aia_does_not_contain_issuing_ca_url",
    // RFC 5280, section 4.2.1.2, wants it; the Forum does not, to save bytes.
    "w_ext_subject_key_identifier_not_recommended_subscriber",
];

/// Findings of pkilint that do not count, each with the reason.
const ALLOWED_PKILINT: &[&str] = &[
    // It knows the schemes of the web only.
    "pkix.invalid_uri_syntax (ERROR): Invalid URI syntax: \"spiffe://cluster.local/ns/default/sa/app\"",
];

#[test]
fn zlint_finds_nothing() {
    let mut found = BTreeSet::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.pem");
    for (name, certificate) in certificates() {
        std::fs::write(&file, certificate.to_pem()).unwrap();
        let said = run(Command::new(program("bin/zlint")).arg(&file));
        let said: BTreeMap<String, Outcome> = serde_json::from_str(&said).unwrap();
        assert!(said.len() > 100, "only {} lints ran", said.len());
        for (lint, outcome) in said {
            if !matches!(outcome.result.as_str(), "pass" | "NA" | "NE")
                && !ALLOWED_ZLINT.contains(&lint.as_str())
            {
                found.insert(format!("{}: {lint}: {}", outcome.result, name));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[derive(serde::Deserialize)]
struct Outcome {
    result: String,
}

#[test]
fn pkilint_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("certificate.pem");
    for (name, certificate) in certificates() {
        std::fs::write(&file, certificate.to_pem()).unwrap();
        let said = run(Command::new(program("certificates/bin/lint_pkix_cert"))
            .arg("lint")
            .arg(&file));
        assert!(
            said.contains("rfc7093_method_1_identified"),
            "{name}: {said}"
        );
        for line in said.lines().map(str::trim) {
            let counts = ["(NOTICE)", "(WARNING)", "(ERROR)", "(FATAL)"];
            assert!(
                !counts.iter().any(|level| line.contains(level)) || ALLOWED_PKILINT.contains(&line),
                "{name}: {line}"
            );
        }
    }
}

/// py-spiffe reads a chain with its key as an SVID, and the roots as a bundle.
#[test]
fn py_spiffe_reads_an_svid() {
    const READ: &str = "
import sys
from spiffe import X509Svid, X509Bundle, TrustDomain
read = lambda name: open(name, 'rb').read()
svid = X509Svid.parse(read('chain.pem'), read('key.pem'))
bundle = X509Bundle.parse(TrustDomain('cluster.local'), read('root.pem'))
print(svid.spiffe_id, len(svid.cert_chain), len(bundle.x509_authorities))
";
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let below = below(&root(ec()), ec());
    let key = ec();
    let answer = below.response(&leaf(&below, &key, APP, 5));
    write("chain.pem", &answer[..2].concat());
    write("root.pem", &answer[2]);
    write("key.pem", &key.to_pkcs8_pem());
    let said = run(Command::new(program("certificates/bin/python"))
        .current_dir(folder.path())
        .args(["-c", READ]));
    assert_eq!(said.trim(), format!("{APP} 2 1"));
}
