//! The program's own endpoints behind an Envoy that asks the authorizer for them as well, as Istio and Envoy Gateway
//! do, and behind one that does not.

use crate::steps::{APP, Begun, session_id, transactions};
use keycloak_bff_testbed::{Stand, UserAgent};
use reqwest::Method;

#[tokio::test]
async fn with_ext_authz_off_for_them_the_endpoints_work() {
    let stand = Stand::start().await;
    a_whole_session(&stand).await;
    stand
        .envoy
        .logged("an endpoint", |entry| entry["path"] == "/auth/me" && entry["frontend"].is_null())
        .await;
}

#[tokio::test]
async fn with_ext_authz_on_for_them_the_endpoints_work_alike() {
    let stand = Stand::builder().authorize_own_endpoints().start().await;
    a_whole_session(&stand).await;
    // The authorizer was asked indeed: it names the frontend, and believes nobody to be anyone.
    let entry = stand
        .envoy
        .logged("an endpoint", |entry| entry["path"] == "/auth/me" && entry["frontend"] == "app")
        .await;
    assert!(entry["subject"].is_null() && entry["session"].is_null(), "{entry}");

    // Only those very paths pass.
    let agent = UserAgent::new();
    for path in
        ["/auth", "/auth/", "/auth/other", "/auth/me/", "/auth/me/more", "/auth/ME", "/auth/logout/return/x"]
    {
        let answer = agent.fetch(format!("{}{path}", stand.app())).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (401, Some("not_signed_in")), "{path}");
    }
}

/// From nobody to alice and back.
async fn a_whole_session(stand: &Stand) {
    let agent = UserAgent::new();
    let (app, me) = (stand.app(), format!("{}/auth/me", stand.app()));
    let nobody = agent.fetch(&me).await;
    assert_eq!(nobody.status, 401);
    assert_eq!(nobody.json()["login_url"], format!("{app}/auth/login"));

    let begun = Begun::at(stand, &agent, "/api/echo?x=1").await;
    assert_eq!(transactions(&agent).len(), 1, "the login sets its cookie");
    let callback = begun.callback(&agent, "alice").await;
    let landed = agent.navigate(&callback).await;
    assert_eq!((landed.status, landed.url), (200, format!("{app}/api/echo?x=1")), "its cookie came back");
    assert_eq!(transactions(&agent).len(), 0);
    assert_eq!(agent.navigate(&callback).await.status, 400);

    let alice = agent.fetch(&me).await;
    assert_eq!((alice.status, alice.json()["claims"]["preferred_username"].as_str()), (200, Some("alice")));
    assert_eq!(agent.fetch(&me).method(Method::HEAD).await.status, 200);
    let listed = agent.fetch(&me).from_page(stand.admin()).await;
    assert_eq!(
        (listed.status, listed.header_values("access-control-allow-origin")),
        (200, vec![stand.admin()])
    );
    assert_eq!(listed.header_values("vary"), ["Origin"], "said once");
    let forced = agent.navigate(format!("{app}/auth/login?force=true")).await;
    assert!(forced.is_login_page());

    let url = format!("{app}/auth/logout");
    let foreign = agent.navigate(&url).method(Method::POST).header("origin", "https://evil.example");
    assert_eq!(foreign.header("sec-fetch-site", "cross-site").await.status, 403);
    assert_eq!(agent.fetch(&url).await.status, 405);
    assert_eq!(agent.fetch(&me).await.status, 200);
    let landed = agent.navigate(&url).method(Method::POST).form(&[]).from_page(&app).await;
    assert_eq!((landed.status, landed.url), (200, format!("{app}/")));
    assert_eq!(session_id(&agent, APP), None);
    assert_eq!(agent.fetch(&me).await.status, 401);
    assert_eq!(stand.realm.sessions("alice").await.len(), 0);
}
