use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use dashmap::{DashMap, mapref::entry::Entry};
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::{CachedToken, Failure, NoToken, Wanted, slot::Slot};
use crate::{clock::SharedClock, oidc::TokenSet};

/// The tokens at hand, each for one purpose of one owner.
pub struct TokenCache<Refusal> {
    slots: DashMap<TokenKey, Arc<Slot<Refusal>>>,
    /// How many of them are people's.
    count: AtomicUsize,
    maximum: usize,
    last_sweep: AtomicU64,
    tasks: TaskTracker,
    clock: SharedClock,
}

/// What a token is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// What it is for: whatever decides how it is got, other than its owner. Scope and audience must follow from it.
    pub purpose: Arc<str>,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The client's own.
    Client,
    /// A user's, by the words of the realm where the user signs in.
    User {
        /// The realm's issuer.
        issuer: Arc<str>,
        /// The user's `sub` there.
        subject: String,
    },
    /// One session's, by its handle.
    Session(String),
}

impl<Refusal: Clone + Send + Sync + 'static> TokenCache<Refusal> {
    /// Keeps tokens of at most `maximum` owners other than clients.
    pub fn new(maximum: usize, tasks: TaskTracker, clock: SharedClock) -> Self {
        let (count, last_sweep) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { slots: DashMap::new(), count, maximum, last_sweep, tasks, clock }
    }

    /// A token that lives long enough: the one at hand, renewed behind the request when its end is near, or a new one,
    /// for which the request waits. However many ask, `obtain` is called once; it is given the refresh token that came
    /// with the last one, if it is good yet.
    ///
    /// # Errors
    /// [`NoToken`] says why there is none.
    pub async fn token<Obtain, Obtaining>(
        &self,
        key: TokenKey,
        wanted: Wanted<'_>,
        obtain: Obtain,
    ) -> Result<Arc<CachedToken>, NoToken<Refusal>>
    where
        Obtain: FnOnce(Option<SecretString>) -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure<Refusal>>> + Send + 'static,
    {
        let slot = self.slot(key).ok_or(NoToken::Full)?;
        slot.token(wanted, (&self.tasks, &self.clock), obtain).await
    }

    /// Forgets what is over.
    pub fn remove_expired(&self) {
        let now = self.clock.now();
        self.slots.retain(|key, slot| {
            let stays = key.owner == Owner::Client || !slot.is_over(now);
            if !stays {
                self.count.fetch_sub(1, Ordering::AcqRel);
            }
            stays
        });
    }

    fn slot(&self, key: TokenKey) -> Option<Arc<Slot<Refusal>>> {
        if let Some(slot) = self.slots.get(&key) {
            return Some(Arc::clone(&slot));
        }
        let has_place =
            key.owner == Owner::Client || self.take_place() || (self.make_room() && self.take_place());
        if !has_place {
            return None;
        }
        match self.slots.entry(key) {
            Entry::Occupied(entry) => {
                // Somebody else was faster.
                if entry.key().owner != Owner::Client {
                    self.count.fetch_sub(1, Ordering::AcqRel);
                }
                Some(Arc::clone(entry.get()))
            }
            Entry::Vacant(place) => Some(Arc::clone(&place.insert(Arc::default()))),
        }
    }

    fn take_place(&self) -> bool {
        let maximum = self.maximum;
        let take = |count| (count < maximum).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Forgets what is over; not more than once a second, so that whoever fills the cache does not make every request
    /// search through it.
    fn make_room(&self) -> bool {
        let now = self.clock.now().as_unix();
        let is_due = self.last_sweep.fetch_max(now, Ordering::AcqRel) < now;
        if is_due {
            self.remove_expired();
        }
        is_due
    }

    #[cfg(test)]
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
