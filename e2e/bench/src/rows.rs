//! The rows of the table.

use crate::args::{Args, RowName};
use crate::workload::Workload;

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: RowName,
    /// Its mesh.
    pub workload: Workload,
    /// Whether it is as the plan has it, so that gates apply.
    pub as_planned: bool,
}

impl Row {
    /// The row of a name, as the flags want it.
    pub fn new(name: RowName, args: &Args) -> Row {
        let (services, proxies, scoped) = match name {
            RowName::A1 => (100, 100, false),
            RowName::A2 => (1000, 100, false),
            RowName::A3 => (5000, 50, false),
            RowName::B1 => (1000, 1000, true),
            RowName::B2 => (5000, 1000, true),
        };
        let planned = Workload {
            services,
            proxies,
            scoped,
        };
        let workload = Workload {
            services: args.services.unwrap_or(services).max(1),
            proxies: args.proxies.unwrap_or(proxies).max(1),
            scoped,
        };
        Row {
            name,
            workload,
            as_planned: workload == planned,
        }
    }
}
