use std::{
    convert::Infallible,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    cache::Cache,
    keys::Keys,
    link::CONNECT,
    scripts::{self, Step},
    settings::ConnectError,
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a write that matters waits for one replica of the server to have it as well.
const REPLICATION: Duration = Duration::from_millis(100);

/// How long writes do not wait after no replica had one in time.
const NO_REPLICATION: Duration = Duration::from_secs(5);

/// A connection that stands, over which the server tells of every change.
pub(super) struct Live {
    connection: MultiplexedConnection,
    /// For writes that wait for a replica, so that nothing else waits behind them; where the server has replicas.
    waiting: Option<MultiplexedConnection>,
    closed: CancellationToken,
    /// When the last heartbeat that was answered had been sent, in milliseconds since the link's start.
    alive_at: AtomicU64,
    start: Instant,
    /// Until when no write waits, in milliseconds since `start`.
    alone_until: AtomicU64,
}

impl Live {
    pub(super) async fn connect(
        client: &redis::Client,
        is_replicated: bool,
        now: Duration,
        heed: impl Fn(PushInfo, &CancellationToken) + Send + Sync + 'static,
    ) -> Result<Self, ConnectError> {
        let closed = CancellationToken::new();
        let told = closed.clone();
        let config = || {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(ANSWER))
        };
        let listening = config().set_push_sender(move |push: PushInfo| {
            heed(push, &told);
            Ok::<(), Infallible>(())
        });
        let connection = client.get_multiplexed_async_connection_with_config(&listening).await?;
        let waiting = match is_replicated {
            true => Some(client.get_multiplexed_async_connection_with_config(&config()).await?),
            false => None,
        };
        let live = Self {
            connection,
            waiting,
            closed,
            alive_at: AtomicU64::new(0),
            start: Instant::now(),
            alone_until: AtomicU64::new(0),
        };
        live.set_alive_at(now);
        live.load().await?;
        Ok(live)
    }

    /// Has the server tell of every change below a prefix.
    pub(super) async fn track(&self, prefix: &str) -> RedisResult<()> {
        let mut tracking = redis::cmd("CLIENT");
        tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(prefix);
        tracking.exec_async(&mut self.connection.clone()).await
    }

    /// Refuses a server that only follows another one.
    pub(super) async fn is_master(&self) -> Result<(), ConnectError> {
        let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut self.connection.clone()).await?;
        let role: Option<String> = role.into_iter().next().map(redis::from_redis_value).transpose()?;
        if role.as_deref() == Some("master") {
            return Ok(());
        }
        Err(io::Error::other("the server is not the master yet").into())
    }

    pub(super) async fn ping(&self) -> RedisResult<()> {
        redis::cmd("PING").exec_async(&mut self.connection.clone()).await
    }

    /// Does a step.
    pub(super) async fn send<T: FromRedisValue>(&self, step: &Step) -> RedisResult<T> {
        let answer = self.unless_closed(self.write_or_read(step)).await;
        let answer = match answer {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.load().await?;
                self.unless_closed(self.write_or_read(step)).await
            }
            answer => answer,
        };
        if let Err(error) = &answer {
            let is_follower = matches!(
                error.kind(),
                ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
            );
            // Another server is the one to ask by now; or half of this connection is gone.
            if is_follower || error.is_connection_dropped() {
                self.closed.cancel();
            }
        }
        answer
    }

    /// Which node of a cluster has which slots.
    pub(super) async fn slots(&self) -> RedisResult<redis::Value> {
        redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut self.connection.clone()).await
    }

    /// Does a step for a slot of a cluster that is on its way here.
    pub(super) async fn ask<T: FromRedisValue>(&self, step: &Step) -> RedisResult<T> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").ignore().add_command(step.command.clone());
        let mut connection = self.connection.clone();
        let (answer,) = self.unless_closed(pipeline.query_async(&mut connection)).await?;
        Ok(answer)
    }

    async fn write_or_read<T: FromRedisValue>(&self, step: &Step) -> RedisResult<T> {
        match &self.waiting {
            Some(waiting) if step.matters => self.write(waiting.clone(), &step.command).await,
            _ => step.command.query_async(&mut self.connection.clone()).await,
        }
    }

    async fn write<T: FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
        write: &Cmd,
    ) -> RedisResult<T> {
        if self.now() < self.alone_until.load(Ordering::Acquire) {
            return write.query_async(&mut connection).await;
        }
        let mut pipeline = redis::pipe();
        pipeline.add_command(write.clone());
        pipeline.cmd("WAIT").arg(1).arg(millis(REPLICATION));
        let (answer, replicas): (T, u64) = pipeline.query_async(&mut connection).await?;
        if replicas == 0 {
            tracing::warn!("no replica of the session store had a write in time: a failover may lose it");
            self.alone_until.store(self.now() + millis(NO_REPLICATION), Ordering::Release);
        }
        Ok(answer)
    }

    async fn load(&self) -> RedisResult<()> {
        for script in scripts::all() {
            script.load_async(&mut self.connection.clone()).await?;
        }
        Ok(())
    }

    async fn unless_closed<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        tokio::select! {
            answer = answer => answer,
            () = self.closed.cancelled() => Err(RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe))),
        }
    }

    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// When the last heartbeat that was answered had been sent, since the link's start.
    pub(super) fn alive_at(&self) -> Duration {
        Duration::from_millis(self.alive_at.load(Ordering::Acquire))
    }

    pub(super) fn set_alive_at(&self, at: Duration) {
        self.alive_at.store(millis(at), Ordering::Release);
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Does what the server says unasked, before any answer that it sends afterwards is read.
pub(super) fn heed(push: PushInfo, cache: &Cache, keys: &Keys, closed: &CancellationToken) {
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
