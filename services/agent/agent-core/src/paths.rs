//! Where the agent's files are, below one root folder.

use std::path::{Path, PathBuf};

use crate::options::{Options, Roots, SOCKET};

/// Longest path of a Unix socket that Linux takes. Unit: bytes.
const MAX_SOCKET: usize = 107;

/// Places below the root folder, which is `/` unless several agents share a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

/// Three files that make an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the leaf first.
    pub chain: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
    /// Whom to trust.
    pub root: PathBuf,
}

impl CertificateFiles {
    fn below(folder: &Path) -> CertificateFiles {
        CertificateFiles {
            chain: folder.join("cert-chain.pem"),
            key: folder.join("key.pem"),
            root: folder.join("root-cert.pem"),
        }
    }
}

/// A socket's path is longer than the system takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: a socket's path has {MAX_SOCKET} bytes at most; use a shorter --root-dir",
    .0.display()
)]
pub struct TooLong(pub PathBuf);

impl Paths {
    /// Below this folder.
    pub fn new(root: impl Into<PathBuf>) -> Paths {
        Paths { root: root.into() }
    }

    /// A path of an option: absolute ones stay, others are below the root folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        let mut plain = self.root.clone();
        plain.extend(
            path.components()
                .filter(|part| *part != std::path::Component::CurDir),
        );
        plain
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The socket that Envoy and other workloads of the pod get secrets from.
    pub fn workload_socket(&self, name: &str) -> PathBuf {
        self.at("var/run/secrets/workload-spiffe-uds").join(name)
    }

    /// The socket for files only, when another server owns the identity.
    pub fn files_socket(&self) -> PathBuf {
        self.at("var/run/secrets/credential-uds/files-socket")
    }

    /// The socket of an external server of credentials.
    pub fn credential_socket(&self) -> PathBuf {
        self.at("var/run/secrets/credential-uds/socket")
    }

    /// Certificates that the platform provides: they win over everything else when all three are there.
    pub fn platform_certificates(&self) -> CertificateFiles {
        let folder = self.at("var/run/secrets/workload-spiffe-credentials");
        CertificateFiles::below(&folder)
    }

    /// Certificates mounted the old way.
    pub fn mounted_certificates(&self) -> CertificateFiles {
        CertificateFiles::below(&self.at("etc/certs"))
    }

    /// The projected token of the service account.
    pub fn token(&self) -> PathBuf {
        self.at("var/run/secrets/tokens/istio-token")
    }

    /// The control plane's root.
    pub fn control_plane_root(&self) -> PathBuf {
        self.at("var/run/secrets/istio/root-cert.pem")
    }

    /// A revocation list beside it.
    pub fn crl(&self) -> PathBuf {
        self.at("var/run/secrets/istio/crl/ca-crl.pem")
    }

    /// Where the agent keeps what must survive a restart.
    pub fn data(&self) -> PathBuf {
        self.at("var/lib/istio/data")
    }

    /// Labels as the downward API writes them.
    pub fn labels(&self) -> PathBuf {
        self.at("etc/istio/pod/labels")
    }

    /// Annotations as the downward API writes them.
    pub fn annotations(&self) -> PathBuf {
        self.at("etc/istio/pod/annotations")
    }

    /// The mesh's file.
    pub fn mesh_file(&self) -> PathBuf {
        self.at("etc/istio/config/mesh")
    }

    /// The resolver's settings: the system's, unless there are some below the root folder.
    pub fn resolver(&self) -> PathBuf {
        self.at("etc/resolv.conf")
    }

    /// The socket of Envoy's xDS.
    pub fn xds_socket(&self, options: &Options) -> PathBuf {
        self.resolve(&options.proxy_config.config_path).join("XDS")
    }

    /// The bootstrap.
    pub fn bootstrap(&self, options: &Options) -> PathBuf {
        self.resolve(&options.proxy_config.config_path)
            .join("envoy-rev.json")
    }

    /// Every socket that is made or connected to.
    ///
    /// # Errors
    /// One is too long.
    pub fn check(&self, options: &Options) -> Result<(), TooLong> {
        let sockets = [
            self.xds_socket(options),
            self.workload_socket(&options.identity.socket),
            self.files_socket(),
            self.credential_socket(),
        ];
        match sockets
            .into_iter()
            .find(|path| path.as_os_str().len() > MAX_SOCKET)
        {
            Some(path) => Err(TooLong(path)),
            None => Ok(()),
        }
    }

    /// Where the certificate that a server of the control plane is verified by is looked for, in order. What was said explicitly is the only
    /// place; otherwise the first that exists counts, and the last is waited for if none does. Never "no verification".
    pub fn roots(&self, said: Option<&Roots>, options: &Options) -> RootPlaces {
        match said {
            Some(Roots::System) => return RootPlaces::System,
            Some(Roots::File(path)) => return RootPlaces::FirstOf(vec![self.resolve(path)]),
            None => {}
        }
        let mut places = vec![self.mounted_certificates().root];
        if let Some(folder) = &options.identity.provisioned {
            places.push(self.resolve(folder).join("root-cert.pem"));
        }
        if options.identity.file_mounted
            && let Some(path) = options.node.metadata.get("TLS_CLIENT_ROOT_CERT")
            && let Some(path) = path.as_str()
        {
            places.push(self.resolve(Path::new(path)));
        }
        places.push(self.control_plane_root());
        RootPlaces::FirstOf(places)
    }
}

/// Where roots are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootPlaces {
    /// The operating system's: the first of [`SYSTEM_ROOTS`] that exists.
    System,
    /// The first of these that exists.
    FirstOf(Vec<PathBuf>),
}

/// Where systems keep the roots they trust.
pub const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where the workload's identity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// Files, read again when they change.
    Files(CertificateFiles),
    /// The authority.
    Authority,
    /// Another server on the workload's socket; the agent serves files only.
    Foreign,
    /// Nowhere: the mesh is in plaintext on loopback.
    None,
}

/// What was found on the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// A live server of secrets owns the workload's socket.
    pub foreign_server: bool,
    /// All three of [`Paths::platform_certificates`] are there.
    pub platform: bool,
    /// All three of [`Paths::mounted_certificates`] are there.
    pub mounted: bool,
}

/// Why no source of identity can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A socket of another name means that another server is there.
    #[error(
        "WORKLOAD_IDENTITY_SOCKET_FILE={0} names the socket of another server, and nobody answers there"
    )]
    NobodyThere(String),
}

/// Chooses the source of the identity.
///
/// # Errors
/// See [`SourceError`].
pub fn choose(
    paths: &Paths,
    options: &Options,
    found: Found,
) -> Result<IdentitySource, SourceError> {
    if found.foreign_server {
        return Ok(IdentitySource::Foreign);
    }
    if options.identity.socket != SOCKET {
        return Err(SourceError::NobodyThere(options.identity.socket.clone()));
    }
    Ok(if found.platform {
        IdentitySource::Files(paths.platform_certificates())
    } else if found.mounted || options.identity.file_mounted {
        IdentitySource::Files(paths.mounted_certificates())
    } else if options.identity.ca.is_some() {
        IdentitySource::Authority
    } else {
        IdentitySource::None
    })
}
