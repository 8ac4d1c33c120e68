//! The table for people.

use std::fmt::Write as _;

use crate::args::name_of;
use crate::gates::Gate;
use crate::measure::Measured;
use crate::response::Kind;
use crate::summary::{Summary, ms};

/// Above this part of a core, times measured by the clients say more about the clients.
const CLIENT_BOUND: f64 = 0.8;

/// What stands above the lines.
pub fn head() -> String {
    format!(
        "{:<4}{:>6} {:<6}{:<8}{:>10}{:>17}{:>10}{:>10}{:>10}{:>9}{:>8}  {}",
        "row",
        "proxies",
        "proto",
        "event",
        "CPU ms",
        "(min-max)",
        "ms/proxy",
        "p50 ms",
        "p99 ms",
        "touched",
        "RSS MB",
        "for each touched proxy"
    )
}

/// One line.
pub fn line(summary: &Summary) -> String {
    let spread = match (summary.cpu_ms.first(), summary.cpu_ms.last()) {
        (Some(least), Some(most)) if summary.cpu_ms.len() > 1 => format!("({least:.1}-{most:.1})"),
        _ => String::new(),
    };
    let delay = |part| {
        summary
            .percentile(part)
            .map_or_else(|| "-".to_owned(), |delay| format!("{:.1}", ms(delay)))
    };
    let bound = if summary.client_load > CLIENT_BOUND && !summary.delays.is_empty() {
        "  [client bound]"
    } else {
        ""
    };
    format!(
        "{:<4}{:>6} {:<6}{:<8}{:>11.2}{:>17}{:>10.4}{:>10}{:>10}{:>9}{:>8.1}  {}{bound}",
        name_of(&summary.row.name),
        summary.row.workload.proxies,
        name_of(&summary.variant),
        summary.what,
        summary.cpu_mean(),
        spread,
        summary.cpu_per_proxy(),
        delay(0.5),
        delay(0.99),
        summary.touched,
        summary.rss_kb as f64 / 1024.0,
        sent(summary),
    )
}

/// `CDS 1 x 2005 res 2.43 MB, ..`.
fn sent(summary: &Summary) -> String {
    if summary.messages() == 0 {
        return "nothing".into();
    }
    let used = Kind::ALL
        .into_iter()
        .filter(|kind| summary.by_kind[kind.index()].messages > 0);
    let parts: Vec<_> = used
        .map(|kind| {
            let (messages, bytes, resources) = summary.each(kind);
            format!(
                "{} {} msg {} res {}",
                kind.name(),
                round(messages),
                round(resources),
                size(bytes)
            )
        })
        .collect();
    parts.join(", ")
}

fn round(number: f64) -> String {
    if (number - number.round()).abs() < 0.005 {
        format!("{number:.0}")
    } else {
        format!("{number:.2}")
    }
}

fn size(bytes: f64) -> String {
    match bytes {
        b if b >= 1e6 => format!("{:.2} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}

/// What a row has besides its lines.
pub fn notes(measured: &Measured) -> String {
    let mut out = String::new();
    let peak = measured
        .samples
        .iter()
        .map(|sample| sample.memory.peak_kb)
        .max()
        .unwrap_or_default();
    let client: f64 = measured
        .samples
        .iter()
        .map(|sample| sample.client_cpu.as_secs_f64())
        .sum();
    let _ = writeln!(
        out,
        "     loading {:.0} ms CPU; RSS with nobody connected {:.1} MB, peak {:.1} MB; edits in all {:.0} ms by thread clocks, {:.0} ms by \
         the process clock; clients {client:.2} s CPU",
        ms(measured.load_cpu),
        measured.idle.rss_kb as f64 / 1024.0,
        peak as f64 / 1024.0,
        ms(measured.fine_cpu),
        ms(measured.coarse_cpu),
    );
    for (reason, count) in &measured.refused {
        let _ = writeln!(out, "     refused and tried again: {count} x {reason}");
    }
    for (reason, count) in &measured.lost {
        let _ = writeln!(
            out,
            "     STREAMS LOST, this row is void: {count} x {reason}"
        );
    }
    out
}

/// Pass or miss.
pub fn gates(gates: &[Gate]) -> String {
    let mut out = String::new();
    for gate in gates {
        let verdict = if gate.holds() { "pass" } else { "MISS" };
        let _ = writeln!(
            out,
            "{verdict}  {:<64} {:>10.3} {:<3} (at most {})",
            gate.what, gate.got, gate.unit, gate.limit
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{RowName, Variant};
    use crate::summary::testing::summary;
    use crate::tally::Count;

    #[test]
    fn a_line_says_what_each_touched_proxy_got() {
        let mut edit = summary(RowName::A2, Variant::Sotw, "e3");
        edit.touched = 100;
        edit.repeats = 2;
        edit.cpu_ms = vec![20.0, 40.0];
        edit.by_kind[Kind::Rds.index()] = Count {
            messages: 200,
            bytes: 200_000_000,
            resources: 400,
        };
        let line = line(&edit);
        assert!(line.ends_with("RDS 1 msg 2 res 1.00 MB"), "{line}");
        assert!(
            line.contains("30.00") && line.contains("(20.0-40.0)") && line.contains("0.3000"),
            "{line}"
        );
    }

    #[test]
    fn a_missed_gate_is_loud() {
        let miss = Gate {
            what: "memory".into(),
            limit: 60.0,
            got: 61.0,
            unit: "kB",
        };
        assert!(gates(&[miss]).starts_with("MISS  memory"));
    }
}
