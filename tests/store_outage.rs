//! Redis away for half a minute while users work and sign in.

use crate::steps::{Begun, SOON, is_signed_in_at, rotation, signed_in, with_token_life};
use futures_util::future::join_all;
use keycloak_bff_testbed::{Redis, Replicas, UserAgent, wait};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const BEFORE: Duration = Duration::from_secs(3);
const OUTAGE: Duration = Duration::from_secs(30);

/// How soon after the return every session is served again; the program asks for Redis once a second.
const RETURN: Duration = Duration::from_secs(4);

async fn status(agent: &UserAgent, url: String) -> u16 {
    agent.fetch(url).await.status
}

#[tokio::test]
async fn half_a_minute_without_redis_loses_no_session_and_gives_no_wrong_verdict() {
    let mut redis = Redis::start().await;
    // Tokens end several times meanwhile, and a refresh token that is used twice ends its session.
    let replicas = Replicas::three(with_token_life(10).realm(rotation), &redis, "3s").await;
    let apps = replicas.apps();
    let mut agents = Vec::new();
    for user in ["alice", "bob", "alice", "bob"] {
        agents.push(signed_in(&replicas, user).await);
    }
    let is_over = AtomicBool::new(false);
    let goes_on = || !is_over.load(Ordering::Acquire);

    let check = async |agent: &UserAgent| {
        let mut seen = BTreeSet::new();
        while goes_on() {
            for app in &apps {
                seen.insert(status(agent, format!("{app}/api/echo")).await);
                assert_eq!(status(agent, format!("{app}/public/echo")).await, 200);
            }
            sleep(Duration::from_millis(100)).await;
        }
        seen
    };
    let checks = join_all(agents.iter().map(check));
    let sign_ins = async {
        let mut seen = Vec::new();
        while goes_on() {
            let agent = UserAgent::new();
            let callback = Begun::at(&replicas, &agent, "/api/echo").await.callback(&agent, "alice").await;
            seen.push(agent.navigate(&callback).await.status);
            sleep(Duration::from_millis(500)).await;
        }
        seen
    };
    let outage = async {
        sleep(BEFORE).await;
        redis.stop().await;
        sleep(OUTAGE).await;
        redis.start_again().await;
        let back = Instant::now();
        let served = async || {
            for (agent, app) in agents.iter().flat_map(|agent| apps.iter().map(move |app| (agent, app))) {
                if status(agent, format!("{app}/api/echo")).await != 200 {
                    return None;
                }
            }
            Some(back.elapsed())
        };
        let took = wait::until("every session to be served again", SOON, served).await;
        is_over.store(true, Ordering::Release);
        took
    };
    let (checks, sign_ins, took) = tokio::join!(checks, sign_ins, outage);
    for seen in checks {
        assert_eq!(seen, BTreeSet::from([200, 503]), "served or told to wait, and nothing else");
    }
    let seen: BTreeSet<u16> = sign_ins.iter().copied().collect();
    assert_eq!(seen, BTreeSet::from([200, 503]), "{sign_ins:?}");
    assert!(took < RETURN, "{took:?}");
    for app in &apps {
        for agent in &agents {
            assert!(is_signed_in_at(app, agent).await);
        }
    }
    assert_eq!(replicas.realm.count_events("REFRESH_TOKEN_ERROR").await, 0);
}
