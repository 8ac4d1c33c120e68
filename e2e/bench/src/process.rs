//! What a process uses: processor time and memory, from /proc.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// Ticks a second in /proc/PID/stat: 100 on every Linux that Rust runs on.
const TICKS: u64 = 100;

/// Memory of a process, in kB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident now.
    pub rss_kb: u64,
    /// The most that ever was resident.
    pub peak_kb: u64,
}

/// Reads the memory of a process.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(path)?;
    Ok(memory_of(&text))
}

fn memory_of(status: &str) -> Memory {
    let read = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or_default()
    };
    Memory {
        rss_kb: read("VmRSS:"),
        peak_kb: read("VmHWM:"),
    }
}

/// User and system time of all threads of a process, dead ones too, to a hundredth of a second.
///
/// # Errors
/// There is no such process.
pub fn coarse_cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(path)?;
    coarse_cpu_of(&text).context("/proc/PID/stat has another form than expected")
}

fn coarse_cpu_of(stat: &str) -> Option<Duration> {
    // The name of the program stands in parentheses and may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS))
}

/// User and system time of a process to the nanosecond, summed over its threads.
///
/// The time of a thread that ended counts up to the last reading before its end.
#[derive(Debug)]
pub struct CpuMeter {
    pid: u32,
    threads: HashMap<u32, u64>,
    total: u64,
}

impl CpuMeter {
    /// A meter of a process, which counts from the process's start.
    pub fn new(pid: u32) -> CpuMeter {
        CpuMeter {
            pid,
            threads: HashMap::new(),
            total: 0,
        }
    }

    /// Time used so far.
    ///
    /// # Errors
    /// There is no such process.
    pub fn read(&mut self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/task", self.pid);
        for entry in fs::read_dir(&path).context(path)? {
            let entry = entry?;
            let Some(thread) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // A thread that ends between listing and reading is no error.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let now = text
                .split_ascii_whitespace()
                .next()
                .and_then(|word| word.parse().ok())
                .unwrap_or(0);
            let before = self.threads.insert(thread, now).unwrap_or(0);
            // A number that shrank belongs to a new thread with an old id.
            self.total += if now < before { now } else { now - before };
        }
        Ok(Duration::from_nanos(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_program_name() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 4667 57412 1 31 150 7 41 11 20 0 1 0 32659";
        assert_eq!(coarse_cpu_of(stat), Some(Duration::from_millis(1570)));
        assert_eq!(coarse_cpu_of("42 (a"), None);
    }

    #[test]
    fn memory_is_read_in_kilobytes() {
        let status = "Name:\tpilot\nVmHWM:\t  2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(
            memory_of(status),
            Memory {
                rss_kb: 1024,
                peak_kb: 2048
            }
        );
    }

    #[test]
    fn both_clocks_agree_about_this_process() {
        let pid = std::process::id();
        let mut meter = CpuMeter::new(pid);
        let mut x = 0u64;
        while meter.read().unwrap() < Duration::from_millis(60) {
            x = std::hint::black_box(
                (0..100_000).fold(x, |x: u64, n| x.wrapping_mul(31).wrapping_add(n)),
            );
        }
        let (fine, coarse) = (meter.read().unwrap(), coarse_cpu(pid).unwrap());
        // Other tests' threads may have ended, which only the coarse clock counts.
        assert!(
            coarse + Duration::from_millis(30) >= fine,
            "{coarse:?} {fine:?}"
        );
    }
}
