use std::{sync::Arc, time::Duration};

use super::Workload;
use crate::oidc::{Provider, Wanted};

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
    pub lifetimes: ModelLifetimes,
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

/// How tokens of a second realm are obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelGrant {
    /// The client acts for itself (RFC 6749 section 4.4): one token for all.
    ClientCredentials,
    /// The client acts for the user, whose token of the first realm is the assertion (RFC 7523 section 2.1): the token
    /// names the same user.
    JwtAuthorization,
}

/// When tokens of a second realm are renewed.
#[derive(Clone, Copy, Debug)]
pub struct ModelLifetimes {
    /// A token with less life than this is renewed in the background; never earlier than when a third of its life is
    /// left.
    pub ahead: Duration,
    /// A token with less life than this is not handed out.
    pub least_life: Duration,
}

impl ModelClient {
    /// Whether this workload may ask for its tokens.
    pub fn allows(&self, workload: &Workload) -> bool {
        self.settings.allowed.contains(workload)
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { scope: &self.settings.scope, audience: self.settings.audience.as_deref() }
    }
}
