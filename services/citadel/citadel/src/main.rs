//! The `citadel` program.

use citadel::Args;
use clap::Parser as _;
use service_kit::Stop;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.common.init_logs()?;
    service_kit::tls::install_provider();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let stop = Stop::new();
            service_kit::signals(&stop)?;
            let own = citadel::OwnIdentity::default();
            let bus = citadel::connect(&args, &own).await?;
            Ok(citadel::run_as(args, own, bus, stop).await?)
        })
}
