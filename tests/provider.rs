//! A provider that misbehaves: whatever it answers, nobody is signed out by it, and nothing wrong is believed.

use crate::steps::{APP, SOON, access_token, bearer, claims, session_id};
use keycloak_bff_testbed::provider::Fault;
use keycloak_bff_testbed::{Deployment, Provider, UserAgent, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

/// The program and Envoy before the provider, with access tokens that are used until their last second.
async fn deployment(provider: &Provider) -> Deployment {
    let use_up = |config: &mut Value| config["sessions"]["least_token_life"] = json!("1s");
    Deployment::builder().program(use_up).start(provider.issuer()).await
}

/// A browser in which someone signed in, without a page.
async fn signed_in(provider: &Provider, deployment: &Deployment, user: &str) -> UserAgent {
    provider.sign_in_as(user);
    let agent = UserAgent::new();
    let landed = agent.navigate(format!("{}/api/echo", deployment.app())).await;
    assert_eq!(landed.status, 200, "{user} should be signed in: {landed:#?}");
    agent
}

/// Calls the API with a token that is never anything but `token` until there is no more to be had, which is no sooner
/// than the token's end and no reason to sign in.
async fn use_up(deployment: &Deployment, agent: &UserAgent, token: &str) {
    let end = claims(token)["exp"].as_u64().expect("a token ends");
    let used_up = async || {
        let echo = agent.fetch(format!("{}/api/echo", deployment.app())).await;
        if echo.status == 200 {
            assert_eq!(bearer(&echo).as_deref(), Some(token), "nothing but the old token is used");
            return None;
        }
        Some(echo)
    };
    let refused = wait::until("the end of the token", SOON, used_up).await;
    let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs();
    // The program counts a token's life from before it asked for it, which on a busy machine is a while.
    assert!(now + 3 >= end, "the token was not used for its last {} s", end - now);
    let error = refused.json()["error"].clone();
    assert_eq!((refused.status, error.as_str()), (503, Some("sign_in_unavailable")));
    let pause = refused.header("retry-after").and_then(|pause| pause.parse::<u64>().ok());
    assert!(pause.is_some_and(|pause| (1..=30).contains(&pause)), "{pause:?}");
    let me = agent.fetch(format!("{}/auth/me", deployment.app())).await;
    assert_eq!(me.status, 200, "the session is kept: {}", me.text());
}

/// Calls the API until it is served again, which is with a token that is not `old`.
async fn served_again(deployment: &Deployment, agent: &UserAgent, old: &str) -> String {
    let served = async || {
        let echo = agent.fetch(format!("{}/api/echo", deployment.app())).await;
        assert!(matches!(echo.status, 200 | 503), "{} {}", echo.status, echo.text());
        bearer(&echo)
    };
    let new = wait::until("another access token", SOON, served).await;
    assert_ne!(new, old);
    new
}

/// Shows that a session outlives a provider that answers refreshes like this for longer than its token lives.
async fn outlives(fault: Fault) {
    let provider = Provider::start().await;
    provider.access_lifetime(Duration::from_secs(7));
    let deployment = deployment(&provider).await;
    let agent = signed_in(&provider, &deployment, "alice").await;
    let id = session_id(&agent, APP);
    let old = access_token(&deployment, &agent).await;
    provider.answer_refreshes(fault);
    use_up(&deployment, &agent, &old).await;
    let tries = provider.refreshes();
    assert!((1..=4).contains(&tries), "the provider is asked, and not overrun: {tries}");

    provider.behave();
    let new = served_again(&deployment, &agent, &old).await;
    assert_eq!(claims(&new)["sid"], claims(&old)["sid"], "the same session");
    assert_eq!((session_id(&agent, APP), provider.logins()), (id, 1), "nobody signed in anew");
}

#[tokio::test]
async fn one_signs_in_and_out() {
    let provider = Provider::start().await;
    let deployment = deployment(&provider).await;
    let agent = signed_in(&provider, &deployment, "erin").await;
    let token = claims(&access_token(&deployment, &agent).await);
    assert_eq!((token["iss"].as_str(), token["sub"].as_str()), (Some(provider.issuer()), Some("erin")));
    let request = provider.latest_authorization();
    assert_eq!((request["client_id"].as_str(), provider.logins()), ("keycloak-bff", 1));
    let me = agent.fetch(format!("{}/auth/me", deployment.app())).await.json();
    assert_eq!(me["claims"]["sub"], "erin", "{me}");

    let logout = agent.navigate(format!("{}/auth/logout", deployment.app())).method(Method::POST).form(&[]);
    let landed = logout.from_page(deployment.app()).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/", deployment.app())));
    assert_eq!(provider.end_sessions().len(), 1);
    assert_eq!(agent.fetch(format!("{}/auth/me", deployment.app())).await.status, 401);
    let revoked = async || (provider.revocations() == 1).then_some(());
    wait::until("the refresh token to be revoked", SOON, revoked).await;
}

#[tokio::test]
async fn a_session_outlives_a_provider_that_is_overloaded() {
    outlives(Fault::status(503).with_header("retry-after", "4")).await;
}

#[tokio::test]
async fn a_session_outlives_a_provider_that_limits_its_rate() {
    outlives(Fault::error("invalid_grant", "slow down").with_status(429)).await;
}

#[tokio::test]
async fn a_session_outlives_a_provider_that_answers_garbage() {
    outlives(Fault::body("<html>under maintenance</html>")).await;
}

#[tokio::test]
async fn a_session_outlives_a_provider_whose_answers_are_cut_off() {
    outlives(Fault::body(r#"{"access_token":"a.b.c","token_type":"Bearer","expires_in":60,"refresh_tok"#))
        .await;
}

#[tokio::test]
async fn a_session_outlives_a_provider_that_closes_connections() {
    outlives(Fault::Disconnect).await;
}

/// A user, called by what is wrong with their refreshed ID tokens, and what makes it so.
type Wrong = (&'static str, fn(&mut Value));

#[tokio::test]
async fn a_refreshed_id_token_that_is_wrong_is_not_used_and_ends_nothing() {
    let wrong: [Wrong; 8] = [
        ("sub", |claims| claims["sub"] = json!("mallory")),
        ("iss", |claims| claims["iss"] = json!("https://elsewhere.example")),
        ("aud", |claims| claims["aud"] = json!("another-client")),
        ("azp", |claims| claims["azp"] = json!("another-client")),
        ("auth-time", |claims| {
            claims["auth_time"] = json!(claims["auth_time"].as_u64().map(|time| time - 60))
        }),
        ("nonce", |claims| claims["nonce"] = json!("of another login")),
        ("at-hash", |claims| claims["at_hash"] = json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("exp", |claims| claims["exp"] = json!(claims["iat"].as_u64().map(|time| time - 60))),
    ];
    let provider = Provider::start().await;
    provider.access_lifetime(Duration::from_secs(8));
    let deployment = deployment(&provider).await;
    let mut signed = Vec::new();
    for (user, _) in &wrong {
        let agent = signed_in(&provider, &deployment, user).await;
        let token = access_token(&deployment, &agent).await;
        signed.push((*user, agent, token));
    }
    provider.edit_id_token(move |claims| {
        let edit = wrong.iter().find(|(user, _)| claims["sub"] == *user).expect("one of them");
        edit.1(claims);
    });
    let all = signed.iter().map(|(_, agent, token)| use_up(&deployment, agent, token));
    futures_util::future::join_all(all).await;
    assert!(provider.refreshes() >= signed.len(), "everyone's tokens were to be refreshed");

    provider.behave();
    let all = signed.iter().map(async |(user, agent, token)| {
        let new = served_again(&deployment, agent, token).await;
        let me = agent.fetch(format!("{}/auth/me", deployment.app())).await.json();
        assert_eq!((&claims(&new)["sub"], &me["claims"]["sub"]), (&json!(user), &json!(user)));
    });
    futures_util::future::join_all(all).await;
    assert_eq!(provider.logins(), wrong.len(), "nobody signed in anew");
}

/// The ID token that the program gives the provider as a hint whom to sign out.
async fn id_token_hint(deployment: &Deployment, agent: &UserAgent) -> String {
    let answer = agent.fetch(format!("{}/auth/logout", deployment.app())).method(Method::POST).await;
    let url = answer.json()["logout_url"].as_str().and_then(|url| Url::parse(url).ok()).expect("an address");
    let hint = url.query_pairs().find(|(name, _)| name == "id_token_hint");
    hint.unwrap_or_else(|| panic!("no hint in {url}")).1.into_owned()
}

/// Waits until the API gets another token than `old`, which has to be by a refresh that nobody notices.
async fn refreshed(deployment: &Deployment, agent: &UserAgent, old: &str) {
    let changed = async || Some(access_token(deployment, agent).await).filter(|token| token != old);
    wait::until("another access token", SOON, changed).await;
}

#[tokio::test]
async fn a_refresh_without_an_id_token_keeps_the_last_one() {
    let provider = Provider::start().await;
    provider.access_lifetime(Duration::from_secs(6));
    let deployment = deployment(&provider).await;
    let agent = signed_in(&provider, &deployment, "alice").await;
    let old = access_token(&deployment, &agent).await;
    provider.edit_answer(|answer| {
        answer.as_object_mut().expect("an object").remove("id_token");
    });
    refreshed(&deployment, &agent, &old).await;
    let hint = id_token_hint(&deployment, &agent).await;
    assert_eq!(claims(&hint)["nonce"].as_str(), Some(provider.latest_authorization()["nonce"].as_str()));
}

#[tokio::test]
async fn a_refreshed_id_token_that_nobody_can_verify_is_not_kept() {
    let provider = Provider::start().await;
    provider.access_lifetime(Duration::from_secs(6));
    let deployment = deployment(&provider).await;
    let agent = signed_in(&provider, &deployment, "alice").await;
    let old = access_token(&deployment, &agent).await;
    provider.rotate_to_unpublished_key();
    refreshed(&deployment, &agent, &old).await;
    let hint = id_token_hint(&deployment, &agent).await;
    // Only that of the login has a nonce.
    assert_eq!(claims(&hint)["nonce"].as_str(), Some(provider.latest_authorization()["nonce"].as_str()));
}

#[tokio::test]
async fn a_refresh_token_that_does_not_end_keeps_the_session_going() {
    let provider = Provider::start().await;
    provider.access_lifetime(Duration::from_secs(6));
    provider.edit_answer(|answer| answer["refresh_expires_in"] = json!(0));
    let deployment = deployment(&provider).await;
    let agent = signed_in(&provider, &deployment, "alice").await;
    let old = access_token(&deployment, &agent).await;
    refreshed(&deployment, &agent, &old).await;
    let me = agent.fetch(format!("{}/auth/me", deployment.app())).await.json();
    let ends = me["session"]["expires_at"].as_u64().expect("a time");
    let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs();
    assert!(ends > now + 1700, "the idle time of the configuration counts alone: {me}");
}

#[tokio::test]
async fn an_unknown_key_fetches_the_keys_once() {
    let provider = Provider::start().await;
    let deployment = deployment(&provider).await;
    signed_in(&provider, &deployment, "alice").await;
    assert_eq!((provider.discoveries(), provider.key_fetches()), (1, 1));
    provider.rotate_keys();
    futures_util::future::join_all((0..20).map(|_| signed_in(&provider, &deployment, "bob"))).await;
    assert_eq!((provider.discoveries(), provider.key_fetches()), (1, 2));

    // What is signed with a key that the provider does not publish is not believed, and is no way to overrun it.
    provider.rotate_to_unpublished_key();
    let api = format!("{}/api/echo", deployment.app());
    let before = provider.key_fetches();
    let strangers: Vec<UserAgent> = (0..20).map(|_| UserAgent::new()).collect();
    let landed =
        futures_util::future::join_all(strangers.iter().map(|agent| agent.navigate(&api).into_future()));
    for landed in landed.await {
        assert_eq!(landed.status, 400, "{}", landed.text());
        assert!(landed.url.contains("/auth/callback?"), "{}", landed.url);
    }
    let fetches = provider.key_fetches() - before;
    assert!(fetches <= 2, "{fetches} fetches, of which there is one in ten seconds at most");
    assert!(strangers.iter().all(|agent| session_id(agent, APP).is_none()));
}
