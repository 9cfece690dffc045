use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{Renderer, scripts::Fields};
use crate::{
    clock::Timestamp,
    crypto::{KeyRing, OpenError, Purpose, Random, SealError},
    session::{
        DirectoryEntry, Lifetimes, NewSession, RefreshPause, Session, SessionId, SessionKey, StoreError,
        Tokens,
    },
};

/// The form of what is sealed. Another one gets another number, and this one is still read.
const VERSION: u8 = 1;

/// What the directory knows of a session, sealed under the ring alone.
#[derive(Serialize, Deserialize)]
struct Directory {
    #[serde(rename = "h")]
    handle: String,
    #[serde(rename = "f")]
    frontend: String,
    #[serde(rename = "p")]
    provider: String,
    #[serde(rename = "i")]
    issuer: String,
    #[serde(rename = "s")]
    subject: String,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    provider_session: Option<String>,
    #[serde(rename = "c")]
    created_at: u64,
    #[serde(rename = "l")]
    idle: u64,
    #[serde(rename = "a")]
    absolute: u64,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    refresh_expires_at: Option<u64>,
    #[serde(rename = "k")]
    id_token: String,
    #[serde(rename = "e")]
    access_expires_at: u64,
}

/// What requests need, sealed under the session's id as well.
#[derive(Serialize, Deserialize)]
struct Access {
    #[serde(rename = "a")]
    access_token: String,
    #[serde(rename = "l")]
    access_lifetime: u64,
    #[serde(rename = "c")]
    id_claims: Map<String, serde_json::Value>,
}

/// A session as the server holds it.
pub(super) struct Stored {
    pub(super) version: u64,
    directory: Vec<u8>,
    access: Vec<u8>,
    failures: String,
    last_used: Timestamp,
}

/// The names of a session's fields, in the order in which they are read.
pub(super) const FIELDS: [&str; 4] = ["v", "d", "t", "f"];

/// A session's fields as they are read.
pub(super) type Hash = (Option<u64>, Option<Vec<u8>>, Option<Vec<u8>>, Option<String>);

impl Stored {
    /// The session of these answers, if it is there.
    pub(super) fn read((version, directory, access, failures): Hash, last_use: Option<u64>) -> Option<Self> {
        Some(Self {
            version: version?,
            directory: directory?,
            access: access?,
            failures: failures?,
            // Its key goes when the session was not used for too long.
            last_used: Timestamp::from_unix(last_use?),
        })
    }
}

/// A session that was read and opened.
pub(super) struct Loaded {
    new: NewSession,
    created_at: Timestamp,
    pub(super) last_used: Timestamp,
    pub(super) version: u64,
    failures: Failures,
}

struct Failures {
    is_account_disabled: bool,
    pause: RefreshPause,
}

impl Failures {
    fn of(session: &Session) -> Self {
        Self { is_account_disabled: session.is_account_disabled(), pause: session.refresh_pause() }
    }

    fn to_text(&self) -> String {
        let disabled = u8::from(self.is_account_disabled);
        format!("{}:{}:{disabled}", self.pause.until.as_unix(), self.pause.failures)
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let until = Timestamp::from_unix(parts.next()?.parse().ok()?);
        let failures = parts.next()?.parse().ok()?;
        Some(Self { is_account_disabled: parts.next()? == "1", pause: RefreshPause { until, failures } })
    }
}

/// Seals and opens sessions.
pub(super) struct Records<'a> {
    pub(super) ring: &'a KeyRing,
    pub(super) render: &'a Renderer,
}

impl Records<'_> {
    /// The fields of a session with these tokens.
    pub(super) fn fields(
        &self,
        random: &dyn Random,
        id: &SessionId,
        session: &Session,
        tokens: &Tokens,
    ) -> Result<Fields, StoreError> {
        let directory = Directory {
            handle: session.handle.clone(),
            frontend: session.frontend.to_string(),
            provider: session.provider.to_string(),
            issuer: session.issuer.to_string(),
            subject: session.subject.clone(),
            provider_session: session.provider_session.clone(),
            created_at: session.created_at.as_unix(),
            idle: session.lifetimes.idle.as_secs(),
            absolute: session.lifetimes.absolute.as_secs(),
            refresh_token: tokens.refresh_token.as_ref().map(|token| token.expose_secret().to_owned()),
            refresh_expires_at: tokens.refresh_expires_at.map(Timestamp::as_unix),
            id_token: tokens.id_token.expose_secret().to_owned(),
            access_expires_at: tokens.access_expires_at.as_unix(),
        };
        let access = Access {
            access_token: tokens.upstream.access_token().to_owned(),
            access_lifetime: tokens.access_lifetime.as_secs(),
            id_claims: tokens.id_claims.clone(),
        };
        let place = id.key();
        let (place, secret) = (place.as_bytes(), id.secret());
        let seal = |purpose, secret: &[u8], plaintext: Option<Vec<u8>>| {
            let plaintext = plaintext.ok_or(StoreError::Away("a session cannot be written"))?;
            let sealed: Result<Vec<u8>, SealError> =
                self.ring.seal_bytes(random, purpose, place, secret, &plaintext);
            sealed.map_err(|_| StoreError::Away("a session cannot be sealed"))
        };
        Ok(Fields {
            directory: seal(Purpose::SessionDirectory, &[], encode(&directory))?,
            access: seal(Purpose::SessionTokens, secret, encode(&access))?,
            failures: Failures::of(session).to_text(),
            ends_at: session.latest_end(tokens),
        })
    }

    /// What the session knows of failed refreshes.
    pub(super) fn failures(session: &Session) -> String {
        Failures::of(session).to_text()
    }

    /// A session whose id is known; `None` if it is none that this program and this configuration can read.
    pub(super) fn open(&self, id: &SessionId, stored: Stored) -> Option<Loaded> {
        let place = id.key();
        let directory: Directory = self.directory(&place, &stored)?;
        let access =
            self.ring.open_bytes(Purpose::SessionTokens, place.as_bytes(), id.secret(), &stored.access);
        let access: Access = decode(access)?;
        let rendered = (self.render)(&directory.frontend, &access.access_token, &access.id_claims)?;
        let tokens = Tokens {
            access_expires_at: Timestamp::from_unix(directory.access_expires_at),
            access_lifetime: Duration::from_secs(access.access_lifetime),
            refresh_token: directory.refresh_token.map(SecretString::from),
            refresh_expires_at: directory.refresh_expires_at.map(Timestamp::from_unix),
            id_token: directory.id_token.into(),
            id_claims: access.id_claims,
            access_claims: rendered.access_claims,
            upstream: rendered.upstream,
        };
        Some(Loaded {
            new: NewSession {
                handle: directory.handle,
                frontend: directory.frontend.into(),
                provider: directory.provider.into(),
                issuer: directory.issuer.into(),
                subject: directory.subject,
                provider_session: directory.provider_session,
                tokens,
                lifetimes: Lifetimes {
                    idle: Duration::from_secs(directory.idle),
                    absolute: Duration::from_secs(directory.absolute),
                },
            },
            created_at: Timestamp::from_unix(directory.created_at),
            last_used: stored.last_used,
            version: stored.version,
            failures: Failures::from_text(&stored.failures)?,
        })
    }

    /// The directory entry of a session whose id nobody needs to know; `None` if it cannot be read or has ended.
    /// `slack` is how much later than the server knows it may have been used.
    pub(super) fn entry(
        &self,
        key: SessionKey,
        stored: &Stored,
        now: Timestamp,
        slack: Duration,
    ) -> Option<DirectoryEntry> {
        let directory = self.directory(&key, stored)?;
        let refresh_end = directory.refresh_expires_at.map(Timestamp::from_unix);
        let created_at = Timestamp::from_unix(directory.created_at);
        let idle_end = stored.last_used + Duration::from_secs(directory.idle);
        let end = created_at + Duration::from_secs(directory.absolute);
        let end = match (&directory.refresh_token, refresh_end) {
            (Some(_), Some(refresh_end)) => end.min(refresh_end),
            (Some(_), None) => end,
            (None, _) => end.min(Timestamp::from_unix(directory.access_expires_at)),
        };
        if now >= end || now >= idle_end + slack {
            return None;
        }
        Some(DirectoryEntry {
            key,
            handle: directory.handle,
            frontend: directory.frontend.into(),
            provider: directory.provider.into(),
            issuer: directory.issuer.into(),
            subject: directory.subject,
            provider_session: directory.provider_session,
            created_at,
            last_used_at: stored.last_used,
            expires_at: end.min(idle_end),
            is_account_disabled: Failures::from_text(&stored.failures)?.is_account_disabled,
            refresh_token: directory.refresh_token.map(SecretString::from),
            id_token: directory.id_token.into(),
        })
    }

    fn directory(&self, key: &SessionKey, stored: &Stored) -> Option<Directory> {
        let purpose = Purpose::SessionDirectory;
        decode(self.ring.open_bytes(purpose, key.as_bytes(), &[], &stored.directory))
    }
}

impl Loaded {
    /// The session as an object of its own.
    pub(super) fn session(&self) -> Arc<Session> {
        let new = NewSession {
            handle: self.new.handle.clone(),
            frontend: Arc::clone(&self.new.frontend),
            provider: Arc::clone(&self.new.provider),
            issuer: Arc::clone(&self.new.issuer),
            subject: self.new.subject.clone(),
            provider_session: self.new.provider_session.clone(),
            tokens: self.new.tokens.clone(),
            lifetimes: self.new.lifetimes,
        };
        let session = Session::new(new, self.created_at);
        session.touch(self.last_used);
        session.set_failures(self.failures.pause, self.failures.is_account_disabled);
        session.set_version(self.version);
        Arc::new(session)
    }

    /// Puts what changes in a session's life into an older copy of it.
    pub(super) fn put_into(self, session: &Session) {
        session.set_failures(self.failures.pause, self.failures.is_account_disabled);
        session.replace_tokens(self.new.tokens, self.version);
    }
}

fn encode(value: &impl Serialize) -> Option<Vec<u8>> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, value).ok()?;
    Some(bytes)
}

fn decode<T: for<'de> Deserialize<'de>>(opened: Result<Vec<u8>, OpenError>) -> Option<T> {
    let opened = opened.ok()?;
    let (&version, json) = opened.split_first()?;
    if version != VERSION {
        return None;
    }
    serde_json::from_slice(json).ok()
}
