//! The demo: everything on its fixed ports of loopback, in the foreground.

use crate::envoy::{Envoy, Ports};
use crate::keycloak::Keycloak;
use crate::process::Process;
use crate::program;
use crate::upstream::Upstream;
use crate::{files, ports, wait};
use std::time::Duration;
use tempfile::TempDir;

const KEYCLOAK_PORT: u16 = 8080;

const ADDRESSES: &str = "
  app frontend      http://app.demo.localhost:8000
  admin frontend    http://admin.demo.localhost:8000
  Keycloak          http://localhost:8080              admin / admin

  sign in as        alice / alice                      role user
                    bob / bob                          roles user, admin
                    dave / dave                        on the app frontend, with Corp

  model tokens, as a pod asks for them:
    curl -H 'Authorization: Bearer demo-workload-key' http://127.0.0.1:8082/get_model_tokens
  the same for a user, whose TOKEN the pod was called with (Authorization in http://app.demo.localhost:8000/api/echo):
    curl -H 'Authorization: Bearer demo-workload-key' -H 'X-Subject-Token: TOKEN' http://127.0.0.1:8082/get_model_tokens
";

/// Everything that the demo runs.
pub struct Demo {
    keycloak: Keycloak,
    program: Process,
    envoy: Envoy,
    _upstream: Upstream,
    _dir: TempDir,
}

/// Says which of the demo's ports are taken.
pub fn check_ports() -> Result<(), String> {
    let demo = Ports::DEMO;
    let needed = [
        (demo.edge, "Envoy"),
        (KEYCLOAK_PORT, "Keycloak"),
        (demo.grpc, "keycloak-bff, gRPC"),
        (demo.browser, "keycloak-bff, HTTP for browsers"),
        (demo.internal, "keycloak-bff, HTTP for workloads"),
        (demo.upstream, "the upstream"),
        (demo.admin, "Envoy's administration"),
    ];
    let taken = needed.iter().filter(|(port, _)| !ports::is_free(*port));
    let taken: Vec<String> = taken.map(|(port, what)| format!("127.0.0.1:{port} ({what})")).collect();
    if taken.is_empty() { Ok(()) } else { Err(format!("already in use: {}", taken.join(", "))) }
}

impl Demo {
    /// Starts everything, and says so.
    pub async fn start() -> Self {
        let dir = files::temporary("demo-");
        println!("starting Keycloak");
        let keycloak = Keycloak::start_on(KEYCLOAK_PORT).await;
        println!("making the realms corp, demo and models");
        let admin = keycloak.admin();
        admin.create_realm(&files::read("realms/corp.json")).await;
        admin.create_realm(&files::read("realms/demo.json")).await;
        admin.create_realm(&files::read("realms/models.json")).await;
        println!("starting keycloak-bff, the upstream and Envoy");
        let upstream = Upstream::start(Ports::DEMO.upstream).await;
        let mut program = program::serve(&files::path("keycloak-bff.yaml"), dir.path());
        let listening =
            async || wait::accepts(Ports::DEMO.grpc).await && wait::accepts(Ports::DEMO.browser).await;
        program.ready(Duration::from_secs(30), listening).await;
        let envoy = Envoy::start(&Envoy::config(&Ports::DEMO), dir.path()).await;
        println!("{ADDRESSES}\n  logs              {}\n\ndemo ready", dir.path().display());
        Self { keycloak, program, envoy, _upstream: upstream, _dir: dir }
    }

    /// Waits until a part ends, and says which and how.
    pub async fn watch(&mut self) -> String {
        loop {
            for process in [self.keycloak.process(), &mut self.program, self.envoy.process()] {
                if let Some(status) = process.ended() {
                    return format!("{} ended ({status}):\n{}", process.name(), process.log_tail());
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends everything, in the order in which requests flow.
    pub async fn stop(mut self) {
        self.envoy.process().stop().await;
        self.program.stop().await;
    }
}
