//! Logout tokens, good and bad, and what they end.

use crate::steps::{APP, now, session_id, until_after};
use keycloak_bff_testbed::provider::{Fault, sign_hs256, sign_none};
use keycloak_bff_testbed::{Deployment, Provider, Response, UserAgent, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

const CLIENT: &str = "keycloak-bff";
const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Sends a logout token as a provider does, to an address that is no frontend's.
async fn send(deployment: &Deployment, token: &str) -> Response {
    let url = format!("{}/auth/backchannel-logout", deployment.browser_listener());
    UserAgent::new().fetch(url).method(Method::POST).form(&[("logout_token", token)]).await
}

/// A browser in which someone signed in, within a session of this name at the provider.
async fn signed_in(provider: &Provider, deployment: &Deployment, user: &str, sid: &str) -> UserAgent {
    provider.sign_in_as(user);
    provider.next_sid(sid);
    let agent = UserAgent::new();
    let landed = agent.navigate(format!("{}/api/echo", deployment.app())).await;
    assert_eq!(landed.status, 200, "{user} should be signed in: {landed:#?}");
    agent
}

async fn is_signed_in(deployment: &Deployment, agent: &UserAgent) -> bool {
    let status = agent.fetch(format!("{}/api/echo", deployment.app())).await.status;
    assert!(matches!(status, 200 | 401), "{status}");
    status == 200
}

/// The claims of a logout token for alice's session `one`, with changes; null takes a claim away.
fn claims(provider: &Provider, changes: &Value) -> Value {
    let mut claims = provider.logout_claims(CLIENT);
    claims["sub"] = json!("alice");
    claims["sid"] = json!("one");
    for (name, value) in changes.as_object().expect("changes are an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("claims are an object").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn assert_refused(answer: &Response, what: &str) {
    assert_eq!(answer.status, 400, "{what}: {}", answer.text());
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{what}");
    assert_eq!(answer.json()["error"], "invalid_request", "{what}");
}

#[tokio::test]
async fn a_token_that_fails_any_check_ends_nothing() {
    let provider = Provider::start().await;
    let deployment = Deployment::builder().start(provider.issuer()).await;
    let alice = signed_in(&provider, &deployment, "alice", "one").await;
    for changes in [
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"aud": "another-client"}),
        json!({"aud": null}),
        json!({"aud": [CLIENT, "another-client"]}),
        json!({"iat": null}),
        json!({"iat": now() - 3600}),
        json!({"iat": now() + 3600}),
        json!({"exp": null}),
        json!({"exp": now() - 60}),
        json!({"jti": null}),
        json!({"sub": null, "sid": null}),
        json!({"sid": 7}),
        json!({"events": null}),
        json!({"events": {}}),
        json!({"events": {"http://schemas.openid.net/event/another": {}}}),
        json!({"events": [LOGOUT_EVENT]}),
        json!({"nonce": "n"}),
    ] {
        let token = provider.logout_token(&claims(&provider, &changes));
        assert_refused(&send(&deployment, &token).await, &changes.to_string());
    }
    let good = claims(&provider, &json!({}));
    let kind = "logout+jwt";
    let valid = provider.logout_token(&good);
    let (unsigned, signature) = valid.rsplit_once('.').expect("a JWT has three parts");
    let of_another_kind = provider.sign(&provider.header("at+jwt"), &good);
    let confused = sign_hs256(b"demo-secret", &json!({"alg": "HS256", "typ": kind}), &good);
    for (what, token) in [
        ("no algorithm", sign_none(kind, &good)),
        ("signed with the client's secret", confused),
        ("no signature", format!("{unsigned}.")),
        ("another signature", format!("{unsigned}.{}", signature.chars().rev().collect::<String>())),
        ("another kind of token", of_another_kind),
        ("no token", String::new()),
        ("garbage", "garbage".to_owned()),
        ("five parts", "a.b.c.d.e".to_owned()),
    ] {
        assert_refused(&send(&deployment, &token).await, what);
    }
    provider.rotate_to_unpublished_key();
    assert_refused(&send(&deployment, &provider.logout_token(&good)).await, "a key that nobody published");
    assert!(is_signed_in(&deployment, &alice).await);
    assert!(!deployment.program.log().contains(signature), "no token in the log");
}

#[tokio::test]
async fn a_good_token_ends_what_it_names_and_nothing_else() {
    let provider = Provider::start().await;
    let deployment = Deployment::builder().start(provider.issuer()).await;
    // Every time: alice in two browsers and bob in one.
    for (what, header, changes, ends_one, ends_two) in [
        ("sid and sub", "logout+jwt", json!({}), true, false),
        ("sid alone", "logout+jwt", json!({"sub": null}), true, false),
        ("sub alone", "logout+jwt", json!({"sid": null}), true, true),
        ("a list of audiences", "logout+jwt", json!({"aud": [CLIENT]}), true, false),
        ("claims that nobody knows", "logout+jwt", json!({"typ": "Logout", "trace": {"a": 1}}), true, false),
        ("the type of older providers", "JWT", json!({}), true, false),
        ("an unknown session", "logout+jwt", json!({"sid": "unknown"}), false, false),
        ("an unknown user", "logout+jwt", json!({"sid": null, "sub": "mallory"}), false, false),
    ] {
        let one = signed_in(&provider, &deployment, "alice", "one").await;
        let two = signed_in(&provider, &deployment, "alice", "two").await;
        let bob = signed_in(&provider, &deployment, "bob", "three").await;
        let token = provider.sign(&provider.header(header), &claims(&provider, &changes));
        let answer = send(&deployment, &token).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{what}");
        assert_eq!(is_signed_in(&deployment, &one).await, !ends_one, "{what}");
        assert_eq!(is_signed_in(&deployment, &two).await, !ends_two, "{what}");
        assert!(is_signed_in(&deployment, &bob).await, "{what}");
        // The next round begins with nobody signed in.
        for subject in ["alice", "bob"] {
            let everything = claims(&provider, &json!({"sid": null, "sub": subject}));
            assert_eq!(send(&deployment, &provider.logout_token(&everything)).await.status, 200);
        }
        // A login that was issued in the second of such a sign-out would count as signed out by it.
        until_after(now()).await;
    }
}

#[tokio::test]
async fn a_token_is_good_once() {
    let provider = Provider::start().await;
    let deployment = Deployment::builder().start(provider.issuer()).await;
    let first = signed_in(&provider, &deployment, "alice", "one").await;
    let token = provider.logout_token(&claims(&provider, &json!({})));
    assert_eq!(send(&deployment, &token).await.status, 200);
    assert!(!is_signed_in(&deployment, &first).await);
    let second = signed_in_after_a_second(&provider, &deployment).await;
    let again = send(&deployment, &token).await;
    assert_refused(&again, "used before");
    assert!(is_signed_in(&deployment, &second).await, "a replay ends nothing");
    // A refused token was not used up.
    let future = claims(&provider, &json!({"iat": now() + 3600}));
    assert_refused(&send(&deployment, &provider.logout_token(&future)).await, "from the future");
    let mut mended = future;
    mended["iat"] = json!(now());
    assert_eq!(send(&deployment, &provider.logout_token(&mended)).await.status, 200);
    assert!(!is_signed_in(&deployment, &second).await);
}

/// Signs in within the session of a sign-out that is over. A login in its very second might have been begun before.
async fn signed_in_after_a_second(provider: &Provider, deployment: &Deployment) -> UserAgent {
    until_after(now()).await;
    signed_in(provider, deployment, "alice", "one").await
}

#[tokio::test]
async fn a_login_does_not_overtake_the_sign_out_of_its_session() {
    let provider = Provider::start().await;
    let deployment = Deployment::builder().start(provider.issuer()).await;
    provider.next_sid("one");
    let agent = UserAgent::new();
    let login = format!("{}/auth/login?return_to=/api/echo", deployment.app());
    let begun = agent.navigate(login).without_redirects().await;
    let request = begun.header("location").expect("a login redirects");
    let answer = agent.navigate(request).without_redirects().await;
    let callback = answer.header("location").expect("the provider sends the browser back");
    // The provider ends the session before its answer arrives here.
    let token = provider.logout_token(&claims(&provider, &json!({})));
    assert_eq!(send(&deployment, &token).await.status, 200);
    let landed = agent.navigate(callback).await;
    assert_eq!((landed.status, landed.hops.len()), (403, 1), "{landed:#?}");
    assert!(landed.text().contains("signed out"), "{}", landed.text());
    assert_eq!(session_id(&agent, APP), None);
    assert!(!is_signed_in(&deployment, &agent).await);
    // The way back that the page offers begins a new login.
    let after = signed_in_after_a_second(&provider, &deployment).await;
    assert!(is_signed_in(&deployment, &after).await);
}

#[tokio::test]
async fn without_the_providers_keys_nobody_can_say_and_a_retry_works() {
    let provider = Provider::start().await;
    let deployment = Deployment::builder().start(provider.issuer()).await;
    provider.answer_keys(Fault::status(503));
    let token = provider.logout_token(&claims(&provider, &json!({})));
    let answer = send(&deployment, &token).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    provider.behave();
    let accepted = async || (send(&deployment, &token).await.status == 200).then_some(());
    wait::until("the token to be accepted", Duration::from_secs(20), accepted).await;
}
