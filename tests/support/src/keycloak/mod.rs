//! A Keycloak server of one's own.

mod admin;

pub use admin::{AdminApi, Realm};

use crate::process::Process;
use crate::{ports, tools};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Two busy cores make it slow.
const START: Duration = Duration::from_secs(180);

/// The administrator's name and password in realm `master`.
pub const ADMIN: &str = "admin";

/// A running server with its own database.
pub struct Keycloak {
    process: Process,
    home: TempDir,
    port: u16,
    /// The port by which its addresses name it.
    public_port: u16,
    management_port: u16,
}

impl Keycloak {
    /// Starts a server on a free port and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_on(ports::free()).await
    }

    /// Starts a server on `port` of loopback and waits until it is ready.
    pub async fn start_on(port: u16) -> Self {
        Self::start_in(new_home(), port, port).await
    }

    /// Starts a server on a free port that imports these realms at its start, and whose addresses name another port of
    /// loopback, which must lead to it.
    pub async fn start_with_realms(public_port: u16, realms: &[Value]) -> Self {
        let home = new_home();
        let import = home.path().join("data/import");
        fs::create_dir_all(&import).expect("a directory");
        for realm in realms {
            let name = realm["realm"].as_str().expect("a realm has a name");
            fs::write(import.join(format!("{name}.json")), realm.to_string()).expect("a file can be written");
        }
        Self::start_in(home, ports::free(), public_port).await
    }

    async fn start_in(home: TempDir, port: u16, public_port: u16) -> Self {
        let management_port = ports::free();
        let process = launch(home.path(), port, public_port, management_port);
        let mut server = Self { process, home, port, public_port, management_port };
        server.ready().await;
        server
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, by the name that its issuers carry.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.public_port)
    }

    /// Its admin API.
    pub fn admin(&self) -> AdminApi {
        AdminApi::new(&self.url())
    }

    /// The process, to stop, kill, pause and resume it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same port with the same database, after it was stopped or killed.
    pub async fn start_again(&mut self) {
        self.process = launch(self.home.path(), self.port, self.public_port, self.management_port);
        self.ready().await;
    }

    async fn ready(&mut self) {
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let health = format!("http://127.0.0.1:{}/health/ready", self.management_port);
        let probe = async || http.get(&health).send().await.is_ok_and(|answer| answer.status().is_success());
        self.process.ready(START, probe).await;
    }
}

/// A home directory that shares the installation's code and owns its data.
fn new_home() -> TempDir {
    let installed = tools::keycloak();
    let home = tempfile::Builder::new().prefix("keycloak-").tempdir().expect("a temporary directory");
    let at = |name: &str| home.path().join(name);
    for name in ["lib", "conf", "providers", "themes"] {
        symlink(installed.join(name), at(name)).expect("a symbolic link");
    }
    // A link would lead the script back to the installation, and its data there.
    for (dir, file) in [("bin", "kc.sh"), ("data/h2", "keycloakdb.mv.db")] {
        fs::create_dir_all(at(dir)).expect("a directory");
        fs::copy(installed.join(dir).join(file), at(dir).join(file)).expect("a copy of Keycloak's files");
    }
    home
}

fn launch(home: &Path, port: u16, public_port: u16, management_port: u16) -> Process {
    let mut command = Command::new(home.join("bin/kc.sh"));
    command.args(["start", "--optimized", "--cache=local", "--http-enabled=true", "--http-host=127.0.0.1"]);
    command.arg(format!("--hostname=http://localhost:{public_port}"));
    command.arg(format!("--http-port={port}"));
    command.arg(format!("--http-management-port={management_port}"));
    if home.join("data/import").exists() {
        command.arg("--import-realm");
    }
    command.env("JAVA_OPTS_KC_HEAP", "-Xms128m -Xmx512m");
    Process::spawn("keycloak", &mut command, home)
}
