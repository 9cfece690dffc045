//! Several frontends in one program, each with its own sessions and, if need be, its own provider.

use crate::steps::{ADMIN, APP, SESSION, agent_with_session, plant, session_id, signed_in};
use keycloak_bff_testbed::{Stand, UserAgent};
use serde_json::json;

#[tokio::test]
async fn a_session_of_one_frontend_is_none_on_the_other() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "bob").await;
    let id = session_id(&agent, APP).expect("bob has a session");
    assert_eq!(session_id(&agent, ADMIN), None);
    let thief = agent_with_session(ADMIN, &id);
    for path in ["/api/echo", "/admin/echo", "/auth/me"] {
        assert_eq!(thief.fetch(format!("{}{path}", stand.admin())).await.status, 401, "{path}");
    }
    // Logging out there with it ends nothing here.
    let logout = thief.fetch(format!("{}/auth/logout", stand.admin())).method(reqwest::Method::POST).await;
    assert_eq!(logout.status, 200);
    assert_eq!(agent.fetch(format!("{}/api/echo", stand.app())).await.status, 200);

    // Bob's own browser gets in there by Keycloak's session, with a session of that frontend.
    let landed = agent.navigate(format!("{}/api/echo", stand.admin())).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo", stand.admin())));
    let other = session_id(&agent, ADMIN).expect("bob has a session there too");
    assert_ne!(other, id);
    plant(&agent, APP, SESSION, &other);
    assert_eq!(agent.fetch(format!("{}/auth/me", stand.app())).await.status, 401);
}

#[tokio::test]
async fn a_login_begun_on_one_frontend_does_not_end_on_the_other() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = crate::steps::Begun::at(&stand, &agent, "/api/echo").await;
    let transaction = crate::steps::transactions(&agent).pop().expect("a login under way has a cookie");
    let callback = begun.callback(&agent, "alice").await;
    let elsewhere = callback.replace(&stand.app(), &stand.admin());
    // Under its own name and under the one that the other frontend would look for.
    plant(&agent, ADMIN, &transaction.name, &transaction.value);
    plant(&agent, ADMIN, &transaction.name.replace("-app-", "-admin-"), &transaction.value);
    let answer = agent.navigate(elsewhere).await;
    assert_eq!((answer.status, session_id(&agent, ADMIN)), (400, None), "{}", answer.text());
    assert_eq!(agent.navigate(callback).await.status, 200);
}

/// A stand whose admin frontend signs in at a realm of its own, with this client secret.
async fn with_two_providers(secret: &'static str) -> (Stand, keycloak_bff_testbed::keycloak::Realm) {
    let mut stand = Stand::start().await;
    let other = stand.another_realm().await;
    let mut provider = stand.program_config["providers"][0].clone();
    provider["name"] = json!("other");
    provider["issuer"] = json!(other.issuer());
    provider["client_secret"] = json!({"value": secret});
    let edit = |config: &mut serde_json::Value| {
        config["providers"].as_array_mut().expect("providers are a list").push(provider);
        config["frontends"][1]["provider"] = json!("other");
    };
    stand.reconfigure(edit).await;
    (stand, other)
}

#[tokio::test]
async fn two_frontends_sign_in_at_two_providers() {
    let (stand, other) = with_two_providers("demo-secret").await;
    let agent = signed_in(&stand, "alice").await;
    // Another realm knows nobody yet, so it asks.
    let page = agent.navigate(format!("{}/admin/echo", stand.admin())).await;
    assert!(page.is_login_page() && page.url.starts_with(&other.issuer()), "{}", page.url);
    let landed = agent.submit_login(&page, "bob", "bob").await;
    assert_eq!((landed.status, landed.url.clone()), (200, format!("{}/admin/echo", stand.admin())));
    let token = crate::steps::bearer(&landed).expect("bob's token reaches the upstream");
    assert_eq!(crate::steps::claims(&token)["iss"], other.issuer());
    let token = crate::steps::access_token(&stand, &agent).await;
    assert_eq!(crate::steps::claims(&token)["iss"], stand.realm.issuer());
    assert_eq!(other.count_events("LOGIN").await, 1);
}

#[tokio::test]
async fn one_frontend_with_a_broken_client_leaves_the_other_alone() {
    let (stand, other) = with_two_providers("not-the-secret").await;
    let agent = UserAgent::new();
    let page = agent.navigate(format!("{}/api/echo", stand.admin())).await;
    assert!(page.url.starts_with(&other.issuer()), "{}", page.url);
    let answer = agent.submit_login(&page, "bob", "bob").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("tell its operators"), "{}", answer.text());
    assert!(answer.text().contains(&format!("href=\"{}/auth/login", stand.admin())));
    assert_eq!(session_id(&agent, ADMIN), None);
    assert!(!stand.program.log().contains("not-the-secret"));
    assert!(stand.program.log().contains("unauthorized_client"), "operators can see why");
    let agent = signed_in(&stand, "alice").await;
    assert_eq!(agent.fetch(format!("{}/api/echo", stand.app())).await.status, 200);
}
