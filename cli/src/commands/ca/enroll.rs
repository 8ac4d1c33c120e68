//! `flotilla ca enroll`: a key and a certificate, with a join token.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
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
    let trust = Trust::of(
        args.trust_domain.clone(),
        Arc::new(Bundle::from_pem(&roots)?),
        [].into(),
    );
    let citadel = args
        .ca_id
        .map_or_else(|| citadel_of(&args.trust_domain), Ok)?;
    // Before the token is used up.
    make_folder(&args.out)?;

    let key = PrivateKey::generate(KeyType::EcP256)?;
    // What the request says it is has no effect: the token says that.
    let anybody = SpiffeId::new(args.trust_domain.clone(), "/enroll")?;
    let request = IstioCertificateRequest {
        csr: csr::create(&key, &anybody)?,
        validity_duration: i64::try_from(args.ttl.as_secs())?,
        metadata: None,
    };
    let mut request = tonic::Request::new(request);
    let mut bearer: AsciiMetadataValue = format!("Bearer {}", token.trim())
        .parse()
        .map_err(|_| anyhow!("the token is none: want flotilla-join.ID.SECRET"))?;
    bearer.set_sensitive(true);
    request.metadata_mut().insert("authorization", bearer);

    let channel = tls::connect(&args.ca_addr, Arc::new(trust), ServerId::spiffe(citadel))?;
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = tokio::time::timeout(PATIENCE, client.create_certificate(request)).await;
    let answer = answer
        .map_err(|_| anyhow!("Citadel at {} does not answer within 30s", args.ca_addr))?
        .map_err(|status| explain(&status, &args.ca_addr))?;
    let mut chain = answer.into_inner().cert_chain;
    ensure!(chain.len() >= 2, "Citadel answered without a root");
    let roots = chain.pop().unwrap_or_default();
    let leaf = Certificate::from_pem(&chain[0])?;
    ensure!(
        leaf.public_key() == Some(key.public_key()),
        "Citadel answered with a certificate of another key"
    );
    let id = leaf.spiffe_id()?;

    write(&args.out, "key.pem", &key.to_pkcs8_pem(), 0o600)?;
    write(&args.out, "cert-chain.pem", &chain.concat(), 0o644)?;
    write(&args.out, "root-cert.pem", &roots, 0o644)?;
    println!(
        "{id} until {}, in {}",
        at(leaf.not_after().unix_timestamp()),
        args.out.display()
    );
    Ok(ExitCode::SUCCESS)
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

fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.with_context(|| format!("--out {}", folder.display()))?;
    if folder.join("key.pem").exists() {
        bail!(
            "{} exists: an identity is not written over; remove it, or choose another folder",
            folder.join("key.pem").display()
        );
    }
    Ok(())
}

/// Whole or not at all.
fn write(folder: &Path, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let (path, temp) = (folder.join(name), folder.join(format!(".{name}.tmp")));
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temp)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temp, &path)
    };
    write().with_context(|| path.display().to_string())
}
