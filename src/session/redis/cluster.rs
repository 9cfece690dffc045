use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, ServerErrorKind, Value};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::DropGuard;

use super::{
    Servers, Shared,
    link::{CONNECT, Link, Place, store_error},
    scripts::Step,
    settings::{ConnectError, at_address},
};
use crate::session::StoreError;

/// How often the map of the cluster is read again although nothing calls for it.
const ROUND: Duration = Duration::from_secs(5);

/// The same while a node is away.
const ROUND_WITHOUT_NODE: Duration = Duration::from_millis(250);

/// How long a step follows a part of the cluster that is on its way to another node.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two tries of a step.
const PAUSE: Duration = Duration::from_millis(20);

/// The nodes of a cluster, each with a connection of its own, and which of them has which part of the keys.
#[derive(Default)]
pub(super) struct Cluster {
    map: ArcSwap<Map>,
    wanted: Notify,
    /// Nodes that were pointed to and may not be on the map, since they have no part yet.
    pointed_to: Mutex<HashSet<String>>,
}

#[derive(Default)]
struct Map {
    /// First slot, last slot, node; sorted.
    parts: Vec<(u16, u16, Arc<Node>)>,
    nodes: HashMap<String, Arc<Node>>,
}

struct Node {
    link: Arc<Link>,
    _stop: DropGuard,
}

impl Map {
    fn node(&self, slot: u16) -> Option<&Arc<Node>> {
        let after = self.parts.partition_point(|(first, ..)| *first <= slot);
        let (_, last, node) = self.parts.get(after.checked_sub(1)?)?;
        (slot <= *last).then_some(node)
    }
}

impl Cluster {
    pub(super) fn is_fresh(&self) -> bool {
        let map = self.map.load();
        !map.parts.is_empty() && map.parts.iter().all(|(.., node)| node.link.is_fresh())
    }

    pub(super) fn away_for(&self) -> Duration {
        let map = self.map.load();
        map.parts.iter().map(|(.., node)| node.link.away_for()).max().unwrap_or(Duration::MAX)
    }

    fn node(&self, slot: u16) -> Option<Arc<Node>> {
        self.map.load().node(slot).cloned()
    }

    /// Does a step at the node that has its key, also while the key is on its way to another one.
    pub(super) async fn send<T: FromRedisValue>(&self, step: &Step) -> Result<T, StoreError> {
        let slot = slot(step.key.as_bytes());
        let end = Instant::now() + PATIENCE;
        let (mut node, mut is_asking) = (self.node(slot), false);
        loop {
            let mut pointed_to = None;
            if let Some(node) = &node {
                let live = node.link.live().await?;
                let answer = if is_asking { live.ask(step).await } else { live.send(step).await };
                let error = match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                let ErrorKind::Server(kind) = error.kind() else { return Err(store_error(&error)) };
                if !PASSING.contains(&kind) {
                    return Err(store_error(&error));
                }
                is_asking = kind == ServerErrorKind::Ask;
                pointed_to = error.redirect_node().map(|(address, _)| address.to_owned());
            }
            if Instant::now() >= end {
                return Err(StoreError::Away("the cluster is not whole"));
            }
            self.wanted.notify_one();
            node = pointed_to.as_ref().and_then(|address| self.map.load().nodes.get(address).cloned());
            if node.is_none() {
                self.pointed_to.lock().extend(pointed_to);
                sleep(PAUSE).await;
                (node, is_asking) = (self.node(slot), false);
            }
        }
    }
}

/// Errors that say nothing but that the cluster is being changed.
const PASSING: [ServerErrorKind; 6] = [
    ServerErrorKind::Moved,
    ServerErrorKind::Ask,
    ServerErrorKind::TryAgain,
    ServerErrorKind::ClusterDown,
    ServerErrorKind::ReadOnly,
    ServerErrorKind::MasterDown,
];

impl Shared {
    /// Keeps the map of the cluster up to date, and a connection to each node.
    pub(super) async fn keep_map(self: Arc<Self>) {
        let Servers::Cluster(cluster) = &self.servers else { return };
        loop {
            match timeout(CONNECT, self.read_map(cluster)).await {
                Ok(Ok(parts)) => self.put_map(cluster, parts),
                Ok(Err(error)) => tracing::warn!(%error, "no node of the session store can be reached"),
                Err(_) => tracing::warn!("the nodes of the session store do not answer"),
            }
            let is_whole = cluster.away_for().is_zero();
            let _ =
                timeout(if is_whole { ROUND } else { ROUND_WITHOUT_NODE }, cluster.wanted.notified()).await;
            sleep(PAUSE).await;
        }
    }

    async fn read_map(&self, cluster: &Cluster) -> Result<Vec<Part>, ConnectError> {
        let nodes = Arc::clone(&cluster.map.load());
        for live in nodes.nodes.values().filter_map(|node| node.link.current()) {
            if let Ok(answer) = live.slots().await {
                return Ok(parts(answer, ""));
            }
        }
        let mut result = Err("there is no node to ask".into());
        for seed in &self.settings.servers {
            let ask = async {
                let client = self.settings.client(seed).await?;
                let mut connection = client.get_multiplexed_async_connection().await?;
                Ok::<Value, ConnectError>(
                    redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?,
                )
            };
            match ask.await {
                Ok(answer) => {
                    let host = match seed.addr() {
                        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.as_str(),
                        _ => "",
                    };
                    return Ok(parts(answer, host));
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn put_map(self: &Arc<Self>, cluster: &Cluster, parts: Vec<Part>) {
        let Some(seed) = self.settings.servers.first() else { return };
        let old = Arc::clone(&cluster.map.load());
        let mut map = Map::default();
        let mut pointed_to = cluster.pointed_to.lock();
        let on_map: HashSet<&String> = parts.iter().map(|part| &part.address).collect();
        pointed_to.retain(|address| !on_map.contains(address));
        for address in on_map.into_iter().chain(&*pointed_to) {
            let node = match old.nodes.get(address) {
                Some(node) => Arc::clone(node),
                None => match self.new_node(seed, address) {
                    Some(node) => node,
                    None => continue,
                },
            };
            map.nodes.insert(address.clone(), node);
        }
        for Part { first, last, address } in &parts {
            if let Some(node) = map.nodes.get(address) {
                map.parts.push((*first, *last, Arc::clone(node)));
            }
        }
        map.parts.sort_by_key(|(first, ..)| *first);
        cluster.map.store(Arc::new(map));
    }

    fn new_node(self: &Arc<Self>, seed: &ConnectionInfo, address: &str) -> Option<Arc<Node>> {
        let (host, port) = address.rsplit_once(':')?;
        let place = Place::Node(at_address(seed, host.to_owned(), port.parse().ok()?));
        let stop = self.stop.child_token();
        let link = Arc::new(Link::new(place));
        let (shared, kept, stopped) = (Arc::clone(self), Arc::clone(&link), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(shared.keep_connected(&kept)).await });
        Some(Arc::new(Node { link, _stop: stop.drop_guard() }))
    }
}

/// A part of the cluster's keys and who has it.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    first: u16,
    last: u16,
    address: String,
}

/// Reads the answer to `CLUSTER SLOTS`. A node that does not know its own host is at `host`.
fn parts(answer: Value, host: &str) -> Vec<Part> {
    let Value::Array(parts) = answer else { return Vec::new() };
    let read = |part: Value| {
        let Value::Array(part) = part else { return None };
        let mut part = part.into_iter();
        let number = |value: Option<Value>| redis::from_redis_value::<u16>(value?).ok();
        let (first, last) = (number(part.next())?, number(part.next())?);
        // The master comes first.
        let Value::Array(node) = part.next()? else { return None };
        let mut node = node.into_iter();
        let named: Option<String> = redis::from_redis_value(node.next()?).ok()?;
        let host = named.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| host.to_owned());
        let port = number(node.next())?;
        Some(Part { first, last, address: format!("{host}:{port}") })
    };
    parts.into_iter().filter_map(read).collect()
}

/// The slot of a key: CRC-16 (XMODEM) of what stands between its first braces, or of all of it (Redis Cluster
/// specification).
pub(super) fn slot(key: &[u8]) -> u16 {
    let braces = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let length = key[open + 1..].iter().position(|&byte| byte == b'}')?;
        (length > 0).then(|| &key[open + 1..open + 1 + length])
    });
    let step = |crc: u16, byte: &u8| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    };
    braces.unwrap_or(key).iter().fold(0, step) % 16384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        for (key, expected) in
            [("123456789", 0x31C3), ("foo", 12182), ("a{foo}b", 12182), ("{foo}{bar}", 12182)]
        {
            assert_eq!(slot(key.as_bytes()), expected % 16384, "{key}");
        }
        assert_ne!(slot(b"foo{}"), slot(b""));
    }
}
