//! Signing out: here, at Keycloak, and for whoever copied the cookie.

use crate::steps::{APP, SOON, agent_with_session, session_id, signed_in};
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

async fn is_signed_in(stand: &Stand, agent: &UserAgent) -> bool {
    agent.fetch(format!("{}/api/echo", stand.app())).await.status == 200
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
    let id = session_id(&agent, APP).expect("alice has a session");
    let cookie = format!("__Host-session={id}");
    // With the cookie, as if a browser had no SameSite.
    let forms = [
        ("a foreign page", Some("https://evil.example"), Some("cross-site")),
        ("the other frontend", Some("ADMIN"), Some("same-site")),
        ("a sandboxed page", Some("null"), Some("cross-site")),
        ("a foreign page in an old browser", Some("https://evil.example"), None),
        ("a sandboxed page in an old browser", Some("null"), None),
        ("a page that says nothing", None, None),
        ("a page that hides its origin", None, Some("cross-site")),
        ("a sibling that hides its origin", None, Some("same-site")),
        ("two origins", Some("TWICE"), None),
    ];
    for (what, origin, site) in forms {
        let mut request = form(&stand, &agent).header("cookie", &cookie).without_redirects();
        request = match origin {
            Some("ADMIN") => request.header("origin", stand.admin()),
            Some("TWICE") => request.header("origin", stand.app()).header("origin", "https://evil.example"),
            Some(origin) => request.header("origin", origin),
            None => request.without_header("origin"),
        };
        request = match site {
            Some(site) => request.header("sec-fetch-site", site),
            None => request.without_header("sec-fetch-site"),
        };
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
    let post = || {
        let request = agent.fetch(format!("{}/auth/logout", stand.app())).method(Method::POST);
        let names = ["origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"];
        names.iter().fold(request, |request, name| request.without_header(name))
    };
    assert_eq!(post().await.status, 403);
    assert_eq!(post().header("x-csrf", "0").await.status, 403);
    assert!(is_signed_in(&stand, &agent).await);
    assert_eq!(post().header("x-csrf", "1").await.status, 200);
    assert!(!is_signed_in(&stand, &agent).await);
}
