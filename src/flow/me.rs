use serde_json::{Map, Value};

use super::Flows;
use crate::{
    clock::{Patience, Timestamp},
    policy::{Refusal, Request, Site},
    session::StoreError,
};

/// What the signed-in user's own page may know. Never a token.
#[derive(Debug)]
pub struct CurrentUser {
    /// The claims of the ID token that the frontend's configuration lists.
    pub claims: Map<String, Value>,
    /// When the session ends if it is not used again.
    pub expires_at: Timestamp,
    /// When the session ends however much it is used.
    pub login_expires_at: Timestamp,
}

/// Why there is nobody to tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurrentUserError {
    /// There is no session.
    NotSignedIn,
    /// The provider says that the account is disabled.
    AccountDisabled,
    /// Nobody can say at the moment.
    Unavailable,
}

impl From<StoreError> for CurrentUserError {
    fn from(_: StoreError) -> Self {
        Self::Unavailable
    }
}

impl Flows {
    /// Tells who is signed in. Asking does not keep the session alive, since a page that polls would never be idle,
    /// unless `keep_alive` says that somebody is there: then it counts as a use like any other.
    ///
    /// # Errors
    /// [`CurrentUserError`] if nobody is signed in.
    pub async fn current_user(
        &self,
        site: &Site,
        request: &Request<'_>,
        keep_alive: bool,
    ) -> Result<CurrentUser, CurrentUserError> {
        let (id, session) = self.session(site, request).await?.ok_or(CurrentUserError::NotSignedIn)?;
        if keep_alive {
            session.touch(self.clock.now());
            let patience = Patience::new(self.refresher.settings.wait);
            match self.usable_tokens(site, &id, &session, &patience).await {
                Err(Refusal::NotSignedIn) => return Err(CurrentUserError::NotSignedIn),
                Err(Refusal::AccountDisabled) => return Err(CurrentUserError::AccountDisabled),
                // Who it is is known, also while the provider is away.
                _ => {}
            }
        } else if session.is_account_disabled() {
            return Err(CurrentUserError::AccountDisabled);
        }
        let tokens = session.tokens();
        let shown = |name: &String| tokens.id_claims.get(name).map(|value| (name.clone(), value.clone()));
        Ok(CurrentUser {
            claims: site.frontend.shown_claims.iter().filter_map(shown).collect(),
            expires_at: session.expires_at(),
            login_expires_at: session.login_expires_at(),
        })
    }
}
