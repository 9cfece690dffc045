//! The configuration: what is wrong with one is said at once and whole, and never with a secret.

use crate::steps::signed_in;
use keycloak_bff_testbed::envoy::Ports;
use keycloak_bff_testbed::program::{Environment, Program, run};
use keycloak_bff_testbed::{Stand, files};
use serde_json::{Value, json};
use std::process::Output;

const SECRET: &str = "a-secret-that-is-never-shown-0123456789";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// Runs `check-config` and `serve` on a text, which must be refused alike, and gives what is said.
fn refused(text_of_file: &str) -> String {
    let dir = files::temporary("test-");
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, text_of_file).expect("the configuration can be written");
    let path = file.to_str().expect("a path in UTF-8");
    let commands: [&[&str]; 2] = [&["check-config", path], &["serve", "--config", path]];
    let outputs = commands.map(|arguments| run(arguments, &Environment::new()));
    for output in &outputs {
        assert_eq!(output.status.code(), Some(64), "{}", text(output));
        assert!(!text(output).contains(SECRET), "{}", text(output));
        assert!(!text(output).contains("panicked"), "{}", text(output));
    }
    assert_eq!(text(&outputs[0]), text(&outputs[1]), "both say the same");
    text(&outputs[0])
}

fn sample() -> Value {
    Program::config(&Ports::free(), "http://localhost:8080/realms/demo")
}

/// The paths at which something is said to be wrong, in order.
fn paths(said: &str) -> Vec<&str> {
    let errors = said.lines().skip(1);
    let mut paths: Vec<&str> = errors.filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    paths.sort_unstable();
    paths
}

#[test]
fn the_sample_is_good() {
    let file = files::path("keycloak-bff.yaml");
    let output = run(&["check-config", file.to_str().expect("a path in UTF-8")], &Environment::new());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let warnings: Vec<String> =
        text(&output).lines().filter(|line| line.starts_with("warning")).map(str::to_owned).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("workloads.keys"), "the demo's pod has a static key: {warnings:?}");
}

#[test]
fn everything_that_is_wrong_is_said_in_one_run() {
    let mut config = sample();
    config["listeners"]["grpc"] = json!("0.0.0.0:9191");
    config["listeners"]["browser"] = json!("localhost");
    config["threads"] = json!(0);
    config["unknown"] = json!(SECRET);
    config["log"]["level"] = json!("loud");
    config["keys"] = json!([{"value": SECRET, "env": "HOME"}, {"value": "short"}]);
    config["sessions"] =
        json!({"idle": "2h", "absolute": "1h", "maximum": -1, "refresh_ahead": "1s", "drain": 5});
    let provider = &mut config["providers"][0];
    provider["client_secret"] = json!({"valeu": SECRET});
    provider["issuer"] = json!("http://id.example.com/realms/demo");
    provider["call_timeout"] = json!("1s");
    let app = &mut config["frontends"][0];
    app["provider"] = json!("nobody");
    app["cookie"] = json!({"name": "__Host-session", "domain": "demo.localhost", "same_site": "Lax"});
    app["identity_headers"][0] = json!({"header": "cookie", "claim": "sub"});
    app["rules"][0]["session"] = json!("maybe");
    app["cors"]["origins"] = json!(["*"]);
    let admin = &mut config["frontends"][1];
    admin["name"] = json!("Admin Frontend");
    admin["origins"] = json!(["http://admin.demo.localhost:8000/path"]);
    admin["rules"][1] = json!({"path": "/a/../b", "session": "none", "roles": [{"realm": "admin"}]});
    admin["login"] = json!({"start_page": "//evil.example"});
    let said = refused(&config.to_string());
    for path in [
        "listeners.grpc",
        "listeners.browser",
        "threads",
        "unknown",
        "log.level",
        "keys[0]",
        "keys[1]",
        "sessions.maximum",
        "sessions.drain",
        "sessions.absolute",
        "sessions.refresh_ahead",
        "providers[0].client_secret.valeu",
        "providers[0].issuer",
        "providers[0].call_timeout",
        "frontends[0].provider",
        "frontends[0].cookie.same_site",
        "frontends[0].cookie.domain",
        "frontends[0].identity_headers[0].header",
        "frontends[0].rules[0].session",
        "frontends[0].cors.origins[0]",
        "frontends[1].name",
        "frontends[1].origins[0]",
        "frontends[1].rules[1].path",
        "frontends[1].rules[1].roles",
        "frontends[1].login.start_page",
    ] {
        assert!(paths(&said).contains(&path), "nothing is said about {path}:\n{said}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let said = refused("{}");
    assert_eq!(paths(&said), ["frontends", "listeners.browser", "listeners.grpc", "providers"], "{said}");
    let said = refused(
        "listeners: {grpc: '127.0.0.1:1', browser: '127.0.0.1:1'}\nproviders: [{}]\nfrontends: [{rules: [{}]}]",
    );
    for path in [
        "listeners.browser",
        "providers[0].name",
        "providers[0].issuer",
        "providers[0].client_id",
        "providers[0].client_secret",
        "frontends[0].name",
        "frontends[0].provider",
        "frontends[0].origins",
        "frontends[0].rules[0].path",
        "frontends[0].rules[0].session",
    ] {
        assert!(paths(&said).contains(&path), "nothing is said about {path}:\n{said}");
    }
    assert_eq!(paths(&said).len(), 10, "nothing is said twice, and nothing else:\n{said}");
}

#[test]
fn what_stands_in_two_places_must_fit_together() {
    let mut config = sample();
    let app = config["frontends"][0].clone();
    config["frontends"][1]["name"] = app["name"].clone();
    config["frontends"][1]["origins"] = app["origins"].clone();
    config["providers"] = json!([config["providers"][0], config["providers"][0]]);
    let said = refused(&config.to_string());
    for path in ["frontends[1].name", "frontends[1].origins[0]", "providers[1].name"] {
        assert!(paths(&said).contains(&path), "nothing is said about {path}:\n{said}");
    }
}

#[test]
fn what_is_no_yaml_and_no_file_is_refused_without_its_text() {
    for broken in [
        format!("keys:\n  - value: {SECRET}\n wrong: [indent"),
        format!("client_secret: {SECRET}\n\tb: 1"),
        format!("[{SECRET}]"),
        SECRET.to_owned(),
        format!("keys: [{{value: {SECRET}}}]\nkeys: []"),
        String::new(),
    ] {
        assert!(!refused(&broken).is_empty());
    }
    let output = run(&["check-config", "/no/such/file"], &Environment::new());
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).contains("/no/such/file"));
    assert_eq!(run(&["serve"], &Environment::new()).status.code(), Some(64));
    assert_eq!(run(&["--version"], &Environment::new()).status.code(), Some(0));
}

#[test]
fn a_secret_that_cannot_be_had_is_named_by_its_source() {
    let mut config = sample();
    config["providers"][0]["client_secret"] = json!({"env": "NO_SUCH_VARIABLE"});
    config["keys"] = json!([{"file": "/no/such/key"}]);
    let said = refused(&config.to_string());
    assert!(said.contains("NO_SUCH_VARIABLE") && said.contains("/no/such/key"), "{said}");
    assert_eq!(paths(&said), ["keys[0]", "providers[0].client_secret"]);
}

#[tokio::test]
async fn secrets_come_from_files_and_from_the_environment() {
    let dir = files::temporary("test-");
    let file = dir.path().join("secret");
    // With the newline that editors leave.
    std::fs::write(&file, "demo-secret\n").expect("the secret can be written");
    let stand = Stand::builder()
        .environment("TEST_KEY_OF_THE_RING", SECRET)
        .program(move |config| {
            config["providers"][0]["client_secret"] = json!({"file": file});
            config["keys"] = json!([{"env": "TEST_KEY_OF_THE_RING"}]);
        })
        .start()
        .await;
    signed_in(&stand, "alice").await;

    let stand = Stand::builder()
        .environment("TEST_CLIENT_SECRET", "demo-secret")
        .program(|config| config["providers"][0]["client_secret"] = json!({"env": "TEST_CLIENT_SECRET"}))
        .start()
        .await;
    signed_in(&stand, "alice").await;
}

#[test]
fn the_program_says_which_version_it_is() {
    let output = run(&["--version"], &Environment::new());
    assert!(output.status.success());
    let version = format!("keycloak-bff {}", env!("CARGO_PKG_VERSION"));
    assert!(text(&output).starts_with(&version), "{}", text(&output));
}
