//! Pods whose service-account tokens the API server reviews.

use crate::steps::{claims, now};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keycloak_bff_testbed::{Response, Stand, UserAgent, files, wait};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// An API server that reviews: every token is good whose signature is `good`, whoever it names.
#[derive(Default)]
struct ApiServer {
    reviews: AtomicUsize,
    is_away: AtomicBool,
}

async fn review(
    State(server): State<Arc<ApiServer>>,
    headers: HeaderMap,
    Json(review): Json<Value>,
) -> (StatusCode, Json<Value>) {
    server.reviews.fetch_add(1, Ordering::SeqCst);
    if server.is_away.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({})));
    }
    if headers.get("authorization").is_none_or(|value| value != "Bearer own-token") {
        return (StatusCode::UNAUTHORIZED, Json(json!({})));
    }
    assert_eq!(
        (&review["kind"], &review["spec"]["audiences"]),
        (&json!("TokenReview"), &json!(["keycloak-bff"]))
    );
    let token = review["spec"]["token"].as_str().expect("a token");
    let status = match token.strip_suffix(".good") {
        Some(_) => json!({
            "authenticated": true,
            "audiences": ["keycloak-bff"],
            "user": {"username": claims(token)["sub"]},
        }),
        None => json!({"authenticated": false, "error": "invalid bearer token"}),
    };
    (StatusCode::CREATED, Json(json!({"kind": "TokenReview", "status": status})))
}

/// The API server and a stand that asks it.
async fn start() -> (Arc<ApiServer>, Stand, TempDir) {
    let server = Arc::new(ApiServer::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let app = Router::new().route(path, post(review)).with_state(Arc::clone(&server));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let dir = files::temporary("token-review-");
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "own-token\n").expect("the token can be written");
    let trust = move |config: &mut Value| {
        config["models"][0]["on_behalf_of_users"] = json!([]);
        config["workloads"] = json!({"service_accounts": {
            "api_server": format!("http://{address}"), "audience": "keycloak-bff", "token_file": token_file,
        }});
        config["models"][0]["allowed"] = json!([{"namespace": "ml", "service_account": "trainer"}]);
    };
    let stand = Stand::builder().with_models().program(trust).start().await;
    // Read at every call, so it has to stay.
    (server, stand, dir)
}

/// A token of a service account, with a signature that the API server takes for good or not.
fn token(account: &str, changes: &Value, signature: &str) -> String {
    let mut claims = json!({
        "sub": format!("system:serviceaccount:{account}"), "aud": ["keycloak-bff"], "exp": now() + 600,
    });
    for (name, value) in changes.as_object().expect("changes are an object") {
        claims[name] = value.clone();
    }
    format!("e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

async fn ask(stand: &Stand, credential: &str) -> Response {
    let address = format!("{}/get_model_tokens", stand.internal_listener());
    UserAgent::new().fetch(address).header("authorization", format!("Bearer {credential}")).await
}

#[tokio::test]
async fn the_api_server_says_who_a_pod_is_once_a_minute() {
    let (server, stand, _dir) = start().await;
    let trainer = token("ml:trainer", &json!({}), "good");
    let calls = (0..50).map(|_| async { ask(&stand, &trainer).await.status });
    assert_eq!(futures_util::future::join_all(calls).await, [200; 50]);
    assert_eq!(server.reviews.load(Ordering::SeqCst), 1, "one review for all");
    let bad = token("ml:trainer", &json!({}), "bad");
    for (credential, expected) in [
        (&token("ml:default", &json!({}), "good"), 403),
        (&token("other:trainer", &json!({}), "good"), 403),
        (&bad, 401),
    ] {
        assert_eq!(ask(&stand, credential).await.status, expected, "{credential}");
    }
    let reviews = server.reviews.load(Ordering::SeqCst);
    assert_eq!(reviews, 4);
    for credential in [
        &bad,
        "garbage",
        &token("ml:trainer", &json!({"aud": ["another"]}), "good"),
        &token("ml:trainer", &json!({"exp": now() - 1}), "good"),
        &token("ml:trainer", &json!({"sub": "alice"}), "good"),
    ] {
        assert_eq!(ask(&stand, credential).await.status, 401, "{credential}");
    }
    assert_eq!(server.reviews.load(Ordering::SeqCst), reviews, "bad tokens are no burden");
}

#[tokio::test]
async fn without_the_api_server_nobody_can_say_who_a_pod_is() {
    let (server, stand, _dir) = start().await;
    server.is_away.store(true, Ordering::SeqCst);
    let trainer = token("ml:trainer", &json!({}), "good");
    let answer = ask(&stand, &trainer).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("cannot_verify")));
    server.is_away.store(false, Ordering::SeqCst);
    let known = async || (ask(&stand, &trainer).await.status == 200).then_some(());
    wait::until("the pod to be known", Duration::from_secs(20), known).await;
}
