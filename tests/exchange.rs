//! Routes whose upstream gets the user's token exchanged for one that is good there alone.

use crate::steps::{access_token, bearer, claims, events, is_signed_in, signed_in, until_expired};
use keycloak_bff_testbed::stand::Builder;
use keycloak_bff_testbed::{Response, Stand, UserAgent, wait};
use serde_json::{Value, json};
use std::time::Duration;

/// The audience: a client of the realm.
const ORDERS: &str = "orders";

/// A realm with a client `orders` for which the frontend's tokens may be exchanged, and a rule that asks for it.
fn with_orders() -> Builder {
    Stand::builder()
        .realm(|realm| {
            let clients = realm["clients"].as_array_mut().expect("a list");
            clients.push(json!({"clientId": ORDERS, "publicClient": false, "standardFlowEnabled": false}));
            let mappers = realm["clients"][0]["protocolMappers"].as_array_mut().expect("a list");
            mappers.push(json!({
                "name": ORDERS, "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
                "config": {"included.client.audience": ORDERS, "access.token.claim": "true"},
            }));
        })
        .program(|config| {
            config["sessions"]["least_token_life"] = json!("1s");
            rule(config, &json!({"token": "exchange", "audience": ORDERS}));
        })
}

/// Puts a rule for `/orders/*` before all others of the app frontend.
fn rule(config: &mut Value, with: &Value) {
    let mut rule = json!({"path": "/orders/*", "session": "required"});
    rule.as_object_mut().expect("an object").extend(with.as_object().cloned().expect("an object"));
    config["frontends"][0]["rules"].as_array_mut().expect("a list").insert(0, rule);
}

async fn orders(stand: &Stand, agent: &UserAgent) -> Response {
    agent.fetch(format!("{}/orders/echo", stand.app())).await
}

fn refused(answer: &Response) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_upstream_gets_a_token_that_is_good_there_alone() {
    let stand = with_orders().start().await;
    let (alice, bob) = (signed_in(&stand, "alice").await, signed_in(&stand, "bob").await);
    let own = access_token(&stand, &alice).await;
    assert!(claims(&own)["aud"].as_array().is_some_and(|audiences| audiences.len() > 1), "the user's own");
    let calls = (0..100).map(|_| orders(&stand, &alice));
    let tokens: Vec<Option<String>> =
        futures_util::future::join_all(calls).await.iter().map(bearer).collect();
    let token = tokens[0].clone().expect("a token");
    assert!(tokens.iter().all(|other| other.as_ref() == Some(&token)), "one token for all");
    events(&stand, "TOKEN_EXCHANGE", 1).await;
    let (exchanged, own) = (claims(&token), claims(&own));
    assert!([json!(ORDERS), json!([ORDERS])].contains(&exchanged["aud"]), "{}", exchanged["aud"]);
    assert_eq!((&exchanged["sub"], &exchanged["sid"]), (&own["sub"], &own["sid"]));
    let of_bob = bearer(&orders(&stand, &bob).await).expect("a token");
    assert_eq!(claims(&of_bob)["preferred_username"], "bob");
    assert_eq!(orders(&stand, &UserAgent::new()).await.status, 401);
}

#[tokio::test]
async fn an_outage_never_brings_the_users_own_token_there() {
    let stand =
        with_orders().realm(|realm| realm["accessTokenLifespan"] = json!(6)).with_gate().start().await;
    let alice = signed_in(&stand, "alice").await;
    let token = bearer(&orders(&stand, &alice).await).expect("a token");
    let other = signed_in(&stand, "bob").await;
    stand.gate().close().await;
    assert_eq!(bearer(&orders(&stand, &alice).await), Some(token.clone()), "good while it lives");
    let never_exchanged = orders(&stand, &other).await;
    assert_eq!(refused(&never_exchanged), (503, "exchanged_token_unavailable".to_owned()));
    assert!(never_exchanged.header("retry-after").is_some());
    assert!(is_signed_in(&stand, &other).await, "elsewhere the user's own token is good");
    until_expired(&token).await;
    assert_eq!(orders(&stand, &alice).await.status, 503);
    stand.gate().open().await;
    let back = async || bearer(&orders(&stand, &alice).await);
    assert_ne!(wait::until("an exchange", Duration::from_secs(60), back).await, token);
}

#[tokio::test]
async fn an_audience_that_the_realm_does_not_know_is_told_to_the_operator() {
    let stand =
        with_orders().program(|config| rule(config, &json!({"token": "exchange", "audience": "nobody"})));
    let stand = stand.start().await;
    let alice = signed_in(&stand, "alice").await;
    assert_eq!(refused(&orders(&stand, &alice).await), (503, "exchanged_token_unavailable".to_owned()));
    let log = stand.program.log();
    let told =
        |line: &str| line.contains("ERROR") && line.contains("keycloak-bff") && line.contains("nobody");
    assert!(log.lines().any(told), "{log}");
    assert!(is_signed_in(&stand, &alice).await);
}

#[tokio::test]
async fn a_model_of_the_users_own_realm_gets_the_users_token_by_exchange() {
    let stand = with_orders().program(|config| {
        config["providers"].as_array_mut().expect("a list").truncate(1);
        config["models"] = json!([{
            "name": "ml", "provider": "demo", "grants": ["token_exchange"], "audience": ORDERS,
        }]);
    });
    let stand = stand.start().await;
    let alice = signed_in(&stand, "alice").await;
    let echo = alice.fetch(format!("{}/ml/echo", stand.app())).await;
    let token = claims(&bearer(&echo).unwrap_or_else(|| panic!("{}", echo.text())));
    assert!([json!(ORDERS), json!([ORDERS])].contains(&token["aud"]), "{}", token["aud"]);
    assert_eq!(token["preferred_username"], "alice");
}
