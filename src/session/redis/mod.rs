//! Sessions of many replicas in one Redis or Valkey: what is written there and how, the connection, and the copies at hand
//! that spare requests a round trip. No other room names the `redis` crate.

mod cache;
mod cluster;
mod groups;
mod idle;
mod keys;
mod lease;
mod link;
mod live;
mod pending;
mod record;
mod scripts;
mod sentinel;
mod servers;
mod settings;

#[cfg(test)]
mod tests;

pub use lease::RedisLease;
pub use settings::{Credential, RedisMode, RedisSettings, RedisTls};

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    DirectoryEntry, Once, Renewed, Session, SessionId, SessionKey, StoreError, Tokens, UpstreamHeaders, Use,
};
use crate::{
    clock::{SharedClock, Timestamp},
    crypto::{KeyRing, SharedRandom},
};
use cache::Cache;
use keys::Keys;
use pending::{Pending, PendingWrites};
use record::{FIELDS, Records, Stored};
use servers::{Servers, Way};

/// What is made of a session's tokens for its requests. It depends on the configuration of the replica that serves them, so
/// that it is never stored.
pub struct Rendered {
    /// See [`Tokens::access_claims`].
    pub access_claims: Map<String, Value>,
    /// See [`Tokens::upstream`].
    pub upstream: UpstreamHeaders,
}

/// Makes [`Rendered`] of a frontend's name, an access token and the claims of an ID token; `None` if there is no such
/// frontend.
pub type Renderer = dyn Fn(&str, &str, &Map<String, Value>) -> Option<Rendered> + Send + Sync;

/// Sessions in Redis.
pub struct RedisStore {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What the store's tasks need of it.
struct Shared {
    settings: RedisSettings,
    keys: Keys,
    servers: Servers,
    cache: Arc<Cache>,
    pending: PendingWrites,
    ring: Arc<KeyRing>,
    render: Box<Renderer>,
    random: SharedRandom,
    clock: SharedClock,
    /// Ends every task.
    stop: CancellationToken,
}

impl RedisStore {
    /// Begins to connect. The server may be away; whoever asks is told so until it is there. Needs a runtime.
    pub fn start(
        settings: RedisSettings,
        ring: Arc<KeyRing>,
        render: Box<Renderer>,
        random: SharedRandom,
        clock: SharedClock,
    ) -> Self {
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            keys: Keys::new(&settings.prefix),
            servers: Servers::new(&settings),
            cache: Arc::new(Cache::new(settings.at_hand)),
            pending: PendingWrites::default(),
            settings,
            ring,
            render,
            random,
            clock,
            stop: stop.clone(),
        });
        let (connected, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let connected = async {
                match &connected.servers {
                    Servers::One(link) => connected.keep_connected(link).await,
                    Servers::Cluster(_) => Arc::clone(&connected).keep_map().await,
                }
            };
            stopped.run_until_cancelled(connected).await;
        });
        let (idle, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(idle.note_uses()).await });
        Self { shared, _stop: stop.drop_guard() }
    }

    /// See [`super::SessionStore::get`].
    pub(super) async fn get(&self, id: &SessionId) -> Result<Option<Arc<Session>>, StoreError> {
        let shared = &self.shared;
        if shared.servers.is_fresh()
            && let Some(copy) = shared.cache.get(&id.key())
            && !copy.session.is_expired(shared.clock.now())
        {
            return Ok(Some(Arc::clone(&copy.session)));
        }
        shared.read(id).await
    }

    /// See [`super::SessionStore::insert`].
    pub(super) async fn insert(&self, id: &SessionId, session: &Session) -> Result<(), StoreError> {
        let (shared, now) = (&self.shared, self.shared.clock.now());
        let fields = shared.records().fields(&*shared.random, id, session, &session.tokens())?;
        let (key, way) = (id.key(), shared.way());
        let keep = session.lifetimes.idle + idle::SLACK;
        let write = scripts::insert(&shared.keys, &key, &fields, now, keep);
        // The index first: whoever takes the session out again finds all of it.
        let entry = session.directory_entry(key);
        let indexed = shared.index(way, &entry, session);
        if let Servers::Cluster(_) = shared.servers {
            indexed.await?;
            return way.send::<i64>(&write).await.map(|_| ());
        }
        // One server does what comes over one connection in its order.
        let (indexed, written) = tokio::join!(biased; indexed, way.send::<i64>(&write));
        indexed.and(written.map(|_| ()))
    }

    /// See [`super::SessionStore::remove`] and [`super::SessionStore::remove_seen`]; says whether the session is over,
    /// and whether it was so before.
    pub(super) async fn remove(
        &self,
        entry: &DirectoryEntry,
        version: Option<u64>,
    ) -> Result<Removed, StoreError> {
        let shared = &self.shared;
        // Here it is over from now on, whatever the server says.
        shared.cache.remove(&entry.key);
        let removed = shared.end(shared.way(), entry, version).await;
        // Also what was read meanwhile.
        shared.cache.remove(&entry.key);
        let write = Pending::Remove { entry: entry.clone(), version };
        match removed {
            Ok(Removed::Now) => shared.pending.done(write),
            Ok(Removed::Before | Removed::Not) => {}
            Err(_) => shared.pending.add(write),
        }
        removed
    }

    /// See [`super::SessionStore::renew`].
    pub(super) async fn renew(
        &self,
        id: &SessionId,
        session: &Session,
        version: u64,
        tokens: Tokens,
    ) -> Result<Renewed, StoreError> {
        let (shared, key) = (&self.shared, id.key());
        let fields = shared.records().fields(&*shared.random, id, session, &tokens)?;
        let (way, now) = (shared.way(), shared.clock.now());
        let written = way.send::<i64>(&scripts::renew(&shared.keys, &key, version, &fields, now)).await;
        match written {
            Ok(scripts::GONE) => {
                shared.cache.remove(&key);
                Ok(Renewed::Gone)
            }
            Ok(scripts::OVERTAKEN) => {
                shared.cache.invalidate(&key);
                Ok(Renewed::Overtaken)
            }
            Ok(_) => {
                session.replace_tokens(tokens, version + 1);
                shared.cache.invalidate(&key);
                shared.pending.done(Pending::Renew { key, version, fields });
                if shared.ring.is_changing() {
                    // Under the newest key as well, for the day when the old one is taken out of the ring.
                    let _ = shared.index(way, &session.directory_entry(key), session).await;
                }
                Ok(Renewed::Stored)
            }
            Err(error) => {
                // The provider takes the old refresh token no more, so these are the tokens that count.
                session.replace_tokens(tokens, version);
                shared.pending.add(Pending::Renew { key, version, fields });
                Err(error)
            }
        }
    }

    /// See [`super::SessionStore::share_failure`].
    pub(super) async fn share_failure(
        &self,
        id: &SessionId,
        session: &Session,
        version: u64,
    ) -> Result<(), StoreError> {
        let (shared, key) = (&self.shared, id.key());
        let write = scripts::fail(&shared.keys, &key, version, &Records::failures(session));
        let written = shared.way().send::<i64>(&write).await;
        shared.cache.invalidate(&key);
        written.map(|_| ())
    }

    /// See [`super::SessionStore::use_once`].
    pub(super) async fn use_once(&self, what: Once, end: Timestamp) -> Result<Use, StoreError> {
        let life = scripts::life(end, self.shared.clock.now());
        let set = scripts::command("SET", &self.shared.keys.once(what), (1, "NX", "EX", life));
        let set: Option<String> = self.shared.way().send(&set).await?;
        Ok(if set.is_some() { Use::First } else { Use::Again })
    }

    /// See [`super::SessionStore::was_used`].
    pub(super) async fn was_used(&self, what: Once) -> Result<bool, StoreError> {
        self.shared
            .way()
            .send(&scripts::command("EXISTS", &self.shared.keys.once(what), scripts::NOTHING))
            .await
    }

    /// Writes what is still to be written, before the program ends.
    pub(super) async fn finish(&self) {
        self.shared.write_pending(self.shared.way()).await;
        self.shared.write_uses(true).await;
    }
}

/// What became of a session that was to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// It is over.
    Now,
    /// It was over already.
    Before,
    /// It has another version and goes on.
    Not,
}

impl Shared {
    /// The way that everybody goes.
    fn way(&self) -> Way<'_> {
        Way::By(&self.servers)
    }

    fn records(&self) -> Records<'_> {
        Records { ring: &self.ring, render: &*self.render }
    }

    async fn read(&self, id: &SessionId) -> Result<Option<Arc<Session>>, StoreError> {
        let key = id.key();
        let mark = self.cache.mark(&key);
        match self.fetch(self.way(), &key).await {
            Ok(stored) => {
                let Some(loaded) = stored.and_then(|stored| self.records().open(id, stored)) else {
                    self.cache.remove(&key);
                    return Ok(None);
                };
                let session = self.cache.put(key, loaded, mark);
                Ok((!session.is_expired(self.clock.now())).then_some(session))
            }
            Err(error) => self.in_grace(&key).ok_or(error).map(Some),
        }
    }

    async fn fetch(&self, way: Way<'_>, key: &SessionKey) -> Result<Option<Stored>, StoreError> {
        let (session, last_use) = (scripts::read(&self.keys, key), scripts::read_last_use(&self.keys, key));
        let (session, last_use) =
            tokio::join!(biased; way.send::<record::Hash>(&session), way.send::<Option<u64>>(&last_use));
        Ok(Stored::read(session?, last_use?))
    }

    /// A session at hand that the server, when it was last heard of, had nothing against.
    fn in_grace(&self, key: &SessionKey) -> Option<Arc<Session>> {
        if self.settings.grace.is_some_and(|grace| self.servers.away_for() >= grace) {
            return None;
        }
        let session = Arc::clone(&self.cache.get(key)?.session);
        (!session.is_expired(self.clock.now())).then_some(session)
    }
}
