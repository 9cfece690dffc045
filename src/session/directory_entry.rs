use std::{fmt, sync::Arc};

use secrecy::SecretString;

use super::{SessionGroup, SessionKey};
use crate::clock::Timestamp;

/// What the program may know of a session whose id nobody presented: enough to list it, to end it, and to tell its
/// provider. A store can give this for every session; the tokens that requests need it can give only to whoever has
/// the id.
#[derive(Clone)]
pub struct DirectoryEntry {
    /// What the session is stored under.
    pub key: SessionKey,
    /// See [`super::Session::handle`].
    pub handle: String,
    /// See [`super::Session::frontend`].
    pub frontend: Arc<str>,
    /// See [`super::Session::provider`].
    pub provider: Arc<str>,
    /// See [`super::Session::issuer`].
    pub issuer: Arc<str>,
    /// See [`super::Session::subject`].
    pub subject: String,
    /// See [`super::Session::provider_session`].
    pub provider_session: Option<String>,
    /// When the login ended.
    pub created_at: Timestamp,
    /// When it was last used; may be a minute behind where several replicas share the store.
    pub last_used_at: Timestamp,
    /// When it ends if it is not used again.
    pub expires_at: Timestamp,
    /// Whether the provider said that the account is disabled.
    pub is_account_disabled: bool,
    /// What is given back to the provider when the session ends.
    pub refresh_token: Option<SecretString>,
    /// The hint by which the provider knows whom to sign out.
    pub id_token: SecretString,
}

impl DirectoryEntry {
    /// The groups that the session belongs to.
    pub fn groups(&self) -> impl Iterator<Item = SessionGroup> + use<'_> {
        self.provider_session_group().into_iter().chain([self.subject_group()])
    }

    /// The group of all sessions of the same person.
    pub fn subject_group(&self) -> SessionGroup {
        SessionGroup::Subject { issuer: Arc::clone(&self.issuer), sub: self.subject.clone() }
    }

    /// The group of all sessions of the same session at the provider, if it names one.
    pub fn provider_session_group(&self) -> Option<SessionGroup> {
        let sid = self.provider_session.clone()?;
        Some(SessionGroup::ProviderSession { issuer: Arc::clone(&self.issuer), sid })
    }
}

impl fmt::Debug for DirectoryEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryEntry")
            .field("handle", &self.handle)
            .field("frontend", &self.frontend)
            .finish_non_exhaustive()
    }
}
