use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{
    clock::Timestamp,
    oidc::{TokenSet, unverified_claims},
};

/// What the value of `Authorization` starts with (RFC 6750 section 2.1).
const SCHEME: &str = "Bearer ";

/// An access token that is kept.
pub struct CachedToken {
    /// The value of `Authorization`, made once.
    authorization: SecretString,
    /// What gets the next one without the grant that got this one, if the provider gave it, and when that ends.
    refresh: Option<(SecretString, Option<Timestamp>)>,
    /// When it was asked for.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How long it lived when it was issued.
    pub lifetime: Duration,
    /// Its scopes, if the provider says so.
    pub scope: Option<String>,
    /// Its claim `aud`; null if it is no JWT or has none.
    pub audience: Value,
}

impl CachedToken {
    /// The token of an answer to a request made at `asked_at`. `previous` is the one that it takes the place of: its
    /// refresh token stays where the answer brings none (RFC 6749 section 6).
    pub(super) fn new(set: TokenSet, previous: Option<&Self>, asked_at: Timestamp) -> Self {
        let access_token = set.access_token.expose_secret();
        let mut claims = unverified_claims(access_token).unwrap_or_default();
        let lifetime = set.access_lifetime(&claims, asked_at);
        let refresh_end = set.refresh_end(asked_at);
        let refresh = set.refresh_token.map(|token| (token, refresh_end));
        Self {
            authorization: format!("{SCHEME}{access_token}").into(),
            refresh: refresh.or_else(|| previous.and_then(|previous| previous.refresh.clone())),
            obtained_at: asked_at,
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

    /// The refresh token that came with it, while that lives.
    pub(super) fn refresh_token(&self, now: Timestamp) -> Option<SecretString> {
        let (token, end) = self.refresh.as_ref()?;
        end.is_none_or(|end| now < end).then(|| token.clone())
    }
}

impl fmt::Debug for CachedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
