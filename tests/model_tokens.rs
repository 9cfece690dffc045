//! Tokens of the second realm: for workloads, and for requests to ML services.

use crate::steps::{bearer, claims, is_signed_in, now, signed_in, until_after, until_expired};
use keycloak_bff_testbed::provider::{Fault, sign_hs256, sign_none};
use keycloak_bff_testbed::user_agent::Request;
use keycloak_bff_testbed::{Provider, Response, Stand, UserAgent, wait};
use serde_json::{Value, json};
use std::time::Duration;

/// The demo's static key.
const KEY: &str = "demo-workload-key";

/// A stand whose second realm gives tokens that live for so many seconds.
async fn stand(seconds: u64) -> Stand {
    let short = |config: &mut Value| config["models"][0]["least_token_life"] = json!("1s");
    let stand = Stand::builder().with_models().program(short).start().await;
    stand.models().update(&json!({"accessTokenLifespan": seconds})).await;
    stand
}

/// A workload's request for a token.
fn request<'a>(stand: &Stand, agent: &'a UserAgent, query: &str) -> Request<'a> {
    let address = format!("{}/get_model_tokens{query}", stand.internal_listener());
    agent.fetch(address).header("authorization", format!("Bearer {KEY}"))
}

async fn ask(stand: &Stand, query: &str) -> Response {
    request(stand, &UserAgent::new(), query).await
}

async fn token(stand: &Stand) -> String {
    let answer = ask(stand, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

/// How many tokens the second realm gave its client.
async fn given(stand: &Stand) -> usize {
    stand.models().count_events("CLIENT_LOGIN").await
}

#[tokio::test]
async fn a_workload_gets_a_token_of_the_second_realm() {
    let stand = stand(60).await;
    let answer = ask(&stand, "?model=ml").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let body = answer.json();
    let claims = claims(body["access_token"].as_str().expect("a token"));
    assert_eq!(
        claims["iss"],
        stand.models().issuer().replace(stand.keycloak.server(), &stand.models_gate().url())
    );
    assert_eq!((&claims["azp"], &body["token_type"]), (&json!("model-client"), &json!("Bearer")));
    assert_eq!(body["audience"], claims["aud"]);
    assert_eq!(body["scope"], claims["scope"]);
    let (expires_in, expires_at) = (body["expires_in"].as_u64(), body["expires_at"].as_u64());
    assert!(expires_in.is_some_and(|seconds| (50..=60).contains(&seconds)), "{body}");
    assert!(expires_at.is_some_and(|end| end.abs_diff(now() + 60) <= 5), "{body}");
    let mut fields: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["access_token", "audience", "expires_at", "expires_in", "scope", "token_type"]);
    assert_eq!(
        token(&stand).await,
        body["access_token"],
        "the only model is the default, and its token is kept"
    );
}

#[tokio::test]
async fn nobody_else_gets_one() {
    let stand = stand(60).await;
    let alice = signed_in(&stand, "alice").await;
    let cookie = crate::steps::session_cookie(&alice);
    let address = format!("{}/get_model_tokens", stand.internal_listener());
    let agent = UserAgent::new();
    for (what, request, status, challenge) in [
        ("nothing", agent.fetch(&address), 401, "Bearer"),
        ("a session's cookie", agent.fetch(&address).header("cookie", &cookie), 401, "Bearer"),
        (
            "another scheme",
            agent.fetch(&address).header("authorization", format!("Basic {KEY}")),
            401,
            "Bearer",
        ),
        (
            "another key",
            agent.fetch(&address).header("authorization", "Bearer another"),
            401,
            "Bearer error=\"invalid_token\"",
        ),
        (
            "two keys",
            agent
                .fetch(&address)
                .header("authorization", format!("Bearer {KEY}"))
                .header("authorization", "Bearer another"),
            401,
            "Bearer",
        ),
    ] {
        let answer = request.await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate").as_deref()),
            (status, Some(challenge)),
            "{what}"
        );
    }
    for (query, status, error) in [
        ("?model=unknown", 404, "unknown_model"),
        ("?min_validity=soon", 400, "invalid_min_validity"),
        ("?min_validity=-1", 400, "invalid_min_validity"),
        ("?model=ml&model=ml", 400, "invalid_request"),
    ] {
        let answer = ask(&stand, query).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{query}");
    }
    let put = request(&stand, &agent, "").method(reqwest::Method::PUT).await;
    assert_eq!((put.status, put.header("allow").as_deref()), (405, Some("GET, POST")));
    let elsewhere = agent.fetch(format!("{}/auth/me", stand.internal_listener())).await;
    assert_eq!(elsewhere.status, 404, "no browser's endpoint is there");
    for origin in [stand.app(), stand.browser_listener()] {
        let answer = agent
            .fetch(format!("{origin}/get_model_tokens"))
            .header("authorization", format!("Bearer {KEY}"));
        let answer = answer.await;
        assert!(matches!(answer.status, 401 | 404), "{origin}: {}", answer.status);
        assert!(!answer.text().contains("access_token"));
    }
    assert_eq!(given(&stand).await, 0);
    assert!(!stand.program.log().contains(KEY));
}

#[tokio::test]
async fn a_workload_that_is_not_listed_is_refused() {
    let nobody = |config: &mut Value| config["models"][0]["allowed"] = json!([]);
    let stand = Stand::builder().with_models().program(nobody).start().await;
    let answer = ask(&stand, "").await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("not_allowed")));
    assert!(stand.program.log().contains("key dev"), "the log says who asked");
}

#[tokio::test]
async fn a_thousand_workloads_are_one_request() {
    let stand = stand(60).await;
    let agent = UserAgent::new();
    let calls = (0..1000).map(|_| async { request(&stand, &agent, "").await.json()["access_token"].clone() });
    let tokens = futures_util::future::join_all(calls).await;
    assert!(tokens[0].is_string() && tokens.iter().all(|token| *token == tokens[0]), "{}", tokens[0]);
    assert_eq!(given(&stand).await, 1);
}

#[tokio::test]
async fn a_token_is_renewed_and_lives_as_long_as_is_asked_for() {
    let stand = stand(8).await;
    let first = token(&stand).await;
    let long = ask(&stand, "?min_validity=60").await;
    assert_eq!((long.status, long.json()["error"].as_str()), (400, Some("validity_too_long")));
    until_after(claims(&first)["iat"].as_u64().expect("a time") + 3).await;
    let answer = ask(&stand, "?min_validity=6").await.json();
    assert!(answer["expires_in"].as_u64() >= Some(6), "{answer}");
    let second = answer["access_token"].as_str().expect("a token").to_owned();
    assert_ne!(second, first);
    until_expired(&second).await;
    assert_ne!(token(&stand).await, second);
}

#[tokio::test]
async fn a_realm_that_is_away_or_refuses_hurts_nobody_but_the_models() {
    let stand = stand(6).await;
    let alice = signed_in(&stand, "alice").await;
    let first = token(&stand).await;
    stand.models_gate().close().await;
    assert_eq!(token(&stand).await, first, "the token is good while it lives");
    until_expired(&first).await;
    let answer = ask(&stand, "").await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("model_token_unavailable")));
    assert!(answer.header("retry-after").is_some());
    assert!(is_signed_in(&stand, &alice).await);
    stand.models_gate().open().await;
    let back = async || ask(&stand, "").await.json()["access_token"].as_str().map(str::to_owned);
    let last = wait::until("the realm to be asked again", Duration::from_secs(60), back).await;

    stand.models().update_client("model-client", &json!({"secret": "another"})).await;
    until_expired(&last).await;
    let answer = ask(&stand, "").await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("model_token_unavailable")));
    let log = stand.program.log();
    let named = log.lines().any(|line| line.contains("ERROR") && line.contains("model-client"));
    assert!(named, "the log says which client");
    assert!(!log.contains("models-secret"));
    assert!(is_signed_in(&stand, &alice).await);
}

#[tokio::test]
async fn a_request_to_a_model_carries_the_users_token_of_the_second_realm() {
    let stand = stand(60).await;
    let (alice, bob) = (signed_in(&stand, "alice").await, signed_in(&stand, "bob").await);
    let (ml, api) = (format!("{}/ml/echo", stand.app()), format!("{}/api/echo", stand.app()));
    let mut seen = Vec::new();
    for (agent, user) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
        let echo = agent.fetch(&ml).await;
        let token = bearer(&echo).unwrap_or_else(|| panic!("{} {}", echo.status, echo.text()));
        let claims = claims(&token);
        assert!(claims["iss"].as_str().is_some_and(|issuer| issuer.contains("/realms/models-")), "{claims}");
        assert_eq!((&claims["preferred_username"], &claims["azp"]), (&json!(user), &json!("model-client")));
        let own = bearer(&agent.fetch(&api).await).expect("the user's own token");
        assert_ne!(own, token, "elsewhere it is the user's own");
        seen.push(token);
    }
    assert_eq!(seen[0], seen[2], "the token is kept");
    assert_eq!(UserAgent::new().fetch(&ml).await.status, 401);
}

#[tokio::test]
async fn a_request_to_a_model_never_carries_another_token() {
    let stand = stand(6).await;
    stand.realm.create_user("carol", "carol", &["user"]).await;
    let ml = format!("{}/ml/echo", stand.app());
    let carol = signed_in(&stand, "carol").await;
    let stranger = carol.fetch(&ml).await;
    assert_eq!((stranger.status, stranger.json()["error"].as_str()), (403, Some("user_not_linked")));
    assert!(is_signed_in(&stand, &carol).await);

    let alice = signed_in(&stand, "alice").await;
    let token = bearer(&alice.fetch(&ml).await).expect("a token of the second realm");
    stand.models_gate().close().await;
    until_expired(&token).await;
    let away = alice.fetch(&ml).await;
    assert_eq!((away.status, away.json()["error"].as_str()), (503, Some("model_token_unavailable")));
    assert!(away.header("retry-after").is_some());
    assert!(is_signed_in(&stand, &alice).await);
    stand.models_gate().open().await;
    let back = async || bearer(&alice.fetch(&ml).await);
    let new = wait::until("the model to be reached again", Duration::from_secs(60), back).await;
    assert_ne!(new, token);
}

#[tokio::test]
async fn a_refresh_token_of_the_realm_is_used_and_never_shown() {
    let stand = stand(6).await;
    let attributes = json!({"attributes": {"client_credentials.use_refresh_token": "true"}});
    stand.models().update_client("model-client", &attributes).await;
    let events = json!({"enabledEventTypes": ["CLIENT_LOGIN", "REFRESH_TOKEN"]});
    stand.models().update(&events).await;
    let answer = ask(&stand, "").await;
    assert!(!answer.text().contains("refresh"), "{}", answer.text());
    let first = answer.json()["access_token"].as_str().expect("a token").to_owned();
    until_expired(&first).await;
    assert_ne!(token(&stand).await, first);
    assert_eq!(stand.models().count_events("REFRESH_TOKEN").await, 1, "renewed by it");
    assert_eq!(given(&stand).await, 1, "and not by the grant");
    for session in stand.models().sessions("service-account-model-client").await {
        stand.models().delete_session(session["id"].as_str().expect("an id")).await;
    }
    until_expired(&token(&stand).await).await;
    assert_ne!(token(&stand).await, first);
    assert_eq!(given(&stand).await, 2, "by the grant again once the refresh token is over");
}

/// A stand whose models answer to the service account `trainer` of namespace `ml`, in a cluster with this issuer.
async fn in_cluster(cluster: &Provider) -> Stand {
    let issuer = cluster.issuer().to_owned();
    let trust = move |config: &mut Value| {
        config["models"][0]["on_behalf_of_users"] = json!([]);
        config["workloads"] = json!({"service_accounts": {"issuer": issuer, "audience": "keycloak-bff"}});
        config["models"][0]["allowed"] = json!([{"namespace": "ml", "service_account": "trainer"}]);
    };
    Stand::builder().with_models().program(trust).start().await
}

/// The claims of a projected token of `trainer`, with changes.
fn pod(cluster: &Provider, changes: &Value) -> Value {
    let mut claims = json!({
        "iss": cluster.issuer(),
        "aud": ["keycloak-bff"],
        "sub": "system:serviceaccount:ml:trainer",
        "iat": now(),
        "nbf": now(),
        "exp": now() + 600,
        "jti": "1",
        "kubernetes.io": {
            "namespace": "ml",
            "serviceaccount": {"name": "trainer", "uid": "2"},
            "pod": {"name": "trainer-0", "uid": "3"},
        },
    });
    for (name, value) in changes.as_object().expect("changes are an object") {
        claims[name] = value.clone();
    }
    claims
}

async fn ask_with(stand: &Stand, credential: &str) -> Response {
    let address = format!("{}/get_model_tokens", stand.internal_listener());
    UserAgent::new().fetch(address).header("authorization", format!("Bearer {credential}")).await
}

#[tokio::test]
async fn a_pod_proves_who_it_is_by_its_service_account() {
    let cluster = Provider::start().await;
    let stand = in_cluster(&cluster).await;
    let sign = |changes: Value| cluster.sign(&cluster.header("JWT"), &pod(&cluster, &changes));
    let answer = ask_with(&stand, &sign(json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(stand.program.log().contains("service account ml/trainer"), "the log says who asked");

    let other = json!({"namespace": "other", "serviceaccount": {"name": "trainer"}});
    let default = json!({"namespace": "ml", "serviceaccount": {"name": "default"}});
    for (what, changes) in [
        ("another namespace", json!({"sub": "system:serviceaccount:other:trainer", "kubernetes.io": other})),
        ("the default account", json!({"sub": "system:serviceaccount:ml:default", "kubernetes.io": default})),
    ] {
        let answer = ask_with(&stand, &sign(changes)).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("not_allowed")), "{what}");
    }
    let good = pod(&cluster, &json!({}));
    for (what, token) in [
        ("expired", sign(json!({"exp": now() - 60}))),
        ("from the future", sign(json!({"iat": now() + 600}))),
        ("another audience", sign(json!({"aud": ["another"]}))),
        ("another issuer", sign(json!({"iss": "https://another.example"}))),
        ("claims that disagree", sign(json!({"sub": "system:serviceaccount:ml:another"}))),
        ("no service account", sign(json!({"sub": "alice"}))),
        ("no algorithm", sign_none("JWT", &good)),
        ("a shared secret", sign_hs256(b"x", &json!({"alg": "HS256"}), &good)),
        ("garbage", "garbage".to_owned()),
        ("the static key of the demo", KEY.to_owned()),
    ] {
        let answer = ask_with(&stand, &token).await;
        let challenge = answer.header("www-authenticate");
        let expected = (401, Some("Bearer error=\"invalid_token\""));
        assert_eq!((answer.status, challenge.as_deref()), expected, "{what}: {}", answer.text());
    }
    assert_eq!(cluster.key_fetches(), 1, "no bad token makes us ask again");
    cluster.rotate_keys();
    assert_eq!(ask_with(&stand, &sign(json!({}))).await.status, 200, "the cluster's keys may change");
}

#[tokio::test]
async fn without_the_clusters_keys_nobody_can_say_who_a_pod_is() {
    let cluster = Provider::start().await;
    let stand = in_cluster(&cluster).await;
    cluster.answer_keys(Fault::status(503));
    let token = cluster.sign(&cluster.header("JWT"), &pod(&cluster, &json!({})));
    let answer = ask_with(&stand, &token).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("cannot_verify")));
    assert!(answer.header("retry-after").is_some());
    cluster.behave();
    let accepted = async || (ask_with(&stand, &token).await.status == 200).then_some(());
    wait::until("the pod to be known", Duration::from_secs(20), accepted).await;
}
