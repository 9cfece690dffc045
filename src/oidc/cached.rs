use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::ProviderError;
use crate::clock::{SharedClock, Timestamp};

/// How long a failure is remembered, so that a thousand requests during an outage are not a thousand fetches.
const FAILURE_LIFETIME: Duration = Duration::from_secs(2);

/// Something that is fetched from the provider and kept for a time of our choosing: Keycloak forbids caching of its
/// discovery document, so its headers are no guide.
///
/// One fetch runs at a time. A copy whose time is up is still served while a new one is fetched behind it, and for as
/// long as the provider is away.
pub(super) struct Cached<T> {
    current: ArcSwapOption<Fetched<T>>,
    attempts: Mutex<Attempts>,
    generation: AtomicU64,
    lifetime: Duration,
    clock: SharedClock,
}

struct Fetched<T> {
    value: Arc<T>,
    at: Timestamp,
}

#[derive(Default)]
struct Attempts {
    /// The latest failure, unless a success came after it.
    failure: Option<(Timestamp, ProviderError)>,
    /// When a fetch was last forced.
    forced_at: Option<Timestamp>,
}

impl Attempts {
    fn recent_failure(&self, now: Timestamp) -> Option<ProviderError> {
        let (at, failure) = self.failure.as_ref()?;
        (now < *at + FAILURE_LIFETIME).then(|| failure.clone())
    }
}

impl<T: Send + Sync + 'static> Cached<T> {
    pub(super) fn new(lifetime: Duration, clock: SharedClock) -> Arc<Self> {
        let (current, attempts) = (ArcSwapOption::empty(), Mutex::default());
        Arc::new(Self { current, attempts, generation: AtomicU64::new(0), lifetime, clock })
    }

    /// How many copies there have been: as long as it stays the same, the present copy does.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The present copy, or the first one.
    pub(super) async fn get<Fetch, Fetching>(self: &Arc<Self>, fetch: Fetch) -> Result<Arc<T>, ProviderError>
    where
        Fetch: FnOnce() -> Fetching + Send + 'static,
        Fetching: Future<Output = Result<T, ProviderError>> + Send + 'static,
    {
        if let Some(fetched) = self.current.load_full() {
            if self.clock.now() >= fetched.at + self.lifetime {
                self.renew_behind(fetch);
            }
            return Ok(Arc::clone(&fetched.value));
        }
        let mut attempts = self.attempts.lock().await;
        if let Some(fetched) = self.current.load_full() {
            return Ok(Arc::clone(&fetched.value));
        }
        match attempts.recent_failure(self.clock.now()) {
            Some(failure) => Err(failure),
            None => self.attempt(&mut attempts, fetch()).await,
        }
    }

    /// Fetches anew because the copy at hand seems to be out of date. When that was done less than `least_interval`
    /// ago, the present copy is all there is.
    ///
    /// # Errors
    /// When the provider cannot be asked, so that nobody takes an old copy for the latest.
    pub(super) async fn renew<Fetching>(
        &self,
        least_interval: Duration,
        fetch: impl FnOnce() -> Fetching,
    ) -> Result<Arc<T>, ProviderError>
    where
        Fetching: Future<Output = Result<T, ProviderError>>,
    {
        let seen = self.current.load_full();
        let mut attempts = self.attempts.lock().await;
        let now = self.clock.now();
        if let Some(failure) = attempts.recent_failure(now) {
            return Err(failure);
        }
        if let Some(current) = self.current.load_full() {
            let was_renewed = seen.is_none_or(|seen| !Arc::ptr_eq(&seen, &current));
            let too_soon = attempts.forced_at.is_some_and(|at| now < at + least_interval);
            if was_renewed || too_soon {
                return Ok(Arc::clone(&current.value));
            }
        }
        let renewed = self.attempt(&mut attempts, fetch()).await;
        if renewed.is_ok() {
            attempts.forced_at = Some(now);
        }
        renewed
    }

    fn renew_behind<Fetch, Fetching>(self: &Arc<Self>, fetch: Fetch)
    where
        Fetch: FnOnce() -> Fetching + Send + 'static,
        Fetching: Future<Output = Result<T, ProviderError>> + Send + 'static,
    {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            // Somebody else is at it already.
            let Ok(mut attempts) = this.attempts.try_lock() else { return };
            let is_fresh = this
                .current
                .load()
                .as_ref()
                .is_some_and(|fetched| this.clock.now() < fetched.at + this.lifetime);
            if !is_fresh && attempts.recent_failure(this.clock.now()).is_none() {
                let _ = this.attempt(&mut attempts, fetch()).await;
            }
        });
    }

    async fn attempt(
        &self,
        attempts: &mut Attempts,
        fetching: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<Arc<T>, ProviderError> {
        let result = fetching.await;
        let at = self.clock.now();
        attempts.failure = result.as_ref().err().map(|error| (at, error.clone()));
        match result {
            Ok(value) => {
                let value = Arc::new(value);
                self.current.store(Some(Arc::new(Fetched { value: Arc::clone(&value), at })));
                self.generation.fetch_add(1, Ordering::AcqRel);
                Ok(value)
            }
            Err(error) => {
                tracing::warn!(%error, "the provider could not be asked");
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::clock::ManualClock;

    const LIFETIME: Duration = Duration::from_secs(600);

    struct Source {
        calls: AtomicUsize,
        fails: std::sync::atomic::AtomicBool,
    }

    impl Source {
        fn new() -> Arc<Self> {
            Arc::new(Self { calls: AtomicUsize::new(0), fails: false.into() })
        }

        async fn fetch(self: Arc<Self>) -> Result<usize, ProviderError> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            if self.fails.load(Ordering::SeqCst) {
                return Err(ProviderError::Invalid("out of order".to_owned()));
            }
            Ok(call)
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::SeqCst)
        }
    }

    fn get(
        cached: &Arc<Cached<usize>>,
        source: &Arc<Source>,
    ) -> impl Future<Output = Result<Arc<usize>, ProviderError>> + Send + 'static {
        let (cached, source) = (Arc::clone(cached), Arc::clone(source));
        async move { cached.get(move || source.fetch()).await }
    }

    #[tokio::test]
    async fn many_first_requests_are_one_fetch() {
        let (cached, source) = (Cached::new(LIFETIME, ManualClock::starting_at(0)), Source::new());
        let tasks: Vec<_> = (0..200).map(|_| tokio::spawn(get(&cached, &source))).collect();
        for task in tasks {
            assert_eq!(*task.await.unwrap().unwrap(), 1);
        }
        assert_eq!(source.calls(), 1);
    }

    #[tokio::test]
    async fn a_stale_copy_is_served_while_a_new_one_is_fetched_and_while_there_is_none() {
        let clock = ManualClock::starting_at(0);
        let (cached, source) = (Cached::new(LIFETIME, clock.clone()), Source::new());
        assert_eq!(*get(&cached, &source).await.unwrap(), 1);
        clock.advance(LIFETIME);
        source.fails.store(true, Ordering::SeqCst);
        for _ in 0..10 {
            assert_eq!(*get(&cached, &source).await.unwrap(), 1);
            tokio::task::yield_now().await;
        }
        assert_eq!(source.calls(), 2, "a failure is remembered for a while");
        clock.advance(FAILURE_LIFETIME);
        source.fails.store(false, Ordering::SeqCst);
        while *get(&cached, &source).await.unwrap() == 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(source.calls(), 3);
    }

    #[tokio::test]
    async fn without_a_copy_a_failure_is_told_and_tried_again_later() {
        let clock = ManualClock::starting_at(0);
        let (cached, source) = (Cached::new(LIFETIME, clock.clone()), Source::new());
        source.fails.store(true, Ordering::SeqCst);
        for _ in 0..10 {
            assert!(get(&cached, &source).await.is_err());
        }
        assert_eq!(source.calls(), 1);
        clock.advance(FAILURE_LIFETIME);
        source.fails.store(false, Ordering::SeqCst);
        assert_eq!(*get(&cached, &source).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_forced_renewal_is_limited_in_rate() {
        let clock = ManualClock::starting_at(0);
        let (cached, source) = (Cached::new(LIFETIME, clock.clone()), Source::new());
        get(&cached, &source).await.unwrap();
        let interval = Duration::from_secs(10);
        let renew = || cached.renew(interval, || Arc::clone(&source).fetch());
        assert_eq!(*renew().await.unwrap(), 2, "the first copy may be older than what is looked for");
        assert_eq!(*renew().await.unwrap(), 2);
        clock.advance(interval);
        assert_eq!(*renew().await.unwrap(), 3);
        source.fails.store(true, Ordering::SeqCst);
        clock.advance(interval);
        assert!(renew().await.is_err() && renew().await.is_err());
        assert_eq!(source.calls(), 4, "a failure is remembered, and never taken for an answer");
    }
}
