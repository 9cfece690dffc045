use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use super::{ModelClient, ModelTokenError};
use crate::{
    oidc::{Provider, TokenError, TokenSet},
    session::Tokens,
};

/// Keycloak's word that no user of the second realm is linked to the one whom the assertion names.
const NOT_LINKED: &str = "User not found";

/// A signed-in user, for whom a model client may act.
pub struct User {
    /// The first realm's issuer.
    pub issuer: Arc<str>,
    /// The user's `sub` there.
    pub subject: String,
    /// The client with which the user signed in.
    pub provider: Arc<Provider>,
    /// The user's access token of the first realm.
    pub token: UserToken,
}

/// Where the access token of a user comes from.
pub enum UserToken {
    /// From the user's session.
    Session(Arc<Tokens>),
    /// From a workload that was called with it.
    Presented(SecretString),
}

impl UserToken {
    fn access_token(&self) -> &str {
        match self {
            Self::Session(tokens) => tokens.upstream.access_token(),
            Self::Presented(token) => token.expose_secret(),
        }
    }
}

/// A token could not be obtained.
pub(super) enum Failure {
    /// It is of no use to ask again soon: the answer for whoever asks.
    Final(ModelTokenError),
    /// What this caller brought is not good; nobody else is held back by it.
    Caller(ModelTokenError),
    /// The realm may be asked again after a pause, or after this.
    Passing(Option<Duration>),
}

impl ModelClient {
    pub(super) async fn obtain_for_itself(&self) -> Result<TokenSet, Failure> {
        let tokens = self.provider.client_credentials(self.wanted()).await;
        tokens.map_err(|error| self.failed(&self.provider, &error))
    }

    /// The second realm takes a token that names it as the only audience. An ordinary user's names more, so it is
    /// narrowed first by an exchange in its own realm (RFC 8693).
    pub(super) async fn obtain_for(&self, user: &User) -> Result<TokenSet, Failure> {
        let audience = &*self.provider.settings().issuer;
        let assertion = user.provider.exchange(user.token.access_token(), audience).await;
        let assertion = assertion.map_err(|error| self.exchange_failed(user, &error))?;
        let tokens = self.provider.jwt_authorization_grant(&assertion.access_token, self.wanted()).await;
        tokens.map_err(|error| match error {
            TokenError::Rejected { description } if description == NOT_LINKED => {
                tracing::info!(model = &*self.settings.name, "the user is not linked");
                Failure::Final(ModelTokenError::UserNotLinked)
            }
            error => self.failed(&self.provider, &error),
        })
    }

    fn exchange_failed(&self, user: &User, error: &TokenError) -> Failure {
        // What Keycloak says of a token whose session is over: a word about this token and nobody else's.
        let is_refused = match error {
            TokenError::Rejected { .. } => true,
            TokenError::Configuration { error, description } => {
                matches!(error.as_str(), "invalid_request" | "invalid_token")
                    && description == "Invalid token"
            }
            _ => false,
        };
        match (&user.token, is_refused) {
            (UserToken::Presented(_), true) => Failure::Caller(ModelTokenError::SubjectTokenRefused),
            (UserToken::Session(_), true) => Failure::Passing(None),
            (_, false) => self.failed(&user.provider, error),
        }
    }

    fn failed(&self, provider: &Provider, error: &TokenError) -> Failure {
        let (model, client) = (&*self.settings.name, provider.settings().client_id.as_str());
        let provider = &*provider.settings().name;
        match error {
            TokenError::Rejected { .. } | TokenError::Configuration { .. } | TokenError::Proof(_) => {
                tracing::error!(model, provider, client, %error, "no model token");
                Failure::Passing(None)
            }
            _ => {
                tracing::warn!(model, provider, %error, "no model token");
                Failure::Passing(error.retry_after())
            }
        }
    }
}
