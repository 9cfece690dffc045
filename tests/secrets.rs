//! Nothing secret in any log, also at the finest level.

use crate::steps::{APP, Begun, access_token, bearer, callback_url, session_id, transactions, until_expired};
use keycloak_bff_testbed::{Stand, UserAgent};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

/// Every value between `start` and one of the characters that can end it.
fn values<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let rests = text.split(start).skip(1);
    rests.map(|rest| rest.split(['"', '&', ' ', '\r', '\n', ';']).next().unwrap_or_default()).collect()
}

#[tokio::test]
async fn no_log_holds_a_secret() {
    let stand = Stand::builder()
        .with_gate()
        .realm(|realm| realm["accessTokenLifespan"] = json!(4))
        .program(|config| config["log"]["level"] = json!("trace"))
        .start()
        .await;
    let api = format!("{}/api/echo", stand.app());
    let mut secrets: BTreeSet<String> = BTreeSet::from(["demo-secret".to_owned()]);
    secrets.insert("demo-only-demo-only-demo-only-demo-only".to_owned());

    // A callback that fails, one that succeeds, one that comes again.
    let agent = UserAgent::new();
    let begun = Begun::at(&stand, &agent, "/api/echo?return=canary-return").await;
    secrets.extend(transactions(&agent).into_iter().map(|cookie| cookie.value));
    let (state, issuer) = (begun.state(), format!("{}/realms/{}", stand.gate().url(), stand.realm.name()));
    let forged =
        [("state", state.as_str()), ("iss", &issuer), ("code", "canary-forged-code"), ("x", "canary-x")];
    assert_eq!(agent.navigate(callback_url(&stand, &forged)).await.status, 400);
    let said = [("state", "canary-state"), ("error", "canary-error"), ("error_description", "canary-text")];
    assert_eq!(agent.navigate(callback_url(&stand, &said)).await.status, 400);
    let denied = Begun::at(&stand, &agent, "/").await.state();
    for issuer in ["https://evil.example/canary-issuer", &issuer] {
        let said = [
            ("state", denied.as_str()),
            ("iss", issuer),
            ("error", "canary-denied"),
            ("code", "canary-late"),
        ];
        assert_eq!(agent.navigate(callback_url(&stand, &said)).await.status, 400);
    }
    secrets.insert(denied);
    let begun = Begun::at(&stand, &agent, "/api/echo?return=canary-return").await;
    secrets.extend(transactions(&agent).into_iter().map(|cookie| cookie.value));
    secrets.extend([state, begun.state(), begun.parameter("nonce")]);
    let callback = begun.callback(&agent, "alice").await;
    let echo = agent.navigate(&callback).await;
    assert_eq!(agent.navigate(&callback).await.status, 400);
    secrets.extend(session_id(&agent, APP));

    // A request that is refused with a secret in it, a refresh, a refused refresh, a logout.
    let token = bearer(&echo).expect("alice is signed in");
    let odd =
        agent.fetch(format!("{api}?token=canary-query")).header("authorization", "Bearer canary-bearer");
    assert_eq!(
        odd.method(Method::POST)
            .header("origin", "https://evil.example")
            .header("sec-fetch-site", "cross-site")
            .await
            .status,
        403
    );
    until_expired(&token).await;
    let renewed = access_token(&stand, &agent).await;
    secrets.extend([token.clone(), renewed]);
    let logout = agent.navigate(format!("{}/auth/logout", stand.app())).method(Method::POST).form(&[]);
    let landed = logout.from_page(stand.app()).await;
    assert_eq!(landed.status, 200);
    let stray = agent.navigate(format!("{}/auth/logout/return?state=canary-logout", stand.app())).await;
    assert_eq!(stray.url, format!("{}/", stand.app()));
    let bob = crate::steps::signed_in(&stand, "bob").await;
    secrets.extend(session_id(&bob, APP));
    let token = access_token(&stand, &bob).await;
    stand.realm.logout_user("bob").await;
    until_expired(&token).await;
    assert_eq!(bob.fetch(&api).await.status, 401);

    // What went to Keycloak and came from there.
    let carried = stand.gate().carried();
    for (start, least) in [
        ("\"access_token\":\"", 3),
        ("\"refresh_token\":\"", 3),
        ("\"id_token\":\"", 3),
        ("code_verifier=", 2),
        ("&code=", 2),
        ("id_token_hint=", 1),
        ("authorization: Basic ", 3),
    ] {
        let found = values(&carried, start);
        assert!(found.len() >= least, "only {} of {start} were seen", found.len());
        secrets.extend(found.into_iter().map(str::to_owned));
    }
    let canaries = [
        "canary-forged-code",
        "canary-issuer",
        "canary-late",
        "canary-error",
        "canary-text",
        "canary-denied",
        "canary-x",
        "canary-state",
        "canary-query",
        "canary-bearer",
        "canary-return",
    ];
    secrets.extend(canaries.map(str::to_owned));
    let log = stand.program.log();
    assert!(log.contains("DEBUG"), "the fine levels are on:\n{log}");
    for secret in &secrets {
        assert!(secret.len() >= 8, "{secret:?} is too short to be looked for");
        assert!(!log.contains(secret.as_str()), "the program's log holds {secret}:\n{log}");
    }
    let access_log = stand.envoy.access_log();
    assert!(access_log.len() > 10);
    let access_log = json!(access_log).to_string();
    for secret in &secrets {
        assert!(!access_log.contains(secret.as_str()), "Envoy's access log holds {secret}");
    }
}
