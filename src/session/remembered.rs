use std::{collections::HashMap, hash::Hash};

use parking_lot::Mutex;

use crate::clock::{SharedClock, Timestamp};

/// Remembers things for a time, up to a bound: which login transactions and logout tokens were used, and which
/// sign-outs a login under way must not overtake.
pub struct Remembered<Key, Value> {
    entries: Mutex<Entries<Key, Value>>,
    maximum: usize,
    clock: SharedClock,
}

struct Entries<Key, Value> {
    entries: HashMap<Key, Entry<Value>>,
    last_sweep: Timestamp,
}

struct Entry<Value> {
    value: Value,
    end: Timestamp,
}

/// Nothing more can be remembered until something else may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more is to be remembered than there is room for")]
pub struct Full;

/// Whether something that may be used once may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It was not used before, and is now.
    First,
    /// It was used before.
    Again,
    /// More was used of late than can be remembered.
    Full,
}

impl<Key: Eq + Hash, Value: Clone> Remembered<Key, Value> {
    /// Remembers at most `maximum` things.
    pub fn new(maximum: usize, clock: SharedClock) -> Self {
        let entries = Entries { entries: HashMap::new(), last_sweep: Timestamp::default() };
        Self { entries: Mutex::new(entries), maximum, clock }
    }

    /// What is remembered under `key`.
    pub fn get(&self, key: &Key) -> Option<Value> {
        self.entries.lock().live(key, self.clock.now()).cloned()
    }

    /// Remembers `value` under `key` until `end`, merged with what is remembered there.
    ///
    /// # Errors
    /// [`Full`] when there is no room.
    pub fn put(
        &self,
        key: Key,
        value: Value,
        end: Timestamp,
        merge: impl FnOnce(Value, Value) -> Value,
    ) -> Result<(), Full> {
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        let value = match entries.live(&key, now).cloned() {
            Some(before) => merge(before, value),
            None => value,
        };
        entries.put(key, Entry { value, end }, self.maximum, now)
    }

    /// Forgets what need not be remembered any more.
    pub fn remove_expired(&self) {
        let mut entries = self.entries.lock();
        entries.sweep(self.clock.now());
        entries.entries.shrink_to_fit();
    }
}

impl<Key: Eq + Hash> Remembered<Key, ()> {
    /// Marks `key` as used; it has to be remembered until `end`. Of several at once, one is first.
    pub fn mark(&self, key: Key, end: Timestamp) -> Use {
        let now = self.clock.now();
        let mut entries = self.entries.lock();
        if entries.live(&key, now).is_some() {
            return Use::Again;
        }
        match entries.put(key, Entry { value: (), end }, self.maximum, now) {
            Ok(()) => Use::First,
            Err(Full) => Use::Full,
        }
    }
}

impl<Key: Eq + Hash, Value> Entries<Key, Value> {
    fn live(&self, key: &Key, now: Timestamp) -> Option<&Value> {
        self.entries.get(key).filter(|entry| now < entry.end).map(|entry| &entry.value)
    }

    fn put(&mut self, key: Key, entry: Entry<Value>, maximum: usize, now: Timestamp) -> Result<(), Full> {
        if self.entries.len() >= maximum && !self.entries.contains_key(&key) {
            // Not more than once a second: whoever fills it must not make every login search through it.
            if self.last_sweep < now {
                self.sweep(now);
            }
            if self.entries.len() >= maximum {
                return Err(Full);
            }
        }
        self.entries.insert(key, entry);
        Ok(())
    }

    fn sweep(&mut self, now: Timestamp) {
        self.entries.retain(|_, entry| now < entry.end);
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
    fn a_key_is_used_once() {
        let used = Remembered::new(10, ManualClock::starting_at(0));
        assert_eq!(used.mark([1; 32], END), Use::First);
        assert_eq!(used.mark([1; 32], END), Use::Again);
        assert_eq!(used.mark([2; 32], END), Use::First);
    }

    #[test]
    fn of_many_at_once_one_is_first() {
        let used = Remembered::new(10, ManualClock::starting_at(0));
        let first = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| used.mark([3; 32], END))).collect();
            let marks = threads.into_iter().filter_map(|thread| thread.join().ok());
            marks.filter(|&mark| mark == Use::First).count()
        });
        assert_eq!(first, 1);
    }

    #[test]
    fn memory_is_bounded_and_freed() {
        let clock = ManualClock::starting_at(0);
        let used = Remembered::new(2, clock.clone());
        assert_eq!(used.mark([1; 32], END), Use::First);
        assert_eq!(used.mark([2; 32], END), Use::First);
        assert_eq!(used.mark([3; 32], END), Use::Full);
        clock.advance(LIFETIME);
        assert_eq!(used.mark([3; 32], END + LIFETIME), Use::First);
        assert_eq!(used.entries.lock().entries.len(), 1);
        clock.advance(LIFETIME);
        used.remove_expired();
        assert!(used.entries.lock().entries.is_empty());
    }

    #[test]
    fn values_are_merged_and_given_until_their_end() {
        let clock = ManualClock::starting_at(0);
        let remembered = Remembered::new(1, clock.clone());
        assert_eq!(remembered.put("key", 2, END, i32::max), Ok(()));
        assert_eq!(remembered.put("key", 1, END, i32::max), Ok(()), "its own place is room enough");
        assert_eq!(remembered.put("other", 3, END, i32::max), Err(Full));
        assert_eq!((remembered.get(&"key"), remembered.get(&"other")), (Some(2), None));
        clock.advance(LIFETIME);
        assert_eq!(remembered.get(&"key"), None);
        assert_eq!(remembered.put("key", 1, END + LIFETIME, i32::max), Ok(()));
        assert_eq!(remembered.get(&"key"), Some(1), "what has ended is not merged");
    }
}
