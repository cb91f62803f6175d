//! Processors and memory, as Linux tells in /proc.

use std::path::Path;

/// How long all processors together have worked, and been there, in ticks of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CpuTimes {
    busy: u64,
    all: u64,
}

impl CpuTimes {
    /// The share of work in the time since `before`; `None` if none has passed.
    pub(super) fn share_since(self, before: CpuTimes) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some((self.busy.saturating_sub(before.busy) as f64 / all as f64).min(1.0))
    }
}

/// The times of all processors.
pub(super) fn cpu_times(root: &Path) -> Option<CpuTimes> {
    parse_cpu(&std::fs::read_to_string(root.join("proc/stat")).ok()?)
}

/// The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, and guests, which user has too.
fn parse_cpu(text: &str) -> Option<CpuTimes> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let idle = times.get(3)? + times.get(4).unwrap_or(&0);
    let all = times.iter().fold(0u64, |all, time| all.saturating_add(*time));
    Some(CpuTimes { busy: all.saturating_sub(idle), all })
}

/// The bytes of memory, and those in use: what the kernel could not give to somebody else.
pub(super) fn memory(root: &Path) -> Option<(u64, u64)> {
    parse_memory(&std::fs::read_to_string(root.join("proc/meminfo")).ok()?)
}

fn parse_memory(text: &str) -> Option<(u64, u64)> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal")?;
    // Kernels before 3.14 do not tell what is available.
    let available = bytes("MemAvailable").or_else(|| bytes("MemFree"))?;
    Some((total, total.saturating_sub(available)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_processors() {
        let before = parse_cpu("cpu  100 10 50 800 40 0 5 5 30 0\ncpu0 1 1 1 1\nintr 5\n").unwrap();
        assert_eq!(before, CpuTimes { busy: 170, all: 1010 });
        let after = parse_cpu("cpu  130 10 60 840 60 0 5 5 30 0\n").unwrap();
        assert_eq!(after.share_since(before), Some(0.4));
        assert_eq!(after.share_since(after), None);
        assert_eq!(before.share_since(after), None, "the times of another machine");
        assert_eq!(parse_cpu("cpu0 1 2 3 4\n"), None);
        assert_eq!(parse_cpu("cpu  1 2\n"), None);
        assert_eq!(parse_cpu("cpu  1 2 x 4 5\n"), None);
    }

    #[test]
    fn bytes_of_memory() {
        let text = "MemTotal:       24689776 kB\nMemFree:         1000000 kB\nMemAvailable:   23689776 kB\n";
        assert_eq!(parse_memory(text), Some((24_689_776 * 1024, 1_000_000 * 1024)));
        assert_eq!(parse_memory("MemTotal: 4 kB\nMemFree: 1 kB\n"), Some((4096, 3072)));
        assert_eq!(parse_memory("MemTotal: 4 MB\nMemFree: 1 kB\n"), None);
        assert_eq!(parse_memory(""), None);
    }
}
