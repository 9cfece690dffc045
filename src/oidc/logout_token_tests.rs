use serde_json::json;

use super::*;
use crate::oidc::{
    Algorithm,
    test_support::{CLIENT, ISSUER, NOW, SKEW, settings},
};

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": CLIENT,
        "iat": NOW.as_unix(),
        "exp": NOW.as_unix() + 120,
        "jti": "the-jti",
        "sub": "alice",
        "sid": "the-sid",
        "typ": "Logout",
        "events": {LOGOUT_EVENT: {}},
        "unknown": {"a": 1},
    })
}

/// The claims with some of them changed; null takes one away.
fn with(changes: Value) -> SignedClaims {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    let kind = Some("logout+jwt".to_owned());
    SignedClaims { claims: claims.as_object().cloned().unwrap(), algorithm: Algorithm::RS256, kind }
}

fn check(token: &SignedClaims) -> Result<LogoutToken, LogoutTokenError> {
    check_logout(token, &settings(), NOW)
}

#[test]
fn a_good_token_says_whom_it_signs_out() {
    let token = check(&with(json!({}))).unwrap();
    assert_eq!(token.signs_out, SignsOut::ProviderSession("the-sid".to_owned()), "both: the one session");
    assert_eq!((token.id.as_str(), token.issued_at), ("the-jti", NOW));
    assert_eq!(token.ends_at, NOW + Duration::from_secs(120 + SKEW));
    for (changes, expected) in [
        (json!({"sub": null}), SignsOut::ProviderSession("the-sid".to_owned())),
        (json!({"sid": null}), SignsOut::Subject("alice".to_owned())),
        (json!({"aud": [CLIENT]}), SignsOut::ProviderSession("the-sid".to_owned())),
        (json!({"events": {LOGOUT_EVENT: {}, "other": 1}}), SignsOut::ProviderSession("the-sid".to_owned())),
    ] {
        assert_eq!(check(&with(changes.clone())).map(|token| token.signs_out), Ok(expected), "{changes}");
    }
}

#[test]
fn every_claim_is_checked() {
    let now = NOW.as_unix();
    for (changes, wrong) in [
        (json!({"iss": "https://evil.example"}), "iss"),
        (json!({"iss": null}), "iss"),
        (json!({"aud": "other"}), "aud"),
        (json!({"aud": null}), "aud"),
        (json!({"aud": [CLIENT, "other"]}), "aud"),
        (json!({"iat": null}), "iat"),
        (json!({"iat": now + SKEW + 1}), "iat"),
        (json!({"iat": "now"}), "iat"),
        (json!({"exp": null}), "exp"),
        (json!({"exp": -1}), "exp"),
        (json!({"sub": null, "sid": null}), "sid"),
        (json!({"sid": ""}), "sid"),
        (json!({"sid": 7}), "sid"),
        (json!({"sub": ["alice"]}), "sub"),
        (json!({"sid": null, "sub": ""}), "sub"),
        (json!({"jti": null}), "jti"),
        (json!({"jti": ""}), "jti"),
        (json!({"events": null}), "events"),
        (json!({"events": {}}), "events"),
        (json!({"events": {"http://schemas.openid.net/event/other": {}}}), "events"),
        (json!({"events": {LOGOUT_EVENT: true}}), "events"),
        (json!({"events": [LOGOUT_EVENT]}), "events"),
        (json!({"events": LOGOUT_EVENT}), "events"),
        (json!({"nonce": "n"}), "nonce"),
        (json!({"nonce": false}), "nonce"),
    ] {
        let expected = Err(LogoutTokenError::Claim(ClaimError::Wrong(wrong)));
        assert_eq!(check(&with(changes.clone())), expected, "{changes}");
    }
}

#[test]
fn an_old_token_is_refused_however_long_it_says_that_it_lives() {
    let ago = |seconds: u64| NOW.as_unix() - seconds;
    let expired = json!({"iat": ago(130), "exp": ago(SKEW)});
    assert_eq!(check(&with(expired)), Err(LogoutTokenError::Claim(ClaimError::Expired)));
    let old = |seconds: u64| with(json!({"iat": ago(seconds), "exp": NOW.as_unix() + 9999}));
    assert_eq!(check(&old(300 + SKEW)), Err(LogoutTokenError::TooOld));
    assert_eq!(check(&old(300 + SKEW - 1)).unwrap().ends_at, NOW + Duration::from_secs(1));
}

#[test]
fn the_type_in_the_header_must_not_be_anothers() {
    for (kind, accepted) in [
        (Some("logout+jwt"), true),
        (Some("LOGOUT+JWT"), true),
        (Some("application/logout+jwt"), true),
        (Some("JWT"), true),
        (None, true),
        (Some("at+jwt"), false),
        (Some("secevent+jwt"), false),
        (Some(""), false),
    ] {
        let mut token = with(json!({}));
        token.kind = kind.map(str::to_owned);
        assert_eq!(check(&token).is_ok(), accepted, "{kind:?}");
    }
}
