//! Command line of the test bed.

use keycloak_bff_testbed::demo::{self, Demo};
use keycloak_bff_testbed::make::Make;
use keycloak_bff_testbed::process::{adopt_orphans, end_descendants};
use keycloak_bff_testbed::{Keycloak, mesh, stand};
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

const USAGE: &str = "\
testbed demo                 run the demo until Ctrl-C
testbed keycloak             run a Keycloak for the tests until Ctrl-C
testbed run -- COMMAND ...   run a command with a Keycloak for the tests
testbed mesh-golden          record anew what Istio makes of k8s/overlays/istio-*";

/// What shells answer for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// As good as for ever.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

#[tokio::main]
async fn main() -> ExitCode {
    // The panics of the test bed are its error messages.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.payload().downcast_ref::<&str>().copied());
        eprintln!("testbed: {}", text.unwrap_or("failed"));
    }));
    adopt_orphans();
    let _descendants = Descendants;
    let mut interrupts = Interrupts::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["demo"] => run_demo(&mut interrupts).await,
        ["keycloak"] => run_keycloak(&mut interrupts).await,
        ["mesh-golden"] => match interrupts.or(mesh::record()).await {
            Some(()) => ExitCode::SUCCESS,
            None => ExitCode::from(INTERRUPTED),
        },
        ["run", "--", program, rest @ ..] => run_command(program, rest, &mut interrupts).await,
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

/// Ends with everything that this process started, also when it panics.
struct Descendants;

impl Drop for Descendants {
    fn drop(&mut self) {
        end_descendants();
    }
}

async fn run_demo(interrupts: &mut Interrupts) -> ExitCode {
    if let Err(taken) = demo::check_ports() {
        eprintln!("testbed: {taken}");
        return ExitCode::FAILURE;
    }
    let Some(mut demo) = interrupts.or(Demo::start()).await else { return ExitCode::from(INTERRUPTED) };
    if let Some(reason) = interrupts.or(demo.watch()).await {
        eprintln!("testbed: {reason}");
        return ExitCode::FAILURE;
    }
    println!("stopping");
    demo.stop().await;
    ExitCode::SUCCESS
}

async fn run_keycloak(interrupts: &mut Interrupts) -> ExitCode {
    let Some(mut keycloak) = interrupts.or(Keycloak::start()).await else {
        return ExitCode::from(INTERRUPTED);
    };
    println!("export {}={}", stand::KEYCLOAK, keycloak.url());
    interrupts.or(keycloak.process().wait(A_YEAR)).await;
    ExitCode::SUCCESS
}

async fn run_command(program: &str, arguments: &[&str], interrupts: &mut Interrupts) -> ExitCode {
    let Some(keycloak) = interrupts.or(Keycloak::start()).await else { return ExitCode::from(INTERRUPTED) };
    let child = Command::new(program).args(arguments).env(stand::KEYCLOAK, keycloak.url()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let ended = async {
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match interrupts.or(ended).await {
        Some(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        None => ExitCode::from(INTERRUPTED),
    }
}

/// The signals that ask for the end, watched from the start, so that none is lost between two waits.
struct Interrupts {
    signals: [Signal; 3],
    make: Make,
}

impl Interrupts {
    fn new() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.map(|kind| signal(kind).expect("signals can be awaited"));
        Self { signals, make: Make::above() }
    }

    /// What the work gives, or `None` when someone wants the end.
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let [interrupt, terminate, hang_up] = &mut self.signals;
        tokio::select! {
            done = work => Some(done),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
            _ = hang_up.recv() => None,
            () = self.make.interrupted() => None,
        }
    }
}
