use redis::Value;

use crate::{
    crypto::{KeyRing, base64url, from_base64url},
    session::{Once, SessionGroup, SessionKey},
};

/// The names of all keys. Those of one session have one hash tag, so that a cluster keeps them at one place and a script
/// may touch them together.
#[derive(Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// What the keys of all sessions begin with, and no other key: the server tells of every change under it.
    pub(super) fn sessions_prefix(&self) -> String {
        format!("{}s:", self.prefix)
    }

    /// A session: a hash of its version, its directory entry, its tokens, and what is known of failed refreshes.
    pub(super) fn session(&self, key: &SessionKey) -> String {
        format!("{}s:{{{}}}", self.prefix, base64url(key.as_bytes()))
    }

    /// The session that a key of [`Keys::session`] names.
    pub(super) fn session_of(&self, key: &Value) -> Option<SessionKey> {
        let key = match key {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::SimpleString(text) => text,
            _ => return None,
        };
        let key = key.strip_prefix(&self.prefix)?.strip_prefix("s:{")?.strip_suffix('}')?;
        SessionKey::from_bytes(&from_base64url(key)?)
    }

    /// When a session was last used. Beside the session, so that nobody has to read a session again because it was used.
    pub(super) fn last_used(&self, key: &SessionKey) -> String {
        format!("{}u:{{{}}}", self.prefix, base64url(key.as_bytes()))
    }

    /// Who refreshes a session.
    pub(super) fn lease(&self, key: &SessionKey) -> String {
        format!("{}l:{{{}}}", self.prefix, base64url(key.as_bytes()))
    }

    /// The sessions of a group under each key of the ring, newest first.
    pub(super) fn group(&self, ring: &KeyRing, group: &SessionGroup) -> Vec<String> {
        let (kind, issuer, value) = match group {
            SessionGroup::ProviderSession { issuer, sid } => ("sid", issuer, sid),
            SessionGroup::Subject { issuer, sub } => ("sub", issuer, sub),
        };
        // An issuer is a URL and holds no line break.
        let name = format!("{kind}\n{issuer}\n{value}");
        ring.names(name.as_bytes()).map(|name| format!("{}i:{}", self.prefix, base64url(&name))).collect()
    }

    /// The latest sign-out of a group at a provider under each key of the ring, newest first.
    pub(super) fn sign_out(&self, ring: &KeyRing, provider: &str, group: &SessionGroup) -> Vec<String> {
        let name = crate::session::sign_out::sign_out_key(provider, group);
        ring.names(&name).map(|name| format!("{}o:{}", self.prefix, base64url(&name))).collect()
    }

    /// Something that may be used once.
    pub(super) fn once(&self, what: Once) -> String {
        match what {
            Once::Transaction(hash) => format!("{}t:{}", self.prefix, base64url(&hash)),
            Once::LogoutToken(hash) => format!("{}j:{}", self.prefix, base64url(&hash)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::SystemRandom, session::SessionId};

    #[test]
    fn a_change_names_its_session() {
        let keys = Keys::new("bff:{x}:");
        let key = SessionId::random(&SystemRandom).unwrap().key();
        let name = keys.session(&key);
        assert!(name.starts_with(&keys.sessions_prefix()));
        assert!(keys.session_of(&Value::BulkString(name.into_bytes())) == Some(key));
        for stranger in [keys.lease(&key), "bff:{x}:s:{short}".to_owned(), String::new()] {
            assert!(
                keys.session_of(&Value::BulkString(stranger.clone().into_bytes())).is_none(),
                "{stranger}"
            );
        }
    }
}
