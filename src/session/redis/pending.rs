use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Removed, Shared, Way, scripts};
use crate::{
    clock::Timestamp,
    session::{DirectoryEntry, SessionGroup, SessionKey, SignOut, StoreError},
};

/// How many writes are kept for a server that is away, and how many that were done.
const MAXIMUM: usize = 100_000;

/// How long writes are kept that were done. A server that takes over may not have got the last of them.
const RECENT: Duration = Duration::from_secs(60);

/// A write that must not be lost. Done twice it is as good as done once.
pub(super) enum Pending {
    /// The end of a session.
    Remove { entry: DirectoryEntry, version: Option<u64> },
    /// The end of a group.
    EndGroup { provider: String, group: SessionGroup, sign_out: SignOut, end: Timestamp },
    /// The sign-out of a group whose sessions were ended.
    SignOut { provider: String, group: SessionGroup, sign_out: SignOut, end: Timestamp },
    /// New tokens, whose predecessors the provider takes no more.
    Renew { key: SessionKey, version: u64, fields: scripts::Fields },
}

/// The writes that are to be done, and those that were done of late, the oldest first.
#[derive(Default)]
pub(super) struct PendingWrites {
    to_do: Mutex<VecDeque<Pending>>,
    done: Mutex<VecDeque<(Instant, Pending)>>,
}

impl PendingWrites {
    /// Keeps a write that could not be done.
    pub(super) fn add(&self, write: Pending) {
        let mut writes = self.to_do.lock();
        if writes.len() >= MAXIMUM {
            tracing::error!("more is to be written than can be kept while the session store is away");
            writes.pop_front();
        }
        writes.push_back(write);
    }

    /// Keeps a write that was done, for a while.
    pub(super) fn done(&self, write: Pending) {
        let mut writes = self.done.lock();
        writes.push_back((Instant::now(), write));
        while writes.len() > MAXIMUM || writes.front().is_some_and(|(at, _)| at.elapsed() > RECENT) {
            writes.pop_front();
        }
    }

    /// Forgets what was done long ago.
    pub(super) fn forget_old(&self) {
        self.done.lock().retain(|(at, _)| at.elapsed() <= RECENT);
    }

    fn first(&self) -> Option<Pending> {
        self.to_do.lock().pop_front()
    }

    fn put_back(&self, write: Pending) {
        self.to_do.lock().push_front(write);
    }
}

impl Shared {
    /// Writes what is pending, until all is done or the server is away again.
    pub(super) async fn write_pending(&self, way: Way<'_>) {
        let mut count = 0;
        while let Some(write) = self.pending.first() {
            if self.write(way, &write).await.is_err() {
                self.pending.put_back(write);
                return;
            }
            count += 1;
        }
        if count > 0 {
            tracing::info!(count, "what was kept while the session store was away is written");
        }
    }

    /// Writes once more what was written of late, for a server that may not have got it.
    pub(super) async fn write_recent(&self, way: Way<'_>) {
        let recent: Vec<(Instant, Pending)> = self.pending.done.lock().drain(..).collect();
        for (at, write) in recent {
            if at.elapsed() <= RECENT {
                // A failure is no worse than not to try.
                let _ = self.write(way, &write).await;
                self.pending.done.lock().push_back((at, write));
            }
        }
    }

    async fn write(&self, way: Way<'_>, write: &Pending) -> Result<(), StoreError> {
        let now = self.clock.now();
        match write {
            Pending::Remove { entry, version } => {
                self.end(way, entry, *version).await?;
            }
            Pending::EndGroup { provider, group, sign_out, end } => {
                self.end_group(way, provider, group, *sign_out, *end).await?;
            }
            Pending::SignOut { provider, group, sign_out, end } => {
                self.note_sign_out(way, provider, group, *sign_out, *end).await?;
            }
            Pending::Renew { key, version, fields } => {
                way.send::<i64>(&scripts::renew(&self.keys, key, *version, fields, now)).await?;
                self.cache.invalidate(key);
            }
        }
        Ok(())
    }

    /// Ends a session at the server.
    pub(super) async fn end(
        &self,
        way: Way<'_>,
        entry: &DirectoryEntry,
        version: Option<u64>,
    ) -> Result<Removed, StoreError> {
        let removed = match way.send::<i64>(&scripts::remove(&self.keys, &entry.key, version)).await? {
            scripts::OVERTAKEN => return Ok(Removed::Not),
            scripts::GONE => Removed::Before,
            _ => Removed::Now,
        };
        self.unindex(way, entry).await?;
        Ok(removed)
    }
}
