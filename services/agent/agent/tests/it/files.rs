//! Certificates in files.

use std::path::Path;
use std::time::Duration;

use super::authority::{Root, workload};
use super::pilot::Pilot;
use super::rig::{Setup, write};
use super::secrets::{Asking, pair, roots};

const DAY: Duration = Duration::from_secs(86_400);

/// Writes a generation as the kubelet does: a folder, and a link to it that is replaced.
fn mount(folder: &Path, generation: &str, files: &[(&str, &str)]) {
    let data = folder.join(format!("..{generation}"));
    std::fs::create_dir_all(&data).unwrap();
    for (name, text) in files {
        std::fs::write(data.join(name), text).unwrap();
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(format!("..data/{name}"), link).unwrap();
        }
    }
    let partial = folder.join("..data_tmp");
    std::os::unix::fs::symlink(format!("..{generation}"), &partial).unwrap();
    std::fs::rename(partial, folder.join("..data")).unwrap();
}

/// Case 27: a swapped link is one push; a pair that is half written is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_files_are_pushed_once_and_only_when_they_match() {
    let pilot = Pilot::plain().await;
    let agent = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .start()
        .await;
    let root = Root::new();
    let id = workload("default", "web");
    let (one, two) = (root.issue(&id, DAY), root.issue(&id, DAY));
    let folder = agent.path("tls");
    mount(&folder, "1", &[("tls.crt", &one.0), ("tls.key", &one.1)]);
    let name = format!("file-cert:{0}/tls.crt~{0}/tls.key", folder.display());
    let mut stream = Asking::for_secret(&agent.secrets(), &name).await;
    let first = stream.take().await;
    assert_eq!(first.name, name);
    assert_eq!(pair(first), one);
    mount(&folder, "2", &[("tls.crt", &two.0), ("tls.key", &two.1)]);
    assert_eq!(pair(stream.take().await), two);
    assert!(stream.is_quiet(Duration::from_millis(500)).await);

    // One file after the other, in a folder that is not there yet.
    let three = root.issue(&id, DAY);
    let plain = agent.path("later/plain");
    let name = "file-cert:later/plain/c.pem~later/plain/k.pem";
    let mut stream = Asking::for_secret(&agent.secrets(), name).await;
    assert_eq!(stream.refusal().await.code(), tonic::Code::Unavailable);
    write(&plain.join("c.pem"), &three.0);
    write(&plain.join("k.pem"), &two.1);
    let mut stream = Asking::for_secret(&agent.secrets(), name).await;
    assert!(stream.is_quiet(Duration::from_millis(300)).await);
    write(&plain.join("k.pem"), &three.1);
    assert_eq!(pair(stream.take().await), three);

    // Roots: what is none among them is left out.
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write(&agent.path("r.pem"), &format!("{bad}{}", root.pem()));
    let mut stream = Asking::for_secret(&agent.secrets(), "file-root:r.pem").await;
    assert_eq!(roots(stream.take().await).0, root.pem());
    let mut stream = Asking::for_secret(&agent.secrets(), "file-root:system").await;
    assert!(roots(stream.take().await).0.contains("BEGIN CERTIFICATE"));
}

/// Files that the platform provides are the identity, also towards Pilot.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_platform_are_the_identity() {
    let root = Root::new();
    let id = workload("default", "web");
    let pilot_id = workload("istio-system", "istio-pilot-service-account");
    let pilot = Pilot::tls(root.identity(&pilot_id, &root.pem())).await;
    let (chain, key) = root.issue(&id, DAY);
    let setup = Setup::new().pilots(&[pilot.address.to_string()]);
    let folder = setup
        .root
        .path()
        .join("var/run/secrets/workload-spiffe-credentials");
    std::fs::create_dir_all(&folder).unwrap();
    let files = |chain: &str, key: &str, root: &str, generation: &str| {
        let files = [
            ("cert-chain.pem", chain),
            ("key.pem", key),
            ("root-cert.pem", root),
        ];
        mount(&folder, generation, &files);
    };
    files(&chain, &key, &root.pem(), "1");
    let agent = setup.start().await;
    agent.ready().await;
    assert_eq!(pilot.peers(), [id.to_string()]);
    let mut stream = Asking::for_secret(&agent.secrets(), "default").await;
    assert_eq!(pair(stream.take().await).0, chain);
    let mut trust = Asking::for_secret(&agent.secrets(), "ROOTCA").await;
    assert_eq!(roots(trust.take().await).0, root.pem());
    let (chain, key) = root.issue(&id, DAY);
    let other = Root::new();
    let both = root.pem() + &other.pem();
    files(&chain, &key, &both, "2");
    assert_eq!(pair(stream.take().await).0, chain);
    assert!(roots(trust.take().await).0.contains(&other.pem()));
}
