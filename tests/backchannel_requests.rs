//! The endpoint that Keycloak calls when somebody is signed out there: whoever else calls it achieves nothing.

use crate::backchannel::{logout_tokens, recorded, without_sid};
use crate::steps::{
    SOON, access_token, claims, from_no_browser, is_signed_in, session_cookie, signed_in, until_after,
    with_token_life,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Response, Stand, UserAgent, wait};
use reqwest::Method;
use serde_json::json;

/// As much as the endpoint reads.
const LARGEST: usize = 16 * 1024;

/// A call to the endpoint from no browser, with some method, by one of the two ways: straight to the program under a
/// name that no frontend has, and through Envoy.
type Way<'a> = Box<dyn Fn(Method) -> Request<'a> + 'a>;

fn ways<'a>(stand: &Stand, caller: &'a UserAgent) -> [Way<'a>; 2] {
    let url = |origin: String| format!("{origin}/auth/backchannel-logout");
    let (straight, envoy) = (url(stand.browser_listener()), url(stand.app()));
    let call = |url: &str, method| from_no_browser(caller.fetch(url).method(method));
    [
        Box::new(move |method| call(&straight, method).header("host", "keycloak-bff.internal")),
        Box::new(move |method| call(&envoy, method)),
    ]
}

/// A call with a logout token.
fn with_token<'a>(call: &Way<'a>, token: &str) -> Request<'a> {
    call(Method::POST).form(&[("logout_token", token)])
}

fn is_refused(what: &str, answer: &Response, status: u16) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.json()["error"], "invalid_request", "{what}");
    says_nothing_to_browsers(what, answer);
}

fn says_nothing_to_browsers(what: &str, answer: &Response) {
    assert_eq!(answer.header_values("cache-control"), ["no-store"], "{what}");
    for name in ["set-cookie", "access-control-allow-origin", "location"] {
        assert!(answer.header_values(name).is_empty(), "{what}: {name}");
    }
}

#[tokio::test]
async fn the_endpoint_takes_nothing_but_posts() {
    let stand = Stand::start().await;
    let caller = UserAgent::new();
    for call in ways(&stand, &caller) {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = call(method.clone()).await;
            assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("POST")), "{method}");
            says_nothing_to_browsers(method.as_str(), &answer);
        }
        assert_eq!(call(Method::GET).await.json()["error"], "wrong_method");
    }
}

#[tokio::test]
async fn what_is_no_logout_token_is_refused_and_signs_nobody_out() {
    let stand = Stand::builder().with_gate().start().await;
    let alice = signed_in(&stand, "alice").await;
    let access_token = access_token(&stand, &alice).await;
    let carried = stand.gate().carried();
    let id_token = carried.split("\"id_token\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let id_token = id_token.expect("Keycloak gave an ID token");
    assert_eq!(claims(id_token)["sid"], claims(&access_token)["sid"], "it is that of alice's session");
    let longest = "a".repeat(LARGEST - "logout_token=".len());
    let too_long = format!("{longest}a");
    let cookie = session_cookie(&alice);

    let caller = UserAgent::new();
    for call in ways(&stand, &caller) {
        let post = || call(Method::POST);
        let form = |token: &str| with_token(&call, token);
        for (what, request, status) in [
            ("nothing", post(), 400),
            ("a form without fields", post().form(&[]), 400),
            ("a form with another field", post().form(&[("token", id_token)]), 400),
            ("an empty token", form(""), 400),
            ("garbage", form("garbage"), 400),
            ("dots", form(".."), 400),
            ("as much as it reads", form(&longest), 400),
            ("more than it reads", form(&too_long), 413),
            ("an access token", form(&access_token), 400),
            ("an ID token", form(id_token), 400),
            ("an ID token with its cookie", form(id_token).header("cookie", &cookie), 400),
            ("an ID token from a page", form(id_token).header("origin", "https://evil.example"), 400),
        ] {
            is_refused(what, &request.await, status);
        }
    }
    assert!(is_signed_in(&stand, &alice).await);
    assert_eq!(stand.realm.sessions("alice").await.len(), 1);
}

/// Tokens that somebody made of a genuine one, to sign out whom `sub` names.
fn forgeries(token: &str, sub: &str) -> [(&'static str, String); 4] {
    let (signed, signature) = token.rsplit_once('.').expect("a JWT is signed");
    let (header, payload) = signed.split_once('.').expect("a JWT has a header");
    let mut changed = claims(token);
    changed["sub"] = json!(sub);
    let changed = URL_SAFE_NO_PAD.encode(changed.to_string());
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"logout+jwt"}"#);
    let end = if signature.ends_with("AAAA") { "BBBB" } else { "AAAA" };
    [
        ("another signature", format!("{signed}.{}{end}", &signature[..signature.len() - 4])),
        ("another person", format!("{header}.{changed}.{signature}")),
        ("the signature left out", format!("{signed}.")),
        ("no algorithm", format!("{unsigned}.{payload}.")),
    ]
}

#[tokio::test]
async fn a_logout_token_counts_once_and_only_as_keycloak_made_it() {
    let stand = with_token_life(300).client(without_sid).start().await;
    // Keycloak's call goes astray, so its token is still to be used.
    let gate = recorded(&stand, stand.ports.upstream).await;
    let (alice, bob) = (signed_in(&stand, "alice").await, signed_in(&stand, "bob").await);
    stand.realm.logout_user("alice").await;
    let token = wait::until("Keycloak's call", SOON, async || logout_tokens(&gate).pop()).await;
    assert!(is_signed_in(&stand, &alice).await, "the program has heard nothing yet");

    let caller = UserAgent::new();
    let bobs = stand.realm.user_id("bob").await;
    for call in ways(&stand, &caller) {
        for (what, forgery) in forgeries(&token, &bobs) {
            is_refused(what, &with_token(&call, &forgery).await, 400);
        }
        let post = || call(Method::POST);
        let field = ("logout_token", token.as_str());
        let in_query = caller.fetch(format!("{}/auth/backchannel-logout?logout_token={token}", stand.app()));
        for (what, request) in [
            ("twice", post().form(&[field, field])),
            ("as JSON", post().json(&json!({"logout_token": token}))),
            ("with another content type", with_token(&call, &token).header("content-type", "text/plain")),
            ("without a content type", with_token(&call, &token).without_header("content-type")),
            ("in the query", in_query.method(Method::POST).form(&[])),
        ] {
            is_refused(what, &request.await, 400);
        }
    }
    assert!(is_signed_in(&stand, &alice).await && is_signed_in(&stand, &bob).await);

    // Neither bob's cookie nor the origin of a page means anything here.
    let [straight, envoy] = ways(&stand, &caller);
    let content_type = "application/x-www-form-urlencoded; charset=utf-8";
    let genuine = with_token(&straight, &token).header("cookie", session_cookie(&bob));
    let genuine = genuine.header("origin", "https://evil.example").header("content-type", content_type);
    let answer = genuine.await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    says_nothing_to_browsers("a genuine token", &answer);
    assert!(!is_signed_in(&stand, &alice).await && is_signed_in(&stand, &bob).await);

    // A login of the very second of the sign-out counts as one of before.
    until_after(claims(&token)["iat"].as_u64().expect("a token has a time")).await;
    let alice = signed_in(&stand, "alice").await;
    for call in [straight, envoy] {
        is_refused("the token once more", &with_token(&call, &token).await, 400);
        assert!(is_signed_in(&stand, &alice).await);
    }
}
