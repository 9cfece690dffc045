//! Start, drain and stop: binds the listeners, wires the rooms together, and ends them in order.

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    future::Future,
    io,
    sync::Arc,
    time::Duration,
};

use futures_util::stream;
use secrecy::SecretString;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    server::NamedService,
    transport::{
        Server,
        server::{Router, TcpIncoming},
    },
};
use tonic_health::ServingStatus;

use crate::{
    authz::{AuthorizationService, api::envoy::service::auth::v3::authorization_server::AuthorizationServer},
    clock::{SharedClock, SystemClock},
    config::{
        Config, DEFAULT_CALL_TIMEOUT, Listener, ModelConfig, ServiceAccountsConfig, VerifiedBy,
        WorkloadsConfig,
    },
    crypto::{KeyRing, SharedRandom, SystemRandom},
    flow::{ExchangedTokens, Flows, Refresher, renderer},
    listen::{ListenAddress, Socket, TlsListener},
    model_tokens::{ModelClient, ModelTokens, Pods, ServiceAccounts, TokenReviews, Workloads},
    oidc::{HttpClient, Provider, SIGNATURE_ALGORITHMS, TokenIssuer},
    policy::{Frontends, Site},
    session::{MemoryStore, SessionStore, redis::RedisStore},
    web,
};

/// How often expired sessions and transactions are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The name under which the health of the authorization service is asked for.
const AUTHORIZATION: &str = <AuthorizationServer<AuthorizationService> as NamedService>::NAME;

/// A socket, with or without TLS on it.
enum Door {
    Open(Socket),
    Tls(TlsListener),
}

impl Door {
    async fn open(listener: &Listener) -> Result<Self, StartError> {
        let socket = Socket::bind(&listener.address).await?;
        Ok(match (socket, &listener.tls) {
            (Socket::Tcp(socket), Some(tls)) => Self::Tls(TlsListener::new(socket, tls.clone())?),
            (socket, _) => Self::Open(socket),
        })
    }
}

type StartError = Box<dyn Error + Send + Sync>;

/// Serves until SIGTERM or SIGINT, then drains: health says NOT_SERVING first, what is under way finishes within
/// `sessions.drain`, and a second signal ends everything at once.
///
/// # Errors
/// When a listener cannot be bound or the system refuses what a start needs.
pub async fn serve(config: Config) -> Result<(), StartError> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut signalled = async || tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} };

    let addresses = config.listeners.clone();
    let drain = config.sessions.drain;
    let grpc = Door::open(&addresses.grpc).await?;
    let browser = Door::open(&addresses.browser).await?;
    let internal = match &addresses.internal {
        Some(listener) => Some(Door::open(listener).await?),
        None => None,
    };
    let tasks = TaskTracker::new();
    let flows = Arc::new(flows(config, tasks.clone())?);
    let stop = CancellationToken::new();

    let (mut health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(AUTHORIZATION, ServingStatus::Serving).await;
    let authorization = AuthorizationServer::new(AuthorizationService::new(Arc::clone(&flows)));
    let router = Server::builder().add_service(health_service).add_service(authorization);
    let servers = TaskTracker::new();
    servers.spawn(report("gRPC", serve_grpc(router, grpc, stop.clone())));
    let service = web::browser(Arc::clone(&flows));
    servers.spawn(report("browser", serve_http(service, browser, stop.clone())));
    if let Some(listener) = internal {
        let service = web::internal(Arc::clone(&flows));
        servers.spawn(report("internal", serve_http(service, listener, stop.clone())));
    }
    servers.close();
    let sweep = tokio::spawn(sweep(Arc::clone(&flows)));
    let (grpc, browser) = (&addresses.grpc.address, &addresses.browser.address);
    tracing::info!(%grpc, %browser, "ready");

    tokio::select! {
        () = signalled() => {}
        () = servers.wait() => return Err("every listener has failed".into()),
    }
    tracing::info!("stopping");
    for service in ["", AUTHORIZATION] {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
    stop.cancel();
    // Ends the streams of those who watch the health, which would hold the server open for as long as it may drain.
    health.clear_service_status("").await;
    health.clear_service_status(AUTHORIZATION).await;
    let finished = timeout(drain, async {
        servers.wait().await;
        tasks.close();
        tasks.wait().await;
        flows.sessions.finish().await;
    });
    tokio::select! {
        result = finished => if result.is_err() { tracing::warn!("stopped before everything had finished") },
        () = signalled() => tracing::warn!("stopped at once by a second signal"),
    }
    sweep.abort();
    for listener in [&addresses.grpc, &addresses.browser].into_iter().chain(&addresses.internal) {
        if let ListenAddress::Unix(path) = &listener.address {
            let _ = std::fs::remove_file(path);
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// Wires the rooms together. Nothing is asked of a provider yet: it may be away, and the program serves all the same.
fn flows(config: Config, tasks: TaskTracker) -> Result<Flows, StartError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let random: SharedRandom = Arc::new(SystemRandom);
    let http = HttpClient::new(DEFAULT_CALL_TIMEOUT)?;
    let mut providers = HashMap::new();
    for provider in config.providers {
        let http = http.with_call_timeout(provider.call_timeout);
        let name = Arc::clone(&provider.settings.name);
        providers.insert(
            name,
            Arc::new(Provider::new(provider.settings, http, Arc::clone(&random), Arc::clone(&clock))),
        );
    }
    let key_ring = Arc::new(match config.key_ring {
        Some(key_ring) => key_ring,
        None => KeyRing::new(vec![SecretString::from(random.token()?)]).ok_or("no key ring")?,
    });
    let sessions = Arc::new(match config.sessions.redis {
        Some(redis) => SessionStore::Redis(RedisStore::start(
            redis,
            Arc::clone(&key_ring),
            renderer(&config.sites),
            Arc::clone(&random),
            Arc::clone(&clock),
        )),
        None => SessionStore::Memory(MemoryStore::new(config.sessions.maximum, Arc::clone(&clock))),
    });
    let model_tokens = ModelTokens::new(
        model_clients(config.models, &providers)?,
        workloads(config.workloads, &http, &clock)?,
        config.sessions.maximum,
        tasks.clone(),
        Arc::clone(&clock),
    );
    let audiences = exchange_audiences(&config.sites);
    let exchanged_tokens = ExchangedTokens::new(
        config.sessions.maximum.saturating_mul(audiences),
        tasks.clone(),
        Arc::clone(&clock),
    );
    let refresher = Refresher::new(
        Arc::clone(&sessions),
        config.sessions.refresh,
        tasks,
        Arc::clone(&random),
        Arc::clone(&clock),
    );
    Ok(Flows {
        frontends: Frontends::new(config.sites),
        providers,
        sessions,
        key_ring,
        refresher: Arc::new(refresher),
        model_tokens,
        exchanged_tokens,
        random,
        clock,
    })
}

/// For how many audiences tokens of one session may be exchanged.
fn exchange_audiences(sites: &[Site]) -> usize {
    let audiences = sites.iter().flat_map(|site| site.frontend.rules.exchange_audiences());
    audiences.collect::<HashSet<_>>().len().max(1)
}

fn workloads(
    config: WorkloadsConfig,
    http: &HttpClient,
    clock: &SharedClock,
) -> Result<Workloads, StartError> {
    let pods = match config.service_accounts {
        Some(cluster) => Some(pods(cluster, http, Arc::clone(clock))?),
        None => None,
    };
    Ok(Workloads { mesh_hosts: config.mesh_hosts, keys: config.keys, pods })
}

fn pods(cluster: ServiceAccountsConfig, http: &HttpClient, clock: SharedClock) -> Result<Pods, StartError> {
    let http = cluster.http.unwrap_or_else(|| http.clone());
    let (audience, token_file) = (cluster.audience, cluster.token_file);
    Ok(match cluster.verified_by {
        VerifiedBy::Issuer { issuer, jwks_uri } => {
            let algorithms = SIGNATURE_ALGORITHMS.to_vec();
            let keys = TokenIssuer::new(issuer, jwks_uri, http, token_file, algorithms, Arc::clone(&clock));
            Pods::Keys(ServiceAccounts::new(keys, audience, clock))
        }
        VerifiedBy::ApiServer(server) => {
            let token_file = token_file.ok_or("no token to ask the API server with")?;
            Pods::Reviews(TokenReviews::new(&server, audience, http, token_file, clock)?)
        }
    })
}

fn model_clients(
    models: Vec<ModelConfig>,
    providers: &HashMap<Arc<str>, Arc<Provider>>,
) -> Result<Vec<ModelClient>, StartError> {
    let client = |model: ModelConfig| {
        let provider = Arc::clone(providers.get(&model.provider).ok_or("a model has no provider")?);
        Ok(ModelClient { settings: model.settings, provider })
    };
    models.into_iter().map(client).collect()
}

async fn serve_grpc(router: Router, door: Door, stop: CancellationToken) -> Result<(), StartError> {
    let stopped = stop.cancelled_owned();
    match door {
        Door::Open(Socket::Tcp(listener)) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, stopped).await?;
        }
        Door::Open(Socket::Unix(listener)) => {
            router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped).await?;
        }
        Door::Tls(listener) => {
            let incoming = stream::unfold(listener, async |mut listener| {
                let connection = listener.next().await?;
                Some((Ok::<_, io::Error>(connection), listener))
            });
            router.serve_with_incoming_shutdown(incoming, stopped).await?;
        }
    }
    Ok(())
}

async fn serve_http(service: axum::Router, door: Door, stop: CancellationToken) -> Result<(), StartError> {
    let stopped = stop.cancelled_owned();
    match door {
        Door::Open(Socket::Tcp(listener)) => {
            axum::serve(listener, service).with_graceful_shutdown(stopped).await?;
        }
        Door::Open(Socket::Unix(listener)) => {
            axum::serve(listener, service).with_graceful_shutdown(stopped).await?;
        }
        Door::Tls(listener) => axum::serve(listener, service).with_graceful_shutdown(stopped).await?,
    }
    Ok(())
}

async fn report(name: &str, server: impl Future<Output = Result<(), StartError>>) {
    if let Err(error) = server.await {
        tracing::error!(listener = name, %error, "a listener failed");
    }
}

async fn sweep(flows: Arc<Flows>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        flows.sessions.remove_expired();
        flows.model_tokens.remove_expired();
        flows.exchanged_tokens.remove_expired();
    }
}
