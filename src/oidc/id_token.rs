use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::{Map, Value};

use super::{Algorithm, ProviderSettings, SignatureError, signature::SignedClaims};
use crate::{
    clock::Timestamp,
    crypto::{base64url, equal_in_constant_time},
};

/// An ID token is not one that this client may believe (OpenID Connect Core section 3.1.3.7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// The answer holds none.
    #[error("there is no ID token")]
    Missing,
    /// Its signature does not prove it.
    #[error("the ID token is {0}")]
    Signature(#[from] SignatureError),
    /// A claim is missing or wrong.
    #[error("claim {0} of the ID token is missing or wrong")]
    Claim(&'static str),
    /// It has expired.
    #[error("the ID token has expired")]
    Expired,
    /// It belongs to an older sign-in than the one that was asked for.
    #[error("the user did not sign in anew")]
    NotSignedInAnew,
}

/// What the ID token of a login must hold besides what every ID token must.
#[derive(Clone, Copy)]
pub struct LoginExpectation<'a> {
    /// The nonce of the login transaction.
    pub nonce: &'a str,
    /// The access token that came with it.
    pub access_token: &'a str,
    /// If the user was asked to sign in anew: when that was.
    pub signed_in_since: Option<Timestamp>,
}

/// Checks the ID token of a login. The numbers are those of OpenID Connect Core section 3.1.3.7.
pub(super) fn check_login(
    token: &SignedClaims,
    settings: &ProviderSettings,
    expected: &LoginExpectation<'_>,
    now: Timestamp,
) -> Result<(), IdTokenError> {
    check_common(&token.claims, settings, now)?;
    // 11.
    let nonce = text(&token.claims, "nonce").ok_or(IdTokenError::Claim("nonce"))?;
    if !equal_in_constant_time(nonce, expected.nonce) {
        return Err(IdTokenError::Claim("nonce"));
    }
    // 13, with the moment at which we asked in the place of max_age.
    if let Some(since) = expected.signed_in_since {
        let signed_in_at = time(&token.claims, "auth_time")?.ok_or(IdTokenError::Claim("auth_time"))?;
        if signed_in_at + settings.clock_skew < since {
            return Err(IdTokenError::NotSignedInAnew);
        }
    }
    check_access_token_hash(token, expected.access_token)
}

/// Checks the ID token of a refresh against the one before it (OpenID Connect Core section 12.2).
pub(super) fn check_refreshed(
    token: &SignedClaims,
    settings: &ProviderSettings,
    previous: &Map<String, Value>,
    access_token: &str,
    now: Timestamp,
) -> Result<(), IdTokenError> {
    check_common(&token.claims, settings, now)?;
    for claim in ["sub", "azp"] {
        if let Some(before) = previous.get(claim)
            && token.claims.get(claim).is_some_and(|after| after != before)
        {
            return Err(IdTokenError::Claim(claim));
        }
    }
    // The standard wants the time of the original sign-in. Keycloak gives that of the latest one, which moves when the
    // user signs in anew at another of its clients. What never happens is that it goes back.
    if let (Some(before), Some(after)) = (time(previous, "auth_time")?, time(&token.claims, "auth_time")?)
        && after < before
    {
        return Err(IdTokenError::Claim("auth_time"));
    }
    // Keycloak leaves the nonce out; where there is one it must be the login's.
    if let Some(nonce) = token.claims.get("nonce")
        && Some(nonce) != previous.get("nonce")
    {
        return Err(IdTokenError::Claim("nonce"));
    }
    check_access_token_hash(token, access_token)
}

fn check_common(
    claims: &Map<String, Value>,
    settings: &ProviderSettings,
    now: Timestamp,
) -> Result<(), IdTokenError> {
    // 2.
    if text(claims, "iss") != Some(settings.issuer.as_str()) {
        return Err(IdTokenError::Claim("iss"));
    }
    // 3 to 5.
    let audiences = audiences(claims);
    let is_trusted = |audience: &&str| {
        *audience == settings.client_id || settings.trusted_audiences.iter().any(|t| t == audience)
    };
    if !audiences.contains(&settings.client_id.as_str()) || !audiences.iter().all(is_trusted) {
        return Err(IdTokenError::Claim("aud"));
    }
    let authorized_party = claims.get("azp");
    if (audiences.len() > 1 || authorized_party.is_some())
        && authorized_party.and_then(Value::as_str) != Some(settings.client_id.as_str())
    {
        return Err(IdTokenError::Claim("azp"));
    }
    if text(claims, "sub").is_none_or(str::is_empty) {
        return Err(IdTokenError::Claim("sub"));
    }
    check_times(claims, settings.clock_skew, now)
}

fn check_times(claims: &Map<String, Value>, skew: Duration, now: Timestamp) -> Result<(), IdTokenError> {
    // 9.
    let expires_at = time(claims, "exp")?.ok_or(IdTokenError::Claim("exp"))?;
    if now >= expires_at + skew {
        return Err(IdTokenError::Expired);
    }
    // 10. A token from the future means that one of the two clocks is wrong.
    let issued_at = time(claims, "iat")?.ok_or(IdTokenError::Claim("iat"))?;
    if issued_at > now + skew {
        return Err(IdTokenError::Claim("iat"));
    }
    if time(claims, "nbf")?.is_some_and(|not_before| not_before > now + skew) {
        return Err(IdTokenError::Claim("nbf"));
    }
    Ok(())
}

/// OpenID Connect Core section 3.1.3.8: the ID token vouches for the access token, if it says anything of it.
fn check_access_token_hash(token: &SignedClaims, access_token: &str) -> Result<(), IdTokenError> {
    let Some(hash) = token.claims.get("at_hash") else { return Ok(()) };
    let algorithm = match token.algorithm {
        Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &digest::SHA256,
        Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &digest::SHA384,
        _ => &digest::SHA512,
    };
    let full = digest::digest(algorithm, access_token.as_bytes());
    let left_half = base64url(&full.as_ref()[..full.as_ref().len() / 2]);
    if hash.as_str().is_some_and(|hash| equal_in_constant_time(hash, &left_half)) {
        Ok(())
    } else {
        Err(IdTokenError::Claim("at_hash"))
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name)?.as_str()
}

/// `aud` as a list; it may be one text (RFC 7519 section 4.1.3). A list that holds anything but texts is none.
fn audiences(claims: &Map<String, Value>) -> Vec<&str> {
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
pub(super) fn time(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<Timestamp>, IdTokenError> {
    const LAST: f64 = 253_402_300_799.0; // the end of the year 9999
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if (0.0..=LAST).contains(&seconds) => {
                Ok(Some(Timestamp::from_unix(seconds as u64)))
            }
            _ => Err(IdTokenError::Claim(name)),
        },
    }
}

#[cfg(test)]
#[path = "id_token_tests.rs"]
mod tests;
