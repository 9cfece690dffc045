//! The program as it stands in the demo, whoever its provider is: Envoy before it, an upstream behind.

use crate::envoy::{Envoy, Ports};
use crate::files;
use crate::program::{Environment, Program};
use crate::upstream::Upstream;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

/// Everything but the provider. Dropping it ends all of it.
pub struct Deployment {
    /// The program under test.
    pub program: Program,
    /// Envoy in front of it.
    pub envoy: Envoy,
    /// What Envoy protects.
    pub upstream: Upstream,
    /// Where all of it listens.
    pub ports: Ports,
    /// The configuration that the program runs with.
    pub program_config: Value,
    /// The configuration that Envoy runs with.
    pub envoy_config: Value,
    environment: Environment,
    dir: TempDir,
}

impl Deployment {
    /// The demo's programs with changes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The origin of the app frontend.
    pub fn app(&self) -> String {
        format!("http://app.demo.localhost:{}", self.ports.edge)
    }

    /// The origin of the admin frontend.
    pub fn admin(&self) -> String {
        format!("http://admin.demo.localhost:{}", self.ports.edge)
    }

    /// The program's listener for browsers, not through Envoy.
    pub fn browser_listener(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.browser)
    }

    /// The program's listener for workloads.
    pub fn internal_listener(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.internal)
    }

    /// A directory for the test's files. Logs and configurations lie there too.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the program and starts it with another configuration.
    pub async fn reconfigure(&mut self, edit: impl FnOnce(&mut Value)) {
        edit(&mut self.program_config);
        self.program.process().stop().await;
        self.program = Program::start(&self.program_config, self.dir.path(), &self.environment).await;
    }
}

/// A change of a configuration.
pub(crate) type Edit = Box<dyn FnOnce(&mut Value) + Send>;

/// What a deployment shall have other than the demo.
#[derive(Default)]
pub struct Builder {
    authorize_own_endpoints: bool,
    environment: Environment,
    program: Vec<Edit>,
    envoy: Vec<Edit>,
}

impl Builder {
    /// Has Envoy ask the external authorizer for `/auth/` as well.
    pub fn authorize_own_endpoints(mut self) -> Self {
        self.authorize_own_endpoints = true;
        self
    }

    /// Gives the program an environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Edits the program's configuration.
    pub fn program(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.program.push(Box::new(edit));
        self
    }

    /// Edits the program's configuration before everyone else does.
    pub(crate) fn program_first(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.program.insert(0, Box::new(edit));
        self
    }

    /// Edits Envoy's configuration.
    pub fn envoy(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.envoy.push(Box::new(edit));
        self
    }

    /// Starts everything for users of this issuer and waits until it is ready.
    pub async fn start(self, issuer: &str) -> Deployment {
        self.start_on(Ports::free(), issuer).await
    }

    /// The same on ports that are known already.
    pub async fn start_on(self, ports: Ports, issuer: &str) -> Deployment {
        let dir = files::temporary("deployment-");
        let mut program_config = Program::config(&ports, issuer);
        apply(self.program, &mut program_config);
        let mut envoy_config = Envoy::config(&ports);
        if self.authorize_own_endpoints {
            Envoy::authorize_own_endpoints(&mut envoy_config);
        }
        apply(self.envoy, &mut envoy_config);

        let upstream = Upstream::start(ports.upstream).await;
        let environment = self.environment;
        let (program, envoy) = tokio::join!(
            Program::start(&program_config, dir.path(), &environment),
            Envoy::start(&envoy_config, dir.path()),
        );
        Deployment { program, envoy, upstream, ports, program_config, envoy_config, environment, dir }
    }
}

/// Makes changes in their order.
pub(crate) fn apply(edits: Vec<Edit>, value: &mut Value) {
    edits.into_iter().for_each(|edit| edit(value));
}
