use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{TokenError, TransportError};
use crate::clock::{Clock, Timestamp};

/// The longest time for which a provider that does not answer is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A circuit breaker: bounds how many calls are under way at once, and after one without an answer lets nobody call for
/// a while, so that not every user finds out about an outage by waiting for it.
pub(super) struct Circuit {
    turns: Semaphore,
    outage: Mutex<Outage>,
}

#[derive(Default)]
struct Outage {
    failures: u32,
    until: Timestamp,
}

impl Circuit {
    /// Lets `bound` calls run at once.
    pub(super) fn new(bound: usize) -> Self {
        Self { turns: Semaphore::new(bound.min(Semaphore::MAX_PERMITS)), outage: Mutex::default() }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`TransportError::Held`] while the provider is left alone.
    pub(super) async fn enter(&self, clock: &dyn Clock) -> Result<SemaphorePermit<'_>, TransportError> {
        self.check(clock.now())?;
        let turn = self.turns.acquire().await.map_err(|_| TransportError::TimedOut)?;
        // Whoever was before may have found out.
        self.check(clock.now())?;
        Ok(turn)
    }

    fn check(&self, now: Timestamp) -> Result<(), TransportError> {
        let pause = self.outage.lock().until.since(now);
        if pause.is_zero() { Ok(()) } else { Err(TransportError::Held { pause }) }
    }

    /// Notes how a call ended. Any answer, a refusal too, shows that the provider is there.
    pub(super) fn note(&self, error: Option<&TokenError>, now: Timestamp) {
        let mut outage = self.outage.lock();
        match error {
            Some(error) if error.is_silence() => {
                // Calls that were under way together met one outage, not one each.
                if outage.until <= now {
                    outage.failures = outage.failures.saturating_add(1);
                    let doubled = Duration::from_secs(1 << outage.failures.min(4));
                    let asked_for = error.retry_after().unwrap_or_default();
                    outage.until = now + doubled.max(asked_for).min(LONGEST_PAUSE);
                }
            }
            _ => *outage = Outage::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn silence() -> TokenError {
        TokenError::Unavailable(TransportError::TimedOut)
    }

    #[tokio::test]
    async fn an_outage_is_met_once_and_asked_about_again_later() {
        let clock = ManualClock::starting_at(1_000);
        let circuit = Circuit::new(8);
        for _ in 0..5 {
            circuit.note(Some(&silence()), clock.now());
        }
        let held = circuit.enter(&*clock).await.err();
        assert_eq!(held, Some(TransportError::Held { pause: Duration::from_secs(2) }));
        clock.advance(Duration::from_secs(2));
        assert!(circuit.enter(&*clock).await.is_ok());
        circuit.note(Some(&silence()), clock.now());
        let held = circuit.enter(&*clock).await.err();
        assert_eq!(held, Some(TransportError::Held { pause: Duration::from_secs(4) }));
        let refused = TokenError::Rejected { description: String::new() };
        circuit.note(Some(&refused), clock.now());
        assert!(circuit.enter(&*clock).await.is_ok(), "a refusal is an answer");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_turn_hears_of_the_outage() {
        let clock = ManualClock::starting_at(1_000);
        let circuit = Circuit::new(1);
        let first = circuit.enter(&*clock).await.unwrap();
        let second = circuit.enter(&*clock);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending(), "one at a time");
        circuit.note(Some(&silence()), clock.now());
        drop(first);
        assert!(matches!(second.await, Err(TransportError::Held { .. })));
    }
}
