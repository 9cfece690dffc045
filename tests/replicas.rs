//! Three replicas of the program over one Redis.

use crate::steps::{
    APP, SOON, access_token, agent_with_session, bearer, checks_under_way_at, events, is_signed_in_at,
    patient, provider_session, rotation, session_id, signed_in, until_expired, with_token_life,
};
use futures_util::future::join_all;
use keycloak_bff_testbed::process::Signal;
use keycloak_bff_testbed::{Gate, Redis, Replicas, Stand, UserAgent, ports, wait};
use reqwest::Method;
use serde_json::json;
use std::time::Duration;

/// How long Envoys wait for the program unless a test holds it up.
const PATIENCE: &str = "3s";
const LONG_PATIENCE: &str = "30s";

async fn status(agent: &UserAgent, origin: &str, path: &str) -> u16 {
    agent.fetch(format!("{origin}{path}")).await.status
}

/// Has every replica read the session, so that it has a copy at hand.
async fn known_everywhere(replicas: &Replicas, agent: &UserAgent) {
    for app in replicas.apps() {
        assert!(is_signed_in_at(&app, agent).await, "one session everywhere: {app}");
    }
}

async fn until_signed_in_at(origin: &str, agent: &UserAgent) {
    let back = async || (status(agent, origin, "/api/echo").await == 200).then_some(());
    wait::until("the session to be served", SOON, back).await;
}

#[tokio::test]
async fn three_hundred_requests_over_three_replicas_cause_one_refresh() {
    let redis = Redis::start().await;
    let builder = with_token_life(4).realm(rotation).with_gate().program(patient);
    let replicas = Replicas::three(builder, &redis, LONG_PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    let old = access_token(&replicas, &agent).await;
    known_everywhere(&replicas, &agent).await;
    until_expired(&old).await;
    let before = replicas.realm.count_events("REFRESH_TOKEN").await;
    let (apps, gate) = (replicas.apps(), replicas.gate());
    gate.hold();
    let request = async |number: usize| agent.fetch(format!("{}/api/echo", apps[number % 3])).await;
    let requests = join_all((0..300).map(request));
    let all_wait = async || {
        let counts = join_all(replicas.envoys().into_iter().map(checks_under_way_at)).await;
        (counts.iter().sum::<u64>() == 300 && gate.waiting() > 0).then_some(())
    };
    let release = async {
        wait::until("three hundred requests that wait", SOON, all_wait).await;
        assert_eq!(gate.waiting(), 1, "one refresh for all");
        gate.release();
    };
    let (echoes, ()) = tokio::join!(requests, release);
    let new = bearer(&echoes[0]).expect("the request passes with a new token");
    assert_ne!(new, old);
    for echo in &echoes {
        assert_eq!((echo.status, bearer(echo).as_ref()), (200, Some(&new)), "{}", echo.text());
    }
    events(&replicas, "REFRESH_TOKEN", before + 1).await;
    assert_eq!(replicas.realm.count_events("REFRESH_TOKEN_ERROR").await, 0);
}

#[tokio::test]
async fn a_sign_out_at_one_replica_is_one_at_all() {
    let redis = Redis::start().await;
    let replicas = Replicas::three(Stand::builder(), &redis, PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    known_everywhere(&replicas, &agent).await;
    let copy = agent_with_session(APP, &session_id(&agent, APP).expect("alice has a session"));
    let logout = agent.fetch(format!("{}/auth/logout", replicas.others[0].app())).method(Method::POST).await;
    assert_eq!(logout.status, 200, "{}", logout.text());
    let ended = tokio::time::Instant::now();
    let apps = replicas.apps();
    let over = async || {
        let statuses = join_all(apps.iter().map(|app| status(&copy, app, "/api/echo"))).await;
        (statuses == [401, 401, 401]).then_some(ended.elapsed())
    };
    let took = wait::until("the end of the session", SOON, over).await;
    assert!(took < Duration::from_millis(100), "{took:?}");

    // On Keycloak's word to one of them.
    let agent = signed_in(&replicas, "alice").await;
    known_everywhere(&replicas, &agent).await;
    let sid = provider_session(&replicas, &agent).await;
    replicas.realm.delete_session(&sid).await;
    let over = async || {
        let statuses = join_all(apps.iter().map(|app| status(&agent, app, "/api/echo"))).await;
        (statuses == [401, 401, 401]).then_some(())
    };
    wait::until("the end of the session", SOON, over).await;
}

#[tokio::test]
async fn users_see_and_end_sessions_that_another_replica_began() {
    let redis = Redis::start().await;
    let replicas = Replicas::three(Stand::builder(), &redis, PATIENCE).await;
    let (here, elsewhere) = (signed_in(&replicas, "alice").await, signed_in(&replicas, "alice").await);
    known_everywhere(&replicas, &elsewhere).await;
    let app = replicas.others[1].app();
    let list = here.fetch(format!("{app}/auth/sessions")).await.json();
    let list = list["sessions"].as_array().expect("a list").clone();
    assert_eq!(list.len(), 2, "{list:?}");
    let other = list.iter().find(|session| session["current"] == json!(false)).expect("the other one");
    let handle = other["handle"].as_str().expect("a handle");
    let ended = here.fetch(format!("{app}/auth/sessions/{handle}")).method(Method::DELETE).await;
    assert_eq!(ended.status, 204);
    for app in replicas.apps() {
        assert_eq!(status(&elsewhere, &app, "/api/echo").await, 401);
        assert_eq!(status(&here, &app, "/api/echo").await, 200);
    }
}

#[tokio::test]
async fn while_redis_is_away_nobody_is_signed_out() {
    let mut redis = Redis::start().await;
    let replicas = Replicas::three(Stand::builder(), &redis, PATIENCE).await;
    let (at_hand, unknown) = (replicas.stand.app(), replicas.others[0].app());
    let agent = signed_in(&replicas, "alice").await;
    assert!(is_signed_in_at(&at_hand, &agent).await);
    let begun = UserAgent::new();
    let begun_at = crate::steps::Begun::at(&replicas, &begun, "/api/echo").await;
    let callback = begun_at.callback(&begun, "bob").await;
    let cookies = (agent.cookies.of(APP).len(), begun.cookies.of(APP).len());
    redis.stop().await;

    let away = async || (status(&agent, &unknown, "/api/echo").await == 503).then_some(());
    wait::until("the loss of Redis to be noticed", SOON, away).await;
    let refused = agent.fetch(format!("{unknown}/api/echo")).await;
    assert_eq!((refused.status, refused.header("retry-after").as_deref()), (503, Some("1")));
    assert_eq!(refused.json()["error"], "sign_in_unavailable");
    let page = agent.navigate(format!("{unknown}/api/echo")).await;
    assert_eq!((page.status, page.hops.len()), (503, 1), "nobody is sent to the login");
    for path in ["/auth/me", "/auth/sessions"] {
        assert_eq!(status(&agent, &unknown, path).await, 503, "{path}");
    }
    for app in [&at_hand, &unknown] {
        let logout = agent.fetch(format!("{unknown}/auth/logout")).method(Method::POST).await;
        assert_eq!((logout.status, logout.header("set-cookie")), (503, None));
        assert_eq!(status(&agent, app, "/public/echo").await, 200, "what needs no session goes on");
    }
    assert_eq!(status(&agent, &at_hand, "/api/echo").await, 200, "a session at hand goes on");
    let failed = begun.navigate(&callback).await;
    assert_eq!(failed.status, 503, "{}", failed.text());
    assert_eq!(
        (agent.cookies.of(APP).len(), begun.cookies.of(APP).len()),
        cookies,
        "no cookie is taken away"
    );

    redis.start_again().await;
    for app in replicas.apps() {
        until_signed_in_at(&app, &agent).await;
    }
    assert_eq!(begun.navigate(&callback).await.status, 200, "the login goes on where it was");
    assert!(is_signed_in_at(&unknown, &begun).await);
}

#[tokio::test]
async fn another_replica_goes_on_when_the_one_that_refreshes_dies() {
    let redis = Redis::start().await;
    let builder = with_token_life(4).realm(rotation).with_gate().program(patient);
    let mut replicas = Replicas::three(builder, &redis, LONG_PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    let old = access_token(&replicas, &agent).await;
    known_everywhere(&replicas, &agent).await;
    until_expired(&old).await;
    let before = replicas.realm.count_events("REFRESH_TOKEN").await;
    let (dying, living) = (replicas.stand.app(), replicas.others[0].app());
    replicas.gate().hold();
    let caller = agent_with_session(APP, &session_id(&agent, APP).expect("alice has a session"));
    let lost = tokio::spawn(async move { status(&caller, &dying, "/api/echo").await });
    let under_way = async || (replicas.gate().waiting() == 1).then_some(());
    wait::until("the refresh", SOON, under_way).await;
    replicas.stand.program.process().kill();
    // What was on its way to Keycloak is gone with it.
    replicas.gate().close().await;
    replicas.gate().release();
    replicas.gate().open().await;
    assert!(lost.await.is_ok_and(|status| status >= 400), "the replica is dead");

    let echo = agent.fetch(format!("{living}/api/echo")).await;
    assert_eq!(echo.status, 200, "{}", echo.text());
    assert_ne!(bearer(&echo), Some(old));
    events(&replicas, "REFRESH_TOKEN", before + 1).await;
    assert_eq!(replicas.realm.count_events("REFRESH_TOKEN_ERROR").await, 0);
    replicas.stand.program.start_again().await;
    known_everywhere(&replicas, &agent).await;
}

#[tokio::test]
async fn an_emptied_redis_means_that_everyone_signs_in_again_and_nothing_worse() {
    let redis = Redis::start().await;
    let replicas = Replicas::three(Stand::builder(), &redis, PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    known_everywhere(&replicas, &agent).await;
    redis.command(&["FLUSHALL"]).await;
    for app in replicas.apps() {
        let over = async || (status(&agent, &app, "/api/echo").await == 401).then_some(());
        wait::until("the end of the session", SOON, over).await;
    }
    let landed = agent.navigate(format!("{}/api/echo", replicas.app())).await;
    assert_eq!(landed.status, 200, "Keycloak signs her in again by itself: {landed:#?}");
    known_everywhere(&replicas, &agent).await;
}

#[tokio::test]
async fn a_replica_whose_connection_is_frozen_believes_its_copies_for_a_second_only() {
    let redis = Redis::start().await;
    let gate = Gate::closed(ports::free(), redis.port());
    gate.open().await;
    let behind = format!("redis://127.0.0.1:{}", gate.port());
    let replicas = Replicas::start(Stand::builder(), &[redis.url(), behind], PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    known_everywhere(&replicas, &agent).await;
    let copy = agent_with_session(APP, &session_id(&agent, APP).expect("alice has a session"));
    gate.freeze();
    let logout = agent.fetch(format!("{}/auth/logout", replicas.app())).method(Method::POST).await;
    assert_eq!(logout.status, 200);
    let ended = tokio::time::Instant::now();
    let app = replicas.others[0].app();
    let over = async || (status(&copy, &app, "/api/echo").await == 401).then_some(ended.elapsed());
    let took = wait::until("the end of the session", SOON, over).await;
    // One second, and on a busy machine the new connection and the probe take theirs.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_copy_of_redis_opens_no_session_and_names_nobody() {
    let redis = Redis::start().await;
    let replicas = Replicas::start(Stand::builder(), &[redis.url()], PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    let token = access_token(&replicas, &agent).await;
    let (sid, id) = (provider_session(&replicas, &agent).await, session_id(&agent, APP).expect("a session"));
    let subject = crate::steps::claims(&token)["sub"].as_str().expect("a subject").to_owned();
    let dump = redis.dump().await;
    assert!(dump.iter().any(|(key, ..)| key.starts_with("keycloak-bff:s:")), "{dump:?}");
    for (key, life, contents) in dump {
        assert!(life > 0, "{key} has no end");
        for secret in ["alice", "eyJ", &token, &sid, &id, &subject, "realms"] {
            assert!(!key.contains(secret) && !contents.contains(secret), "{secret} in {key}: {contents}");
        }
    }
}

#[tokio::test]
async fn a_restart_signs_nobody_out() {
    let redis = Redis::start().await;
    let mut replicas = Replicas::start(with_token_life(4), &[redis.url()], PATIENCE).await;
    let agent = signed_in(&replicas, "alice").await;
    replicas.stand.program.restart().await;
    until_signed_in_at(&replicas.app(), &agent).await;
    replicas.stand.program.signal(Signal::KILL);
    replicas.stand.program.process().wait(SOON).await;
    replicas.stand.program.start_again().await;
    let token = access_token(&replicas, &agent).await;
    until_expired(&token).await;
    assert!(is_signed_in_at(&replicas.app(), &agent).await, "its tokens can be renewed as well");
}
