//! The program with a user who is signed in, its neighbours, and the floors.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use keycloak_bff_testbed::{
    Provider, Redis, UserAgent, envoy::Ports, files, ports, process::Process, program::Program, wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{AUDIENCE, Cluster};

/// Longer than the comparison takes: nothing is renewed meanwhile.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How long a floor may take to accept.
const START: Duration = Duration::from_secs(30);

/// The audience of the tokens that `/orders/*` gets by exchange.
pub const ORDERS: &str = "orders";

/// The program with all that it asks. Dropping it ends all of it.
pub struct Servers {
    program: Program,
    /// Where the program listens.
    pub ports: Ports,
    /// The issuer of the users' tokens.
    pub users: Provider,
    /// The issuer of the model tokens.
    pub models: Provider,
    /// Where the pods run.
    pub cluster: Cluster,
    /// A user's session cookie.
    pub cookie: String,
    dir: TempDir,
}

impl Servers {
    pub async fn start() -> Self {
        let (users, models) = (Provider::start().await, Provider::start().await);
        users.access_lifetime(TOKEN_LIFE);
        models.access_lifetime(TOKEN_LIFE);
        let cluster = Cluster::start().await;
        let mut ports = Ports::free();
        // No Envoy stands before it: browsers come to the program itself.
        ports.edge = ports.browser;
        let mut config = Program::config(&ports, users.issuer());
        configure(&mut config, &models, &cluster);
        let dir = files::temporary("load-");
        let program = Program::start(&config, dir.path(), &Vec::new()).await;
        let cookie = sign_in(&format!("http://app.demo.localhost:{}", ports.browser)).await;
        Self { program, ports, users, models, cluster, cookie, dir }
    }

    /// The process id of the program.
    pub fn program(&mut self) -> u32 {
        self.program.process().id()
    }

    /// Where the program's log goes.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("keycloak-bff.log")
    }

    /// The host that browsers know the frontend by.
    pub fn host(&self) -> String {
        format!("app.demo.localhost:{}", self.ports.edge)
    }

    /// Puts this into a file.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.dir.path().join(name);
        fs::write(&file, content).expect("a file can be written");
        file
    }

    /// Runs this program again as a floor, whose answer is in this file.
    pub async fn floor(&self, task: &str, answer: &Path) -> Floor {
        let port = ports::free();
        let own = env::current_exe().expect("the path of the running program");
        let mut command = Command::new(own);
        command.arg(task).arg(port.to_string()).arg(answer);
        let mut process = Process::spawn(task, &mut command, self.dir.path());
        process.ready(START, async || wait::accepts(port).await).await;
        Floor { process, port }
    }
}

/// The program once more, with its sessions in Redis. Dropping it ends both.
pub struct OnRedis {
    program: Program,
    /// Where the program listens.
    pub ports: Ports,
    /// A user's session cookie.
    pub cookie: String,
    dir: TempDir,
    _redis: Redis,
}

impl OnRedis {
    /// Starts it for the users and models of `servers`.
    pub async fn start(servers: &Servers) -> Self {
        let redis = Redis::start().await;
        let mut ports = Ports::free();
        ports.edge = ports.browser;
        let mut config = Program::config(&ports, servers.users.issuer());
        configure(&mut config, &servers.models, &servers.cluster);
        config["sessions"]["store"] = json!("redis");
        config["sessions"]["redis"] = json!({"url": redis.url()});
        let dir = files::temporary("load-redis-");
        let program = Program::start(&config, dir.path(), &Vec::new()).await;
        let cookie = sign_in(&format!("http://app.demo.localhost:{}", ports.browser)).await;
        Self { program, ports, cookie, dir, _redis: redis }
    }

    /// The process id of the program.
    pub fn program(&mut self) -> u32 {
        self.program.process().id()
    }

    /// Where the program's log goes.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("keycloak-bff.log")
    }
}

/// A server that decides nothing. Dropping it ends it.
pub struct Floor {
    pub process: Process,
    pub port: u16,
}

/// The demo's configuration with what is compared besides, and with the log of production.
fn configure(config: &mut Value, models: &Provider, cluster: &Cluster) {
    config["log"] = json!({"level": "info", "format": "json"});
    config["providers"][1]["issuer"] = json!(models.issuer());
    config["workloads"]["service_accounts"] =
        json!({"issuer": cluster.issuer, "jwks_uri": cluster.jwks_uri(), "audience": AUDIENCE});
    let allowed = config["models"][0]["allowed"].as_array_mut().expect("a list");
    allowed.push(json!({"namespace": "ml", "service_account": "trainer"}));
    let rules = config["frontends"][0]["rules"].as_array_mut().expect("a list");
    rules.push(json!({"path": "/orders/*", "session": "required", "token": "exchange", "audience": ORDERS}));
}

/// The cookie of a session that begins now, beside others that a page might have.
async fn sign_in(origin: &str) -> String {
    let agent = UserAgent::new();
    let landed = agent.navigate(format!("{origin}/auth/login")).await;
    let cookie = agent.cookies.get("app.demo.localhost", "__Host-session");
    let cookie = cookie.unwrap_or_else(|| panic!("nobody is signed in: {landed:#?}"));
    format!("theme=dark; __Host-session={}; lang=en-GB", cookie.value)
}
