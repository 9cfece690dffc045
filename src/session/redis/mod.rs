//! Sessions of many replicas in one Redis or Valkey: what is written there and how, the connection, and the copies at hand
//! that spare requests a round trip. No other room names the `redis` crate.

mod cache;
mod groups;
mod idle;
mod keys;
mod lease;
mod link;
mod pending;
mod record;
mod scripts;
mod settings;

#[cfg(test)]
mod tests;

pub use lease::RedisLease;
pub use settings::{Credential, RedisSettings, RedisTls};

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
use link::{Link, Live};
use pending::{Pending, PendingWrites};
use record::{FIELDS, MaybeStored, Records};

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
    link: Link,
    cache: Arc<Cache>,
    pending: PendingWrites,
    ring: Arc<KeyRing>,
    render: Box<Renderer>,
    random: SharedRandom,
    clock: SharedClock,
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
        let shared = Arc::new(Shared {
            keys: Keys::new(&settings.prefix),
            link: Link::new(),
            cache: Arc::new(Cache::new(settings.at_hand)),
            pending: PendingWrites::default(),
            settings,
            ring,
            render,
            random,
            clock,
        });
        let stop = CancellationToken::new();
        let (connected, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            stopped.run_until_cancelled(connected.keep_connected()).await;
        });
        let (idle, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(idle.note_uses()).await });
        Self { shared, _stop: stop.drop_guard() }
    }

    /// See [`super::SessionStore::get`].
    pub(super) async fn get(&self, id: &SessionId) -> Result<Option<Arc<Session>>, StoreError> {
        let shared = &self.shared;
        if shared.link.is_fresh()
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
        let live = shared.link.live().await?;
        let key = id.key();
        let keep = session.lifetimes.idle + idle::SLACK;
        let (name, last_used) = (shared.keys.session(&key), shared.keys.last_used(&key));
        let write = scripts::insert(&name, &last_used, &fields, now, keep);
        // The index is sent first: whoever takes the session out again finds all of it.
        let entry = session.directory_entry(key);
        let (indexed, written) =
            tokio::join!(biased; shared.index(&live, &entry, session), live.pipeline::<()>(&write));
        indexed.and(written)
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
        let removed = match shared.link.live().await {
            Ok(live) => shared.remove(&live, entry, version).await,
            Err(error) => Err(error),
        };
        // Also what was read meanwhile.
        shared.cache.remove(&entry.key);
        if removed.is_err() {
            shared.pending.add(Pending::Remove { entry: entry.clone(), version });
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
        let write = scripts::renew(&shared.keys.session(&key), version, &fields, shared.clock.now());
        let live = shared.link.live().await;
        let written = match &live {
            Ok(live) => live.script::<i64>(&write).await,
            Err(error) => Err(error.clone()),
        };
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
                if let Ok(live) = &live
                    && shared.ring.is_changing()
                {
                    // Under the newest key as well, for the day when the old one is taken out of the ring.
                    let _ = shared.index(live, &session.directory_entry(key), session).await;
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
        let write = scripts::fail(&shared.keys.session(&key), version, &Records::failures(session));
        let written = shared.link.live().await?.script::<i64>(&write).await;
        shared.cache.invalidate(&key);
        written.map(|_| ())
    }

    /// See [`super::SessionStore::use_once`].
    pub(super) async fn use_once(&self, what: Once, end: Timestamp) -> Result<Use, StoreError> {
        let mut set = redis::pipe();
        set.cmd("SET").arg(self.shared.keys.once(what)).arg(1).arg("NX");
        set.arg("EX").arg(scripts::life(end, self.shared.clock.now()));
        let (set,): (Option<String>,) = self.shared.link.live().await?.pipeline(&set).await?;
        Ok(if set.is_some() { Use::First } else { Use::Again })
    }

    /// See [`super::SessionStore::was_used`].
    pub(super) async fn was_used(&self, what: Once) -> Result<bool, StoreError> {
        let mut exists = redis::pipe();
        exists.cmd("EXISTS").arg(self.shared.keys.once(what));
        let (exists,) = self.shared.link.live().await?.pipeline(&exists).await?;
        Ok(exists)
    }

    /// Writes what is still to be written, before the program ends.
    pub(super) async fn finish(&self) {
        if let Ok(live) = self.shared.link.live().await {
            self.shared.write_pending(&live).await;
            self.shared.write_uses(&live, true).await;
        }
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
    fn records(&self) -> Records<'_> {
        Records { ring: &self.ring, render: &*self.render }
    }

    async fn read(&self, id: &SessionId) -> Result<Option<Arc<Session>>, StoreError> {
        let key = id.key();
        let mark = self.cache.mark(&key);
        let stored = match self.link.live().await {
            Ok(live) => self.fetch(&live, &key).await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(MaybeStored(stored)) => {
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

    async fn fetch(&self, live: &Live, key: &SessionKey) -> Result<MaybeStored, StoreError> {
        let mut read = redis::pipe();
        read.cmd("HMGET").arg(self.keys.session(key)).arg(&FIELDS[..]);
        read.cmd("GET").arg(self.keys.last_used(key));
        live.pipeline(&read).await
    }

    /// A session at hand that the server, when it was last heard of, had nothing against.
    fn in_grace(&self, key: &SessionKey) -> Option<Arc<Session>> {
        if self.settings.grace.is_some_and(|grace| self.link.away_for() >= grace) {
            return None;
        }
        let session = Arc::clone(&self.cache.get(key)?.session);
        (!session.is_expired(self.clock.now())).then_some(session)
    }

    async fn remove(
        &self,
        live: &Live,
        entry: &DirectoryEntry,
        version: Option<u64>,
    ) -> Result<Removed, StoreError> {
        let (session, last_used) = (self.keys.session(&entry.key), self.keys.last_used(&entry.key));
        let removed = match live.script::<i64>(&scripts::remove(&session, &last_used, version)).await? {
            scripts::OVERTAKEN => return Ok(Removed::Not),
            scripts::GONE => Removed::Before,
            _ => Removed::Now,
        };
        self.unindex(live, entry).await?;
        Ok(removed)
    }
}
