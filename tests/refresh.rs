//! Renewing tokens behind a session's back.

use crate::steps::{
    APP, SOON, access_token, agent_with_session, bearer, checks_under_way, claims, events, ext_authz,
    next_token, now, patient, patient_envoy, rotation, session_id, signed_in, until_expired, with_token_life,
};
use keycloak_bff_testbed::{Stand, UserAgent, wait};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_session_outlives_its_access_tokens() {
    let stand = with_token_life(4).start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP);
    let mut token = access_token(&stand, &agent).await;
    for _ in 0..3 {
        let new = next_token(&stand, &agent, &token, SOON).await;
        let (before, after) = (claims(&token), claims(&new));
        assert!(after["exp"].as_u64() > before["exp"].as_u64());
        assert_eq!((&after["sid"], &after["sub"]), (&before["sid"], &before["sub"]), "the same session");
        token = new;
    }
    assert_eq!(session_id(&agent, APP), id, "the cookie stays as it is");
    let echo = agent.fetch(format!("{}/api/echo", stand.app())).await;
    assert_eq!(echo.echoed("x-user-name").as_deref(), Some("Alice%20%C3%85ngstr%C3%B6m"));
    assert_eq!(stand.realm.sessions("alice").await.len(), 1);
}

#[tokio::test]
async fn signing_in_anew_at_one_frontend_leaves_the_session_of_the_other_alone() {
    let stand = with_token_life(8).realm(rotation).start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP);
    let token = access_token(&stand, &agent).await;
    // Keycloak moves the time of the sign-in, which is in the ID token of every refresh from then on.
    let page = agent.navigate(format!("{}/auth/login?force=true&return_to=/api/echo", stand.admin())).await;
    assert!(page.is_login_page(), "Keycloak should ask again: {page:#?}");
    assert_eq!(agent.submit_login(&page, "alice", "alice").await.status, 200);
    next_token(&stand, &agent, &token, SOON).await;
    assert_eq!(session_id(&agent, APP), id);
}

#[tokio::test]
async fn two_hundred_requests_with_a_token_that_is_over_cause_one_refresh() {
    let stand =
        with_token_life(4).realm(rotation).with_gate().program(patient).envoy(patient_envoy).start().await;
    let agent = signed_in(&stand, "alice").await;
    let old = access_token(&stand, &agent).await;
    until_expired(&old).await;
    let before = stand.realm.count_events("REFRESH_TOKEN").await;
    let (api, gate) = (format!("{}/api/echo", stand.app()), stand.gate());
    gate.hold();
    // Keycloak answers only when all of them wait.
    let requests = futures_util::future::join_all((0..200).map(|_| async { agent.fetch(&api).await }));
    let all_wait = async || {
        let count = checks_under_way(&stand).await;
        (count == 200 && gate.waiting() > 0).then_some(())
    };
    let release = async {
        wait::until("two hundred requests that wait", SOON, all_wait).await;
        assert_eq!(gate.waiting(), 1, "one refresh for all");
        gate.release();
    };
    let (echoes, ()) = tokio::join!(requests, release);
    let tokens: Vec<_> = echoes.iter().map(bearer).collect();
    let new = tokens[0].clone().expect("the request passes with a new token");
    assert_ne!(new, old);
    for (echo, token) in echoes.iter().zip(&tokens) {
        assert_eq!((echo.status, token.as_ref()), (200, Some(&new)), "{}", echo.text());
    }
    events(&stand, "REFRESH_TOKEN", before + 1).await;
    next_token(&stand, &agent, &new, SOON).await;
    assert_eq!(stand.realm.count_events("REFRESH_TOKEN_ERROR").await, 0);
}

#[tokio::test]
async fn a_refresh_that_envoy_gave_up_on_is_not_lost() {
    let impatient = |envoy: &mut serde_json::Value| ext_authz(envoy)["grpc_service"]["timeout"] = json!("2s");
    // Long enough that the new one, of which Envoy's wait takes its part, is not due for renewal while it is looked at.
    let stand =
        with_token_life(10).realm(rotation).with_gate().program(patient).envoy(impatient).start().await;
    let agent = signed_in(&stand, "alice").await;
    let old = access_token(&stand, &agent).await;
    until_expired(&old).await;
    let before = stand.realm.count_events("REFRESH_TOKEN").await;
    stand.gate().hold();
    let given_up = agent.fetch(format!("{}/api/echo", stand.app())).await;
    assert_eq!(given_up.status, 503, "Envoy waited no longer");
    let under_way = async || (stand.gate().waiting() == 1).then_some(());
    wait::until("the refresh", SOON, under_way).await;
    stand.gate().release();
    events(&stand, "REFRESH_TOKEN", before + 1).await;
    let new = access_token(&stand, &agent).await;
    assert_ne!(new, old);
    assert_eq!(stand.realm.count_events("REFRESH_TOKEN").await, before + 1, "no second one");
    next_token(&stand, &agent, &new, SOON).await;
    assert_eq!(stand.realm.count_events("REFRESH_TOKEN_ERROR").await, 0);
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_behind_the_requests() {
    let stand = with_token_life(15).with_gate().start().await;
    let agent = signed_in(&stand, "alice").await;
    let old = access_token(&stand, &agent).await;
    let gate = stand.gate();
    gate.hold();
    // Keycloak answers nothing now. Every request passes with the old token all the same.
    let under_way = async || {
        assert_eq!(access_token(&stand, &agent).await, old);
        (gate.waiting() > 0).then_some(())
    };
    wait::until("a refresh", SOON, under_way).await;
    assert_eq!(access_token(&stand, &agent).await, old, "nobody waits while the old token is good");
    assert_eq!(gate.waiting(), 1, "one refresh at a time");
    gate.release();
    let new = next_token(&stand, &agent, &old, SOON).await;
    assert_ne!(new, old);
    events(&stand, "REFRESH_TOKEN", 1).await;
}

#[tokio::test]
async fn keycloaks_word_ends_the_session_at_the_next_refresh() {
    // Long enough that no refresh is under way when the session is ended: Keycloak may keep such a session.
    let stand = with_token_life(10).start().await;
    let agent = signed_in(&stand, "alice").await;
    let sid = stand.realm.sessions("alice").await[0]["id"].as_str().expect("a session has an id").to_owned();
    let token = access_token(&stand, &agent).await;
    stand.realm.delete_session(&sid).await;
    until_expired(&token).await;
    let refused = agent.fetch(format!("{}/api/echo", stand.app())).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("not_signed_in")));
    let me = agent.fetch(format!("{}/auth/me", stand.app())).await;
    assert_eq!((me.status, me.json()["authenticated"].as_bool()), (401, Some(false)));
    let page = agent.navigate(format!("{}/api/echo", stand.app())).await;
    assert!(page.is_login_page(), "{}", page.url);
}

#[tokio::test]
async fn a_disabled_user_is_kept_out_until_enabled_again() {
    let stand = with_token_life(4).start().await;
    let agent = signed_in(&stand, "alice").await;
    let (api, me) = (format!("{}/api/echo", stand.app()), format!("{}/auth/me", stand.app()));
    let id = session_id(&agent, APP);
    let token = access_token(&stand, &agent).await;
    stand.realm.set_enabled("alice", false).await;
    until_expired(&token).await;
    let refused = agent.fetch(&api).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("account_disabled")));
    assert_eq!(agent.fetch(&me).await.status, 403);
    let page = agent.navigate(&api).await;
    assert_eq!((page.status, page.hops.len()), (403, 1), "no round over the login");

    stand.realm.set_enabled("alice", true).await;
    let back = async || (agent.fetch(&api).await.status == 200).then_some(());
    wait::until("the user to be let in again", SOON, back).await;
    assert_eq!((agent.fetch(&me).await.status, session_id(&agent, APP)), (200, id), "the same session");
}

#[tokio::test]
async fn asking_who_is_signed_in_and_public_paths_keep_nothing_alive() {
    let stand = with_token_life(4).start().await;
    let agent = signed_in(&stand, "alice").await;
    let (me, public) = (format!("{}/auth/me", stand.app()), format!("{}/public/echo", stand.app()));
    let end = claims(&access_token(&stand, &agent).await)["exp"].as_u64().expect("a token ends");
    let ends = agent.fetch(&me).await.json()["session"]["expires_at"].clone();
    let polled = async || {
        assert_eq!(agent.fetch(&me).await.status, 200);
        assert_eq!(agent.fetch(&public).await.status, 200);
        (std::time::UNIX_EPOCH.elapsed().ok()?.as_secs() > end + 1).then_some(())
    };
    wait::until("the end of the token", SOON, polled).await;
    assert_eq!(agent.fetch(&me).await.json()["session"]["expires_at"], ends, "it was not used since");
    // The first refresh that Keycloak writes down is the one of the request that comes now.
    assert_eq!(agent.fetch(format!("{}/api/echo", stand.app())).await.status, 200);
    events(&stand, "REFRESH_TOKEN", 1).await;
    assert_ne!(agent.fetch(&me).await.json()["session"]["expires_at"], ends);
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_and_makes_room() {
    let stand = Stand::builder()
        .program(|config| {
            config["sessions"]["idle"] = json!("8s");
            config["sessions"]["maximum"] = json!(1);
        })
        .start()
        .await;
    let alice = signed_in(&stand, "alice").await;
    let (api, me) = (format!("{}/api/echo", stand.app()), format!("{}/auth/me", stand.app()));
    let bob = UserAgent::new();
    let full = bob.sign_in(&api, "bob", "bob").await;
    assert_eq!(full.status, 503, "alice's place is taken: {}", full.text());
    // Asking does not use it, so it ends although the page polls.
    let over = async || (alice.fetch(&me).await.status == 401).then_some(());
    wait::until("the end of an idle session", SOON, over).await;
    assert_eq!(alice.fetch(&api).await.status, 401);
    let landed = bob.navigate(&api).await;
    assert_eq!((landed.status, landed.url), (200, api), "there is room again");
}

#[tokio::test]
async fn a_used_session_outlives_its_idle_time_but_not_its_absolute_one() {
    let lifetimes = |config: &mut serde_json::Value| {
        config["sessions"]["idle"] = json!("5s");
        config["sessions"]["absolute"] = json!("12s");
    };
    let stand = Stand::builder().program(lifetimes).start().await;
    let agent = signed_in(&stand, "alice").await;
    let me = agent.fetch(format!("{}/auth/me", stand.app())).await.json();
    let ends = |me: &serde_json::Value, what: &str| me["session"][what].as_u64().expect("a time");
    let absolute = ends(&me, "login_expires_at");
    assert!(absolute > ends(&me, "expires_at"), "{me}");
    let over = async || match agent.fetch(format!("{}/api/echo", stand.app())).await.status {
        200 => None,
        status => Some((status, now())),
    };
    let (status, ended) = wait::until("the end of the session", SOON, over).await;
    assert_eq!(status, 401);
    assert!(ended >= absolute, "it ended {} s early", absolute - ended);
}

#[tokio::test]
async fn a_session_of_the_demo_works_past_its_tokens_minute() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let old = access_token(&stand, &agent).await;
    let life = claims(&old)["exp"].as_u64().zip(claims(&old)["iat"].as_u64());
    assert_eq!(life.map(|(end, start)| end - start), Some(60), "the demo's tokens live for a minute");
    let new = next_token(&stand, &agent, &old, Duration::from_secs(120)).await;
    until_expired(&old).await;
    assert_eq!(access_token(&stand, &agent).await, new);
    let copy = agent_with_session(APP, &session_id(&agent, APP).expect("alice has a session"));
    assert_eq!(copy.fetch(format!("{}/auth/me", stand.app())).await.status, 200);
}
