use std::sync::Arc;

use secrecy::ExposeSecret;
use serde_json::json;

use super::*;
use crate::{
    flow::test_support::{FakeProvider, HOST, ORIGIN, TestFlows, flows, site},
    policy::{PathPattern, Role, Rules},
};

fn request<'a>(method: &'a str, target: &'a str, headers: &[(&str, &'a str)]) -> Request<'a> {
    let mut request = Request { method, host: HOST, target, ..Request::default() };
    headers.iter().for_each(|(name, value)| request.read_header(name, value));
    request
}

/// A verdict in a word or two.
async fn verdict(test: &TestFlows, request: &Request<'_>) -> String {
    match test.flows.check(request).await {
        Verdict::Allow(allow) => match allow.signed_in {
            Some(SignedIn { tokens, token: UpstreamToken::User, .. }) => {
                tokens.upstream.authorization.expose_secret().replace("Bearer", "allow")
            }
            Some(_) => "allow without token".to_owned(),
            None => "allow".to_owned(),
        },
        Verdict::Endpoint(_) => "endpoint".to_owned(),
        Verdict::Preflight(..) => "preflight".to_owned(),
        Verdict::Login(_, location) => location,
        Verdict::Refuse(refused) => refused.refusal.answer().code.to_owned(),
        Verdict::Workload(answer) => {
            answer.outcome.err().map_or("token", |refusal| refusal.answer().code).to_owned()
        }
    }
}

fn with_rules(rules: Vec<Rule>) -> Site {
    let mut site = site(ORIGIN);
    Arc::get_mut(&mut site.frontend).unwrap().rules = Rules::new(rules);
    site
}

fn rule(path: &str, session: SessionNeed) -> Rule {
    Rule::new(PathPattern::parse(path).unwrap(), session)
}

const PAGE: (&str, &str) = ("accept", "text/html");

#[tokio::test]
async fn requests_without_a_session_are_told_apart() {
    let test = flows(site(ORIGIN), "http://127.0.0.1:9");
    let login = "https://app.example.com/auth/login";
    for (method, target, headers, expected) in [
        ("GET", "/public/a", &[][..], "allow"),
        ("GET", "/a?b=c", &[PAGE], "https://app.example.com/auth/login?return_to=%2Fa%3Fb%3Dc"),
        ("GET", "/\\evil.example", &[PAGE], login),
        ("GET", "/a", &[], "not_signed_in"),
        ("POST", "/a", &[PAGE], "not_signed_in"),
        (
            "GET",
            "/a",
            &[PAGE, ("cookie", "__Host-session=garbage")],
            "https://app.example.com/auth/login?return_to=%2Fa",
        ),
        ("GET", "/public/..%2fa", &[PAGE], "ambiguous_path"),
        ("GET", "/%", &[], "ambiguous_path"),
        ("GET", "/auth/login?x=1", &[], "endpoint"),
        ("POST", "/auth/logout", &[("origin", "https://evil.example")], "endpoint"),
        ("GET", "/auth/other", &[], "not_signed_in"),
        ("POST", "/public/a", &[("origin", "https://evil.example")], "foreign_origin"),
        ("POST", "/public/a", &[("cookie", "a=1")], "missing_csrf_header"),
        ("GET", "/public/a", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], "allow"),
        ("GET", "/a", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], "foreign_origin"),
        ("GET", "/a", &[("upgrade", "websocket"), ("origin", "https://evil.example")], "foreign_origin"),
        (
            "OPTIONS",
            "/a",
            &[("origin", "https://evil.example"), ("access-control-request-method", "GET")],
            "foreign_origin",
        ),
    ] {
        assert_eq!(
            verdict(&test, &request(method, target, headers)).await,
            expected,
            "{method} {target} {headers:?}"
        );
    }
    let elsewhere = Request { host: "evil.example", ..request("GET", "/public/a", &[]) };
    assert_eq!(verdict(&test, &elsewhere).await, "unknown_host");
}

#[tokio::test]
async fn a_live_session_asks_nobody() {
    // Nothing listens on the discard port: any call would show.
    let test = flows(site(ORIGIN), "http://127.0.0.1:9");
    let (session, cookie) = test.sign_in(&json!({}));
    let answer = verdict(&test, &request("GET", "/a", &[("cookie", &cookie)])).await;
    assert!(answer.starts_with("allow header."), "{answer}");
    assert_eq!(session.refresh_pause().failures, 0);
    assert!(test.flows.refresher.tasks.is_empty());
}

#[tokio::test]
async fn rules_decide_about_roles_tokens_and_the_static_header() {
    let test = flows(
        with_rules(vec![
            Rule { roles: vec![Role::Realm("admin".to_owned())], ..rule("/admin/*", SessionNeed::Required) },
            Rule { roles: vec![Role::Realm("user".to_owned())], ..rule("/user/*", SessionNeed::Required) },
            Rule { token: TokenKind::None, ..rule("/plain/*", SessionNeed::Required) },
            Rule { csrf_header: true, ..rule("/strict/*", SessionNeed::Optional) },
            rule("/optional/*", SessionNeed::Optional),
        ]),
        "http://127.0.0.1:9",
    );
    let (_session, cookie) = test.sign_in(&json!({"realm_access": {"roles": ["user"]}}));
    let cookie = ("cookie", cookie.as_str());
    for (target, headers, expected) in [
        ("/admin/x", &[cookie][..], "missing_role"),
        ("/user/x", &[cookie], "allow header."),
        ("/plain/x", &[cookie], "allow without token"),
        ("/optional/x", &[cookie], "allow header."),
        ("/optional/x", &[], "allow"),
        ("/strict/x", &[cookie], "missing_csrf_header"),
        ("/strict/x", &[cookie, ("x-csrf", "1")], "allow header."),
    ] {
        let answer = verdict(&test, &request("GET", target, headers)).await;
        assert!(answer.starts_with(expected), "{target} {headers:?}: {answer}");
    }
}

#[tokio::test]
async fn the_session_of_another_frontend_is_none() {
    let test = flows(site(ORIGIN), "http://127.0.0.1:9");
    let mut other = site("https://admin.example.com");
    Arc::get_mut(&mut other.frontend).unwrap().name = "admin".into();
    let (_session, cookie) = test.sign_in(&json!({}));
    let request = request("GET", "/a", &[("cookie", &cookie)]);
    assert!(test.flows.session(&site(ORIGIN), &request).await.unwrap().is_some());
    assert!(test.flows.session(&other, &request).await.unwrap().is_none());
}

#[tokio::test]
async fn our_cookies_are_taken_out_and_others_are_left() {
    let test = flows(site(ORIGIN), "http://127.0.0.1:9");
    for (line, expected) in [
        ("a=1; __Host-session=x; __Host-login-app-0123=y; b=2", Some("a=1; b=2")),
        ("__Host-session=x", Some("")),
        ("a=1", None),
    ] {
        let Verdict::Allow(allow) = test.flows.check(&request("GET", "/public/a", &[("cookie", line)])).await
        else {
            panic!("a public path is refused");
        };
        assert_eq!(allow.cookie.as_deref(), expected, "{line}");
    }
}

#[tokio::test]
async fn a_token_is_renewed_behind_the_request_while_it_is_good_and_before_it_when_it_is_not() {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (_session, cookie) = test.sign_in(&json!({}));
    let ask = request("GET", "/a", &[("cookie", &cookie)]);

    test.clock.advance(Duration::from_secs(39));
    assert!(verdict(&test, &ask).await.starts_with("allow header."));
    assert_eq!(provider.calls(), 0, "too early");

    test.clock.advance(Duration::from_secs(1));
    provider.close();
    assert!(verdict(&test, &ask).await.starts_with("allow header."), "answered before the provider has");
    provider.open();
    while verdict(&test, &ask).await != "allow access-1" {
        tokio::task::yield_now().await;
    }
    assert_eq!(provider.calls(), 1);

    test.clock.advance(Duration::from_secs(58));
    assert_eq!(verdict(&test, &ask).await, "allow access-2", "waited for");
    assert_eq!(provider.calls(), 2);
}

#[tokio::test]
async fn many_requests_are_one_refresh() {
    let provider = FakeProvider::start().await;
    let test = Arc::new(flows(site(ORIGIN), &provider.issuer));
    let (_session, cookie) = test.sign_in(&json!({}));
    test.clock.advance(Duration::from_secs(61));
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let (test, cookie) = (Arc::clone(&test), cookie.clone());
            tokio::spawn(async move { verdict(&test, &request("GET", "/a", &[("cookie", &cookie)])).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "allow access-1");
    }
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_lose_the_refresh() {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (_session, cookie) = test.sign_in(&json!({}));
    test.clock.advance(Duration::from_secs(61));
    let ask = request("GET", "/a", &[("cookie", &cookie)]);
    provider.close();
    let left = tokio::time::timeout(Duration::from_millis(50), verdict(&test, &ask)).await;
    assert!(left.is_err());
    provider.open();
    test.flows.refresher.tasks.close();
    test.flows.refresher.tasks.wait().await;
    assert_eq!(verdict(&test, &ask).await, "allow access-1");
    assert_eq!(provider.calls(), 1);
}

#[tokio::test]
async fn a_refresh_that_ends_after_the_logout_does_not_bring_the_session_back() {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (_session, cookie) = test.sign_in(&json!({}));
    test.clock.advance(Duration::from_secs(45));
    provider.close();
    let ask = request("GET", "/a", &[("cookie", &cookie)]);
    assert!(verdict(&test, &ask).await.starts_with("allow"));
    let (id, _) = test.flows.session(&site(ORIGIN), &ask).await.unwrap().unwrap();
    test.memory().remove(&id.key());
    provider.open();
    test.flows.refresher.tasks.close();
    test.flows.refresher.tasks.wait().await;
    assert_eq!(verdict(&test, &ask).await, "not_signed_in");
}

#[tokio::test]
async fn only_the_providers_word_ends_a_session() {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (session, cookie) = test.sign_in(&json!({}));
    let ask = request("GET", "/a", &[("cookie", &cookie)]);
    provider.answer(503, json!({}));
    test.clock.advance(Duration::from_secs(45));
    assert!(verdict(&test, &ask).await.starts_with("allow"), "the token is good for some seconds yet");
    test.clock.advance(Duration::from_secs(15));
    assert_eq!(verdict(&test, &ask).await, "sign_in_unavailable");
    let calls = provider.calls();
    assert_eq!(verdict(&test, &ask).await, "sign_in_unavailable");
    assert_eq!(provider.calls(), calls, "left alone for a while");

    provider.answer(400, json!({"error": "invalid_grant", "error_description": "User disabled"}));
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(verdict(&test, &ask).await, "account_disabled");
    assert!(session.is_account_disabled());
    provider.answer(200, serde_json::Value::Null);
    test.clock.advance(Duration::from_secs(15));
    assert!(verdict(&test, &ask).await.starts_with("allow access-"), "enabled again");

    provider.answer(400, json!({"error": "invalid_grant", "error_description": "Session not active"}));
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(verdict(&test, &ask).await, "not_signed_in");
    assert!(test.memory().is_empty());
}

#[tokio::test]
async fn a_disabled_account_gets_nothing_through_even_while_its_token_lives() {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (_session, cookie) = test.sign_in(&json!({}));
    provider.answer(400, json!({"error": "invalid_grant", "error_description": "User disabled"}));
    test.clock.advance(Duration::from_secs(45));
    let ask = request("GET", "/a", &[("cookie", &cookie)]);
    assert!(verdict(&test, &ask).await.starts_with("allow"), "not known yet");
    while verdict(&test, &ask).await != "account_disabled" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn where_a_gateway_answers_preflights_the_listed_ones_pass() {
    let mut site = site(ORIGIN);
    let cors = &mut Arc::get_mut(&mut site.frontend).unwrap().cors;
    cors.origins = vec!["https://admin.example.com".to_owned()];
    cors.answered_here = false;
    let test = flows(site, "http://127.0.0.1:9");
    for (origin, expected) in
        [("https://admin.example.com", "allow"), ("https://evil.example", "foreign_origin")]
    {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        assert_eq!(verdict(&test, &request("OPTIONS", "/a", &headers)).await, expected, "{origin}");
    }
}

#[tokio::test]
async fn a_refreshed_id_token_that_is_wrong_costs_neither_the_session_nor_its_refresh_token() {
    let provider = FakeProvider::start().await;
    let test = flows(site(ORIGIN), &provider.issuer);
    let (session, cookie) = test.sign_in(&json!({}));
    provider.answer(
        200,
        json!({
            "access_token": "unbelieved", "token_type": "Bearer", "expires_in": 60, "refresh_token": "rotated",
            "refresh_expires_in": 1800, "id_token": "no.id.token"
        }),
    );
    test.clock.advance(Duration::from_secs(61));
    let ask = request("GET", "/a", &[("cookie", &cookie)]);
    assert_eq!(verdict(&test, &ask).await, "sign_in_unavailable");
    let tokens = session.tokens();
    assert_eq!(tokens.refresh_token.as_ref().map(|token| token.expose_secret()), Some("rotated"));
    assert!(!tokens.upstream.authorization.expose_secret().contains("unbelieved"));

    provider.answer(200, serde_json::Value::Null);
    test.clock.advance(Duration::from_secs(30));
    assert!(verdict(&test, &ask).await.starts_with("allow access-"));
}

#[tokio::test]
async fn refreshes_are_bounded_and_those_that_are_waited_for_go_first() {
    let provider = FakeProvider::start().await;
    let test = Arc::new(flows(site(ORIGIN), &provider.issuer));
    provider.close();
    let cookies: Vec<String> = (0..64).map(|_| test.sign_in(&json!({})).1).collect();
    // Near their end: 60 refreshes behind the requests, of which 32 may call the provider.
    test.clock.advance(Duration::from_secs(45));
    for cookie in &cookies[..60] {
        let answer = verdict(&test, &request("GET", "/a", &[("cookie", cookie)])).await;
        assert!(answer.starts_with("allow header."), "{answer}");
    }
    while provider.calls() < 32 {
        tokio::task::yield_now().await;
    }
    // Over: requests wait for somebody new, and for the one at the end of the queue.
    test.clock.advance(Duration::from_secs(16));
    let waiting = [&cookies[63], &cookies[59]].map(|cookie| {
        let (test, cookie) = (Arc::clone(&test), cookie.clone());
        tokio::spawn(async move { verdict(&test, &request("GET", "/a", &[("cookie", &cookie)])).await })
    });
    while test.flows.refresher.tasks.len() < 61 {
        tokio::task::yield_now().await;
    }
    provider.admit(2);
    while provider.calls() < 34 {
        tokio::task::yield_now().await;
    }
    let mut first: Vec<String> = provider.presented().split_off(32);
    first.sort();
    assert_eq!(first, ["refresh-of-59", "refresh-of-63"]);
    provider.open();
    for task in waiting {
        assert!(task.await.unwrap().starts_with("allow access-"));
    }
    test.flows.refresher.tasks.close();
    test.flows.refresher.tasks.wait().await;
    assert_eq!((provider.calls(), provider.most_at_once()), (61, 32));
}

#[tokio::test]
async fn a_rule_may_ask_for_a_stronger_or_more_recent_sign_in() {
    let acr = |value: &str| StepUp { acr_values: vec![value.to_owned()], max_age: None };
    let recent = StepUp { acr_values: Vec::new(), max_age: Some(Duration::from_secs(30)) };
    let roles = vec![Role::Realm("admin".to_owned())];
    let test = flows(
        with_rules(vec![
            Rule { step_up: acr("silver"), ..rule("/silver/*", SessionNeed::Required) },
            Rule { step_up: acr("gold"), ..rule("/gold/*", SessionNeed::Required) },
            Rule { step_up: recent, ..rule("/recent/*", SessionNeed::Required) },
            Rule { step_up: acr("gold"), roles, ..rule("/admin/*", SessionNeed::Required) },
        ]),
        "http://127.0.0.1:9",
    );
    let (_session, cookie) = test.sign_in(&json!({}));
    let cookie = ("cookie", cookie.as_str());
    for (method, target, headers, expected) in [
        ("GET", "/silver/a", &[cookie][..], "allow header."),
        ("GET", "/gold/a", &[cookie], "insufficient_user_authentication"),
        (
            "GET",
            "/gold/a?b=c",
            &[cookie, PAGE],
            "https://app.example.com/auth/login?return_to=%2Fgold%2Fa%3Fb%3Dc&acr_values=gold",
        ),
        (
            "POST",
            "/gold/a",
            &[cookie, PAGE, ("sec-fetch-site", "same-origin")],
            "insufficient_user_authentication",
        ),
        ("GET", "/gold/a", &[], "not_signed_in"),
        ("GET", "/recent/a", &[cookie], "allow header."),
        ("GET", "/admin/a", &[cookie], "missing_role"),
    ] {
        let answer = verdict(&test, &request(method, target, headers)).await;
        assert!(answer.starts_with(expected), "{method} {target} {headers:?}: {answer}");
    }
    test.clock.advance(Duration::from_secs(41));
    assert_eq!(
        verdict(&test, &request("GET", "/recent/a", &[cookie])).await,
        "insufficient_user_authentication"
    );
    let page = verdict(&test, &request("GET", "/recent/a", &[cookie, PAGE])).await;
    assert_eq!(page, "https://app.example.com/auth/login?return_to=%2Frecent%2Fa&max_age=30");
}
