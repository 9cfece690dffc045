//! Tokens of other realms, for requests to ML services and for the workloads that serve them: which clients there are,
//! who may ask for their tokens, and how those are obtained. Nothing here knows HTTP, gRPC or cookies, and nothing that
//! fails here touches a user's session.

mod client;
mod error;
mod obtain;
mod service_account;
mod token_review;
mod workload;

pub use client::{ModelClient, ModelGrant, ModelSettings, OnBehalf};
pub use error::ModelTokenError;
pub use obtain::{User, UserToken};
pub use service_account::ServiceAccounts;
pub use token_review::TokenReviews;
pub use workload::{Pods, StaticKey, Workload, WorkloadError, Workloads};

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use crate::{
    clock::{Patience, SharedClock, Timestamp},
    token_cache::{CachedToken, Owner, TokenCache, TokenKey, Wanted},
};
use error::Refusal;

/// Every model client, the workloads that may ask, and the tokens at hand.
pub struct ModelTokens {
    clients: HashMap<Arc<str>, Arc<ModelClient>>,
    /// Who asks.
    pub workloads: Workloads,
    /// A client asks for one scope and one audience, so its name stands for them.
    cache: TokenCache<Refusal>,
}

impl ModelTokens {
    /// Serves the tokens of `clients`, of at most `maximum_users` users at a time.
    pub fn new(
        clients: Vec<ModelClient>,
        workloads: Workloads,
        maximum_users: usize,
        tasks: TaskTracker,
        clock: SharedClock,
    ) -> Self {
        // Each user may have a token of each client.
        let maximum = maximum_users.saturating_mul(clients.len().max(1));
        let clients = clients.into_iter().map(|client| (Arc::clone(&client.settings.name), Arc::new(client)));
        Self { clients: clients.collect(), workloads, cache: TokenCache::new(maximum, tasks, clock) }
    }

    /// The client of this name, or the only one there is.
    ///
    /// # Errors
    /// [`ModelTokenError`] when there is none, or no one of several is named.
    pub fn client(&self, name: Option<&str>) -> Result<&Arc<ModelClient>, ModelTokenError> {
        match name {
            Some(name) => self.clients.get(name).ok_or(ModelTokenError::UnknownModel),
            None if self.clients.len() == 1 => {
                self.clients.values().next().ok_or(ModelTokenError::UnknownModel)
            }
            None => Err(ModelTokenError::ModelNotNamed),
        }
    }

    /// A token of the client itself that lives for `min_validity` at least.
    ///
    /// # Errors
    /// [`ModelTokenError`] says why there is none.
    pub async fn service_token(
        &self,
        client: &Arc<ModelClient>,
        min_validity: Duration,
        patience: &Patience,
    ) -> Result<Arc<CachedToken>, ModelTokenError> {
        if !client.settings.grants.contains(&ModelGrant::ClientCredentials) {
            return Err(ModelTokenError::UserNeeded);
        }
        let key = TokenKey { purpose: Arc::clone(&client.settings.name), owner: Owner::Client };
        let renewal = client.settings.renewal;
        let wanted = Wanted { renewal, min_validity, since: Timestamp::default(), patience };
        let this = Arc::clone(client);
        let obtain = async move |refresh_token| this.obtain_for_itself(refresh_token).await;
        Ok(self.cache.token(key, wanted, obtain).await?)
    }

    /// The token for a request of `user`: the user's own, or the client's where the client acts for itself.
    ///
    /// # Errors
    /// [`ModelTokenError`] says why there is none.
    pub async fn token_for(
        &self,
        client: &Arc<ModelClient>,
        user: User,
        patience: &Patience,
    ) -> Result<Arc<CachedToken>, ModelTokenError> {
        if client.acts_for_users() {
            self.user_token(client, user, Duration::ZERO, patience).await
        } else {
            self.service_token(client, Duration::ZERO, patience).await
        }
    }

    /// The token of a user that lives for `min_validity` at least.
    ///
    /// # Errors
    /// [`ModelTokenError`] says why there is none.
    pub async fn user_token(
        &self,
        client: &Arc<ModelClient>,
        user: User,
        min_validity: Duration,
        patience: &Patience,
    ) -> Result<Arc<CachedToken>, ModelTokenError> {
        let owner = Owner::User { issuer: Arc::clone(&user.issuer), subject: user.subject.clone() };
        let key = TokenKey { purpose: Arc::clone(&client.settings.name), owner };
        let renewal = client.settings.renewal;
        let wanted = Wanted { renewal, min_validity, since: user.since, patience };
        let this = Arc::clone(client);
        let obtain = async move |refresh_token| this.obtain_for(&user, refresh_token).await;
        Ok(self.cache.token(key, wanted, obtain).await?)
    }

    /// Forgets the tokens of users who have no session any more, and those that have expired.
    /// Forgets the tokens that have expired. Those of somebody who has signed out are not handed out any more, and go
    /// with them.
    pub fn remove_expired(&self) {
        self.cache.remove_expired();
    }
}
