use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::{ModelClient, ModelGrant, Refusal};
use crate::{
    clock::Timestamp,
    oidc::{Provider, TokenError, TokenSet, TransportError, Wanted},
    session::Tokens,
    token_cache::Failure,
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
    /// When the session began for which the token is asked: tokens that were got before belonged to another sign-in.
    pub since: Timestamp,
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

impl ModelClient {
    /// A token of the client itself.
    pub(super) async fn obtain_for_itself(
        &self,
        refresh_token: Option<SecretString>,
    ) -> Result<TokenSet, Failure<Refusal>> {
        if let Some(tokens) = self.renew(refresh_token).await? {
            return Ok(tokens);
        }
        let tokens = self.provider.client_credentials(self.wanted()).await;
        tokens.map_err(|error| self.failed(&self.provider, &error))
    }

    /// A token of a user.
    pub(super) async fn obtain_for(
        &self,
        user: &User,
        refresh_token: Option<SecretString>,
    ) -> Result<TokenSet, Failure<Refusal>> {
        if let Some(tokens) = self.renew(refresh_token).await? {
            return Ok(tokens);
        }
        if self.settings.grants.contains(&ModelGrant::TokenExchange) {
            let tokens = self.provider.exchange(user.token.access_token(), self.wanted()).await;
            return tokens.map_err(|error| self.exchange_failed(user, &self.provider, &error));
        }
        // The second realm takes a token that names it as the only audience. An ordinary user's names more, so it is
        // narrowed first by an exchange in its own realm (RFC 8693).
        let narrowed = Wanted { scope: "", audience: Some(&self.provider.settings().issuer) };
        let assertion = user.provider.exchange(user.token.access_token(), narrowed).await;
        let assertion = assertion.map_err(|error| self.exchange_failed(user, &user.provider, &error))?;
        let tokens = self.provider.jwt_authorization_grant(&assertion.access_token, self.wanted()).await;
        tokens.map_err(|error| match error {
            TokenError::Rejected { description } if description == NOT_LINKED => {
                tracing::info!(model = &*self.settings.name, "the user is not linked");
                Failure::Final(Refusal::UserNotLinked)
            }
            error => self.failed(&self.provider, &error),
        })
    }

    /// The next token for a refresh token; `None` where there is none or it is over, so that the grant itself is due.
    async fn renew(&self, refresh_token: Option<SecretString>) -> Result<Option<TokenSet>, Failure<Refusal>> {
        let Some(refresh_token) = refresh_token else { return Ok(None) };
        match self.provider.renew(&refresh_token).await {
            Ok(tokens) => Ok(Some(tokens)),
            Err(TokenError::Rejected { .. }) => Ok(None),
            Err(error) => Err(self.failed(&self.provider, &error)),
        }
    }

    fn exchange_failed(&self, user: &User, provider: &Provider, error: &TokenError) -> Failure<Refusal> {
        match (&user.token, error.is_about_subject_token()) {
            (UserToken::Presented(_), true) => Failure::Caller(Refusal::SubjectToken),
            (UserToken::Session(_), true) => Failure::Passing(None),
            (_, false) => self.failed(provider, error),
        }
    }

    fn failed(&self, provider: &Provider, error: &TokenError) -> Failure<Refusal> {
        let (model, client) = (&*self.settings.name, provider.settings().client_id.as_str());
        let provider = &*provider.settings().name;
        match error {
            TokenError::Rejected { .. } | TokenError::Configuration { .. } | TokenError::Proof(_) => {
                tracing::error!(model, provider, client, %error, "no model token");
            }
            // Told when the provider was found not to answer.
            TokenError::Unavailable(TransportError::Held { .. }) => {}
            _ => tracing::warn!(model, provider, %error, "no model token"),
        }
        error.into()
    }
}
