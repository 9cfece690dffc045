//! The program under test, run as its users run it.

use crate::envoy::Ports;
use crate::process::{Process, Signal};
use crate::{files, tools, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// A running keycloak-bff.
pub struct Program {
    process: Process,
    dir: PathBuf,
    environment: Environment,
    listeners: Vec<u16>,
}

/// Variables that a program gets besides those of this process.
pub type Environment = Vec<(String, String)>;

impl Program {
    /// The demo's configuration with these ports and the issuer of this realm.
    pub fn config(ports: &Ports, issuer: &str) -> Value {
        let mut config = files::read("keycloak-bff.yaml");
        let demo = Ports::DEMO;
        let changes = [
            (format!("127.0.0.1:{}", demo.grpc), format!("127.0.0.1:{}", ports.grpc)),
            (format!("127.0.0.1:{}", demo.browser), format!("127.0.0.1:{}", ports.browser)),
            (format!("127.0.0.1:{}", demo.internal), format!("127.0.0.1:{}", ports.internal)),
            (format!(".demo.localhost:{}", demo.edge), format!(".demo.localhost:{}", ports.edge)),
            ("http://localhost:8080/realms/demo".to_owned(), issuer.to_owned()),
        ];
        files::replace(&mut config, &changes);
        config
    }

    /// Starts it and waits until both its listeners accept. Its log and the configuration lie in `dir`.
    pub async fn start(config: &Value, dir: &Path, environment: &Environment) -> Self {
        let mut program = Self::launch(config, dir, environment);
        program.ready().await;
        program
    }

    /// Starts it without waiting, for configurations that it must refuse.
    pub fn launch(config: &Value, dir: &Path, environment: &Environment) -> Self {
        let process = serve_with(&write(config, dir), dir, environment);
        let (dir, environment) = (dir.to_owned(), environment.clone());
        Self { process, dir, environment, listeners: listeners(config) }
    }

    /// Ends it if it still runs and starts it again with the same configuration.
    pub async fn restart(&mut self) {
        self.process.stop().await;
        self.start_again().await;
    }

    /// Starts it again with the same configuration, after it was stopped or killed.
    pub async fn start_again(&mut self) {
        self.process = serve_with(&self.dir.join(FILE), &self.dir, &self.environment);
        self.ready().await;
    }

    /// The process, to stop, kill, pause and resume it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    async fn ready(&mut self) {
        let ports = self.listeners.clone();
        let probe = async || {
            for port in &ports {
                if !wait::accepts(*port).await {
                    return false;
                }
            }
            true
        };
        self.process.ready(START, probe).await;
    }
}

/// Runs `keycloak-bff` with these arguments and variables to its end.
pub fn run(arguments: &[&str], environment: &Environment) -> Output {
    let mut command = Command::new(tools::keycloak_bff());
    command.args(arguments).envs(environment.iter().cloned()).stdin(Stdio::null());
    command.output().expect("keycloak-bff can be started")
}

const FILE: &str = "keycloak-bff.json";

/// JSON is YAML as well.
fn write(config: &Value, dir: &Path) -> PathBuf {
    let file = dir.join(FILE);
    std::fs::write(&file, config.to_string()).expect("the configuration can be written");
    file
}

/// `serve` with a configuration file.
pub fn serve(file: &Path, dir: &Path) -> Process {
    serve_with(file, dir, &Environment::new())
}

fn serve_with(file: &Path, dir: &Path, environment: &Environment) -> Process {
    let mut command = Command::new(tools::keycloak_bff());
    command.arg("serve").arg("--config").arg(file).envs(environment.iter().cloned());
    Process::spawn("keycloak-bff", &mut command, dir)
}

/// The ports on loopback among the configured listeners.
fn listeners(config: &Value) -> Vec<u16> {
    let Some(listeners) = config["listeners"].as_object() else { return Vec::new() };
    let addresses = listeners.values().filter_map(Value::as_str);
    addresses.filter_map(|address| address.strip_prefix("127.0.0.1:")?.parse().ok()).collect()
}
