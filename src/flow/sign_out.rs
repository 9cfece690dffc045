use std::{sync::Arc, time::Duration};

use super::{Flows, transaction::TRANSACTION_LIFETIME, transaction::Transaction};
use crate::{
    clock::Timestamp,
    oidc::Provider,
    session::{Full, Session, SessionGroup, SessionKey},
};

/// A sign-out that a login under way must not overtake: at which provider, and of whom.
pub type SignOut = (Arc<str>, SessionGroup);

impl Flows {
    /// Ends a session, and with it those that other frontends have of the same session at the issuer: for the person
    /// it was one sign-in. The provider is told behind the request that none of their refresh tokens is needed.
    pub(super) fn sign_out(&self, key: &SessionKey, session: &Arc<Session>) {
        let mut ended: Vec<Arc<Session>> = self.sessions.remove(key).into_iter().collect();
        if let Some(group) = session.provider_session_group() {
            // The session at the provider goes on until the browser gets there: a login that was begun in this second
            // may be one that the user began after signing out.
            let moment = self.clock.now() - Duration::from_secs(1);
            for provider in
                self.providers.values().filter(|provider| provider.settings().issuer == session.issuer)
            {
                ended.extend(self.end_group(provider, &group, moment));
            }
        }
        for session in ended {
            tracing::info!(frontend = &*session.frontend, session = session.handle, "signed out");
            self.revoke_behind(session);
        }
    }

    /// Ends the sessions of a group that were begun at this provider, and remembers that it was done at `moment`, so
    /// that a login under way does not begin a new one. Returns those that were live.
    pub(super) fn end_group(
        &self,
        provider: &Provider,
        group: &SessionGroup,
        moment: Timestamp,
    ) -> Vec<Arc<Session>> {
        let name = &provider.settings().name;
        let end = self.clock.now() + TRANSACTION_LIFETIME;
        // Before the sessions are looked for: a login looks here after it has put its session there.
        if let Err(Full) = self.sign_outs.put((Arc::clone(name), group.clone()), moment, end) {
            tracing::warn!(provider = &**name, "too many sign-outs to hold against every login under way");
        }
        let live = self.sessions.group(group).into_iter();
        live.filter(|(_, session)| session.provider == *name)
            .filter_map(|(key, _)| self.sessions.remove(&key))
            .collect()
    }

    /// Whether a login was signed out while it was under way. A sign-out of one session at the provider counts if the
    /// login was begun before it. One of all that a person has counts if the ID token was issued before it: whoever
    /// stays at the login page meanwhile begins a new session there.
    pub(super) fn was_signed_out_meanwhile(&self, session: &Session, transaction: &Transaction) -> bool {
        let issued_at = session.tokens().id_claims.get("iat").and_then(serde_json::Value::as_f64);
        let issued_at = issued_at.map(|seconds| Timestamp::from_unix(seconds as u64));
        session.groups().any(|group| {
            let begun = match group {
                SessionGroup::ProviderSession { .. } => Some(transaction.created_at()),
                SessionGroup::Subject { .. } => issued_at,
            };
            let signed_out = self.sign_outs.get(&(Arc::clone(&session.provider), group));
            begun.zip(signed_out).is_some_and(|(begun, signed_out)| begun <= signed_out)
        })
    }

    /// Revokes the refresh token of a session that is over without making anyone wait for it.
    pub(super) fn revoke_behind(&self, session: Arc<Session>) {
        let Some(provider) = self.providers.get(&session.provider) else { return };
        let provider = Arc::clone(provider);
        self.refresher.tasks.spawn(async move {
            let tokens = session.tokens();
            let Some(refresh_token) = &tokens.refresh_token else { return };
            if let Err(error) = provider.revoke(refresh_token).await {
                let provider = &*provider.settings().name;
                tracing::warn!(provider, %error, "a refresh token could not be revoked");
            }
        });
    }
}

#[cfg(test)]
#[path = "sign_out_tests.rs"]
mod tests;
