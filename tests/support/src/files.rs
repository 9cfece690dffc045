//! The files of `envoy/` that the demo runs with, and how a test's copy differs from them; and those of `k8s/`.

use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

/// The path of a file below `envoy/`.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../envoy")).join(name)
}

/// A new directory that goes when it is dropped.
pub fn temporary(prefix: &str) -> TempDir {
    tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary directory")
}

/// A file below `envoy/`, YAML or JSON, as a value.
pub fn read(name: &str) -> Value {
    let path = path(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The path of a file below `k8s/`.
pub fn k8s(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s")).join(name)
}

/// The objects in a file below `k8s/`, in their order.
pub fn manifests(name: &str) -> Vec<Value> {
    let path = k8s(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    objects(&text, name)
}

/// The documents of a YAML file.
pub fn objects(text: &str, name: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").filter(|text| text.lines().any(|line| line.contains(':')));
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}")))
        .collect()
}

/// Replaces text in every string of `value`.
pub fn replace(value: &mut Value, changes: &[(String, String)]) {
    match value {
        Value::String(text) => {
            for (from, to) in changes {
                if text.contains(from.as_str()) {
                    *text = text.replace(from.as_str(), to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, changes)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, changes)),
        _ => {}
    }
}

/// Lays `patch` over `value`: objects key by key, everything else replaced.
pub fn merge(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}
