use super::*;
use crate::wait;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Client, redirect};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

const BACK: &str = "http://app.example/callback";
const VERIFIER: &str = "a verifier of the test";
const SOON: Duration = Duration::from_secs(10);

fn client() -> Client {
    Client::builder().no_proxy().redirect(redirect::Policy::none()).build().expect("an HTTP client")
}

/// A code for the client `app`.
async fn code(provider: &Provider) -> String {
    let challenge = signing::base64url(&signing::sha256(VERIFIER));
    let query = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", BACK),
        ("code_challenge_method", "S256"),
        ("code_challenge", &challenge),
        ("state", "s"),
        ("nonce", "n"),
    ];
    let request = client().get(format!("{}/authorize", provider.issuer())).query(&query);
    let answer = request.send().await.expect("an answer");
    let back = Url::parse(answer.headers()["location"].to_str().expect("text")).expect("an address");
    let answer: Parameters = back.query_pairs().into_owned().collect();
    assert_eq!((&*answer["state"], &*answer["iss"]), ("s", provider.issuer()));
    answer["code"].clone()
}

async fn token(provider: &Provider, form: &[(&str, &str)]) -> (u16, Value) {
    let request = client().post(format!("{}/token", provider.issuer())).basic_auth("app", Some("any"));
    let answer = request.form(form).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn redeem(provider: &Provider, code: &str, verifier: &str) -> (u16, Value) {
    let grant = [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", BACK)];
    token(provider, &[&grant[..], &[("code_verifier", verifier)]].concat()).await
}

async fn refresh(provider: &Provider, token_of: &Value) -> (u16, Value) {
    let refresh_token = token_of["refresh_token"].as_str().expect("a refresh token");
    token(provider, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
}

/// The claims of a token whose signature the published key verifies.
async fn verified(provider: &Provider, token: &str) -> Value {
    let request = client().get(format!("{}/keys", provider.issuer()));
    let keys: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let coordinate = |name: &str| bytes(keys["keys"][0][name].as_str().expect("a coordinate"));
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (input, signature) = token.rsplit_once('.').expect("a JWT");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(input.as_bytes(), &bytes(signature)).expect("the signature is right");
    serde_json::from_slice(&bytes(input.split('.').nth(1).expect("a JWT"))).expect("JSON")
}

#[tokio::test]
async fn a_code_is_good_once_and_with_its_verifier() {
    let provider = Provider::start().await;
    let spoilt = code(&provider).await;
    assert_eq!(redeem(&provider, &spoilt, "another").await.1["error"], "invalid_grant");
    let code = code(&provider).await;
    let (status, tokens) = redeem(&provider, &code, VERIFIER).await;
    assert_eq!(status, 200, "{tokens}");
    let claims = verified(&provider, tokens["id_token"].as_str().expect("an ID token")).await;
    assert_eq!(
        (&claims["nonce"], &claims["aud"], &claims["sub"]),
        (&json!("n"), &json!("app"), &json!("alice"))
    );
    assert_eq!(redeem(&provider, &code, VERIFIER).await.0, 400);
    assert_eq!(provider.logins(), 3);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_ends_the_session() {
    let provider = Provider::start().await;
    let (_, first) = redeem(&provider, &code(&provider).await, VERIFIER).await;
    let (status, second) = refresh(&provider, &first).await;
    assert_eq!(status, 200, "{second}");
    let (status, refused) = refresh(&provider, &first).await;
    let reason = "Maximum allowed refresh token reuse exceeded";
    assert_eq!((status, &refused["error_description"]), (400, &json!(reason)));
    assert_eq!(refresh(&provider, &second).await.1["error_description"], "Session not active");
}

#[tokio::test]
async fn answers_are_held_and_counted() {
    let provider = Provider::start().await;
    let (_, first) = redeem(&provider, &code(&provider).await, VERIFIER).await;
    let (_, second) = redeem(&provider, &code(&provider).await, VERIFIER).await;
    provider.hold();
    let both_wait = async || (provider.waiting() == 2).then_some(());
    let release = async {
        wait::until("two answers to be held", SOON, both_wait).await;
        provider.release();
    };
    let (first, second, ()) = tokio::join!(refresh(&provider, &first), refresh(&provider, &second), release);
    assert_eq!((first.0, second.0, provider.waiting()), (200, 200, 0));
    assert_eq!((provider.refreshes(), provider.most_refreshes_at_once()), (2, 2));
}

#[tokio::test]
async fn a_closed_connection_carries_no_answer() {
    let provider = Provider::start().await;
    provider.answer_keys(Fault::Disconnect);
    let address = provider.issuer().strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).await.expect("the provider accepts");
    let request = format!("GET /keys HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request can be sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert_eq!(String::from_utf8_lossy(&answer), "");
}

#[tokio::test]
async fn a_provider_that_is_dropped_is_gone() {
    let provider = Provider::start().await;
    let http = client();
    let keys = format!("{}/keys", provider.issuer());
    assert!(http.get(&keys).send().await.is_ok());
    drop(provider);
    let gone = async || http.get(&keys).send().await.is_err().then_some(());
    wait::until("the end of the provider", SOON, gone).await;
}

#[tokio::test]
async fn tokens_of_every_kind_can_be_made() {
    let provider = Provider::start().await;
    let claims = provider.logout_claims("app");
    assert_eq!(verified(&provider, &provider.logout_token(&claims)).await, claims);
    let mut header = provider.header(LOGOUT_TOKEN);
    header["crit"] = json!(["exp"]);
    assert_eq!(verified(&provider, &provider.sign(&header, &claims)).await, claims);
    assert!(sign_none(LOGOUT_TOKEN, &claims).ends_with('.'));
    let header = json!({"alg": "HS256"});
    let (one, other) = (sign_hs256(b"one", &header, &claims), sign_hs256(b"other", &header, &claims));
    assert_eq!(one.rsplit_once('.').map(|(input, _)| input), other.rsplit_once('.').map(|(input, _)| input));
    assert_ne!(one, other);
}
