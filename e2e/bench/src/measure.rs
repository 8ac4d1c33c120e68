//! One row with one protocol: load, connect, edit, and what each of these cost.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::args::{Args, Event, Variant, name_of};
use crate::fleet::{Fleet, await_cluster};
use crate::folders::Folders;
use crate::node::{Common, probe, sidecar};
use crate::process::{CpuMeter, Memory, coarse_cpu, memory};
use crate::rows::Row;
use crate::server::Server;
use crate::tally::Tally;
use crate::workload::{Workload, probe_host};

/// What one connect, one edit or one second of rest cost.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Row.
    pub row: Row,
    /// Protocol.
    pub variant: Variant,
    /// `connect`, `rest` or an event's name.
    pub what: String,
    /// Which repetition, from 1.
    pub repeat: usize,
    /// Processor time of the server, in the window from before the edit until quiet.
    pub cpu: Duration,
    /// Processor time of this program in the same window.
    pub client_cpu: Duration,
    /// Length of the window.
    pub window: Duration,
    /// Time to the last acknowledgement, by touched proxy; for `connect`, to having everything.
    pub delays: Vec<Duration>,
    /// What was sent.
    pub seen: Tally,
    /// The server's memory afterwards.
    pub memory: Memory,
}

/// Everything of one row with one protocol.
#[derive(Debug, Clone)]
pub struct Measured {
    /// In the order of measuring.
    pub samples: Vec<Sample>,
    /// The server's memory with everything loaded and nobody connected.
    pub idle: Memory,
    /// Processor time from the server's start, or the row's, until everything was loaded.
    pub load_cpu: Duration,
    /// Processor time over all edits by the clock that also counts ended threads, in hundredths of a second.
    pub coarse_cpu: Duration,
    /// The same by the fine clock that the samples use.
    pub fine_cpu: Duration,
    /// Streams that ended during the row, by reason. Anything here spoils the row.
    pub lost: Vec<(String, u64)>,
    /// Attempts to connect that were refused and repeated, by reason.
    pub refused: Vec<(String, u64)>,
}

/// Both sides' processor time.
struct Clocks {
    server: CpuMeter,
    client: CpuMeter,
}

impl Clocks {
    fn read(&mut self) -> anyhow::Result<(Duration, Duration)> {
        Ok((
            self.server.read().context("the server is gone")?,
            self.client.read()?,
        ))
    }
}

/// Runs one row with one protocol on a server that reads `folders`.
///
/// # Errors
/// Loading or connecting took too long, a file cannot be written, or the server is gone.
pub async fn measure(
    args: &Args,
    server: &Server,
    folders: &Folders,
    row: Row,
    variant: Variant,
) -> anyhow::Result<Measured> {
    let workload = row.workload;
    let common = Common {
        istio_version: args.istio_version.clone(),
        cluster_id: args.cluster_id.clone(),
    };
    let mut clocks = Clocks {
        server: CpuMeter::new(server.pid),
        client: CpuMeter::new(std::process::id()),
    };
    let (before_load, _) = clocks.read()?;

    // Unlike any tag before, also of an earlier run on the same server.
    let tag = format!(
        "loaded-{}-{}-{}",
        std::process::id(),
        name_of(&row.name),
        name_of(&variant)
    )
    .to_lowercase();
    folders.load(&workload, &tag)?;
    let sentinel = format!("outbound|8080||{}", probe_host(&tag));
    await_cluster(&server.door, probe(&common), sentinel, args.connect_timeout).await?;
    rest(&mut clocks.server).await?;
    let (after_load, _) = clocks.read()?;
    let mut run = Run {
        args,
        server,
        folders,
        row,
        variant,
        workload,
        clocks,
        samples: Vec::new(),
    };
    let idle = memory(server.pid)?;

    let nodes: Vec<Bytes> = (0..workload.proxies)
        .map(|proxy| sidecar(&common, &workload.place(proxy), proxy))
        .collect();
    let fleet = run.connect(nodes).await?;
    run.rest_a_second(&fleet).await?;
    let (coarse, (fine, _)) = (coarse_cpu(server.pid)?, run.clocks.read()?);
    for &event in &args.events {
        run.event(&fleet, event).await?;
    }
    let coarse = coarse_cpu(server.pid)?.saturating_sub(coarse);
    let fine = run.clocks.read()?.0.saturating_sub(fine);
    folders.restore(&workload)?;
    let last = fleet.settled(args.quiet, args.quiet).await;
    fleet.leave().await;
    Ok(Measured {
        samples: run.samples,
        idle,
        load_cpu: after_load.saturating_sub(before_load),
        coarse_cpu: coarse,
        fine_cpu: fine,
        lost: last.lost.into_iter().collect(),
        refused: last.refused.into_iter().collect(),
    })
}

struct Run<'a> {
    args: &'a Args,
    server: &'a Server,
    folders: &'a Folders,
    row: Row,
    variant: Variant,
    workload: Workload,
    clocks: Clocks,
    samples: Vec<Sample>,
}

impl Run<'_> {
    /// All proxies at once.
    async fn connect(&mut self, nodes: Vec<Bytes>) -> anyhow::Result<Fleet> {
        let before = self.clocks.read()?;
        let started = Instant::now();
        let fleet = Fleet::start(&self.server.door, self.variant, nodes);
        fleet.configured(self.args.connect_timeout).await?;
        let seen = fleet.settled(self.args.quiet, self.args.quiet).await;
        let delays = seen.configured.values().copied().collect();
        self.note("connect".into(), 1, before, started, delays, seen)?;
        Ok(fleet)
    }

    /// What the server does when nothing happens.
    async fn rest_a_second(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        fleet.begin();
        let before = self.clocks.read()?;
        let started = Instant::now();
        sleep(Duration::from_secs(1)).await;
        let seen = fleet.settled(Duration::ZERO, Duration::ZERO).await;
        self.note("rest".into(), 1, before, started, Vec::new(), seen)
    }

    async fn event(&mut self, fleet: &Fleet, event: Event) -> anyhow::Result<()> {
        let (quiet, expects_news) = (
            self.args.quiet,
            !matches!(event, Event::Irrelevant | Event::Rewrite),
        );
        let patience = if expects_news {
            self.args.patience
        } else {
            quiet
        };
        self.folders.restore(&self.workload)?;
        fleet.settled(quiet, quiet).await;
        for n in 1..=self.args.warmups + self.args.repeats {
            fleet.begin();
            let before = self.clocks.read()?;
            let edited = Instant::now();
            self.folders.edit(&self.workload, event, n)?;
            let seen = fleet.settled(quiet, patience).await;
            if n > self.args.warmups {
                let delays = seen.delays(edited);
                self.note(
                    name_of(&event),
                    n - self.args.warmups,
                    before,
                    edited,
                    delays,
                    seen,
                )?;
            }
        }
        Ok(())
    }

    fn note(
        &mut self,
        what: String,
        repeat: usize,
        before: (Duration, Duration),
        started: Instant,
        delays: Vec<Duration>,
        seen: Tally,
    ) -> anyhow::Result<()> {
        let after = self.clocks.read()?;
        self.samples.push(Sample {
            row: self.row,
            variant: self.variant,
            what,
            repeat,
            cpu: after.0.saturating_sub(before.0),
            client_cpu: after.1.saturating_sub(before.1),
            window: started.elapsed(),
            delays,
            seen,
            memory: memory(self.server.pid)?,
        });
        Ok(())
    }
}

/// Waits until the server has used next to nothing for a while, 15 s at most.
async fn rest(server: &mut CpuMeter) -> anyhow::Result<()> {
    let mut before = server.read()?;
    for _ in 0..60 {
        sleep(Duration::from_millis(250)).await;
        let now = server.read()?;
        if now - before < Duration::from_millis(5) {
            break;
        }
        before = now;
    }
    Ok(())
}
