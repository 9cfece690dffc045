//! A signed-in user's session, its id and the store that holds it. Nothing here speaks HTTP, gRPC or OpenID Connect:
//! other rooms fill a session and read it.

mod directory_entry;
mod group;
mod id;
mod memory;
pub mod redis;
mod remembered;
mod sign_out;
mod store;
mod tokens;

#[cfg(test)]
mod contract_tests;

pub use directory_entry::DirectoryEntry;
pub use group::SessionGroup;
pub use id::{SessionId, SessionKey};
pub use memory::MemoryStore;
pub use remembered::{Full, Remembered, Use};
pub use sign_out::SignOut;
pub use store::{Lease, Leased, Once, Renewed, SessionStore, StoreError};
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
    version: AtomicU64,
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
            version: AtomicU64::new(1),
            account_disabled: AtomicBool::new(false),
            refresh_pause: Mutex::default(),
        }
    }

    /// The present tokens.
    pub fn tokens(&self) -> Arc<Tokens> {
        self.tokens.load_full()
    }

    /// Counts the changes that every replica must know of. Whoever reads it before the tokens has tokens of this version
    /// or a later one.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn set_version(&self, version: u64) {
        self.version.store(version, Ordering::Release);
    }

    fn set_failures(&self, pause: RefreshPause, is_account_disabled: bool) {
        *self.refresh_pause.lock() = pause;
        self.account_disabled.store(is_account_disabled, Ordering::Release);
    }

    /// Puts new tokens in the place of the old ones, all at once, as the given version of the session.
    fn replace_tokens(&self, tokens: Tokens, version: u64) {
        self.tokens.store(Arc::new(tokens));
        self.version.store(version, Ordering::Release);
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

    /// What a store's directory says of it, if it is stored under this key.
    pub fn directory_entry(&self, key: SessionKey) -> DirectoryEntry {
        let tokens = self.tokens.load();
        DirectoryEntry {
            key,
            handle: self.handle.clone(),
            frontend: Arc::clone(&self.frontend),
            provider: Arc::clone(&self.provider),
            issuer: Arc::clone(&self.issuer),
            subject: self.subject.clone(),
            provider_session: self.provider_session.clone(),
            created_at: self.created_at,
            last_used_at: self.last_used_at(),
            expires_at: self.expires_at(),
            is_account_disabled: self.is_account_disabled(),
            refresh_token: tokens.refresh_token.clone(),
            id_token: tokens.id_token.clone(),
        }
    }

    /// When the session ends if it is not used again: the idle time, or the end of what keeps it going (the refresh
    /// token, or the access token where there is nothing to refresh it with), whichever comes first.
    pub fn expires_at(&self) -> Timestamp {
        (self.last_used_at() + self.lifetimes.idle).min(self.latest_end(&self.tokens.load()))
    }

    /// When the session ends with these tokens, however much it is used.
    fn latest_end(&self, tokens: &Tokens) -> Timestamp {
        let end = self.login_expires_at();
        match (&tokens.refresh_token, tokens.refresh_expires_at) {
            (Some(_), Some(refresh_end)) => end.min(refresh_end),
            (Some(_), None) => end,
            (None, _) => end.min(tokens.access_expires_at),
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
