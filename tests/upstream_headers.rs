//! What the upstream is told, and what a client cannot tell it.

use crate::steps::{APP, SESSION, claims, session_id, signed_in};
use keycloak_bff_testbed::{Stand, UserAgent};
use percent_encoding::percent_decode_str;
use serde_json::Value;

#[tokio::test]
async fn other_cookies_reach_the_upstream_unchanged_and_ours_never_do() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP).expect("alice has a session");
    let ours = format!("{SESSION}={id}; __Host-login-app-0123456789abcdef=x; __Host-logout-app=y");
    for path in ["/api/echo", "/public/echo"] {
        let url = format!("{}{path}", stand.app());
        let others = r#"theme=dark; quoted="a b,c"; empty=; odd=%C3%A5=="#;
        let echo = agent.fetch(&url).header("cookie", format!("a=1; {ours}; {others}")).await;
        assert_eq!(echo.echoed("cookie"), Some(format!("a=1; {others}")), "{path}");
        let two_lines = agent.fetch(&url).header("cookie", format!("a=1; {SESSION}={id}"));
        let echo = two_lines.header("cookie", "__Host-logout-app=y; b=2").await;
        assert_eq!(echo.echoed("cookie").as_deref(), Some("a=1; b=2"), "{path}");
        let echo = agent.fetch(&url).header("cookie", &ours).await;
        assert_eq!((echo.status, echo.echoed("cookie")), (200, None), "{path}: nothing is left to send");
        assert!(!echo.text().contains(&id), "{path}");
    }
    let echo =
        UserAgent::new().fetch(format!("{}/public/echo", stand.app())).header("cookie", "a=1;b=2").await;
    assert_eq!(echo.echoed("cookie").as_deref(), Some("a=1;b=2"), "nothing of ours, nothing is touched");
}

#[tokio::test]
async fn what_a_client_says_about_who_it_is_never_reaches_the_upstream() {
    let stand = Stand::start().await;
    let alice = signed_in(&stand, "alice").await;
    let nobody = UserAgent::new();
    let names = ["authorization", "x-user-id", "x-user-name", "x-user-roles", "X-USER-ID"];
    for (agent, path) in
        [(&nobody, "/public/echo"), (&alice, "/public/echo"), (&alice, "/api/echo"), (&alice, "/other/echo")]
    {
        let mut request = agent.fetch(format!("{}{path}", stand.app()));
        for name in names {
            request = request.header(name, "Bearer forged-by-client").header(name, "forged-twice");
        }
        let echo = request.await;
        assert_eq!(echo.status, 200, "{path}");
        assert!(!echo.text().contains("forged"), "{path}: {}", echo.text());
        let signed_in = path != "/public/echo";
        for name in ["authorization", "x-user-id", "x-user-name", "x-user-roles"] {
            assert_eq!(echo.echoed(name).is_some(), signed_in, "{path}: {name}");
        }
    }
    // Every file of ours has Envoy refuse the spellings that some servers take for the same.
    let underscore = nobody.fetch(format!("{}/public/echo", stand.app())).header("x_user_id", "forged").await;
    assert_eq!(underscore.status, 400);
}

#[tokio::test]
async fn a_proxy_that_lets_underscores_through_is_no_way_around() {
    let hcm = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let edit = move |envoy: &mut Value| {
        let options = envoy.pointer_mut(hcm).expect("the connection manager");
        options["common_http_protocol_options"]["headers_with_underscores_action"] = "ALLOW".into();
    };
    let stand = Stand::builder().envoy(edit).start().await;
    let alice = signed_in(&stand, "alice").await;
    let nobody = UserAgent::new();
    for (agent, path) in [(&nobody, "/public/echo"), (&alice, "/api/echo")] {
        let mut request = agent.fetch(format!("{}{path}", stand.app())).header("x_other", "kept");
        for name in ["x_user_id", "x-user_id", "x_user-name", "X_User_Roles"] {
            request = request.header(name, "forged");
        }
        let echo = request.await;
        assert_eq!((echo.status, echo.echoed("x_other").as_deref()), (200, Some("kept")), "{path}");
        assert!(!echo.text().contains("forged"), "{path}: {}", echo.text());
    }
}

#[tokio::test]
async fn the_api_learns_who_is_signed_in() {
    let stand = Stand::start().await;
    let agent = signed_in(&stand, "alice").await;
    let echo = agent.fetch(format!("{}/api/echo", stand.app())).header("authorization", "Bearer mine").await;
    let token = echo.echoed("authorization").expect("exactly one Authorization");
    let token = token.strip_prefix("Bearer ").expect("a Bearer token");
    assert_eq!(claims(token)["preferred_username"], "alice");
    let decoded = |name: &str| {
        let value = echo.echoed(name).unwrap_or_else(|| panic!("no {name}"));
        assert!(value.is_ascii(), "{value}");
        percent_decode_str(&value).decode_utf8().expect("UTF-8").into_owned()
    };
    assert_eq!(decoded("x-user-name"), "Alice Ångström");
    assert_eq!(decoded("x-user-id"), stand.realm.user_id("alice").await);
    let roles = decoded("x-user-roles");
    let roles: Vec<&str> = roles.split(',').collect();
    assert!(roles.contains(&"user") && !roles.contains(&"admin"), "{roles:?}");

    let me = agent.fetch(format!("{}/auth/me", stand.app())).await;
    assert_eq!((me.status, me.json()["claims"]["name"].as_str()), (200, Some("Alice Ångström")));
    assert!(!me.text().contains("ey"), "no token: {}", me.text());
}
