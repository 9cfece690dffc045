//! Envoy with the demo's configuration, on other ports.

use crate::process::Process;
use crate::{files, ports, tools, wait};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const START: Duration = Duration::from_secs(30);

/// The ports that Envoy's configuration names.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Where browsers come in.
    pub edge: u16,
    /// Envoy's own administration.
    pub admin: u16,
    /// The program's external authorization.
    pub grpc: u16,
    /// The program's endpoints for browsers.
    pub browser: u16,
    /// The program's endpoints for workloads.
    pub internal: u16,
    /// The protected upstream.
    pub upstream: u16,
}

impl Ports {
    /// Those of the files in `envoy/`.
    pub const DEMO: Self =
        Self { edge: 8000, admin: 9901, grpc: 9191, browser: 8081, internal: 8082, upstream: 8090 };

    /// Free ones.
    pub fn free() -> Self {
        Self {
            edge: ports::free(),
            admin: ports::free(),
            grpc: ports::free(),
            browser: ports::free(),
            internal: ports::free(),
            upstream: ports::free(),
        }
    }

    fn pairs(&self) -> [(u16, u16); 5] {
        let demo = Self::DEMO;
        [
            (demo.edge, self.edge),
            (demo.admin, self.admin),
            (demo.grpc, self.grpc),
            (demo.browser, self.browser),
            (demo.upstream, self.upstream),
        ]
    }
}

/// A running Envoy.
pub struct Envoy {
    process: Process,
}

impl Envoy {
    /// The demo's configuration with these ports.
    pub fn config(ports: &Ports) -> Value {
        let mut config = files::read("envoy.yaml");
        set_ports(&mut config, &ports.pairs());
        let host = |port: u16| format!(".demo.localhost:{port}");
        files::replace(&mut config, &[(host(Ports::DEMO.edge), host(ports.edge))]);
        config
    }

    /// Has the external authorizer asked for the program's own endpoints as well, as Istio and Envoy Gateway do.
    pub fn authorize_own_endpoints(config: &mut Value) {
        for_each_object(config, &mut |fields| {
            if let Some(filters) = fields.get_mut("typed_per_filter_config").and_then(Value::as_object_mut) {
                filters.remove("envoy.filters.http.ext_authz");
            }
        });
    }

    /// Starts it and waits until it is ready. Its log and the configuration lie in `dir`.
    pub async fn start(config: &Value, dir: &Path) -> Self {
        let file = dir.join("envoy.json");
        std::fs::write(&file, config.to_string()).expect("the configuration can be written");
        let admin = config["admin"]["address"]["socket_address"]["port_value"].as_u64();
        let admin =
            admin.and_then(|port| u16::try_from(port).ok()).expect("the configuration has an admin port");
        let mut command = Command::new(tools::envoy());
        command.arg("--config-path").arg(&file);
        // Several run at once, and tests read the access log.
        command.args(["--concurrency", "1", "--disable-hot-restart", "--file-flush-interval-msec", "20"]);
        let mut process = Process::spawn("envoy", &mut command, dir);
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let ready = format!("http://127.0.0.1:{admin}/ready");
        let probe = async || http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success());
        process.ready(START, probe).await;
        Self { process }
    }

    /// The process, to stop, kill, pause and resume it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The access log's entries so far.
    pub fn access_log(&self) -> Vec<Value> {
        let log = self.process.log();
        log.lines()
            .filter(|line| line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for an entry of the access log.
    pub async fn logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let probe = async || self.access_log().into_iter().find(|entry| wanted(entry));
        wait::until(&format!("an access log entry: {what}"), Duration::from_secs(5), probe).await
    }
}

fn set_ports(config: &mut Value, pairs: &[(u16, u16)]) {
    for_each_object(config, &mut |fields| {
        let Some(port) = fields.get_mut("port_value") else { return };
        let pair = pairs.iter().find(|(from, _)| json!(from) == *port);
        let (_, to) =
            pair.unwrap_or_else(|| panic!("envoy.yaml names a port that the test bed does not know: {port}"));
        *port = json!(to);
    });
}

fn for_each_object(value: &mut Value, change: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_object(item, change)),
        Value::Object(fields) => {
            change(fields);
            fields.values_mut().for_each(|field| for_each_object(field, change));
        }
        _ => {}
    }
}
