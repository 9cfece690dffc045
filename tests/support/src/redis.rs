//! A real Redis server on a free port.

use crate::{ports, process::Process, wait};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const START: Duration = Duration::from_secs(20);

/// A Redis server of its own, which writes what it holds to a file as it goes. Dropping it ends it.
pub struct Redis {
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    directory: TempDir,
}

impl Redis {
    /// Starts a server.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self {
            port: ports::free(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            process: None,
            directory: TempDir::new().expect("a directory can be made"),
        };
        redis.start_again().await;
        redis
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value of an argument that it was started with.
    pub(crate) fn argument(&self, name: &str) -> String {
        let at = self.arguments.iter().position(|argument| argument == name);
        at.and_then(|at| self.arguments.get(at + 1)).expect("it was started with this argument").clone()
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it again after [`Redis::stop`], with what it held.
    pub async fn start_again(&mut self) {
        let mut command = Command::new("redis-server");
        command.arg("--port").arg(self.port.to_string()).args(["--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
        command.arg("--dir").arg(self.directory.path()).args(&self.arguments);
        let mut process = Process::spawn("redis", &mut command, self.directory.path());
        let port = self.port;
        process
            .ready(START, async || {
                if !wait::accepts(port).await {
                    return false;
                }
                // One that wants to be signed in to is there as well.
                let answer = command_to(port, &["PING"]).await;
                answer.contains("PONG") || answer.contains("NOAUTH")
            })
            .await;
        self.process = Some(process);
    }

    /// Ends it; connections are refused from then on.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop().await;
        }
    }

    /// Kills it in the middle of what it does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops its clock: connections stay, and nobody answers.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on after [`Redis::pause`].
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// Sends one command and gives the answer as it comes over the wire.
    pub async fn command(&self, words: &[&str]) -> String {
        command_to(self.port, words).await
    }

    /// Everything that it holds, as it holds it: every key with its type, its time to live and its contents.
    pub async fn dump(&self) -> Vec<(String, i64, String)> {
        let keys = self.command(&["KEYS", "*"]).await;
        let keys: Vec<&str> = keys.split("\r\n").skip(1).filter(|line| !line.starts_with('$')).collect();
        let mut dump = Vec::new();
        for key in keys.into_iter().filter(|key| !key.is_empty()) {
            let life = self.command(&["PTTL", key]).await;
            let life = life.trim().trim_start_matches(':').parse().expect("a number");
            let kind = self.command(&["TYPE", key]).await;
            let contents = match kind.trim().trim_start_matches('+') {
                "hash" => self.command(&["HGETALL", key]).await,
                "zset" => self.command(&["ZRANGE", key, "0", "-1", "WITHSCORES"]).await,
                "string" => self.command(&["GET", key]).await,
                other => panic!("{key} is a {other}"),
            };
            dump.push((key.to_owned(), life, contents));
        }
        dump
    }
}

/// A command over a connection of its own, and the answer as it comes over the wire.
pub(crate) async fn command_to(port: u16, words: &[&str]) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return String::new() };
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    // The server answers what it has read before it notices the end.
    if stream.write_all(&request).await.is_err() || stream.shutdown().await.is_err() {
        return String::new();
    }
    let mut answer = Vec::new();
    if stream.read_to_end(&mut answer).await.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&answer).into_owned()
}
