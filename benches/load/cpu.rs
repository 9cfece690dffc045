//! What the system says a process has used.

use std::fs;

/// The CPU time of a process so far, user and system, of all its threads, in nanoseconds (Documentation/scheduler/
/// sched-stats.rst of Linux).
pub fn time(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let of_task = |task: fs::DirEntry| {
        let statistics = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        statistics.split_whitespace().next().and_then(|time| time.parse::<u64>().ok()).unwrap_or_default()
    };
    let time = tasks.flatten().map(of_task).sum();
    assert!(time > 0, "Linux keeps no scheduler statistics here");
    time
}

/// The resident memory of a process in kibibytes.
pub fn resident_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("memory is a number")
}
