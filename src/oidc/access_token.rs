use super::{
    ClaimError, ProviderSettings, SignatureError,
    claims::{Claims, check_times, text},
    signature::SignedClaims,
};
use crate::clock::Timestamp;

/// An access token that somebody presents is not one that a client of ours was given for a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// Its signature does not prove it.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// A claim is missing or wrong, or has no business there.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

/// Checks the claims of an access token of Keycloak's whose signature was verified. Its audience is for the caller to
/// check.
pub(super) fn check_access_token(
    token: &SignedClaims,
    settings: &ProviderSettings,
    now: Timestamp,
) -> Result<(), ClaimError> {
    let claims: &Claims = &token.claims;
    if text(claims, "iss") != Some(&*settings.issuer) {
        return Err(ClaimError::Wrong("iss"));
    }
    // The client that the token was given to, and as which it is exchanged.
    if text(claims, "azp") != Some(settings.client_id.as_str()) {
        return Err(ClaimError::Wrong("azp"));
    }
    // Keycloak's ID tokens have `ID` here, its refresh tokens `Refresh` and `Offline`.
    if text(claims, "typ") != Some("Bearer") {
        return Err(ClaimError::Wrong("typ"));
    }
    // Bound to somebody's key (RFC 7800): of no use to anyone else, and not to be made one without that binding.
    if claims.contains_key("cnf") {
        return Err(ClaimError::Wrong("cnf"));
    }
    if text(claims, "sub").is_none_or(str::is_empty) {
        return Err(ClaimError::Wrong("sub"));
    }
    check_times(claims, settings.clock_skew, now)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::oidc::{
        Algorithm,
        test_support::{CLIENT, ISSUER, NOW, settings},
    };

    #[test]
    fn every_claim_is_checked() {
        let now = NOW.as_unix();
        let check = |name: &str, value: Value| {
            let mut claims = json!({
                "iss": ISSUER, "azp": CLIENT, "typ": "Bearer", "sub": "alice", "iat": now, "exp": now + 60,
            });
            if !name.is_empty() {
                claims[name] = value;
            }
            let claims = claims.as_object().cloned().unwrap();
            let token = SignedClaims { claims, algorithm: Algorithm::RS256, kind: None };
            check_access_token(&token, &settings(), NOW)
        };
        assert_eq!(check("", Value::Null), Ok(()));
        for (name, value) in [
            ("iss", json!("https://evil.example")),
            ("azp", json!("another")),
            ("azp", Value::Null),
            ("typ", json!("ID")),
            ("typ", json!("Refresh")),
            ("typ", Value::Null),
            ("cnf", json!({"jkt": "x"})),
            ("sub", json!("")),
            ("iat", json!(now + 600)),
        ] {
            assert_eq!(check(name, value.clone()), Err(ClaimError::Wrong(name)), "{name}: {value}");
        }
        assert_eq!(check("exp", json!(now - 60)), Err(ClaimError::Expired));
    }
}
