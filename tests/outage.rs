//! Keycloak goes away and comes back.

use crate::steps::{
    APP, access_token, claims, next_token, now, rotation, session_id, signed_in, with_token_life,
};
use keycloak_bff_testbed::{Keycloak, wait};
use std::time::Duration;

const TOKEN_LIFE: u64 = 12;

/// Keycloak writes sessions to its database a few seconds late.
const WRITTEN: Duration = Duration::from_secs(8);

#[tokio::test]
async fn keycloak_stopped_for_three_token_lives_signs_nobody_out() {
    let mut keycloak = Keycloak::start().await;
    let stand = with_token_life(TOKEN_LIFE).realm(rotation).keycloak(&keycloak.url()).start().await;
    let agents = [signed_in(&stand, "alice").await, signed_in(&stand, "bob").await];
    let ids = agents.each_ref().map(|agent| session_id(agent, APP));
    let written = now() + WRITTEN.as_secs();
    wait::until("Keycloak to have written", WRITTEN * 2, async || (now() > written).then_some(())).await;
    // With tokens that are fresh, so that no refresh is lost in the stop.
    let fresh = async |agent| {
        let old = access_token(&stand, agent).await;
        let new = next_token(&stand, agent, &old, Duration::from_secs(TOKEN_LIFE * 2)).await;
        claims(&new)["exp"].as_u64().expect("a token ends")
    };
    let ends = tokio::join!(fresh(&agents[0]), fresh(&agents[1]));
    let ends = [ends.0, ends.1];
    keycloak.process().stop().await;

    let api = format!("{}/api/echo", stand.app());
    let mut let_through = [false; 2];
    let back_at = now() + 3 * TOKEN_LIFE;
    let meanwhile = async || {
        for ((agent, end), let_through) in agents.iter().zip(&ends).zip(&mut let_through) {
            let before = now();
            let answer = agent.fetch(&api).await;
            match answer.status {
                200 => {
                    assert!(before < *end, "let through with a token that is over");
                    *let_through = true;
                }
                503 => {
                    assert!(now() + 2 >= *end, "refused while the token lives");
                    assert!(answer.header("retry-after").is_some());
                }
                status => panic!("{status} while Keycloak is away: {}", answer.text()),
            }
            assert_eq!(agent.fetch(format!("{}/auth/me", stand.app())).await.status, 200);
        }
        (now() > back_at).then_some(())
    };
    wait::until("three lives of the tokens", Duration::from_secs(6 * TOKEN_LIFE), meanwhile).await;
    assert_eq!(let_through, [true; 2], "the token is used while it lives");

    keycloak.start_again().await;
    for (agent, id) in agents.iter().zip(&ids) {
        let served = async || match agent.fetch(&api).await.status {
            200 => Some(()),
            503 => None,
            status => panic!("{status} after Keycloak came back"),
        };
        wait::until("the session to go on", Duration::from_secs(90), served).await;
        assert_eq!(session_id(agent, APP), *id, "the same session");
    }
}
