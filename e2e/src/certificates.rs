//! Certificates of a mesh in files, for proxies without an agent and for clients that are made up.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh_types::{SpiffeId, TrustDomain};
use pki::{Authority, KeyType, LeafRequest, PrivateKey, Serial};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// A root that vouches for workloads, and the files of those it has vouched for.
#[derive(Debug)]
pub struct Roots {
    authority: Authority,
    dir: TempDir,
}

/// A workload's key and certificate.
#[derive(Debug)]
pub struct Certified {
    certificate: pki::Certificate,
    key: PrivateKey,
}

fn serial() -> Serial {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [1; 16];
    bytes[8..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Serial::from_random(bytes)
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

impl Roots {
    /// A new root.
    ///
    /// # Panics
    /// If no key or folder can be had.
    pub fn new() -> Roots {
        let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
        let domain = TrustDomain::new("cluster.local").expect("a name");
        // Long ago, so that it can have vouched for what has expired since.
        let then = now() - Duration::days(30);
        let authority = Authority::self_signed(key, &domain, Duration::days(60), serial(), then);
        Roots {
            authority: authority.expect("a root"),
            dir: TempDir::with_prefix("flotilla-certificates-").expect("a folder"),
        }
    }

    /// A certificate of `spiffe://..` that is good for an hour.
    ///
    /// # Panics
    /// If the identity is none.
    pub fn certify(&self, id: &str) -> Certified {
        self.certify_at(id, now())
    }

    /// The same, an hour long from another time on.
    ///
    /// # Panics
    /// As [`Roots::certify`].
    pub fn certify_at(&self, id: &str, when: OffsetDateTime) -> Certified {
        let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
        let request = LeafRequest {
            id: &SpiffeId::parse(id).expect("an identity"),
            public_key: key.public_key(),
            ttl: Duration::hours(1),
            names: &[],
            common_name: false,
        };
        let certificate = self.authority.issue(&request, serial(), when);
        Certified {
            certificate: certificate.expect("a certificate"),
            key,
        }
    }

    /// An expired certificate.
    ///
    /// # Panics
    /// As [`Roots::certify`].
    pub fn expired(&self, id: &str) -> Certified {
        self.certify_at(id, now() - Duration::days(1))
    }

    /// Metadata of a proxy that accepts and makes connections with a certificate of that identity, which is written to files.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn metadata(&self, id: &str) -> Value {
        let name = id.replace([':', '/'], "-");
        let certified = self.certify(id);
        let write = |kind: &str, text: &str| {
            let path = self.dir.path().join(format!("{name}.{kind}.pem"));
            write(&path, text);
            path.display().to_string()
        };
        let chain = write("chain", &certified.certificate.to_pem());
        let key = write("key", &certified.key.to_pkcs8_pem());
        let root = write("root", &self.authority.roots().to_pem());
        json!({
            "TLS_SERVER_CERT_CHAIN": chain, "TLS_SERVER_KEY": key, "TLS_SERVER_ROOT_CERT": root,
            "TLS_CLIENT_CERT_CHAIN": chain, "TLS_CLIENT_KEY": key, "TLS_CLIENT_ROOT_CERT": root,
        })
    }

    /// Writes the files of an authority that was made elsewhere, for Citadel.
    ///
    /// # Panics
    /// If one cannot be written.
    pub fn write_authority(&self, folder: &Path) {
        let certificate = self.authority.certificate().to_pem();
        let key = self.authority.private_key().to_pkcs8_pem();
        write(&folder.join("ca-cert.pem"), &certificate);
        write(&folder.join("ca-key.pem"), &key);
        write(&folder.join("cert-chain.pem"), &certificate);
        write(
            &folder.join("root-cert.pem"),
            &self.authority.roots().to_pem(),
        );
    }
}

impl Default for Roots {
    fn default() -> Roots {
        Roots::new()
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// TLS of a client that believes every server, shows this certificate if there is one, and offers these protocols.
///
/// # Panics
/// If the certificate cannot be used.
pub fn client_tls(certified: Option<&Certified>, alpn: &[&str]) -> Arc<ClientConfig> {
    let own = |own: &Certified| (vec![own.certificate.der().clone()], own.key.to_pki_types());
    config(certified.map(own), alpn)
}

/// The same with the certificate of a folder, as `flotilla ca enroll` writes it, for HTTP.
///
/// # Panics
/// If there is none, or it cannot be used.
pub fn enrolled_tls(folder: &Path) -> Arc<ClientConfig> {
    let file = folder.join("cert-chain.pem");
    let chain = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
    let chain = chain.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let file = folder.join("key.pem");
    let key = PrivateKeyDer::from_pem_file(&file);
    let key = key.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    config(Some((chain, key)), &["http/1.1"])
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn config(own: Option<Own>, alpn: &[&str]) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .expect("a certificate and its key"),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
