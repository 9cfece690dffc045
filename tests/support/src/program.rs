//! The program under test, run as its users run it.

use crate::envoy::Ports;
use crate::process::Process;
use crate::{files, tools, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// A running keycloak-bff.
pub struct Program {
    process: Process,
    dir: PathBuf,
    listeners: Vec<u16>,
}

impl Program {
    /// The demo's configuration with these ports and the issuer of this realm.
    pub fn config(ports: &Ports, issuer: &str) -> Value {
        let mut config = files::read("keycloak-bff.yaml");
        let demo = Ports::DEMO;
        let changes = [
            (format!("127.0.0.1:{}", demo.grpc), format!("127.0.0.1:{}", ports.grpc)),
            (format!("127.0.0.1:{}", demo.browser), format!("127.0.0.1:{}", ports.browser)),
            (format!(".demo.localhost:{}", demo.edge), format!(".demo.localhost:{}", ports.edge)),
            ("http://localhost:8080/realms/demo".to_owned(), issuer.to_owned()),
        ];
        files::replace(&mut config, &changes);
        config
    }

    /// Starts it and waits until both its listeners accept. Its log and the configuration lie in `dir`.
    pub async fn start(config: &Value, dir: &Path) -> Self {
        let mut program = Self::launch(config, dir);
        program.ready().await;
        program
    }

    /// Starts it without waiting, for configurations that it must refuse.
    pub fn launch(config: &Value, dir: &Path) -> Self {
        let file = write(config, dir);
        Self { process: serve(&file, dir), dir: dir.to_owned(), listeners: listeners(config) }
    }

    /// Ends it if it still runs and starts it again with the same configuration.
    pub async fn restart(&mut self) {
        self.process.stop().await;
        self.start_again().await;
    }

    /// Starts it again with the same configuration, after it was stopped or killed.
    pub async fn start_again(&mut self) {
        self.process = serve(&self.dir.join(FILE), &self.dir);
        self.ready().await;
    }

    /// The process, to stop, kill, pause and resume it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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

/// Runs `keycloak-bff` with these arguments to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(tools::keycloak_bff()).args(arguments).output().expect("keycloak-bff can be started")
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
    let mut command = Command::new(tools::keycloak_bff());
    command.arg("serve").arg("--config").arg(file);
    Process::spawn("keycloak-bff", &mut command, dir)
}

/// The ports on loopback among the configured listeners.
fn listeners(config: &Value) -> Vec<u16> {
    let Some(listeners) = config["listeners"].as_object() else { return Vec::new() };
    let addresses = listeners.values().filter_map(Value::as_str);
    addresses.filter_map(|address| address.strip_prefix("127.0.0.1:")?.parse().ok()).collect()
}
