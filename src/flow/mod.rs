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
mod store_away_tests;
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
pub use token_building::renderer;
pub use workload_tokens::{GivenToken, MODEL_TOKENS_PATH, MeshAnswer, WorkloadRefusal, log_workload_token};

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    clock::SharedClock,
    crypto::{KeyRing, SharedRandom},
    model_tokens::ModelTokens,
    oidc::Provider,
    policy::{Frontends, Refusal, Request, Site},
    session::{Session, SessionId, SessionStore, StoreError},
};

/// Everything that the flows work with.
pub struct Flows {
    /// The frontends by host.
    pub frontends: Frontends,
    /// The providers by name.
    pub providers: HashMap<Arc<str>, Arc<Provider>>,
    /// The sessions, and what must be remembered along with them.
    pub sessions: Arc<SessionStore>,
    /// What seals login transactions.
    pub key_ring: Arc<KeyRing>,
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
    ///
    /// # Errors
    /// [`StoreError`] when nobody can say whether there is one.
    async fn session(
        &self,
        site: &Site,
        request: &Request<'_>,
    ) -> Result<Option<(SessionId, Arc<Session>)>, StoreError> {
        let cookie = request.cookies.unambiguous(&site.frontend.cookie.name);
        let Some(id) = cookie.and_then(SessionId::parse) else { return Ok(None) };
        let session = self.sessions.get(&id).await?;
        let own = session.filter(|session| session.frontend == site.frontend.name);
        Ok(own.map(|session| (id, session)))
    }
}

/// How long a client should wait that was turned away because the sessions cannot be read.
const RETRY_WITHOUT_STORE: Duration = Duration::from_secs(1);

impl From<StoreError> for Refusal {
    fn from(_: StoreError) -> Self {
        Self::Unavailable { retry_after: RETRY_WITHOUT_STORE }
    }
}
