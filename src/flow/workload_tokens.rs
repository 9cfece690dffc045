use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::Value;
use url::form_urlencoded;

use super::{Flows, OnBehalfError};
use crate::{
    clock::{Patience, Timestamp},
    model_tokens::{ModelClient, ModelTokenError, Workload, WorkloadError},
    policy::{Answer, Request},
    token_cache::CachedToken,
};

/// Where workloads ask for model tokens.
pub const MODEL_TOKENS_PATH: &str = "/get_model_tokens";

/// A token that a workload is given.
pub struct GivenToken {
    /// The client whose token it is.
    pub client: Arc<ModelClient>,
    /// The token.
    pub token: Arc<CachedToken>,
    /// The user for whom it is, if it is not the client's own.
    pub subject: Option<String>,
    /// When it was given.
    pub given_at: Timestamp,
}

/// A workload gets no token. What each failure becomes stands in one table, [`WorkloadRefusal::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadRefusal {
    /// Nothing is at this path.
    NoEndpoint,
    /// The method is none of these.
    WrongMethod {
        /// Those that are taken, as `Allow` has them.
        allowed: &'static str,
    },
    /// Nothing shows who asks.
    NoCredential,
    /// The credential shows nobody.
    BadCredential,
    /// Nobody can say at the moment whose the credential is.
    CannotVerify,
    /// The workload may not ask for the model's own tokens.
    NotAllowed,
    /// `min_validity` is no number of seconds.
    BadValidity,
    /// A parameter is there twice.
    Repeated,
    /// The form is not that of a token exchange.
    BadForm,
    /// The form is larger than any real one.
    FormTooLarge,
    /// Nothing is given for this user.
    OnBehalf(OnBehalfError),
    /// There is no token.
    Token(ModelTokenError),
}

impl WorkloadRefusal {
    /// The answer table.
    pub fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::NoEndpoint => (404, "no_endpoint", "There is nothing at this address."),
            Self::WrongMethod { .. } => (405, "wrong_method", "This address does not take such requests."),
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

    /// What a workload is told by `WWW-Authenticate` (RFC 6750 section 3).
    pub fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::NoCredential => Some("Bearer"),
            // The workload reads its token anew and comes back.
            Self::BadCredential => Some("Bearer error=\"invalid_token\""),
            // Its own token is good: reading it anew would change nothing.
            Self::OnBehalf(OnBehalfError::SubjectToken(_)) => Some("Bearer"),
            _ => None,
        }
    }

    /// What the log says besides the word that the workload is told.
    fn cause(&self) -> Option<String> {
        match self {
            Self::OnBehalf(error) => Some(error.to_string()),
            _ => None,
        }
    }
}

impl From<WorkloadError> for WorkloadRefusal {
    fn from(error: WorkloadError) -> Self {
        match error {
            WorkloadError::Invalid => Self::BadCredential,
            WorkloadError::Unavailable => Self::CannotVerify,
        }
    }
}

impl From<ModelTokenError> for WorkloadRefusal {
    fn from(error: ModelTokenError) -> Self {
        Self::Token(error)
    }
}

impl Flows {
    /// A model token for a workload that has proved who it is: the client's own, or with `subject_token` that of the
    /// user whose access token this is. `query` is that of the request: `model`, `min_validity`.
    ///
    /// # Errors
    /// [`WorkloadRefusal`] says why it gets none.
    pub async fn workload_token(
        &self,
        workload: &Workload,
        query: &str,
        subject_token: Option<&str>,
        patience: &Patience,
    ) -> Result<GivenToken, WorkloadRefusal> {
        let parameter = |wanted: &str| {
            let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == wanted);
            match (values.next(), values.next()) {
                (_, Some(_)) => Err(WorkloadRefusal::Repeated),
                (value, None) => Ok(value.map(|(_, value)| value)),
            }
        };
        let min_validity = match parameter("min_validity")?.map(|seconds| seconds.parse()) {
            None => Duration::ZERO,
            Some(Ok(seconds)) => Duration::from_secs(seconds),
            Some(Err(_)) => return Err(WorkloadRefusal::BadValidity),
        };
        let client = self.model_tokens.client(parameter("model")?.as_deref())?;
        let (token, subject) = match subject_token {
            Some(token) => {
                let token = self.model_token_on_behalf(client, workload, token, min_validity, patience).await;
                let (token, subject) = token.map_err(WorkloadRefusal::OnBehalf)?;
                (token, Some(subject))
            }
            None if client.allows(workload) => {
                (self.model_tokens.service_token(client, min_validity, patience).await?, None)
            }
            None => return Err(WorkloadRefusal::NotAllowed),
        };
        Ok(GivenToken { client: Arc::clone(client), token, subject, given_at: self.clock.now() })
    }

    /// Answers a workload of the mesh, which the proxy names by the certificate of its connection.
    pub(super) async fn mesh_workload_token(&self, request: &Request<'_>) -> MeshAnswer {
        let principal = request.principal.filter(|principal| !principal.is_empty());
        let workload = principal.map(|principal| Workload::Principal(principal.into()));
        let patience = Patience::new(self.refresher.settings.wait);
        let outcome = async {
            if request.raw_path() != MODEL_TOKENS_PATH {
                return Err(WorkloadRefusal::NoEndpoint);
            }
            if request.method != "GET" {
                return Err(WorkloadRefusal::WrongMethod { allowed: "GET" });
            }
            let workload = workload.as_ref().ok_or(WorkloadRefusal::NoCredential)?;
            let query = request.target.split_once('?').map_or("", |(_, query)| query);
            self.workload_token(workload, query, request.subject_token, &patience).await
        };
        MeshAnswer { outcome: outcome.await, workload }
    }
}

/// What becomes of a request of a workload of the mesh.
pub struct MeshAnswer {
    /// Who asks, if the proxy knows.
    pub workload: Option<Workload>,
    /// What it gets.
    pub outcome: Result<GivenToken, WorkloadRefusal>,
}

/// Writes down who was given a token, or was not and why.
pub fn log_workload_token(
    request_id: &str,
    workload: Option<&Workload>,
    outcome: Result<&GivenToken, &WorkloadRefusal>,
) {
    let workload = workload.map(tracing::field::display);
    match outcome {
        Ok(GivenToken { client, subject, .. }) => {
            let (model, subject) = (&*client.settings.name, subject.as_deref());
            tracing::info!(request_id, model, workload, subject, "model token given");
        }
        Err(refusal) => {
            let Answer { status, code: reason, .. } = refusal.answer();
            let cause = refusal.cause();
            tracing::info!(request_id, workload, status, reason, cause, "model token refused");
        }
    }
}

/// What a workload is told, as JSON.
#[derive(Serialize)]
struct Told<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    expires_at: u64,
    scope: &'a str,
    audience: Audience<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    OfToken(&'a Value),
    AskedFor(&'a str),
}

impl GivenToken {
    /// What the workload is told: never a refresh token. `issued_token_type` is what the answer to a token exchange has
    /// besides (RFC 8693 section 2.2.1).
    pub fn json(&self, issued_token_type: Option<&'static str>) -> String {
        let settings = &self.client.settings;
        let audience = match (&self.token.audience, &settings.audience) {
            (Value::Null, Some(audience)) => Audience::AskedFor(audience),
            (audience, _) => Audience::OfToken(audience),
        };
        let told = Told {
            access_token: self.token.access_token(),
            token_type: "Bearer",
            expires_in: self.token.life(self.given_at).as_secs(),
            expires_at: self.token.expires_at.as_unix(),
            scope: self.token.scope.as_deref().unwrap_or(&settings.scope),
            audience,
            issued_token_type,
        };
        // Texts, numbers and JSON: nothing in it can fail to become JSON.
        serde_json::to_string(&told).unwrap_or_default()
    }
}
