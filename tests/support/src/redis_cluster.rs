//! Real Redis servers that work together: a cluster, or a master that Sentinels watch over.

use crate::process::Process;
use crate::redis::{Redis, command_to};
use crate::{ports, wait};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
const SLOTS: usize = 16384;

/// A cluster of three masters with a replica each.
pub struct RedisCluster {
    /// The masters first, then their replicas in the same order.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts six servers and joins them.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            // The port of the cluster bus is ten thousand above the other by default.
            let bus = ports::free().to_string();
            let arguments =
                ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
            nodes.push(Redis::start_with(&arguments).await);
        }
        let cluster = Self { nodes };
        cluster.join().await;
        cluster
    }

    async fn join(&self) {
        let first = &self.nodes[0];
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), node.argument("--cluster-port"));
            let met = first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            assert!(met.contains("OK"), "{met}");
        }
        for (index, node) in self.nodes[..3].iter().enumerate() {
            let (from, to) = (SLOTS * index / 3, SLOTS * (index + 1) / 3 - 1);
            let added = node.command(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]).await;
            assert!(added.contains("OK"), "{added}");
        }
        for index in 0..3 {
            let master = self.id(index).await;
            let replica = &self.nodes[index + 3];
            let follows = async || {
                let answer = replica.command(&["CLUSTER", "REPLICATE", &master]).await;
                answer.contains("OK").then_some(())
            };
            wait::until("a replica of a master", SOON, follows).await;
        }
        for node in &self.nodes {
            let whole = async || {
                let info = node.command(&["CLUSTER", "INFO"]).await;
                let slots = node.command(&["CLUSTER", "SLOTS"]).await;
                // Each part with its master and its replica.
                let is_known = self.nodes.iter().all(|node| slots.contains(&format!(":{}\r\n", node.port())));
                (info.contains("cluster_state:ok") && is_known).then_some(())
            };
            wait::until("a whole cluster", SOON, whole).await;
        }
    }

    /// The address of every node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The cluster's name for a node.
    pub async fn id(&self, node: usize) -> String {
        let id = self.nodes[node].command(&["CLUSTER", "MYID"]).await;
        id.lines().nth(1).expect("a node has an id").to_owned()
    }

    /// Moves a slot with its keys from one master to another. `half_way` runs while it belongs to both.
    pub async fn move_slot(&self, slot: usize, from: usize, to: usize, half_way: impl AsyncFnOnce()) {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id) = (self.id(from).await, self.id(to).await);
        let slot = slot.to_string();
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]).await;
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]).await;
        half_way().await;
        let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await;
        let keys = keys.split("\r\n").skip(1).filter(|line| !line.is_empty() && !line.starts_with('$'));
        for key in keys {
            let port = target.port().to_string();
            let moved = source.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
            assert!(moved.contains("OK"), "{key}: {moved}");
        }
        for node in [target, source] {
            node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]).await;
        }
    }
}

/// A master, its replica and three Sentinels.
pub struct RedisSentinels {
    /// The master at first, then its replica.
    pub servers: Vec<Redis>,
    sentinels: Vec<(u16, Process)>,
    _directory: TempDir,
}

impl RedisSentinels {
    /// The name of the master.
    pub const MASTER: &str = "sessions";

    /// Starts all of them.
    pub async fn start() -> Self {
        let master = Redis::start().await;
        let port = master.port().to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        let linked = async || {
            let info = replica.command(&["INFO", "replication"]).await;
            info.contains("master_link_status:up").then_some(())
        };
        wait::until("the replica", SOON, linked).await;
        let directory = TempDir::new().expect("a directory can be made");
        let mut sentinels = Vec::new();
        for number in 0..3 {
            sentinels.push(Self::sentinel(number, &port, directory.path()).await);
        }
        for (port, _) in &sentinels {
            let knows = async || {
                let master = command_to(*port, &["SENTINEL", "MASTER", Self::MASTER]).await;
                let count =
                    |name: &str, count: &str| master.contains(&format!("{name}\r\n$1\r\n{count}\r\n"));
                (count("num-slaves", "1") && count("num-other-sentinels", "2")).then_some(())
            };
            wait::until("the Sentinels to know each other", SOON, knows).await;
        }
        Self { servers: vec![master, replica], sentinels, _directory: directory }
    }

    async fn sentinel(number: u8, master: &str, directory: &Path) -> (u16, Process) {
        let (port, name) = (ports::free(), Self::MASTER);
        let file = directory.join(format!("sentinel-{number}.conf"));
        let settings = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n"
        );
        std::fs::write(&file, settings).expect("the configuration can be written");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").current_dir(directory);
        let mut process = Process::spawn(&format!("sentinel-{number}"), &mut command, directory);
        process.ready(SOON, async || command_to(port, &["PING"]).await.contains("PONG")).await;
        (port, process)
    }

    /// The address of every Sentinel.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|(port, _)| format!("redis://127.0.0.1:{port}")).collect()
    }
}
