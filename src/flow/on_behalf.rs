use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use serde_json::Value;

use super::Flows;
use crate::{
    clock::{Patience, Timestamp},
    model_tokens::{ModelClient, ModelTokenError, User, UserToken, Workload},
    oidc::{AccessTokenError, Provider, SignatureError, audiences, unverified_claims},
    session::{SessionGroup, StoreError},
    token_cache::CachedToken,
};

/// A workload gets no token for a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OnBehalfError {
    /// This workload may not act for users.
    #[error("the workload may not act for users")]
    NotAllowed,
    /// The user's token is not good for this.
    #[error("the token of the user is not good for this: {0}")]
    SubjectToken(&'static str),
    /// The keys to verify it with are not to be had, or the sessions.
    #[error("the token of the user cannot be verified at the moment")]
    CannotVerify,
    /// There is no model token.
    #[error(transparent)]
    Token(#[from] ModelTokenError),
}

impl Flows {
    /// The model token of a user whose access token a workload was called with.
    ///
    /// Whoever can make somebody else act for a user is a danger to that user, so all of this must hold: the model
    /// client allows it for this workload; the token is a user's access token that one of our own clients was given, is
    /// made for this workload and not bound to a key; and the user is still signed in here.
    ///
    /// Returns whose token it is as well.
    ///
    /// # Errors
    /// [`OnBehalfError`] names the first condition that does not hold.
    pub async fn model_token_on_behalf(
        &self,
        client: &Arc<ModelClient>,
        workload: &Workload,
        subject_token: &str,
        min_validity: Duration,
        patience: &Patience,
    ) -> Result<(Arc<CachedToken>, String), OnBehalfError> {
        let wanted: Vec<&str> = client
            .settings
            .on_behalf
            .iter()
            .filter(|allowed| allowed.workload == *workload)
            .map(|allowed| allowed.audience.as_str())
            .collect();
        if wanted.is_empty() {
            return Err(OnBehalfError::NotAllowed);
        }
        let provider = self.given_by(subject_token).ok_or(OnBehalfError::SubjectToken("not ours"))?;
        let claims = match provider.verify_access_token(subject_token).await {
            Ok(claims) => claims,
            Err(AccessTokenError::Signature(SignatureError::NoKeys(_))) => {
                return Err(OnBehalfError::CannotVerify);
            }
            Err(error) => {
                tracing::info!(%workload, %error, "the token of a user is refused");
                return Err(OnBehalfError::SubjectToken("not valid"));
            }
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let is_for_workload = audiences(&claims).iter().any(|audience| wanted.contains(audience));
        if !is_for_workload {
            return Err(OnBehalfError::SubjectToken("made for somebody else"));
        }
        let subject = text("sub").unwrap_or_default();
        // The token of a client that acts for itself belongs to no session.
        let sid = text("sid").ok_or(OnBehalfError::SubjectToken("not a user's"))?;
        let since = if client.settings.needs_live_session {
            let since = self.signed_in_since(provider, subject, sid).await;
            let since = since.map_err(|_| OnBehalfError::CannotVerify)?;
            since.ok_or(OnBehalfError::SubjectToken("of nobody who is signed in"))?
        } else {
            Timestamp::default()
        };
        let user = User {
            issuer: Arc::clone(&provider.settings().issuer),
            subject: subject.to_owned(),
            provider: Arc::clone(provider),
            token: UserToken::Presented(SecretString::from(subject_token)),
            since,
        };
        match self.model_tokens.user_token(client, user, min_validity, patience).await {
            Ok(token) => Ok((token, subject.to_owned())),
            Err(ModelTokenError::SubjectTokenRefused) => {
                Err(OnBehalfError::SubjectToken("not exchanged any more"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The provider whose client a token, which nobody has verified yet, says that it was given to.
    fn given_by(&self, token: &str) -> Option<&Arc<Provider>> {
        let claims = unverified_claims(token)?;
        let (issuer, client) = (claims.get("iss")?.as_str()?, claims.get("azp")?.as_str()?);
        self.providers.values().find(|provider| {
            let settings = provider.settings();
            &*settings.issuer == issuer && settings.client_id == client
        })
    }

    /// Since when the user of this session at the provider has been signed in here.
    async fn signed_in_since(
        &self,
        provider: &Provider,
        subject: &str,
        sid: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let settings = provider.settings();
        let group =
            SessionGroup::ProviderSession { issuer: Arc::clone(&settings.issuer), sid: sid.to_owned() };
        let live = self.sessions.group(&group).await?.into_iter();
        let own = live.filter(|entry| {
            entry.provider == settings.name && entry.subject == subject && !entry.is_account_disabled
        });
        Ok(own.map(|entry| entry.created_at).min())
    }
}
