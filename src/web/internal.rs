use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request as HttpRequest, State},
    response::Response,
};
use http::{Method, StatusCode, header, request::Parts};

use super::{
    answer::Reply,
    form::{FormError, read_form},
    request::{request_id, single},
};
use crate::{
    clock::Patience,
    flow::{Flows, GivenToken, MODEL_TOKENS_PATH, OnBehalfError, WorkloadRefusal, log_workload_token},
    model_tokens::Workload,
    policy::SUBJECT_TOKEN_HEADER,
};

/// How long a workload waits for a token at most: longer than a call to the realm may take.
const WAIT: Duration = Duration::from_secs(20);

/// The largest form that is read, in bytes: Keycloak's tokens have a few thousand.
const MAXIMUM_FORM: usize = 64 * 1024;

/// RFC 8693 sections 2.1 and 3.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Answers every request of the internal listener.
pub(super) async fn serve(State(flows): State<Arc<Flows>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let request_id = request_id(&parts, &*flows.random);
    let mut workload = None;
    let outcome = model_token(&flows, &parts, body, &mut workload).await;
    log_workload_token(request_id.as_str(), workload.as_ref(), outcome.as_ref());
    let reply = match outcome {
        Ok(given) => {
            let issued_token_type = (parts.method == Method::POST).then_some(ACCESS_TOKEN);
            Reply::json(StatusCode::OK, given.json(issued_token_type))
        }
        Err(refusal) => refuse(&refusal, request_id.as_str()),
    };
    reply.into()
}

fn refuse(refusal: &WorkloadRefusal, request_id: &str) -> Reply {
    let answer = refusal.answer();
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let reply = Reply::json(status, answer.json(request_id, None)).retry_after(answer.retry_after);
    let reply = match refusal.challenge() {
        Some(challenge) => reply.header(header::WWW_AUTHENTICATE, challenge),
        None => reply,
    };
    match refusal {
        WorkloadRefusal::WrongMethod { allowed } => reply.header(header::ALLOW, allowed),
        _ => reply,
    }
}

async fn model_token(
    flows: &Flows,
    parts: &Parts,
    body: Body,
    workload: &mut Option<Workload>,
) -> Result<GivenToken, WorkloadRefusal> {
    if parts.uri.path() != MODEL_TOKENS_PATH {
        return Err(WorkloadRefusal::NoEndpoint);
    }
    if !matches!(parts.method, Method::GET | Method::POST) {
        return Err(WorkloadRefusal::WrongMethod { allowed: "GET, POST" });
    }
    let credential = credential(parts).ok_or(WorkloadRefusal::NoCredential)?;
    let workload = workload.insert(flows.model_tokens.workloads.identify(credential).await?);
    let subject_token = subject_token(parts, body).await?;
    let query = parts.uri.query().unwrap_or_default();
    flows.workload_token(workload, query, subject_token.as_deref(), &Patience::new(WAIT)).await
}

/// The token of the user for whom the workload asks, if it asks for one: in a header, or in the form of a token exchange
/// (RFC 8693 section 2.1).
async fn subject_token(parts: &Parts, body: Body) -> Result<Option<String>, WorkloadRefusal> {
    if parts.method == Method::GET {
        let mut values = parts.headers.get_all(SUBJECT_TOKEN_HEADER).iter();
        let (first, second) = (values.next(), values.next());
        return match (first.map(|value| value.to_str()), second) {
            (None, _) => Ok(None),
            (Some(Ok(token)), None) => Ok(Some(token.to_owned())),
            _ => Err(WorkloadRefusal::OnBehalf(OnBehalfError::SubjectToken("not one token"))),
        };
    }
    let fields = read_form(parts, body, MAXIMUM_FORM).await.map_err(|error| match error {
        FormError::NoForm => WorkloadRefusal::BadForm,
        FormError::TooLarge => WorkloadRefusal::FormTooLarge,
    })?;
    let is_given = |name: &str| fields.iter().any(|(given, _)| given == name);
    // Scope and audience are the model's, and nobody else acts: whoever asks for something else is not to think that
    // it was given.
    let asks_for_more = ["scope", "audience", "resource", "actor_token"].into_iter().any(is_given)
        || (is_given("requested_token_type")
            && single(&fields, "requested_token_type") != Some(ACCESS_TOKEN));
    let is_exchange = single(&fields, "grant_type") == Some(TOKEN_EXCHANGE)
        && single(&fields, "subject_token_type") == Some(ACCESS_TOKEN)
        && !asks_for_more;
    match single(&fields, "subject_token") {
        Some(token) if is_exchange => Ok(Some(token.to_owned())),
        _ => Err(WorkloadRefusal::BadForm),
    }
}

/// The bearer credential of a workload (RFC 6750 section 2.1). Two of them are none.
fn credential(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    let is_alone = values.next().is_none();
    (is_alone && scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty()).then_some(credential)
}
