use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use http::{Method, StatusCode, header, request::Parts};
use serde_json::json;
use tokio::time::timeout;

use super::{answer::Reply, request::single};
use crate::{
    flow::{BackchannelLogoutError, Flows},
    policy::{Answer, Endpoint, Refusal},
    telemetry::RequestId,
};

/// The largest request that is read, in bytes. Keycloak's has about a thousand.
const MAXIMUM_BODY: usize = 16 * 1024;

/// How long the provider may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers the provider's call (OpenID Connect Back-Channel Logout 1.0 section 2.5). It comes from no browser: neither
/// cookie nor origin mean anything here, and the token alone proves who asks.
pub(super) async fn answer(flows: &Flows, parts: &Parts, body: Body) -> Reply {
    let given_id = parts.headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let request_id = RequestId::of(given_id, &*flows.random);
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
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(BackchannelLogoutError::NoToken);
    }
    let read = timeout(BODY_TIMEOUT, read(body.into_data_stream())).await;
    let form = read.map_err(|_| BackchannelLogoutError::NoToken)??;
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&form).into_owned().collect();
    single(&fields, "logout_token").map(str::to_owned).ok_or(BackchannelLogoutError::NoToken)
}

async fn read(mut body: BodyDataStream) -> Result<Vec<u8>, BackchannelLogoutError> {
    let mut form = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| BackchannelLogoutError::NoToken)?;
        if form.len() + chunk.len() > MAXIMUM_BODY {
            return Err(BackchannelLogoutError::TooLarge);
        }
        form.extend_from_slice(&chunk);
    }
    Ok(form)
}
