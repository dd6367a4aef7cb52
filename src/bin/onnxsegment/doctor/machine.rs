//! Cores and memory, and what a container allows of them.

use std::fs;

use super::Part;

const GIB: f64 = (1u64 << 30) as f64;
/// Less free memory than this is worth a note.
const LITTLE: f64 = 2.0;

pub fn look() -> Part {
    let mut part = Part::new("Machine");
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let all = read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count().max(cores);
    let text = match all > cores {
        true => format!("{cores} of {all}, as this process may use no more"),
        false => cores.to_string(),
    };
    part.ok("cores", text, "as many threads run models");
    if let Some(share) = cpu_share(&read("/sys/fs/cgroup/cpu.max")).filter(|share| *share < cores as f64) {
        let found = format!("time of {share:.2} cores, by the control group");
        part.note(
            "limit of time",
            found,
            "",
            "set threads to the next whole number above it, or raise the container's limit",
        );
    }
    let bytes = |table: &str, name: &str| {
        let line = table.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / GIB)
    };
    let table = read("/proc/meminfo");
    if let (Some(total), Some(free)) = (bytes(&table, "MemTotal:"), bytes(&table, "MemAvailable:")) {
        let group = |file: &str| read(&format!("/sys/fs/cgroup/{file}")).trim().parse::<f64>().ok().map(|b| b / GIB);
        let limit = group("memory.max").filter(|limit| *limit < total);
        let free = limit.map_or(free, |limit| free.min(limit - group("memory.current").unwrap_or(0.0)).max(0.0));
        let total = limit.map_or(format!("{total:.1} GiB"), |limit| format!("{limit:.1} GiB, by the control group"));
        let found = format!("{free:.1} GiB free of {total}");
        match free < LITTLE {
            true => part.note(
                "memory",
                found,
                "models, frames and blending",
                "use small tiles (tile-size=256), and threads=1",
            ),
            false => part.ok("memory", found, "models, frames and blending"),
        }
    }
    part
}

/// Cores' worth of time that a control group gives: `quota period`, or `max`.
fn cpu_share(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_tells_its_share_of_time() {
        assert_eq!(cpu_share("150000 100000\n"), Some(1.5));
        assert_eq!((cpu_share("max 100000\n"), cpu_share("")), (None, None));
    }
}
