//! The workload's identity: from the authority, from files, or from nobody; and where it goes.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use agent_core::options::{Endpoint, Key, Options};
use agent_core::paths::{CertificateFiles, IdentitySource, Paths, RootPlaces};
use agent_core::secrets::{KeyPair, read_roots};
use agent_core::trust::Teller;
use identity::{CaClient, FolderIdentity, Material, Proof, RenewOptions, Renewer, accounts};
use mesh_api::citadel::TrustBundle;
use mesh_types::{SpiffeId, TrustDomain, WorkloadId};
use pki::crl::Crl;
use pki::{KeyType, PrivateKey, Renewal};
use service_kit::tls::{Identities, ServerId, TlsIdentity, Trust, read_trust};
use service_kit::{Ready, Stop, replace_file};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::sds::{Store, read_file, system_roots, watch_files};
use crate::trust::TrustKeeper;

/// An identity that cannot be kept as the options say.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A name that is no part of a SPIFFE ID.
    #[error("TRUST_DOMAIN, POD_NAMESPACE, SERVICE_ACCOUNT: {0}")]
    Name(#[from] mesh_types::SpiffeError),
    /// A name of a server that is none.
    #[error("{0}: {1}")]
    Server(&'static str, String),
    /// The authority's address.
    #[error("CA_ADDR: {0}")]
    Address(String),
    /// `SYSTEM`, and the system has no roots at a known place.
    #[error("{0}=SYSTEM: this system has no file of roots at a known place")]
    NoSystemRoots(&'static str),
    /// A header.
    #[error("CA_HEADER: {0}")]
    Header(String),
}

/// An identity that is kept up to date while `run` is.
pub struct Source {
    /// For the agent's own connections.
    pub identities: Identities,
    /// Key, chain, roots.
    pub material: watch::Receiver<Option<Arc<Material>>>,
    /// Citadel's bundle, if the authority tells.
    pub bundle: watch::Receiver<Option<Arc<TrustBundle>>>,
    /// Keeps it.
    pub run: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The source of the workload's identity; `None`: there is none here.
///
/// # Errors
/// See [`IdentityError`].
pub fn source(
    source: &IdentitySource,
    options: &Options,
    paths: &Paths,
    metrics: &Metrics,
    ready: &Ready,
    stop: &Stop,
) -> Result<Option<Source>, IdentityError> {
    match source {
        IdentitySource::Foreign | IdentitySource::None => Ok(None),
        IdentitySource::Files(files) => {
            let folder = files.chain.parent().unwrap_or(Path::new("/"));
            let kept = FolderIdentity::new(folder.to_owned());
            Ok(Some(Source {
                identities: kept.identities(),
                material: kept.material(),
                bundle: watch::channel(None).1,
                run: Box::pin(kept.run(ready.clone(), stop.clone())),
            }))
        }
        IdentitySource::Authority => {
            let Some(ca) = &options.identity.ca else {
                return Ok(None);
            };
            let renewer = renewer(ca, options, paths, metrics)?;
            Ok(Some(Source {
                identities: renewer.identities(),
                material: renewer.material(),
                bundle: renewer.bundle(),
                run: Box::pin(renewer.run(ready.clone(), stop.clone())),
            }))
        }
    }
}

fn renewer(
    ca: &Endpoint,
    options: &Options,
    paths: &Paths,
    metrics: &Metrics,
) -> Result<Renewer, IdentityError> {
    let said = &options.identity;
    let id: WorkloadId = said.workload()?;
    let domain = id.trust_domain().clone();
    let server = server(
        "CA_SAN",
        &said.ca_sans,
        &domain,
        &options.control.namespace,
        accounts::CITADEL,
    )?;
    let mut client = CaClient::new(&ca.to_string(), server, domain)
        .map_err(|error| IdentityError::Address(error.to_string()))?
        .with_roots(root_file(
            "CA_ROOT_CA",
            paths.roots(said.ca_roots.as_ref(), options),
        )?);
    let metrics = metrics.clone();
    client = client.with_observer(move |call| metrics.asked_authority(call));
    for (name, value) in &said.ca_headers {
        client = client
            .with_header(name, value)
            .map_err(IdentityError::Header)?;
    }
    if let Some(cluster) = options.node.metadata.get("CLUSTER_ID")
        && let Some(cluster) = cluster.as_str()
    {
        client = client
            .with_header("clusterid", cluster)
            .map_err(IdentityError::Header)?;
    }
    let proof = match (&said.provisioned, &said.join_token) {
        (Some(folder), _) => Proof::Folder(paths.resolve(folder)),
        (None, Some(file)) => Proof::JoinTokenFile(paths.resolve(file)),
        (None, None) => Proof::TokenFile(paths.token()),
    };
    let folder = paths.data().join("identity");
    let mut renew = RenewOptions::new(id.to_spiffe_id(), client, proof, folder);
    renew.ttl = said.ttl;
    renew.key_type = match said.key {
        Key::Rsa(bits) => KeyType::Rsa(u32::try_from(bits).unwrap_or(2048)),
        Key::EcP256 => KeyType::EcP256,
        Key::EcP384 => KeyType::EcP384,
    };
    renew.renewal = Renewal {
        ratio: said.grace_ratio,
        jitter: said.grace_jitter,
    };
    Ok(Renewer::new(renew))
}

/// The file that holds a server's roots: the first that is there, or the one that is waited for.
///
/// # Errors
/// The system's are wanted, and it has none.
pub fn root_file(name: &'static str, places: RootPlaces) -> Result<PathBuf, IdentityError> {
    match places {
        RootPlaces::System => system_roots().ok_or(IdentityError::NoSystemRoots(name)),
        RootPlaces::FirstOf(places) => {
            let there = places.iter().find(|path| path.is_file());
            let last = places.last().cloned().unwrap_or_default();
            Ok(there.cloned().unwrap_or(last))
        }
    }
}

/// Who a server of the control plane must be: SPIFFE IDs, or one DNS name, or by default the service account that such servers have.
///
/// # Errors
/// A name that is none, or both kinds.
pub fn server(
    variable: &'static str,
    sans: &[String],
    domain: &TrustDomain,
    namespace: &str,
    account: &str,
) -> Result<ServerId, IdentityError> {
    if let [name] = sans
        && !name.starts_with("spiffe://")
    {
        return ServerId::name(name).map_err(|error| IdentityError::Server(variable, error));
    }
    if sans.is_empty() {
        let id = WorkloadId::new(domain.clone(), namespace, account)?;
        return Ok(ServerId::spiffe(id.to_spiffe_id()));
    }
    let ids = sans.iter().map(|san| {
        SpiffeId::parse(san).map_err(|error| {
            let text = format!("{error}; want SPIFFE IDs, or one DNS name");
            IdentityError::Server(variable, text)
        })
    });
    Ok(ServerId::Spiffe(ids.collect::<Result<Vec<_>, _>>()?.into()))
}

/// Hands an identity on, until `stop`: to Envoy's secrets, to files, to the metric of its end.
pub struct Handover {
    /// Where Envoy gets it.
    pub store: Store,
    /// Whom it trusts.
    pub trust: TrustKeeper,
    /// Whether keys keep their PKCS#8 form.
    pub pkcs8: bool,
    /// Folder that key, chain and root are written to.
    pub output: Option<PathBuf>,
    /// Mode of those files.
    pub mode: u32,
    /// Counters.
    pub metrics: Metrics,
}

impl Handover {
    /// Hands on every change.
    pub async fn run(
        self,
        mut material: watch::Receiver<Option<Arc<Material>>>,
        mut bundle: watch::Receiver<Option<Arc<TrustBundle>>>,
        mut identities: Identities,
        stop: Stop,
    ) {
        loop {
            let newest = bundle.borrow_and_update().clone();
            if let Some(newest) = newest
                && let Err(error) = self.trust.take_bundle((*newest).clone(), Teller::Authority)
            {
                tracing::warn!(error, "the authority's trust bundle cannot be used");
            }
            let newest = material.borrow_and_update().clone();
            if let Some(newest) = newest {
                self.hand_on(&newest);
            }
            if let Some(identity) = &*identities.borrow_and_update() {
                let end = identity.certificate().not_after().unix_timestamp();
                self.metrics
                    .cert_expiry
                    .with_label_values(&["default"])
                    .set(end);
            }
            tokio::select! {
                () = stop.wait() => return,
                Ok(()) = material.changed() => {}
                Ok(()) = bundle.changed() => {}
                Ok(()) = identities.changed() => {}
                else => return stop.wait().await,
            }
        }
    }

    fn hand_on(&self, material: &Material) {
        match read_roots(material.roots.as_bytes()) {
            Ok(roots) => {
                let crls = BTreeSet::from([material.crls.clone()]);
                self.trust.take_authority(roots, crls);
            }
            Err(error) => tracing::warn!(%error, "the roots that came with the certificate"),
        }
        let key = match self.pkcs8 {
            true => material.key.to_string(),
            false => {
                match PrivateKey::from_pem(&material.key).and_then(|key| key.to_traditional_pem()) {
                    Ok(key) => key.to_string(),
                    Err(error) => {
                        tracing::warn!(%error, "the key stays in PKCS#8");
                        material.key.to_string()
                    }
                }
            }
        };
        if let Some(folder) = &self.output
            && let Err(error) = self.write(folder, material, &key)
        {
            tracing::error!(folder = %folder.display(), %error, "OUTPUT_CERTS cannot be written");
        }
        self.store.set_workload(&KeyPair {
            chain: material.chain.clone().into(),
            key: key.into(),
        });
    }

    fn write(&self, folder: &Path, material: &Material, key: &str) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for (name, text) in [
            ("key.pem", key),
            ("cert-chain.pem", &material.chain),
            ("root-cert.pem", &material.roots),
        ] {
            replace_file(&folder.join(name), text.as_bytes(), self.mode)?;
        }
        Ok(())
    }
}

/// The revocation lists of a file, `None` if it is not there or empty. Something else in `ROOTCA` would make Envoy reject whom it trusts as well.
fn read_crl(path: &Path) -> Result<Option<String>, String> {
    let bytes = match read_file(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = String::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let lists = Crl::all_from_pem(&text).map_err(|error| error.to_string())?;
    if lists.is_empty() {
        return Err("there is none in it".to_owned());
    }
    Ok(Some(lists.iter().map(Crl::to_pem).collect()))
}

/// Follows a revocation list beside the control plane's root, until `stop`.
pub async fn follow_crl(
    path: PathBuf,
    trust: TrustKeeper,
    debounce: std::time::Duration,
    stop: Stop,
) {
    let mut files = watch_files(vec![path.clone()], debounce);
    loop {
        match read_crl(&path) {
            Ok(crl) => trust.take_crl(crl),
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "no revocation list can be read; the one before stays");
            }
        }
        tokio::select! {
            () = stop.wait() => return,
            () = files.changed() => {}
        }
    }
}

/// Roots of a file, read again when it changes.
pub struct RootFile {
    /// The file.
    pub path: PathBuf,
    /// Of which trust domain.
    pub domain: TrustDomain,
    /// How long it must be quiet.
    pub debounce: std::time::Duration,
}

impl RootFile {
    fn read(&self) -> Result<Arc<Trust>, String> {
        let bytes = read_file(&self.path).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| "is no text".to_owned())?;
        let trust = read_trust(self.domain.clone(), &text, "");
        trust.map(Arc::new).map_err(|error| error.to_string())
    }

    /// Keeps `out` at `identities`, believing this file instead, until `stop`. While the file cannot be read, what it said before counts.
    pub async fn follow(
        self,
        mut identities: Identities,
        out: watch::Sender<Option<Arc<TlsIdentity>>>,
        stop: Stop,
    ) {
        let mut files = watch_files(vec![self.path.clone()], self.debounce);
        let mut trust: Option<Arc<Trust>> = None;
        loop {
            match self.read() {
                Ok(read) if trust.as_ref() == Some(&read) => {}
                Ok(read) => trust = Some(read),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), error, "roots cannot be read; trying again");
                }
            }
            let newest = identities.borrow_and_update().clone();
            if let (Some(identity), Some(trust)) = (newest, &trust) {
                out.send_replace(Some(Arc::new(identity.with_trust(trust.clone()))));
            }
            tokio::select! {
                () = stop.wait() => return,
                changed = identities.changed() => if changed.is_err() { return stop.wait().await },
                () = files.changed() => {}
            }
        }
    }

    /// The roots, once they can be read; `None` if `stop` comes first.
    pub async fn wait(&self, stop: &Stop) -> Option<Arc<Trust>> {
        let mut files = watch_files(vec![self.path.clone()], self.debounce);
        loop {
            match self.read() {
                Ok(trust) => return Some(trust),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), error, "roots cannot be read; waiting");
                }
            }
            tokio::select! {
                () = stop.wait() => return None,
                () = files.changed() => {}
            }
        }
    }
}

/// Whether all three files are there.
pub fn all_there(files: &CertificateFiles) -> bool {
    [&files.chain, &files.key, &files.root]
        .into_iter()
        .all(|path| path.is_file())
}
