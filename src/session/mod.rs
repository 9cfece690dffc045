//! A signed-in user's session, its id and the store that holds it. Nothing here speaks HTTP, gRPC or OpenID Connect:
//! other rooms fill a session and read it.

mod group;
mod id;
mod memory;
mod remembered;
mod tokens;

pub use group::SessionGroup;
pub use id::{SessionId, SessionKey};
pub use memory::{MemoryStore, StoreFull};
pub use remembered::{Full, Remembered, Use};
pub use tokens::{Tokens, UpstreamHeaders};

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::clock::Timestamp;

/// How long sessions live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// A session ends when it was not used for so long.
    pub idle: Duration,
    /// A session ends so long after its login, however much it is used.
    pub absolute: Duration,
}

/// One user's signed-in session at one frontend.
///
/// What never changes stands in plain fields; what a request or a refresh changes can be read without a lock.
pub struct Session {
    /// Names the session where its id must not be shown: in logs, dynamic metadata, lists. It opens nothing.
    pub handle: String,
    /// The frontend that it belongs to; no other accepts it.
    pub frontend: Arc<str>,
    /// The name of the provider where the user signed in: an issuer and a client at it.
    pub provider: Arc<str>,
    /// The provider's issuer.
    pub issuer: Arc<str>,
    /// The user's `sub` at the issuer.
    pub subject: String,
    /// The issuer's own session (claim `sid`), if it names one.
    pub provider_session: Option<String>,
    /// When the login ended.
    pub created_at: Timestamp,
    lifetimes: Lifetimes,
    last_used: AtomicU64,
    tokens: ArcSwap<Tokens>,
    account_disabled: AtomicBool,
    refresh_pause: Mutex<RefreshPause>,
}

/// How long to leave the provider alone after refreshes that failed.
#[derive(Clone, Copy, Debug, Default)]
pub struct RefreshPause {
    /// No refresh is begun before this moment.
    pub until: Timestamp,
    /// Failures in a row.
    pub failures: u32,
}

/// What a session is made of at login.
pub struct NewSession {
    /// See [`Session::handle`].
    pub handle: String,
    /// See [`Session::frontend`].
    pub frontend: Arc<str>,
    /// See [`Session::provider`].
    pub provider: Arc<str>,
    /// See [`Session::issuer`].
    pub issuer: Arc<str>,
    /// See [`Session::subject`].
    pub subject: String,
    /// See [`Session::provider_session`].
    pub provider_session: Option<String>,
    /// The tokens that the login brought.
    pub tokens: Tokens,
    /// How long it may live.
    pub lifetimes: Lifetimes,
}

impl Session {
    /// A session that begins at `now`.
    pub fn new(new: NewSession, now: Timestamp) -> Self {
        Self {
            handle: new.handle,
            frontend: new.frontend,
            provider: new.provider,
            issuer: new.issuer,
            subject: new.subject,
            provider_session: new.provider_session,
            created_at: now,
            lifetimes: new.lifetimes,
            last_used: AtomicU64::new(now.as_unix()),
            tokens: ArcSwap::from_pointee(new.tokens),
            account_disabled: AtomicBool::new(false),
            refresh_pause: Mutex::default(),
        }
    }

    /// The present tokens.
    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.load_full()
    }

    /// Puts new tokens in the place of the old ones, all at once.
    pub fn replace_tokens(&self, tokens: Tokens) {
        self.tokens.store(Arc::new(tokens));
    }

    /// Forgets earlier refresh failures.
    pub fn refresh_succeeded(&self) {
        *self.refresh_pause.lock() = RefreshPause::default();
        self.account_disabled.store(false, Ordering::Release);
    }

    /// Notes that a request used the session, which starts the idle time anew.
    pub fn touch(&self, now: Timestamp) {
        self.last_used.fetch_max(now.as_unix(), Ordering::Relaxed);
    }

    /// When it was last used, or began.
    pub fn last_used_at(&self) -> Timestamp {
        Timestamp::from_unix(self.last_used.load(Ordering::Relaxed))
    }

    /// The groups that it belongs to.
    pub fn groups(&self) -> impl Iterator<Item = SessionGroup> + use<'_> {
        self.provider_session_group().into_iter().chain([self.subject_group()])
    }

    /// The group of all sessions of the same person.
    pub fn subject_group(&self) -> SessionGroup {
        SessionGroup::Subject { issuer: Arc::clone(&self.issuer), sub: self.subject.clone() }
    }

    /// The group of all sessions of the same session at the provider, if it names one.
    pub fn provider_session_group(&self) -> Option<SessionGroup> {
        let sid = self.provider_session.clone()?;
        Some(SessionGroup::ProviderSession { issuer: Arc::clone(&self.issuer), sid })
    }

    /// When the session ends if it is not used again: the idle time, or the end of what keeps it going (the refresh
    /// token, or the access token where there is nothing to refresh it with), whichever comes first.
    pub fn expires_at(&self) -> Timestamp {
        let idle_end = (self.last_used_at() + self.lifetimes.idle).min(self.login_expires_at());
        let tokens = self.tokens.load();
        match (&tokens.refresh_token, tokens.refresh_expires_at) {
            (Some(_), Some(end)) => idle_end.min(end),
            (Some(_), None) => idle_end,
            (None, _) => idle_end.min(tokens.access_expires_at),
        }
    }

    /// When the session ends however much it is used.
    pub fn login_expires_at(&self) -> Timestamp {
        self.created_at + self.lifetimes.absolute
    }

    /// Whether the session has ended by itself.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }

    /// Whether the provider said that the account is disabled: nothing is let through until it says otherwise.
    pub fn is_account_disabled(&self) -> bool {
        self.account_disabled.load(Ordering::Acquire)
    }

    /// Notes the provider's word that the account is disabled.
    pub fn disable_account(&self) {
        self.account_disabled.store(true, Ordering::Release);
    }

    /// How long the provider is to be left alone.
    pub fn refresh_pause(&self) -> RefreshPause {
        *self.refresh_pause.lock()
    }

    /// Notes another failed refresh; `pause` is given the number of failures in a row and says how long to wait.
    pub fn pause_refresh(&self, now: Timestamp, pause: impl FnOnce(u32) -> Duration) {
        let mut current = self.refresh_pause.lock();
        let failures = current.failures.saturating_add(1);
        *current = RefreshPause { until: now + pause(failures), failures };
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handle", &self.handle)
            .field("frontend", &self.frontend)
            .finish_non_exhaustive()
    }
}
