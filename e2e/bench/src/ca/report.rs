//! What is printed.

use std::fmt;
use std::time::Duration;

use super::load::Took;
use super::{Connections, Known, Root};
use crate::args::name_of;

/// Head of the table.
pub const HEAD: &str = "root  known by     connections  certificates  per CPU-second  CPU each us   per second    p50 ms   p99 ms";

/// One row.
pub struct Line {
    /// Kind of root.
    pub root: Root,
    /// How callers were known.
    pub known_by: Known,
    /// How they connected.
    pub connections: Connections,
    /// Processor time of the server.
    pub cpu: Duration,
    /// What it took.
    pub took: Took,
}

impl Line {
    /// Certificates for each second of the server's processor time.
    fn per_cpu_second(&self) -> f64 {
        self.took.certificates as f64 / self.cpu.as_secs_f64()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |quantile| self.took.latency.value_at_quantile(quantile) as f64 / 1000.0;
        write!(
            f,
            "{:<5} {:<12} {:<12} {:>12} {:>15.0} {:>12.1} {:>12.0} {:>9.2} {:>8.2}",
            name_of(&self.root),
            name_of(&self.known_by),
            name_of(&self.connections),
            self.took.certificates,
            self.per_cpu_second(),
            self.cpu.as_secs_f64() * 1e6 / self.took.certificates as f64,
            self.took.certificates as f64 / self.took.wall.as_secs_f64(),
            millis(0.5),
            millis(0.99),
        )
    }
}

/// A limit, and what was measured against it.
pub struct Gate {
    what: String,
    limit: f64,
    got: f64,
}

impl Gate {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.got >= self.limit
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.holds() { "ok    " } else { "MISSED" };
        write!(
            f,
            "{word} {}: {:.0} certificates per CPU-second, wanted {:.0}",
            self.what, self.got, self.limit
        )
    }
}

/// Every gate that these rows have something to say about.
pub fn gates(lines: &[Line]) -> Vec<Gate> {
    let limit = |line: &Line| match (line.root, line.known_by, line.connections) {
        (Root::Ec, Known::Certificate, Connections::Warm) => Some(8000.0),
        (Root::Ec, Known::Jwt, Connections::Warm) => Some(5000.0),
        (Root::Rsa, Known::Certificate, Connections::Warm) => Some(2600.0),
        _ => None,
    };
    lines
        .iter()
        .filter_map(|line| {
            Some(Gate {
                what: format!(
                    "{} root, known by {}, {} connections",
                    name_of(&line.root),
                    name_of(&line.known_by),
                    name_of(&line.connections)
                ),
                limit: limit(line)?,
                got: line.per_cpu_second(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    fn line(root: Root, connections: Connections, cpu_ms: u64) -> Line {
        let mut latency = Histogram::new(3).unwrap();
        latency.record_n(2000, 1000).unwrap();
        Line {
            root,
            known_by: Known::Certificate,
            connections,
            cpu: Duration::from_millis(cpu_ms),
            took: Took {
                certificates: 1000,
                wall: Duration::from_secs(1),
                latency,
            },
        }
    }

    #[test]
    fn gates_are_about_open_connections() {
        let lines = [
            line(Root::Ec, Connections::Warm, 100),
            line(Root::Ec, Connections::Each, 900),
            line(Root::Rsa, Connections::Warm, 500),
        ];
        let held: Vec<bool> = gates(&lines).iter().map(Gate::holds).collect();
        assert_eq!(held, [true, false]);
    }

    #[test]
    fn a_row_says_what_one_certificate_costs() {
        let text = line(Root::Ec, Connections::Warm, 100).to_string();
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(
            words[..6],
            ["ec", "certificate", "warm", "1000", "10000", "100.0"]
        );
        assert_eq!(words[7..], ["2.00", "2.00"]);
    }
}
