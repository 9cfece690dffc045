use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use dashmap::{DashMap, mapref::entry::Entry};

use super::{Session, SessionGroup, SessionId, SessionKey, group::GroupIndex};
use crate::clock::{SharedClock, Timestamp};

/// The store holds as many sessions as it may, and none of them has expired.
#[derive(Debug, thiserror::Error)]
#[error("the session store is full")]
pub struct StoreFull;

/// Sessions in the memory of this process.
pub struct MemoryStore {
    sessions: DashMap<SessionKey, Arc<Session>>,
    groups: GroupIndex,
    count: AtomicUsize,
    maximum: usize,
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
    /// [`StoreFull`] when every place is taken by a live session: nobody is signed out to make room.
    pub fn insert(&self, id: &SessionId, session: Arc<Session>) -> Result<(), StoreFull> {
        if !self.take_place() {
            self.remove_expired();
            if !self.take_place() {
                return Err(StoreFull);
            }
        }
        let key = id.key();
        // The index first: whoever takes the session out again finds all of it.
        self.groups.add(key, &session);
        if self.sessions.insert(key, session).is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// The live sessions of a group.
    pub fn group(&self, group: &SessionGroup) -> Vec<(SessionKey, Arc<Session>)> {
        let keys = self.groups.keys(group).into_iter();
        keys.filter_map(|key| self.get(&key).map(|session| (key, session))).collect()
    }

    /// Ends a session; returns it if it was there.
    pub fn remove(&self, key: &SessionKey) -> Option<Arc<Session>> {
        let (_, session) = self.sessions.remove(key)?;
        self.forget(key, &session);
        Some(session)
    }

    /// Whether this very session is still the live one under `key`.
    pub fn holds(&self, key: &SessionKey, session: &Arc<Session>) -> bool {
        self.get(key).is_some_and(|current| Arc::ptr_eq(&current, session))
    }

    /// Removes every session that has expired. Called from time to time, and before a login is turned away.
    pub fn remove_expired(&self) {
        let now: Timestamp = self.clock.now();
        self.sessions.retain(|key, session| {
            let expired = session.is_expired(now);
            if expired {
                self.forget(key, session);
            }
            !expired
        });
    }

    /// How many sessions are held, expired ones that were not removed yet among them.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether no session is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        self.groups.remove(key, session);
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{Clock, ManualClock},
        crypto::SystemRandom,
        session::{Lifetimes, NewSession, Tokens, UpstreamHeaders},
    };

    const START: u64 = 1_000_000;
    const ISSUER: &str = "https://id.example.com";

    fn session(now: u64, refresh_end: Option<u64>) -> Arc<Session> {
        let tokens = Tokens {
            access_expires_at: Timestamp::from_unix(now + 60),
            access_lifetime: Duration::from_secs(60),
            refresh_token: Some("refresh".into()),
            refresh_expires_at: refresh_end.map(Timestamp::from_unix),
            id_token: "id".into(),
            id_claims: serde_json::Map::new(),
            access_claims: serde_json::Map::new(),
            upstream: UpstreamHeaders {
                authorization: "Bearer access".into(),
                identity: Vec::new(),
                remove: Vec::new(),
            },
        };
        let new = NewSession {
            handle: "handle".into(),
            frontend: "app".into(),
            provider: "users".into(),
            issuer: ISSUER.into(),
            subject: "alice".into(),
            provider_session: Some("sid".to_owned()),
            tokens,
            lifetimes: Lifetimes { idle: Duration::from_secs(100), absolute: Duration::from_secs(1000) },
        };
        Arc::new(Session::new(new, Timestamp::from_unix(now)))
    }

    fn store(maximum: usize) -> (MemoryStore, Arc<ManualClock>) {
        let clock = ManualClock::starting_at(START);
        (MemoryStore::new(maximum, clock.clone()), clock)
    }

    fn id() -> SessionId {
        SessionId::random(&SystemRandom).unwrap()
    }

    #[test]
    fn a_session_ends_when_it_is_idle() {
        let (store, clock) = store(10);
        let id = id();
        store.insert(&id, session(START, None)).unwrap();
        clock.advance(Duration::from_secs(99));
        store.get(&id.key()).unwrap().touch(clock.now());
        clock.advance(Duration::from_secs(99));
        assert!(store.get(&id.key()).is_some());
        clock.advance(Duration::from_secs(1));
        assert!(store.get(&id.key()).is_none());
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn a_session_ends_at_its_absolute_lifetime_however_busy() {
        let (store, clock) = store(10);
        let id = id();
        store.insert(&id, session(START, None)).unwrap();
        for _ in 0..19 {
            clock.advance(Duration::from_secs(50));
            store.get(&id.key()).unwrap().touch(clock.now());
        }
        clock.advance(Duration::from_secs(50));
        assert!(store.get(&id.key()).is_none());
    }

    #[test]
    fn a_session_ends_with_its_refresh_token() {
        let (store, clock) = store(10);
        let id = id();
        store.insert(&id, session(START, Some(START + 30))).unwrap();
        clock.advance(Duration::from_secs(29));
        assert!(store.get(&id.key()).is_some());
        clock.advance(Duration::from_secs(1));
        assert!(store.get(&id.key()).is_none());
    }

    #[test]
    fn the_bound_holds_and_expired_sessions_make_room() {
        let (store, clock) = store(2);
        store.insert(&id(), session(START, None)).unwrap();
        store.insert(&id(), session(START, None)).unwrap();
        assert!(store.insert(&id(), session(START, None)).is_err());
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
    fn a_removed_session_is_gone_at_once() {
        let (store, _clock) = store(10);
        let id = id();
        let session = session(START, None);
        store.insert(&id, Arc::clone(&session)).unwrap();
        assert!(store.holds(&id.key(), &session));
        assert!(store.remove(&id.key()).is_some());
        assert!(store.remove(&id.key()).is_none());
        assert!(!store.holds(&id.key(), &session) && store.get(&id.key()).is_none());
    }

    #[test]
    fn sessions_are_found_by_what_the_provider_calls_them() {
        let (store, clock) = store(10);
        let by_subject =
            |issuer: &str, sub: &str| SessionGroup::Subject { issuer: issuer.into(), sub: sub.into() };
        let by_sid = |issuer: &str, sid: &str| SessionGroup::ProviderSession {
            issuer: issuer.into(),
            sid: sid.into(),
        };
        let ids = [id(), id()];
        store.insert(&ids[0], session(START, None)).unwrap();
        store.insert(&ids[1], session(START, Some(START + 10))).unwrap();
        for (group, expected) in [
            (by_subject(ISSUER, "alice"), 2),
            (by_sid(ISSUER, "sid"), 2),
            (by_subject(ISSUER, "bob"), 0),
            (by_sid(ISSUER, "alice"), 0),
            (by_subject("https://other.example.com", "alice"), 0),
            (by_sid("https://other.example.com", "sid"), 0),
        ] {
            assert_eq!(store.group(&group).len(), expected, "{group:?}");
        }
        clock.advance(Duration::from_secs(10));
        assert_eq!(store.group(&by_sid(ISSUER, "sid")).len(), 1, "one has expired");
        store.remove(&ids[0].key());
        assert!(store.group(&by_subject(ISSUER, "alice")).is_empty() && store.groups.is_empty());
    }
}
