//! When the token endpoint answers.

use super::Provider;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

pub(super) struct Pace {
    delays: Mutex<Delays>,
    held: watch::Sender<bool>,
    waiting: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
struct Delays {
    tokens: Duration,
    refreshes: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { delays: Mutex::default(), held: watch::Sender::new(false), waiting: AtomicUsize::new(0) }
    }
}

impl Pace {
    /// Waits as long as the answer of a call has to.
    pub(super) async fn before_answer(&self, is_refresh: bool) {
        let delays = *self.delays.lock();
        let delay = if is_refresh { delays.tokens + delays.refreshes } else { delays.tokens };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if *self.held.borrow() {
            let _waiting = Waiting::new(&self.waiting);
            let _ = self.held.subscribe().wait_for(|held| !held).await;
        }
    }

    pub(super) fn clear(&self) {
        *self.delays.lock() = Delays::default();
        self.held.send_replace(false);
    }
}

/// Counts a call as long as it waits, also one whose caller gives up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Provider {
    /// From now on every answer of the token endpoint takes so long.
    pub fn delay_tokens(&self, delay: Duration) {
        self.core.pace.delays.lock().tokens = delay;
    }

    /// From now on the answer of every refresh takes so long, on top of what every token call takes.
    pub fn delay_refreshes(&self, delay: Duration) {
        self.core.pace.delays.lock().refreshes = delay;
    }

    /// Holds back the answers of the token endpoint until `release`. What they grant is granted before.
    pub fn hold(&self) {
        self.core.pace.held.send_replace(true);
    }

    /// Lets all answers go that are held back.
    pub fn release(&self) {
        self.core.pace.held.send_replace(false);
    }

    /// How many answers are held back at this moment.
    pub fn waiting(&self) -> usize {
        self.core.pace.waiting.load(Ordering::SeqCst)
    }
}
