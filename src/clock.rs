//! The only source of time. Everything that expires asks a [`Clock`] that it was given, so that tests move time
//! instead of waiting for it.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

/// A moment in whole seconds since the Unix epoch: the unit of every time claim in a JWT (RFC 7519 section 2,
/// NumericDate).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The moment `seconds` after the Unix epoch.
    pub const fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch.
    pub const fn as_unix(self) -> u64 {
        self.0
    }

    /// How long it is from `earlier` to this moment; zero if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_secs()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// How long a request may wait in all, for however many things one after the other: it counts from when the request
/// first waits, so that one that never does pays nothing for it.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    deadline: OnceLock<Instant>,
}

impl Patience {
    /// Patience for so long.
    pub const fn new(limit: Duration) -> Self {
        Self { limit, deadline: OnceLock::new() }
    }

    /// When it is at its end.
    pub fn deadline(&self) -> Instant {
        *self.deadline.get_or_init(|| Instant::now() + self.limit)
    }
}

/// A clock that many parts of the program hold.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the operating system.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's time")]
    fn now(&self) -> Timestamp {
        // A clock set before 1970 yields the epoch itself: every token then counts as not yet issued.
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
    }
}

/// A clock that stands still until it is told to move.
#[cfg(test)]
pub struct ManualClock(std::sync::atomic::AtomicU64);

#[cfg(test)]
impl ManualClock {
    /// A clock that shows `start`.
    pub fn starting_at(start: u64) -> Arc<Self> {
        Arc::new(Self(std::sync::atomic::AtomicU64::new(start)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(duration.as_secs(), std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
