use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use dashmap::{DashMap, mapref::entry::Entry as MapEntry};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{ModelClient, ModelToken, ModelTokenError, obtain::Failure};
use crate::{
    clock::{SharedClock, Timestamp},
    oidc::TokenSet,
    session::{MemoryStore, SessionGroup},
};

/// The longest time between two tries to get a token from a realm that gives none.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The tokens at hand: one for each model client and owner. A client asks for one scope and one audience, so these need
/// not stand in the key.
pub(super) struct Cache {
    entries: DashMap<Key, Arc<Entry>>,
    users: AtomicUsize,
    maximum_of_users: usize,
    tasks: TaskTracker,
    clock: SharedClock,
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The client's own.
    Service,
    /// A user's, by the words of the first realm.
    User { issuer: Arc<str>, sub: String },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    client: Arc<str>,
    owner: Owner,
}

/// One token and what it takes to renew it.
#[derive(Default)]
struct Entry {
    token: ArcSwapOption<ModelToken>,
    /// Held by whoever asks the realm: one at a time.
    attempts: Arc<Mutex<Attempts>>,
}

#[derive(Default)]
struct Attempts {
    failures: u32,
    /// The realm is left alone until then, and whoever asks is told this.
    failure: Option<(Timestamp, Option<ModelTokenError>)>,
}

impl Cache {
    pub(super) fn new(maximum_of_users: usize, tasks: TaskTracker, clock: SharedClock) -> Self {
        Self { entries: DashMap::new(), users: AtomicUsize::new(0), maximum_of_users, tasks, clock }
    }

    /// A token that lives for `min_validity` at least: the one at hand, renewed behind the request when its end is
    /// near, or a new one, for which the request waits no longer than `wait`. However many ask, the realm is asked
    /// once.
    pub(super) async fn token<Obtain, Obtaining>(
        &self,
        client: &Arc<ModelClient>,
        owner: Owner,
        min_validity: Duration,
        wait: Duration,
        obtain: Obtain,
    ) -> Result<Arc<ModelToken>, ModelTokenError>
    where
        Obtain: FnOnce() -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure>> + Send + 'static,
    {
        let entry = self.entry(client, owner)?;
        let needed = |token: &ModelToken| needed(client, token, min_validity);
        if let Some(token) = entry.token.load_full() {
            let life = token.life(self.clock.now());
            if life > needed(&token) {
                if life <= client.settings.lifetimes.ahead.min(token.lifetime / 3)
                    && let Ok(attempts) = Arc::clone(&entry.attempts).try_lock_owned()
                    && attempts.pause(self.clock.now()).is_none()
                {
                    self.tasks.spawn(self.attempt(&entry, attempts, obtain));
                }
                return Ok(token);
            }
            // A new one would live no longer either.
            if min_validity > token.lifetime && life > needed_at_least(client, &token) {
                return Err(ModelTokenError::ValidityTooLong);
            }
        }
        let waited = timeout(wait, self.wait_for(&entry, obtain, needed)).await;
        let token =
            waited.unwrap_or(Err(ModelTokenError::Unavailable { retry_after: Duration::from_secs(1) }))?;
        if token.life(self.clock.now()) > needed(&token) {
            Ok(token)
        } else if min_validity > token.lifetime {
            Err(ModelTokenError::ValidityTooLong)
        } else {
            Err(ModelTokenError::Unavailable { retry_after: Duration::from_secs(1) })
        }
    }

    /// Forgets tokens that have expired, and those of users who have no session any more.
    pub(super) fn remove_unused(&self, sessions: &MemoryStore) {
        let now = self.clock.now();
        self.entries.retain(|key, entry| {
            let Owner::User { issuer, sub } = &key.owner else { return true };
            let group = SessionGroup::Subject { issuer: Arc::clone(issuer), sub: sub.clone() };
            let is_live = entry.token.load().as_ref().is_none_or(|token| now < token.expires_at);
            let is_used = is_live && !sessions.group(&group).is_empty();
            if !is_used {
                self.users.fetch_sub(1, Ordering::AcqRel);
            }
            is_used
        });
    }

    fn entry(&self, client: &Arc<ModelClient>, owner: Owner) -> Result<Arc<Entry>, ModelTokenError> {
        let key = Key { client: Arc::clone(&client.settings.name), owner };
        if let Some(entry) = self.entries.get(&key) {
            return Ok(Arc::clone(&entry));
        }
        let is_user = key.owner != Owner::Service;
        match self.entries.entry(key) {
            MapEntry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            MapEntry::Vacant(place) => {
                if is_user && !self.take_place() {
                    return Err(ModelTokenError::TooManyUsers);
                }
                Ok(Arc::clone(&place.insert(Arc::default())))
            }
        }
    }

    fn take_place(&self) -> bool {
        let maximum = self.maximum_of_users;
        let take = |count| (count < maximum).then_some(count + 1);
        self.users.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    async fn wait_for<Obtain, Obtaining>(
        &self,
        entry: &Arc<Entry>,
        obtain: Obtain,
        needed: impl Fn(&ModelToken) -> Duration,
    ) -> Result<Arc<ModelToken>, ModelTokenError>
    where
        Obtain: FnOnce() -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure>> + Send + 'static,
    {
        let seen = entry.token.load_full();
        let attempts = Arc::clone(&entry.attempts).lock_owned().await;
        let now = self.clock.now();
        if let Some(token) = entry.token.load_full() {
            let is_new = seen.is_none_or(|seen| !Arc::ptr_eq(&seen, &token));
            if is_new || token.life(now) > needed(&token) {
                return Ok(token);
            }
        }
        if let Some(failure) = attempts.pause(now) {
            return Err(failure);
        }
        // In a task of its own: whoever leaves does not undo what the realm has already done.
        let attempt = self.tasks.spawn(self.attempt(entry, attempts, obtain));
        attempt.await.unwrap_or(Err(ModelTokenError::Unavailable { retry_after: Duration::from_secs(1) }))
    }

    fn attempt<Obtain, Obtaining>(
        &self,
        entry: &Arc<Entry>,
        mut attempts: OwnedMutexGuard<Attempts>,
        obtain: Obtain,
    ) -> impl Future<Output = Result<Arc<ModelToken>, ModelTokenError>> + Send + use<Obtain, Obtaining>
    where
        Obtain: FnOnce() -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure>> + Send + 'static,
    {
        let (entry, clock) = (Arc::clone(entry), Arc::clone(&self.clock));
        async move {
            // The life of the token counts from here at the latest; the call may take long.
            let asked_at = clock.now();
            match obtain().await {
                Ok(set) => {
                    let token = Arc::new(ModelToken::new(set, asked_at));
                    entry.token.store(Some(Arc::clone(&token)));
                    *attempts = Attempts::default();
                    Ok(token)
                }
                Err(Failure::Caller(error)) => Err(error),
                Err(Failure::Final(error)) => Err(attempts.note(None, Some(error), clock.now())),
                Err(Failure::Passing(asked_for)) => Err(attempts.note(asked_for, None, clock.now())),
            }
        }
    }
}

/// How much life a token must have to be handed out. One that is short-lived from the start must be of use too.
fn needed_at_least(client: &ModelClient, token: &ModelToken) -> Duration {
    client.settings.lifetimes.least_life.min(token.lifetime / 6)
}

/// The same for whoever asks for more.
fn needed(client: &ModelClient, token: &ModelToken, min_validity: Duration) -> Duration {
    // At least so long, while the comparison is with more than.
    needed_at_least(client, token).max(min_validity.saturating_sub(Duration::from_secs(1)))
}

impl Attempts {
    /// What whoever asks is told while the realm is left alone.
    fn pause(&self, now: Timestamp) -> Option<ModelTokenError> {
        let (until, error) = self.failure.as_ref()?;
        let pause = until.since(now);
        let unavailable = || ModelTokenError::Unavailable { retry_after: pause };
        (!pause.is_zero()).then(|| error.clone().unwrap_or_else(unavailable))
    }

    /// Notes a failure, with the pause that the realm asks for and what whoever asks is told if it is not just to come
    /// back; gives what they are told.
    fn note(
        &mut self,
        asked_for: Option<Duration>,
        error: Option<ModelTokenError>,
        now: Timestamp,
    ) -> ModelTokenError {
        self.failures = self.failures.saturating_add(1);
        let doubled = Duration::from_secs(1 << self.failures.min(5)).min(LONGEST_PAUSE);
        let pause = doubled.max(asked_for.unwrap_or_default().min(LONGEST_PAUSE));
        self.failure = Some((now + pause, error.clone()));
        error.unwrap_or(ModelTokenError::Unavailable { retry_after: pause })
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
