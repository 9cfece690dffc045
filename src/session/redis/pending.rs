use std::collections::VecDeque;

use parking_lot::Mutex;

use super::{Live, Shared, scripts};
use crate::{
    clock::Timestamp,
    session::{DirectoryEntry, SessionGroup, SessionKey, SignOut, StoreError},
};

/// How many writes are kept for a server that is away.
const MAXIMUM: usize = 100_000;

/// What could not be written because the server was away, and must not be lost.
pub(super) enum Pending {
    /// The end of a session.
    Remove { entry: DirectoryEntry, version: Option<u64> },
    /// The end of a group.
    EndGroup { provider: String, group: SessionGroup, sign_out: SignOut, end: Timestamp },
    /// New tokens, whose predecessors the provider takes no more.
    Renew { key: SessionKey, version: u64, fields: scripts::Fields },
}

/// See [`Pending`]; the oldest first.
#[derive(Default)]
pub(super) struct PendingWrites(Mutex<VecDeque<Pending>>);

impl PendingWrites {
    pub(super) fn add(&self, write: Pending) {
        let mut writes = self.0.lock();
        if writes.len() >= MAXIMUM {
            tracing::error!("more is to be written than can be kept while the session store is away");
            writes.pop_front();
        }
        writes.push_back(write);
    }

    fn first(&self) -> Option<Pending> {
        self.0.lock().pop_front()
    }

    fn put_back(&self, write: Pending) {
        self.0.lock().push_front(write);
    }
}

impl Shared {
    /// Writes what is pending, until all is done or the server is away again.
    pub(super) async fn write_pending(&self, live: &Live) {
        let mut count = 0;
        while let Some(write) = self.pending.first() {
            if self.write(live, &write).await.is_err() {
                self.pending.put_back(write);
                return;
            }
            count += 1;
        }
        if count > 0 {
            tracing::info!(count, "what was kept while the session store was away is written");
        }
    }

    async fn write(&self, live: &Live, write: &Pending) -> Result<(), StoreError> {
        match write {
            Pending::Remove { entry, version } => {
                self.remove(live, entry, *version).await?;
            }
            Pending::EndGroup { provider, group, sign_out, end } => {
                self.end_group(live, provider, group, *sign_out, *end).await?;
            }
            Pending::Renew { key, version, fields } => {
                let renew = scripts::renew(&self.keys.session(key), *version, fields, self.clock.now());
                live.script::<i64>(&renew).await?;
                self.cache.invalidate(key);
            }
        }
        Ok(())
    }
}
