//! How much memory there is, as Linux tells it.

use std::path::Path;

use super::error::Error;

pub fn not_enough(what: &str, needed: usize, available: usize) -> Error {
    let gib = |bytes: usize| bytes as f64 / (1u64 << 30) as f64;
    Error::Memory(format!(
        "{what} needs at least {:.1} GiB, and {:.1} GiB are free; scale it down, or cut it \
         into smaller frames with `tilesplit` or `rastersrc`",
        gib(needed),
        gib(available)
    ))
}

/// A line of one of the kernel's tables, `name: … kB`, in bytes.
fn kernel_bytes(table: &str, name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(table).ok()?;
    let line = text.lines().find(|l| l.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
}

/// Memory that this process holds, in bytes.
pub fn resident() -> Option<usize> {
    kernel_bytes("/proc/self/status", "VmRSS:")
}

/// Memory that is free, in bytes: the machine's, or the control group's where that is less.
pub fn available() -> Option<usize> {
    let machine = kernel_bytes("/proc/meminfo", "MemAvailable:")?;
    let number =
        |path: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok()?.trim().parse::<usize>().ok();
    let group = number("memory.max").zip(number("memory.current")).map(|(most, now)| most.saturating_sub(now));
    Some(group.map_or(machine, |group| group.min(machine)))
}
