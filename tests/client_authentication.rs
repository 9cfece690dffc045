//! Clients that prove themselves without a secret of Keycloak's.

use crate::steps::{access_token, next_token, now, signed_in, with_token_life};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use keycloak_bff_testbed::{Provider, Stand, files, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Signs in, has the tokens renewed, and signs out: every call that a client proves itself in.
async fn everything_works(stand: &Stand) {
    let alice = signed_in(stand, "alice").await;
    let token = access_token(stand, &alice).await;
    next_token(stand, &alice, &token, Duration::from_secs(30)).await;
    let answer = alice.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await;
    assert_eq!((answer.status, answer.json()["provider_reachable"].as_bool()), (200, Some(true)));
    let revoked = async || (stand.realm.count_events("REVOKE_GRANT").await == 1).then_some(());
    wait::until("the refresh token to be revoked", Duration::from_secs(30), revoked).await;
    assert!(!stand.program.log().contains("ERROR"), "{}", stand.program.log());
}

#[tokio::test]
async fn a_private_key_proves_the_client() {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let pair = pair.expect("a key pair");
    let key = EncodingKey::from_ec_der(pair.as_ref());
    let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("its public half");
    let mut jwk = serde_json::to_value(jwk).expect("a JWK is JSON");
    jwk["kid"] = json!("key-1");
    jwk["use"] = json!("sig");
    jwk["alg"] = json!("ES256");
    let keys = json!({"keys": [jwk]}).to_string();
    let der = STANDARD.encode(pair.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    let stand = with_token_life(4)
        .client(move |client| {
            client["clientAuthenticatorType"] = json!("client-jwt");
            client["attributes"]["use.jwks.string"] = json!("true");
            client["attributes"]["jwks.string"] = json!(keys);
            client["attributes"]["token.endpoint.auth.signing.alg"] = json!("ES256");
        })
        .program(move |config| {
            let provider = config["providers"][0].as_object_mut().expect("a provider");
            provider.remove("client_secret");
            provider.insert("client_authentication".to_owned(), json!("private_key_jwt"));
            provider.insert("private_key".to_owned(), json!({"value": pem}));
            provider.insert("private_key_id".to_owned(), json!("key-1"));
        })
        .start()
        .await;
    everything_works(&stand).await;
}

#[tokio::test]
async fn a_service_account_proves_the_client_without_any_secret() {
    let cluster = Provider::start().await;
    let dir = files::temporary("assertion-");
    let file = dir.path().join("token");
    let (issuer, path) = (cluster.issuer().to_owned(), file.clone());
    let stand = with_token_life(4)
        .realm(move |realm| {
            realm["identityProviders"] = json!([{
                "alias": "cluster", "providerId": "kubernetes", "enabled": true, "config": {"issuer": issuer},
            }]);
            let client = &mut realm["clients"][0];
            client["clientAuthenticatorType"] = json!("federated-jwt");
            client["attributes"]["jwt.credential.issuer"] = json!("cluster");
            client["attributes"]["jwt.credential.sub"] = json!("system:serviceaccount:web:keycloak-bff");
        })
        .program(move |config: &mut Value| {
            let provider = config["providers"][0].as_object_mut().expect("a provider");
            provider.remove("client_secret");
            provider.insert("client_authentication".to_owned(), json!("client_assertion"));
            provider.insert("client_assertion_file".to_owned(), json!(path));
        })
        .start()
        .await;
    let claims = json!({
        "iss": cluster.issuer(), "sub": "system:serviceaccount:web:keycloak-bff", "aud": [stand.realm.issuer()],
        "iat": now(), "nbf": now(), "exp": now() + 3000, "jti": "1",
    });
    let token = cluster.sign(&cluster.header("JWT"), &claims);
    std::fs::write(&file, token).expect("the token can be written");
    everything_works(&stand).await;
}
