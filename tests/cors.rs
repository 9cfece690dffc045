//! Calls from pages of other origins: the listed ones, and all the others.

use crate::steps::{APP, session_id, signed_in};
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Response, Stand, UserAgent};
use reqwest::Method;
use std::collections::BTreeMap;

const FOREIGN: &str = "https://evil.example";

/// Every header that CORS knows.
fn grants(answer: &Response) -> BTreeMap<String, String> {
    let names = answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-"));
    names.map(|name| (name.to_string(), answer.header_values(name.as_str()).join(" AND "))).collect()
}

fn granted(answer: &Response, origin: &str, what: &str) {
    let expected = [("access-control-allow-credentials", "true"), ("access-control-allow-origin", origin)];
    let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(grants(answer), expected, "{what}");
    assert!(varies(answer).contains(&"origin".to_owned()), "{what}: {:?}", varies(answer));
}

fn varies(answer: &Response) -> Vec<String> {
    let values = answer.header_values("vary").join(",");
    values.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// A preflight as browsers send it: without cookies.
fn preflight<'a>(agent: &'a UserAgent, url: &str, origin: &str, method: &str) -> Request<'a> {
    let request = agent.fetch(url).method(Method::OPTIONS).without_cookies().from_page(origin);
    request.header("origin", origin).header("access-control-request-method", method)
}

/// A call with the user's cookie, as a page of `origin` would make it if browsers sent the cookie along.
fn call<'a>(agent: &'a UserAgent, url: &str, origin: &str, method: Method) -> Request<'a> {
    let id = session_id(agent, APP).unwrap_or_default();
    let site = if origin == FOREIGN { "cross-site" } else { "same-site" };
    let request = agent.fetch(url).method(method).header("cookie", format!("__Host-session={id}"));
    request.header("origin", origin).header("sec-fetch-site", site)
}

#[tokio::test]
async fn a_preflight_from_the_listed_origin_is_answered_without_a_session() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let listed = stand.admin();
    for (path, method) in
        [("/api/echo", "PUT"), ("/public/echo", "POST"), ("/admin/echo", "DELETE"), ("/auth/me", "GET")]
    {
        let url = format!("{}{path}", stand.app());
        let answer = preflight(&agent, &url, &listed, method)
            .header("access-control-request-headers", "content-type,x-csrf")
            .await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        let expected = [
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-headers", "content-type, x-csrf, x-requested-with"),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
            ("access-control-allow-origin", &listed),
            ("access-control-max-age", "600"),
        ];
        let expected: BTreeMap<_, _> =
            expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(grants(&answer), expected, "{path}");
        assert!(varies(&answer).contains(&"origin".to_owned()), "{path}");
    }
    assert!(stand.upstream.received().is_empty(), "no preflight reaches the upstream");
}

#[tokio::test]
async fn a_foreign_preflight_is_refused_without_a_word_of_cors() {
    let stand = Stand::start().await;
    let agent = UserAgent::new();
    let near_misses = [
        FOREIGN.to_owned(),
        "null".to_owned(),
        format!("{}.evil.example", stand.admin()),
        stand.admin().replace("http:", "https:"),
        stand.admin().to_uppercase(),
        "http://admin.demo.localhost".to_owned(),
        format!("{}/", stand.admin()),
    ];
    for path in ["/api/echo", "/public/echo", "/auth/me"] {
        for origin in &near_misses {
            let url = format!("{}{path}", stand.app());
            let request = agent.fetch(&url).method(Method::OPTIONS).without_cookies();
            let request = request.header("origin", origin).header("access-control-request-method", "GET");
            let answer = request.await;
            assert_eq!((answer.status, grants(&answer)), (403, BTreeMap::new()), "{path} from {origin}");
            assert!(varies(&answer).contains(&"origin".to_owned()), "{path}");
        }
    }
    assert!(stand.upstream.received().is_empty());
}

#[tokio::test]
async fn every_answer_to_the_listed_origin_can_be_read_there() {
    let stand = Stand::start().await;
    let alice = signed_in(&stand, "alice").await;
    let nobody = UserAgent::new();
    let listed = stand.admin();
    let url = |path: &str| format!("{}{path}", stand.app());
    for (agent, path, status) in [
        (&alice, "/api/echo", 200),
        (&alice, "/admin/echo", 403),
        (&nobody, "/api/echo", 401),
        (&nobody, "/public/echo", 200),
        (&alice, "/auth/me", 200),
        (&nobody, "/auth/me", 401),
    ] {
        let answer = call(agent, &url(path), &listed, Method::GET).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        granted(&answer, &listed, path);
        if path.ends_with("/echo") && status == 200 {
            assert!(varies(&answer).contains(&"accept-encoding".to_owned()), "the upstream's own Vary stays");
        }
    }
    // What is asked for without an origin may be cached, and must not be shown to another origin.
    for path in ["/public/echo", "/api/echo", "/auth/me"] {
        let answer = alice.fetch(url(path)).await;
        assert_eq!(grants(&answer), BTreeMap::new(), "{path}");
        assert!(varies(&answer).contains(&"origin".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn what_changes_something_comes_from_the_own_or_a_listed_origin() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let url = format!("{}/api/echo", stand.app());
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        for origin in [FOREIGN, "null"] {
            let answer =
                call(&agent, &url, origin, method.clone()).header("sec-fetch-site", "cross-site").await;
            assert_eq!((answer.status, grants(&answer)), (403, BTreeMap::new()), "{method} from {origin}");
            let old = call(&agent, &url, origin, method.clone()).without_header("sec-fetch-site").await;
            assert_eq!(old.status, 403, "{method} from {origin} in an old browser");
        }
        let hidden = call(&agent, &url, FOREIGN, method.clone()).without_header("origin").await;
        assert_eq!(hidden.status, 403, "{method} without an origin");
        let own = agent.fetch(&url).method(method.clone()).await;
        assert_eq!(own.status, 200, "{method} from the own origin: {}", own.text());
        let listed = call(&agent, &url, &stand.admin(), method.clone()).await;
        assert_eq!(listed.status, 200, "{method} from the listed origin: {}", listed.text());
        granted(&listed, &stand.admin(), method.as_str());
    }
    let received = stand.upstream.received();
    let changes = received.iter().filter(|echo| echo["method"] != "GET").count();
    assert_eq!(changes, 8, "two of each method reached the upstream");
}

#[tokio::test]
async fn a_foreign_page_opens_no_websocket() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let url = format!("{}/api/echo", stand.app());
    let open = |origin: &str| {
        let request = call(&agent, &url, origin, Method::GET).header("connection", "Upgrade");
        let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
        request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-fetch-mode", "websocket")
    };
    for origin in [FOREIGN, "null"] {
        let answer = open(origin).header("sec-fetch-site", "cross-site").await;
        assert_eq!(answer.status, 403, "{origin}: {}", answer.text());
        // Not every browser sends fetch metadata with an upgrade.
        let answer = open(origin).without_header("sec-fetch-site").without_header("sec-fetch-mode").await;
        assert_eq!(answer.status, 403, "{origin}: {}", answer.text());
    }
    assert!(stand.upstream.received().iter().all(|echo| echo["headers"]["upgrade"].is_null()));
    for origin in [stand.app(), stand.admin()] {
        let answer = open(&origin).header("sec-fetch-site", "same-site").await;
        assert_eq!(answer.status, 200, "it reached the upstream: {}", answer.text());
    }
}

#[tokio::test]
async fn a_foreign_page_reads_nothing() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    for path in ["/api/echo", "/auth/me"] {
        let url = format!("{}{path}", stand.app());
        let answer = call(&agent, &url, FOREIGN, Method::GET).await;
        assert_eq!((answer.status, grants(&answer)), (403, BTreeMap::new()), "{path}");
        let old = call(&agent, &url, FOREIGN, Method::GET).without_header("sec-fetch-site");
        let old = old.without_header("sec-fetch-mode").without_header("sec-fetch-dest").await;
        assert_eq!((old.status, grants(&old)), (403, BTreeMap::new()), "{path} in an old browser");
        assert!(!answer.text().contains("lice") && !old.text().contains("lice"), "{path}");
    }
    // A link from another site opens a page all the same.
    let link = agent.navigate(format!("{}/api/echo", stand.app())).from_page(FOREIGN).await;
    assert_eq!(link.status, 200);
}

#[tokio::test]
async fn the_listed_origin_cannot_sign_the_user_out() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let url = format!("{}/auth/logout", stand.app());
    let answer = call(&agent, &url, &stand.admin(), Method::POST).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(agent.fetch(format!("{}/api/echo", stand.app())).await.status, 200);
}

#[tokio::test]
async fn where_the_gateway_does_cors_the_program_keeps_silent_and_still_guards() {
    let by_gateway = |config: &mut serde_json::Value| {
        config["frontends"][0]["cors"]["answered_by"] = "gateway".into();
    };
    let stand = Stand::builder().program(by_gateway).start().await;
    let agent = signed_in(&stand, "alice").await;
    let url = format!("{}/api/echo", stand.app());
    let listed = call(&agent, &url, &stand.admin(), Method::POST).await;
    assert_eq!((listed.status, grants(&listed)), (200, BTreeMap::new()));
    assert_eq!(call(&agent, &url, FOREIGN, Method::POST).await.status, 403);
}
