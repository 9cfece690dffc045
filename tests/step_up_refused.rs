//! Logins that come back with less than was asked.

use crate::steps::{APP, session_id};
use keycloak_bff_testbed::{Deployment, Provider, UserAgent};
use serde_json::{Value, json};

/// The program before a provider, with a rule that asks for more.
async fn deployment(provider: &Provider, rule: Value) -> Deployment {
    let add_rule = move |config: &mut Value| {
        config["frontends"][0]["rules"].as_array_mut().expect("rules are a list").insert(0, rule);
    };
    Deployment::builder().program(add_rule).start(provider.issuer()).await
}

/// A browser that is signed in, as well as the provider does by itself.
async fn signed_in(deployment: &Deployment) -> UserAgent {
    let agent = UserAgent::new();
    let landed = agent.navigate(format!("{}/api/echo", deployment.app())).await;
    assert_eq!(landed.status, 200, "{landed:#?}");
    agent
}

#[tokio::test]
async fn a_login_that_comes_back_with_a_lower_context_ends_on_a_page() {
    let provider = Provider::start().await;
    let rule = json!({"path": "/gold/*", "session": "required", "acr": ["gold"]});
    let deployment = deployment(&provider, rule).await;
    provider.edit_id_token(|claims| claims["acr"] = json!("silver"));
    let agent = signed_in(&deployment).await;
    let (id, logins) = (session_id(&agent, APP), provider.logins());
    let gold = format!("{}/gold/echo", deployment.app());

    let refused = agent.navigate(&gold).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.url.contains("/auth/callback"), "{}", refused.url);
    assert_eq!((provider.logins(), refused.hops.len()), (logins + 1, 4), "one round: {:#?}", refused.hops);
    let asked = provider.latest_authorization();
    let asked: Value = serde_json::from_str(&asked["claims"]).expect("the parameter claims is JSON");
    assert_eq!(asked, json!({"id_token": {"acr": {"essential": true, "values": ["gold"]}}}));
    assert_eq!(session_id(&agent, APP), id, "the session that there was goes on");
    assert_eq!(agent.fetch(format!("{}/api/echo", deployment.app())).await.status, 200);

    let script = agent.fetch(&gold).await;
    assert_eq!(
        (script.status, script.json()["error"].as_str()),
        (401, Some("insufficient_user_authentication"))
    );
    let challenge = script.header("www-authenticate").expect("a 401 has a challenge");
    assert!(challenge.starts_with("Bearer error=\"insufficient_user_authentication\""), "{challenge}");
    assert!(challenge.ends_with("acr_values=\"gold\""), "{challenge}");

    provider.behave();
    let mut login = url::Url::parse(script.json()["login_url"].as_str().expect("an address")).expect("a URL");
    login.query_pairs_mut().append_pair("return_to", "/gold/echo");
    let landed = agent.navigate(login).await;
    assert_eq!((landed.status, landed.url), (200, gold.clone()), "{}", refused.text());
    assert_ne!(session_id(&agent, APP), id, "a stronger sign-in is a new session");
    assert_eq!(agent.fetch(&gold).await.status, 200);
}

#[tokio::test]
async fn a_login_that_comes_back_with_an_old_sign_in_ends_on_a_page() {
    let provider = Provider::start().await;
    let rule = json!({"path": "/recent/*", "session": "required", "max_age": "60s"});
    let deployment = deployment(&provider, rule).await;
    provider.edit_id_token(|claims| {
        let signed_in_at = claims["iat"].as_u64().expect("a time") - 100;
        claims["auth_time"] = json!(signed_in_at);
    });
    let agent = signed_in(&deployment).await;
    let (id, logins) = (session_id(&agent, APP), provider.logins());
    let recent = format!("{}/recent/echo", deployment.app());
    let refused = agent.navigate(&recent).await;
    assert_eq!((refused.status, provider.logins()), (403, logins + 1), "one round: {:#?}", refused.hops);
    assert_eq!(provider.latest_authorization()["max_age"], "60");
    assert_eq!(session_id(&agent, APP), id);

    provider.behave();
    let landed = agent.navigate(&recent).await;
    assert_eq!((landed.status, landed.url), (200, recent));
}
