//! A provider that does as it is told, and flows over it, for tests that must make a fault or move time.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, response::IntoResponse, routing::get};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::task::TaskTracker;

use super::{ExchangedTokens, Flows, RefreshSettings, Refresher};
use crate::{
    clock::{Clock, ManualClock, SharedClock},
    crypto::{KeyRing, SharedRandom, SystemRandom},
    model_tokens::{ModelTokens, Workloads},
    oidc::{ClientAuthentication, HttpClient, Provider, ProviderSettings, SIGNATURE_ALGORITHMS, TokenSet},
    policy::{self, Frontends, Site},
    session::{Lifetimes, MemoryStore, NewSession, Session, SessionId, SessionStore},
};

pub(crate) const ORIGIN: &str = "https://app.example.com";
pub(crate) const HOST: &str = "app.example.com";
pub(crate) const TOKEN_LIFETIME: u64 = 60;

/// The frontend `app` at `origin`.
pub(crate) fn site(origin: &str) -> Site {
    policy::test_support::site(origin, &[])
}

/// A provider on a port of its own.
pub(crate) struct FakeProvider {
    pub(crate) issuer: String,
    shared: Arc<Shared>,
}

struct Shared {
    calls: AtomicUsize,
    answer: Mutex<(u16, Value)>,
    /// Every call to the token endpoint uses up a permit.
    gate: Semaphore,
    under_way: AtomicUsize,
    most_at_once: AtomicUsize,
    /// The refresh tokens that were presented, in their order.
    presented: Mutex<Vec<String>>,
    revocations: AtomicUsize,
}

impl FakeProvider {
    /// A provider that answers at once with new tokens.
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            calls: AtomicUsize::new(0),
            answer: Mutex::new((200, Value::Null)),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            under_way: AtomicUsize::new(0),
            most_at_once: AtomicUsize::new(0),
            presented: Mutex::default(),
            revocations: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let document = json!({
            "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/keys"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "response_types_supported": ["code"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { document.to_string() }))
            .route("/token", axum::routing::post(token))
            .route("/revoke", axum::routing::post(revoke))
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { issuer, shared }
    }

    /// How often the token endpoint was called.
    pub(crate) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// What the token endpoint answers from now on; null stands for new tokens.
    pub(crate) fn answer(&self, status: u16, body: Value) {
        *self.shared.answer.lock() = (status, body);
    }

    /// Holds every call to the token endpoint until [`FakeProvider::open`].
    pub(crate) fn close(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// Lets calls through again.
    pub(crate) fn open(&self) {
        self.admit(1000);
    }

    /// Lets `count` more calls through.
    pub(crate) fn admit(&self, count: usize) {
        self.shared.gate.add_permits(count);
    }

    /// The largest number of calls to the token endpoint that were under way at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }

    /// How many tokens were revoked.
    pub(crate) fn revocations(&self) -> usize {
        self.shared.revocations.load(Ordering::SeqCst)
    }

    /// The refresh tokens that were presented, in their order.
    pub(crate) fn presented(&self) -> Vec<String> {
        self.shared.presented.lock().clone()
    }
}

async fn token(State(shared): State<Arc<Shared>>, form: String) -> impl IntoResponse {
    let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_at_once.fetch_max(under_way, Ordering::SeqCst);
    let token = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "refresh_token");
    shared.presented.lock().extend(token.map(|(_, token)| token.into_owned()));
    let call = shared.calls.fetch_add(1, Ordering::SeqCst) + 1;
    shared.gate.acquire().await.unwrap().forget();
    shared.under_way.fetch_sub(1, Ordering::SeqCst);
    let (status, body) = shared.answer.lock().clone();
    let tokens = json!({
        "access_token": format!("access-{call}"), "token_type": "Bearer", "expires_in": TOKEN_LIFETIME,
        "refresh_token": format!("refresh-{call}"), "refresh_expires_in": 1800,
    });
    let body = if body.is_null() { tokens } else { body };
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], body.to_string())
}

async fn revoke(State(shared): State<Arc<Shared>>) {
    shared.revocations.fetch_add(1, Ordering::SeqCst);
}

/// Flows over one provider, with a clock that stands still.
pub(crate) struct TestFlows {
    pub(crate) flows: Arc<Flows>,
    pub(crate) clock: Arc<ManualClock>,
}

/// Flows for the frontend `site` whose provider is `issuer`.
pub(crate) fn flows(site: Site, issuer: &str) -> TestFlows {
    flows_over(site, issuer, |clock| SessionStore::Memory(MemoryStore::new(100, clock)))
}

/// The same over another store.
pub(crate) fn flows_over(
    site: Site,
    issuer: &str,
    sessions: impl FnOnce(SharedClock) -> SessionStore,
) -> TestFlows {
    let manual = ManualClock::starting_at(1_700_000_000);
    let clock: SharedClock = manual.clone();
    let random: SharedRandom = Arc::new(SystemRandom);
    let settings = ProviderSettings {
        name: Arc::clone(&site.frontend.provider),
        issuer: issuer.into(),
        client_id: "bff".to_owned(),
        client_authentication: ClientAuthentication::SecretBasic("secret".into()),
        scopes: vec!["openid".to_owned()],
        signature_algorithms: SIGNATURE_ALGORITHMS.to_vec(),
        trusted_audiences: Vec::new(),
        clock_skew: Duration::from_secs(10),
        metadata_lifetime: Duration::from_secs(600),
        keys_lifetime: Duration::from_secs(600),
        concurrent_refreshes: 32,
    };
    let http = HttpClient::new(Duration::from_secs(15)).unwrap();
    let provider = Arc::new(Provider::new(settings, http, Arc::clone(&random), Arc::clone(&clock)));
    let sessions = Arc::new(sessions(Arc::clone(&clock)));
    let refresh = RefreshSettings {
        ahead: Duration::from_secs(20),
        least_life: Duration::from_secs(5),
        wait: Duration::from_secs(5),
    };
    let tasks = TaskTracker::new();
    let refresher =
        Refresher::new(Arc::clone(&sessions), refresh, tasks, Arc::clone(&random), Arc::clone(&clock));
    let flows = Flows {
        providers: HashMap::from([(Arc::clone(&site.frontend.provider), provider)]),
        frontends: Frontends::new(vec![site]),
        sessions,
        key_ring: Arc::new(KeyRing::new(vec!["0123456789abcdef0123456789abcdef".into()]).unwrap()),
        model_tokens: ModelTokens::new(
            Vec::new(),
            Workloads::default(),
            10,
            TaskTracker::new(),
            Arc::clone(&clock),
        ),
        exchanged_tokens: ExchangedTokens::new(10, TaskTracker::new(), Arc::clone(&clock)),
        refresher: Arc::new(refresher),
        random,
        clock,
    };
    TestFlows { flows: Arc::new(flows), clock: manual }
}

impl TestFlows {
    /// The store.
    pub(crate) fn memory(&self) -> &MemoryStore {
        match &*self.flows.sessions {
            SessionStore::Memory(memory) => memory,
            SessionStore::Redis(_) => panic!("the sessions are not in memory"),
        }
    }

    /// A session of the frontend `app` that has just begun, and its `Cookie` line.
    pub(crate) fn sign_in(&self, access_claims: &Value) -> (Arc<Session>, String) {
        self.sign_in_as("alice", "sid", access_claims)
    }

    /// A session of this user within this session at the provider.
    pub(crate) fn sign_in_as(&self, sub: &str, sid: &str, access_claims: &Value) -> (Arc<Session>, String) {
        let site = self.flows.frontends.find(HOST).unwrap();
        let payload = crate::crypto::base64url(access_claims.to_string().as_bytes());
        let set = TokenSet {
            access_token: format!("header.{payload}.signature").into(),
            expires_in: Some(Duration::from_secs(TOKEN_LIFETIME)),
            refresh_token: Some(format!("refresh-of-{}", self.memory().len()).into()),
            refresh_expires_in: Some(Duration::from_secs(1800)),
            id_token: Some("id-token".into()),
            scope: None,
        };
        let now = self.clock.now();
        let id_claims = json!({
            "sub": sub, "sid": sid, "iat": now.as_unix(), "auth_time": now.as_unix(), "acr": "silver",
        });
        let id_claims: Map<String, Value> = id_claims.as_object().cloned().unwrap();
        let new = NewSession {
            handle: format!("handle-{}", self.memory().len()),
            frontend: Arc::clone(&site.frontend.name),
            provider: Arc::clone(&site.frontend.provider),
            issuer: self.flows.providers[&site.frontend.provider].settings().issuer.clone(),
            subject: sub.to_owned(),
            provider_session: Some(sid.to_owned()),
            tokens: super::token_building::at_login(&site.frontend, set, id_claims, now).unwrap(),
            lifetimes: Lifetimes { idle: Duration::from_secs(600), absolute: Duration::from_secs(6000) },
        };
        let session = Arc::new(Session::new(new, now));
        let id = SessionId::random(&SystemRandom).unwrap();
        self.memory().insert(&id, Arc::clone(&session)).unwrap();
        (session, format!("__Host-session={}", id.cookie_value()))
    }
}
