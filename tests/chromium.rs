//! The demo's page in a real browser.

use crate::steps::{SOON, claims, go_to_admin, is_signed_in, is_signed_in_at, signed_in};
use keycloak_bff_testbed::chromium::Chromium;
use keycloak_bff_testbed::{Stand, wait};
use serde_json::Value;
use std::time::Duration;

/// The `Authorization` that reaches the API when the page calls it.
const CALL: &str =
    "return fetch('/api/echo').then(answer => answer.json()).then(echo => echo.headers.authorization[0])";

/// Sends Keycloak's login form, if the page still has one by then.
const FILL_IN: &str = "const field = id => document.getElementById(id); if (!field('kc-login')) return; \
                       if (field('username')) field('username').value = 'alice'; \
                       if (field('password')) field('password').value = 'alice'; field('kc-login').click();";

/// Two lives of the demo's access tokens, and patience.
const TWO_LIVES: Duration = Duration::from_secs(240);

async fn sign_in(stand: &Stand, browser: &Chromium, user: &str) {
    browser.open(&format!("{}/", stand.app())).await;
    assert_eq!(browser.wait_for_text("#who", |text| !text.contains('…')).await, "Nobody");
    browser.click("#sign-in").await;
    browser.wait_for_url(&stand.realm.issuer()).await;
    browser.sign_in(user, user).await;
    browser.wait_for_url(&stand.app()).await;
}

#[tokio::test]
async fn somebody_signs_in_stays_so_and_signs_out() {
    let (stand, browser) = tokio::join!(Stand::start(), Chromium::start());
    sign_in(&stand, &browser, "alice").await;
    browser.wait_for_text("#who", |text| text == "Alice Ångström").await;
    assert_eq!(browser.url().await, format!("{}/", stand.app()));
    let cookies = browser.cookies().await;
    assert_eq!(cookies.len(), 1, "one cookie and no other: {cookies:?}");
    assert_eq!((&cookies[0]["name"], &cookies[0]["httpOnly"]), (&"__Host-session".into(), &true.into()));
    let seen = "return document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)";
    assert_eq!(browser.run(seen).await, "{}{}", "scripts find nothing");
    browser.click("#call-api").await;
    browser.wait_for_text("#outcome", |text| text.starts_with("200")).await;
    browser.click("#call-admin").await;
    browser.wait_for_text("#outcome", |text| text.starts_with("403")).await;

    let mut tokens = vec![browser.run(CALL).await];
    wait::until("two changes of the access token", TWO_LIVES, async || {
        let token = browser.run(CALL).await;
        if token != tokens[tokens.len() - 1] {
            tokens.push(token);
        }
        (tokens.len() == 3).then_some(())
    })
    .await;
    let newest = tokens[2].as_str().and_then(|token| token.strip_prefix("Bearer ")).expect("an access token");
    assert_eq!(claims(newest)["preferred_username"], "alice");
    browser.reload().await;
    browser.wait_for_text("#who", |text| text == "Alice Ångström").await;

    browser.click("#sign-out").await;
    browser.wait_for_text("#who", |text| text == "Nobody").await;
    assert_eq!(browser.url().await, format!("{}/", stand.app()));
    assert!(browser.cookies().await.is_empty());
    assert!(stand.realm.sessions("alice").await.is_empty());
    browser.back().await;
    browser.wait_for_text("#who", |text| text == "Nobody").await;
    browser.open(&format!("{}/api/echo", stand.app())).await;
    browser.wait_for_url(&stand.realm.issuer()).await;
}

#[tokio::test]
async fn the_page_shows_whose_token_reaches_a_model() {
    let (stand, browser) = tokio::join!(Stand::builder().with_models().start(), Chromium::start());
    sign_in(&stand, &browser, "alice").await;
    browser.click("#call-model").await;
    browser.wait_for_text("#outcome", |text| text.starts_with("200")).await;
    let shown = browser.wait_for_text("#result", |text| !text.is_empty()).await;
    let shown: Value = serde_json::from_str(&shown).expect("the page shows JSON");
    let token = &shown["token"];
    assert!(token["iss"].as_str().is_some_and(|issuer| issuer.contains("/realms/models-")), "{token}");
    assert_eq!((&token["preferred_username"], &token["azp"]), (&"alice".into(), &"model-client".into()));
    browser.click("#call-api").await;
    browser.wait_for_text("#result", |text| text.contains("/realms/demo-")).await;
}

#[tokio::test]
async fn the_page_of_one_frontend_calls_the_other() {
    let (stand, browser) = tokio::join!(Stand::start(), Chromium::start());
    sign_in(&stand, &browser, "bob").await;
    browser.wait_for_text("#who", |text| text == "Bob Baker").await;
    browser.click("#call-other").await;
    browser.wait_for_text("#outcome", |text| text.starts_with("401")).await;
    // Keycloak knows bob, so the other frontend only has to be opened.
    browser.open(&format!("{}/auth/login", stand.admin())).await;
    browser.wait_for_text("#who", |text| text == "Bob Baker").await;
    browser.click("#call-other").await;
    browser.wait_for_text("#outcome", |text| text.starts_with("200")).await;
    let post = format!(
        "return fetch('{}/api/echo', {{method: 'PUT', credentials: 'include', headers: {{'content-type': \
         'application/json', 'x-csrf': '1'}}, body: '{{}}'}}).then(answer => answer.status)",
        stand.app()
    );
    assert_eq!(browser.run(&post).await, 200, "after a preflight");
    let logout = format!(
        "return fetch('{}/auth/logout', {{method: 'POST', credentials: 'include'}}).then(answer => answer.status)",
        stand.app()
    );
    assert_eq!(browser.run(&logout).await, 403);
    browser.open(&format!("{}/", stand.app())).await;
    browser.wait_for_text("#who", |text| text == "Bob Baker").await;
}

#[tokio::test]
async fn two_tabs_sign_in_one_after_the_other() {
    let (stand, browser) = tokio::join!(Stand::start(), Chromium::start());
    let (one, other) = (format!("{}/api/echo?tab=1", stand.app()), format!("{}/api/echo?tab=2", stand.app()));
    let first = browser.tab().await;
    browser.open(&one).await;
    browser.wait_for_url(&stand.realm.issuer()).await;
    let second = browser.new_tab().await;
    browser.open(&other).await;
    browser.wait_for_url(&stand.realm.issuer()).await;

    browser.show_tab(&first).await;
    browser.sign_in("alice", "alice").await;
    browser.wait_for_url(&one).await;
    browser.show_tab(&second).await;
    // Keycloak's own page may have noticed the login of the first tab and gone on by itself.
    let landed = wait::until("the second tab to come back", SOON, async || {
        if browser.url().await == other {
            return Some(());
        }
        if browser.shows("#kc-login").await {
            // It may go away while it is filled in.
            browser.run(FILL_IN).await;
        }
        None
    });
    landed.await;
    browser.open(&format!("{}/", stand.app())).await;
    browser.wait_for_text("#who", |text| text == "Alice Ångström").await;
    browser.show_tab(&first).await;
    browser.open(&format!("{}/", stand.app())).await;
    browser.wait_for_text("#who", |text| text == "Alice Ångström").await;
    let cookies = browser.cookies().await;
    assert_eq!(cookies.len(), 1, "no login is left under way: {cookies:?}");
}

#[tokio::test]
async fn a_strict_cookie_is_there_on_the_page_that_a_login_ends_on() {
    let strict = |config: &mut Value| {
        config["frontends"][0]["cookie"] = serde_json::json!({"same_site": "strict"});
    };
    let (stand, browser) = tokio::join!(Stand::builder().program(strict).start(), Chromium::start());
    let page = format!("{}/api/echo", stand.app());
    browser.open(&page).await;
    browser.wait_for_url(&stand.realm.issuer()).await;
    browser.sign_in("alice", "alice").await;
    // By a redirect from Keycloak the cookie would not be sent, and the browser would go round in circles.
    browser.wait_for_url(&page).await;
    browser.wait_for_text("body", |text| text.contains("x-user-name")).await;
}

#[tokio::test]
async fn the_page_shows_the_sessions_and_ends_that_of_another_browser() {
    let (stand, browser) = tokio::join!(Stand::start(), Chromium::start());
    let elsewhere = signed_in(&stand, "alice").await;
    go_to_admin(&stand, &elsewhere).await;
    sign_in(&stand, &browser, "alice").await;
    browser.wait_for_text("#sessions-card", |text| text.contains("(this one)")).await;
    let items = "return Array.from(document.querySelectorAll('#sessions li span'), item => item.textContent)";
    let items = browser.run(items).await;
    let items: Vec<&str> = items.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let of = |frontend: &str| items.iter().filter(|item| item.starts_with(frontend)).count();
    assert_eq!((items.len(), of("app,"), of("admin,")), (3, 2, 1), "{items:?}");
    assert_eq!(items.iter().filter(|item| item.ends_with("(this one)")).count(), 1, "{items:?}");

    let other = "const other = Array.from(document.querySelectorAll('#sessions li')).find(item => \
                 !item.textContent.includes('(this one)')); other.querySelector('button').id = 'end-other'";
    browser.run(other).await;
    browser.click("#end-other").await;
    // Both of the other browser's, since they were one sign-in.
    let own_alone = "return document.querySelectorAll('#sessions li').length === 1";
    let left = async || (browser.run(own_alone).await == true).then_some(());
    wait::until("the list without what has ended", SOON, left).await;
    assert!(!is_signed_in(&stand, &elsewhere).await && !is_signed_in_at(&stand.admin(), &elsewhere).await);
    browser.click("#call-api").await;
    browser.wait_for_text("#outcome", |text| text.starts_with("200")).await;
}
