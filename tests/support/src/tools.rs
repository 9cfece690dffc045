//! Where the programs lie that `scripts/install-tools` installs.

use std::path::PathBuf;

/// The Envoy binary.
pub fn envoy() -> PathBuf {
    installed(cache().join("envoy-1.40.0/envoy/_bin/envoy"))
}

/// Keycloak's installation, built, with a database in `data/h2` that holds the realm `master` and its admin.
pub fn keycloak() -> PathBuf {
    installed(cache().join("keycloak-26.7.3-1"))
}

/// Kubernetes' API server.
pub fn kube_apiserver() -> PathBuf {
    installed(cache().join("kube-apiserver-1.34.2/kube-apiserver"))
}

/// Builds the overlays of `k8s/`.
pub fn kustomize() -> PathBuf {
    installed(cache().join("kustomize-5.7.1/kustomize"))
}

/// A directory with the definitions of Istio's, Gateway API's and Envoy Gateway's objects.
pub fn crds() -> PathBuf {
    installed(cache().join("crds-1"))
}

/// The version of Istio that its control plane is of.
pub const ISTIO: &str = "0.0.0-20260827124520-eed52ebb66ad";

/// Istio's control plane, which `scripts/install-tools mesh` installs.
pub fn istiod() -> PathBuf {
    installed(cache().join(format!("istiod-{ISTIO}/pilot-discovery")))
}

/// Debian's etcd, where the API server keeps its objects.
pub fn etcd() -> PathBuf {
    installed(PathBuf::from("/usr/bin/etcd"))
}

/// The driver of Debian's Chromium.
pub fn chromedriver() -> PathBuf {
    installed(PathBuf::from("/usr/bin/chromedriver"))
}

/// Debian's Chromium.
pub fn chromium() -> PathBuf {
    installed(PathBuf::from("/usr/bin/chromium"))
}

/// The program under test. Cargo puts it beside the test bed's own binary, and tests one directory below. Another one, the
/// image's for example, is named by `KEYCLOAK_BFF_TEST_PROGRAM`.
pub fn keycloak_bff() -> PathBuf {
    if let Some(other) = std::env::var_os("KEYCLOAK_BFF_TEST_PROGRAM") {
        return installed(PathBuf::from(other));
    }
    let own = std::env::current_exe().expect("the path of the running program");
    let found =
        own.ancestors().skip(1).take(2).map(|dir| dir.join("keycloak-bff")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no keycloak-bff beside {}: run `cargo build` first", own.display()))
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base =
        base.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    base.join("keycloak-bff")
}

fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run scripts/install-tools", path.display());
    path
}
