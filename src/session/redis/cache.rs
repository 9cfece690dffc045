use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use quick_cache::sync::Cache as BoundedMap;
use tokio::sync::Notify;

use super::record::Loaded;
use crate::session::{Session, SessionKey};

/// How many counters of changes there are; sessions share them. A change of one keeps a session that shares its counter
/// and is being read at that moment from being kept, which costs a read.
const COUNTERS: usize = 4096;

/// The era of a copy that is known to be old.
const INVALID: u64 = 0;

/// The sessions at hand, bounded, each as good as the server's own for as long as the server tells of every change.
pub(super) struct Cache {
    copies: BoundedMap<SessionKey, Arc<Copy>>,
    /// Counts up when everything at hand may be old: at every connection, and when the server was emptied.
    era: AtomicU64,
    changes: Box<[AtomicU64]>,
    waiting: DashMap<SessionKey, Arc<Notify>>,
}

/// A copy of a session. There is one of each in a process for as long as it is at hand: what the server has that is newer is
/// put into it, so that whoever holds it sees it.
pub(super) struct Copy {
    pub(super) session: Arc<Session>,
    /// The last use that the server knows of, in seconds since the Unix epoch.
    pub(super) use_known: AtomicU64,
    era: AtomicU64,
    update: Mutex<()>,
}

/// What was so when a read began.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    era: u64,
    changes: u64,
}

impl Cache {
    pub(super) fn new(maximum: usize) -> Self {
        Self {
            copies: BoundedMap::new(maximum),
            era: AtomicU64::new(INVALID + 1),
            changes: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            waiting: DashMap::new(),
        }
    }

    /// A new era: nothing that is at hand counts any more until it was read again.
    pub(super) fn begin(&self) {
        self.era.fetch_add(1, Ordering::SeqCst);
        for waiting in &self.waiting {
            waiting.notify_waiters();
        }
    }

    /// A copy that nothing is known against. Whether changes are heard of at present is for the caller to know.
    pub(super) fn get(&self, key: &SessionKey) -> Option<Arc<Copy>> {
        let copy = self.copies.get(key)?;
        (copy.era.load(Ordering::SeqCst) == self.era.load(Ordering::SeqCst)).then_some(copy)
    }

    /// Notes that a session was changed or ended.
    pub(super) fn invalidate(&self, key: &SessionKey) {
        // First the counter, then the copy: a read that ends in between looks at the counter after it has put its copy.
        self.counter(key).fetch_add(1, Ordering::SeqCst);
        if let Some(copy) = self.copies.peek(key) {
            copy.era.store(INVALID, Ordering::SeqCst);
        }
        if let Some(waiting) = self.waiting.get(key) {
            waiting.notify_waiters();
        }
    }

    /// Takes out a session that is over.
    pub(super) fn remove(&self, key: &SessionKey) {
        self.invalidate(key);
        self.copies.remove(key);
    }

    /// What is so before a read.
    pub(super) fn mark(&self, key: &SessionKey) -> Mark {
        Mark { era: self.era.load(Ordering::SeqCst), changes: self.counter(key).load(Ordering::SeqCst) }
    }

    /// Keeps what was read since `mark`, unless it was changed on the way; gives the session in any case.
    pub(super) fn put(&self, key: SessionKey, loaded: Loaded, mark: Mark) -> Arc<Session> {
        let copy = match self.copies.get(&key) {
            Some(copy) => copy,
            None => {
                let copy = Arc::new(Copy::new(loaded.session()));
                self.copies.insert(key, Arc::clone(&copy));
                copy
            }
        };
        copy.update(loaded);
        copy.era.store(mark.era, Ordering::SeqCst);
        if self.counter(&key).load(Ordering::SeqCst) != mark.changes {
            copy.era.store(INVALID, Ordering::SeqCst);
        }
        Arc::clone(&copy.session)
    }

    /// Everything at hand.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, Arc<Copy>)> + '_ {
        self.copies.iter()
    }

    /// Something that is notified of the next change of a session, or of all.
    pub(super) fn watch(&self, key: SessionKey) -> Watch<'_> {
        let notify = Arc::clone(&self.waiting.entry(key).or_default());
        Watch { cache: self, key, notify }
    }

    fn counter(&self, key: &SessionKey) -> &AtomicU64 {
        let [first, second, ..] = key.as_bytes();
        &self.changes[usize::from(u16::from_be_bytes([*first, *second])) % COUNTERS]
    }
}

impl Copy {
    fn new(session: Arc<Session>) -> Self {
        Self {
            use_known: AtomicU64::new(session.last_used_at().as_unix()),
            session,
            era: AtomicU64::new(INVALID),
            update: Mutex::new(()),
        }
    }

    fn update(&self, loaded: Loaded) {
        let _alone = self.update.lock();
        self.use_known.fetch_max(loaded.last_used.as_unix(), Ordering::AcqRel);
        self.session.touch(loaded.last_used);
        if loaded.version > self.session.version() {
            loaded.put_into(&self.session);
        }
    }
}

/// See [`Cache::watch`].
pub(super) struct Watch<'a> {
    cache: &'a Cache,
    key: SessionKey,
    pub(super) notify: Arc<Notify>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // The last one out: the map's own and this one's.
        self.cache.waiting.remove_if(&self.key, |_, notify| Arc::strong_count(notify) <= 2);
    }
}
