use std::time::Duration;

use redis::FromRedisValue;

use super::{
    RedisMode, RedisSettings,
    cluster::Cluster,
    link::{Link, Place, store_error},
    live::Live,
    scripts::Step,
};
use crate::session::StoreError;

/// The servers that hold the sessions.
pub(super) enum Servers {
    /// One at a time.
    One(Link),
    /// Several, each with a part of them.
    Cluster(Cluster),
}

/// How a step gets to its server: by the connections that everybody uses, or over one that nobody else has yet.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    By(&'a Servers),
    Over(&'a Live),
}

impl Servers {
    pub(super) fn new(settings: &RedisSettings) -> Self {
        match &settings.mode {
            RedisMode::Cluster => Self::Cluster(Cluster::default()),
            RedisMode::Sentinel(name) => {
                Self::One(Link::new(Place::Master(settings.servers.clone(), name.clone())))
            }
            RedisMode::Single => match settings.servers.first() {
                Some(server) => Self::One(Link::new(Place::Server(server.clone()))),
                // The configuration is refused without one.
                None => Self::Cluster(Cluster::default()),
            },
        }
    }

    /// Whether nothing can have changed at any server that this process was not told of, but for the last second.
    pub(super) fn is_fresh(&self) -> bool {
        match self {
            Self::One(link) => link.is_fresh(),
            Self::Cluster(cluster) => cluster.is_fresh(),
        }
    }

    /// How long some server has been away.
    pub(super) fn away_for(&self) -> Duration {
        match self {
            Self::One(link) => link.away_for(),
            Self::Cluster(cluster) => cluster.away_for(),
        }
    }
}

impl Way<'_> {
    /// Does a step and gives its answer.
    pub(super) async fn send<T: FromRedisValue>(self, step: &Step) -> Result<T, StoreError> {
        match self {
            Self::By(Servers::One(link)) => {
                link.live().await?.send(step).await.map_err(|error| store_error(&error))
            }
            Self::By(Servers::Cluster(cluster)) => cluster.send(step).await,
            Self::Over(live) => live.send(step).await.map_err(|error| store_error(&error)),
        }
    }
}
