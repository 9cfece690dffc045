use aws_lc_rs::digest;
use serde_json::Value;

use super::{
    Algorithm, ClaimError, ProviderSettings, SignatureError,
    claims::{Claims, audiences, check_common, text, time},
    signature::SignedClaims,
};
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
    /// The user signed in in another way than those that were asked for.
    #[error("the sign-in has none of the authentication contexts that were asked for")]
    InsufficientAuthentication,
}

impl From<ClaimError> for IdTokenError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Wrong(claim) => Self::Claim(claim),
            ClaimError::Expired => Self::Expired,
        }
    }
}

/// What the ID token of a login must hold besides what every ID token must.
#[derive(Clone, Copy)]
pub struct LoginExpectation<'a> {
    /// The nonce of the login transaction.
    pub nonce: &'a str,
    /// The access token that came with it.
    pub access_token: &'a str,
    /// If the user was asked to sign in anew, or lately: since when.
    pub signed_in_since: Option<Timestamp>,
    /// The authentication contexts of which it must have one; empty means any.
    pub acr_values: &'a [String],
}

/// Checks the ID token of a login. The numbers are those of OpenID Connect Core section 3.1.3.7.
pub(super) fn check_login(
    token: &SignedClaims,
    settings: &ProviderSettings,
    expected: &LoginExpectation<'_>,
    now: Timestamp,
) -> Result<(), IdTokenError> {
    check_id_token(&token.claims, settings, now)?;
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
    // 12.
    let acr = text(&token.claims, "acr");
    if !expected.acr_values.is_empty() && !expected.acr_values.iter().any(|asked| acr == Some(asked)) {
        return Err(IdTokenError::InsufficientAuthentication);
    }
    check_access_token_hash(token, expected.access_token)
}

/// Checks the ID token of a refresh against the one before it (OpenID Connect Core section 12.2).
pub(super) fn check_refreshed(
    token: &SignedClaims,
    settings: &ProviderSettings,
    previous: &Claims,
    access_token: &str,
    now: Timestamp,
) -> Result<(), IdTokenError> {
    check_id_token(&token.claims, settings, now)?;
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

/// Checks what every ID token must hold.
fn check_id_token(claims: &Claims, settings: &ProviderSettings, now: Timestamp) -> Result<(), IdTokenError> {
    check_common(claims, settings, now)?;
    // 4 and 5.
    let authorized_party = claims.get("azp");
    if (audiences(claims).len() > 1 || authorized_party.is_some())
        && authorized_party.and_then(Value::as_str) != Some(settings.client_id.as_str())
    {
        return Err(IdTokenError::Claim("azp"));
    }
    if text(claims, "sub").is_none_or(str::is_empty) {
        return Err(IdTokenError::Claim("sub"));
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

#[cfg(test)]
#[path = "id_token_tests.rs"]
mod tests;
