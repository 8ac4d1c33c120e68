//! `flotilla pilot`, `flotilla galley`, `flotilla citadel`: the services, from this one binary.

use std::process::ExitCode;

use service_kit::Stop;

/// Runs Pilot until told to stop.
pub async fn pilot(args: pilot::Args) -> anyhow::Result<ExitCode> {
    args.common.init_logs()?;
    let stop = Stop::new();
    service_kit::signals(&stop)?;
    pilot::run_alone(args, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs Galley until told to stop.
pub async fn galley(args: galley::Args) -> anyhow::Result<ExitCode> {
    args.common.init_logs()?;
    let stop = Stop::new();
    service_kit::signals(&stop)?;
    galley::run_alone(args, stop).await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs Citadel until told to stop.
pub async fn citadel(args: citadel::Args) -> anyhow::Result<ExitCode> {
    args.common.init_logs()?;
    service_kit::tls::install_provider();
    let stop = Stop::new();
    service_kit::signals(&stop)?;
    let own = citadel::OwnIdentity::default();
    let bus = citadel::connect(&args, &own).await?;
    citadel::run_as(args, own, bus, stop).await?;
    Ok(ExitCode::SUCCESS)
}
