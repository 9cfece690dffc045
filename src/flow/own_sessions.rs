use std::sync::Arc;

use tokio::time::timeout;

use super::{CurrentUserError, Flows, revocation::PROVIDER_WAIT};
use crate::{
    clock::Timestamp,
    policy::{Request, Site},
    session::{DirectoryEntry, Session, SessionId, StoreError},
};

/// One of the signed-in user's sessions, as its owner may see it.
#[derive(Debug)]
pub struct OwnSession {
    /// Names it; it opens nothing.
    pub handle: String,
    /// The frontend that it belongs to.
    pub frontend: Arc<str>,
    /// Whether it is the one that asks.
    pub is_current: bool,
    /// When the login ended.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Timestamp,
    /// When it ends if it is not used again.
    pub expires_at: Timestamp,
}

/// What ending a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedSession {
    /// The one that asked.
    Current,
    /// Another one.
    Other,
}

/// A session was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndSessionError {
    /// Nobody is signed in who could ask for it.
    CurrentUser(CurrentUserError),
    /// None of the user's sessions has this handle.
    NoSuchSession,
}

impl From<CurrentUserError> for EndSessionError {
    fn from(error: CurrentUserError) -> Self {
        Self::CurrentUser(error)
    }
}

impl From<StoreError> for EndSessionError {
    fn from(error: StoreError) -> Self {
        Self::CurrentUser(error.into())
    }
}

impl Flows {
    /// The sessions of the signed-in user at all frontends of the same issuer, the oldest first.
    ///
    /// # Errors
    /// [`CurrentUserError`] if nobody is signed in.
    pub async fn own_sessions(
        &self,
        site: &Site,
        request: &Request<'_>,
    ) -> Result<Vec<OwnSession>, CurrentUserError> {
        let (current, session) = self.current_session(site, request).await?;
        let current = session.directory_entry(current.key());
        let own = self.sessions.group(&current.subject_group()).await?.into_iter();
        let mut own: Vec<OwnSession> = own
            .map(|entry| OwnSession {
                is_current: entry.key == current.key,
                handle: entry.handle,
                frontend: entry.frontend,
                created_at: entry.created_at,
                last_used_at: entry.last_used_at,
                expires_at: entry.expires_at,
            })
            .collect();
        own.sort_by(|a, b| (a.created_at, &a.handle).cmp(&(b.created_at, &b.handle)));
        Ok(own)
    }

    /// Ends one of the signed-in user's sessions, on another device for example. There the session at the provider
    /// goes as well, or that browser would be signed in again without being asked.
    ///
    /// # Errors
    /// [`EndSessionError`] if it is not there, or not the user's.
    pub async fn end_own_session(
        &self,
        site: &Site,
        request: &Request<'_>,
        handle: &str,
    ) -> Result<EndedSession, EndSessionError> {
        let (current, session) = self.current_session(site, request).await?;
        let current = session.directory_entry(current.key());
        let mut own = self.sessions.group(&current.subject_group()).await?.into_iter();
        let ended = own.find(|own| own.handle == handle).ok_or(EndSessionError::NoSuchSession)?;
        let is_current = ended.key == current.key;
        if !is_current && is_same_sign_in(&current, &ended) {
            // Another frontend in the same browser: the sign-in at the provider stays for the one that asks.
            self.sessions.remove(&ended).await?;
            tracing::info!(frontend = &*ended.frontend, session = ended.handle, "signed out");
            self.revoke_behind(vec![ended]);
        } else {
            let ended = self.sign_out(&ended).await?;
            // In a moment when the provider has begun to end its session, the other device could still come back in.
            let _ = timeout(PROVIDER_WAIT, self.end_at_provider_behind(ended)).await;
        }
        Ok(if is_current { EndedSession::Current } else { EndedSession::Other })
    }

    /// The session of whoever asks.
    async fn current_session(
        &self,
        site: &Site,
        request: &Request<'_>,
    ) -> Result<(SessionId, Arc<Session>), CurrentUserError> {
        let (id, session) = self.session(site, request).await?.ok_or(CurrentUserError::NotSignedIn)?;
        if session.is_account_disabled() {
            return Err(CurrentUserError::AccountDisabled);
        }
        Ok((id, session))
    }
}

fn is_same_sign_in(one: &DirectoryEntry, other: &DirectoryEntry) -> bool {
    one.provider_session.is_some() && one.provider_session == other.provider_session
}
