//! What OpenSSL says of what we make, and what we say of what OpenSSL makes. `e2e/tools/setup.sh --tests` installs it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use pki::crl::{self, Crl, RevocationReason, Revoked};
use pki::{Authority, Certificate, KeyType, Material, PrivateKey, Use, csr};
use time::{Duration, OffsetDateTime};

/// Runs openssl in a folder and hands over what it printed, good or bad.
fn openssl(folder: &Path, args: &str) -> Result<String, String> {
    let output = Command::new("openssl")
        .current_dir(folder)
        .args(args.split(' '))
        .output()
        .expect("openssl is not in PATH; run e2e/tools/setup.sh --tests");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

fn at() -> String {
    format!("-attime {}", NOW.unix_timestamp())
}

#[test]
fn leaves_verify_strictly_under_every_kind_of_root() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for kind in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa(2048)] {
        let root = root(PrivateKey::generate(kind).unwrap());
        let below = below(&root, ec());
        write(folder, "root.pem", &root.roots().to_pem());
        write(folder, "below.pem", &below.certificate().to_pem());
        for holder in [KeyType::EcP256, KeyType::Rsa(2048), KeyType::Ed25519] {
            let key = PrivateKey::generate(holder).unwrap();
            for (signer, extra) in [(&root, ""), (&below, " -untrusted below.pem")] {
                write(folder, "leaf.pem", &leaf(signer, &key, APP, 9).to_pem());
                for purpose in ["sslserver", "sslclient"] {
                    let args = format!(
                        "verify -x509_strict -purpose {purpose} {} -CAfile root.pem{extra} leaf.pem",
                        at()
                    );
                    let said = openssl(folder, &args).unwrap();
                    assert_eq!(said.trim(), "leaf.pem: OK");
                }
            }
            let said = openssl(folder, "x509 -in leaf.pem -noout -text").unwrap();
            for want in [
                "X509v3 Subject Alternative Name: critical",
                &format!("URI:{APP}"),
                "X509v3 Key Usage: critical",
                "X509v3 Basic Constraints: critical",
                "TLS Web Server Authentication, TLS Web Client Authentication",
                "Version: 3 (0x2)",
            ] {
                assert!(said.contains(want), "{want} is not in {said}");
            }
        }
    }
}

#[test]
fn requests_and_keys_of_ours_are_read_by_openssl() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for kind in [
        KeyType::EcP256,
        KeyType::EcP384,
        KeyType::Rsa(2048),
        KeyType::Ed25519,
    ] {
        let key = PrivateKey::generate(kind).unwrap();
        write(folder, "csr.pem", &csr::create(&key, &id(APP)).unwrap());
        let said = openssl(folder, "req -in csr.pem -verify -noout -text").unwrap();
        assert!(said.contains("verify OK"), "{said}");
        assert!(said.contains(&format!("URI:{APP}")), "{said}");
        for text in [key.to_pkcs8_pem(), key.to_traditional_pem().unwrap()] {
            write(folder, "key.pem", &text);
            openssl(folder, "pkey -in key.pem -check -noout").unwrap();
        }
    }
}

#[test]
fn requests_of_openssl_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (make, kind) in [
        (
            "ecparam -name prime256v1 -genkey -out key.pem",
            KeyType::EcP256,
        ),
        (
            "ecparam -name secp384r1 -genkey -out key.pem",
            KeyType::EcP384,
        ),
        ("genrsa -traditional -out key.pem 2048", KeyType::Rsa(2048)),
        ("genrsa -out key.pem 3072", KeyType::Rsa(3072)),
        ("genpkey -algorithm ed25519 -out key.pem", KeyType::Ed25519),
    ] {
        openssl(folder, make).unwrap();
        openssl(folder, "req -new -key key.pem -subj /CN=x -out csr.pem").unwrap();
        let text = std::fs::read_to_string(folder.join("csr.pem")).unwrap();
        let checked = csr::check(&text).unwrap();
        assert!(checked.has_common_name);
        let text = std::fs::read_to_string(folder.join("key.pem")).unwrap();
        let key = PrivateKey::from_pem(&text).unwrap();
        assert_eq!(
            (key.key_type(), key.public_key()),
            (kind, &checked.public_key)
        );
    }
    for bad in [
        "ecparam -name secp521r1 -genkey -out key.pem",
        "ecparam -name secp256k1 -genkey -out key.pem",
        "ecparam -name brainpoolP256r1 -genkey -out key.pem",
        "genpkey -algorithm ed448 -out key.pem",
        "genrsa -out key.pem 1024",
    ] {
        openssl(folder, bad).unwrap();
        openssl(folder, "req -new -key key.pem -subj /CN=x -out csr.pem").unwrap();
        let text = std::fs::read_to_string(folder.join("csr.pem")).unwrap();
        assert_eq!(csr::check(&text), Err(csr::CsrError::KeyType), "{bad}");
        let text = std::fs::read_to_string(folder.join("key.pem")).unwrap();
        assert!(PrivateKey::from_pem(&text).is_err(), "{bad}");
    }
    // A curve that is spelt out instead of named.
    openssl(
        folder,
        "ecparam -name prime256v1 -param_enc explicit -genkey -out key.pem",
    )
    .unwrap();
    openssl(folder, "req -new -key key.pem -subj /CN=x -out csr.pem").unwrap();
    let text = std::fs::read_to_string(folder.join("csr.pem")).unwrap();
    assert_eq!(csr::check(&text), Err(csr::CsrError::KeyType));
}

/// A root as many enterprises have it: domain components, the same attribute twice, an EC key with a block of parameters.
#[test]
fn an_authority_of_openssl_signs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(folder, "ecparam -name prime256v1 -genkey -out ca-key.pem").unwrap();
    openssl(
        folder,
        "req -x509 -new -key ca-key.pem -days 30 -subj /DC=com/DC=example/OU=a+OU=b/CN=R%C3%B6ot -out ca-cert.pem -addext keyUsage=critical,keyCertSign,cRLSign",
    )
    .unwrap();
    let read = |name| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("ca-key.pem").contains("EC PARAMETERS"));
    let certificate = Certificate::from_pem(&read("ca-cert.pem")).unwrap();
    let now = certificate.not_before() + Duration::hours(1);
    let authority = Authority::new(
        Material {
            key: PrivateKey::from_pem(&read("ca-key.pem")).unwrap(),
            certificate: certificate.clone(),
            chain: vec![certificate.clone()],
            roots: vec![certificate],
        },
        &domain(),
        now,
    )
    .unwrap();
    assert!(authority.chain().is_empty());
    let key = ec();
    let request = pki::LeafRequest {
        id: &id(APP),
        public_key: key.public_key(),
        ttl: Duration::days(90),
        names: &["pilot.istio-system.svc".into()],
        common_name: false,
    };
    let leaf = authority.issue(&request, serial(8), now).unwrap();
    assert_eq!(leaf.not_after(), authority.certificate().not_after());
    assert!(
        trust(&authority)
            .verify(leaf.der(), &[], Use::Server, now)
            .is_ok()
    );
    write(folder, "leaf.pem", &leaf.to_pem());
    let attime = now.unix_timestamp();
    openssl(
        folder,
        &format!("verify -x509_strict -attime {attime} -verify_hostname pilot.istio-system.svc -CAfile ca-cert.pem leaf.pem"),
    )
    .unwrap();
}

#[test]
fn revocation_lists_are_believed_by_openssl_and_read_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let root = root(ec());
    let (kept, taken) = (leaf(&root, &ec(), APP, 20), leaf(&root, &ec(), APP, 0x7f));
    let revoked = [
        RevocationReason::Unspecified,
        RevocationReason::KeyCompromise,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
        RevocationReason::CertificateHold,
    ]
    .iter()
    .zip(0x7b..)
    .map(|(reason, number)| Revoked {
        serial: serial(number),
        at: NOW - Duration::hours(1),
        reason: *reason,
    })
    .collect::<Vec<_>>();
    assert_eq!(revoked[4].serial, *taken.serial());
    let list = crl::build(&root, &revoked, u64::MAX, NOW, NOW + Duration::days(1)).unwrap();
    write(folder, "root.pem", &root.roots().to_pem());
    write(folder, "crl.pem", &list.to_pem());
    write(folder, "kept.pem", &kept.to_pem());
    write(folder, "taken.pem", &taken.to_pem());
    let said = openssl(folder, "crl -in crl.pem -CAfile root.pem -noout -text").unwrap();
    assert!(said.contains("verify OK"), "{said}");
    for want in [
        "Key Compromise",
        "Superseded",
        "Cessation Of Operation",
        "Certificate Hold",
    ] {
        assert!(said.contains(want), "{want} is not in {said}");
    }
    let verify = |name: &str| {
        let args = format!(
            "verify -x509_strict -crl_check {} -CAfile root.pem -CRLfile crl.pem {name}",
            at()
        );
        openssl(folder, &args)
    };
    assert_eq!(verify("kept.pem").unwrap().trim(), "kept.pem: OK");
    assert!(
        verify("taken.pem")
            .unwrap_err()
            .contains("certificate revoked")
    );

    // And one that openssl makes with the same key.
    write(folder, "key.pem", &root.private_key().to_pkcs8_pem());
    write(
        folder,
        "ca.cnf",
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ncrlnumber=number\ncrl_extensions=x\n[x]\nauthorityKeyIdentifier=keyid\n",
    );
    write(folder, "number", "1000\n");
    let line = format!(
        "R\t360101000000Z\t260101000000Z,keyCompromise\t{}\tunknown\t/CN=x\n",
        taken.serial()
    );
    write(
        folder,
        "index",
        &line
            .to_uppercase()
            .replace("KEYCOMPROMISE", "keyCompromise")
            .replace("UNKNOWN", "unknown"),
    );
    openssl(
        folder,
        "ca -config ca.cnf -gencrl -keyfile key.pem -cert root.pem -crldays 30 -out theirs.pem",
    )
    .unwrap();
    let theirs = std::fs::read_to_string(folder.join("theirs.pem")).unwrap();
    let theirs = Crl::all_from_pem(&theirs).unwrap();
    assert_eq!(theirs[0].number(), Some(0x1000));
    assert!(theirs[0].is_issued_by(root.certificate()));
    assert!(theirs[0].revokes(&taken) && !theirs[0].revokes(&kept));
}

/// Roots that live beyond 2049 are written in the other form of time.
#[test]
fn a_root_for_the_rest_of_the_century_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let life = Duration::days(70 * 365);
    let root = Authority::self_signed(ec(), &domain(), life, serial(1), NOW).unwrap();
    write(folder, "root.pem", &root.roots().to_pem());
    write(folder, "leaf.pem", &leaf(&root, &ec(), APP, 3).to_pem());
    let args = format!("verify -x509_strict {} -CAfile root.pem leaf.pem", at());
    openssl(folder, &args).unwrap();
    let said = openssl(folder, "x509 -in root.pem -noout -enddate").unwrap();
    let end: OffsetDateTime = root.certificate().not_after();
    assert!(said.contains(&end.year().to_string()), "{said}");
}
