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
    session::{DirectoryEntry, Leased, Renewed, Session, SessionId, SessionKey, SessionStore, Tokens},
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
    sessions: Arc<SessionStore>,
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

/// The tokens that are to be renewed.
struct Seen {
    tokens: Arc<Tokens>,
    version: u64,
}

/// One session to be refreshed.
pub(super) struct Subject {
    pub(super) id: SessionId,
    pub(super) session: Arc<Session>,
    pub(super) frontend: Arc<Frontend>,
    pub(super) provider: Arc<Provider>,
}

impl Refresher {
    /// A refresher for the sessions of `sessions`.
    pub fn new(
        sessions: Arc<SessionStore>,
        settings: RefreshSettings,
        tasks: TaskTracker,
        random: SharedRandom,
        clock: SharedClock,
    ) -> Self {
        Self { running: DashMap::new(), bulkheads: DashMap::new(), sessions, settings, tasks, random, clock }
    }

    /// Begins to renew the tokens that the caller saw, or joins whoever did already.
    pub(super) fn begin(self: &Arc<Self>, subject: Subject, seen: &Arc<Tokens>, urgency: Urgency) -> Begun {
        let key = subject.id.key();
        let place = match self.running.entry(key) {
            Entry::Occupied(running) => {
                let Running { outcome, bulkhead, turn } = running.get();
                if urgency == Urgency::WaitedFor {
                    bulkhead.hurry(*turn);
                }
                return Begun::Running(outcome.clone());
            }
            Entry::Vacant(place) => place,
        };
        // Before the tokens are looked at, so that those are never older than the version says.
        let version = subject.session.version();
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
        let seen = Seen { tokens: Arc::clone(seen), version };
        self.tasks.spawn(async move {
            // Also when the refresh panics: then the sender is dropped without an outcome, and waiters see that.
            let place = Place { refresher: &this, key };
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

    async fn run(&self, subject: &Subject, seen: &Seen) -> Outcome {
        let Some(refresh_token) = &seen.tokens.refresh_token else { return Outcome::Failed };
        // Held until all is done: no other replica asks the provider meanwhile.
        let _lease = match self.sessions.lease(&subject.id, seen.version).await {
            Ok(Leased::Held(lease)) => lease,
            // Signed out while it waited for its turn, or another replica was first.
            Ok(Leased::Overtaken) => return self.look_again(subject, seen).await,
            Err(_) => return Outcome::Failed,
        };
        // The lives of the tokens count from here at the latest; the call may take long.
        let asked_at = self.clock.now();
        let set = match subject.provider.refresh(refresh_token).await {
            Ok(set) => set,
            Err(error) => return self.failed(subject, seen.version, &error).await,
        };
        match self.verify(subject, &seen.tokens, &set).await {
            Ok(claims) => {
                let tokens =
                    token_building::at_refresh(&subject.frontend, set, claims, &seen.tokens, asked_at);
                subject.session.refresh_succeeded();
                self.store(subject, seen, tokens).await
            }
            Err(error) => {
                let tokens = token_building::with_refresh_token_only(set, &seen.tokens, asked_at);
                match self.store(subject, seen, tokens).await {
                    Outcome::Ended => Outcome::Ended,
                    _ => {
                        let error = TokenError::Unreadable(error.to_string());
                        self.failed(subject, seen.version + 1, &error).await
                    }
                }
            }
        }
    }

    /// What became of a session that was changed by somebody else.
    async fn look_again(&self, subject: &Subject, seen: &Seen) -> Outcome {
        match self.sessions.get(&subject.id).await {
            Ok(None) => Outcome::Ended,
            Ok(Some(session)) if !Arc::ptr_eq(&session.tokens(), &seen.tokens) => Outcome::Refreshed,
            Ok(Some(_)) | Err(_) => Outcome::Failed,
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

    async fn store(&self, subject: &Subject, seen: &Seen, tokens: Tokens) -> Outcome {
        let Subject { id, session, provider, .. } = subject;
        let refresh_token = tokens.refresh_token.clone();
        match self.sessions.renew(id, session, seen.version, tokens).await {
            Ok(Renewed::Stored) => Outcome::Refreshed,
            // This lease was lost on the way; the tokens of whoever took it are the ones that count.
            Ok(Renewed::Overtaken) => self.look_again(subject, seen).await,
            Ok(Renewed::Gone) => {
                // Signed out meanwhile: the session does not come back, and its new refresh token is of no use to anyone.
                let ended = DirectoryEntry { refresh_token, ..session.directory_entry(id.key()) };
                let (sessions, provider) = (Arc::clone(&self.sessions), Arc::clone(provider));
                self.tasks.spawn(async move { revoke(&sessions, &provider, &ended).await });
                Outcome::Ended
            }
            Err(error) => {
                let frontend = &*session.frontend;
                tracing::warn!(frontend, session = session.handle, %error, "new tokens are stored later");
                Outcome::Refreshed
            }
        }
    }

    async fn failed(&self, subject: &Subject, version: u64, error: &TokenError) -> Outcome {
        let provider = &*subject.provider.settings().name;
        let session = &subject.session;
        let consequence = consequence(error);
        match consequence {
            Consequence::Ended => {
                tracing::info!(provider, session = session.handle, %error, "the provider ended the session");
                return self.end(subject, version).await;
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
        // Without it other replicas ask the provider themselves, which costs a call.
        let _ = self.sessions.share_failure(&subject.id, session, version).await;
        Outcome::Failed
    }

    /// Ends a session on the provider's word about the tokens of this version.
    async fn end(&self, subject: &Subject, version: u64) -> Outcome {
        let entry = subject.session.directory_entry(subject.id.key());
        match self.sessions.remove_seen(&entry, version).await {
            Ok(true) => Outcome::Ended,
            // It has newer tokens, of which the provider has said nothing.
            Ok(false) => Outcome::Refreshed,
            Err(_) => Outcome::Ended,
        }
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
