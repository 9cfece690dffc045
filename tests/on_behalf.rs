//! Workloads that act for the users who have called them.

use crate::steps::{access_token, claims, now, signed_in, until_expired};
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Response, Stand, UserAgent};
use reqwest::Method;
use serde_json::{Value, json};

const KEY: &str = "demo-workload-key";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A stand whose workload `dev` may act for users whose tokens are made for it, which those of the app are.
async fn stand() -> Stand {
    Stand::builder().with_models().start().await
}

fn request<'a>(stand: &Stand, agent: &'a UserAgent) -> Request<'a> {
    let address = format!("{}/get_model_tokens", stand.internal_listener());
    agent.fetch(address).header("authorization", format!("Bearer {KEY}"))
}

async fn for_user(stand: &Stand, token: &str) -> Response {
    request(stand, &UserAgent::new()).header("x-subject-token", token).await
}

fn refused(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_workload_gets_the_model_token_of_the_user_who_called_it() {
    let stand = stand().await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    let answer = for_user(&stand, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let model_token = answer.json()["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(claims(&model_token)["preferred_username"], "alice");
    assert_ne!(claims(&model_token)["iss"], claims(&token)["iss"]);
    let subject = claims(&token)["sub"].as_str().expect("a subject").to_owned();
    let given =
        stand.program.log().lines().any(|line| line.contains("model token given") && line.contains(&subject));
    assert!(given, "the log says for whom");

    let long = format!("{}/get_model_tokens?min_validity=3600", stand.internal_listener());
    let agent = UserAgent::new();
    let long =
        agent.fetch(long).header("authorization", format!("Bearer {KEY}")).header("x-subject-token", &token);
    assert_eq!(refused(&long.await), (400, "validity_too_long".to_owned()));

    let exchange = |fields: &[(&str, &str)]| request(&stand, &agent).method(Method::POST).form(fields);
    let form =
        [("grant_type", TOKEN_EXCHANGE), ("subject_token", &*token), ("subject_token_type", ACCESS_TOKEN)];
    let answer = exchange(&form).await;
    assert_eq!(
        (answer.status, &answer.json()["access_token"]),
        (200, &json!(model_token)),
        "the same by POST"
    );
    assert_eq!(answer.json()["issued_token_type"], ACCESS_TOKEN);
    for (what, fields) in [
        ("no token", &form[..1]),
        ("no type", &form[..2]),
        ("two tokens", &[form[0], form[1], form[1], form[2]]),
        ("a scope of one's own", &[form[0], form[1], form[2], ("scope", "admin")]),
        ("an actor", &[form[0], form[1], form[2], ("actor_token", "x")]),
        ("another grant", &[("grant_type", "client_credentials"), form[1], form[2]]),
        (
            "another type",
            &[form[0], form[1], ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token")],
        ),
    ] {
        assert_eq!(refused(&exchange(fields).await), (400, "invalid_request".to_owned()), "{what}");
    }
    assert!(!stand.program.log().contains(&token), "no token in the log");
}

#[tokio::test]
async fn nothing_but_a_users_token_for_this_workload_will_do() {
    let stand = stand().await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    let (unsigned, signature) = token.rsplit_once('.').expect("a JWT has three parts");
    let forged = format!("{unsigned}.{}", signature.chars().rev().collect::<String>());
    // What else Keycloak issues: all that one login brought.
    let login = format!("{}/auth/logout", stand.app());
    let bob = signed_in(&stand, "bob").await;
    let url = bob.fetch(&login).method(Method::POST).await.json()["logout_url"].clone();
    let url = url::Url::parse(url.as_str().expect("an address")).expect("a URL");
    let (_, id_token) = url.query_pairs().find(|(name, _)| name == "id_token_hint").expect("a hint");
    let model_token = for_user(&stand, &token).await.json()["access_token"].clone();
    for (what, presented) in [
        ("garbage", "garbage"),
        ("a forged token", &*forged),
        ("an ID token", &*id_token),
        ("a token of another realm", model_token.as_str().expect("a token")),
    ] {
        let answer = for_user(&stand, presented).await;
        assert_eq!(refused(&answer), (401, "invalid_subject_token".to_owned()), "{what}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.as_deref(), Some("Bearer"), "the workload's own token is good: {what}");
    }
    let agent = UserAgent::new();
    let two = request(&stand, &agent).header("x-subject-token", &token).header("x-subject-token", &token);
    assert_eq!(refused(&two.await).0, 401, "two tokens");

    // Another client of the same realm: its tokens are of users too, and not of those who are signed in here.
    stand
        .realm
        .create_client(
            &json!({"clientId": "another", "publicClient": true, "directAccessGrantsEnabled": true}),
        )
        .await;
    let form = [
        ("grant_type", "password"),
        ("client_id", "another"),
        ("username", "alice"),
        ("password", "alice"),
        ("scope", "openid"),
    ];
    let answer =
        UserAgent::new().fetch(stand.realm.endpoint("token")).method(Method::POST).form(&form).await.json();
    for (what, token) in [("another client's token", "access_token"), ("a refresh token", "refresh_token")] {
        let token = answer[token].as_str().expect("a token");
        assert_eq!(
            refused(&for_user(&stand, token).await),
            (401, "invalid_subject_token".to_owned()),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_workload_acts_for_nobody_who_has_signed_out() {
    let stand = stand().await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    assert_eq!(for_user(&stand, &token).await.status, 200);
    assert_eq!(alice.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await.status, 200);
    assert!(claims(&token)["exp"].as_u64() > Some(now()), "the token itself is good yet");
    assert_eq!(refused(&for_user(&stand, &token).await), (401, "invalid_subject_token".to_owned()));
}

#[tokio::test]
async fn a_token_that_is_over_or_made_for_somebody_else_is_refused() {
    let stand = stand().await;
    stand.realm.update(&json!({"accessTokenLifespan": 5})).await;
    let without_skew = |config: &mut Value| config["providers"][0]["clock_skew"] = json!("0s");
    let mut stand = stand;
    stand.reconfigure(without_skew).await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    assert_eq!(for_user(&stand, &token).await.status, 200);
    until_expired(&token).await;
    assert_eq!(refused(&for_user(&stand, &token).await), (401, "invalid_subject_token".to_owned()));

    stand
        .reconfigure(|config| config["models"][0]["on_behalf_of_users"][0]["audience"] = json!("another"))
        .await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    assert_eq!(refused(&for_user(&stand, &token).await), (401, "invalid_subject_token".to_owned()));
}

#[tokio::test]
async fn it_is_off_unless_the_model_allows_it() {
    let off = |config: &mut Value| config["models"][0]["on_behalf_of_users"] = json!([]);
    let stand = Stand::builder().with_models().program(off).start().await;
    let alice = signed_in(&stand, "alice").await;
    let token = access_token(&stand, &alice).await;
    assert_eq!(refused(&for_user(&stand, &token).await), (403, "not_allowed_for_users".to_owned()));
}
