//! Compiles `proto/` into the message types and the service of Envoy's external authorization API. protox is a
//! protobuf compiler in Rust, so no installed `protoc` is needed. Says, too, what `--version` shows.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let files = protox::compile(["envoy/service/auth/v3/external_auth.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(out_dir)
        .include_file("envoy.rs")
        .compile_fds(files)?;
    println!("cargo:rustc-env=KEYCLOAK_BFF_VERSION={}", version()?);
    Ok(())
}

/// The version, and the commit if whoever builds says which. It is not asked of git: that would compile everything anew
/// after every commit.
fn version() -> Result<String, env::VarError> {
    println!("cargo:rerun-if-env-changed=KEYCLOAK_BFF_COMMIT");
    let version = env::var("CARGO_PKG_VERSION")?;
    let commit = env::var("KEYCLOAK_BFF_COMMIT").ok().filter(|commit| !commit.is_empty());
    Ok(commit.map_or_else(|| version.clone(), |commit| format!("{version} (commit {commit})")))
}
