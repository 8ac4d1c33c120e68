//! A Citadel of our own, and callers that it knows.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mesh_api::citadel::CreateTokenRequest;
use mesh_api::citadel::operator_client::OperatorClient;
use mesh_api::istio::ca::IstioCertificateRequest;
use mesh_api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_types::{SpiffeId, TrustDomain};
use pki::{Bundle, KeyType, PrivateKey, csr};
use serde_json::json;
use service_kit::tls::{self, ClientTls, ServerId, TlsIdentity, Trust};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;

use super::{Known, Root};
use crate::process::CpuMeter;

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);
const ISSUER: &str = "https://issuer.bench";
const AUDIENCE: &str = "istio-ca";
const PILOT: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-pilot-service-account";
const CITADEL: &str = "spiffe://cluster.local/ns/istio-system/sa/istio-citadel-service-account";

/// A running Citadel. It ends when this is dropped.
pub struct Authority {
    /// Where it listens.
    pub address: String,
    /// Who it is.
    pub server: ServerId,
    child: Child,
    trust: Arc<Trust>,
    issuer: EncodingKey,
    folder: TempDir,
}

/// Somebody who asks for certificates.
#[derive(Clone)]
pub struct Caller {
    /// Its side of TLS.
    pub tls: ClientTls,
    /// Its token, if it is known by one.
    pub bearer: Option<String>,
    /// Its request, in PEM.
    pub csr: Arc<str>,
}

impl Authority {
    /// Starts it and waits until it issues.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(program: Option<&Path>, root: Root) -> anyhow::Result<Authority> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe()?.with_file_name("flotilla"),
        };
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let (key, keys) = issuer()?;
        std::fs::write(at("jwks.json"), keys)?;
        let log = std::fs::File::create(at("log"))?;
        let child = Command::new(&program)
            .arg("citadel")
            .arg("--data-dir")
            .arg(at("data"))
            .arg("--root-ca-dir")
            .arg(at("no-folder"))
            .arg("--ports-file")
            .arg(at("ports.json"))
            .arg("--jwks-file")
            .arg(at("jwks.json"))
            .args(["--root-key", &root.flag()])
            .args(["--grpc-addr=127.0.0.1:0", "--monitoring-addr=127.0.0.1:0"])
            // Limits are no part of what is measured.
            .args([
                "--identity-rate=1000000",
                "--identity-burst=1000000",
                "--total-rate=0",
            ])
            .arg("--log-output-level=default:warn")
            .env(
                "JWT_RULE",
                json!({ "issuer": ISSUER, "audiences": [AUDIENCE] }).to_string(),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut starting = Starting {
            child,
            deadline: Instant::now() + START,
            log: at("log"),
        };
        let ports = starting.file(at("ports.json")).await?;
        let ports: serde_json::Value = serde_json::from_str(&ports)?;
        let address = ports["grpc"].as_str().context("no address of gRPC")?;
        let roots = starting.file(at("data/root-cert.pem")).await?;
        let trust = Trust::of(
            TrustDomain::default(),
            Arc::new(Bundle::from_pem(&roots)?),
            [].into(),
        );
        Ok(Authority {
            address: address.to_owned(),
            server: ServerId::spiffe(SpiffeId::parse(CITADEL)?),
            child: starting.child,
            trust: Arc::new(trust),
            issuer: key,
            folder,
        })
    }

    /// A meter of its processor time.
    pub fn meter(&self) -> anyhow::Result<CpuMeter> {
        Ok(CpuMeter::new(self.child.id().context("Citadel has ended")?))
    }

    /// Ends it.
    pub async fn end(mut self) {
        let _ = self.child.kill().await;
    }

    /// Arguments of a Pilot that gets its identity from here, and takes any proxy of ours whatever its node says: a fleet shares one
    /// certificate.
    ///
    /// # Errors
    /// There is no token.
    pub async fn identity_of_pilot(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let token = self.folder.path().join("pilot-token");
        std::fs::write(&token, self.join_token(&SpiffeId::parse(PILOT)?).await?)?;
        let at = |path: &Path| path.display().to_string();
        let arguments = [
            ("--ca-addr", self.address.clone()),
            (
                "--ca-root",
                at(&self.folder.path().join("data/root-cert.pem")),
            ),
            ("--join-token-file", at(&token)),
            ("--identity-dir", at(folder)),
            ("--secure-grpc-addr", "127.0.0.1:0".to_owned()),
            ("--xds-identity-check", "false".to_owned()),
        ];
        let words = arguments.into_iter();
        Ok(words
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect())
    }

    /// How proxies speak to that Pilot.
    ///
    /// # Errors
    /// There is no certificate for them.
    pub async fn proxy(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        let caller = self.by_certificate(0).await?;
        let pilot = ServerId::spiffe(SpiffeId::parse(PILOT)?);
        let mut config = tls::client_config(caller.tls, pilot);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// Callers with identities of their own.
    pub async fn callers(&self, known_by: Known, count: usize) -> anyhow::Result<Vec<Caller>> {
        let mut callers = Vec::new();
        for number in 0..count {
            callers.push(match known_by {
                Known::Certificate => self.by_certificate(number).await?,
                Known::Jwt => self.by_jwt(number)?,
            });
        }
        Ok(callers)
    }

    fn by_jwt(&self, number: usize) -> anyhow::Result<Caller> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("bench".into());
        let expires = 4_000_000_000_u64;
        let claims = json!({
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": format!("system:serviceaccount:bench:caller-{number}"),
            "exp": expires,
        });
        let token = jsonwebtoken::encode(&header, &claims, &self.issuer)?;
        let key = PrivateKey::generate(KeyType::EcP256)?;
        Ok(Caller {
            tls: ClientTls::from(self.trust.clone()),
            bearer: Some(format!("Bearer {token}")),
            csr: csr::create(&key, &id(number)?)?.into(),
        })
    }

    async fn by_certificate(&self, number: usize) -> anyhow::Result<Caller> {
        let id = id(number)?;
        let token = self.join_token(&id).await?;
        let key = PrivateKey::generate(KeyType::EcP256)?;
        let request = csr::create(&key, &id)?;
        let channel = tls::connect(&self.address, self.trust.clone(), self.server.clone())?;
        let mut ask = tonic::Request::new(IstioCertificateRequest {
            csr: request.clone(),
            ..Default::default()
        });
        ask.metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
        let answer = IstioCertificateServiceClient::new(channel)
            .create_certificate(ask)
            .await?;
        let mut chain = answer.into_inner().cert_chain;
        chain.pop();
        let identity = TlsIdentity::new(&chain.concat(), &key.to_pkcs8_pem(), self.trust.clone())?;
        Ok(Caller {
            tls: ClientTls::from(watch::channel(Some(Arc::new(identity))).1),
            bearer: None,
            csr: request.into(),
        })
    }

    async fn join_token(&self, id: &SpiffeId) -> anyhow::Result<String> {
        let socket = self.folder.path().join("data/operator.sock");
        let dial = tower::service_fn(move |_: hyper::Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is not used, but there must be one.
        let channel = Endpoint::from_static("http://citadel")
            .connect_with_connector(dial)
            .await?;
        let request = CreateTokenRequest {
            spiffe_id: id.to_string(),
            ..Default::default()
        };
        let token = OperatorClient::new(channel).create_token(request).await?;
        Ok(token.into_inner().token)
    }
}

/// A Citadel that is not ready yet.
struct Starting {
    child: Child,
    deadline: Instant,
    log: PathBuf,
}

impl Starting {
    /// Waits for a file that it writes.
    async fn file(&mut self, path: PathBuf) -> anyhow::Result<String> {
        loop {
            if let Ok(text) = std::fs::read_to_string(&path) {
                return Ok(text);
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > self.deadline {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("Citadel did not start: {log}");
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn id(number: usize) -> anyhow::Result<SpiffeId> {
    let text = format!("spiffe://cluster.local/ns/bench/sa/caller-{number}");
    Ok(SpiffeId::parse(&text)?)
}

/// The issuer's key, and the document it publishes.
fn issuer() -> anyhow::Result<(EncodingKey, String)> {
    let key = PrivateKey::generate(KeyType::EcP256)?;
    // The point stands at the end, uncompressed: 4, x, y.
    let spki = key.public_key().spki_der();
    let point = spki.get(spki.len() - 64..).context("no point")?;
    let (x, y) = point.split_at(32);
    let keys = json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    }] });
    let key = EncodingKey::from_ec_pem(key.to_pkcs8_pem().as_bytes())?;
    Ok((key, keys.to_string()))
}
