use std::{future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use secrecy::SecretString;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::timeout_at,
};
use tokio_util::task::TaskTracker;

use super::CachedToken;
use crate::{
    clock::{Patience, SharedClock, Timestamp},
    oidc::{TokenError, TokenSet, TransportError},
};

/// The longest time between two tries to get a token that is not given.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// When a caller is told to come back that could wait no longer.
const SOON: Duration = Duration::from_secs(1);

/// When tokens are renewed.
#[derive(Clone, Copy, Debug)]
pub struct Renewal {
    /// A token with less life than this is renewed in the background; never earlier than when a third of its life is
    /// left.
    pub ahead: Duration,
    /// A token with less life than this is not handed out.
    pub least_life: Duration,
}

/// What a caller needs of a token.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// When it is renewed.
    pub renewal: Renewal,
    /// How long it has to live at least.
    pub min_validity: Duration,
    /// A token that was got before this is not for this caller: it belonged to a sign-in that is over.
    pub since: Timestamp,
    /// How long the caller waits.
    pub patience: &'a Patience,
}

/// A token could not be got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<Refusal> {
    /// It is of no use to ask again soon: the answer for whoever asks.
    Final(Refusal),
    /// What this caller brought is not good; nobody else is held back by it.
    Caller(Refusal),
    /// The provider may be asked again after a pause, or after this.
    Passing(Option<Duration>),
    /// The provider was not asked, and is not to be asked for so long.
    Held(Duration),
}

impl<Refusal> From<&TokenError> for Failure<Refusal> {
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::Unavailable(TransportError::Held { pause }) => Self::Held(*pause),
            error => Self::Passing(error.retry_after()),
        }
    }
}

/// There is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoToken<Refusal> {
    /// None is given.
    Refused(Refusal),
    /// None lives as long as is asked for.
    TooShort,
    /// More tokens are asked for than may be kept.
    Full,
    /// None is to be had at the moment.
    Unavailable {
        /// When it is worth trying again.
        retry_after: Duration,
    },
}

/// One token and what it takes to renew it.
pub(super) struct Slot<Refusal> {
    token: ArcSwapOption<CachedToken>,
    /// Held by whoever asks the provider: one at a time.
    attempts: Arc<Mutex<Attempts<Refusal>>>,
}

struct Attempts<Refusal> {
    failures: u32,
    /// The provider is left alone until then, and whoever asks is told this.
    failure: Option<(Timestamp, Option<Refusal>)>,
}

impl<Refusal> Default for Slot<Refusal> {
    fn default() -> Self {
        let attempts = Attempts { failures: 0, failure: None };
        Self { token: ArcSwapOption::empty(), attempts: Arc::new(Mutex::new(attempts)) }
    }
}

impl<Refusal: Clone + Send + Sync + 'static> Slot<Refusal> {
    /// Whether it is of no use to anyone: its token is over and nobody is getting another.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let is_over = self.token.load().as_ref().is_none_or(|token| now >= token.expires_at);
        is_over && self.attempts.try_lock().is_ok_and(|attempts| attempts.pause(now).is_none())
    }

    /// A token that lives long enough: the one at hand, renewed behind the request when its end is near, or a new one,
    /// for which the request waits. `obtain` is given the refresh token that came with the last one, if it is good yet.
    pub(super) async fn token<Obtain, Obtaining>(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        (tasks, clock): (&TaskTracker, &SharedClock),
        obtain: Obtain,
    ) -> Result<Arc<CachedToken>, NoToken<Refusal>>
    where
        Obtain: FnOnce(Option<SecretString>) -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure<Refusal>>> + Send + 'static,
    {
        if let Some(token) = self.token_for(&wanted) {
            let now = clock.now();
            let life = token.life(now);
            if life > wanted.needed(&token) {
                if life <= wanted.renewal.ahead.min(token.lifetime / 3)
                    && let Ok(attempts) = Arc::clone(&self.attempts).try_lock_owned()
                    && attempts.pause(now).is_none()
                {
                    tasks.spawn(self.attempt(attempts, Some(token.clone()), clock, obtain));
                }
                return Ok(token);
            }
            // A new one would live no longer either.
            if wanted.min_validity > token.lifetime && life > wanted.least_life(&token) {
                return Err(NoToken::TooShort);
            }
        }
        let new = self.wait_for(&wanted, tasks, clock, obtain);
        let waited = timeout_at(wanted.patience.deadline(), new).await;
        let token = waited.unwrap_or(Err(NoToken::Unavailable { retry_after: SOON }))?;
        if token.life(clock.now()) > wanted.needed(&token) {
            Ok(token)
        } else if wanted.min_validity > token.lifetime {
            Err(NoToken::TooShort)
        } else {
            Err(NoToken::Unavailable { retry_after: SOON })
        }
    }

    /// The token at hand, if it may be this caller's.
    fn token_for(&self, wanted: &Wanted<'_>) -> Option<Arc<CachedToken>> {
        self.token.load_full().filter(|token| token.obtained_at >= wanted.since)
    }

    async fn wait_for<Obtain, Obtaining>(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        tasks: &TaskTracker,
        clock: &SharedClock,
        obtain: Obtain,
    ) -> Result<Arc<CachedToken>, NoToken<Refusal>>
    where
        Obtain: FnOnce(Option<SecretString>) -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure<Refusal>>> + Send + 'static,
    {
        let seen = self.token_for(wanted);
        let attempts = Arc::clone(&self.attempts).lock_owned().await;
        let now = clock.now();
        let at_hand = self.token_for(wanted);
        if let Some(token) = &at_hand {
            let is_new = seen.is_none_or(|seen| !Arc::ptr_eq(&seen, token));
            if is_new || token.life(now) > wanted.needed(token) {
                return Ok(Arc::clone(token));
            }
        }
        if let Some(failure) = attempts.pause(now) {
            return Err(failure);
        }
        // In a task of its own: whoever leaves does not undo what the provider has already done.
        let attempt = tasks.spawn(self.attempt(attempts, at_hand, clock, obtain));
        attempt.await.unwrap_or(Err(NoToken::Unavailable { retry_after: SOON }))
    }

    fn attempt<Obtain, Obtaining>(
        self: &Arc<Self>,
        mut attempts: OwnedMutexGuard<Attempts<Refusal>>,
        previous: Option<Arc<CachedToken>>,
        clock: &SharedClock,
        obtain: Obtain,
    ) -> impl Future<Output = Result<Arc<CachedToken>, NoToken<Refusal>>> + Send + use<Obtain, Obtaining, Refusal>
    where
        Obtain: FnOnce(Option<SecretString>) -> Obtaining + Send + 'static,
        Obtaining: Future<Output = Result<TokenSet, Failure<Refusal>>> + Send + 'static,
    {
        let (slot, clock) = (Arc::clone(self), Arc::clone(clock));
        async move {
            // The life of the token counts from here at the latest; the call may take long.
            let asked_at = clock.now();
            let refresh_token = previous.as_ref().and_then(|previous| previous.refresh_token(asked_at));
            match obtain(refresh_token).await {
                Ok(set) => {
                    let token = Arc::new(CachedToken::new(set, previous.as_deref(), asked_at));
                    slot.token.store(Some(Arc::clone(&token)));
                    *attempts = Attempts { failures: 0, failure: None };
                    Ok(token)
                }
                Err(failure) => Err(attempts.note(failure, clock.now())),
            }
        }
    }
}

impl Wanted<'_> {
    /// How much life a token must have to be handed out. One that is short-lived from the start must be of use too.
    fn least_life(&self, token: &CachedToken) -> Duration {
        self.renewal.least_life.min(token.lifetime / 6)
    }

    /// The same for whoever asks for more: it must live longer than this.
    fn needed(&self, token: &CachedToken) -> Duration {
        // At least so long, while the comparison is with more than.
        self.least_life(token).max(self.min_validity.saturating_sub(Duration::from_secs(1)))
    }
}

impl<Refusal: Clone> Attempts<Refusal> {
    /// What whoever asks is told while the provider is left alone.
    fn pause(&self, now: Timestamp) -> Option<NoToken<Refusal>> {
        let (until, refusal) = self.failure.as_ref()?;
        let retry_after = until.since(now);
        let told = || refusal.clone().map_or(NoToken::Unavailable { retry_after }, NoToken::Refused);
        (!retry_after.is_zero()).then(told)
    }

    /// Notes a failure; gives what whoever asks is told.
    fn note(&mut self, failure: Failure<Refusal>, now: Timestamp) -> NoToken<Refusal> {
        let (asked_for, refusal) = match failure {
            Failure::Caller(refusal) => return NoToken::Refused(refusal),
            Failure::Held(pause) => {
                self.failure = Some((now + pause, None));
                return NoToken::Unavailable { retry_after: pause };
            }
            Failure::Final(refusal) => (None, Some(refusal)),
            Failure::Passing(asked_for) => (asked_for, None),
        };
        self.failures = self.failures.saturating_add(1);
        let doubled = Duration::from_secs(1 << self.failures.min(5)).min(LONGEST_PAUSE);
        let retry_after = doubled.max(asked_for.unwrap_or_default().min(LONGEST_PAUSE));
        self.failure = Some((now + retry_after, refusal.clone()));
        refusal.map_or(NoToken::Unavailable { retry_after }, NoToken::Refused)
    }
}
