//! Child processes that never outlive their owner.

use crate::wait;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// A running program with its own process group, so that what it starts ends with it, and its output in a file.
/// Dropping it kills the group.
pub struct Process {
    name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard output and error go to `NAME.log` in `dir`, behind what is there already.
    pub fn spawn(name: &str, command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).expect("a log file can be opened");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("cannot start {}: {error}", command.get_program().display()));
        let group = Pid::from_child(&child);
        Self { name: name.to_owned(), child, group, log }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines that it has written.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits until `probe` says that the process is ready; panics with its log when it ends or `limit` passes before.
    pub async fn ready(&mut self, limit: Duration, mut probe: impl AsyncFnMut() -> bool) {
        let name = self.name.clone();
        let outcome = wait::within(limit, async || match self.ended() {
            Some(status) => Some(Err(status)),
            None => probe().await.then_some(Ok(())),
        });
        match outcome.await {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("{name} ended at its start ({status}):\n{}", self.log_tail()),
            None => panic!("{name} was not ready within {limit:?}:\n{}", self.log_tail()),
        }
    }

    /// Sends a signal to it and all that it started.
    pub fn signal(&self, signal: Signal) {
        // It may have ended already, which is no fault of the caller.
        let _ = kill_process_group(self.group, signal);
    }

    /// Stops its clock: connections are accepted by the system, and nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after `pause`.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended by itself; panics when `limit` passes before.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, async || self.ended()).await
    }

    /// Asks it to end with SIGTERM, waits, and kills it if it does not.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        match wait::within(GRACE, async || self.ended()).await {
            Some(status) => status,
            None => self.kill(),
        }
    }

    /// Ends it and all that it started at once.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes this process the parent of every orphan among its descendants, so that `end_descendants` finds them.
pub fn adopt_orphans() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("Linux adopts orphans");
}

/// Kills all descendants of this process, also those that a killed test left behind.
pub fn end_descendants() {
    let own = std::process::id();
    for _ in 0..100 {
        let children = descendants(own);
        if children.is_empty() {
            return;
        }
        for pid in children {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The ids of all processes below `root`, by the parent ids that /proc tells.
fn descendants(root: u32) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The second field is a name in parentheses that may hold anything; state and parent follow it.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (id, parent)));
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    found[1..].iter().filter_map(|id| Pid::from_raw(i32::try_from(*id).ok()?)).collect()
}
