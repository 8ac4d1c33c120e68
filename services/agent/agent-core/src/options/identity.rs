//! Options of keys, certificates and the authority.

use std::path::PathBuf;
use std::time::Duration;

use mesh_types::{SpiffeError, WorkloadId};

use super::control_plane::{Endpoint, Roots, roots};
use super::read::Reader;

/// How the agent gets its workload's identity.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityOptions {
    /// `CA_ADDR`: the authority. `None`: there is none, Pilot is asked without TLS (see [`super::control_plane`]).
    pub ca: Option<Endpoint>,
    /// `CA_ROOT_CA`: by what the authority's own certificate is verified. `None`: where it is looked for is in [`crate::paths`].
    pub ca_roots: Option<Roots>,
    /// `CA_HEADER_*`: more metadata of requests to the authority; names in lower case.
    pub ca_headers: Vec<(String, String)>,
    /// `CA_SAN`: names that the authority's certificate may have, SPIFFE IDs or DNS names; empty means its usual ones.
    pub ca_sans: Vec<String>,
    /// `TRUST_DOMAIN`. Default cluster.local.
    pub trust_domain: String,
    /// `POD_NAMESPACE`. Default `default`.
    pub namespace: String,
    /// `SERVICE_ACCOUNT`. Default `default`.
    pub service_account: String,
    /// `SECRET_TTL`: validity that is asked for. Default 24h.
    pub ttl: Duration,
    /// `SECRET_GRACE_PERIOD_RATIO`: renewed when this share of the life remains. 0..=1, default 0.5.
    pub grace_ratio: f64,
    /// `SECRET_GRACE_PERIOD_RATIO_JITTER`: random share added or taken away. 0..=1, default 0.01.
    pub grace_jitter: f64,
    /// Kind of key.
    pub key: Key,
    /// `PKCS8_KEY`: keys are encoded as PKCS#8 rather than in the form of their kind (SEC1, PKCS#1). Default false.
    pub pkcs8: bool,
    /// `OUTPUT_CERTS`: folder that key, chain and root are written to.
    pub output: Option<PathBuf>,
    /// `PROV_CERT`: folder with `cert-chain.pem`, `key.pem` (and `root-cert.pem`) that the authority is asked with.
    pub provisioned: Option<PathBuf>,
    /// `JOIN_TOKEN_FILE`: file with a one-time join token.
    pub join_token: Option<PathBuf>,
    /// `FILE_MOUNTED_CERTS`: certificates come only from files.
    pub file_mounted: bool,
    /// `FILE_DEBOUNCE_DURATION`. Default 100ms.
    pub file_debounce: Duration,
    /// `WORKLOAD_IDENTITY_SOCKET_FILE`: name of the socket that secrets are served on. Default `socket`.
    pub socket: String,
}

impl IdentityOptions {
    /// Whose certificate is asked for.
    ///
    /// # Errors
    /// The names make no SPIFFE ID; [`super::read`] has refused such ones.
    pub fn workload(&self) -> Result<WorkloadId, SpiffeError> {
        WorkloadId::new(
            self.trust_domain.parse()?,
            &self.namespace,
            &self.service_account,
        )
    }
}

/// Kind of private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// RSA of this many bits.
    Rsa(usize),
    /// ECDSA on P-256.
    EcP256,
    /// ECDSA on P-384.
    EcP384,
}

/// Default name of the socket.
pub const SOCKET: &str = "socket";

pub(super) fn read(reader: &mut Reader<'_>, fallback: Option<Endpoint>) -> IdentityOptions {
    match reader.text_or("CA_PROVIDER", "Citadel").as_str() {
        "Citadel" => {}
        known @ ("GoogleCAS" | "GkeWorkloadCertificate") => {
            reader.refuse(
                "CA_PROVIDER",
                format!("{known} is not supported, only Citadel is"),
            );
        }
        other => reader.refuse(
            "CA_PROVIDER",
            format!("{other:?} is no provider, use Citadel"),
        ),
    }
    match reader
        .text_or("JWT_POLICY", super::THIRD_PARTY_JWT)
        .as_str()
    {
        super::THIRD_PARTY_JWT => {}
        other => reader.refuse(
            "JWT_POLICY",
            format!("{other:?} is not supported, only third-party-jwt is"),
        ),
    }
    match reader.text_or("CREDENTIAL_FETCHER_TYPE", "JWT").as_str() {
        "JWT" => {}
        other => reader.refuse(
            "CREDENTIAL_FETCHER_TYPE",
            format!("{other:?} is not supported, only JWT is"),
        ),
    }
    let ca = match reader.text("CA_ADDR") {
        Some(text) => match text.parse::<Endpoint>() {
            Ok(found) if found.tls => Some(found),
            Ok(_) => {
                reader.refuse(
                    "CA_ADDR",
                    "an authority is asked over TLS: leave http:// out",
                );
                None
            }
            Err(reason) => {
                reader.refuse("CA_ADDR", reason);
                None
            }
        },
        None => fallback,
    };
    let socket = reader.text_or("WORKLOAD_IDENTITY_SOCKET_FILE", SOCKET);
    if socket.contains(['/', '\\', '\0']) || socket == "." || socket == ".." {
        reader.refuse(
            "WORKLOAD_IDENTITY_SOCKET_FILE",
            format!("{socket:?} is a path, want the name of a file"),
        );
    }
    let provisioned = reader.text("PROV_CERT").map(PathBuf::from);
    let file_mounted = reader.flag("FILE_MOUNTED_CERTS", false);
    if provisioned.is_some() && file_mounted {
        reader.refuse(
            "PROV_CERT",
            "cannot be used together with FILE_MOUNTED_CERTS: one asks an authority, the other never does",
        );
    }
    let identity = IdentityOptions {
        ca,
        ca_roots: roots(reader, "CA_ROOT_CA"),
        ca_headers: super::control_plane::headers(reader, "CA_HEADER_"),
        ca_sans: reader.list("CA_SAN"),
        trust_domain: reader.text_or("TRUST_DOMAIN", "cluster.local"),
        namespace: reader.text_or("POD_NAMESPACE", "default"),
        service_account: reader.text_or("SERVICE_ACCOUNT", "default"),
        ttl: reader.duration("SECRET_TTL", Duration::from_secs(24 * 3600)),
        grace_ratio: reader.ratio("SECRET_GRACE_PERIOD_RATIO", 0.5),
        grace_jitter: reader.ratio("SECRET_GRACE_PERIOD_RATIO_JITTER", 0.01),
        key: key(reader),
        pkcs8: reader.flag("PKCS8_KEY", false),
        output: reader.text("OUTPUT_CERTS").map(PathBuf::from),
        provisioned,
        join_token: reader.text("JOIN_TOKEN_FILE").map(PathBuf::from),
        file_mounted,
        file_debounce: reader.duration("FILE_DEBOUNCE_DURATION", Duration::from_millis(100)),
        socket,
    };
    if identity.ttl < Duration::from_secs(1) {
        reader.refuse("SECRET_TTL", "a certificate lives a second at least");
    }
    if let Err(error) = identity.workload() {
        reader.refuse("TRUST_DOMAIN, POD_NAMESPACE, SERVICE_ACCOUNT", error);
    }
    identity
}

fn key(reader: &mut Reader<'_>) -> Key {
    let bits = reader.parsed("WORKLOAD_RSA_KEY_SIZE", 2048_usize);
    if ![2048, 3072, 4096].contains(&bits) {
        reader.refuse(
            "WORKLOAD_RSA_KEY_SIZE",
            format!("{bits} bits are not supported, use 2048, 3072 or 4096"),
        );
    }
    let curve = match reader.text_or("ECC_CURVE", "P256").as_str() {
        "P256" => Key::EcP256,
        "P384" => Key::EcP384,
        other => {
            reader.refuse(
                "ECC_CURVE",
                format!("{other:?} is not supported, use P256 or P384"),
            );
            Key::EcP256
        }
    };
    match reader.text("ECC_SIGNATURE_ALGORITHM") {
        None => Key::Rsa(bits),
        Some("ECDSA") => curve,
        Some(other) => {
            reader.refuse(
                "ECC_SIGNATURE_ALGORITHM",
                format!("{other:?} is not supported, use ECDSA, or leave it out for RSA"),
            );
            curve
        }
    }
}
