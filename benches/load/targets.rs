//! What is measured, and beside what.

use std::{fs::File, path::PathBuf};

use prost::Message as _;

use crate::{
    cpu, floors,
    measure::Comparison,
    reply::{self, Expected},
    requests,
    servers::{Floor, ORDERS, OnRedis, Servers},
};

/// The demo's static key of workload `dev`.
const KEY: &str = "demo-workload-key";

/// One kind of request to one server.
pub struct Target {
    /// What the table calls it.
    pub name: &'static str,
    /// The server's process id.
    pub process: u32,
    /// The server's port on loopback.
    pub port: u16,
    /// What is asked for.
    pub path: &'static str,
    /// The headers of the request.
    pub headers: Vec<(&'static str, String)>,
    /// A file with the body of a POST; without one it is a GET.
    pub body: Option<PathBuf>,
    /// What has to be answered.
    pub expected: Expected,
    /// The server's log.
    pub log: Option<PathBuf>,
}

impl Target {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.port, self.path)
    }

    /// Empties the server's log, so that a long comparison fills no disk.
    pub fn forget_log(&self) {
        if let Some(log) = &self.log {
            let log = File::options().write(true).open(log).and_then(|log| log.set_len(0));
            log.expect("the log can be emptied");
        }
    }
}

/// Starts everything, compares, and prints the tables.
pub async fn compare() {
    let mut servers = Servers::start().await;
    let process = servers.program();
    let users = servers.users.issuer().to_owned();
    let plain = check(&servers, process, "Check", "/api/orders", Some(("iss", users.clone())));
    let ml = ("iss", servers.models.issuer().to_owned());
    let ml = check(&servers, process, "Check, `token: model`", "/ml/predict", Some(ml));
    let exchange = Some(("aud", ORDERS.to_owned()));
    let exchange = check(&servers, process, "Check, `token: exchange`", "/orders/1", exchange);
    let public = check(&servers, process, "Check, public path", "/public/logo.svg", None);
    let refused = refused_check(&servers, process);
    let key = model_token(&servers, process, "model token, static key", KEY.to_owned());
    let account = servers.cluster.token();
    let account = model_token(&servers, process, "model token, service account", account);

    let mut on_redis = OnRedis::start(&servers).await;
    let at_hand = requests::check(
        &format!("app.demo.localhost:{}", on_redis.ports.edge),
        "/api/orders",
        Some(&on_redis.cookie),
    );
    let at_hand = Target {
        name: "Check, session in Redis",
        process: on_redis.program(),
        port: on_redis.ports.grpc,
        body: Some(servers.file("check-on-redis", &at_hand)),
        log: Some(on_redis.log()),
        ..check(&servers, process, "", "/api/orders", Some(("iss", users.clone())))
    };

    let reply = servers.file("reply", &reply::check(&plain).await.encode_to_vec());
    let answer = servers.file("answer", &reply::body(&key).await);
    let (grpc, http) =
        (servers.floor(floors::GRPC, &reply).await, servers.floor(floors::HTTP, &answer).await);
    let grpc_floor = Target {
        name: "gRPC floor",
        process: grpc.process.id(),
        port: grpc.port,
        expected: Expected::Passes(Some(("iss", users))),
        log: None,
        ..check(&servers, process, "", "/api/orders", None)
    };
    let http_floor = http_floor_of(&http);
    let same_answer = Target {
        name: "HTTP floor, same answer",
        path: floors::ANSWER,
        headers: key.headers.clone(),
        expected: Expected::ModelToken,
        ..http_floor_of(&http)
    };
    // A token is a long header, which the framework reads whatever becomes of it.
    let same_request = Target {
        name: "HTTP floor, same request and answer",
        path: floors::ANSWER,
        expected: Expected::ModelToken,
        headers: account.headers.clone(),
        ..http_floor_of(&http)
    };

    let comparisons = [
        (&plain, &grpc_floor),
        (&public, &grpc_floor),
        (&refused, &grpc_floor),
        (&ml, &plain),
        (&exchange, &plain),
        (&at_hand, &plain),
        (&key, &http_floor),
        (&key, &same_answer),
        (&account, &http_floor),
        (&account, &same_request),
    ];
    let mut rows = Vec::with_capacity(comparisons.len());
    for (one, other) in comparisons {
        for target in [one, other] {
            reply::verify(target).await;
        }
        eprintln!("measuring: {} beside {}", one.name, other.name);
        rows.push(Comparison::of(one, other).await.row(one, other));
        // What was measured is what was looked at: nothing has ended meanwhile.
        for target in [one, other] {
            reply::verify(target).await;
        }
    }
    println!("| request | beside | us | us | ratio | least-most |\n|---|---|---|---|---|---|");
    println!("{}\n", rows.join("\n"));
    println!("| process | resident memory, KiB |\n|---|---|");
    for (name, target) in [("keycloak-bff", &plain), ("gRPC floor", &grpc_floor), ("HTTP floor", &http_floor)]
    {
        println!("| {name} | {} |", cpu::resident_memory(target.process));
    }
}

fn check(
    servers: &Servers,
    process: u32,
    name: &'static str,
    path: &str,
    claim: Option<(&'static str, String)>,
) -> Target {
    let request = requests::check(&servers.host(), path, Some(&servers.cookie));
    let body = servers.file(&format!("check{}", path.replace('/', "-")), &request);
    check_of(servers, process, name, body, Expected::Passes(claim))
}

/// A script's request without a session.
fn refused_check(servers: &Servers, process: u32) -> Target {
    let request = requests::check(&servers.host(), "/api/orders", None);
    let body = servers.file("check-refused", &request);
    check_of(servers, process, "Check, 401", body, Expected::Refused(401))
}

fn check_of(
    servers: &Servers,
    process: u32,
    name: &'static str,
    body: PathBuf,
    expected: Expected,
) -> Target {
    Target {
        name,
        process,
        port: servers.ports.grpc,
        path: "/envoy.service.auth.v3.Authorization/Check",
        headers: vec![("content-type", "application/grpc".to_owned()), ("te", "trailers".to_owned())],
        body: Some(body),
        expected,
        log: Some(servers.log()),
    }
}

fn model_token(servers: &Servers, process: u32, name: &'static str, credential: String) -> Target {
    Target {
        name,
        process,
        port: servers.ports.internal,
        path: "/get_model_tokens?model=ml",
        headers: vec![("authorization", format!("Bearer {credential}"))],
        body: None,
        expected: Expected::ModelToken,
        log: Some(servers.log()),
    }
}

fn http_floor_of(floor: &Floor) -> Target {
    Target {
        name: "HTTP floor",
        process: floor.process.id(),
        port: floor.port,
        path: "/",
        headers: Vec::new(),
        body: None,
        expected: Expected::Nothing,
        log: None,
    }
}
