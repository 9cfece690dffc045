//! Compiles `proto/` into the message types and the service of Envoy's external authorization API. protox is a
//! protobuf compiler in Rust, so no installed `protoc` is needed.

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
    Ok(())
}
