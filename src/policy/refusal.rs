use std::time::Duration;

use serde_json::json;

use super::StepUp;

/// Why a request does not pass. What each one becomes stands in one table, [`Refusal::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No frontend has this host.
    UnknownHost,
    /// None of our endpoints has this path.
    NoEndpoint,
    /// The endpoint does not take this method.
    WrongMethod,
    /// Servers would read the path in different ways, and the rules differ for them.
    AmbiguousPath,
    /// A page of another origin made the request.
    ForeignOrigin,
    /// Nothing proves that a page of this frontend made the request.
    MissingCsrfHeader,
    /// There is no session.
    NotSignedIn,
    /// There is a session, and its sign-in is not strong or not recent enough (RFC 9470).
    InsufficientAuthentication(StepUp),
    /// The user has none of the roles that the path needs.
    MissingRole,
    /// The provider says that the account is disabled.
    AccountDisabled,
    /// None of the user's sessions is called so.
    NoSuchSession,
    /// The session's token can no longer be used and the provider cannot be asked for a new one now.
    Unavailable {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The realm of the models does not know the user.
    UserNotLinked,
    /// The realm of the models gives no token at the moment.
    NoModelToken {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The provider does not exchange the user's token at the moment.
    NoExchangedToken {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// A fault of this program.
    Internal,
}

/// What a refusal becomes, whatever carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// A fixed word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: &'static str,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// The answer table.
    pub fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::UnknownHost => (404, "unknown_host", "There is no application at this address."),
            Self::NoEndpoint => (404, "no_endpoint", "There is nothing at this address."),
            Self::WrongMethod => (405, "wrong_method", "This address does not take such requests."),
            Self::AmbiguousPath => (400, "ambiguous_path", "This address can be read in more than one way."),
            Self::ForeignOrigin => {
                (403, "foreign_origin", "This request was made by a page of another site.")
            }
            Self::MissingCsrfHeader => {
                (403, "missing_csrf_header", "This request lacks the header that shows where it came from.")
            }
            Self::NotSignedIn => (401, "not_signed_in", "You are not signed in."),
            Self::InsufficientAuthentication(_) => {
                (401, "insufficient_user_authentication", "This needs a stronger or more recent sign-in.")
            }
            Self::MissingRole => (403, "missing_role", "Your account is not allowed to do this."),
            Self::AccountDisabled => (403, "account_disabled", "Your account is disabled."),
            Self::NoSuchSession => (404, "no_such_session", "You have no such session."),
            Self::Unavailable { .. } => (
                503,
                "sign_in_unavailable",
                "The sign-in service does not answer. Please try again in a moment.",
            ),
            Self::UserNotLinked => {
                (403, "user_not_linked", "Your account is not known where this model is served.")
            }
            Self::NoModelToken { .. } => {
                (503, "model_token_unavailable", "The model cannot be reached. Please try again in a moment.")
            }
            Self::NoExchangedToken { .. } => (
                503,
                "exchanged_token_unavailable",
                "This service cannot be reached. Please try again in a moment.",
            ),
            Self::Internal => (503, "internal_error", "Something went wrong on our side. Please try again."),
        };
        let retry_after = match self {
            // A client that is told "0" comes back at once.
            Self::Unavailable { retry_after }
            | Self::NoModelToken { retry_after }
            | Self::NoExchangedToken { retry_after } => Some(retry_after.as_secs().max(1)),
            Self::Internal => Some(1),
            _ => None,
        };
        Answer { status, code, message, retry_after }
    }
}

impl Answer {
    /// The answer for a script.
    pub fn json(&self, request_id: &str, login_url: Option<&str>) -> String {
        let mut body = json!({"error": self.code, "message": self.message, "request_id": request_id});
        if let Some(login_url) = login_url {
            body["login_url"] = login_url.into();
        }
        body.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_told_where_to_sign_in() {
        let body = Refusal::NotSignedIn.answer().json("id-1", Some("https://app.example.com/auth/login"));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"], "not_signed_in");
        assert_eq!(body["login_url"], "https://app.example.com/auth/login");
        assert_eq!(body["request_id"], "id-1");
    }

    #[test]
    fn retry_after_is_never_zero() {
        let answer = Refusal::Unavailable { retry_after: Duration::ZERO }.answer();
        assert_eq!((answer.status, answer.retry_after), (503, Some(1)));
    }
}
