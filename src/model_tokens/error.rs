use std::time::Duration;

use crate::token_cache::NoToken;

/// Why a realm gives no token, however often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The second realm does not know the user.
    UserNotLinked,
    /// The first realm does not exchange the user's token.
    SubjectToken,
}

/// There is no model token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelTokenError {
    /// No model client has this name.
    #[error("no model client has this name")]
    UnknownModel,
    /// There are several model clients, and none is named.
    #[error("one of several model clients must be named")]
    ModelNotNamed,
    /// The client acts for users only, and none is given.
    #[error("the model client gives tokens of users only")]
    UserNeeded,
    /// The second realm does not know the user.
    #[error("the realm of the models does not know the user")]
    UserNotLinked,
    /// The first realm does not exchange the user's token: the sign-in is over.
    #[error("the token of the user is refused")]
    SubjectTokenRefused,
    /// No token of the realm lives as long as is asked for.
    #[error("no token lives for so long")]
    ValidityTooLong,
    /// Tokens of more users are asked for than can be kept.
    #[error("tokens of too many users are asked for")]
    TooManyUsers,
    /// The realm gives no token at the moment.
    #[error("the realm of the models gives no token at the moment")]
    Unavailable {
        /// When it is worth trying again.
        retry_after: Duration,
    },
}

impl From<NoToken<Refusal>> for ModelTokenError {
    fn from(error: NoToken<Refusal>) -> Self {
        match error {
            NoToken::Refused(Refusal::UserNotLinked) => Self::UserNotLinked,
            NoToken::Refused(Refusal::SubjectToken) => Self::SubjectTokenRefused,
            NoToken::TooShort => Self::ValidityTooLong,
            NoToken::Full => Self::TooManyUsers,
            NoToken::Unavailable { retry_after } => Self::Unavailable { retry_after },
        }
    }
}
