//! Who signs in, and how long what they get lives.

use super::{Provider, now, signing};
use parking_lot::Mutex;
use std::time::Duration;

/// As long as in the demo's realm.
const ACCESS_LIFETIME: Duration = Duration::from_secs(60);

pub(super) struct Behaviour {
    settings: Mutex<Settings>,
}

struct Settings {
    user: String,
    next_sid: Option<String>,
    access_token: AccessTokenEnd,
}

#[derive(Clone, Copy)]
enum AccessTokenEnd {
    After(Duration),
    At(u64),
}

impl Default for Behaviour {
    fn default() -> Self {
        let access_token = AccessTokenEnd::After(ACCESS_LIFETIME);
        let settings = Settings { user: "alice".to_owned(), next_sid: None, access_token };
        Self { settings: Mutex::new(settings) }
    }
}

impl Behaviour {
    /// Who signs in now, and the id of the session that begins.
    pub(super) fn sign_in(&self) -> (String, String) {
        let mut settings = self.settings.lock();
        (settings.user.clone(), settings.next_sid.take().unwrap_or_else(signing::random))
    }

    /// When an access token ends that is issued now, in Unix seconds.
    pub(super) fn access_token_end(&self) -> u64 {
        match self.settings.lock().access_token {
            AccessTokenEnd::After(lifetime) => now() + lifetime.as_secs(),
            AccessTokenEnd::At(end) => end,
        }
    }
}

impl Provider {
    /// The `sub` of whoever signs in; `alice` at first.
    pub fn user(&self) -> String {
        self.core.behaviour.settings.lock().user.clone()
    }

    /// From now on another user signs in.
    pub fn sign_in_as(&self, subject: &str) {
        self.core.behaviour.settings.lock().user = subject.to_owned();
    }

    /// The next authorization belongs to the session with this `sid`, which may exist already. Others begin a session
    /// of their own.
    pub fn next_sid(&self, sid: &str) {
        self.core.behaviour.settings.lock().next_sid = Some(sid.to_owned());
    }

    /// How long access tokens live that are issued from now on. A minute at first.
    pub fn access_lifetime(&self, lifetime: Duration) {
        self.core.behaviour.settings.lock().access_token = AccessTokenEnd::After(lifetime);
    }

    /// All access tokens that are issued from now on end in the same Unix second.
    pub fn token_end(&self, unix_seconds: u64) {
        self.core.behaviour.settings.lock().access_token = AccessTokenEnd::At(unix_seconds);
    }
}
