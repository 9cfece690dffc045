//! Notices that the `make` above this process shall end.
//!
//! A terminal's Ctrl-C reaches make and its children alike. A SIGINT for make alone does not reach them: make stops
//! catching the signal and waits for its children, which would go on for ever.

use rustix::process::{Pid, getppid};
use std::fs;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(200);
const SIGINT: u32 = 2;

/// The make that started this process, if one did.
pub struct Make {
    process: Option<Pid>,
    /// A shell may have told make to ignore the signal, which then says nothing.
    caught_interrupts: bool,
}

impl Make {
    /// Looks at the parent, which is at work still.
    pub fn above() -> Self {
        let process = getppid().filter(|parent| read(*parent, "comm").trim_end() == "make");
        Self { process, caught_interrupts: process.is_some_and(catches_interrupts) }
    }

    /// Waits until make has ended or was interrupted; for ever without a make.
    pub async fn interrupted(&self) {
        let Some(process) = self.process else { return std::future::pending().await };
        while getppid() == self.process && catches_interrupts(process) == self.caught_interrupts {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether a process has a handler for SIGINT.
fn catches_interrupts(process: Pid) -> bool {
    let status = read(process, "status");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    caught & (1 << (SIGINT - 1)) != 0
}

fn read(process: Pid, file: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{file}", process.as_raw_nonzero())).unwrap_or_default()
}
