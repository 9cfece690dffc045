//! Load by nghttp2's h2load.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::targets::Target;

/// How long one load may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends so many requests over four connections, up to sixteen at once on each; panics unless each is answered with a
/// status of success. gRPC's errors have one too, so what is answered is for [`crate::reply`] to look at.
pub async fn load(target: &Target, requests: usize) {
    let mut command = Command::new("h2load");
    command.args(["--threads=1", "--clients=4", "--max-concurrent-streams=16"]);
    command.arg(format!("--requests={requests}"));
    for (name, value) in &target.headers {
        command.arg(format!("--header={name}: {value}"));
    }
    if let Some(body) = &target.body {
        command.arg("--data").arg(body);
    }
    command.arg(target.url()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{}: h2load takes more than {LIMIT:?}", target.name));
    let output = output.unwrap_or_else(|error| panic!("h2load: {error}: run scripts/install-tools bench"));
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx");
    let is_complete = text.contains(&expected) && text.contains(" 0 failed, 0 errored, 0 timeout");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(is_complete && output.status.success(), "{}: {text}{errors}", target.name);
}
