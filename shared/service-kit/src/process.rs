//! Metrics of the process itself, under the names every Prometheus client uses. Linux only; elsewhere nothing is reported.

use std::fs;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, IntGauge, Opts, Registry};

/// Ticks per second of the CPU times in `/proc`: USER_HZ, which Linux fixes at 100 for programs on all our platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`,
/// `process_max_fds`, `process_threads` and `process_start_time_seconds` to `registry`.
///
/// # Errors
/// The registry already has metrics of these names.
pub fn register_process_metrics(registry: &Registry) -> prometheus::Result<()> {
    registry.register(Box::new(Process::new()?))
}

struct Process {
    cpu: Counter,
    resident: IntGauge,
    virtual_size: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    threads: IntGauge,
    start: IntGauge,
    /// Two scrapes at once must not count the same CPU time twice.
    turn: Mutex<()>,
}

impl Process {
    fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        Ok(Self {
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent, in seconds.",
            )?,
            resident: gauge(
                "process_resident_memory_bytes",
                "Resident memory, in bytes.",
            )?,
            virtual_size: gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge(
                "process_max_fds",
                "Most file descriptors the process may have open.",
            )?,
            threads: gauge("process_threads", "Threads.")?,
            start: gauge(
                "process_start_time_seconds",
                "Start of the process, in seconds since the epoch.",
            )?,
            turn: Mutex::new(()),
        })
    }

    fn refresh(&self) {
        if let Ok(stat) = fs::read_to_string("/proc/self/stat")
            && let Some(stat) = Stat::parse(&stat)
        {
            self.cpu
                .inc_by((stat.cpu_seconds - self.cpu.get()).max(0.0));
            self.threads.set(stat.threads);
            if let Ok(boot) = fs::read_to_string("/proc/stat")
                && let Some(at) = boot_time(&boot)
            {
                self.start.set(at + stat.started_after_boot);
            }
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(bytes) = status_bytes(&status, "VmRSS:") {
                self.resident.set(bytes);
            }
            if let Some(bytes) = status_bytes(&status, "VmSize:") {
                self.virtual_size.set(bytes);
            }
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            // One of them is the folder being read.
            self.open_fds
                .set(fds.count().saturating_sub(1).try_into().unwrap_or(i64::MAX));
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits")
            && let Some(max) = max_fds(&limits)
        {
            self.max_fds.set(max);
        }
    }

    fn parts(&self) -> [&dyn Collector; 7] {
        [
            &self.cpu,
            &self.resident,
            &self.virtual_size,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
            &self.start,
        ]
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.parts().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _turn = self.turn.lock();
        self.refresh();
        self.parts()
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

/// What we use of `/proc/PID/stat`.
struct Stat {
    cpu_seconds: f64,
    threads: i64,
    /// Seconds.
    started_after_boot: i64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field, the program's name, may hold anything, also spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `rest` starts with field 3 of proc(5).
        let field = |n: usize| fields.get(n - 3)?.parse::<i64>().ok();
        let (user, system) = (field(14)?, field(15)?);
        Some(Self {
            cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND,
            threads: field(20)?,
            started_after_boot: field(22)? / 100,
        })
    }
}

/// A line `VmRSS:    1234 kB` of `/proc/PID/status`, in bytes.
fn status_bytes(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn boot_time(stat: &str) -> Option<i64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn max_fds(limits: &str) -> Option<i64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_with_a_hostile_name() {
        let text = "42 (a) b (c) S 1 1 1 0 -1 4194560 1 2 3 4 250 150 0 0 20 0 8 0 12345 1000 50";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(
            (stat.cpu_seconds, stat.threads, stat.started_after_boot),
            (4.0, 8, 123)
        );
        assert!(Stat::parse("42 (short) S 1").is_none());
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn reports_this_process() {
        let registry = Registry::new();
        register_process_metrics(&registry).unwrap();
        let families = registry.gather();
        let names: Vec<&str> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(
            names,
            [
                "process_cpu_seconds_total",
                "process_max_fds",
                "process_open_fds",
                "process_resident_memory_bytes",
                "process_start_time_seconds",
                "process_threads",
                "process_virtual_memory_bytes"
            ]
        );
        let resident = families[3].get_metric()[0].get_gauge().get_value();
        assert!(resident > 1e6, "{resident}");
        assert!(register_process_metrics(&registry).is_err());
    }
}
