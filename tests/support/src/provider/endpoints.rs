//! Every endpoint but the one for tokens.

use super::record::Parameters;
use super::{Core, token_endpoint};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;
use url::Url;

pub(super) fn router(core: Arc<Core>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/keys", get(keys))
        .route("/authorize", get(authorize))
        .route("/token", post(token_endpoint::answer))
        .route("/revoke", post(revoke))
        .route("/logout", get(end_session).post(end_session))
        .with_state(core)
}

pub(super) fn parameters(encoded: &[u8]) -> Parameters {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

async fn discovery(State(core): State<Arc<Core>>) -> Response {
    core.record.discovery();
    if let Some(fault) = core.faults.at_discovery() {
        return fault.into_response();
    }
    let at = |path: &str| format!("{}{path}", core.issuer);
    axum::Json(json!({
        "issuer": core.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "jwks_uri": at("/keys"),
        "revocation_endpoint": at("/revoke"),
        "end_session_endpoint": at("/logout"),
        "authorization_response_iss_parameter_supported": true,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    }))
    .into_response()
}

async fn keys(State(core): State<Arc<Core>>) -> Response {
    core.record.key_fetch();
    match core.faults.at_keys() {
        Some(fault) => fault.into_response(),
        None => axum::Json(core.keys.published()).into_response(),
    }
}

/// Signs in without a page and sends the browser back (RFC 6749 section 4.1.2, RFC 9207).
async fn authorize(State(core): State<Arc<Core>>, RawQuery(query): RawQuery) -> Response {
    let request = parameters(query.unwrap_or_default().as_bytes());
    core.record.authorization(&request);
    let redirect_uri = request.get("redirect_uri").and_then(|address| Url::parse(address).ok());
    let is_code_request = request.get("response_type").is_some_and(|kind| kind == "code");
    let has_challenge = request.get("code_challenge_method").is_some_and(|method| method == "S256");
    let (Some(mut back), true, true) = (redirect_uri, is_code_request, has_challenge) else {
        return (StatusCode::BAD_REQUEST, "no request for a code with PKCE").into_response();
    };
    let state = request.get("state").cloned();
    let (subject, sid) = core.behaviour.sign_in();
    let code = core.grants.issue_code(request, subject, sid.clone());
    {
        let mut answer = back.query_pairs_mut();
        answer.append_pair("code", &code).append_pair("iss", &core.issuer).append_pair("session_state", &sid);
        if let Some(state) = state {
            answer.append_pair("state", &state);
        }
    }
    redirect(&back)
}

/// RFC 7009: also for a token that nobody knows.
async fn revoke(State(core): State<Arc<Core>>, body: Bytes) -> StatusCode {
    core.record.revocation();
    if let Some(token) = parameters(&body).get("token") {
        core.grants.revoke_refresh_token(token);
    }
    StatusCode::OK
}

/// OpenID Connect RP-Initiated Logout section 2: the parameters come in the query or in a form.
async fn end_session(State(core): State<Arc<Core>>, RawQuery(query): RawQuery, body: Bytes) -> Response {
    let mut request = parameters(query.unwrap_or_default().as_bytes());
    request.extend(parameters(&body));
    core.record.end_session(&request);
    if let Some(sid) = request.get("id_token_hint").and_then(|hint| session_of(hint)) {
        core.grants.end_session(&sid);
    }
    let back = request.get("post_logout_redirect_uri").and_then(|address| Url::parse(address).ok());
    let Some(mut back) = back else { return StatusCode::OK.into_response() };
    if let Some(state) = request.get("state") {
        back.query_pairs_mut().append_pair("state", state);
    }
    redirect(&back)
}

fn session_of(id_token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(id_token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["sid"].as_str().map(str::to_owned)
}

fn redirect(to: &Url) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, to.as_str())]).into_response()
}
