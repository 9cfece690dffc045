//! What becomes of a request: with a session, without one, and with one that is none.

use crate::steps::{APP, SESSION, agent_with_session, plant, session_id, signed_in};
use keycloak_bff_testbed::{Response, Stand, UserAgent, raw};
use reqwest::Method;
use serde_json::Value;

fn assert_refused(answer: &Response, what: &str, login_url: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{what}");
    assert_eq!(answer.json()["login_url"], login_url, "{what}");
    assert_eq!(answer.json()["error"], "not_signed_in", "{what}");
    assert_eq!(answer.header("location"), None, "{what}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{what}");
    assert!(answer.header("www-authenticate").is_some_and(|value| !value.contains("Basic")), "{what}");
    assert!(answer.header_values("set-cookie").is_empty(), "{what}");
}

#[tokio::test]
async fn without_a_session_pages_are_sent_to_the_login_and_everything_else_is_told() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let (api, login) = (format!("{}/api/echo?a=1&b=%2F", stand.app()), format!("{}/auth/login", stand.app()));
    let page = agent.navigate(&api).without_redirects().await;
    assert_eq!(page.status, 302);
    let location = page.header("location").expect("a redirect says where");
    assert!(location.starts_with(&format!("{login}?")), "{location}");
    assert_eq!(page.query("return_to").as_deref(), Some("/api/echo?a=1&b=%2F"));
    assert_eq!(page.header("cache-control").as_deref(), Some("no-store"));
    assert!(page.header_values("set-cookie").is_empty());

    assert_refused(&agent.fetch(&api).await, "fetch", &login);
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = agent.fetch(&api).method(method.clone()).await;
        assert_refused(&answer, method.as_str(), &login);
        let answer = agent.navigate(&api).method(method.clone()).from_page(stand.app()).await;
        assert_refused(&answer, "a form", &login);
    }
    let like = async |mode: &str, destination: &str| {
        agent.fetch(&api).header("sec-fetch-mode", mode).header("sec-fetch-dest", destination).await
    };
    for (mode, destination) in
        [("no-cors", "image"), ("navigate", "iframe"), ("navigate", "embed"), ("cors", "script")]
    {
        assert_refused(&like(mode, destination).await, destination, &login);
    }
    for header in ["purpose", "sec-purpose"] {
        let answer = agent.navigate(&api).header(header, "prefetch;prerender").await;
        assert_refused(&answer, header, &login);
    }
    assert_refused(&agent.navigate(&api).header("x-requested-with", "XMLHttpRequest").await, "XHR", &login);

    // Clients that send no fetch metadata are known by what they accept.
    let old = |accept: &str| {
        let request = agent.navigate(&api).header("accept", accept).without_redirects();
        request
            .without_header("sec-fetch-mode")
            .without_header("sec-fetch-dest")
            .without_header("sec-fetch-site")
    };
    assert_eq!(old("text/html,application/xhtml+xml").await.status, 302);
    assert_refused(&old("*/*").await, "Accept: */*", &login);
    assert_refused(&old("application/json;charset=utf-8").await, "Accept: application/json", &login);
    assert!(stand.upstream.received().is_empty(), "nothing of it reached the API");
}

#[tokio::test]
async fn a_host_that_is_no_frontend_is_not_found() {
    let stand = Stand::start().await;
    for host in ["other.demo.localhost", "localhost", "app.demo.localhost.evil.example"] {
        for path in ["/", "/public/echo", "/api/echo"] {
            let answer = raw::request(stand.ports.edge, "GET", path, host, &[]).await;
            assert_eq!(answer.status, 404, "{host}{path}: {}", answer.body);
            assert!(answer.body.contains("There is no application at this address"), "{}", answer.body);
        }
    }
    // Nor does the program's own listener take one, or believe what a proxy is said to have seen.
    let own = stand.ports.browser;
    let forwarded = format!("X-Forwarded-Host: {APP}:{}", stand.ports.edge);
    for path in ["/auth/login", "/auth/me"] {
        let answer = raw::request(own, "GET", path, "evil.example", &[&forwarded]).await;
        assert_eq!(answer.status, 404, "{}", answer.body);
    }
    assert!(stand.upstream.received().is_empty());
}

#[tokio::test]
async fn a_session_cookie_that_is_none_of_ours_counts_as_no_session() {
    let stand = Stand::start().await;
    let signed_in = signed_in(&stand, "alice").await;
    let real = session_id(&signed_in, APP).expect("alice has a session");
    let (me, api) = (format!("{}/auth/me", stand.app()), format!("{}/api/echo", stand.app()));
    let agent = UserAgent::new();
    let mut cookies: Vec<Vec<u8>> = [
        String::new(),
        "x".to_owned(),
        "A".repeat(43),
        "A".repeat(20_000),
        format!("{real}A"),
        real[..42].to_owned(),
        format!("\"{real}\""),
        format!("%{real}"),
        real.to_uppercase(),
        "../../etc/passwd".to_owned(),
        "å".repeat(20),
        format!("{real}; {SESSION}={}", "B".repeat(43)),
        format!("{}; {SESSION}={real}", "B".repeat(43)),
    ]
    .map(|value| format!("{SESSION}={value}").into_bytes())
    .into();
    cookies.push([SESSION.as_bytes(), b"=\xff\xfe\x80garbage"].concat());
    cookies.push(format!("__host-session={real}").into_bytes());
    cookies.push(SESSION.as_bytes().to_vec());
    for cookie in cookies {
        let shown = String::from_utf8_lossy(&cookie[..cookie.len().min(80)]).into_owned();
        assert_eq!(agent.fetch(&me).header("cookie", &cookie).await.status, 401, "{shown}");
        assert_eq!(agent.fetch(&api).header("cookie", &cookie).await.status, 401, "{shown}");
    }
    let two_lines = agent.fetch(&api).header("cookie", format!("{SESSION}={real}"));
    assert_eq!(two_lines.header("cookie", format!("{SESSION}={}", "B".repeat(43))).await.status, 401);
    // The one that is good is good: also in a second line, and twice the same.
    let second = agent.fetch(&api).header("cookie", "a=1").header("cookie", format!("{SESSION}={real}"));
    assert_eq!(second.await.status, 200);
    let twice = agent.fetch(&api).header("cookie", format!("{SESSION}={real}; {SESSION}={real}"));
    assert_eq!(twice.await.status, 200);
}

#[tokio::test]
async fn roles_open_what_they_open() {
    let stand = Stand::start().await;
    let url = format!("{}/admin/echo", stand.app());
    let alice = signed_in(&stand, "alice").await;
    let refused = alice.fetch(&url).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("missing_role")));
    let page = alice.navigate(&url).await;
    assert_eq!(
        (page.status, page.header("content-type").as_deref()),
        (403, Some("text/html; charset=utf-8"))
    );
    assert_eq!(page.hops.len(), 1, "no round over the login");
    let bob = signed_in(&stand, "bob").await;
    assert_eq!(bob.fetch(&url).await.status, 200);
    assert_eq!(UserAgent::new().fetch(&url).await.status, 401);
}

#[tokio::test]
async fn the_access_log_tells_who_it_was() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    agent.fetch(format!("{}/api/echo?who", stand.app())).await;
    UserAgent::new().fetch(format!("{}/api/echo", stand.app())).await;
    agent.fetch(format!("{}/public/echo", stand.app())).await;
    let entry = |path: &'static str, status: u16| {
        let wanted = move |entry: &Value| entry["path"] == path && entry["status"] == status;
        stand.envoy.logged(path, wanted)
    };
    let known = entry("/api/echo", 200).await;
    assert_eq!((known["frontend"].as_str(), &known["method"]), (Some("app"), &Value::from("GET")));
    assert_eq!(known["subject"], stand.realm.user_id("alice").await);
    let handle = known["session"].as_str().expect("the session has a handle");
    assert_ne!(Some(handle), session_id(&agent, APP).as_deref(), "the handle opens nothing");
    assert_eq!(agent_with_session(APP, handle).fetch(format!("{}/api/echo", stand.app())).await.status, 401);
    for (path, status) in [("/api/echo", 401), ("/public/echo", 200)] {
        let anonymous = entry(path, status).await;
        assert_eq!(anonymous["frontend"], "app", "{path}");
        for field in ["subject", "session"] {
            assert!(anonymous[field].is_null(), "{path}: {field} {}", anonymous[field]);
        }
    }
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let api = format!("{}/api/echo", stand.app());
    let answer = agent.fetch(&api).method(Method::HEAD).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let me = format!("{}/auth/me", stand.app());
    assert_eq!(agent.fetch(&me).method(Method::HEAD).await.status, 200);
    let nobody = UserAgent::new();
    plant(&nobody, APP, "other", "1");
    assert_eq!(nobody.fetch(&api).method(Method::HEAD).await.status, 401);
    assert_eq!(nobody.fetch(&me).method(Method::HEAD).await.status, 401);
    let page = nobody.navigate(&api).method(Method::HEAD).without_redirects().await;
    assert_eq!((page.status, page.query("return_to").as_deref()), (302, Some("/api/echo")));
    let login = nobody.navigate(format!("{}/auth/login", stand.app())).method(Method::HEAD);
    assert_eq!(login.without_redirects().await.status, 302);
}
