//! What an overlay of `k8s/` makes, and its files as they would lie in the program's container.

use crate::certificates::Authority;
use crate::{files, tools};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where Kubernetes puts secrets and tokens.
const SECRETS: &str = "/var/run/secrets";

/// An overlay, built.
pub struct Overlay {
    /// Its name.
    pub name: String,
    /// Its objects, in kustomize's order.
    pub objects: Vec<Value>,
}

impl Overlay {
    /// The names of all overlays.
    pub fn names() -> Vec<String> {
        let dirs = fs::read_dir(files::k8s("overlays")).expect("there are overlays");
        let names = dirs.map(|dir| dir.expect("a directory").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Builds an overlay.
    pub fn build(name: &str) -> Self {
        let output =
            Command::new(tools::kustomize()).arg("build").arg(files::k8s("overlays").join(name)).output();
        let output = output.expect("kustomize can be started");
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && errors.is_empty(), "kustomize build of {name}: {errors}");
        Self { name: name.to_owned(), objects: files::objects(&text, name) }
    }

    /// Its objects of one kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The namespaces that its objects are in.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str()).collect()
    }

    /// The Deployment with the program.
    pub fn deployment(&self) -> &Value {
        let deployments = self.of_kind("Deployment");
        let found =
            deployments.into_iter().find(|deployment| deployment["metadata"]["name"] == "keycloak-bff");
        found.unwrap_or_else(|| panic!("{} has no program", self.name))
    }

    /// The container with the program.
    pub fn program(&self) -> &Value {
        let containers = self.deployment()["spec"]["template"]["spec"]["containers"].as_array();
        let found = containers.into_iter().flatten().find(|container| container["name"] == "keycloak-bff");
        found.unwrap_or_else(|| panic!("{} has no program", self.name))
    }

    /// A file in a ConfigMap, which the Deployment must mount by the name that it has.
    pub fn file(&self, config_map: &str, file: &str) -> &str {
        let volumes = self.deployment()["spec"]["template"]["spec"]["volumes"].as_array();
        let names = volumes.into_iter().flatten().filter_map(|volume| volume["configMap"]["name"].as_str());
        let mut maps = self.of_kind("ConfigMap").into_iter().filter(|map| {
            let name = map["metadata"]["name"].as_str().unwrap_or_default();
            name.rsplit_once('-').is_some_and(|(name, _)| name == config_map)
                && names.clone().any(|mounted| mounted == name)
        });
        let text = maps.next().and_then(|map| map["data"][file].as_str());
        text.unwrap_or_else(|| panic!("{} mounts no {file}", self.name))
    }

    /// The program's configuration.
    pub fn program_config(&self) -> Value {
        yaml(self.file("keycloak-bff", "keycloak-bff.yaml"))
    }

    /// Envoy's configuration, where Envoy is in the program's pod.
    pub fn envoy_config(&self) -> Value {
        yaml(self.file("envoy", "envoy.yaml"))
    }

    /// The program's configuration with the secrets that it names, made up, below `dir`.
    pub fn program_config_in(&self, dir: &Path) -> Value {
        let mut config = self.program_config();
        for file in secret_files(&config) {
            stand_in(&file, dir);
        }
        files::replace(&mut config, &[(SECRETS.to_owned(), format!("{}{SECRETS}", dir.display()))]);
        config
    }
}

/// The listener or cluster of an Envoy configuration with this name.
pub fn part<'a>(envoy: &'a mut Value, list: &str, name: &str) -> &'a mut Value {
    let parts = envoy["static_resources"][list].as_array_mut().into_iter().flatten();
    parts.into_iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

/// Where an Envoy listener listens.
pub fn set_address(listener: &mut Value, port: u16) {
    listener["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": port});
}

/// Where the one endpoint of an Envoy cluster is.
pub fn set_endpoint(cluster: &mut Value, port: u16) {
    let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": port});
}

/// A YAML text as a value.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"))
}

/// The files below Kubernetes' directory of secrets that a configuration names.
pub fn secret_files(config: &Value) -> BTreeSet<String> {
    match config {
        Value::String(text) if text.starts_with(SECRETS) => BTreeSet::from([text.clone()]),
        Value::Array(items) => items.iter().flat_map(secret_files).collect(),
        Value::Object(fields) => fields.values().flat_map(secret_files).collect(),
        _ => BTreeSet::new(),
    }
}

/// Makes a secret up, of the kind that its name says: a certificate, its key, an authority, or a text.
pub fn stand_in(file: &str, dir: &Path) {
    let path = dir.join(file.trim_start_matches('/'));
    let parent = path.parent().expect("a file is in a directory");
    fs::create_dir_all(parent).expect("a directory");
    match path.file_name().and_then(|name| name.to_str()) {
        Some("tls.crt" | "tls.key") => {
            let names = ["keycloak-bff.keycloak-bff.svc", "app.example.com"];
            let made = Authority::new().issue(&names, parent, "tls");
            fs::rename(made.certificate, parent.join("tls.crt")).expect("a certificate");
            fs::rename(made.key, parent.join("tls.key")).expect("a key");
        }
        Some("ca.crt") => drop(Authority::new().write(parent, "ca.crt")),
        _ => fs::write(&path, "stands-in-for-a-secret-of-32-characters\n").expect("a file"),
    }
}
