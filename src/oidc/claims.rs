use std::time::Duration;

use serde_json::{Map, Value};

use super::ProviderSettings;
use crate::{clock::Timestamp, crypto::from_base64url};

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// A claim that every signed token of the provider must hold is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It is missing or wrong.
    #[error("claim {0} is missing or wrong")]
    Wrong(&'static str),
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
}

/// Checks what ID tokens and logout tokens have in common: issuer, audience and times. The numbers are those of OpenID
/// Connect Core section 3.1.3.7.
pub(super) fn check_common(
    claims: &Claims,
    settings: &ProviderSettings,
    now: Timestamp,
) -> Result<(), ClaimError> {
    // 2.
    if text(claims, "iss") != Some(&*settings.issuer) {
        return Err(ClaimError::Wrong("iss"));
    }
    // 3 to 5.
    let audiences = audiences(claims);
    let is_trusted = |audience: &&str| {
        *audience == settings.client_id || settings.trusted_audiences.iter().any(|t| t == audience)
    };
    if !audiences.contains(&settings.client_id.as_str()) || !audiences.iter().all(is_trusted) {
        return Err(ClaimError::Wrong("aud"));
    }
    check_times(claims, settings.clock_skew, now)
}

/// Checks the times of a token.
pub(super) fn check_times(claims: &Claims, skew: Duration, now: Timestamp) -> Result<(), ClaimError> {
    // 9.
    let expires_at = time(claims, "exp")?.ok_or(ClaimError::Wrong("exp"))?;
    if now >= expires_at + skew {
        return Err(ClaimError::Expired);
    }
    // 10. A token from the future means that one of the two clocks is wrong.
    let issued_at = time(claims, "iat")?.ok_or(ClaimError::Wrong("iat"))?;
    if issued_at > now + skew {
        return Err(ClaimError::Wrong("iat"));
    }
    if time(claims, "nbf")?.is_some_and(|not_before| not_before > now + skew) {
        return Err(ClaimError::Wrong("nbf"));
    }
    Ok(())
}

pub(super) fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// `aud` as a list; it may be one text (RFC 7519 section 4.1.3). A list that holds anything but texts is none.
pub fn audiences(claims: &Claims) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::String(audience)) => vec![audience],
        Some(Value::Array(audiences)) => {
            audiences.iter().map(Value::as_str).collect::<Option<Vec<&str>>>().unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// A NumericDate, which may have a fraction (RFC 7519 section 2). Absent is `None`; negative, not finite or beyond
/// what a clock will ever show is an error.
pub(super) fn time(claims: &Claims, name: &'static str) -> Result<Option<Timestamp>, ClaimError> {
    const LAST: f64 = 253_402_300_799.0; // the end of the year 9999
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if (0.0..=LAST).contains(&seconds) => {
                Ok(Some(Timestamp::from_unix(seconds as u64)))
            }
            _ => Err(ClaimError::Wrong(name)),
        },
    }
}

/// The claims of a token whose signature nobody has verified; `None` if it is no JWT. Good for what is verified later,
/// or for what came straight from the token endpoint.
pub fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
    let payload = from_base64url(token.split('.').nth(1)?)?;
    serde_json::from_slice(&payload).ok()
}
