use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, FromRedisValue, Pipeline, PushInfo, PushKind, RedisError, RedisResult,
    ScriptInvocation, ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Cache, Keys, RedisSettings, Shared, scripts};
use crate::session::StoreError;

/// How often the server is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long after the last sign of life the sessions at hand still count as the server's own. A connection that is half
/// open tells of no change and of no end.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How long requests wait for a connection that was lost just now, before they are told so.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between tries to connect: short, as nothing works without, and growing to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The connection to the server, made anew whenever it is lost.
pub(super) struct Link {
    current: ArcSwapOption<Live>,
    changes: watch::Sender<()>,
    /// When the connection was lost, in milliseconds since `start`.
    lost_at: AtomicU64,
    start: Instant,
}

/// A connection that stands, over which the server tells of every change.
pub(super) struct Live {
    connection: MultiplexedConnection,
    closed: CancellationToken,
    /// When the last heartbeat that was answered had been sent, in milliseconds since the link's start.
    alive_at: AtomicU64,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            changes: watch::Sender::new(()),
            lost_at: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// Whether nothing can have changed at the server that this process was not told of, but for the last second.
    pub(super) fn is_fresh(&self) -> bool {
        let current = self.current.load();
        current.as_ref().is_some_and(|live| {
            let alive_at = Duration::from_millis(live.alive_at.load(Ordering::Acquire));
            self.start.elapsed() < alive_at + LONGEST_SILENCE
        })
    }

    /// How long the server has been away; zero while it is there.
    pub(super) fn away_for(&self) -> Duration {
        if self.current.load().is_some() {
            return Duration::ZERO;
        }
        self.start.elapsed().saturating_sub(Duration::from_millis(self.lost_at.load(Ordering::Acquire)))
    }

    /// The connection. One that was lost just now is waited for.
    pub(super) async fn live(&self) -> Result<Arc<Live>, StoreError> {
        if let Some(live) = self.current.load_full() {
            return Ok(live);
        }
        let mut changes = self.changes.subscribe();
        let end = self.start + Duration::from_millis(self.lost_at.load(Ordering::Acquire)) + PATIENCE;
        loop {
            if let Some(live) = self.current.load_full() {
                return Ok(live);
            }
            if !matches!(timeout_at(end, changes.changed()).await, Ok(Ok(()))) {
                return Err(StoreError::Away("no connection"));
            }
        }
    }

    async fn connect(
        &self,
        settings: &RedisSettings,
        keys: &Keys,
        cache: &Arc<Cache>,
    ) -> Result<Live, Box<dyn std::error::Error + Send + Sync>> {
        let closed = CancellationToken::new();
        let alive_at = AtomicU64::new(self.now());
        let pushes = (Arc::clone(cache), keys.clone(), closed.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER))
            .set_push_sender(move |push: PushInfo| {
                let (cache, keys, closed) = &pushes;
                heed(push, cache, keys, closed);
                Ok::<(), std::convert::Infallible>(())
            });
        let client = settings.client().await?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(keys.sessions_prefix());
        tracking.exec_async(&mut connection).await?;
        scripts::load(&mut connection).await?;
        Ok(Live { connection, closed, alive_at })
    }

    /// Asks for signs of life until there are none.
    async fn heartbeats(&self, live: &Live) {
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = live.connection.clone();
        loop {
            let sent = self.now();
            let ping = redis::cmd("PING");
            let answer = tokio::select! {
                answer = timeout(LONGEST_SILENCE, ping.exec_async(&mut connection)) => answer,
                () = live.closed.cancelled() => return,
            };
            if !matches!(answer, Ok(Ok(()))) {
                return;
            }
            live.alive_at.store(sent, Ordering::Release);
            tokio::select! {
                _ = ticks.tick() => {}
                () = live.closed.cancelled() => return,
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Shared {
    /// Keeps the connection up until it is stopped.
    pub(super) async fn keep_connected(&self) {
        let Self { link, settings, keys, cache, .. } = self;
        let mut pause = Duration::ZERO;
        loop {
            match timeout(CONNECT, link.connect(settings, keys, cache)).await {
                Ok(Ok(live)) => {
                    // From here on every change is told; what is at hand may be older.
                    cache.begin();
                    // Before anybody else gets the connection and asks for what these writes change.
                    self.write_pending(&live).await;
                    tracing::info!("the session store is there");
                    let live = Arc::new(live);
                    link.current.store(Some(Arc::clone(&live)));
                    link.changes.send_replace(());
                    link.heartbeats(&live).await;
                    link.lost_at.store(link.now(), Ordering::Release);
                    link.current.store(None);
                    live.closed.cancel();
                    tracing::warn!("the connection to the session store is lost");
                    pause = Duration::ZERO;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the session store cannot be reached"),
                Err(_) => tracing::warn!("the session store does not answer"),
            }
            sleep(pause).await;
            pause = (pause * 2).clamp(Duration::from_millis(20), LONGEST_PAUSE);
        }
    }
}

impl Live {
    /// Sends commands and gives their answers.
    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        self.answer(pipeline.query_async(&mut connection)).await
    }

    /// Runs a script and gives its answer.
    pub(super) async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        self.answer(script.invoke_async(&mut connection)).await
    }

    async fn answer<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> Result<T, StoreError> {
        tokio::select! {
            answer = answer => answer.map_err(|error| self.failed(&error)),
            () = self.closed.cancelled() => Err(StoreError::Away("the connection was lost")),
        }
    }

    fn failed(&self, error: &RedisError) -> StoreError {
        if let redis::ErrorKind::Server(kind) = error.kind() {
            // A server that may not write any more is another's replica by now.
            if kind == ServerErrorKind::ReadOnly || kind == ServerErrorKind::MasterDown {
                self.closed.cancel();
            }
            tracing::warn!(%error, "the session store refuses");
            return StoreError::Away("the server refuses");
        }
        if error.is_timeout() { StoreError::Away("no answer") } else { StoreError::Away("no connection") }
    }
}

/// Does what the server says unasked, before any answer that it sends afterwards is read.
fn heed(push: PushInfo, cache: &Cache, keys: &Keys, closed: &CancellationToken) {
    match push.kind {
        PushKind::Invalidate => match push.data.into_iter().next() {
            Some(redis::Value::Array(changed)) => {
                for key in changed {
                    match keys.session_of(&key) {
                        Some(key) => cache.invalidate(&key),
                        None => cache.begin(),
                    }
                }
            }
            // Everything was deleted.
            _ => cache.begin(),
        },
        PushKind::Disconnection => closed.cancel(),
        _ => {}
    }
}
