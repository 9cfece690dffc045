//! Kubernetes' API server with an etcd behind it, and a client of its HTTP API. There is nothing else of a cluster: no
//! node runs pods, and no controller makes the account `default` of a namespace.

mod api;
mod apply;
mod signing_key;

pub use api::Answer;

use crate::process::Process;
use crate::{files, ports, tools, wait};
use serde_json::{Value, json};
use signing_key::SigningKey;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Two busy cores make it slow.
const START: Duration = Duration::from_secs(120);

/// The token of the administrator.
const ADMIN: &str = "admin-token";

/// Where the API server keeps its certificate, with the authority that signed it.
const CERTIFICATE: &str = "apiserver.crt";

/// The cluster that tests share while one of them has it.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());

/// A running API server with its own etcd. Dropping it ends both.
pub struct Cluster {
    api_server: Process,
    _etcd: Process,
    port: u16,
    etcd_port: u16,
    /// The keys that tokens are verified with. The last one signs.
    keys: Vec<SigningKey>,
    dir: TempDir,
}

/// What becomes of the old keys when a new one signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldKeys {
    /// Tokens that they signed stay good.
    Kept,
    /// Tokens that they signed are refused.
    Removed,
}

impl Cluster {
    /// The cluster that other tests use at this moment, or a new one. Nobody may stop it or change its keys.
    pub async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// Starts a cluster of one's own on free ports and waits until it is ready.
    pub async fn start() -> Self {
        let dir = files::temporary("kubernetes-");
        let (port, etcd_port) = (ports::free(), ports::free());
        let etcd = start_etcd(dir.path(), etcd_port).await;
        fs::write(dir.path().join("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n"))
            .expect("the administrator's token can be written");
        let keys = vec![SigningKey::new()];
        let api_server = launch(dir.path(), port, etcd_port, &keys);
        let mut cluster = Self { api_server, _etcd: etcd, port, etcd_port, keys, dir };
        cluster.ready().await;
        cluster
    }

    /// The address of the API server, which is also the issuer of its tokens.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Where the API server publishes the keys of its tokens, for service accounts to read.
    pub fn jwks_uri(&self) -> String {
        format!("{}/openid/v1/jwks", self.url())
    }

    /// The certificate authority of the API server.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(CERTIFICATE)
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> Value {
        let cluster = json!({"server": self.url(), "certificate-authority": self.ca_file()});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": ADMIN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
    }

    /// A directory for files that must live as long as the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the API server.
    pub async fn stop(&mut self) {
        self.api_server.stop().await;
    }

    /// Starts the API server again, after it was stopped.
    pub async fn start_again(&mut self) {
        self.api_server = launch(self.dir.path(), self.port, self.etcd_port, &self.keys);
        self.ready().await;
    }

    /// Restarts the API server with a new key to sign with.
    pub async fn rotate_signing_key(&mut self, old: OldKeys) {
        if old == OldKeys::Removed {
            self.keys.clear();
        }
        self.keys.push(SigningKey::new());
        self.stop().await;
        self.start_again().await;
    }

    async fn ready(&mut self) {
        let (url, ca_file) = (format!("{}/readyz", self.url()), self.ca_file());
        let probe = async || {
            let Ok(authority) = fs::read(&ca_file) else { return false };
            let Some(http) = api::client(&authority) else { return false };
            http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        };
        self.api_server.ready(START, probe).await;
    }
}

fn url(port: u16) -> String {
    format!("https://127.0.0.1:{port}")
}

async fn start_etcd(dir: &Path, port: u16) -> Process {
    let (clients, peers) =
        (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", ports::free()));
    let mut command = Command::new(tools::etcd());
    command.arg("--data-dir").arg(dir.join("etcd"));
    command.arg(format!("--listen-client-urls={clients}"));
    command.arg(format!("--advertise-client-urls={clients}"));
    command.arg(format!("--listen-peer-urls={peers}"));
    command.arg(format!("--initial-advertise-peer-urls={peers}"));
    command.arg(format!("--initial-cluster=default={peers}"));
    let mut etcd = Process::spawn("etcd", &mut command, dir);
    etcd.ready(START, async || wait::accepts(port).await).await;
    etcd
}

fn launch(dir: &Path, port: u16, etcd_port: u16, keys: &[SigningKey]) -> Process {
    let mut command = Command::new(tools::kube_apiserver());
    command.arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"));
    command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"]);
    command.arg(format!("--secure-port={port}")).arg("--cert-dir").arg(dir);
    command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24"]);
    command.arg("--token-auth-file").arg(dir.join("tokens.csv"));
    command.arg(format!("--service-account-issuer={}", url(port)));
    command.arg(format!("--service-account-jwks-uri={}/openid/v1/jwks", url(port)));
    for (number, key) in keys.iter().enumerate() {
        let public = dir.join(format!("service-account-{number}.pub"));
        fs::write(&public, key.public_pem()).expect("a public key can be written");
        command.arg("--service-account-key-file").arg(public);
    }
    let signing = dir.join("service-account.key");
    let key = keys.last().expect("there is always a key");
    fs::write(&signing, key.private_pem()).expect("the signing key can be written");
    command.arg("--service-account-signing-key-file").arg(signing);
    Process::spawn("kube-apiserver", &mut command, dir)
}
