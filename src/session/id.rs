use std::fmt;

use crate::crypto::{Random, RandomError, base64url, from_base64url, sha256};

const LENGTH: usize = 32;

/// The secret that the session cookie holds: 256 bits from the operating system, opaque, never shown or stored.
#[derive(Clone)]
pub struct SessionId {
    secret: [u8; LENGTH],
    key: SessionKey,
}

/// What a session is stored under: the SHA-256 digest of its id, so that a copy of the store is no way in.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionId {
    fn new(secret: [u8; LENGTH]) -> Self {
        Self { secret, key: SessionKey(sha256(&secret)) }
    }

    /// A new id.
    ///
    /// # Errors
    /// [`RandomError`] when there is no randomness to make it of.
    pub fn random(random: &dyn Random) -> Result<Self, RandomError> {
        Ok(Self::new(random.bytes()?))
    }

    /// Reads a cookie's value; `None` for anything that [`SessionId::cookie_value`] would not have written.
    pub fn parse(cookie_value: &str) -> Option<Self> {
        // Four base64 characters hold three bytes: 43 characters hold 32 bytes.
        if cookie_value.len() != 43 {
            return None;
        }
        from_base64url(cookie_value)?.try_into().ok().map(Self::new)
    }

    /// The value of the session cookie.
    pub fn cookie_value(&self) -> String {
        base64url(&self.secret)
    }

    /// The id itself, as a part of the key under which its session is sealed.
    pub(super) fn secret(&self) -> &[u8; LENGTH] {
        &self.secret
    }

    /// What the session is stored under.
    pub fn key(&self) -> SessionKey {
        self.key
    }
}

impl SessionKey {
    /// The key as it is written in a store.
    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads what [`SessionKey::as_bytes`] gave.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(redacted)")
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn an_id_survives_its_cookie() {
        let id = SessionId::random(&SystemRandom).unwrap();
        assert!(SessionId::parse(&id.cookie_value()).unwrap().key() == id.key());
    }

    #[test]
    fn garbage_is_no_id() {
        for garbage in ["", "x", "!!!!", &"a".repeat(42), &"a".repeat(44), &"ä".repeat(43), &"=".repeat(43)]
        {
            assert!(SessionId::parse(garbage).is_none(), "{garbage}");
        }
    }
}
