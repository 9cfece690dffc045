use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request as HttpRequest, State},
    response::Response,
};
use http::{Method, StatusCode, header, request::Parts};
use serde_json::{Value, json};

use super::{
    answer::Reply,
    form::{FormError, read_form},
    request::{parameters, request_id, single},
};
use crate::{
    flow::{Flows, OnBehalfError},
    model_tokens::{ModelClient, ModelToken, ModelTokenError, Workload, WorkloadError},
    policy::Answer,
};

/// Where workloads ask for model tokens.
const MODEL_TOKENS: &str = "/get_model_tokens";

/// How long a workload waits for a token at most: longer than a call to the realm may take.
const WAIT: Duration = Duration::from_secs(20);

/// The largest form that is read, in bytes: Keycloak's tokens have a few thousand.
const MAXIMUM_FORM: usize = 64 * 1024;

/// The header in which a workload passes the access token that it was called with.
const SUBJECT_TOKEN: &str = "x-subject-token";

/// RFC 8693 sections 2.1 and 3.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A token, and whose it is.
struct Given<'a> {
    client: &'a Arc<ModelClient>,
    token: Arc<ModelToken>,
    /// The user, if it is not the client's own.
    subject: Option<String>,
}

/// A workload gets no token. What each failure becomes stands in one table, [`Refused::answer`].
enum Refused {
    NoEndpoint,
    WrongMethod,
    NoCredential,
    BadCredential,
    CannotVerify,
    NotAllowed,
    BadValidity,
    Repeated,
    BadForm,
    FormTooLarge,
    OnBehalf(OnBehalfError),
    Token(ModelTokenError),
}

impl Refused {
    fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::NoEndpoint => (404, "no_endpoint", "There is nothing at this address."),
            Self::WrongMethod => (405, "wrong_method", "This address does not take such requests."),
            Self::NoCredential => (401, "no_credential", "A workload's credential is needed."),
            Self::BadCredential => (401, "invalid_token", "The credential is not valid, or not any more."),
            Self::CannotVerify => (503, "cannot_verify", "The credential cannot be verified at the moment."),
            Self::NotAllowed => (403, "not_allowed", "This workload may not ask for tokens of this model."),
            Self::BadValidity => (400, "invalid_min_validity", "min_validity must be a number of seconds."),
            Self::Repeated => (400, "invalid_request", "A parameter is repeated."),
            Self::BadForm => {
                (400, "invalid_request", "This is not a form of a token exchange for an access token.")
            }
            Self::FormTooLarge => (413, "invalid_request", "The form is too large for a token exchange."),
            Self::OnBehalf(OnBehalfError::NotAllowed) => {
                (403, "not_allowed_for_users", "This workload may not ask for tokens of users.")
            }
            Self::OnBehalf(OnBehalfError::SubjectToken(_)) => {
                (401, "invalid_subject_token", "The token of the user is not good for this.")
            }
            Self::OnBehalf(OnBehalfError::CannotVerify) => {
                (503, "cannot_verify", "The token of the user cannot be verified at the moment.")
            }
            Self::Token(error) | Self::OnBehalf(OnBehalfError::Token(error)) => match error {
                ModelTokenError::UnknownModel => (404, "unknown_model", "There is no such model."),
                ModelTokenError::ModelNotNamed => {
                    (400, "model_not_named", "There are several models: one must be named.")
                }
                ModelTokenError::UserNeeded => {
                    (400, "user_needed", "This model gives tokens only for users who are signed in.")
                }
                ModelTokenError::UserNotLinked => {
                    (403, "user_not_linked", "The realm of the models does not know this user.")
                }
                ModelTokenError::SubjectTokenRefused => {
                    (401, "invalid_subject_token", "The token of the user is not good for this.")
                }
                ModelTokenError::ValidityTooLong => {
                    (400, "validity_too_long", "No token of this model lives for so long.")
                }
                ModelTokenError::TooManyUsers => {
                    (503, "too_many_users", "Tokens of too many users are asked for.")
                }
                ModelTokenError::Unavailable { .. } => {
                    (503, "model_token_unavailable", "The realm of the models gives no token now.")
                }
            },
        };
        let retry_after = match self {
            Self::Token(ModelTokenError::Unavailable { retry_after })
            | Self::OnBehalf(OnBehalfError::Token(ModelTokenError::Unavailable { retry_after })) => {
                Some(retry_after.as_secs().max(1))
            }
            _ => (status == 503).then_some(5),
        };
        Answer { status, code, message, retry_after }
    }

    /// What the log says besides the word that the workload is told.
    fn cause(&self) -> Option<String> {
        match self {
            Self::OnBehalf(error) => Some(error.to_string()),
            _ => None,
        }
    }

    /// What a workload is told by `WWW-Authenticate` (RFC 6750 section 3).
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoCredential => Some("Bearer"),
            // The workload reads its token anew and comes back.
            Self::BadCredential => Some("Bearer error=\"invalid_token\""),
            // Its own token is good: reading it anew would change nothing.
            Self::OnBehalf(OnBehalfError::SubjectToken(_)) => Some("Bearer"),
            _ => None,
        }
    }
}

impl From<WorkloadError> for Refused {
    fn from(error: WorkloadError) -> Self {
        match error {
            WorkloadError::Invalid => Self::BadCredential,
            WorkloadError::Unavailable => Self::CannotVerify,
        }
    }
}

impl From<ModelTokenError> for Refused {
    fn from(error: ModelTokenError) -> Self {
        Self::Token(error)
    }
}

/// Answers every request of the internal listener.
pub(super) async fn serve(State(flows): State<Arc<Flows>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let request_id = request_id(&parts, &*flows.random);
    let mut workload = None;
    let reply = match model_token(&flows, &parts, body, &mut workload).await {
        Ok(Given { client, token, subject }) => {
            let (model, workload) = (&*client.settings.name, workload.as_ref().map(ToString::to_string));
            tracing::info!(request_id = request_id.as_str(), model, workload, subject, "model token given");
            let mut body = shown(client, &token, flows.clock.now());
            if parts.method == Method::POST {
                // RFC 8693 section 2.2.1.
                body["issued_token_type"] = ACCESS_TOKEN.into();
            }
            Reply::json(StatusCode::OK, body.to_string())
        }
        Err(refused) => {
            let answer = refused.answer();
            let workload = workload.as_ref().map(ToString::to_string);
            let (status, reason) = (answer.status, answer.code);
            let cause = refused.cause();
            tracing::info!(
                request_id = request_id.as_str(),
                workload,
                status,
                reason,
                cause,
                "model token refused"
            );
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            let reply = Reply::json(status, answer.json(request_id.as_str(), None));
            let reply = reply.retry_after(answer.retry_after);
            let reply = match refused.challenge() {
                Some(challenge) => reply.header(header::WWW_AUTHENTICATE, challenge),
                None => reply,
            };
            if status == StatusCode::METHOD_NOT_ALLOWED {
                reply.header(header::ALLOW, "GET, POST")
            } else {
                reply
            }
        }
    };
    reply.into()
}

async fn model_token<'a>(
    flows: &'a Flows,
    parts: &Parts,
    body: Body,
    workload: &mut Option<Workload>,
) -> Result<Given<'a>, Refused> {
    if parts.uri.path() != MODEL_TOKENS {
        return Err(Refused::NoEndpoint);
    }
    if !matches!(parts.method, Method::GET | Method::POST) {
        return Err(Refused::WrongMethod);
    }
    let tokens = &flows.model_tokens;
    let credential = credential(parts).ok_or(Refused::NoCredential)?;
    let workload = workload.insert(tokens.workloads.identify(credential).await?);
    let parameters = parameters(parts);
    for name in ["model", "min_validity"] {
        if parameters.iter().filter(|(given, _)| given == name).count() > 1 {
            return Err(Refused::Repeated);
        }
    }
    let min_validity = match single(&parameters, "min_validity").map(str::parse) {
        None => Duration::ZERO,
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        Some(Err(_)) => return Err(Refused::BadValidity),
    };
    let client = tokens.client(single(&parameters, "model"))?;
    match subject_token(parts, body).await? {
        Some(token) => {
            let token = flows.model_token_on_behalf(client, workload, &token, min_validity, WAIT).await;
            let (token, subject) = token.map_err(Refused::OnBehalf)?;
            Ok(Given { client, token, subject: Some(subject) })
        }
        None if client.allows(workload) => {
            let token = tokens.service_token(client, min_validity, WAIT).await?;
            Ok(Given { client, token, subject: None })
        }
        None => Err(Refused::NotAllowed),
    }
}

/// The token of the user for whom the workload asks, if it asks for one: in a header, or in the form of a token exchange
/// (RFC 8693 section 2.1).
async fn subject_token(parts: &Parts, body: Body) -> Result<Option<String>, Refused> {
    if parts.method == Method::GET {
        let mut values = parts.headers.get_all(SUBJECT_TOKEN).iter();
        let (first, second) = (values.next(), values.next());
        return match (first.map(|value| value.to_str()), second) {
            (None, _) => Ok(None),
            (Some(Ok(token)), None) => Ok(Some(token.to_owned())),
            _ => Err(Refused::OnBehalf(OnBehalfError::SubjectToken("not one token"))),
        };
    }
    let fields = read_form(parts, body, MAXIMUM_FORM).await.map_err(|error| match error {
        FormError::NoForm => Refused::BadForm,
        FormError::TooLarge => Refused::FormTooLarge,
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
        _ => Err(Refused::BadForm),
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

fn shown(client: &ModelClient, token: &ModelToken, now: crate::clock::Timestamp) -> Value {
    let audience = match (&token.audience, &client.settings.audience) {
        (Value::Null, Some(audience)) => Value::from(audience.as_str()),
        (audience, _) => audience.clone(),
    };
    json!({
        "access_token": token.access_token(),
        "token_type": "Bearer",
        "expires_in": token.life(now).as_secs(),
        "expires_at": token.expires_at.as_unix(),
        "scope": token.scope.as_deref().unwrap_or(&client.settings.scope),
        "audience": audience,
    })
}
