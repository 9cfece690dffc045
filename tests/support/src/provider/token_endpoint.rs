//! The token endpoint (RFC 6749 section 3.2).

use super::client_grants::{JWT_BEARER, TOKEN_EXCHANGE};
use super::endpoints::parameters;
use super::grants::RefreshToken;
use super::record::Parameters;
use super::signing::{base64url, sha256};
use super::{Core, Fault};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::sync::Arc;

/// The class of authentication where a request names none, as Keycloak numbers them.
const ACR: &str = "1";

/// Answers a call. What it grants is granted at once, however long the answer then takes.
pub(super) async fn answer(State(core): State<Arc<Core>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = parameters(&body);
    let grant_type = form.get("grant_type").map(String::as_str);
    let is_refresh = grant_type == Some("refresh_token");
    let _under_way = is_refresh.then(|| core.record.refresh());
    if grant_type == Some("authorization_code") {
        core.record.login();
    }
    let outcome = match core.faults.at_token_endpoint(is_refresh) {
        Some(fault) => Err(fault),
        None => match (grant_type, client_id(&headers, &form)) {
            (_, None) => {
                Err(Fault::error("invalid_client", "Client authentication missing").with_status(401))
            }
            (Some("authorization_code"), Some(client_id)) => core.redeem_code(&form, &client_id),
            (Some("refresh_token"), Some(client_id)) => core.refresh(&form, &client_id),
            (Some("client_credentials"), Some(client_id)) => Ok(core.client_credentials(&form, &client_id)),
            (Some(TOKEN_EXCHANGE), Some(client_id)) => core.token_for(&form, &client_id, "subject_token"),
            (Some(JWT_BEARER), Some(client_id)) => core.token_for(&form, &client_id, "assertion"),
            _ => Err(Fault::error("unsupported_grant_type", "Unsupported grant_type")),
        },
    };
    core.pace.before_answer(is_refresh).await;
    match outcome {
        Ok(tokens) => ([(header::CACHE_CONTROL, "no-store")], axum::Json(tokens)).into_response(),
        Err(fault) => fault.into_response(),
    }
}

impl Core {
    fn redeem_code(&self, form: &Parameters, client_id: &str) -> Result<Value, Fault> {
        let invalid = |reason| Fault::error("invalid_grant", reason);
        let code = form.get("code").and_then(|code| self.grants.take_code(code));
        let code = code.ok_or_else(|| invalid("Code not valid"))?;
        let asked = |name: &str| code.request.get(name).map(String::as_str);
        if asked("client_id") != Some(client_id) {
            return Err(invalid("Code was issued to another client"));
        }
        if asked("redirect_uri") != form.get("redirect_uri").map(String::as_str) {
            return Err(invalid("Incorrect redirect_uri"));
        }
        // RFC 7636 section 4.6.
        let challenge = form.get("code_verifier").map(|verifier| base64url(&sha256(verifier)));
        if asked("code_challenge") != challenge.as_deref() {
            return Err(invalid("PKCE verification failed"));
        }
        let session = self.grants.session(&code.sid).ok_or_else(|| invalid("Session not active"))?;
        let scope = asked("scope").unwrap_or("openid");
        let acr = asked_acr(&code.request).unwrap_or_else(|| ACR.to_owned());
        let grant = RefreshToken::new(&session.sid, client_id, scope, &acr);
        Ok(self.tokens(&session, grant, asked("nonce")))
    }

    fn refresh(&self, form: &Parameters, client_id: &str) -> Result<Value, Fault> {
        let invalid = |reason| Fault::error("invalid_grant", reason);
        let token = form.get("refresh_token").map(String::as_str).unwrap_or_default();
        let used = self.grants.use_refresh_token(token).map_err(invalid)?;
        if used.client_id != client_id {
            return Err(invalid("Invalid refresh token. Token client and authorized client don't match"));
        }
        let session = self.grants.session(&used.sid).ok_or_else(|| invalid("Session not active"))?;
        let next = RefreshToken::new(&used.sid, &used.client_id, &used.scope, &used.acr);
        Ok(self.tokens(&session, next, None))
    }
}

/// Who calls, by HTTP Basic or in the form. Every secret is the right one.
fn client_id(headers: &HeaderMap, form: &Parameters) -> Option<String> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        return form.get("client_id").cloned();
    };
    let basic = STANDARD.decode(authorization.to_str().ok()?.strip_prefix("Basic ")?).ok()?;
    let id = basic.split(|byte| *byte == b':').next()?;
    // RFC 6749 section 2.3.1: both halves are encoded as in a form.
    url::form_urlencoded::parse(id).next().map(|(id, _)| id.into_owned())
}

/// The first class of authentication that a request asks for (OpenID Connect Core sections 3.1.2.1 and 5.5.1.1), which
/// is the one that it gets.
fn asked_acr(request: &Parameters) -> Option<String> {
    if let Some(values) = request.get("acr_values") {
        return values.split(' ').next().map(str::to_owned);
    }
    let claims: Value = serde_json::from_str(request.get("claims")?).ok()?;
    let acr = &claims["id_token"]["acr"];
    acr["value"].as_str().or_else(|| acr["values"][0].as_str()).map(str::to_owned)
}
