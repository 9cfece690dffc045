use axum::body::Body;
use http::{Method, StatusCode, header, request::Parts};
use serde_json::json;

use super::{
    answer::Reply,
    form::{FormError, read_form},
    request::{request_id, single},
};
use crate::{
    flow::{BackchannelLogoutError, Flows},
    policy::{Answer, Endpoint, Refusal},
    telemetry::RequestId,
};

/// The largest request that is read, in bytes. Keycloak's has about a thousand.
const MAXIMUM_BODY: usize = 16 * 1024;

/// Answers the provider's call (OpenID Connect Back-Channel Logout 1.0 section 2.5). It comes from no browser: neither
/// cookie nor origin mean anything here, and the token alone proves who asks.
pub(super) async fn answer(flows: &Flows, parts: &Parts, body: Body) -> Reply {
    let request_id = request_id(parts, &*flows.random);
    if parts.method != Method::POST {
        return error(&Refusal::WrongMethod.answer(), &request_id)
            .header(header::ALLOW, Endpoint::BackchannelLogout.methods());
    }
    let result = match read_token(parts, body).await {
        Ok(token) => flows.backchannel_logout(&token).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => Reply::new(StatusCode::OK),
        Err(failure) => {
            // Anyone can send what is meant for nobody here.
            match failure {
                BackchannelLogoutError::Token(_) | BackchannelLogoutError::NoKeys(_) => {
                    tracing::warn!(request_id = request_id.as_str(), error = %failure, "back-channel logout refused");
                }
                _ => {
                    tracing::info!(request_id = request_id.as_str(), error = %failure, "back-channel logout refused");
                }
            }
            error(&failure.answer(), &request_id)
        }
    }
}

fn error(answer: &Answer, request_id: &RequestId) -> Reply {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let body = json!({
        "error": answer.code, "error_description": answer.message, "request_id": request_id.as_str(),
    });
    Reply::json(status, body.to_string()).retry_after(answer.retry_after)
}

async fn read_token(parts: &Parts, body: Body) -> Result<String, BackchannelLogoutError> {
    let fields = read_form(parts, body, MAXIMUM_BODY).await.map_err(|error| match error {
        FormError::NoForm => BackchannelLogoutError::NoToken,
        FormError::TooLarge => BackchannelLogoutError::TooLarge,
    })?;
    single(&fields, "logout_token").map(str::to_owned).ok_or(BackchannelLogoutError::NoToken)
}
