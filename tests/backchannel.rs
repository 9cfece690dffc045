//! What Keycloak says behind the browser's back: a session or a person is signed out there, so it is here.

use crate::steps::{
    ADMIN, APP, SOON, access_token, agent_with_session, call_that_waits, claims, events, go_to_admin,
    is_signed_in, is_signed_in_at, now, patient, patient_envoy, provider_session, session_id, signed_in,
    with_token_life,
};
use keycloak_bff_testbed::{Gate, Stand, UserAgent, ports, wait};
use serde_json::{Value, json};

/// How long access tokens live here, in seconds: whoever is signed out before is signed out by Keycloak's call.
const LONG: u64 = 300;

/// Has Keycloak name the person who is signed out, and not the session.
pub fn without_sid(client: &mut Value) {
    client["attributes"]["backchannel.logout.session.required"] = json!("false");
}

/// Lets Keycloak's calls go to `target`, a port of loopback, through a gate that shows what it carries.
pub async fn recorded(stand: &Stand, target: u16) -> Gate {
    let gate = Gate::closed(ports::free(), target);
    gate.open().await;
    let url = format!("{}/auth/backchannel-logout", gate.url());
    let attributes = json!({"attributes": {"backchannel.logout.url": url}});
    stand.realm.update_client("keycloak-bff", &attributes).await;
    gate
}

/// The logout tokens that a gate carried and that were answered.
pub fn logout_tokens(gate: &Gate) -> Vec<String> {
    let carried = gate.carried();
    let calls = carried.split("logout_token=").skip(1);
    calls.filter_map(|call| Some(call.split_once("HTTP/1.1")?.0.trim().to_owned())).collect()
}

/// Waits until a browser is signed out on the app frontend.
async fn until_signed_out(stand: &Stand, agent: &UserAgent) {
    let is_over = async || (!is_signed_in(stand, agent).await).then_some(());
    wait::until("the end of a session", SOON, is_over).await;
}

/// Shows that a browser is signed out on the app frontend, and at Keycloak.
async fn is_signed_out_everywhere(stand: &Stand, agent: &UserAgent) {
    let refused = agent.fetch(format!("{}/api/echo", stand.app())).await;
    assert_eq!((refused.status, refused.json()["error"].as_str()), (401, Some("not_signed_in")));
    let me = agent.fetch(format!("{}/auth/me", stand.app())).await;
    assert_eq!((me.status, me.json()["authenticated"].as_bool()), (401, Some(false)));
    let page = agent.navigate(format!("{}/api/echo", stand.app())).await;
    assert!(page.is_login_page(), "{}", page.url);
}

#[tokio::test]
async fn a_session_that_an_administrator_ends_is_over_in_every_tab() {
    let stand = with_token_life(LONG).start().await;
    let (alice, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    let bob = signed_in(&stand, "bob").await;
    go_to_admin(&stand, &alice).await;
    let tab = agent_with_session(APP, &session_id(&alice, APP).expect("alice has a session"));
    let other_frontend = agent_with_session(ADMIN, &session_id(&alice, ADMIN).expect("alice has another"));
    assert!(is_signed_in(&stand, &tab).await && is_signed_in_at(&stand.admin(), &other_frontend).await);
    let token = access_token(&stand, &alice).await;

    stand.realm.delete_session(&provider_session(&stand, &alice).await).await;
    until_signed_out(&stand, &alice).await;
    for agent in [&alice, &tab] {
        is_signed_out_everywhere(&stand, agent).await;
    }
    assert!(!is_signed_in_at(&stand.admin(), &other_frontend).await);
    let left = claims(&token)["exp"].as_u64().and_then(|end| end.checked_sub(now()));
    assert!(left.is_some_and(|left| left > LONG / 2), "the access token lives on: {left:?}");
    for agent in [&elsewhere, &bob] {
        assert!(is_signed_in(&stand, agent).await);
    }
}

#[tokio::test]
async fn a_user_whom_an_administrator_signs_out_is_so_in_every_browser() {
    let stand = with_token_life(LONG).start().await;
    let (alice, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    let bob = signed_in(&stand, "bob").await;
    stand.realm.logout_user("alice").await;
    for agent in [&alice, &elsewhere] {
        until_signed_out(&stand, agent).await;
        is_signed_out_everywhere(&stand, agent).await;
    }
    assert!(is_signed_in(&stand, &bob).await);
    // Nothing of it stays: alice can come back.
    assert_eq!(alice.sign_in(format!("{}/api/echo", stand.app()), "alice", "alice").await.status, 200);
}

#[tokio::test]
async fn without_a_sid_every_session_of_the_user_ends() {
    let stand = with_token_life(LONG).client(without_sid).start().await;
    let gate = recorded(&stand, stand.ports.browser).await;
    let (alice, elsewhere) = (signed_in(&stand, "alice").await, signed_in(&stand, "alice").await);
    let bob = signed_in(&stand, "bob").await;
    go_to_admin(&stand, &elsewhere).await;
    stand.realm.logout_user("alice").await;
    for agent in [&alice, &elsewhere] {
        until_signed_out(&stand, agent).await;
        is_signed_out_everywhere(&stand, agent).await;
    }
    assert!(!is_signed_in_at(&stand.admin(), &elsewhere).await);
    assert!(is_signed_in(&stand, &bob).await);
    let tokens = logout_tokens(&gate);
    assert!(!tokens.is_empty());
    let sub = stand.realm.user_id("alice").await;
    for claims in tokens.iter().map(|token| claims(token)) {
        assert_eq!((&claims["sid"], &claims["sub"]), (&Value::Null, &json!(sub)));
    }
}

#[tokio::test]
async fn a_refresh_under_way_does_not_bring_a_session_back() {
    let with_gate = with_token_life(4).client(without_sid).with_gate();
    let stand = with_gate.program(patient).envoy(patient_envoy).start().await;
    let ended = signed_in(&stand, "alice").await;
    let sid = provider_session(&stand, &ended).await;
    let agent = signed_in(&stand, "alice").await;
    let call = call_that_waits(&stand, &agent).await;
    // Keycloak ends the other browser's session and names only alice. It would go on with this one.
    stand.realm.delete_session(&sid).await;
    let me = format!("{}/auth/me", stand.app());
    let is_over = async || (agent.fetch(&me).await.status == 401).then_some(());
    wait::until("the end of the session whose refresh is under way", SOON, is_over).await;
    stand.gate().release();
    assert_eq!(call.await, 401);
    assert!(!is_signed_in(&stand, &agent).await);
    // Keycloak gave new tokens indeed, and the program gave them back.
    events(&stand, "REVOKE_GRANT", 1).await;
}
