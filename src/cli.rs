//! The command line. This is the only room that prints, and the only one that reads the environment.

use std::{env, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime;

use crate::{
    config::{Config, ConfigErrors},
    lifecycle, telemetry,
};

/// The exit code for a command line or a configuration that cannot be used (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// External authorizer for Envoy that keeps OAuth tokens away from browsers.
#[derive(Parser)]
#[command(version = env!("KEYCLOAK_BFF_VERSION"), disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve requests until SIGTERM or Ctrl-C.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file, say what is wrong with it, and exit.
    CheckConfig {
        /// The configuration file.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
}

/// Runs the program with the arguments of the process.
///
/// Exits with 0, with 64 for a command line or a configuration that cannot be used, with 1 if it could not start.
pub fn run() -> ExitCode {
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match command {
        Command::Serve { config } => serve(&config),
        Command::CheckConfig { config } => check_config(&config),
    }
}

fn load(path: &std::path::Path) -> Result<Config, ConfigErrors> {
    Config::load(path, &|name| env::var(name).ok())
}

fn check_config(path: &std::path::Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            for warning in &config.warnings {
                println!("warning: {warning}");
            }
            println!("{} is good", path.display());
            ExitCode::SUCCESS
        }
        Err(errors) => refuse(path, &errors),
    }
}

fn refuse(path: &std::path::Path, errors: &ConfigErrors) -> ExitCode {
    eprintln!("{}:\n{errors}", path.display());
    ExitCode::from(EXIT_USAGE)
}

fn serve(path: &std::path::Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(errors) => return refuse(path, &errors),
    };
    telemetry::init(&config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // One thread needs no locks between cores and serves tens of thousands of checks a second.
    let mut builder = if config.threads == 1 {
        runtime::Builder::new_current_thread()
    } else {
        runtime::Builder::new_multi_thread()
    };
    let served = match builder.worker_threads(config.threads).enable_all().build() {
        Ok(runtime) => {
            let served = runtime.block_on(lifecycle::serve(config));
            // A name that is just being looked up blocks a thread of its own, for which nobody should have to wait.
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(error.into()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "could not serve");
            ExitCode::FAILURE
        }
    }
}
