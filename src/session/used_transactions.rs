use std::collections::HashMap;

use parking_lot::Mutex;

use crate::clock::{SharedClock, Timestamp};

/// Remembers which login transactions were used, so that one transaction causes one token request although it lives
/// in the browser.
pub struct UsedTransactions {
    used: Mutex<Used>,
    maximum: usize,
    clock: SharedClock,
}

#[derive(Default)]
struct Used {
    /// Hashes, and when each could no longer be used anyway.
    ends: HashMap<[u8; 32], Timestamp>,
    last_sweep: Timestamp,
}

/// Whether a transaction may go on to the token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It was not used before, and is now.
    First,
    /// It was used before.
    Again,
    /// More transactions were used within their lifetime than can be remembered.
    Full,
}

impl UsedTransactions {
    /// Remembers at most `maximum` transactions.
    pub fn new(maximum: usize, clock: SharedClock) -> Self {
        Self { used: Mutex::default(), maximum, clock }
    }

    /// Marks the transaction with this hash as used; it has to be remembered until `end`.
    pub fn mark(&self, hash: [u8; 32], end: Timestamp) -> Use {
        let now = self.clock.now();
        let mut used = self.used.lock();
        if used.ends.get(&hash).is_some_and(|end| now < *end) {
            return Use::Again;
        }
        if used.ends.len() >= self.maximum {
            // Not more than once a second: whoever fills it must not make every login search through it.
            if used.last_sweep < now {
                used.sweep(now);
            }
            if used.ends.len() >= self.maximum {
                return Use::Full;
            }
        }
        used.ends.insert(hash, end);
        Use::First
    }

    /// Forgets every transaction that could no longer be used anyway.
    pub fn remove_expired(&self) {
        let now = self.clock.now();
        let mut used = self.used.lock();
        used.sweep(now);
        used.ends.shrink_to_fit();
    }
}

impl Used {
    fn sweep(&mut self, now: Timestamp) {
        self.ends.retain(|_, end| now < *end);
        self.last_sweep = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    const LIFETIME: Duration = Duration::from_secs(60);
    const END: Timestamp = Timestamp::from_unix(60);

    #[test]
    fn a_transaction_is_used_once() {
        let used = UsedTransactions::new(10, ManualClock::starting_at(0));
        assert_eq!(used.mark([1; 32], END), Use::First);
        assert_eq!(used.mark([1; 32], END), Use::Again);
        assert_eq!(used.mark([2; 32], END), Use::First);
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let used = UsedTransactions::new(10, ManualClock::starting_at(0));
        let first = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| used.mark([3; 32], END))).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().ok())
                .filter(|&mark| mark == Use::First)
                .count()
        });
        assert_eq!(first, 1);
    }

    #[test]
    fn memory_is_bounded_and_freed() {
        let clock = ManualClock::starting_at(0);
        let used = UsedTransactions::new(2, clock.clone());
        assert_eq!(used.mark([1; 32], END), Use::First);
        assert_eq!(used.mark([2; 32], END), Use::First);
        assert_eq!(used.mark([3; 32], END), Use::Full);
        clock.advance(LIFETIME);
        assert_eq!(used.mark([3; 32], END + LIFETIME), Use::First);
        assert_eq!(used.used.lock().ends.len(), 1);
        clock.advance(LIFETIME);
        used.remove_expired();
        assert!(used.used.lock().ends.is_empty());
    }
}
