use std::sync::Arc;

use super::Workload;
use crate::{
    oidc::{Provider, Wanted},
    token_cache::Renewal,
};

/// A client of a second realm whose tokens are handed out.
pub struct ModelClient {
    /// How it is configured.
    pub settings: ModelSettings,
    /// The second realm and the client at it.
    pub provider: Arc<Provider>,
}

/// A model client as it is configured.
pub struct ModelSettings {
    /// Its name in the configuration, in requests and in logs.
    pub name: Arc<str>,
    /// How its tokens are obtained, for itself and for users.
    pub grants: Vec<ModelGrant>,
    /// The scopes that are asked for, separated by spaces.
    pub scope: String,
    /// The audience that is asked for, where the realm lets it be.
    pub audience: Option<String>,
    /// When its tokens are renewed.
    pub renewal: Renewal,
    /// The workloads that may ask for its tokens; nobody else may.
    pub allowed: Vec<Workload>,
    /// The workloads that may ask for the tokens of users who have called them; nobody else may.
    pub on_behalf: Vec<OnBehalf>,
    /// Whether those users must be signed in here at that moment.
    pub needs_live_session: bool,
}

/// A workload that may act for the users who have called it.
#[derive(Clone, Debug)]
pub struct OnBehalf {
    /// The workload.
    pub workload: Workload,
    /// The audience that says that a user's token was made for it.
    pub audience: String,
}

/// How model tokens are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelGrant {
    /// The client acts for itself (RFC 6749 section 4.4): one token for all.
    ClientCredentials,
    /// The client acts for the user, whose token of the first realm is the assertion (RFC 7523 section 2.1): the token
    /// names the same user.
    JwtAuthorization,
    /// The user's token is exchanged in its own realm for one that is good for another audience only (RFC 8693
    /// section 2.1).
    TokenExchange,
}

impl ModelClient {
    /// Whether this workload may ask for its tokens.
    pub fn allows(&self, workload: &Workload) -> bool {
        self.settings.allowed.contains(workload)
    }

    /// Whether it gets tokens of users.
    pub fn acts_for_users(&self) -> bool {
        self.settings.grants.iter().any(|grant| *grant != ModelGrant::ClientCredentials)
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { scope: &self.settings.scope, audience: self.settings.audience.as_deref() }
    }
}
