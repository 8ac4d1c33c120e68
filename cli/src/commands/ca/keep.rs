//! Keeping a certificate for a program that cannot ask for one itself: NATS.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use identity::{IdentityArgs, hang_up_on_change};
use service_kit::{Ready, Stop, Tasks};

/// After SIGTERM everything has ended within this.
const STOP_BOUND: Duration = Duration::from_secs(5);

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the process number of a program that is sent SIGHUP after each change, which makes NATS read its certificate again
    #[arg(long, value_name = "FILE")]
    reload_pid_file: Option<PathBuf>,

    /// Log levels, as the services have them
    #[arg(long, value_name = "LEVELS", default_value = "default:info")]
    log_output_level: String,

    /// Whose certificate: --service-account; where it is kept: --identity-dir
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Gets, keeps and renews the certificate until told to stop.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    service_kit::init_logs(service_kit::LogFormat::Text, &args.log_output_level)?;
    service_kit::tls::install_provider();
    let account = args.identity.service_account.clone();
    let account = account.context("whose certificate? give --service-account nats")?;
    let folder = args.identity.identity_dir.clone();
    let folder = folder.context("where shall it be kept? give --identity-dir DIR")?;
    // Flags of services, which have an API and a bus.
    let unheard = [
        ("--operators", !args.identity.operators.is_empty()),
        ("--viewers", !args.identity.viewers.is_empty()),
        (
            "--nats-server-name",
            args.identity.nats_server_name.is_some(),
        ),
    ];
    if let Some((flag, _)) = unheard.iter().find(|(_, given)| *given) {
        anyhow::bail!("{flag} says nothing to `ca keep`: it only gets and renews a certificate");
    }
    if args.identity.ca_addr.is_none() {
        anyhow::bail!("from whom? give --ca-addr and --ca-root");
    }
    let identity = args
        .identity
        .identity(&account, &folder)?
        .context("there is nothing to keep")?;
    let stop = Stop::new();
    service_kit::signals(&stop)?;
    let ready = Ready::new(&stop);
    let tasks = Tasks::new(&stop, &ready);
    if let Some(file) = args.reload_pid_file {
        let told = hang_up_on_change(identity.material(), file, stop.clone());
        tasks.spawn_infallible("reload", told);
    }
    tasks.spawn_infallible("identity", identity.run(ready.clone(), stop.clone()));
    tasks.join(STOP_BOUND).await?;
    Ok(ExitCode::SUCCESS)
}
