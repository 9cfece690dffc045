//! Logins in several tabs of one browser at once.

use crate::steps::{APP, Begun, plant, session_id, signed_in, transactions};
use keycloak_bff_testbed::{Response, Stand, UserAgent};

fn target(tab: usize) -> String {
    format!("/api/echo?tab={tab}")
}

/// Goes on in a tab: with the password if its page still asks, or as Keycloak has it by now.
async fn finish(agent: &UserAgent, begun: &Begun) -> Response {
    agent.submit_login(&begun.page, "alice", "alice").await
}

#[tokio::test]
async fn two_tabs_finish_their_logins_in_either_order() {
    let stand = Stand::start().await;
    for order in [[0, 1], [1, 0]] {
        let agent = UserAgent::new();
        let tabs = [Begun::at(&stand, &agent, &target(0)).await, Begun::at(&stand, &agent, &target(1)).await];
        assert_eq!(transactions(&agent).len(), 2);
        for tab in order {
            let landed = finish(&agent, &tabs[tab]).await;
            assert_eq!(landed.url, format!("{}{}", stand.app(), target(tab)), "{order:?}: {landed:#?}");
            assert_eq!(landed.status, 200);
        }
        assert_eq!(transactions(&agent).len(), 0);
        assert_eq!(agent.fetch(format!("{}/auth/me", stand.app())).await.status, 200);
    }
}

#[tokio::test]
async fn seven_tabs_leave_at_most_five_logins_under_way_and_every_tab_gets_in() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let mut tabs = Vec::new();
    for tab in 0..7 {
        tabs.push(Begun::at(&stand, &agent, &target(tab)).await);
        assert_eq!(transactions(&agent).len(), (tab + 1).min(5));
    }
    let (mut in_time, mut too_late) = (0, 0);
    for tab in [6, 2, 4, 0, 5, 1, 3] {
        let landed = finish(&agent, &tabs[tab]).await;
        if landed.status == 200 {
            in_time += 1;
            assert_eq!(landed.url, format!("{}{}", stand.app(), target(tab)));
            continue;
        }
        // Its cookie had to make room: a page says so and leads on.
        too_late += 1;
        assert_ne!(tab, 6, "the newest login is never the one that goes");
        assert_eq!(landed.status, 400, "tab {tab}: {landed:#?}");
        assert!(landed.text().contains(&format!("href=\"{}/auth/login\"", stand.app())));
        let landed = agent.navigate(format!("{}/auth/login", stand.app())).await;
        assert_eq!((landed.status, landed.url), (200, format!("{}/", stand.app())));
    }
    assert_eq!((in_time, too_late), (5, 2));
    assert_eq!(transactions(&agent).len(), 0);
}

#[tokio::test]
async fn leftover_and_garbage_transaction_cookies_do_not_block_a_login() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    for number in 0..12 {
        plant(&agent, APP, &format!("__Host-login-app-{number:016x}"), &"x".repeat(400));
    }
    plant(&agent, APP, "__Host-login-app-", "");
    plant(&agent, APP, "__Host-login-app-short", "=");
    let begun = Begun::at(&stand, &agent, &target(0)).await;
    assert_eq!(
        transactions(&agent).len(),
        3,
        "what opens no more is taken away, names that are not ours are left"
    );
    let landed = finish(&agent, &begun).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}{}", stand.app(), target(0))));
}

#[tokio::test]
async fn a_login_finished_in_one_tab_replaces_the_session_of_the_other() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, &target(1)).await;
    let other = signed_in(&stand, "alice").await;
    let old = session_id(&other, APP).expect("alice has a session");
    plant(&agent, APP, crate::steps::SESSION, &old);
    assert_eq!(finish(&agent, &begun).await.status, 200);
    assert_ne!(session_id(&agent, APP).as_ref(), Some(&old));
    assert_eq!(other.fetch(format!("{}/auth/me", stand.app())).await.status, 401, "the id has changed");
}
