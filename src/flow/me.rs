use serde_json::{Map, Value};

use super::Flows;
use crate::{
    clock::Timestamp,
    policy::{Request, Site},
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
}

impl Flows {
    /// Tells who is signed in. Asking does not keep the session alive: a page that polls would never be idle.
    ///
    /// # Errors
    /// [`CurrentUserError`] if nobody is.
    pub fn current_user(&self, site: &Site, request: &Request<'_>) -> Result<CurrentUser, CurrentUserError> {
        let (_, session) = self.session(site, request).ok_or(CurrentUserError::NotSignedIn)?;
        if session.is_account_disabled() {
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
