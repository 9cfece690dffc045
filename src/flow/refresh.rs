use std::{sync::Arc, time::Duration};

use dashmap::{DashMap, mapref::entry::Entry};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::{
    bulkhead::{Bulkhead, Turn, Urgency},
    refresh_outcome::{Consequence, consequence, pause},
    revocation::revoke,
    token_building,
};
use crate::{
    clock::SharedClock,
    crypto::SharedRandom,
    oidc::{IdTokenError, Provider, SignatureError, TokenError, TokenSet},
    policy::Frontend,
    session::{MemoryStore, Session, SessionKey, Tokens},
};

/// When tokens are renewed.
#[derive(Clone, Copy, Debug)]
pub struct RefreshSettings {
    /// A token with less life than this is renewed in the background; never earlier than when a third of its life is
    /// left.
    pub ahead: Duration,
    /// A token with less life than this is not sent upstream any more.
    pub least_life: Duration,
    /// How long a request waits for a renewal at most. Less than the proxy waits for the check.
    pub wait: Duration,
}

impl RefreshSettings {
    /// Whether the access token can still be sent upstream.
    pub(super) fn is_usable(&self, tokens: &Tokens, now: crate::clock::Timestamp) -> bool {
        // Tokens that are short-lived from the start must be usable too, and leave time to be renewed before.
        let least_life = self.least_life.min(tokens.access_lifetime / 6);
        tokens.access_expires_at.since(now) > least_life
    }

    /// Whether it is time to renew the access token.
    pub(super) fn is_due(&self, tokens: &Tokens, now: crate::clock::Timestamp) -> bool {
        tokens.access_expires_at.since(now) <= self.ahead.min(tokens.access_lifetime / 3)
    }
}

/// How a refresh ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There are new tokens.
    Refreshed,
    /// The session is over.
    Ended,
    /// The session stays as it was.
    Failed,
}

/// What begins or joins a refresh.
pub(super) enum Begun {
    /// One is under way.
    Running(watch::Receiver<Option<Outcome>>),
    /// The tokens were renewed since the caller looked.
    AlreadyDone,
    /// The provider is to be left alone for so long.
    Paused(Duration),
}

/// Renews tokens: once per session however many requests ask, in tasks of their own, so that a caller that leaves
/// does not lose what the provider has already exchanged.
pub struct Refresher {
    running: DashMap<SessionKey, Running>,
    /// By the name of the provider.
    bulkheads: DashMap<Arc<str>, Arc<Bulkhead>>,
    sessions: Arc<MemoryStore>,
    /// When to renew.
    pub settings: RefreshSettings,
    /// The tasks under way; the program waits for them before it ends.
    pub tasks: TaskTracker,
    random: SharedRandom,
    clock: SharedClock,
}

/// A refresh that waits for its turn or calls the provider.
struct Running {
    outcome: watch::Receiver<Option<Outcome>>,
    bulkhead: Arc<Bulkhead>,
    turn: Turn,
}

/// One session to be refreshed.
pub(super) struct Subject {
    pub(super) key: SessionKey,
    pub(super) session: Arc<Session>,
    pub(super) frontend: Arc<Frontend>,
    pub(super) provider: Arc<Provider>,
}

impl Refresher {
    /// A refresher for the sessions of `sessions`.
    pub fn new(
        sessions: Arc<MemoryStore>,
        settings: RefreshSettings,
        tasks: TaskTracker,
        random: SharedRandom,
        clock: SharedClock,
    ) -> Self {
        Self { running: DashMap::new(), bulkheads: DashMap::new(), sessions, settings, tasks, random, clock }
    }

    /// Begins to renew the tokens that the caller saw, or joins whoever did already.
    pub(super) fn begin(self: &Arc<Self>, subject: Subject, seen: &Arc<Tokens>, urgency: Urgency) -> Begun {
        let place = match self.running.entry(subject.key) {
            Entry::Occupied(running) => {
                let Running { outcome, bulkhead, turn } = running.get();
                if urgency == Urgency::WaitedFor {
                    bulkhead.hurry(*turn);
                }
                return Begun::Running(outcome.clone());
            }
            Entry::Vacant(place) => place,
        };
        // Under the lock of the entry: a refresh that ended since the caller looked has stored its tokens by now.
        if !Arc::ptr_eq(&subject.session.tokens(), seen) {
            return Begun::AlreadyDone;
        }
        let pause = subject.session.refresh_pause().until.since(self.clock.now());
        if !pause.is_zero() {
            return Begun::Paused(pause);
        }
        let (sender, receiver) = watch::channel(None);
        let bulkhead = self.bulkhead(&subject.provider);
        let (turn, permit) = bulkhead.queue_up(urgency);
        place.insert(Running { outcome: receiver.clone(), bulkhead, turn });
        let this = Arc::clone(self);
        let seen = Arc::clone(seen);
        self.tasks.spawn(async move {
            // Also when the refresh panics: then the sender is dropped without an outcome, and waiters see that.
            let place = Place { refresher: &this, key: subject.key };
            let outcome = match permit.await {
                Ok(_permit) => this.run(&subject, &seen).await,
                Err(_) => Outcome::Failed,
            };
            drop(place);
            let _ = sender.send(Some(outcome));
        });
        Begun::Running(receiver)
    }

    fn bulkhead(&self, provider: &Provider) -> Arc<Bulkhead> {
        let settings = provider.settings();
        if let Some(bulkhead) = self.bulkheads.get(&settings.name) {
            return Arc::clone(&bulkhead);
        }
        let bulkhead = self.bulkheads.entry(Arc::clone(&settings.name));
        Arc::clone(&bulkhead.or_insert_with(|| Bulkhead::new(settings.concurrent_refreshes)))
    }

    async fn run(&self, subject: &Subject, seen: &Tokens) -> Outcome {
        // Signed out while it waited for its turn.
        if !self.sessions.holds(&subject.key, &subject.session) {
            return Outcome::Ended;
        }
        let Some(refresh_token) = &seen.refresh_token else { return Outcome::Failed };
        // The lives of the tokens count from here at the latest; the call may take long.
        let asked_at = self.clock.now();
        let set = match subject.provider.refresh(refresh_token).await {
            Ok(set) => set,
            Err(error) => return self.failed(subject, &error),
        };
        match self.verify(subject, seen, &set).await {
            Ok(claims) => {
                let tokens = token_building::at_refresh(&subject.frontend, set, claims, seen, asked_at);
                let outcome = self.store(subject, tokens);
                subject.session.refresh_succeeded();
                outcome
            }
            Err(error) => {
                match self.store(subject, token_building::with_refresh_token_only(set, seen, asked_at)) {
                    Outcome::Ended => Outcome::Ended,
                    _ => self.failed(subject, &TokenError::Unreadable(error.to_string())),
                }
            }
        }
    }

    /// Verifies the new ID token, if there is one.
    async fn verify(
        &self,
        subject: &Subject,
        seen: &Tokens,
        set: &TokenSet,
    ) -> Result<Option<Map<String, Value>>, IdTokenError> {
        let Some(id_token) = &set.id_token else { return Ok(None) };
        let access_token = set.access_token.expose_secret();
        match subject.provider.verify_refreshed(id_token, &seen.id_claims, access_token).await {
            Ok(claims) => Ok(Some(claims)),
            // Without the key there is nothing against the token either. The rest of the answer came from the token
            // endpoint itself (OpenID Connect Core section 3.1.3.7, number 6); the last ID token stays.
            Err(IdTokenError::Signature(SignatureError::NoKeys(_) | SignatureError::UnknownKey)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, subject: &Subject, tokens: Tokens) -> Outcome {
        subject.session.replace_tokens(tokens);
        // Looked at afterwards, so that a logout that comes in between is seen.
        if self.sessions.holds(&subject.key, &subject.session) {
            return Outcome::Refreshed;
        }
        // Signed out meanwhile: the session does not come back, and its new refresh token is of no use to anyone.
        let sessions = Arc::clone(&self.sessions);
        let (provider, session) = (Arc::clone(&subject.provider), Arc::clone(&subject.session));
        self.tasks.spawn(async move { revoke(&sessions, &provider, &session).await });
        Outcome::Ended
    }

    fn failed(&self, subject: &Subject, error: &TokenError) -> Outcome {
        let provider = &*subject.provider.settings().name;
        let session = &subject.session;
        let consequence = consequence(error);
        match consequence {
            Consequence::Ended => {
                tracing::info!(provider, session = session.handle, %error, "the provider ended the session");
                self.sessions.remove(&subject.key);
                return Outcome::Ended;
            }
            Consequence::AccountDisabled => {
                if !session.is_account_disabled() {
                    tracing::info!(provider, session = session.handle, "the account is disabled");
                }
                session.disable_account();
            }
            Consequence::Kept => match error {
                TokenError::Configuration { .. } | TokenError::Proof(_) => {
                    let client = subject.provider.settings().client_id.as_str();
                    tracing::error!(provider, client, %error, "refresh failed");
                }
                _ => tracing::warn!(provider, session = session.handle, %error, "refresh failed"),
            },
        }
        let jitter = self.random.bytes::<1>().map_or(0, |[byte]| byte);
        session.pause_refresh(self.clock.now(), |failures| {
            pause(consequence, failures, error.retry_after(), jitter)
        });
        Outcome::Failed
    }
}

/// The place of a refresh among those that run; it is free again when this is dropped.
struct Place<'a> {
    refresher: &'a Refresher,
    key: SessionKey,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.refresher.running.remove(&self.key);
    }
}
