use std::time::Duration;

use tokio::time::timeout;

use super::{CookieChange, Flows, revocation::PROVIDER_WAIT};
use crate::{
    crypto::equal_in_constant_time,
    oidc::ProviderError,
    policy::{Endpoint, Request, Site},
    session::{Session, StoreError},
};

/// How long the provider may take to send the browser back from a logout.
const RETURN_LIFETIME: Duration = Duration::from_secs(600);

/// A logout that has taken place here, and how it goes on.
#[derive(Debug)]
pub struct LogoutStep {
    /// Where the browser goes next: to the provider, or to the frontend if the provider cannot be asked.
    pub location: String,
    /// What becomes of the session at the provider.
    pub at_provider: AtProvider,
    /// The cookies that change.
    pub cookies: Vec<CookieChange>,
}

/// What becomes of the user's session at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtProvider {
    /// The way that the browser goes next ends it.
    Ending,
    /// The provider has no way to end it.
    Staying,
    /// The provider cannot be asked, so it goes on.
    Away,
}

impl Flows {
    /// Signs out: the session here goes first, whatever the provider does, and with it those that other frontends have
    /// of the same session at the provider. Without a session it does the same as with one.
    ///
    /// # Errors
    /// [`StoreError`] when the session may go on, so that the browser must try again.
    pub async fn log_out(&self, site: &Site, request: &Request<'_>) -> Result<LogoutStep, StoreError> {
        let session = self.session(site, request).await?;
        if let Some((id, session)) = &session {
            let ended = self.sign_out(&session.directory_entry(id.key())).await?;
            // Before the browser ends the same session there.
            let _ = timeout(PROVIDER_WAIT, self.revoke_behind(ended)).await;
        }
        let session = session.map(|(_, session)| session);
        let mut cookies = vec![CookieChange::ClearSession];
        Ok(match self.provider_logout(site, session.as_deref()).await {
            Ok(Some((location, state))) => {
                let name = site.frontend.logout_cookie_name();
                cookies.push(CookieChange::Set { name, value: state, lifetime: RETURN_LIFETIME });
                LogoutStep { location, at_provider: AtProvider::Ending, cookies }
            }
            Ok(None) => {
                LogoutStep { location: after_logout(site), at_provider: AtProvider::Staying, cookies }
            }
            Err(error) => {
                tracing::warn!(frontend = &*site.frontend.name, %error, "signed out here but not at the provider");
                LogoutStep { location: after_logout(site), at_provider: AtProvider::Away, cookies }
            }
        })
    }

    /// Where a browser goes that comes back from the provider's logout, and the cookie that goes with it: to the
    /// logged-out page in any case, since the session here went before.
    pub fn return_from_logout(
        &self,
        site: &Site,
        request: &Request<'_>,
        state: Option<&str>,
    ) -> (String, CookieChange) {
        let name = site.frontend.logout_cookie_name();
        let expected = request.cookies.unambiguous(&name);
        if !expected.zip(state).is_some_and(|(expected, state)| equal_in_constant_time(expected, state)) {
            let frontend = &*site.frontend.name;
            tracing::debug!(frontend, "a return from a logout that did not begin in this browser");
        }
        (after_logout(site), CookieChange::Clear(name))
    }

    /// The way to the provider's logout, and the state that comes back from it; none if the provider has no logout.
    async fn provider_logout(
        &self,
        site: &Site,
        session: Option<&Session>,
    ) -> Result<Option<(String, String)>, ProviderError> {
        let (Some(provider), Ok(state)) = (self.provider(site), self.random.token()) else { return Ok(None) };
        let tokens = session.map(Session::tokens);
        let hint = tokens.as_ref().map(|tokens| &tokens.id_token);
        let url = provider.end_session_url(hint, &site.url(Endpoint::LogoutReturn), &state).await?;
        Ok(url.map(|url| (url.into(), state)))
    }
}

fn after_logout(site: &Site) -> String {
    format!("{}{}", site.origin, site.frontend.login.after_logout)
}
