//! What the overlays of `k8s/` run in one pod, run on this machine: Envoy and the program over unix sockets, before a real
//! Keycloak.

use crate::steps::{SOON, bearer, claims, is_signed_in_at};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keycloak_bff_testbed::envoy::Ports;
use keycloak_bff_testbed::overlay::{part, set_address, set_endpoint, yaml};
use keycloak_bff_testbed::process::Process;
use keycloak_bff_testbed::{Deployment, Keycloak, Overlay, Stand, UserAgent, files, ports, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const SOCKETS: &str = "/run/keycloak-bff";

/// The status of an answer to a request of nobody.
async fn status(url: &str) -> u16 {
    UserAgent::new().fetch(url).await.status
}

/// An overlay's Envoy file with these ports, and with the sockets in `dir`.
fn envoy_config(overlay: &Overlay, ports: &Ports, health: u16, dir: &Path) -> Value {
    let mut config = overlay.envoy_config();
    set_address(&mut config["admin"], ports.admin);
    set_address(part(&mut config, "listeners", "edge"), ports.edge);
    set_address(part(&mut config, "listeners", "health"), health);
    set_endpoint(part(&mut config, "clusters", "upstream"), ports.upstream);
    files::replace(&mut config, &[(SOCKETS.to_owned(), dir.display().to_string())]);
    config
}

fn listeners(dir: &Path, internal: u16) -> Value {
    json!({
        "grpc": format!("unix:{}/grpc.sock", dir.display()),
        "browser": format!("unix:{}/browser.sock", dir.display()),
        "internal": format!("127.0.0.1:{internal}"),
    })
}

#[tokio::test]
async fn the_pod_of_plain_envoy_signs_a_user_in_and_is_ready_when_both_are() {
    let overlay = Overlay::build("plain-envoy");
    let sockets = files::temporary("sockets-");
    let (health, internal) = (ports::free(), ports::free());
    assert_eq!(overlay.program_config()["listeners"]["grpc"], format!("unix:{SOCKETS}/grpc.sock"));
    let (program_dir, envoy_dir) = (sockets.path().to_owned(), sockets.path().to_owned());
    let mut stand = Stand::builder()
        .program(move |config| config["listeners"] = listeners(&program_dir, internal))
        .envoy(move |config| {
            let port = |value: &Value| {
                let port = value["address"]["socket_address"]["port_value"].as_u64();
                port.and_then(|port| u16::try_from(port).ok()).expect("a port")
            };
            let upstream = part(config, "clusters", "upstream");
            let upstream = port(&upstream["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]);
            let (edge, admin) = (port(part(config, "listeners", "edge")), port(&config["admin"]));
            let ports = Ports { edge, admin, upstream, ..Ports::DEMO };
            *config = envoy_config(&overlay, &ports, health, &envoy_dir);
            // The test's browsers speak plain HTTP.
            let edge = part(config, "listeners", "edge");
            let chain = edge["filter_chains"][0].as_object_mut().expect("a filter chain");
            assert!(chain.remove("transport_socket").is_some());
            files::replace(config, &[("app.example.com".to_owned(), "app.demo.localhost".to_owned())]);
        })
        .start()
        .await;
    let ready = format!("http://127.0.0.1:{health}/ready");
    let is = async |wanted: u16| {
        let is = async || (status(&ready).await == wanted).then_some(());
        wait::until(&format!("the readiness to be {wanted}"), SOON, is).await;
    };
    is(200).await;

    let agent = UserAgent::new();
    let app = stand.app();
    assert_eq!(agent.fetch(format!("{app}/api/echo")).await.status, 401);
    let landed = agent.sign_in(format!("{app}/api/echo?x=1"), "alice", "alice").await;
    assert_eq!((landed.status, landed.url.as_str()), (200, format!("{app}/api/echo?x=1").as_str()));
    let token = bearer(&landed).expect("the upstream is given a token");
    assert_eq!(claims(&token)["preferred_username"], "alice");
    assert_eq!(agent.fetch(format!("{app}/auth/me")).await.status, 200);
    assert_eq!(agent.fetch(format!("{app}/api/a%2Fecho")).await.status, 400);
    assert_eq!(agent.fetch(format!("{app}/api/echo")).header("x_user_id", "bob").await.status, 400);
    // No frontend, and nothing behind it.
    assert_eq!(status(&format!("http://127.0.0.1:{}/api/echo", stand.ports.edge)).await, 404);

    // Keycloak knows the Service only.
    let url = format!("http://127.0.0.1:{}/auth/backchannel-logout", stand.ports.edge);
    let attributes = json!({"attributes": {"backchannel.logout.url": url}});
    stand.realm.update_client("keycloak-bff", &attributes).await;
    stand.realm.logout_user("alice").await;
    let is_over = async || (!is_signed_in_at(&app, &agent).await).then_some(());
    wait::until("the end of the session", SOON, is_over).await;

    stand.program.process().stop().await;
    is(503).await;
    assert_eq!(agent.fetch(format!("{app}/api/echo")).await.status, 503);
    assert_eq!(status(&format!("http://127.0.0.1:{health}/live")).await, 200);
    stand.program.start_again().await;
    is(200).await;
}

/// The realms that the demo's Keycloak imports, at other addresses.
fn realms(overlay: &Overlay, changes: &[(String, String)]) -> Vec<Value> {
    let maps = overlay.of_kind("ConfigMap").into_iter();
    let mut maps = maps.filter(|map| map["metadata"]["namespace"] == "keycloak");
    let files = maps.next().and_then(|map| map["data"].as_object()).expect("a ConfigMap with realms");
    let realms = files.values().map(|text| {
        let mut realm = yaml(text.as_str().expect("a text"));
        files::replace(&mut realm, changes);
        realm
    });
    realms.collect()
}

/// The demo's configuration of the program, with the demo's own secrets.
fn demo_config(overlay: &Overlay, dir: &Path, changes: &[(String, String)], internal: u16) -> Value {
    let mut config = overlay.program_config_in(dir);
    let secret = overlay.of_kind("Secret")[0]["data"].as_object().expect("a Secret");
    for (name, value) in secret {
        let file = dir.join("var/run/secrets/keycloak-bff").join(name);
        let value = STANDARD.decode(value.as_str().expect("a text")).expect("base64");
        assert!(file.exists(), "the configuration names {name}");
        fs::write(file, value).expect("a secret can be written");
    }
    files::replace(&mut config, changes);
    config["listeners"] = listeners(dir, internal);
    config
}

#[tokio::test]
async fn the_demo_runs_on_realms_that_keycloak_imports_at_its_start() {
    let overlay = Overlay::build("demo");
    let dir = files::temporary("demo-");
    let (ports, health, keycloak_port, upstream) =
        (Ports::free(), ports::free(), ports::free(), ports::free());
    let changes = [
        ("localhost:8080".to_owned(), format!("localhost:{keycloak_port}")),
        (".demo.localhost:8000".to_owned(), format!(".demo.localhost:{}", ports.edge)),
        ("edge.keycloak-bff.svc.cluster.local:8000".to_owned(), format!("127.0.0.1:{}", ports.edge)),
    ];
    let realms = realms(&overlay, &changes);
    assert_eq!(realms.len(), 2);
    // Its addresses name the port of Envoy that leads to it, as in the pod.
    let keycloak = Keycloak::start_with_realms(keycloak_port, &realms).await;

    let mut envoy = envoy_config(&overlay, &ports, health, dir.path());
    set_address(part(&mut envoy, "listeners", "keycloak"), keycloak_port);
    set_endpoint(part(&mut envoy, "clusters", "keycloak"), keycloak.port());
    set_endpoint(part(&mut envoy, "clusters", "upstream"), upstream);
    let program = demo_config(&overlay, dir.path(), &changes, ports.internal);
    let mut python = Command::new("python3");
    python.arg(files::k8s("overlays/demo/upstream.py"));
    python.env("PAGE", files::path("www")).env("PORT", upstream.to_string());
    let mut python = Process::spawn("upstream", &mut python, dir.path());
    python.ready(SOON, async || wait::accepts(upstream).await).await;
    let deployment = Deployment::builder()
        .program(move |config| *config = program)
        .envoy(move |config| *config = envoy)
        .start_on(ports, &format!("{}/realms/demo", keycloak.url()))
        .await;

    let agent = UserAgent::new();
    let app = deployment.app();
    assert!(agent.navigate(format!("{app}/")).await.text().contains("<html"));
    let landed = agent.sign_in(format!("{app}/api/echo"), "alice", "alice").await;
    let token = claims(&bearer(&landed).expect("the upstream is given a token"));
    assert_eq!(
        (&token["preferred_username"], &token["iss"]),
        (&json!("alice"), &json!(format!("{}/realms/demo", keycloak.url())))
    );
    assert_eq!(agent.fetch(format!("{app}/admin/echo")).await.status, 403);
    // The same person in the second realm, by the JWT authorization grant.
    let ml = agent.fetch(format!("{app}/ml/echo")).method(Method::POST).from_page(&app).await;
    let token = claims(&bearer(&ml).unwrap_or_else(|| panic!("{ml:?}")));
    assert_eq!(token["preferred_username"], "alice");
    assert!(token["aud"].to_string().contains("ml-models"), "{token}");
    assert_eq!(token["iss"], format!("{}/realms/models", keycloak.url()));

    // The back-channel logout URL of the realm leads here.
    keycloak.admin().realm("demo").logout_user("alice").await;
    let is_over = async || (!is_signed_in_at(&app, &agent).await).then_some(());
    wait::until("the end of the session", SOON, is_over).await;
    let bob = UserAgent::new();
    let landed = bob.sign_in(format!("{}/admin/echo", deployment.admin()), "bob", "bob").await;
    assert_eq!(landed.status, 200, "{landed:?}");
    python.stop().await;
}

#[test]
fn the_demos_realms_and_envoy_are_those_that_the_other_tests_run_on() {
    let demo = Overlay::build("demo");
    let url = "http://edge.keycloak-bff.svc.cluster.local:8000/auth/backchannel-logout";
    let changes = [(url.to_owned(), "http://127.0.0.1:8081/auth/backchannel-logout".to_owned())];
    for realm in realms(&demo, &changes) {
        let name = realm["realm"].as_str().expect("a name");
        let mut other = files::read(&format!("realms/{name}.json"));
        if name == "demo" {
            // No third realm is brokered into it.
            let fields = other.as_object_mut().expect("an object");
            fields
                .remove("identityProviders")
                .and(fields.remove("identityProviderMappers"))
                .expect("a broker");
        }
        assert_eq!(realm, other);
    }
    let (mut plain, mut demo) = (Overlay::build("plain-envoy").envoy_config(), demo.envoy_config());
    for config in [&mut plain, &mut demo] {
        let chain = &mut part(config, "listeners", "edge")["filter_chains"][0];
        chain.as_object_mut().expect("a chain").remove("transport_socket");
        let host = &mut chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0];
        host.as_object_mut().expect("a virtual host").remove("domains").expect("domains");
        set_address(part(config, "listeners", "edge"), 1);
        set_endpoint(part(config, "clusters", "upstream"), 1);
        for list in ["listeners", "clusters"] {
            let parts = config["static_resources"][list].as_array_mut().expect("a list");
            parts.retain(|part| part["name"] != "keycloak");
        }
    }
    assert_eq!(plain, demo);
}
