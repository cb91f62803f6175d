//! CPU time.

use std::time::Duration;

/// CPU time of the calling thread, or of all threads, including the driver's.
#[cfg(unix)]
pub fn cpu_time(all_threads: bool) -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(if all_threads { ClockId::ProcessCPUTime } else { ClockId::ThreadCPUTime });
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The time since the first call, on systems without a clock of CPU time.
#[cfg(not(unix))]
pub fn cpu_time(_all_threads: bool) -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}
