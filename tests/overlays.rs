//! The overlays of `k8s/` by themselves: what belongs together in them does fit, and the programs that they run take
//! their configurations.

use keycloak_bff_testbed::overlay::{secret_files, stand_in};
use keycloak_bff_testbed::program::{Environment, run};
use keycloak_bff_testbed::{Overlay, files, tools};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn overlays() -> Vec<Overlay> {
    Overlay::names().iter().map(|name| Overlay::build(name)).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> BTreeSet<&'a str> {
    values.filter_map(Value::as_str).collect()
}

#[test]
fn the_program_takes_every_configuration_and_finds_its_secrets_mounted() {
    for overlay in overlays() {
        let dir = files::temporary("overlay-");
        let file = dir.path().join("keycloak-bff.json");
        let config = overlay.program_config_in(dir.path());
        fs::write(&file, config.to_string()).expect("the configuration can be written");
        let path = file.to_str().expect("a path in UTF-8");
        let output = run(&["check-config", path], &Environment::new());
        assert!(output.status.success(), "{}: {}", overlay.name, String::from_utf8_lossy(&output.stderr));

        let mounts = texts(list(&overlay.program()["volumeMounts"]).map(|mount| &mount["mountPath"]));
        for file in secret_files(&overlay.program_config()) {
            let parent = Path::new(&file).parent().and_then(Path::to_str).expect("a directory");
            assert!(mounts.contains(parent), "{} does not mount {file}", overlay.name);
        }
        let arguments = texts(list(&overlay.program()["args"]));
        assert!(
            arguments.contains("/etc/keycloak-bff/keycloak-bff.yaml") && mounts.contains("/etc/keycloak-bff")
        );
    }
}

#[test]
fn configurations_differ_in_nothing_but_what_their_overlay_is_about() {
    let base = files::k8s("base/keycloak-bff.yaml");
    let base = keycloak_bff_testbed::overlay::yaml(&fs::read_to_string(base).expect("the base has one"));
    for overlay in overlays().into_iter().filter(|overlay| overlay.name != "demo") {
        let mut config = overlay.program_config();
        config["listeners"] = base["listeners"].clone();
        let sessions = config["sessions"].as_object_mut().expect("a section");
        let is_shared = sessions.remove("store").is_some() && sessions.remove("redis").is_some();
        assert_eq!(is_shared, overlay.name == "redis");
        assert_eq!(config, base, "{}", overlay.name);
    }
}

#[test]
fn only_sessions_that_replicas_share_have_replicas() {
    for overlay in overlays() {
        let spec = &overlay.deployment()["spec"];
        if overlay.program_config()["sessions"]["store"] == "redis" {
            assert_eq!(
                (&spec["replicas"], &spec["strategy"]["type"]),
                (&Value::Null, &json!("RollingUpdate"))
            );
            let autoscaler = overlay.of_kind("HorizontalPodAutoscaler")[0];
            assert!(autoscaler["spec"]["minReplicas"].as_u64() >= Some(2));
            assert_eq!(overlay.of_kind("PodDisruptionBudget").len(), 1);
        } else {
            assert_eq!((&spec["replicas"], &spec["strategy"]), (&json!(1), &json!({"type": "Recreate"})));
        }
    }
}

#[test]
fn pods_have_the_time_to_finish_what_is_under_way() {
    for overlay in overlays() {
        let grace =
            overlay.deployment()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
        let pause = overlay.program()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        let drain = overlay.program_config()["sessions"]["drain"].clone();
        let drain = drain.as_str().and_then(|text| text.strip_suffix('s')?.parse::<u64>().ok());
        let (grace, needed) = (grace.expect("a time"), pause.expect("a time") + drain.expect("a time"));
        assert!(grace > needed, "{}: {grace} s are not more than {needed} s", overlay.name);
    }
}

#[test]
fn ports_are_called_by_names_that_pods_have() {
    for overlay in overlays() {
        for deployment in overlay.of_kind("Deployment") {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            let containers = &deployment["spec"]["template"]["spec"]["containers"];
            let ports = list(containers).flat_map(|container| list(&container["ports"]));
            let names = texts(ports.map(|port| &port["name"]));
            let is_its = |object: &&&Value, selector: &str| {
                let selector = object.pointer(selector).and_then(Value::as_object);
                let in_it = object["metadata"]["namespace"] == deployment["metadata"]["namespace"];
                in_it
                    && selector.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
            };
            let services = overlay.of_kind("Service");
            let services = services.iter().filter(|service| is_its(service, "/spec/selector"));
            let targets =
                services.flat_map(|service| list(&service["spec"]["ports"])).map(|port| &port["targetPort"]);
            let policies = overlay.of_kind("NetworkPolicy");
            let policies = policies.iter().filter(|policy| is_its(policy, "/spec/podSelector/matchLabels"));
            let rules = policies.flat_map(|policy| list(&policy["spec"]["ingress"]));
            let allowed = rules.flat_map(|rule| list(&rule["ports"])).map(|port| &port["port"]);
            let called = texts(targets.chain(allowed));
            assert!(called.is_subset(&names), "{}: {called:?} are not all of {names:?}", overlay.name);
        }
    }
}

#[test]
fn no_secret_is_among_the_objects_but_the_demos() {
    for overlay in overlays() {
        assert!(overlay.of_kind("Secret").is_empty() || overlay.name == "demo", "{}", overlay.name);
    }
}

#[test]
fn envoy_takes_the_configuration_that_is_mounted_beside_the_program() {
    let dir = files::temporary("overlay-");
    let secrets = "/var/run/secrets";
    stand_in("/var/run/secrets/frontends-tls/tls.crt", dir.path());
    let (old, new) = (secrets.to_owned(), format!("{}{secrets}", dir.path().display()));
    let overlay = Overlay::build("plain-envoy");
    let certificate = overlay.file("envoy", "certificate.yaml").replace(&old, &new);
    let certificate_file = dir.path().join("certificate.yaml");
    fs::write(&certificate_file, certificate).expect("a file can be written");

    let validate = |config: &Value| {
        let file = dir.path().join("envoy.json");
        fs::write(&file, config.to_string()).expect("the configuration can be written");
        let mut envoy = Command::new(tools::envoy());
        envoy.args(["--mode", "validate", "--config-path"]).arg(&file);
        envoy.output().expect("Envoy can be started")
    };
    let mut config = overlay.envoy_config();
    let mounted = ("/etc/envoy/certificate.yaml".to_owned(), certificate_file.display().to_string());
    files::replace(&mut config, &[mounted]);
    let output = validate(&config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let demo = validate(&Overlay::build("demo").envoy_config());
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));

    // Envoy does look.
    config["static_resources"]["clusters"][0]["conect_timeout"] = json!("1s");
    assert!(!validate(&config).status.success());
}
