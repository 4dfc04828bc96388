//! Time, CPU time and memory, of this process.

use procfs::process::Process;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a clock that all processes of the machine share, and Python's `monotonic_ns`.
#[must_use]
pub fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Nanoseconds of CPU that this process has used, in user code and in the kernel.
#[must_use]
pub fn cpu() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

/// Nanoseconds of CPU that this thread has used.
#[must_use]
pub fn thread_cpu() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// Bytes of memory that this process has resident; 0 where it cannot be told.
#[must_use]
pub fn resident() -> u64 {
    let pages = Process::myself().and_then(|process| process.statm());
    pages.map_or(0, |pages| pages.resident * procfs::page_size())
}

/// Open files of this process; 0 where it cannot be told.
#[must_use]
pub fn open_files() -> usize {
    Process::myself()
        .and_then(|process| process.fd_count())
        .unwrap_or_default()
}
