//! `flotilla ca enroll`: a key and a certificate, with a join token.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use mesh_api::istio::ca::IstioCertificateRequest;
use mesh_api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_types::{SpiffeId, TrustDomain};
use pki::{Bundle, Certificate, KeyType, PrivateKey, csr};
use service_kit::tls::{self, ServerId, Trust};
use tonic::metadata::AsciiMetadataValue;

use super::connect::{cause, citadel_of};
use super::words::at;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The join token; `-` reads it from standard input, so that it is not seen among the processes
    #[arg(
        long,
        env = "FLOTILLA_JOIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    token: String,

    /// Address of any Citadel
    #[arg(long, env = "FLOTILLA_CA_ADDR", value_name = "URL")]
    ca_addr: String,

    /// Root certificates of the mesh: root-cert.pem of Citadel's data folder, or what `token create --ca-root` wrote
    #[arg(long, value_name = "FILE")]
    ca_root: PathBuf,

    /// Folder to write cert-chain.pem, key.pem and root-cert.pem to; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// How long the certificate shall live; default as Citadel says
    #[arg(long, value_name = "TIME", value_parser = service_kit::parse_duration, default_value = "0")]
    ttl: Duration,

    /// Trust domain of the mesh
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", value_parser = TrustDomain::new)]
    trust_domain: TrustDomain,

    /// Who Citadel is; default the service account istio-citadel-service-account of istio-system
    #[arg(long, value_name = "ID", value_parser = SpiffeId::parse)]
    ca_id: Option<SpiffeId>,
}

/// Gets the certificate and writes the folder.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let token = match &*args.token {
        "-" => std::io::read_to_string(std::io::stdin()).context("standard input")?,
        token => token.to_owned(),
    };
    let roots = std::fs::read_to_string(&args.ca_root)
        .with_context(|| format!("--ca-root {}", args.ca_root.display()))?;
    let citadel = args
        .ca_id
        .map_or_else(|| citadel_of(&args.trust_domain), Ok)?;
    // Before the token is used up.
    make_folder(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    identity::folder::check(&args.out).context("--out")?;
    let key = args.out.join("key.pem");
    ensure!(
        !key.exists(),
        "{} exists: an identity is not written over; remove it, or choose another folder",
        key.display()
    );
    let enrolled = get(Enrolment {
        token,
        ca_addr: args.ca_addr,
        roots,
        trust_domain: args.trust_domain,
        citadel,
        ttl: args.ttl,
    })
    .await?;
    enrolled.write(&args.out)?;
    crate::table::say!(
        "{} until {}, in {}",
        enrolled.leaf.spiffe_id()?,
        at(enrolled.leaf.not_after().unix_timestamp()),
        args.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Who asks whom for what.
pub struct Enrolment {
    /// The join token.
    pub token: String,
    /// Address of Citadel.
    pub ca_addr: String,
    /// Root certificates of the mesh, in PEM.
    pub roots: String,
    /// Trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// Who Citadel is.
    pub citadel: SpiffeId,
    /// How long the certificate shall live; zero as Citadel says.
    pub ttl: Duration,
}

/// A key, its certificate, and whom to trust.
pub struct Enrolled {
    leaf: Certificate,
    key: PrivateKey,
    chain: String,
    roots: String,
}

/// Makes a key and gets a certificate for it, with a join token.
pub async fn get(enrolment: Enrolment) -> anyhow::Result<Enrolled> {
    let Enrolment {
        token,
        ca_addr,
        roots,
        trust_domain,
        citadel,
        ttl,
    } = enrolment;
    let key = PrivateKey::generate(KeyType::EcP256)?;
    // What the request says it is has no effect: the token says that.
    let anybody = SpiffeId::new(trust_domain.clone(), "/enroll")?;
    let request = IstioCertificateRequest {
        csr: csr::create(&key, &anybody)?,
        validity_duration: i64::try_from(ttl.as_secs())?,
        metadata: None,
    };
    let mut request = tonic::Request::new(request);
    let mut bearer: AsciiMetadataValue = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| anyhow!("the token is none: want flotilla-join.ID.SECRET"))?;
    bearer.set_sensitive(true);
    request.metadata_mut().insert("authorization", bearer);

    let trust = Trust::of(trust_domain, Arc::new(Bundle::from_pem(&roots)?), [].into());
    let channel = tls::connect(&ca_addr, Arc::new(trust), ServerId::spiffe(citadel))?;
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = tokio::time::timeout(PATIENCE, client.create_certificate(request)).await;
    let answer = answer
        .map_err(|_| anyhow!("Citadel at {ca_addr} does not answer within 30s"))?
        .map_err(|status| explain(&status, &ca_addr))?;
    let mut chain = answer.into_inner().cert_chain;
    ensure!(chain.len() >= 2, "Citadel answered without a root");
    let roots = chain.pop().unwrap_or_default();
    let leaf = Certificate::from_pem(&chain[0])?;
    ensure!(
        leaf.public_key() == Some(key.public_key()),
        "Citadel answered with a certificate of another key"
    );
    Ok(Enrolled {
        leaf,
        key,
        chain: chain.concat(),
        roots,
    })
}

impl Enrolled {
    /// Writes the folder, in place of an older identity.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        make_folder(folder).with_context(|| folder.display().to_string())?;
        let key = self.key.to_pkcs8_pem();
        for (name, text, mode) in [
            ("key.pem", key.as_str(), 0o600),
            ("cert-chain.pem", self.chain.as_str(), 0o644),
            ("root-cert.pem", self.roots.as_str(), 0o644),
        ] {
            let path = folder.join(name);
            service_kit::replace_file(&path, text.as_bytes(), mode)
                .with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

fn explain(status: &tonic::Status, address: &str) -> anyhow::Error {
    match status.code() {
        tonic::Code::Unauthenticated => anyhow!(
            "Citadel does not take the token: it may be used up or expired; `flotilla ca token create` makes another"
        ),
        tonic::Code::ResourceExhausted => {
            anyhow!("Citadel is asked too often: {}", status.message())
        }
        tonic::Code::InvalidArgument => anyhow!("{}", status.message()),
        _ => anyhow!(
            "Citadel at {address} did not answer: {}; is it running, and are --ca-root and --ca-id its own?",
            cause(status)
        ),
    }
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}
