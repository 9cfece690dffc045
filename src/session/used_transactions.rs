use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use crate::clock::{SharedClock, Timestamp};

/// Remembers which login transactions were used, so that one transaction causes one token request although it lives
/// in the browser.
pub struct UsedTransactions {
    used: Mutex<HashMap<[u8; 32], Timestamp>>,
    maximum: usize,
    lifetime: Duration,
    clock: SharedClock,
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
    /// Remembers at most `maximum` transactions, each for `lifetime`, after which its seal is no longer accepted.
    pub fn new(maximum: usize, lifetime: Duration, clock: SharedClock) -> Self {
        Self { used: Mutex::default(), maximum, lifetime, clock }
    }

    /// Marks the transaction with this hash as used.
    pub fn mark(&self, hash: [u8; 32]) -> Use {
        let now = self.clock.now();
        let mut used = self.used.lock();
        if used.get(&hash).is_some_and(|end| now < *end) {
            return Use::Again;
        }
        if used.len() >= self.maximum {
            used.retain(|_, end| now < *end);
            if used.len() >= self.maximum {
                return Use::Full;
            }
        }
        used.insert(hash, now + self.lifetime);
        Use::First
    }

    /// Forgets every transaction that could no longer be used anyway.
    pub fn remove_expired(&self) {
        let now = self.clock.now();
        let mut used = self.used.lock();
        used.retain(|_, end| now < *end);
        used.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const LIFETIME: Duration = Duration::from_secs(60);

    #[test]
    fn a_transaction_is_used_once() {
        let used = UsedTransactions::new(10, LIFETIME, ManualClock::starting_at(0));
        assert_eq!(used.mark([1; 32]), Use::First);
        assert_eq!(used.mark([1; 32]), Use::Again);
        assert_eq!(used.mark([2; 32]), Use::First);
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let used = UsedTransactions::new(10, LIFETIME, ManualClock::starting_at(0));
        let first = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| used.mark([3; 32]))).collect();
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
        let used = UsedTransactions::new(2, LIFETIME, clock.clone());
        assert_eq!(used.mark([1; 32]), Use::First);
        assert_eq!(used.mark([2; 32]), Use::First);
        assert_eq!(used.mark([3; 32]), Use::Full);
        clock.advance(LIFETIME);
        assert_eq!(used.mark([3; 32]), Use::First);
        assert_eq!(used.used.lock().len(), 1);
        clock.advance(LIFETIME);
        used.remove_expired();
        assert!(used.used.lock().is_empty());
    }
}
