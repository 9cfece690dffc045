use std::time::Duration;

use serde_json::Value;

use super::{
    ClaimError, ProviderSettings, SignatureError,
    claims::{Claims, check_common, text, time},
    signature::SignedClaims,
};
use crate::clock::Timestamp;

/// The event that makes a token a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4).
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How old a logout token may be. Keycloak's end two minutes after they were issued.
const MAXIMUM_AGE: Duration = Duration::from_secs(300);

/// A logout token is not one that this client may act on (OpenID Connect Back-Channel Logout 1.0 section 2.6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogoutTokenError {
    /// Its signature does not prove it.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// It is a token of another kind, by its header.
    #[error("the type of the token is not that of a logout token")]
    Type,
    /// A claim is missing or wrong, or has no business there.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// It was issued too long ago.
    #[error("the token was issued too long ago")]
    TooOld,
}

/// A logout token that was verified.
// No Debug outside tests: a `sid` is not for logs.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub struct LogoutToken {
    /// Whom it signs out.
    pub signs_out: SignsOut,
    /// Its id, by which a second use is seen.
    pub id: String,
    /// When the provider issued it.
    pub issued_at: Timestamp,
    /// From when on it would be refused anyway.
    pub ends_at: Timestamp,
}

/// Whom a logout token signs out.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub enum SignsOut {
    /// One session at the provider (claim `sid`), whoever's it is.
    ProviderSession(String),
    /// Every session of one person (claim `sub`), since no `sid` is given.
    Subject(String),
}

/// Checks the claims of a logout token whose signature was verified. The numbers are those of section 2.6.
pub(super) fn check_logout(
    token: &SignedClaims,
    settings: &ProviderSettings,
    now: Timestamp,
) -> Result<LogoutToken, LogoutTokenError> {
    // Section 2.4 recommends `logout+jwt`; older providers write `JWT`, or nothing.
    let kind = token.kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
    if !kind.is_none_or(|kind| kind.eq_ignore_ascii_case("logout+jwt") || kind.eq_ignore_ascii_case("jwt")) {
        return Err(LogoutTokenError::Type);
    }
    let claims = &token.claims;
    // 3.
    check_common(claims, settings, now)?;
    let issued_at = time(claims, "iat")?.ok_or(ClaimError::Wrong("iat"))?;
    let expires_at = time(claims, "exp")?.ok_or(ClaimError::Wrong("exp"))?;
    let too_old_at = issued_at + MAXIMUM_AGE + settings.clock_skew;
    if now >= too_old_at {
        return Err(LogoutTokenError::TooOld);
    }
    // 4.
    let (sid, sub) = (identifier(claims, "sid")?, identifier(claims, "sub")?);
    let signs_out = match (sid, sub) {
        (Some(sid), _) => SignsOut::ProviderSession(sid),
        (None, Some(sub)) => SignsOut::Subject(sub),
        (None, None) => return Err(ClaimError::Wrong("sid").into()),
    };
    // 5.
    let event = claims.get("events").and_then(|events| events.get(LOGOUT_EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(ClaimError::Wrong("events").into());
    }
    // 6. It keeps an ID token from being taken for a logout token.
    if claims.contains_key("nonce") {
        return Err(ClaimError::Wrong("nonce").into());
    }
    let id = identifier(claims, "jti")?.ok_or(ClaimError::Wrong("jti"))?;
    let ends_at = (expires_at + settings.clock_skew).min(too_old_at);
    Ok(LogoutToken { signs_out, id, issued_at, ends_at })
}

/// A claim that names something: a text with something in it, if it is there at all.
fn identifier(claims: &Claims, name: &'static str) -> Result<Option<String>, ClaimError> {
    match (claims.get(name), text(claims, name)) {
        (None, _) => Ok(None),
        (Some(_), Some(text)) if !text.is_empty() => Ok(Some(text.to_owned())),
        _ => Err(ClaimError::Wrong(name)),
    }
}

#[cfg(test)]
#[path = "logout_token_tests.rs"]
mod tests;
