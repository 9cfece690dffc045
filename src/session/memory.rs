use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::{DashMap, mapref::entry::Entry};

use super::{
    DirectoryEntry, Once, Renewed, Session, SessionGroup, SessionId, SessionKey, SignOut, StoreError, Tokens,
    group::GroupIndex,
    remembered::{Full, Remembered, Use},
    sign_out::{SignOutKey, sign_out_key},
};
use crate::clock::{SharedClock, Timestamp};

/// How many used login transactions, used logout tokens and sign-outs are remembered of each: 10,000 a minute for half
/// an hour.
const MAXIMUM_REMEMBERED: usize = 300_000;

/// Sessions in the memory of this process.
pub struct MemoryStore {
    sessions: DashMap<SessionKey, Arc<Session>>,
    groups: GroupIndex,
    count: AtomicUsize,
    maximum: usize,
    used_transactions: Remembered<[u8; 32], ()>,
    used_logout_tokens: Remembered<[u8; 32], ()>,
    sign_outs: Remembered<SignOutKey, SignOut>,
    clock: SharedClock,
}

impl MemoryStore {
    /// An empty store for at most `maximum` sessions.
    pub fn new(maximum: usize, clock: SharedClock) -> Self {
        Self {
            sessions: DashMap::new(),
            groups: GroupIndex::default(),
            count: AtomicUsize::new(0),
            maximum,
            used_transactions: Remembered::new(MAXIMUM_REMEMBERED, Arc::clone(&clock)),
            used_logout_tokens: Remembered::new(MAXIMUM_REMEMBERED, Arc::clone(&clock)),
            sign_outs: Remembered::new(MAXIMUM_REMEMBERED, Arc::clone(&clock)),
            clock,
        }
    }

    /// The live session with this key. One that has expired is removed and not returned.
    pub fn get(&self, key: &SessionKey) -> Option<Arc<Session>> {
        let session = Arc::clone(self.sessions.get(key)?.value());
        if session.is_expired(self.clock.now()) {
            self.remove_same(key, &session);
            return None;
        }
        Some(session)
    }

    /// Adds a session under a new id.
    ///
    /// # Errors
    /// [`StoreError::Full`] when every place is taken by a live session: nobody is signed out to make room.
    pub fn insert(&self, id: &SessionId, session: Arc<Session>) -> Result<(), StoreError> {
        if !self.take_place() {
            self.remove_expired_sessions();
            if !self.take_place() {
                return Err(StoreError::Full);
            }
        }
        // The index first: whoever takes the session out again finds all of it.
        self.groups.add(&session.directory_entry(id.key()));
        if self.sessions.insert(id.key(), session).is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The live sessions of a group.
    pub fn group(&self, group: &SessionGroup) -> Vec<DirectoryEntry> {
        let keys = self.groups.keys(group).into_iter();
        keys.filter_map(|key| self.get(&key).map(|session| session.directory_entry(key))).collect()
    }

    /// Ends a session; returns it if it was there.
    pub fn remove(&self, key: &SessionKey) -> Option<Arc<Session>> {
        let (_, session) = self.sessions.remove(key)?;
        self.forget(key, &session);
        Some(session)
    }

    /// Ends a session if it still has this version; says whether it is over.
    pub fn remove_seen(&self, key: &SessionKey, version: u64) -> bool {
        match self.sessions.entry(*key) {
            Entry::Vacant(_) => true,
            Entry::Occupied(entry) if entry.get().version() != version => false,
            Entry::Occupied(entry) => {
                let session = entry.remove();
                self.forget(key, &session);
                true
            }
        }
    }

    /// Puts new tokens into a session that is still the live one under `key` and has this version.
    pub fn renew(&self, key: &SessionKey, session: &Arc<Session>, version: u64, tokens: Tokens) -> Renewed {
        // Under the lock of the entry: a session that is ended later on has the new tokens.
        match self.sessions.entry(*key) {
            Entry::Occupied(entry) if Arc::ptr_eq(entry.get(), session) => {
                if session.version() != version {
                    return Renewed::Overtaken;
                }
                session.replace_tokens(tokens, version + 1);
                Renewed::Stored
            }
            _ => Renewed::Gone,
        }
    }

    /// Ends the sessions of a group that were begun at this provider, and remembers that until `end`. Returns those that
    /// were live.
    pub fn end_group(
        &self,
        provider: &str,
        group: &SessionGroup,
        sign_out: SignOut,
        end: Timestamp,
    ) -> Vec<DirectoryEntry> {
        // Before the sessions are looked for: a login looks here after it has put its session there.
        if let Err(Full) = self.sign_outs.put(sign_out_key(provider, group), sign_out, end, SignOut::latest) {
            tracing::warn!(provider, "too many sign-outs to hold against every login under way");
        }
        let live = self.group(group).into_iter().filter(|entry| &*entry.provider == provider);
        live.filter_map(|entry| Some(self.remove(&entry.key)?.directory_entry(entry.key))).collect()
    }

    /// The latest sign-out of a group at this provider that is remembered.
    pub fn latest_sign_out(&self, provider: &str, group: &SessionGroup) -> Option<SignOut> {
        self.sign_outs.get(&sign_out_key(provider, group))
    }

    /// Marks something as used.
    pub fn use_once(&self, what: Once, end: Timestamp) -> Use {
        match what {
            Once::Transaction(hash) => self.used_transactions.mark(hash, end),
            Once::LogoutToken(hash) => self.used_logout_tokens.mark(hash, end),
        }
    }

    /// Whether something was used already.
    pub fn was_used(&self, what: Once) -> bool {
        match what {
            Once::Transaction(hash) => self.used_transactions.get(&hash),
            Once::LogoutToken(hash) => self.used_logout_tokens.get(&hash),
        }
        .is_some()
    }

    /// Removes every session that has expired and all that need not be remembered any more.
    pub fn remove_expired(&self) {
        self.remove_expired_sessions();
        self.used_transactions.remove_expired();
        self.used_logout_tokens.remove_expired();
        self.sign_outs.remove_expired();
    }

    /// How many sessions are held, expired ones that were not removed yet among them.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether no session is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn remove_expired_sessions(&self) {
        let now: Timestamp = self.clock.now();
        self.sessions.retain(|key, session| {
            let expired = session.is_expired(now);
            if expired {
                self.forget(key, session);
            }
            !expired
        });
    }

    fn take_place(&self) -> bool {
        let maximum = self.maximum;
        let take = |count| (count < maximum).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn remove_same(&self, key: &SessionKey, session: &Arc<Session>) {
        if let Entry::Occupied(entry) = self.sessions.entry(*key)
            && Arc::ptr_eq(entry.get(), session)
        {
            entry.remove();
            self.forget(key, session);
        }
    }

    /// Gives the place of a session free that was taken out.
    fn forget(&self, key: &SessionKey, session: &Session) {
        self.groups.remove(&session.directory_entry(*key));
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::ManualClock,
        crypto::SystemRandom,
        session::contract_tests::{START, session},
    };

    fn store(maximum: usize) -> (MemoryStore, Arc<ManualClock>) {
        let clock = ManualClock::starting_at(START);
        (MemoryStore::new(maximum, clock.clone()), clock)
    }

    fn id() -> SessionId {
        SessionId::random(&SystemRandom).unwrap()
    }

    #[test]
    fn the_bound_holds_and_expired_sessions_make_room() {
        let (store, clock) = store(2);
        store.insert(&id(), session(START, None)).unwrap();
        store.insert(&id(), session(START, None)).unwrap();
        assert_eq!(store.insert(&id(), session(START, None)), Err(StoreError::Full));
        assert_eq!(store.len(), 2);
        clock.advance(Duration::from_secs(100));
        store.insert(&id(), session(START + 100, None)).unwrap();
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn the_sweep_really_removes() {
        let (store, clock) = store(1000);
        for _ in 0..500 {
            store.insert(&id(), session(START, None)).unwrap();
        }
        clock.advance(Duration::from_secs(100));
        store.remove_expired();
        assert_eq!((store.len(), store.sessions.len()), (0, 0));
        assert!(store.groups.is_empty(), "the index goes with them");
    }

    #[test]
    fn the_index_and_the_count_go_with_a_session_that_is_taken_out() {
        let (store, _clock) = store(10);
        let ids = [id(), id()];
        for id in &ids {
            store.insert(id, session(START, None)).unwrap();
        }
        assert!(store.remove(&ids[0].key()).is_some());
        assert!(!store.remove_seen(&ids[1].key(), 2));
        assert!(store.remove_seen(&ids[1].key(), 1));
        assert!(store.is_empty() && store.groups.is_empty());
    }
}
