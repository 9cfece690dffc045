//! Frames of Keycloak's logout page that sign somebody out.

use crate::steps::{
    APP, go_to_admin, is_signed_in, is_signed_in_at, provider_session, session_cookie, session_id, signed_in,
};
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Response, Stand, UserAgent};
use reqwest::Method;
use serde_json::json;

/// A stand whose app frontend takes part, and whose admin frontend does not.
async fn with_front_channel() -> Stand {
    let edit = |config: &mut serde_json::Value| {
        config["frontends"][0]["login"]["front_channel_logout"] = json!(true);
    };
    Stand::builder().program(edit).start().await
}

/// The frame of a browser that sends no cookies to it, as browsers do in frames of another site.
fn frame<'a>(browser: &'a UserAgent, origin: &str, parameters: &[(&str, &str)]) -> Request<'a> {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    let request = browser.navigate(format!("{origin}/auth/frontchannel-logout?{query}"));
    let request = request.header("sec-fetch-dest", "iframe").header("sec-fetch-site", "cross-site");
    request.without_cookies().without_redirects()
}

fn is_empty_frame(stand: &Stand, what: &str, answer: &Response) {
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{what}");
    assert_eq!(answer.header_values("cache-control"), ["no-store"], "{what}");
    let policy = format!("default-src 'none'; frame-ancestors {}", stand.keycloak.server());
    assert_eq!(answer.header_values("content-security-policy"), [policy], "{what}");
    for name in ["set-cookie", "x-frame-options"] {
        assert!(answer.header_values(name).is_empty(), "{what}: {name}");
    }
}

#[tokio::test]
async fn a_frame_signs_out_whose_session_it_names() {
    let stand = with_front_channel().await;
    let (alice, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    let bob = signed_in(&stand, "bob").await;
    go_to_admin(&stand, &alice).await;
    let (issuer, sid) = (stand.realm.issuer(), provider_session(&stand, &alice).await);
    let browser = UserAgent::new();
    let answer = frame(&browser, &stand.app(), &[("iss", &issuer), ("sid", &sid)]).await;
    is_empty_frame(&stand, "the frame", &answer);
    assert!(!is_signed_in(&stand, &alice).await);
    assert!(!is_signed_in_at(&stand.admin(), &alice).await, "it was one sign-in");
    assert!(is_signed_in(&stand, &elsewhere).await && is_signed_in(&stand, &bob).await);
}

#[tokio::test]
async fn a_frame_that_names_no_session_signs_nobody_out() {
    let stand = with_front_channel().await;
    let alice = signed_in(&stand, "alice").await;
    let (issuer, sid) = (stand.realm.issuer(), provider_session(&stand, &alice).await);
    let (issuer, sid) = (issuer.as_str(), sid.as_str());
    let id = session_id(&alice, APP).expect("alice has a session");
    let other = format!("{issuer}/");
    let browser = UserAgent::new();
    let cookie = session_cookie(&alice);
    let wrong: [(_, &[(&str, &str)]); 9] = [
        ("nothing", &[]),
        ("no sid", &[("iss", issuer)]),
        ("no issuer", &[("sid", sid)]),
        ("another issuer", &[("iss", "https://evil.example"), ("sid", sid)]),
        ("almost the issuer", &[("iss", &other), ("sid", sid)]),
        ("an unknown sid", &[("iss", issuer), ("sid", "unknown")]),
        ("an empty sid", &[("iss", issuer), ("sid", "")]),
        ("two sids", &[("iss", issuer), ("sid", sid), ("sid", sid)]),
        ("an id of a session of ours", &[("iss", issuer), ("sid", &id)]),
    ];
    for (what, parameters) in wrong {
        // With the cookie, as if a browser sent it to frames.
        let answer = frame(&browser, &stand.app(), parameters).header("cookie", &cookie).await;
        is_empty_frame(&stand, what, &answer);
        assert!(is_signed_in(&stand, &alice).await, "{what}");
    }
    let right = [("iss", issuer), ("sid", sid)];
    for method in [Method::POST, Method::HEAD, Method::OPTIONS] {
        let answer = frame(&browser, &stand.app(), &right).method(method.clone()).await;
        assert_eq!((answer.status, answer.header("allow").as_deref()), (405, Some("GET")), "{method}");
    }
    // A frontend that was not told to take part does not.
    let answer = frame(&browser, &stand.admin(), &right).await;
    assert_eq!(answer.status, 404);
    assert!(is_signed_in(&stand, &alice).await);
}
