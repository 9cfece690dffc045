//! A user's own sessions: seen, ended one by one, and kept alive.

use crate::steps::{
    ADMIN, APP, SOON, access_token, agent_with_session, claims, events, from_elsewhere, from_no_browser,
    go_to_admin, is_signed_in, is_signed_in_at, next_token, now, session_cookie, session_id, signed_in,
    until_after, with_token_life,
};
use keycloak_bff_testbed::{Response, Stand, UserAgent, wait};
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

/// The sessions that a browser is shown on the frontend with this origin.
async fn sessions(origin: &str, agent: &UserAgent) -> Vec<Value> {
    let answer = agent.fetch(format!("{origin}/auth/sessions")).await;
    assert_eq!((answer.status, answer.header("cache-control").as_deref()), (200, Some("no-store")));
    answer.json()["sessions"].as_array().expect("sessions are a list").clone()
}

/// The handle of the browser's own session on the frontend with this origin.
async fn own_handle(origin: &str, agent: &UserAgent) -> String {
    let sessions = sessions(origin, agent).await;
    let own: Vec<&Value> = sessions.iter().filter(|session| session["current"] == true).collect();
    assert_eq!(own.len(), 1, "one is the one that asks: {sessions:?}");
    own[0]["handle"].as_str().expect("a session has a handle").to_owned()
}

/// Ends a session from the app frontend.
async fn end(stand: &Stand, agent: &UserAgent, handle: &str) -> Response {
    agent.fetch(format!("{}/auth/sessions/{handle}", stand.app())).method(Method::DELETE).await
}

/// Puts another application into the realm.
fn with_another_application(realm: &mut Value) {
    let client = json!({"clientId": "another", "publicClient": true, "redirectUris": ["*"]});
    realm["clients"].as_array_mut().expect("clients are a list").push(client);
}

/// Signs a browser in at the other application, by Keycloak's session. From then on that has two clients, and does not
/// end because one of them gives its tokens back.
async fn go_to_another_application(stand: &Stand, agent: &UserAgent) {
    let page = format!("{}/public/echo", stand.app());
    let mut request = Url::parse(&stand.realm.endpoint("auth")).expect("a URL");
    let parameters =
        [("client_id", "another"), ("response_type", "code"), ("scope", "openid"), ("redirect_uri", &page)];
    request.query_pairs_mut().extend_pairs(parameters);
    let landed = agent.navigate(request).await;
    assert!(landed.url.starts_with(&page) && landed.query("code").is_some(), "{landed:#?}");
}

/// Waits until Keycloak has so many sessions of alice.
async fn until_keycloak_has(stand: &Stand, count: usize) {
    let has = async || (stand.realm.sessions("alice").await.len() == count).then_some(());
    wait::until(&format!("{count} sessions at Keycloak"), SOON, has).await;
}

#[tokio::test]
async fn a_user_sees_the_sessions_of_all_browsers_and_frontends() {
    let stand = Stand::start().await;
    let started = now();
    let (alice, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    go_to_admin(&stand, &alice).await;
    let bob = signed_in(&stand, "bob").await;
    let listed = sessions(&stand.app(), &alice).await;
    let mut frontends: Vec<&str> = listed.iter().filter_map(|session| session["frontend"].as_str()).collect();
    frontends.sort_unstable();
    assert_eq!(frontends, ["admin", "app", "app"], "{listed:?}");

    let cookies = [session_id(&alice, APP), session_id(&alice, ADMIN), session_id(&elsewhere, APP)];
    for session in &listed {
        let mut keys: Vec<&str> =
            session.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected = ["created_at", "current", "expires_at", "frontend", "handle", "last_used_at"];
        assert_eq!(keys, expected, "and nothing else");
        let time = |name: &str| session[name].as_u64().expect("a time in seconds");
        assert!(started <= time("created_at") && time("created_at") <= time("last_used_at"), "{session}");
        assert!(time("last_used_at") <= now() && now() < time("expires_at"), "{session}");
        let handle = session["handle"].as_str().expect("a handle");
        assert!(cookies.iter().flatten().all(|id| !id.contains(handle)), "a handle opens nothing");
        assert!(!is_signed_in(&stand, &agent_with_session(APP, handle)).await);
    }
    // All of them see the same, and each its own as the current one.
    let handles = |sessions: &[Value]| -> Vec<Value> {
        sessions.iter().map(|session| session["handle"].clone()).collect()
    };
    let own = [
        own_handle(&stand.app(), &alice).await,
        own_handle(&stand.admin(), &alice).await,
        own_handle(&stand.app(), &elsewhere).await,
    ];
    for handle in &own {
        assert!(handles(&listed).contains(&json!(handle)), "{handle}");
    }
    assert!(own[0] != own[1] && own[1] != own[2] && own[0] != own[2]);
    assert_eq!(handles(&sessions(&stand.admin(), &alice).await), handles(&listed));
    assert_eq!(handles(&sessions(&stand.app(), &bob).await), [own_handle(&stand.app(), &bob).await]);
}

#[tokio::test]
async fn sessions_are_shown_to_nobody_else() {
    let stand = Stand::start().await;
    let alice = signed_in(&stand, "alice").await;
    let url = format!("{}/auth/sessions", stand.app());
    let nobody = UserAgent::new().fetch(&url).await;
    assert_eq!((nobody.status, nobody.json()["error"].as_str()), (401, Some("not_signed_in")));
    for method in [Method::OPTIONS, Method::POST, Method::DELETE] {
        let answer = alice.fetch(&url).method(method.clone()).await;
        assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("GET, HEAD")), "{method}");
    }
    let one = format!("{url}/{}", own_handle(&stand.app(), &alice).await);
    let answer = alice.fetch(one).await;
    assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("DELETE")));
    // A foreign page, with the cookie as if a browser had no SameSite.
    let foreign =
        alice.fetch(&url).from_page("https://evil.example").header("cookie", session_cookie(&alice));
    let foreign = foreign.await;
    assert_eq!((foreign.status, foreign.json()["error"].as_str()), (403, Some("foreign_origin")));
}

#[tokio::test]
async fn ending_the_session_of_another_browser_signs_it_out_at_keycloak_too() {
    let stand = with_token_life(4).realm(with_another_application).start().await;
    let (alice, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    go_to_admin(&stand, &elsewhere).await;
    go_to_another_application(&stand, &elsewhere).await;
    assert_eq!(stand.realm.sessions("alice").await.len(), 2);
    let handle = own_handle(&stand.app(), &elsewhere).await;
    let answer = end(&stand, &alice, &handle).await;
    assert_eq!((answer.status, answer.header_values("set-cookie").len()), (204, 0));
    assert!(!is_signed_in(&stand, &elsewhere).await, "at once");
    assert!(!is_signed_in_at(&stand.admin(), &elsewhere).await, "it was one sign-in");
    until_keycloak_has(&stand, 1).await;
    let page = elsewhere.navigate(format!("{}/api/echo", stand.app())).await;
    assert!(page.is_login_page(), "{}", page.url);

    let token = access_token(&stand, &alice).await;
    next_token(&stand, &alice, &token, SOON).await;
    assert_eq!(end(&stand, &alice, &handle).await.status, 404, "it is gone");
}

#[tokio::test]
async fn a_browser_whose_session_was_ended_is_never_signed_in_again_without_a_password() {
    let stand = Stand::builder().realm(with_another_application).start().await;
    let alice = signed_in(&stand, "alice").await;
    // Many times, since Keycloak may be told several things of one session at once.
    for round in 0..40 {
        let elsewhere = signed_in(&stand, "alice").await;
        go_to_admin(&stand, &elsewhere).await;
        go_to_another_application(&stand, &elsewhere).await;
        let handle = own_handle(&stand.app(), &elsewhere).await;
        assert_eq!(end(&stand, &alice, &handle).await.status, 204);
        until_keycloak_has(&stand, 1).await;
        let page = elsewhere.navigate(format!("{}/api/echo", stand.app())).await;
        assert!(page.is_login_page(), "round {round}: {} {}", page.status, page.url);
    }
}

#[tokio::test]
async fn ending_the_session_of_the_other_frontend_leaves_the_own_one_alone() {
    let stand = with_token_life(4).start().await;
    let alice = signed_in(&stand, "alice").await;
    go_to_admin(&stand, &alice).await;
    let handle = own_handle(&stand.admin(), &alice).await;
    assert_eq!(end(&stand, &alice, &handle).await.status, 204);
    assert!(!is_signed_in_at(&stand.admin(), &alice).await);
    assert!(is_signed_in(&stand, &alice).await);
    // The session at Keycloak, which is one for both, is still good for a refresh.
    let token = access_token(&stand, &alice).await;
    next_token(&stand, &alice, &token, SOON).await;
    assert_eq!(stand.realm.sessions("alice").await.len(), 1);
    go_to_admin(&stand, &alice).await;
}

#[tokio::test]
async fn ending_the_own_session_is_signing_out() {
    let stand = Stand::builder().realm(with_another_application).start().await;
    let alice = signed_in(&stand, "alice").await;
    go_to_admin(&stand, &alice).await;
    go_to_another_application(&stand, &alice).await;
    let copy = agent_with_session(APP, &session_id(&alice, APP).expect("alice has a session"));
    let answer = end(&stand, &alice, &own_handle(&stand.app(), &alice).await).await;
    assert_eq!(answer.status, 204);
    assert_eq!(session_id(&alice, APP), None, "the cookie is cleared: {:?}", answer.headers);
    assert!(!is_signed_in(&stand, &alice).await && !is_signed_in(&stand, &copy).await);
    assert!(!is_signed_in_at(&stand.admin(), &alice).await);
    until_keycloak_has(&stand, 0).await;
    assert!(alice.navigate(format!("{}/api/echo", stand.app())).await.is_login_page());
}

#[tokio::test]
async fn nobody_ends_sessions_that_are_not_their_own() {
    let stand = Stand::start().await;
    let (alice, bob) = (signed_in(&stand, "alice").await, signed_in(&stand, "bob").await);
    let (own, bobs) = (own_handle(&stand.app(), &alice).await, own_handle(&stand.app(), &bob).await);
    let id = session_id(&alice, APP).expect("alice has a session");
    let too_long = "a".repeat(65);
    for (handle, error) in [
        (bobs.as_str(), "no_such_session"),
        (id.as_str(), "no_such_session"),
        ("garbage", "no_such_session"),
        ("", "no_endpoint"),
        ("a.b", "no_endpoint"),
        ("%20", "no_endpoint"),
        ("a/b", "no_endpoint"),
        (too_long.as_str(), "no_endpoint"),
    ] {
        let answer = end(&stand, &alice, handle).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some(error)), "{handle}");
    }
    let nobody = end(&stand, &UserAgent::new(), &own).await;
    assert_eq!((nobody.status, nobody.json()["error"].as_str()), (401, Some("not_signed_in")));

    let cookie = session_cookie(&alice);
    let delete = || {
        let request = alice.fetch(format!("{}/auth/sessions/{own}", stand.app())).method(Method::DELETE);
        request.header("cookie", &cookie)
    };
    for (what, request) in from_elsewhere(&stand, delete) {
        let answer = request.await;
        assert_eq!(answer.status, 403, "{what}: {}", answer.text());
        assert!(answer.header_values("set-cookie").is_empty(), "{what}");
    }
    assert_eq!(from_no_browser(delete()).await.json()["error"], "missing_csrf_header");
    for (agent, user) in [(&alice, "alice"), (&bob, "bob")] {
        assert!(is_signed_in(&stand, agent).await, "{user}");
        assert_eq!(stand.realm.sessions(user).await.len(), 1, "{user}");
    }
    assert_eq!(from_no_browser(delete()).header("x-csrf", "1").await.status, 204);
    assert!(!is_signed_in(&stand, &alice).await);
}

#[tokio::test]
async fn somebody_who_only_reads_can_keep_the_session_alive() {
    let stand = with_token_life(4).program(|config| config["sessions"]["idle"] = json!("10m")).start().await;
    let agent = signed_in(&stand, "alice").await;
    let me = format!("{}/auth/me", stand.app());
    let expires_at = async |url: &str| {
        let answer = agent.fetch(url).await;
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        answer.json()["session"]["expires_at"].as_u64().expect("a time")
    };
    let token = claims(&access_token(&stand, &agent).await);
    let ends = expires_at(&me).await;
    until_after(token["exp"].as_u64().expect("a token ends")).await;
    for query in ["", "?keep_alive=false", "?keep_alive=1", "?keep_alive", "?keep_alive=true&keep_alive=true"]
    {
        assert_eq!(expires_at(&format!("{me}{query}")).await, ends, "{query}");
    }
    let keep_alive = format!("{me}?keep_alive=true");
    assert!(expires_at(&keep_alive).await > ends);
    // The only refresh so far, since those before asked for none.
    events(&stand, "REFRESH_TOKEN", 1).await;
    let next = async || {
        expires_at(&keep_alive).await;
        (stand.realm.count_events("REFRESH_TOKEN").await > 1).then_some(())
    };
    wait::until("another refresh without a call of the API", SOON, next).await;
}
