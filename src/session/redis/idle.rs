use std::{sync::atomic::Ordering, time::Duration};

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

use super::{Shared, scripts};
use crate::clock::Timestamp;

/// How much later than the server knows a session may have been used.
pub(super) const SLACK: Duration = Duration::from_secs(2 * 60);

/// How often the uses of one session are written at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often it is looked what is to be written.
const ROUND: Duration = Duration::from_secs(5);

/// How many are written at once.
const BATCH: usize = 256;

impl Shared {
    /// Tells the server from time to time which sessions were used, off the way of the requests that use them.
    pub(super) async fn note_uses(&self) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if self.servers.away_for().is_zero() {
                self.write_pending(self.way()).await;
                self.write_uses(false).await;
            }
            self.pending.forget_old();
        }
    }

    /// Writes the uses that are due, or all that the server does not know of.
    pub(super) async fn write_uses(&self, all: bool) {
        let now = self.clock.now();
        let due = self.cache.iter().filter_map(|(key, copy)| {
            let known = Timestamp::from_unix(copy.use_known.load(Ordering::Acquire));
            let used = copy.session.last_used_at();
            // Where sessions end soon, more often.
            let interval = INTERVAL.min(copy.session.lifetimes.idle / 4);
            (used > known && (all || now.since(known) >= interval)).then_some((key, copy, used))
        });
        let due: Vec<_> = due.collect();
        for batch in due.chunks(BATCH) {
            let writes = batch.iter().map(async |(key, copy, used)| {
                let keep = copy.session.lifetimes.idle + SLACK;
                let write = scripts::touch(&self.keys, key, *used, keep);
                if self.way().send::<i64>(&write).await.is_ok() {
                    copy.use_known.fetch_max(used.as_unix(), Ordering::AcqRel);
                }
            });
            join_all(writes).await;
        }
    }
}
