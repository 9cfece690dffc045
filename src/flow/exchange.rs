use std::{convert::Infallible, sync::Arc, time::Duration};

use super::Flows;
use crate::{
    clock::Patience,
    oidc::{TokenError, TransportError, Wanted},
    policy::{Refusal, Site},
    session::{Session, Tokens},
    token_cache::{CachedToken, Failure, NoToken, Owner, Renewal, TokenKey, Wanted as WantedToken},
};

/// The cache of exchanged tokens refuses nobody for good: what Keycloak says about a session, its refresh says as well.
pub type ExchangedTokens = crate::token_cache::TokenCache<Infallible>;

impl Flows {
    /// The user's access token exchanged in its own realm for one that is good for `audience` only (RFC 8693), kept with
    /// the session. Without one the request does not pass: the user's own token is not for that upstream.
    pub(super) async fn exchanged_token(
        &self,
        site: &Site,
        session: &Session,
        tokens: &Arc<Tokens>,
        audience: &Arc<str>,
        patience: &Patience,
    ) -> Result<Arc<CachedToken>, Refusal> {
        let settings = &self.refresher.settings;
        let wanted = WantedToken {
            renewal: Renewal { ahead: settings.ahead, least_life: settings.least_life },
            min_validity: Duration::ZERO,
            since: session.created_at,
            patience,
        };
        let provider = Arc::clone(self.provider(site).ok_or(Refusal::Internal)?);
        let key = TokenKey { purpose: Arc::clone(audience), owner: Owner::Session(session.handle.clone()) };
        let (tokens, audience) = (Arc::clone(tokens), Arc::clone(audience));
        // Of the session's present token each time, so that what a refresh has learnt of the user is in the next one.
        let obtain = async move |_| {
            let wanted = Wanted { scope: "", audience: Some(&audience) };
            let exchanged = provider.exchange(tokens.upstream.access_token(), wanted).await;
            exchanged.map_err(|error| {
                let settings = provider.settings();
                let (provider, client) = (&*settings.name, settings.client_id.as_str());
                match &error {
                    // Told when the provider was found not to answer.
                    TokenError::Unavailable(TransportError::Held { .. }) => {}
                    TokenError::Configuration { .. } | TokenError::Proof(_)
                        if !error.is_about_subject_token() =>
                    {
                        tracing::error!(provider, client, audience = &*audience, %error, "no token exchange");
                    }
                    _ => tracing::warn!(provider, audience = &*audience, %error, "no token exchange"),
                }
                Failure::from(&error)
            })
        };
        self.exchanged_tokens.token(key, wanted, obtain).await.map_err(|error| {
            let retry_after = match error {
                NoToken::Unavailable { retry_after } => retry_after,
                NoToken::Full | NoToken::TooShort => Duration::from_secs(5),
                NoToken::Refused(never) => match never {},
            };
            Refusal::NoExchangedToken { retry_after }
        })
    }
}
