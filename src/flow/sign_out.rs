use std::time::Duration;

use super::{Flows, transaction::TRANSACTION_LIFETIME, transaction::Transaction};
use crate::{
    clock::Timestamp,
    oidc::Provider,
    session::{DirectoryEntry, Session, SessionGroup, SignOut, StoreError},
};

impl Flows {
    /// Ends a session, and with it those that other frontends have of the same session at the issuer: for the person
    /// it was one sign-in. Returns them; their provider does not know yet.
    pub(super) async fn sign_out(&self, entry: &DirectoryEntry) -> Result<Vec<DirectoryEntry>, StoreError> {
        // All of it is tried, whatever becomes of the rest: what the store cannot do now, it does later.
        let mut ended = Vec::new();
        let mut result = self.sessions.remove(entry).await.map(|was_there| {
            if was_there {
                ended.push(entry.clone());
            }
        });
        if let Some(group) = entry.provider_session_group() {
            // The session at the provider may go on until the browser gets there: a login that was begun in this second
            // may be one that the user began after signing out.
            let sign_out = SignOut::here(self.clock.now() - Duration::from_secs(1));
            for provider in
                self.providers.values().filter(|provider| provider.settings().issuer == entry.issuer)
            {
                match self.end_group(provider, &group, sign_out).await {
                    Ok(others) => ended.extend(others),
                    Err(error) => result = Err(error),
                }
            }
        }
        for entry in &ended {
            tracing::info!(frontend = &*entry.frontend, session = entry.handle, "signed out");
        }
        result.map(|()| ended)
    }

    /// Ends the sessions of a group that were begun at this provider, and remembers that it was done, so that a login
    /// under way does not begin a new one. Returns those that were live.
    pub(super) async fn end_group(
        &self,
        provider: &Provider,
        group: &SessionGroup,
        sign_out: SignOut,
    ) -> Result<Vec<DirectoryEntry>, StoreError> {
        let end = self.clock.now() + TRANSACTION_LIFETIME;
        self.sessions.end_group(&provider.settings().name, group, sign_out, end).await
    }

    /// Whether a login was signed out while it was under way: it was begun before the sign-out and, where that was one
    /// of all that a person has, its ID token was issued before it. Whoever stays at the login page meanwhile begins a
    /// new session there.
    pub(super) async fn was_signed_out_meanwhile(
        &self,
        entry: &DirectoryEntry,
        session: &Session,
        transaction: &Transaction,
    ) -> Result<bool, StoreError> {
        let issued_at = session.tokens().id_claims.get("iat").and_then(serde_json::Value::as_f64);
        let issued_at = issued_at.map(|seconds| Timestamp::from_unix(seconds as u64));
        for group in entry.groups() {
            let Some(sign_out) = self.sessions.latest_sign_out(&entry.provider, &group).await? else {
                continue;
            };
            let is_new = match group {
                SessionGroup::ProviderSession { .. } => false,
                SessionGroup::Subject { .. } => issued_at.is_some_and(|at| at > sign_out.issued_at),
            };
            if transaction.created_at() <= sign_out.at && !is_new {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
#[path = "sign_out_tests.rs"]
mod tests;
