//! What must hold before anybody claims anything.

use crate::args::{RowName, name_of};
use crate::response::Kind;
use crate::summary::Summary;

/// A limit, and what was measured against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// What is limited.
    pub what: String,
    /// The limit.
    pub limit: f64,
    /// What was measured.
    pub got: f64,
    /// Unit of both.
    pub unit: &'static str,
}

impl Gate {
    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.got <= self.limit
    }
}

/// Every gate that these summaries have something to say about.
pub fn gates(summaries: &[Summary]) -> Vec<Gate> {
    let mut gates = Vec::new();
    for summary in summaries.iter().filter(|summary| summary.row.as_planned) {
        let (name, event) = (summary.row.name, summary.what.as_str());
        let mut gate = |what: &str, limit: f64, got: f64, unit: &'static str| {
            let what = format!(
                "{} {:<5} {event}: {what}",
                name_of(&name),
                name_of(&summary.variant)
            );
            gates.push(Gate {
                what,
                limit,
                got,
                unit,
            });
        };
        match (name, event) {
            (_, "e10" | "e11") => gate("bytes sent", 0.0, summary.bytes() as f64, "B"),
            (RowName::A2, "connect") => gate(
                "processor time for each proxy",
                4.0,
                summary.cpu_per_proxy(),
                "ms",
            ),
            (RowName::A2, "e1") => {
                gate(
                    "processor time for each proxy",
                    0.05,
                    summary.cpu_per_proxy(),
                    "ms",
                );
                gate("edits that reached nobody", 0.0, summary.silent as f64, "");
            }
            (RowName::A2, "e3") => {
                gate(
                    "processor time for each proxy",
                    1.3,
                    summary.cpu_per_proxy(),
                    "ms",
                );
                let others = summary.messages() - summary.by_kind[Kind::Rds.index()].messages;
                gate(
                    "messages that are no RouteConfigurations",
                    0.0,
                    others as f64,
                    "",
                );
                gate("edits that reached nobody", 0.0, summary.silent as f64, "");
            }
            (RowName::B1, "connect") => gate(
                "resident memory for each proxy, over idle",
                60.0,
                summary.rss_kb_per_proxy,
                "kB",
            ),
            (RowName::B1, "e1" | "e3") => {
                gate("processor time in all", 5.0, summary.cpu_mean(), "ms");
                gate(
                    "resident memory for each proxy, over idle",
                    60.0,
                    summary.rss_kb_per_proxy,
                    "kB",
                );
                gate("edits that reached nobody", 0.0, summary.silent as f64, "");
            }
            _ => {}
        }
    }
    gates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Variant;
    use crate::summary::testing::summary;
    use crate::tally::Count;

    fn missed(summary: Summary) -> Vec<String> {
        gates(&[summary])
            .into_iter()
            .filter(|gate| !gate.holds())
            .map(|gate| gate.what)
            .collect()
    }

    #[test]
    fn a_route_edit_may_send_routes_alone() {
        let mut good = summary(RowName::A2, Variant::Delta, "e3");
        good.by_kind[Kind::Rds.index()].messages = 100;
        assert!(missed(good.clone()).is_empty());
        good.by_kind[Kind::Cds.index()].messages = 1;
        good.cpu_ms = vec![131.0];
        assert_eq!(
            missed(good),
            [
                "A2 delta e3: processor time for each proxy",
                "A2 delta e3: messages that are no RouteConfigurations"
            ]
        );
    }

    #[test]
    fn edits_without_meaning_cost_no_byte_in_any_row() {
        for row in [RowName::A1, RowName::A2, RowName::B1] {
            let mut quiet = summary(row, Variant::Sotw, "e11");
            assert!(missed(quiet.clone()).is_empty());
            quiet.by_kind[Kind::Eds.index()] = Count {
                messages: 1,
                bytes: 1,
                resources: 1,
            };
            assert_eq!(missed(quiet).len(), 1);
        }
    }

    #[test]
    fn a_row_of_another_size_is_not_judged() {
        let mut small = summary(RowName::A2, Variant::Sotw, "connect");
        assert_eq!(gates(&[small.clone()]).len(), 1);
        small.row.as_planned = false;
        assert!(gates(&[small]).is_empty());
    }
}
