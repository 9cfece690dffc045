use std::sync::LazyLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use jsonwebtoken::{EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};

use super::*;
use crate::crypto::base64url;

/// A key pair and its public half as the provider would publish it.
struct Signer {
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn new(id: &str) -> Self {
        let pair =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EncodingKey::from_ec_der(pair.as_ref());
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = id.into();
        jwk["use"] = "sig".into();
        Self { key, jwk }
    }

    fn sign(&self, key_id: Option<&str>) -> String {
        let header = Header { kid: key_id.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &json!({"sub": "alice"}), &self.key).unwrap()
    }
}

static FIRST: LazyLock<Signer> = LazyLock::new(|| Signer::new("first"));
static SECOND: LazyLock<Signer> = LazyLock::new(|| Signer::new("second"));

fn keys(jwks: &[Value]) -> KeySet {
    KeySet::read(json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

fn verify(token: &str, keys: &KeySet) -> Result<String, SignatureError> {
    let header = TokenHeader::read(token, &SIGNATURE_ALGORITHMS)?;
    header.verify(token, keys).map(|token| token.claims["sub"].as_str().unwrap_or_default().to_owned())
}

/// A token with a header of our choosing and a signature that is none.
fn forged(header: Value) -> String {
    let part = |value: Value| base64url(value.to_string().as_bytes());
    format!("{}.{}.{}", part(header), part(json!({"sub": "alice"})), base64url(b"signature"))
}

#[test]
fn a_signature_is_verified_by_the_key_that_the_header_names() {
    let keys = keys(&[FIRST.jwk.clone(), SECOND.jwk.clone()]);
    assert_eq!(verify(&FIRST.sign(Some("first")), &keys).as_deref(), Ok("alice"));
    assert_eq!(verify(&SECOND.sign(Some("second")), &keys).as_deref(), Ok("alice"));
    assert_eq!(verify(&FIRST.sign(Some("second")), &keys), Err(SignatureError::Invalid));
    assert_eq!(verify(&FIRST.sign(Some("third")), &keys), Err(SignatureError::UnknownKey));
}

#[test]
fn without_a_key_id_every_key_that_fits_is_tried() {
    let both = keys(&[FIRST.jwk.clone(), SECOND.jwk.clone()]);
    assert_eq!(verify(&SECOND.sign(None), &both).as_deref(), Ok("alice"));
    assert_eq!(
        verify(&SECOND.sign(None), &keys(std::slice::from_ref(&FIRST.jwk))),
        Err(SignatureError::Invalid)
    );
}

#[test]
fn keys_that_are_not_for_this_never_spoil_the_set() {
    let mut for_encryption = FIRST.jwk.clone();
    for_encryption["use"] = "enc".into();
    let mut other_algorithm = FIRST.jwk.clone();
    other_algorithm["alg"] = "ES384".into();
    let strange = json!({"kty": "EC", "crv": "secp256k1", "kid": "first", "x": "AA", "y": "AA"});
    let stranger = json!({"kty": "something-new", "kid": "first"});
    let symmetric = json!({"kty": "oct", "kid": "first", "k": "c2VjcmV0"});
    let token = FIRST.sign(Some("first"));
    for jwk in [for_encryption, other_algorithm, strange, stranger, symmetric, json!(7)] {
        assert_eq!(
            verify(&token, &keys(std::slice::from_ref(&jwk))),
            Err(SignatureError::UnknownKey),
            "{jwk}"
        );
        assert_eq!(verify(&token, &keys(&[jwk, FIRST.jwk.clone()])).as_deref(), Ok("alice"));
    }
    assert!(KeySet::read(b"{}").is_err() && KeySet::read(b"<html>").is_err());
}

#[test]
fn the_token_does_not_choose_how_it_is_verified() {
    let keys = keys(std::slice::from_ref(&FIRST.jwk));
    // The public key taken for a shared secret.
    let public = FIRST.jwk["x"].as_str().unwrap();
    let header = Header { kid: Some("first".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused =
        encode(&header, &json!({"sub": "alice"}), &EncodingKey::from_secret(public.as_bytes())).unwrap();
    assert_eq!(verify(&confused, &keys), Err(SignatureError::Algorithm("HS256".to_owned())));
    // A key of the attacker's in the header.
    let embedded =
        Header { jwk: serde_json::from_value(SECOND.jwk.clone()).ok(), ..Header::new(Algorithm::ES256) };
    let token = encode(&embedded, &json!({"sub": "alice"}), &SECOND.key).unwrap();
    assert_eq!(verify(&token, &keys), Err(SignatureError::Invalid));
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({}),
        json!({"alg": "ES256", "crit": ["exp"]}),
        json!({"alg": "ES256", "crit": []}),
    ] {
        assert_eq!(verify(&forged(header.clone()), &keys), Err(SignatureError::Malformed), "{header}");
    }
    assert_eq!(verify(&forged(json!({"alg": "ES256"})), &keys), Err(SignatureError::Invalid));
}

#[test]
fn an_algorithm_that_is_not_configured_is_refused() {
    let token = FIRST.sign(None);
    let read = TokenHeader::read(&token, &[Algorithm::RS256]).err();
    assert_eq!(read, Some(SignatureError::Algorithm("ES256".to_owned())));
}

#[test]
fn a_changed_token_is_refused() {
    let keys = keys(std::slice::from_ref(&FIRST.jwk));
    let token = FIRST.sign(Some("first"));
    let parts: Vec<&str> = token.split('.').collect();
    let other_claims = base64url(br#"{"sub":"bob"}"#);
    assert_eq!(
        verify(&format!("{}.{other_claims}.{}", parts[0], parts[2]), &keys),
        Err(SignatureError::Invalid)
    );
    for text in
        ["", ".", "..", "a.b.c", &token[..token.len() - 5], &format!("{token}.x"), &token.replace('.', "")]
    {
        assert!(verify(text, &keys).is_err(), "{text}");
    }
}
