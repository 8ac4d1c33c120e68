//! The `galley` program.

use clap::Parser as _;
use galley::Args;
use service_kit::Stop;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.common.init_logs()?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let stop = Stop::new();
            service_kit::signals(&stop)?;
            let bus = bus::connect(
                &args.bus,
                &bus::BusOptions {
                    name: "galley".into(),
                    ..Default::default()
                },
            )
            .await?;
            Ok(galley::run(args, bus, stop).await?)
        })
}
