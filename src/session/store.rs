use std::sync::Arc;

use super::{
    DirectoryEntry, MemoryStore, Session, SessionGroup, SessionId, SignOut, Tokens,
    redis::{RedisLease, RedisStore, Removed},
    remembered::Use,
};
use crate::clock::Timestamp;

/// Why a store did not do what it was asked. Never a word about a session: whoever gets this knows no more of it than
/// before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store holds as many sessions as it may, and none of them has expired: nobody is signed out to make room.
    #[error("the session store is full")]
    Full,
    /// The store does not answer.
    #[error("the session store is away: {0}")]
    Away(&'static str),
}

/// Something that may be used once, by what tells it apart from all others of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once {
    /// A login transaction.
    Transaction([u8; 32]),
    /// A logout token.
    LogoutToken([u8; 32]),
}

/// What became of new tokens for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// They are stored.
    Stored,
    /// Somebody else has changed the session since; theirs stay.
    Overtaken,
    /// The session is over and does not come back.
    Gone,
}

/// The answer to who may refresh a session.
pub enum Leased {
    /// The caller alone, for as long as it holds this.
    Held(Lease),
    /// The session is no longer as the caller saw it: it was changed, or is over.
    Overtaken,
}

/// The right to refresh a session; given back when it is dropped.
#[derive(Default)]
pub struct Lease(#[expect(dead_code, reason = "it is held for its drop")] Option<RedisLease>);

/// Where the sessions are, and what must be remembered along with them. Whatever a flow may not do twice or forget,
/// although several replicas of the program do it, goes through here.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum SessionStore {
    /// In the memory of this process.
    Memory(MemoryStore),
    /// In Redis or Valkey, for many replicas.
    Redis(RedisStore),
}

impl SessionStore {
    /// The live session with this id. In memory, and where a copy at hand is known to be good, this does not wait.
    ///
    /// # Errors
    /// [`StoreError`] when nobody can say.
    pub async fn get(&self, id: &SessionId) -> Result<Option<Arc<Session>>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.get(&id.key())),
            Self::Redis(redis) => redis.get(id).await,
        }
    }

    /// Adds a session under a new id.
    ///
    /// # Errors
    /// [`StoreError`] when it is not there afterwards.
    pub async fn insert(&self, id: &SessionId, session: Arc<Session>) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.insert(id, session),
            Self::Redis(redis) => redis.insert(id, &session).await,
        }
    }

    /// The live sessions of a group.
    ///
    /// # Errors
    /// [`StoreError`] when nobody can say.
    pub async fn group(&self, group: &SessionGroup) -> Result<Vec<DirectoryEntry>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.group(group)),
            Self::Redis(redis) => redis.group(group).await,
        }
    }

    /// Ends a session; says whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] when it may still be there. This replica lets it through no more all the same.
    pub async fn remove(&self, entry: &DirectoryEntry) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.remove(&entry.key).is_some()),
            Self::Redis(redis) => Ok(redis.remove(entry, None).await? == Removed::Now),
        }
    }

    /// Ends a session unless it was changed since the caller saw it in this version; says whether it is over.
    ///
    /// # Errors
    /// As [`SessionStore::remove`].
    pub async fn remove_seen(&self, entry: &DirectoryEntry, version: u64) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.remove_seen(&entry.key, version)),
            Self::Redis(redis) => Ok(redis.remove(entry, Some(version)).await? != Removed::Not),
        }
    }

    /// Ends the sessions of a group that were begun at this provider, and remembers the sign-out until `end`, so that a
    /// login under way does not begin a new one. Returns those that were live.
    ///
    /// # Errors
    /// As [`SessionStore::remove`].
    pub async fn end_group(
        &self,
        provider: &str,
        group: &SessionGroup,
        sign_out: SignOut,
        end: Timestamp,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.end_group(provider, group, sign_out, end)),
            Self::Redis(redis) => redis.end_group(provider, group, sign_out, end).await,
        }
    }

    /// The latest sign-out of a group at this provider that is remembered.
    ///
    /// # Errors
    /// [`StoreError`] when nobody can say.
    pub async fn latest_sign_out(
        &self,
        provider: &str,
        group: &SessionGroup,
    ) -> Result<Option<SignOut>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.latest_sign_out(provider, group)),
            Self::Redis(redis) => redis.latest_sign_out(provider, group).await,
        }
    }

    /// Marks something as used; it has to be remembered until `end`. Of several at once, at however many replicas, one
    /// is first.
    ///
    /// # Errors
    /// [`StoreError`] when nobody can say; then it counts as not used.
    pub async fn use_once(&self, what: Once, end: Timestamp) -> Result<Use, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.use_once(what, end)),
            Self::Redis(redis) => redis.use_once(what, end).await,
        }
    }

    /// Whether something was used already.
    ///
    /// # Errors
    /// [`StoreError`] when nobody can say.
    pub async fn was_used(&self, what: Once) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.was_used(what)),
            Self::Redis(redis) => redis.was_used(what).await,
        }
    }

    /// Waits for the right to refresh a session, which the caller saw in this version.
    ///
    /// # Errors
    /// [`StoreError`] when it is not to be had.
    pub async fn lease(&self, id: &SessionId, version: u64) -> Result<Leased, StoreError> {
        match self {
            Self::Memory(memory) => Ok(match memory.get(&id.key()) {
                // Within one process the refresher lets one at a time come here.
                Some(session) if session.version() == version => Leased::Held(Lease::default()),
                _ => Leased::Overtaken,
            }),
            Self::Redis(redis) => Ok(match redis.lease(id, version).await? {
                Some(lease) => Leased::Held(Lease(Some(lease))),
                None => Leased::Overtaken,
            }),
        }
    }

    /// Puts new tokens into a session, with what it knows of earlier refreshes, unless it was changed since the caller
    /// saw it in this version.
    ///
    /// # Errors
    /// [`StoreError`] when they could not be stored. This replica uses them all the same, and stores them as soon as
    /// it can.
    pub async fn renew(
        &self,
        id: &SessionId,
        session: &Arc<Session>,
        version: u64,
        tokens: Tokens,
    ) -> Result<Renewed, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.renew(&id.key(), session, version, tokens)),
            Self::Redis(redis) => redis.renew(id, session, version, tokens).await,
        }
    }

    /// Tells the other replicas what a session knows of a refresh that failed.
    ///
    /// # Errors
    /// [`StoreError`] when they could not be told.
    pub async fn share_failure(
        &self,
        id: &SessionId,
        session: &Arc<Session>,
        version: u64,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Redis(redis) => redis.share_failure(id, session, version).await,
        }
    }

    /// Forgets what has ended and what need not be remembered any more. Called from time to time.
    pub fn remove_expired(&self) {
        match self {
            Self::Memory(memory) => memory.remove_expired(),
            // Every key there has a time to live.
            Self::Redis(_) => {}
        }
    }

    /// Writes what is still to be written, before the program ends.
    pub async fn finish(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Redis(redis) => redis.finish().await,
        }
    }
}
