use serde_json::json;

use super::*;
use crate::oidc::test_support::{CLIENT, ISSUER, NOW, SKEW, settings};

const NOW_SECONDS: u64 = NOW.as_unix();
const ACCESS_TOKEN: &str = "access-token";

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "alice",
        "aud": CLIENT,
        "azp": CLIENT,
        "exp": NOW_SECONDS + 60,
        "iat": NOW_SECONDS,
        "auth_time": NOW_SECONDS - 5,
        "nonce": "the-nonce",
    })
}

/// The claims with one of them changed; null takes it away.
fn with(name: &str, value: Value) -> SignedClaims {
    let mut claims = claims();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(name);
    } else {
        claims[name] = value;
    }
    signed(claims)
}

fn signed(claims: Value) -> SignedClaims {
    SignedClaims { claims: claims.as_object().cloned().unwrap(), algorithm: Algorithm::RS256, kind: None }
}

fn login(token: &SignedClaims, signed_in_since: Option<Timestamp>) -> Result<(), IdTokenError> {
    login_with(token, signed_in_since, &[])
}

fn login_with(
    token: &SignedClaims,
    signed_in_since: Option<Timestamp>,
    acr_values: &[String],
) -> Result<(), IdTokenError> {
    let nonce = "the-nonce";
    let expected = LoginExpectation { nonce, access_token: ACCESS_TOKEN, signed_in_since, acr_values };
    check_login(token, &settings(), &expected, NOW)
}

fn hash_of(algorithm: &'static digest::Algorithm, token: &str) -> String {
    let full = digest::digest(algorithm, token.as_bytes());
    base64url(&full.as_ref()[..full.as_ref().len() / 2])
}

#[test]
fn a_good_token_is_believed() {
    for (name, value) in [
        ("unknown", json!({"a": 1})),
        ("aud", json!(["bff"])),
        ("aud", json!(["bff", "trusted"])),
        ("azp", Value::Null),
        ("exp", json!(NOW_SECONDS + 60)),
        ("exp", json!(NOW_SECONDS as f64 + 60.5)),
        ("exp", json!(NOW_SECONDS - SKEW + 1)),
        ("iat", json!(NOW_SECONDS + SKEW)),
        ("nbf", json!(NOW_SECONDS + SKEW)),
        ("at_hash", json!(hash_of(&digest::SHA256, ACCESS_TOKEN))),
    ] {
        assert_eq!(login(&with(name, value.clone()), None), Ok(()), "{name}: {value}");
    }
}

#[test]
fn every_wrong_claim_is_named() {
    use IdTokenError::{Claim, Expired};
    for (name, value, error) in [
        ("iss", Value::Null, Claim("iss")),
        ("iss", json!("https://id.example.com/realms/users/"), Claim("iss")),
        ("iss", json!(["https://id.example.com/realms/users"]), Claim("iss")),
        ("aud", Value::Null, Claim("aud")),
        ("aud", json!("other"), Claim("aud")),
        ("aud", json!([]), Claim("aud")),
        ("aud", json!(["bff", "untrusted"]), Claim("aud")),
        ("aud", json!(["bff", 7]), Claim("aud")),
        ("azp", json!("other"), Claim("azp")),
        ("azp", json!(["bff"]), Claim("azp")),
        ("sub", Value::Null, Claim("sub")),
        ("sub", json!(""), Claim("sub")),
        ("sub", json!(7), Claim("sub")),
        ("exp", Value::Null, Claim("exp")),
        ("exp", json!("1700000060"), Claim("exp")),
        ("exp", json!(-1), Claim("exp")),
        ("exp", json!(1e300), Claim("exp")),
        ("exp", json!(NOW_SECONDS - SKEW), Expired),
        ("iat", Value::Null, Claim("iat")),
        ("iat", json!(NOW_SECONDS + SKEW + 1), Claim("iat")),
        ("nbf", json!(NOW_SECONDS + SKEW + 1), Claim("nbf")),
        ("nonce", Value::Null, Claim("nonce")),
        ("nonce", json!("another"), Claim("nonce")),
        ("at_hash", json!("another"), Claim("at_hash")),
        ("at_hash", json!(7), Claim("at_hash")),
        ("at_hash", json!(hash_of(&digest::SHA512, ACCESS_TOKEN)), Claim("at_hash")),
    ] {
        assert_eq!(login(&with(name, value.clone()), None), Err(error), "{name}: {value}");
    }
}

#[test]
fn several_audiences_need_an_authorized_party() {
    let mut claims = claims();
    claims["aud"] = json!(["bff", "trusted"]);
    claims.as_object_mut().unwrap().remove("azp");
    assert_eq!(login(&signed(claims), None), Err(IdTokenError::Claim("azp")));
}

#[test]
fn the_hash_of_the_access_token_follows_the_algorithm() {
    for (algorithm, hash) in [
        (Algorithm::RS256, &digest::SHA256),
        (Algorithm::PS384, &digest::SHA384),
        (Algorithm::ES384, &digest::SHA384),
        (Algorithm::RS512, &digest::SHA512),
        (Algorithm::EdDSA, &digest::SHA512),
    ] {
        let token = SignedClaims { algorithm, ..with("at_hash", json!(hash_of(hash, ACCESS_TOKEN))) };
        assert_eq!(login(&token, None), Ok(()), "{algorithm:?}");
    }
}

#[test]
fn who_was_asked_to_sign_in_anew_must_have_done_so() {
    let asked_at = |seconds| Some(Timestamp::from_unix(seconds));
    let token = with("auth_time", json!(NOW_SECONDS - 100));
    assert_eq!(login(&token, asked_at(NOW_SECONDS - 100)), Ok(()));
    assert_eq!(login(&token, asked_at(NOW_SECONDS - 100 + SKEW)), Ok(()));
    assert_eq!(login(&token, asked_at(NOW_SECONDS - 100 + SKEW + 1)), Err(IdTokenError::NotSignedInAnew));
    let token = with("auth_time", Value::Null);
    assert_eq!(login(&token, asked_at(NOW_SECONDS)), Err(IdTokenError::Claim("auth_time")));
    assert_eq!(login(&token, None), Ok(()));
}

#[test]
fn a_refreshed_token_is_of_the_same_login() {
    let previous = claims().as_object().cloned().unwrap();
    let check = |name: &str, value: Value| {
        check_refreshed(&with(name, value), &settings(), &previous, ACCESS_TOKEN, NOW)
    };
    // Keycloak leaves the nonce out.
    for (name, value) in [
        ("nonce", Value::Null),
        ("auth_time", Value::Null),
        // The user signed in anew at another client of the same realm.
        ("auth_time", json!(NOW_SECONDS)),
        ("exp", json!(NOW_SECONDS + 300)),
    ] {
        assert_eq!(check(name, value), Ok(()), "{name}");
    }
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("sub", json!("bob")),
        ("aud", json!("other")),
        ("auth_time", json!(NOW_SECONDS - 6)),
        ("nonce", json!("another")),
        ("at_hash", json!("another")),
    ] {
        let name: &'static str = name;
        assert_eq!(check(name, value), Err(IdTokenError::Claim(name)), "{name}");
    }
}

#[test]
fn an_authentication_context_that_was_asked_for_must_be_there() {
    let asked = ["silver".to_owned(), "gold".to_owned()];
    for (acr, expected) in [
        (json!("gold"), Ok(())),
        (json!("silver"), Ok(())),
        (json!("bronze"), Err(IdTokenError::InsufficientAuthentication)),
        (json!(["gold"]), Err(IdTokenError::InsufficientAuthentication)),
        (Value::Null, Err(IdTokenError::InsufficientAuthentication)),
    ] {
        assert_eq!(login_with(&with("acr", acr.clone()), None, &asked), expected, "{acr}");
        assert_eq!(login(&with("acr", acr.clone()), None), Ok(()), "{acr}: nobody asked");
    }
}
