//! From samples to one line for each row, protocol and edit.

use std::time::Duration;

use serde_json::{Value, json};

use crate::args::{Variant, name_of};
use crate::measure::{Measured, Sample};
use crate::response::Kind;
use crate::rows::Row;
use crate::tally::Count;

/// All repetitions of one thing.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Row.
    pub row: Row,
    /// Protocol.
    pub variant: Variant,
    /// `connect`, `rest` or an event's name.
    pub what: String,
    /// How often it was measured.
    pub repeats: usize,
    /// Processor time of the server for each repetition, milliseconds, ascending.
    pub cpu_ms: Vec<f64>,
    /// Proxies that got something, at most.
    pub touched: usize,
    /// Repetitions in which nobody got anything.
    pub silent: usize,
    /// Time to the last acknowledgement, over proxies and repetitions, ascending.
    pub delays: Vec<Duration>,
    /// What was sent in all repetitions, by type.
    pub by_kind: [Count; Kind::ALL.len()],
    /// Largest resident memory after a repetition, kB.
    pub rss_kb: u64,
    /// Largest resident memory over what the server had with nobody connected, kB for each proxy.
    pub rss_kb_per_proxy: f64,
    /// Part of one core that the clients used until the last acknowledgement, at most.
    pub client_load: f64,
}

impl Summary {
    /// Mean processor time of a repetition, milliseconds.
    pub fn cpu_mean(&self) -> f64 {
        self.cpu_ms.iter().sum::<f64>() / self.cpu_ms.len().max(1) as f64
    }

    /// Mean processor time for each connected proxy, milliseconds.
    pub fn cpu_per_proxy(&self) -> f64 {
        self.cpu_mean() / self.row.workload.proxies as f64
    }

    /// Messages of all types.
    pub fn messages(&self) -> u64 {
        self.by_kind.iter().map(|count| count.messages).sum()
    }

    /// Bytes of all types.
    pub fn bytes(&self) -> u64 {
        self.by_kind.iter().map(|count| count.bytes).sum()
    }

    /// What a touched proxy got in one repetition, of one type.
    pub fn each(&self, kind: Kind) -> (f64, f64, f64) {
        let count = self.by_kind[kind.index()];
        let by = (self.touched * self.repeats).max(1) as f64;
        (
            count.messages as f64 / by,
            count.bytes as f64 / by,
            count.resources as f64 / by,
        )
    }

    /// A delay below which this part of all delays lies.
    pub fn percentile(&self, part: f64) -> Option<Duration> {
        let last = self.delays.len().checked_sub(1)?;
        let index = (self.delays.len() as f64 * part).ceil() as usize;
        self.delays.get(index.saturating_sub(1).min(last)).copied()
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "kind": "summary",
            "row": name_of(&self.row.name),
            "services": self.row.workload.services,
            "proxies": self.row.workload.proxies,
            "protocol": name_of(&self.variant),
            "event": self.what,
            "repeats": self.repeats,
            "touched": self.touched,
            "silent": self.silent,
            "cpu_ms": {
                "mean": self.cpu_mean(),
                "min": self.cpu_ms.first(),
                "median": self.cpu_ms.get(self.cpu_ms.len() / 2),
                "max": self.cpu_ms.last(),
                "per_proxy": self.cpu_per_proxy(),
            },
            "ack_ms": {"p50": self.percentile(0.5).map(ms), "p99": self.percentile(0.99).map(ms), "max": self.percentile(1.0).map(ms)},
            "by_type": counts(&self.by_kind),
            "rss_kb": self.rss_kb,
            "rss_kb_per_proxy_over_idle": self.rss_kb_per_proxy,
            "client_load": self.client_load,
        })
    }
}

impl Sample {
    /// For machines.
    pub fn json(&self) -> Value {
        let mut delays = self.delays.clone();
        delays.sort();
        json!({
            "kind": "event",
            "row": name_of(&self.row.name),
            "services": self.row.workload.services,
            "proxies": self.row.workload.proxies,
            "protocol": name_of(&self.variant),
            "event": self.what,
            "repeat": self.repeat,
            "touched": self.seen.touched(),
            "cpu_ms": ms(self.cpu),
            "client_cpu_ms": ms(self.client_cpu),
            "window_ms": ms(self.window),
            "ack_ms": {
                "first": delays.first().copied().map(ms),
                "p50": delays.get(delays.len() / 2).copied().map(ms),
                "last": delays.last().copied().map(ms),
            },
            "by_type": counts(&self.seen.by_kind),
            "rss_kb": self.memory.rss_kb,
            "peak_kb": self.memory.peak_kb,
        })
    }
}

fn counts(by_kind: &[Count; Kind::ALL.len()]) -> Value {
    let used = Kind::ALL
        .into_iter()
        .filter(|kind| by_kind[kind.index()].messages > 0);
    used.map(|kind| {
        let count = by_kind[kind.index()];
        (
            kind.name().to_owned(),
            json!({"messages": count.messages, "bytes": count.bytes, "resources": count.resources}),
        )
    })
    .collect::<serde_json::Map<_, _>>()
    .into()
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// One summary for each thing that was measured, in the order of measuring.
pub fn summaries(measured: &Measured) -> Vec<Summary> {
    let mut all: Vec<Summary> = Vec::new();
    for sample in &measured.samples {
        let known = all.iter().position(|summary| summary.what == sample.what);
        let summary = match known {
            Some(index) => &mut all[index],
            None => {
                all.push(empty(sample));
                let last = all.len() - 1;
                &mut all[last]
            }
        };
        summary.repeats += 1;
        summary.cpu_ms.push(ms(sample.cpu));
        summary.touched = summary.touched.max(sample.seen.touched());
        summary.silent += usize::from(sample.seen.touched() == 0);
        summary.delays.extend(&sample.delays);
        for (sum, count) in summary.by_kind.iter_mut().zip(&sample.seen.by_kind) {
            sum.messages += count.messages;
            sum.bytes += count.bytes;
            sum.resources += count.resources;
        }
        summary.rss_kb = summary.rss_kb.max(sample.memory.rss_kb);
        let over = sample.memory.rss_kb.saturating_sub(measured.idle.rss_kb) as f64;
        summary.rss_kb_per_proxy = summary
            .rss_kb_per_proxy
            .max(over / sample.row.workload.proxies as f64);
        let busy = sample
            .delays
            .iter()
            .max()
            .copied()
            .unwrap_or_default()
            .as_secs_f64();
        if busy > 0.0 {
            summary.client_load = summary
                .client_load
                .max((sample.client_cpu.as_secs_f64() / busy).min(1.0));
        }
    }
    for summary in &mut all {
        summary.cpu_ms.sort_by(f64::total_cmp);
        summary.delays.sort();
    }
    all
}

fn empty(sample: &Sample) -> Summary {
    Summary {
        row: sample.row,
        variant: sample.variant,
        what: sample.what.clone(),
        repeats: 0,
        cpu_ms: Vec::new(),
        touched: 0,
        silent: 0,
        delays: Vec::new(),
        by_kind: Default::default(),
        rss_kb: 0,
        rss_kb_per_proxy: 0.0,
        client_load: 0.0,
    }
}

#[cfg(test)]
pub mod testing {
    //! Summaries out of thin air.

    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, RowName};

    pub fn summary(name: RowName, variant: Variant, what: &str) -> Summary {
        let row = Row::new(name, &Args::parse_from(["bench"]));
        Summary {
            row,
            variant,
            what: what.into(),
            repeats: 1,
            cpu_ms: vec![1.0],
            touched: 1,
            silent: 0,
            delays: vec![Duration::from_millis(1)],
            by_kind: Default::default(),
            rss_kb: 0,
            rss_kb_per_proxy: 0.0,
            client_load: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::RowName;
    use crate::process::Memory;

    #[tokio::test]
    async fn repetitions_become_one_line() {
        let row = testing::summary(RowName::A2, Variant::Delta, "").row;
        let start = tokio::time::Instant::now();
        let sample = |what: &str, repeat: usize, cpu: u64| {
            let mut seen = crate::tally::Tally::default();
            seen.note(0, Kind::Rds, 1000, 2, start + Duration::from_millis(cpu));
            Sample {
                row,
                variant: Variant::Delta,
                what: what.into(),
                repeat,
                cpu: Duration::from_millis(cpu),
                client_cpu: Duration::from_millis(1),
                window: Duration::from_millis(600),
                delays: seen.delays(start),
                seen,
                memory: Memory {
                    rss_kb: 1000 + cpu,
                    peak_kb: 0,
                },
            }
        };
        let measured = Measured {
            samples: vec![
                sample("connect", 1, 400),
                sample("e3", 1, 30),
                sample("e3", 2, 10),
            ],
            idle: Memory {
                rss_kb: 1000,
                peak_kb: 0,
            },
            load_cpu: Duration::ZERO,
            coarse_cpu: Duration::ZERO,
            fine_cpu: Duration::ZERO,
            lost: Vec::new(),
            refused: Vec::new(),
        };
        let all = summaries(&measured);
        assert_eq!(
            all.iter()
                .map(|s| (s.what.as_str(), s.repeats))
                .collect::<Vec<_>>(),
            [("connect", 1), ("e3", 2)]
        );
        assert_eq!(all[1].cpu_ms, [10.0, 30.0]);
        assert_eq!(all[1].cpu_per_proxy(), 0.2);
        assert_eq!(all[1].each(Kind::Rds), (1.0, 1000.0, 2.0));
        assert_eq!(all[1].percentile(0.5), Some(Duration::from_millis(10)));
        assert_eq!(all[1].percentile(0.99), Some(Duration::from_millis(30)));
        assert_eq!(all[0].rss_kb_per_proxy, 4.0);
    }
}
