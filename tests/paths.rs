//! No spelling of a path is a way around the rule that it falls under.

use crate::steps::APP;
use keycloak_bff_testbed::{Stand, raw};
use serde_json::Value;

#[tokio::test]
async fn no_spelling_of_a_path_gets_around_its_rule() {
    let stand = Stand::start().await;
    let host = format!("{APP}:{}", stand.ports.edge);
    for target in [
        "/public/../api/echo",
        "/public/%2e%2e/api/echo",
        "/public/.%2E/api/echo",
        "/public/%252e%252e/api/echo",
        "/public/..%2fapi/echo",
        "/public/..%5capi/echo",
        "/public/..\\api/echo",
        "/public/..;/api/echo",
        "/public/..;x=y/api/echo",
        "/public/%2e%2e%3b/api/echo",
        "/public;/../api/echo",
        "//api/echo",
        "/./api/echo",
        "/publicx",
        "/publicx/echo",
        "/PUBLIC/echo",
        "/api/public/echo",
        "/api/echo?/public/",
        "/public/..%00/api/echo",
        "/auth/../api/echo",
        "/auth/me/../../api/echo",
        "/auth/me%2f..%2f..%2fapi/echo",
        "http://app.demo.localhost/public/../api/echo",
    ] {
        let answer = raw::request(stand.ports.edge, "GET", target, &host, &[]).await;
        assert!((400..405).contains(&answer.status), "{target}: {}", answer.head);
        assert!(answer.json().is_none_or(|body| body["path"].is_null()), "{target}: {}", answer.body);
    }
    assert!(stand.upstream.received().is_empty(), "{:?}", stand.upstream.received());
    // What is public is so in every harmless spelling.
    for target in
        ["/public/echo", "/api/../public/echo", "/public/a/./../echo", "/public//echo", "/%70ublic/echo"]
    {
        let answer = raw::request(stand.ports.edge, "GET", target, &host, &[]).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_envoy_that_normalises_nothing_opens_no_way_around() {
    let hcm = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let edit = move |envoy: &mut Value| {
        let options = envoy.pointer_mut(hcm).and_then(Value::as_object_mut).expect("the connection manager");
        for name in ["normalize_path", "merge_slashes", "path_with_escaped_slashes_action"] {
            options.remove(name);
        }
    };
    let stand = Stand::builder().envoy(edit).start().await;
    let host = format!("{APP}:{}", stand.ports.edge);
    for target in [
        "/public/../api/echo",
        "/public/%2e%2e/api/echo",
        "/public/%252e%252e/api/echo",
        "/public/..%2fapi/echo",
        "/public/..%5capi/echo",
        "/public/..\\api/echo",
        "/public/..;/api/echo",
        "/public/..;x=y/api/echo",
        "/public/x/..;/..;/api/echo",
        "/public//../api/echo",
        "/public;/../api/echo",
        "//api/echo",
        "/publicx",
    ] {
        let answer = raw::request(stand.ports.edge, "GET", target, &host, &[]).await;
        assert!(matches!(answer.status, 400 | 401), "{target}: {} {}", answer.head, answer.body);
    }
    assert!(stand.upstream.received().is_empty(), "{:?}", stand.upstream.received());
}
