use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use super::Flows;
use crate::{
    oidc::Provider,
    session::{DirectoryEntry, SessionStore},
};

/// Revokes the refresh token of a session that is over.
///
/// At Keycloak that ends all that its client has of the user's session there. So it is left alone while another
/// session here lives on the same: one that a newer login put in the place of this one, or another frontend's.
pub(super) async fn revoke(sessions: &SessionStore, provider: &Provider, ended: &DirectoryEntry) {
    let Some(refresh_token) = &ended.refresh_token else { return };
    if let Some(group) = ended.provider_session_group() {
        // Whoever cannot say whether one lives must not end it.
        let Ok(live) = sessions.group(&group).await else { return };
        if live.iter().any(|other| other.provider == ended.provider) {
            return;
        }
    }
    if let Err(error) = provider.revoke(refresh_token).await {
        let provider = &*provider.settings().name;
        tracing::warn!(provider, %error, "a refresh token could not be revoked");
    }
}

/// How long a sign-out waits for the provider to take part in it.
pub(super) const PROVIDER_WAIT: Duration = Duration::from_secs(3);

impl Flows {
    /// Gives back what ended sessions of one sign-in had at their providers, in a task of its own. One token of each
    /// client is enough, and one call after the other: Keycloak loses its way when two end the same session at once.
    pub(super) fn revoke_behind(&self, ended: Vec<DirectoryEntry>) -> JoinHandle<()> {
        let (sessions, providers) = (Arc::clone(&self.sessions), self.providers_of(ended));
        self.refresher.tasks.spawn(async move {
            for (provider, ended) in providers {
                revoke(&sessions, &provider, &ended).await;
            }
        })
    }

    /// Ends the session at the provider that ended sessions belonged to, in a task of its own and without a browser.
    /// Where that cannot be done, their tokens are given back at least.
    pub(super) fn end_at_provider_behind(&self, ended: Vec<DirectoryEntry>) -> JoinHandle<()> {
        let (sessions, providers) = (Arc::clone(&self.sessions), self.providers_of(ended));
        self.refresher.tasks.spawn(async move {
            let Some((provider, ended)) = providers.first() else { return };
            match provider.end_session(&ended.id_token).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let provider = &*provider.settings().name;
                    tracing::warn!(provider, %error, "signed out here but not at the provider");
                }
            }
            for (provider, ended) in providers {
                revoke(&sessions, &provider, &ended).await;
            }
        })
    }

    /// The provider of each session, and one session for each provider.
    fn providers_of(&self, ended: Vec<DirectoryEntry>) -> Vec<(Arc<Provider>, DirectoryEntry)> {
        let mut seen = HashSet::new();
        let first = ended.into_iter().filter(|entry| seen.insert(Arc::clone(&entry.provider)));
        first.filter_map(|entry| Some((Arc::clone(self.providers.get(&entry.provider)?), entry))).collect()
    }
}
