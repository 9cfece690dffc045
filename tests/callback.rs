//! What comes back from the provider, and what only pretends to.

use crate::steps::{APP, Begun, callback_url, events, plant, session_id, transactions};
use keycloak_bff_testbed::{Response, Stand, UserAgent};
use reqwest::Method;
use url::Url;

/// Stands in every parameter; nothing of it may come back.
const CANARY: &str = "canary\"><script>canary</script>";

/// A page for a person: a request id that the operators find, a way on, and nothing of what was sent.
async fn assert_page(stand: &Stand, answer: &Response, status: u16) {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert!(
        answer.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'"))
    );
    assert!(text.contains(&format!("href=\"{}/auth/login", stand.app())), "no way to try again: {text}");
    assert!(!format!("{:?}{text}", answer.headers).contains("canary"), "reflected: {text}");
    let id = text.split("Request ").nth(1).and_then(|rest| rest.split('<').next());
    let id = id.unwrap_or_else(|| panic!("no request id: {text}"));
    stand.envoy.logged("the page's request id", |entry| entry["request_id"] == id).await;
}

/// What a stranger can put into a callback, wherever it may be believed.
fn with_canary<'a>(known: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut parameters = known.to_vec();
    let names = ["state", "code", "iss", "session_state", "error", "error_description", "error_uri", "more"];
    for name in names {
        if !known.iter().any(|(given, _)| *given == name) {
            parameters.push((name, CANARY));
        }
    }
    parameters.retain(|(_, value)| !value.is_empty());
    parameters
}

#[tokio::test]
async fn answers_that_belong_to_no_login_get_a_page() {
    let stand = Stand::start().await;
    let app = stand.app();
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/api/echo").await;
    let (state, issuer) = (begun.state(), stand.realm.issuer());
    let wrong_state = "A".repeat(43);
    for (what, parameters) in [
        ("a foreign state", with_canary(&[("error", "")])),
        (
            "a well-formed state of nobody",
            with_canary(&[("state", &wrong_state), ("iss", &issuer), ("error", "")]),
        ),
        ("an error without a state", with_canary(&[("state", ""), ("error", "access_denied")])),
        ("nothing at all", Vec::new()),
    ] {
        let answer = agent.navigate(callback_url(&stand, &parameters)).await;
        eprintln!("{what}");
        assert_page(&stand, &answer, 400).await;
    }
    for name in ["state", "code", "iss", "more"] {
        let mut parameters =
            vec![("state", state.as_str()), ("code", "canary"), ("iss", &issuer), ("more", "1")];
        parameters.push((name, CANARY));
        let answer = agent.navigate(callback_url(&stand, &parameters)).await;
        eprintln!("repeated: {name}");
        assert_page(&stand, &answer, 400).await;
    }
    // The right state in a browser that did not begin the login.
    let parameters = with_canary(&[("state", &state), ("iss", &issuer), ("error", "")]);
    assert_page(&stand, &UserAgent::new().navigate(callback_url(&stand, &parameters)).await, 400).await;
    // A script is told in its own way.
    let answer = agent.fetch(format!("{app}/auth/callback?state={}", "canary")).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some("no_login_under_way")));
    assert!(!answer.text().contains("canary"));

    // None of it disturbed the login.
    let landed = agent.submit_login(&begun.page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url), (200, format!("{app}/api/echo")));
    events(&stand, "CODE_TO_TOKEN", 1).await;
    assert_eq!(
        stand.realm.count_events("CODE_TO_TOKEN_ERROR").await,
        0,
        "no code of a stranger was redeemed"
    );
}

#[tokio::test]
async fn an_answer_that_names_another_issuer_or_none_is_not_believed() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/api/echo").await;
    let callback = begun.callback(&agent, "alice").await;
    let real = Url::parse(&callback).expect("a URL");
    for issuer in
        [None, Some(CANARY.to_owned()), Some(format!("{}/", stand.realm.issuer())), Some(String::new())]
    {
        let mut url = real.clone();
        let pairs: Vec<_> = real.query_pairs().into_owned().filter(|(name, _)| name != "iss").collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
        if let Some(issuer) = &issuer {
            url.query_pairs_mut().append_pair("iss", issuer);
        }
        let answer = agent.navigate(&url).await;
        assert_page(&stand, &answer, 400).await;
        assert_eq!((session_id(&agent, APP), transactions(&agent).len()), (None, 1), "{issuer:?}");
    }
    assert_eq!(stand.realm.count_events("CODE_TO_TOKEN").await, 0);
    // Who sent those was not Keycloak; its own answer still counts.
    let landed = agent.navigate(callback).await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo", stand.app())));
}

#[tokio::test]
async fn a_denied_or_failed_login_ends_with_a_page_that_knows_the_way_back() {
    let stand = Stand::start().await;
    let issuer = stand.realm.issuer();
    for (error, description, status) in [
        ("access_denied", CANARY, 403),
        (CANARY, CANARY, 400),
        ("login_required", CANARY, 400),
        ("temporarily_unavailable", CANARY, 400),
        ("server_error", "authentication_expired", 400),
    ] {
        let agent = UserAgent::new();
        let begun = Begun::at(&stand, &agent, "/api/echo?back=here").await;
        let state = begun.state();
        let known = [
            ("state", state.as_str()),
            ("iss", &issuer),
            ("error", error),
            ("error_description", description),
        ];
        let answer = agent.navigate(callback_url(&stand, &with_canary(&known))).await;
        assert_page(&stand, &answer, status).await;
        assert_eq!((session_id(&agent, APP), transactions(&agent).len()), (None, 0), "{error}");
        let text = answer.text();
        let link = text.split("href=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
        let page = agent.navigate(link.replace("&amp;", "&")).await;
        let landed = agent.submit_login(&page, "alice", "alice").await;
        assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo?back=here", stand.app())));
    }
}

#[tokio::test]
async fn an_answer_without_a_code_gets_a_page() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/").await;
    let (state, issuer) = (begun.state(), stand.realm.issuer());
    let known = [("state", state.as_str()), ("iss", &issuer), ("error", ""), ("code", "")];
    assert_page(&stand, &agent.navigate(callback_url(&stand, &with_canary(&known))).await, 400).await;

    let begun = Begun::at(&stand, &agent, "/").await;
    let state = begun.state();
    let known = [("state", state.as_str()), ("iss", &issuer), ("error", "")];
    assert_page(&stand, &agent.navigate(callback_url(&stand, &with_canary(&known))).await, 400).await;
    events(&stand, "CODE_TO_TOKEN_ERROR", 1).await;
    assert_eq!(session_id(&agent, APP), None);
}

#[tokio::test]
async fn one_answer_is_redeemed_once() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/api/echo").await;
    let transaction = transactions(&agent).pop().expect("a login under way has a cookie");
    let callback = begun.callback(&agent, "alice").await;
    // Both at once, as when somebody clicks twice; each carries the transaction.
    let again = UserAgent::new();
    plant(&again, APP, &transaction.name, &transaction.value);
    let (one, other) = tokio::join!(
        agent.navigate(&callback).without_redirects(),
        again.navigate(&callback).without_redirects()
    );
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [302, 400]);
    // And later: with the cookie as it was, and without it.
    plant(&agent, APP, &transaction.name, &transaction.value);
    for _ in 0..2 {
        assert_page(&stand, &agent.navigate(&callback).await, 400).await;
    }
    events(&stand, "CODE_TO_TOKEN", 1).await;
    assert_eq!(stand.realm.count_events("CODE_TO_TOKEN_ERROR").await, 0);
    let winner = if one.status == 302 { &agent } else { &again };
    assert_eq!(winner.fetch(format!("{}/api/echo", stand.app())).await.status, 200, "the session goes on");
}

#[tokio::test]
async fn other_methods_are_refused_and_use_nothing_up() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/api/echo").await;
    let callback = begun.callback(&agent, "alice").await;
    for method in [Method::POST, Method::PUT, Method::HEAD, Method::OPTIONS] {
        let answer = agent.navigate(&callback).method(method.clone()).without_redirects().await;
        assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("GET")), "{method}");
    }
    // response_mode=form_post
    let form = [("code", "canary"), ("state", "canary")];
    let answer =
        agent.navigate(format!("{}/auth/callback", stand.app())).method(Method::POST).form(&form).await;
    assert_eq!(answer.status, 405);
    assert!(!answer.text().contains("canary"));
    assert_eq!(agent.navigate(callback).await.url, format!("{}/api/echo", stand.app()));
}

#[tokio::test]
async fn an_expired_login_begins_again_by_itself_but_not_for_ever() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let mut begun = Begun::at(&stand, &agent, "/api/echo?kept").await;
    for round in 0..3 {
        let (state, issuer) = (begun.state(), stand.realm.issuer());
        let expired = callback_url(
            &stand,
            &[
                ("error", "temporarily_unavailable"),
                ("error_description", "authentication_expired"),
                ("state", &state),
                ("iss", &issuer),
            ],
        );
        let page = agent.navigate(expired).await;
        if round == 2 {
            assert_page(&stand, &page, 400).await;
            break;
        }
        assert!(page.is_login_page(), "round {round}: {page:#?}");
        assert_eq!(transactions(&agent).len(), 1, "the old login is gone, the new one is there");
        let request = page.hops[0].location.as_deref().expect("a redirect");
        begun = Begun { request: Url::parse(request).expect("a URL"), page };
        assert_ne!(begun.state(), state);
    }
    // A login that began again ends like any other.
    let begun = Begun::at(&stand, &agent, "/api/echo?kept").await;
    let (state, issuer) = (begun.state(), stand.realm.issuer());
    let parameters = [
        ("error", "temporarily_unavailable"),
        ("error_description", "authentication_expired"),
        ("state", &state),
        ("iss", &issuer),
    ];
    let page = agent.navigate(callback_url(&stand, &parameters)).await;
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo?kept", stand.app())));
}

#[tokio::test]
async fn a_login_page_that_keycloak_let_expire_still_signs_in() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let old = Begun::at(&stand, &agent, "/api/echo?tab=old").await;
    let other = Begun::at(&stand, &agent, "/api/echo?tab=other").await;
    assert_eq!(agent.submit_login(&other.page, "alice", "alice").await.status, 200);
    // What Keycloak would take the old login up again with.
    for name in ["AUTH_SESSION_ID", "KC_RESTART"] {
        agent.cookies.remove("localhost", name);
    }
    let landed = agent.submit_login(&old.page, "alice", "alice").await;
    let said = landed.hops.iter().filter_map(|hop| hop.location.as_deref());
    assert!(said.into_iter().any(|url| url.contains("authentication_expired")), "{:#?}", landed.hops);
    assert_eq!((landed.status, landed.url), (200, format!("{}/api/echo?tab=old", stand.app())));
}
