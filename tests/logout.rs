//! Signing out: here, at Keycloak, and for whoever copied the cookie.

use crate::steps::{
    ADMIN, APP, SOON, agent_with_session, from_elsewhere, from_no_browser, go_to_admin, is_signed_in,
    is_signed_in_at, session_cookie, session_id, signed_in,
};
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Stand, UserAgent, wait};
use reqwest::Method;
use serde_json::json;

/// The page's own form.
fn form<'a>(stand: &Stand, agent: &'a UserAgent) -> Request<'a> {
    agent
        .navigate(format!("{}/auth/logout", stand.app()))
        .method(Method::POST)
        .form(&[])
        .from_page(stand.app())
}

#[tokio::test]
async fn signing_out_by_form_ends_everything_and_returns_to_the_frontend() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP).expect("alice has a session");
    let copy = agent_with_session(APP, &id);
    assert!(is_signed_in(&stand, &copy).await);
    assert_eq!(stand.realm.sessions("alice").await.len(), 1);

    let landed = form(&stand, &agent).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/", stand.app())));
    assert_eq!(landed.hops[0].status, 303, "a form is not sent on: {:#?}", landed.hops);
    assert!(landed.hops[1].url.starts_with(&stand.realm.endpoint("logout")));
    let back: Vec<&str> = landed.hops.iter().map(|hop| hop.url.as_str()).collect();
    assert!(
        back.iter().any(|url| url.starts_with(&format!("{}/auth/logout/return", stand.app()))),
        "{back:?}"
    );

    assert_eq!(agent.cookies.of(APP).len(), 0, "{:?}", agent.cookies.of(APP));
    assert!(!is_signed_in(&stand, &agent).await);
    assert!(!is_signed_in(&stand, &copy).await, "a copy of the cookie is dead as well");
    assert_eq!(copy.fetch(format!("{}/auth/me", stand.app())).await.status, 401);
    assert_eq!(stand.realm.sessions("alice").await.len(), 0, "Keycloak's session is over");
    let page = agent.navigate(format!("{}/api/echo", stand.app())).await;
    assert!(page.is_login_page(), "the next login asks for the password");
}

#[tokio::test]
async fn signing_out_by_script_answers_where_to_go_next() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let logout = async || agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await;
    let answer = logout().await;
    let body = answer.json();
    assert_eq!((answer.status, body["provider_reachable"].as_bool()), (200, Some(true)), "{body}");
    let next = body["logout_url"].as_str().expect("an address").to_owned();
    assert!(next.starts_with(&format!("{}?", stand.realm.endpoint("logout"))), "{next}");
    assert!(!is_signed_in(&stand, &agent).await);
    let landed = agent.navigate(next).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/", stand.app())));
    assert_eq!(stand.realm.sessions("alice").await.len(), 0);

    // Once more, with nobody signed in: the same answer, and nothing breaks.
    let again = logout().await;
    assert_eq!((again.status, again.json()["provider_reachable"].as_bool()), (200, Some(true)));
    assert!(again.json()["logout_url"].as_str().is_some_and(|url| url.starts_with(&stand.realm.issuer())));
    assert_eq!(form(&stand, &UserAgent::new()).without_redirects().await.status, 303);
}

#[tokio::test]
async fn the_refresh_token_is_of_no_use_after_signing_out() {
    let stand = Stand::builder()
        .realm(|realm| {
            realm["enabledEventTypes"] = json!(["LOGIN", "LOGOUT", "REVOKE_GRANT", "REFRESH_TOKEN"])
        })
        .with_gate()
        .start()
        .await;
    let agent = signed_in(&stand, "alice").await;
    let carried = stand.gate().carried();
    let refresh_token = carried.split("\"refresh_token\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let refresh_token = refresh_token.expect("Keycloak gave a refresh token").to_owned();
    // By script, and the browser never goes to Keycloak: the revocation alone must do.
    assert_eq!(agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await.status, 200);
    #[expect(clippy::disallowed_methods, reason = "the rule is for the program; this asks Keycloak itself")]
    let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
    let refused = async || {
        let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh_token)];
        let token =
            format!("{}/realms/{}/protocol/openid-connect/token", stand.gate().url(), stand.realm.name());
        let request = http.post(token).basic_auth("keycloak-bff", Some("demo-secret")).form(&form);
        let answer = request.send().await.expect("Keycloak answers");
        (answer.status() == 400).then_some(answer.text().await.unwrap_or_default())
    };
    let reason = wait::until("the refresh token to be refused", SOON, refused).await;
    assert!(reason.contains("invalid_grant"), "{reason}");
}

#[tokio::test]
async fn a_get_signs_nobody_out() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let url = format!("{}/auth/logout", stand.app());
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = agent.fetch(&url).method(method.clone()).await;
        assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("POST")), "{method}");
    }
    assert_eq!(agent.navigate(&url).await.status, 405);
    // Nor does the address to which Keycloak returns, called by anyone.
    let answer = agent.navigate(format!("{url}/return?state=x")).without_redirects().await;
    assert_eq!((answer.status, answer.header("location")), (302, Some(format!("{}/", stand.app()))));
    assert!(is_signed_in(&stand, &agent).await);
}

#[tokio::test]
async fn nobody_but_the_frontends_own_pages_can_sign_a_user_out() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    // With the cookie, as if a browser had no SameSite.
    let cookie = session_cookie(&agent);
    let logout = || form(&stand, &agent).header("cookie", &cookie).without_redirects();
    for (what, request) in from_elsewhere(&stand, logout) {
        let answer = request.await;
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        assert!(answer.header_values("set-cookie").is_empty(), "{what}");
        assert!(is_signed_in(&stand, &agent).await, "{what}");
    }
    assert_eq!(stand.realm.sessions("alice").await.len(), 1);
}

#[tokio::test]
async fn an_own_form_under_no_referrer_signs_out() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let landed = form(&stand, &agent).header("origin", "null").header("sec-fetch-site", "same-origin").await;
    assert_eq!(landed.hops[0].status, 303, "{landed:#?}");
    assert!(!is_signed_in(&stand, &agent).await);
    assert_eq!(stand.realm.sessions("alice").await.len(), 0);
}

#[tokio::test]
async fn a_client_without_fetch_metadata_signs_out_with_the_static_header() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let post = || from_no_browser(agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST));
    assert_eq!(post().await.status, 403);
    assert_eq!(post().header("x-csrf", "0").await.status, 403);
    assert!(is_signed_in(&stand, &agent).await);
    assert_eq!(post().header("x-csrf", "1").await.status, 200);
    assert!(!is_signed_in(&stand, &agent).await);
}

#[tokio::test]
async fn signing_out_on_one_frontend_signs_the_same_browser_out_on_the_other() {
    let stand = Stand::start().await;
    let (agent, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    for browser in [&agent, &elsewhere] {
        go_to_admin(&stand, browser).await;
    }
    let copies = [APP, ADMIN].map(|host| {
        agent_with_session(host, &session_id(&agent, host).expect("alice has a session on both"))
    });
    // By script, and the browser never goes to Keycloak.
    assert_eq!(agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await.status, 200);
    for (origin, copy) in [stand.app(), stand.admin()].into_iter().zip(copies) {
        assert!(!is_signed_in_at(&origin, &copy).await, "{origin}");
        assert!(!is_signed_in_at(&origin, &agent).await, "{origin}");
        assert_eq!(agent.fetch(format!("{origin}/auth/me")).await.status, 401, "{origin}");
        assert!(is_signed_in_at(&origin, &elsewhere).await, "{origin}, another browser");
    }
}

#[tokio::test]
async fn signing_out_works_while_keycloak_is_away() {
    let stand = Stand::builder().with_gate().start().await;
    let (agent, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    go_to_admin(&stand, &agent).await;
    stand.gate().close().await;
    assert_eq!(agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await.status, 200);
    assert!(!is_signed_in(&stand, &agent).await);
    assert!(!is_signed_in_at(&stand.admin(), &agent).await);
    assert!(is_signed_in(&stand, &elsewhere).await);
    let id = session_id(&elsewhere, APP).expect("alice has a session there");
    assert!(form(&stand, &elsewhere).without_redirects().await.status < 400);
    assert_eq!(session_id(&elsewhere, APP), None);
    assert!(!is_signed_in(&stand, &agent_with_session(APP, &id)).await);
}

#[tokio::test]
async fn a_sign_out_says_that_keycloak_is_away() {
    let stand = Stand::builder().with_gate().start().await;
    let (agent, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    stand.gate().close().await;
    let answer = agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await;
    let body = answer.json();
    assert_eq!((answer.status, body["provider_reachable"].as_bool()), (200, Some(false)), "{body}");
    assert_eq!(body["logout_url"], format!("{}/", stand.app()));
    let page = form(&stand, &elsewhere).without_redirects().await;
    assert_eq!(page.status, 200, "{page:#?}");
    assert!(page.text().contains("you may still be signed in there"), "{}", page.text());
}

#[tokio::test]
async fn a_sign_out_with_a_keycloak_that_was_never_there_says_so() {
    let stand = Stand::builder().with_closed_gate().start().await;
    let agent = UserAgent::new();
    let answer = agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST).await;
    let body = answer.json();
    assert_eq!((answer.status, body["provider_reachable"].as_bool()), (200, Some(false)), "{body}");
    assert_eq!(body["logout_url"], format!("{}/", stand.app()));
    let page = form(&stand, &agent).without_redirects().await;
    assert_eq!(page.status, 200, "{page:#?}");
    assert!(page.text().contains("you may still be signed in there"), "{}", page.text());
}
