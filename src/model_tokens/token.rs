use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{
    clock::Timestamp,
    oidc::{TokenSet, unverified_claims},
};

/// What the value of `Authorization` starts with.
const SCHEME: &str = "Bearer ";

/// An access token of the second realm.
pub struct ModelToken {
    /// The value of `Authorization`, made once.
    authorization: SecretString,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How long it lived when it was issued.
    pub lifetime: Duration,
    /// Its scopes, if the realm says so.
    pub scope: Option<String>,
    /// Its claim `aud`; null if it is no JWT or has none.
    pub audience: Value,
}

impl ModelToken {
    /// The token of an answer to a request made at `asked_at`.
    pub(super) fn new(set: TokenSet, asked_at: Timestamp) -> Self {
        let access_token = set.access_token.expose_secret();
        let mut claims = unverified_claims(access_token).unwrap_or_default();
        let lifetime = set.access_lifetime(&claims, asked_at);
        Self {
            authorization: format!("{SCHEME}{access_token}").into(),
            expires_at: asked_at + lifetime,
            lifetime,
            scope: set.scope,
            audience: claims.remove("aud").unwrap_or_default(),
        }
    }

    /// The value of `Authorization` that carries it.
    pub fn authorization(&self) -> &str {
        self.authorization.expose_secret()
    }

    /// The token itself.
    pub fn access_token(&self) -> &str {
        self.authorization().strip_prefix(SCHEME).unwrap_or_default()
    }

    /// How long it lives from `now` on.
    pub fn life(&self, now: Timestamp) -> Duration {
        self.expires_at.since(now)
    }
}

impl fmt::Debug for ModelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
