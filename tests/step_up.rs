//! Paths that need a stronger or more recent sign-in than the one that the browser comes with.

use crate::steps::{
    APP, agent_with_session, bearer, claims, go_to_admin, is_signed_in, now, session_id, signed_in,
    until_after,
};
use keycloak_bff_testbed::stand::Builder;
use keycloak_bff_testbed::{Response, Stand, UserAgent};
use serde_json::{Value, json};

/// How many seconds ago the sign-in may be for the demo's `/secure/*` here, and how far Keycloak's clock may be off.
const MAX_AGE: u64 = 5;
const SKEW: u64 = 1;

/// The rule for `/secure/*` on the app frontend.
fn secure(config: &mut Value) -> &mut Value {
    let rules = config["frontends"][0]["rules"].as_array_mut().expect("rules are a list");
    rules.iter_mut().find(|rule| rule["path"] == "/secure/*").expect("the demo has such a rule")
}

/// A stand whose `/secure/*` needs a recent sign-in.
fn with_max_age() -> Builder {
    Stand::builder().program(|config| {
        secure(config)["max_age"] = json!(format!("{MAX_AGE}s"));
        config["providers"][0]["clock_skew"] = json!(format!("{SKEW}s"));
    })
}

/// A stand whose `/secure/*` needs gold.
fn with_gold() -> Builder {
    Stand::builder().program(|config| {
        *secure(config) = json!({"path": "/secure/*", "session": "required", "acr": ["gold"]})
    })
}

/// Has Keycloak ask once for the password and call that silver, and call it gold after the password once more.
fn with_levels(realm: &mut Value) {
    let step = |authenticator: &str, requirement: &str| json!({"authenticator": authenticator, "requirement": requirement});
    let part = |flow: &str, requirement: &str| json!({"flowAlias": flow, "authenticatorFlow": true, "requirement": requirement});
    let level = |acr: &str, form: &str| {
        let mut condition = step("conditional-level-of-authentication", "REQUIRED");
        condition["authenticatorConfig"] = json!(acr);
        (acr.to_owned(), false, vec![condition, step(form, "REQUIRED")])
    };
    let flows = [
        ("step up".to_owned(), true, vec![step("auth-cookie", "ALTERNATIVE"), part("forms", "ALTERNATIVE")]),
        ("forms".to_owned(), false, vec![part("silver", "CONDITIONAL"), part("gold", "CONDITIONAL")]),
        level("silver", "auth-username-password-form"),
        level("gold", "auth-password-form"),
    ];
    let flows = flows.map(|(alias, is_top, mut parts)| {
        for (priority, part) in parts.iter_mut().enumerate() {
            part["priority"] = json!(priority);
        }
        json!({"alias": alias, "providerId": "basic-flow", "topLevel": is_top, "authenticationExecutions": parts})
    });
    let condition = |acr: &str, level: &str| json!({"alias": acr, "config": {"loa-condition-level": level, "loa-max-age": "36000"}});
    realm["authenticationFlows"] = json!(flows);
    realm["authenticatorConfig"] = json!([condition("silver", "1"), condition("gold", "2")]);
    realm["browserFlow"] = json!("step up");
    realm["attributes"] = json!({"acr.loa.map": json!({"silver": 1, "gold": 2}).to_string()});
}

fn url(stand: &Stand) -> String {
    format!("{}/secure/echo?x=1", stand.app())
}

/// Shows that a script is told what is missing, by this parameter, and gives the address that asks for it.
fn challenge(answer: &Response, parameter: &str) -> String {
    assert_eq!(answer.status, 401, "{}", answer.text());
    let challenges = answer.header_values("www-authenticate");
    assert_eq!(challenges.len(), 1, "{challenges:?}");
    assert!(
        challenges[0].starts_with("Bearer error=\"insufficient_user_authentication\", "),
        "{challenges:?}"
    );
    assert!(challenges[0].ends_with(&format!(", {parameter}")), "{challenges:?}");
    let body = answer.json();
    assert_eq!(body["error"], "insufficient_user_authentication");
    body["login_url"].as_str().expect("a script is told where to sign in").to_owned()
}

/// The parameter of the authorization request on the way to a page of Keycloak.
fn asked(page: &Response, name: &str) -> Option<String> {
    let request = page.hops.iter().find(|hop| hop.url.contains("/protocol/openid-connect/auth?"));
    let request = request.unwrap_or_else(|| panic!("Keycloak was not asked: {:#?}", page.hops));
    let request = url::Url::parse(&request.url).expect("a URL");
    request.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// How often the program was asked for a login on the way to an answer.
fn logins(answer: &Response) -> usize {
    answer.hops.iter().filter(|hop| hop.url.contains("/auth/login?")).count()
}

/// Goes to the page, but asks Keycloak for less than the program does: without a parameter.
async fn with_a_weaker_request(stand: &Stand, agent: &UserAgent, parameter: &str) -> Response {
    let mut location = url(stand);
    for _ in 0..2 {
        let answer = agent.navigate(location).without_redirects().await;
        location = answer.header("location").unwrap_or_else(|| panic!("no way to the login: {answer:#?}"));
    }
    let mut request = url::Url::parse(&location).expect("a URL");
    let all: Vec<(String, String)> = request.query_pairs().into_owned().collect();
    let kept: Vec<&(String, String)> = all.iter().filter(|(name, _)| name != parameter).collect();
    assert_eq!(kept.len() + 1, all.len(), "{location} asks for {parameter}");
    request.query_pairs_mut().clear().extend_pairs(kept);
    agent.navigate(request).await
}

#[tokio::test]
async fn a_path_that_needs_a_recent_sign_in_asks_for_one() {
    let stand = with_max_age().start().await;
    let agent = UserAgent::new();
    let landed = agent.sign_in(url(&stand), "alice", "alice").await;
    assert_eq!((landed.status, landed.url.clone()), (200, url(&stand)), "a fresh sign-in will do");
    let token = claims(&bearer(&landed).expect("a token"));
    let old = session_id(&agent, APP).expect("alice has a session");
    until_after(token["auth_time"].as_u64().expect("a time") + MAX_AGE + SKEW).await;

    let login = challenge(&agent.fetch(url(&stand)).await, &format!("max_age=\"{MAX_AGE}\""));
    assert_eq!(login, format!("{}/auth/login?max_age={MAX_AGE}", stand.app()));
    assert!(is_signed_in(&stand, &agent).await, "the session stays good for the rest");
    assert_eq!(session_id(&agent, APP).as_ref(), Some(&old));
    go_to_admin(&stand, &agent).await;

    // Keycloak knows alice, as the other frontend has just shown, and asks all the same.
    let page = agent.navigate(url(&stand)).await;
    assert!(page.is_login_page(), "{page:#?}");
    assert_eq!(asked(&page, "max_age"), Some(MAX_AGE.to_string()));
    assert!(is_signed_in(&stand, &agent).await, "whoever does not go on keeps the session");
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url.clone()), (200, url(&stand)));
    let new = claims(&bearer(&landed).expect("a token"));
    assert!(new["auth_time"].as_u64() > token["auth_time"].as_u64());
    assert_ne!(session_id(&agent, APP), Some(old.clone()), "a new id");
    assert!(!is_signed_in(&stand, &agent_with_session(APP, &old)).await, "the old one is dead");
}

#[tokio::test]
async fn the_address_of_a_challenge_signs_in_as_the_path_needs() {
    let stand = with_max_age().start().await;
    let agent = signed_in(&stand, "alice").await;
    until_after(now() + MAX_AGE + SKEW).await;
    let login = challenge(&agent.fetch(url(&stand)).await, &format!("max_age=\"{MAX_AGE}\""));
    let page = agent.navigate(format!("{login}&return_to=/secure/echo?x=1")).await;
    assert!(page.is_login_page(), "{page:#?}");
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url), (200, url(&stand)));
    assert_eq!(agent.fetch(url(&stand)).await.status, 200);
}

#[tokio::test]
async fn a_path_that_needs_a_stronger_sign_in_asks_for_one() {
    let stand = with_gold().realm(with_levels).start().await;
    let agent = signed_in(&stand, "alice").await;
    let echo = agent.fetch(format!("{}/api/echo", stand.app())).await;
    assert_eq!(claims(&bearer(&echo).expect("a token"))["acr"], "silver");
    let old = session_id(&agent, APP).expect("alice has a session");
    let login = challenge(&agent.fetch(url(&stand)).await, "acr_values=\"gold\"");
    assert_eq!(login, format!("{}/auth/login?acr_values=gold", stand.app()));
    assert!(is_signed_in(&stand, &agent).await);

    let page = agent.navigate(url(&stand)).await;
    assert!(page.is_login_page() && !page.text().contains("name=\"username\""), "only for more: {page:#?}");
    let landed = agent.submit_login(&page, "alice", "alice").await;
    assert_eq!((landed.status, landed.url.clone()), (200, url(&stand)));
    assert_eq!(claims(&bearer(&landed).expect("a token"))["acr"], "gold");
    assert_ne!(session_id(&agent, APP), Some(old.clone()));
    assert!(!is_signed_in(&stand, &agent_with_session(APP, &old)).await);
    assert_eq!(agent.fetch(url(&stand)).await.status, 200, "from now on without a question");
}

#[tokio::test]
async fn a_keycloak_that_does_not_know_a_level_ends_the_way_on_a_page() {
    let stand = with_gold().start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP);
    let page = agent.navigate(url(&stand)).await;
    let essential = json!({"id_token": {"acr": {"essential": true, "values": ["gold"]}}});
    let asked = asked(&page, "claims").expect("the request asks for a claim");
    assert_eq!(serde_json::from_str::<Value>(&asked).expect("JSON"), essential);
    assert!((400..500).contains(&page.status), "{page:#?}");
    assert_eq!(logins(&page), 1, "no round and round: {:#?}", page.hops);
    assert_eq!(session_id(&agent, APP), id);
    assert!(is_signed_in(&stand, &agent).await, "the session that there was is kept");
}

#[tokio::test]
async fn whoever_takes_the_demand_out_of_the_request_gains_nothing() {
    let stand = with_gold().realm(with_levels).start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP);
    // Keycloak's session will do for what is asked now, so it sends the browser straight back.
    let page = with_a_weaker_request(&stand, &agent, "claims").await;
    assert_eq!((page.status, logins(&page)), (403, 0), "{page:#?}");
    assert!(page.text().contains("not in the way that this page needs"), "{}", page.text());
    assert_eq!(session_id(&agent, APP), id);
    assert!(is_signed_in(&stand, &agent).await, "the session that there was is kept");
    assert_eq!(agent.fetch(url(&stand)).await.status, 401);
}

#[tokio::test]
async fn whoever_takes_the_age_out_of_the_request_gains_nothing() {
    let stand = with_max_age().start().await;
    let agent = signed_in(&stand, "alice").await;
    let id = session_id(&agent, APP);
    until_after(now() + MAX_AGE + SKEW).await;
    let page = with_a_weaker_request(&stand, &agent, "max_age").await;
    assert_eq!((page.status, logins(&page)), (403, 0), "{page:#?}");
    assert!(page.text().contains("asked to sign in again"), "{}", page.text());
    assert_eq!(session_id(&agent, APP), id);
    assert!(is_signed_in(&stand, &agent).await);
    assert_eq!(agent.fetch(url(&stand)).await.status, 401);
}

#[tokio::test]
async fn what_a_login_address_cannot_ask_for_counts_as_not_asked() {
    let stand = with_gold().start().await;
    let alice = signed_in(&stand, "alice").await;
    for query in [
        "acr_values=platinum",
        "acr_values=",
        "acr_values=gold&acr_values=gold",
        "max_age=garbage",
        "max_age=-1",
        "max_age=",
        "max_age=99999999999999999999",
        "max_age=0&max_age=0",
        "acr_values=platinum%20GOLD&max_age=1.5",
    ] {
        let login = format!("{}/auth/login?return_to=/api/echo&{query}", stand.app());
        let page = UserAgent::new().navigate(&login).await;
        assert!(page.is_login_page(), "{query}: {page:#?}");
        for name in ["claims", "acr_values", "max_age", "prompt"] {
            assert_eq!(asked(&page, name), None, "{query}: {name}");
        }
        let landed = alice.navigate(&login).await;
        assert_eq!(
            (landed.status, landed.hops.len()),
            (200, 2),
            "straight back: {query}: {:#?}",
            landed.hops
        );
    }
    // One of the names that a rule has is enough.
    let begun =
        UserAgent::new().navigate(format!("{}/auth/login?acr_values=platinum%20gold", stand.app())).await;
    assert!(
        asked(&begun, "claims").is_some_and(|claims| claims.contains("gold") && !claims.contains("platinum"))
    );
}
