//! The identity of a service, from its flags.

use std::path::Path;
use std::sync::Arc;

use mesh_api::citadel::TrustBundle;
use service_kit::tls::{Identities, ServerId, TlsSettings};
use service_kit::{Ready, Roles, Stop};
use tokio::sync::watch;

use crate::args::{ArgsError, IdentityArgs};
use crate::ca_client::CaClient;
use crate::folder::Material;
use crate::options::{Proof, RenewOptions};
use crate::renew::Renewer;
use crate::watch_folder::FolderIdentity;

/// Who a service is, and who may ask it what. Made before anything listens, so that everything can be given [`Identity::identities`]; it
/// begins with [`Identity::run`].
#[derive(Debug)]
pub struct Identity {
    source: Source,
    roles: Roles,
    settings: TlsSettings,
    nats: ServerId,
}

#[derive(Debug)]
enum Source {
    Citadel(Box<Renewer>),
    Folder(FolderIdentity),
}

impl IdentityArgs {
    /// The identity that the flags ask for: `None` without `--ca-addr` and `--identity-dir`. `account` is the service's own by default (see
    /// [`accounts`](crate::accounts)), `data_dir` its data folder.
    ///
    /// # Errors
    /// See [`ArgsError`].
    pub fn identity(&self, account: &str, data_dir: &Path) -> Result<Option<Identity>, ArgsError> {
        if !self.enabled() {
            return Ok(None);
        }
        let settings = self.tls_settings()?;
        let folder = self.folder(data_dir);
        let source = match (&self.ca_addr, &self.ca_root) {
            (Some(address), Some(root)) => {
                let ca = CaClient::new(address, self.citadel()?, self.trust_domain.clone())?
                    .with_roots(root.clone())
                    .with_settings(settings.clone());
                let proof = match (&self.ca_token_file, &self.join_token_file) {
                    (Some(file), _) => Proof::TokenFile(file.clone()),
                    (None, Some(file)) => Proof::JoinTokenFile(file.clone()),
                    (None, None) => Proof::Certificate,
                };
                let mut options = RenewOptions::new(self.own_id(account)?, ca, proof, folder);
                options.ttl = self.cert_ttl;
                Source::Citadel(Box::new(Renewer::new(options)))
            }
            _ => Source::Folder(FolderIdentity::new(folder)),
        };
        Ok(Some(Identity {
            source,
            roles: self.roles()?,
            settings,
            nats: self.nats()?,
        }))
    }
}

impl Identity {
    /// The newest identity.
    pub fn identities(&self) -> Identities {
        match &self.source {
            Source::Citadel(renewer) => renewer.identities(),
            Source::Folder(folder) => folder.identities(),
        }
    }

    /// The newest key, chain and roots in PEM, for who must hand them on.
    pub fn material(&self) -> watch::Receiver<Option<Arc<Material>>> {
        match &self.source {
            Source::Citadel(renewer) => renewer.material(),
            Source::Folder(folder) => folder.material(),
        }
    }

    /// Citadel's trust bundle, as it was heard last; `None` for ever if the certificate is somebody else's to keep.
    pub fn bundle(&self) -> watch::Receiver<Option<Arc<TrustBundle>>> {
        match &self.source {
            Source::Citadel(renewer) => renewer.bundle(),
            Source::Folder(folder) => folder.bundle(),
        }
    }

    /// Who has which role.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// Who the bus's server must be, if it is NATS over TLS.
    pub fn nats(&self) -> &ServerId {
        &self.nats
    }

    /// Versions and ciphers.
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Gets, keeps and renews it until `stop`; what it waits for is the condition `identity` of `ready`.
    pub async fn run(self, ready: Ready, stop: Stop) {
        match self.source {
            Source::Citadel(renewer) => renewer.run(ready, stop).await,
            Source::Folder(folder) => folder.run(ready, stop).await,
        }
    }
}
