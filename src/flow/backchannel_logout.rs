use std::sync::Arc;

use super::Flows;
use crate::{
    crypto::sha256,
    oidc::{LogoutTokenError, Provider, SignatureError, SignsOut, unverified_claims},
    policy::Answer,
    session::{Once, SessionGroup, SignOut, StoreError, Use},
};

/// A logout token ended nothing. What each failure becomes stands in one table, [`BackchannelLogoutError::answer`].
#[derive(Debug, thiserror::Error)]
pub enum BackchannelLogoutError {
    /// The request is not a form with one logout token (OpenID Connect Back-Channel Logout 1.0 section 2.5).
    #[error("not a form with exactly one logout_token")]
    NoToken,
    /// The request is larger than any real one.
    #[error("the request is too large")]
    TooLarge,
    /// It is meant for none of our clients.
    #[error("no provider has the issuer and audience of the token")]
    Stranger,
    /// It does not pass a check of section 2.6.
    #[error(transparent)]
    Token(LogoutTokenError),
    /// It was used before.
    #[error("the token was used before")]
    Replayed,
    /// The provider's keys are not to be had, so that nobody can say whether it is good.
    #[error(transparent)]
    NoKeys(LogoutTokenError),
    /// The sessions cannot be ended everywhere now. This replica lets them through no more; the provider should come
    /// again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackchannelLogoutError {
    /// The answer table (section 2.8, and RFC 6749 section 5.2 for the words).
    pub fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::NoToken => (400, "invalid_request", "This is not a form with exactly one logout_token."),
            Self::TooLarge => (413, "invalid_request", "The request is too large for a logout token."),
            Self::Stranger | Self::Token(_) => {
                (400, "invalid_request", "The logout token is not valid here.")
            }
            Self::Replayed => (400, "invalid_request", "The logout token was used before."),
            Self::NoKeys(_) => (503, "temporarily_unavailable", "The provider's keys are not to be had now."),
            Self::Store(_) => {
                (503, "temporarily_unavailable", "The sessions cannot be ended everywhere now.")
            }
        };
        Answer { status, code, message, retry_after: (status == 503).then_some(2) }
    }
}

impl From<LogoutTokenError> for BackchannelLogoutError {
    fn from(error: LogoutTokenError) -> Self {
        match error {
            LogoutTokenError::Signature(SignatureError::NoKeys(_)) => Self::NoKeys(error),
            _ => Self::Token(error),
        }
    }
}

impl Flows {
    /// Does what a provider's logout token asks for (OpenID Connect Back-Channel Logout 1.0). Which provider that is,
    /// the token says; a token that ends nothing because nothing is there is a good one all the same.
    ///
    /// # Errors
    /// [`BackchannelLogoutError`] says why it was not done.
    pub async fn backchannel_logout(&self, logout_token: &str) -> Result<(), BackchannelLogoutError> {
        let claims = unverified_claims(logout_token).ok_or(BackchannelLogoutError::Stranger)?;
        // A token may name several clients that trust each other.
        let mut addressed = Vec::new();
        for provider in self.providers.values().filter(|provider| provider.is_addressed_by(&claims)) {
            addressed.push((provider, provider.verify_logout(logout_token).await?));
        }
        let (first, token) = addressed.first().ok_or(BackchannelLogoutError::Stranger)?;
        let use_of =
            Once::LogoutToken(sha256(format!("{}\n{}", first.settings().issuer, token.id).as_bytes()));
        let ends_at = token.ends_at;
        if self.sessions.was_used(use_of).await? {
            return Err(BackchannelLogoutError::Replayed);
        }
        for (provider, token) in addressed {
            let issuer = Arc::clone(&provider.settings().issuer);
            let group = match token.signs_out {
                SignsOut::ProviderSession(sid) => SessionGroup::ProviderSession { issuer, sid },
                SignsOut::Subject(sub) => SessionGroup::Subject { issuer, sub },
            };
            self.provider_ended(provider, &group, SignOut::told(self.clock.now(), token.issued_at)).await?;
        }
        // Last, so that a provider that tries again after a failure is heard.
        match self.sessions.use_once(use_of, ends_at).await? {
            Use::First => Ok(()),
            Use::Again => Err(BackchannelLogoutError::Replayed),
            Use::Full => {
                tracing::warn!("too many logout tokens to remember: one may be used again while it lives");
                Ok(())
            }
        }
    }

    /// Ends the sessions of a group that were begun at a provider, on its word.
    pub(super) async fn provider_ended(
        &self,
        provider: &Provider,
        group: &SessionGroup,
        sign_out: SignOut,
    ) -> Result<(), StoreError> {
        let name = &*provider.settings().name;
        for ended in self.end_group(provider, group, sign_out).await? {
            let frontend = &*ended.frontend;
            tracing::info!(provider = name, frontend, session = ended.handle, "signed out by the provider");
        }
        Ok(())
    }
}
