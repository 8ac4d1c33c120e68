//! A folder with a certificate.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use identity::{FolderError, Material, folder};
use pki::{KeyType, PrivateKey};
use time::Duration as Span;

use crate::ca::{leaf, root};
use crate::id;

pub fn material(account: &str) -> Material {
    let (authority, key) = (root(), PrivateKey::generate(KeyType::EcP256).unwrap());
    Material {
        key: key.to_pkcs8_pem(),
        chain: leaf(&authority, &id(account), key.public_key(), Span::hours(1)).to_pem(),
        roots: authority.certificate().to_pem(),
        crls: String::new(),
    }
}

#[test]
fn generations_are_swapped_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/identity");
    let (first, second) = (material("a"), material("b"));
    folder::write(&path, &first).unwrap();
    assert_eq!(folder::read(&path).unwrap(), first);
    assert_eq!(
        fs::read_to_string(path.join("key.pem")).unwrap(),
        *first.key
    );
    folder::write(&path, &second).unwrap();
    assert_eq!(folder::read(&path).unwrap(), second);
    assert_eq!(
        fs::read_to_string(path.join("cert-chain.pem")).unwrap(),
        second.chain
    );
    // One generation, one link to it, four links through that.
    assert_eq!(fs::read_dir(&path).unwrap().count(), 6);
    assert_eq!(
        fs::metadata(path.join("key.pem")).unwrap().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
}

/// A writer that dies leaves what was there, and the next one cleans up.
#[test]
fn half_a_generation_is_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    let first = material("a");
    folder::write(&path, &first).unwrap();
    let half = path.join("..generation-dead");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("key.pem"), "half").unwrap();
    fs::write(path.join("..data.tmp"), "half").unwrap();
    assert_eq!(folder::read(&path).unwrap(), first);
    folder::write(&path, &first).unwrap();
    assert!(!half.exists() && !path.join("..data.tmp").exists());
}

#[test]
fn plain_files_and_secrets_of_kubernetes_are_read_and_plain_files_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let first = material("a");
    fs::write(path.join("tls.key"), &*first.key).unwrap();
    fs::write(path.join("tls.crt"), &first.chain).unwrap();
    let missing = folder::read(path).unwrap_err();
    assert!(matches!(
        missing,
        FolderError::Missing {
            name: "root-cert.pem",
            ..
        }
    ));
    fs::write(path.join("ca.crt"), &first.roots).unwrap();
    assert_eq!(folder::read(path).unwrap(), first);
    // Our own names come first.
    let second = material("b");
    for (name, text) in [
        ("key.pem", &*second.key),
        ("cert-chain.pem", &second.chain),
        ("root-cert.pem", &second.roots),
    ] {
        fs::write(path.join(name), text).unwrap();
    }
    assert_eq!(folder::read(path).unwrap(), second);
    let third = material("c");
    folder::write(path, &third).unwrap();
    assert_eq!(folder::read(path).unwrap(), third);
    assert!(
        fs::symlink_metadata(path.join("key.pem"))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    folder::write(&path, &material("a")).unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(folder::read(&path), Err(FolderError::Open(_))),
            "{mode:o}"
        );
        assert!(matches!(
            folder::write(&path, &material("b")),
            Err(FolderError::Open(_))
        ));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(folder::read(&path).is_ok());
    if fs::metadata(&path).unwrap().uid() == 0 {
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert!(matches!(folder::read(&path), Err(FolderError::Open(_))));
    }
}

#[test]
fn what_is_no_pem_is_said_so_without_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity");
    folder::write(&path, &material("a")).unwrap();
    fs::write(path.join("key.pem"), [0xff, 0xfe]).unwrap();
    assert!(matches!(folder::read(&path), Err(FolderError::NoPem(_))));
    fs::write(path.join("key.pem"), "secret words").unwrap();
    let error = folder::read(&path).unwrap().identity().unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let mut mixed = material("a");
    mixed.key = material("a").key;
    assert_eq!(
        mixed.identity().unwrap_err().to_string(),
        "the private key does not belong to the certificate"
    );
    assert!(!format!("{mixed:?}").contains("PRIVATE"));
}
