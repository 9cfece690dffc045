use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{RedisStore, Shared, scripts};
use crate::session::{SessionId, SessionKey, StoreError};

/// For how long a lease holds if its holder says nothing more. A holder that died keeps the others from refreshing for no
/// longer than this.
const LEASE: Duration = Duration::from_secs(5);

/// How often a holder says that it still needs it.
const EXTENSION: Duration = Duration::from_millis(1500);

/// The right to refresh a session, kept up until it is dropped. It is no proof: the version of the session decides who may
/// write.
pub struct RedisLease {
    _end: DropGuard,
}

impl RedisStore {
    /// See [`crate::session::SessionStore::lease`]; `None` if the session was changed or is over.
    pub(in crate::session) async fn lease(
        &self,
        id: &SessionId,
        version: u64,
    ) -> Result<Option<RedisLease>, StoreError> {
        let (shared, key) = (&self.shared, id.key());
        let holder = shared.random.token().map_err(|_| StoreError::Away("no randomness"))?;
        let take = scripts::lease(&shared.keys, &key, version, &holder, LEASE);
        let watch = shared.cache.watch(key);
        loop {
            // Before the question, so that a change right after the answer is not missed.
            let mut changed = pin!(watch.notify.notified());
            changed.as_mut().enable();
            match shared.way().send::<i64>(&take).await? {
                scripts::LEASE_TAKEN => return Ok(Some(shared.hold(key, holder))),
                scripts::LEASE_OVERTAKEN => {
                    // The word of the change may be behind this answer.
                    shared.cache.invalidate(&key);
                    return Ok(None);
                }
                left => {
                    // Whoever has it tells of the result by a change of the session. If it died, its time runs out.
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                    let _ = timeout(left + Duration::from_millis(20), changed).await;
                }
            }
        }
    }
}

impl Shared {
    /// Keeps a lease until the result is dropped, then gives it back.
    fn hold(self: &Arc<Self>, key: SessionKey, holder: String) -> RedisLease {
        let end = CancellationToken::new();
        let (shared, ended) = (Arc::clone(self), end.clone());
        tokio::spawn(async move {
            while ended.run_until_cancelled(sleep(EXTENSION)).await.is_some() {
                shared.keep_lease(&key, &holder, Some(LEASE)).await;
            }
            shared.keep_lease(&key, &holder, None).await;
        });
        RedisLease { _end: end.drop_guard() }
    }

    async fn keep_lease(&self, key: &SessionKey, holder: &str, keep: Option<Duration>) {
        // Without the server the lease runs out by itself.
        let _ = self.way().send::<i64>(&scripts::keep_lease(&self.keys, key, holder, keep)).await;
    }
}
