//! What happens over several requests: login, callback, refresh, logout, and the check that ties them to a request.
//! The doors call in here with borrowed views and get plain answers back; nothing here knows protobuf or a web
//! framework.

mod backchannel_logout;
mod bulkhead;
mod callback;
mod check;
mod exchange;
mod frontchannel_logout;
mod login;
mod logout;
mod me;
mod on_behalf;
mod own_sessions;
mod refresh;
mod refresh_outcome;
mod revocation;
mod sign_out;
mod token_building;
mod transaction;
mod workload_tokens;

#[cfg(test)]
pub(crate) mod test_support;

pub use backchannel_logout::BackchannelLogoutError;
pub use callback::{CallbackError, CallbackFailure, CallbackOutcome};
pub use check::{Allow, Refused, SignedIn, UpstreamToken, Verdict};
pub use exchange::ExchangedTokens;
pub use login::{LoginError, LoginRequest, LoginStep};
pub use logout::{AtProvider, LogoutStep};
pub use me::{CurrentUser, CurrentUserError};
pub use on_behalf::OnBehalfError;
pub use own_sessions::{EndSessionError, EndedSession, OwnSession};
pub use refresh::{RefreshSettings, Refresher};
pub use sign_out::{SignOut, SignOutKey};
pub use workload_tokens::{GivenToken, MODEL_TOKENS_PATH, MeshAnswer, WorkloadRefusal, log_workload_token};

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    clock::SharedClock,
    crypto::{KeyRing, SharedRandom},
    model_tokens::ModelTokens,
    oidc::Provider,
    policy::{Frontends, Request, Site},
    session::{MemoryStore, Remembered, Session, SessionId, SessionKey},
};

/// Everything that the flows work with.
pub struct Flows {
    /// The frontends by host.
    pub frontends: Frontends,
    /// The providers by name.
    pub providers: HashMap<Arc<str>, Arc<Provider>>,
    /// The sessions.
    pub sessions: Arc<MemoryStore>,
    /// The login transactions that were used, by their hashes.
    pub used_transactions: Remembered<[u8; 32], ()>,
    /// The logout tokens that were used, by their hashes.
    pub used_logout_tokens: Remembered<[u8; 32], ()>,
    /// The latest sign-outs.
    pub sign_outs: Remembered<SignOutKey, SignOut>,
    /// What seals login transactions.
    pub key_ring: KeyRing,
    /// Renews tokens.
    pub refresher: Arc<Refresher>,
    /// Tokens of other realms.
    pub model_tokens: ModelTokens,
    /// Tokens of users that were exchanged for other audiences.
    pub exchanged_tokens: ExchangedTokens,
    /// The source of randomness.
    pub random: SharedRandom,
    /// The source of time.
    pub clock: SharedClock,
}

/// A change to the browser's cookies, to be written by a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieChange {
    /// The session cookie gets the id of a new session.
    SetSession(String),
    /// The session cookie goes.
    ClearSession,
    /// A cookie of our own, host-only and short-lived.
    Set {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// How long the browser keeps it.
        lifetime: Duration,
    },
    /// A cookie of our own goes.
    Clear(String),
}

impl Flows {
    /// The provider of a frontend. Configuration is refused if a frontend names none that exists.
    fn provider(&self, site: &Site) -> Option<&Arc<Provider>> {
        self.providers.get(&site.frontend.provider)
    }

    /// The live session that a request's cookie names at this frontend. The session of another frontend is none,
    /// under whatever cookie it arrives.
    fn session(&self, site: &Site, request: &Request<'_>) -> Option<(SessionKey, Arc<Session>)> {
        let cookie = request.cookies.unambiguous(&site.frontend.cookie.name)?;
        let key = SessionId::parse(cookie)?.key();
        let session = self.sessions.get(&key)?;
        (session.frontend == site.frontend.name).then_some((key, session))
    }
}
