//! The `galley` program.

use clap::Parser as _;
use galley::Args;
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
            Ok(galley::run_alone(args, stop).await?)
        })
}
