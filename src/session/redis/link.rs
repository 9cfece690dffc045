use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{ConnectionInfo, RedisError};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};

use super::{
    Shared, Way,
    live::{Live, heed},
    sentinel,
    settings::ConnectError,
};
use crate::session::StoreError;

/// How often the server is asked for a sign of life.
const HEARTBEAT: Duration = Duration::from_millis(250);

/// How long after the last sign of life the sessions at hand still count as the server's own. A connection that is half
/// open tells of no change and of no end.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);

/// How long a connection may take to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

/// How long requests wait for a connection that was lost just now, before they are told so.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between tries to connect: short, as nothing works without, and growing to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The connection to one server, made anew whenever it is lost.
pub(super) struct Link {
    place: Place,
    current: ArcSwapOption<Live>,
    changes: watch::Sender<()>,
    /// When the connection was lost, in milliseconds since `start`.
    lost_at: AtomicU64,
    start: Instant,
}

/// Where a link leads.
pub(super) enum Place {
    /// To this server.
    Server(ConnectionInfo),
    /// To whichever server these Sentinels say is the master of this name.
    Master(Vec<ConnectionInfo>, String),
    /// To this node of a cluster, of which there are others.
    Node(ConnectionInfo),
}

impl Link {
    pub(super) fn new(place: Place) -> Self {
        Self {
            place,
            current: ArcSwapOption::empty(),
            changes: watch::Sender::new(()),
            lost_at: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// Whether nothing can have changed at the server that this process was not told of, but for the last second.
    pub(super) fn is_fresh(&self) -> bool {
        let current = self.current.load();
        current.as_ref().is_some_and(|live| self.start.elapsed() < live.alive_at() + LONGEST_SILENCE)
    }

    /// How long the server has been away; zero while it is there.
    pub(super) fn away_for(&self) -> Duration {
        if self.current.load().is_some() {
            return Duration::ZERO;
        }
        self.start.elapsed().saturating_sub(Duration::from_millis(self.lost_at.load(Ordering::Acquire)))
    }

    /// The connection, if it stands.
    pub(super) fn current(&self) -> Option<Arc<Live>> {
        self.current.load_full()
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

    async fn connect(&self, shared: &Shared) -> Result<Live, ConnectError> {
        let (settings, keys) = (&shared.settings, &shared.keys);
        let (server, is_replicated) = match &self.place {
            Place::Server(server) => (server.clone(), false),
            Place::Master(sentinels, name) => (sentinel::master(settings, sentinels, name).await?, true),
            Place::Node(node) => (node.clone(), true),
        };
        let client = settings.client(&server).await?;
        let pushes = (Arc::clone(&shared.cache), keys.clone());
        let heed = move |push, closed: &_| heed(push, &pushes.0, &pushes.1, closed);
        let live = Live::connect(&client, is_replicated, self.now(), heed).await?;
        if let Place::Master(..) = self.place {
            live.is_master().await?;
        }
        live.track(&keys.sessions_prefix()).await?;
        Ok(live)
    }

    /// Asks for signs of life until there are none.
    async fn heartbeats(&self, live: &Live) {
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sent = self.now();
            match timeout(LONGEST_SILENCE, live.ping()).await {
                Ok(Ok(())) => live.set_alive_at(sent),
                _ => return,
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn publish(&self, live: Option<Arc<Live>>) {
        if live.is_none() {
            let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
            self.lost_at.store(now, Ordering::Release);
        }
        self.current.store(live);
        self.changes.send_replace(());
    }
}

impl Shared {
    /// Keeps a link's connection up until it is stopped.
    pub(super) async fn keep_connected(&self, link: &Link) {
        let mut pause = Duration::ZERO;
        loop {
            match timeout(CONNECT, link.connect(self)).await {
                Ok(Ok(live)) => {
                    // From here on every change is told; what is at hand may be older.
                    self.cache.begin();
                    self.use_connection(link, Arc::new(live)).await;
                    pause = Duration::ZERO;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the session store cannot be reached"),
                Err(_) => tracing::warn!("the session store does not answer"),
            }
            sleep(pause).await;
            pause = (pause * 2).clamp(Duration::from_millis(20), LONGEST_PAUSE);
        }
    }

    async fn use_connection(&self, link: &Link, live: Arc<Live>) {
        let is_one_of_many = matches!(link.place, Place::Node(_));
        if !is_one_of_many {
            // Before anybody else gets the connection and asks for what these writes change.
            self.write_again(Way::Over(&live)).await;
        }
        tracing::info!("the session store is there");
        link.publish(Some(Arc::clone(&live)));
        let later = async {
            if is_one_of_many {
                self.write_again(Way::By(&self.servers)).await;
            }
        };
        tokio::join!(
            async {
                tokio::select! {
                    () = link.heartbeats(&live) => {}
                    () = live.closed() => {}
                }
                link.publish(None);
                live.close();
                tracing::warn!("the connection to the session store is lost");
            },
            later
        );
    }

    /// Writes what could not be written, and what a server that took over may not have got.
    async fn write_again(&self, way: Way<'_>) {
        self.write_recent(way).await;
        self.write_pending(way).await;
    }
}

/// What an error of a step becomes for whoever asked for it.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    if let redis::ErrorKind::Server(_) = error.kind() {
        tracing::warn!(%error, "the session store refuses");
        return StoreError::Away("the server refuses");
    }
    if error.is_timeout() { StoreError::Away("no answer") } else { StoreError::Away("no connection") }
}
