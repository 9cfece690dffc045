//! What a request costs the program, as the CPU time of its process beside that of a server of the same framework that
//! decides nothing. `make bench` runs it; docs/performance.md says what it measures and shows a run.
//!
//! The servers are processes of their own: keycloak-bff as it is released, and this program again with another task.
//! Whatever goes wrong ends in a panic that says what was missing. Nothing is asserted about time.

mod cluster;
mod cpu;
mod floors;
mod h2load;
mod measure;
mod reply;
mod requests;
mod servers;
mod targets;

use std::{env, path::Path, process::ExitCode, time::Duration};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    match arguments.as_slice() {
        [floors::GRPC, port, reply] => runtime.block_on(floors::grpc(port, Path::new(reply))),
        [floors::HTTP, port, answer] => runtime.block_on(floors::http(port, Path::new(answer))),
        // `cargo bench` says so; `cargo test --benches` does not.
        list if list.contains(&"--bench") => return runtime.block_on(run()),
        _ => println!("nothing is measured without --bench: run `make bench`"),
    }
    ExitCode::SUCCESS
}

/// Runs the comparison to its end, or until somebody wants it to end. Either way all that it started ends with it.
async fn run() -> ExitCode {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [mut interrupt, mut terminate, mut hang_up] =
        kinds.map(|kind| signal(kind).expect("signals can be awaited"));
    tokio::select! {
        done = timeout(LIMIT, targets::compare()) => done.expect("the comparison ends within ten minutes"),
        _ = interrupt.recv() => return ExitCode::from(130),
        _ = terminate.recv() => return ExitCode::from(130),
        _ = hang_up.recv() => return ExitCode::from(130),
    }
    ExitCode::SUCCESS
}
