//! Several replicas of the program over one store, each behind an Envoy of its own, so that a test chooses whom it asks.

use crate::envoy::{Envoy, Ports};
use crate::program::{Environment, Program};
use crate::stand::{self, Stand};
use crate::{Redis, files};
use serde_json::{Value, json};
use std::ops::Deref;
use tempfile::TempDir;

/// A stand, which is the first replica, and the others. They share Keycloak's realm and the upstream. A browser sends the
/// same cookies to all of them, since ports do not part cookies.
pub struct Replicas {
    /// The first replica and everything around it.
    pub stand: Stand,
    /// The others.
    pub others: Vec<Replica>,
}

/// One further replica.
pub struct Replica {
    /// The program.
    pub program: Program,
    /// Envoy in front of it.
    pub envoy: Envoy,
    /// Where they listen.
    pub ports: Ports,
    _dir: TempDir,
}

impl Replica {
    /// The origin of the app frontend at this replica.
    pub fn app(&self) -> String {
        app(&self.ports)
    }
}

fn app(ports: &Ports) -> String {
    format!("http://app.demo.localhost:{}", ports.edge)
}

impl Deref for Replicas {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.stand
    }
}

impl Replicas {
    /// Starts as many replicas as there are addresses of their store: the same one, or ways to it that a test can cut.
    /// Envoy waits for the program as long as `patience` says.
    pub async fn start(builder: stand::Builder, urls: &[String], patience: &str) -> Self {
        let ports: Vec<Ports> = urls.iter().skip(1).map(|_| Ports::free()).collect();
        let edges: Vec<u16> = ports.iter().map(|ports| ports.edge).collect();
        let at_client = edges.clone();
        let (url, own_patience) = (urls[0].clone(), patience.to_owned());
        let stand = builder
            .client(move |client| {
                for edge in &at_client {
                    let uri = json!(format!("http://app.demo.localhost:{edge}/auth/callback"));
                    client["redirectUris"].as_array_mut().expect("a list").push(uri);
                }
            })
            .program(move |config| {
                config["sessions"]["store"] = json!("redis");
                config["sessions"]["redis"] = json!({"url": url});
                for frontend in config["frontends"].as_array_mut().expect("a list") {
                    let host = frontend["name"].as_str().expect("a name").to_owned();
                    let origins = frontend["origins"].as_array_mut().expect("a list");
                    origins.extend(
                        edges.iter().map(|edge| json!(format!("http://{host}.demo.localhost:{edge}"))),
                    );
                }
            })
            .envoy(move |envoy| set_patience(envoy, &own_patience))
            .start()
            .await;
        let mut others = Vec::new();
        for (ports, url) in ports.into_iter().zip(&urls[1..]) {
            others.push(Self::start_other(&stand, ports, url, patience).await);
        }
        Self { stand, others }
    }

    /// Three replicas over one server.
    pub async fn three(builder: stand::Builder, redis: &Redis, patience: &str) -> Self {
        Self::start(builder, &[redis.url(), redis.url(), redis.url()], patience).await
    }

    async fn start_other(stand: &Stand, ports: Ports, url: &str, patience: &str) -> Replica {
        let ports = Ports { upstream: stand.ports.upstream, ..ports };
        let dir = files::temporary("replica-");
        let mut config = stand.program_config.clone();
        let listener = |port: u16| json!(format!("127.0.0.1:{port}"));
        config["listeners"]["grpc"] = listener(ports.grpc);
        config["listeners"]["browser"] = listener(ports.browser);
        config["listeners"]["internal"] = listener(ports.internal);
        config["sessions"]["redis"]["url"] = json!(url);
        let mut envoy = Envoy::config(&ports);
        set_patience(&mut envoy, patience);
        let environment = Environment::new();
        let (program, envoy) =
            tokio::join!(Program::start(&config, dir.path(), &environment), Envoy::start(&envoy, dir.path()));
        Replica { program, envoy, ports, _dir: dir }
    }

    /// The origins of the app frontend, one at each replica.
    pub fn apps(&self) -> Vec<String> {
        std::iter::once(self.stand.app()).chain(self.others.iter().map(Replica::app)).collect()
    }

    /// The ports of Envoy's own administration, one at each replica.
    pub fn envoys(&self) -> Vec<u16> {
        std::iter::once(self.stand.ports.admin)
            .chain(self.others.iter().map(|other| other.ports.admin))
            .collect()
    }
}

fn set_patience(envoy: &mut Value, patience: &str) {
    let filter =
        "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config";
    envoy.pointer_mut(filter).expect("the ext_authz filter")["grpc_service"]["timeout"] = json!(patience);
}
