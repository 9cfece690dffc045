//! An OpenID provider that misbehaves on command, for what a real Keycloak cannot be made to do.
//!
//! It runs in the test's process. Left alone it behaves well: it signs in without a page whoever the test says, and
//! rotates refresh tokens as Keycloak does with `revokeRefreshToken`. Everything can be changed while it runs.

mod behaviour;
mod claims;
mod client_grants;
mod edits;
mod endpoints;
mod fault;
mod grants;
mod logout_token;
mod pace;
mod record;
mod signing;
mod token_endpoint;

pub use fault::Fault;
pub use logout_token::LOGOUT_TOKEN;
pub use record::Parameters;
pub use signing::{sign_hs256, sign_none};

use crate::ports;
use behaviour::Behaviour;
use edits::Edits;
use fault::Faults;
use grants::Grants;
use pace::Pace;
use record::Record;
use signing::Keys;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A running provider. Dropping it ends it: no new connection is accepted, and those that exist are closed after the
/// answer that is under way.
pub struct Provider {
    core: Arc<Core>,
    _alive: oneshot::Sender<()>,
}

/// What the endpoints share with the test.
struct Core {
    issuer: String,
    keys: Keys,
    behaviour: Behaviour,
    pace: Pace,
    faults: Faults,
    edits: Edits,
    grants: Grants,
    record: Record,
}

impl Provider {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        let port = ports::free();
        let core = Arc::new(Core {
            issuer: format!("http://127.0.0.1:{port}"),
            keys: Keys::new(),
            behaviour: Behaviour::default(),
            pace: Pace::default(),
            faults: Faults::default(),
            edits: Edits::default(),
            grants: Grants::default(),
            record: Record::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("provider, port {port}: {error}"));
        let app = endpoints::router(Arc::clone(&core));
        let (alive, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            // Nothing is ever sent: the wait is over when the sender is dropped.
            let serve = axum::serve(listener, app).with_graceful_shutdown(async { drop(ended.await) });
            serve.await.expect("the provider serves until it is dropped");
        });
        Self { core, _alive: alive }
    }

    /// Its issuer identifier, which is its address as well.
    pub fn issuer(&self) -> &str {
        &self.core.issuer
    }

    /// Takes back every fault, delay and edit, releases what is held and publishes the key that it signs with. Who
    /// signs in and how long access tokens live stays.
    pub fn behave(&self) {
        self.core.faults.clear();
        self.core.pace.clear();
        self.core.edits.clear();
        self.core.keys.publish();
    }
}

/// The time in Unix seconds.
fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs()
}

#[cfg(test)]
mod tests;
