use std::{collections::HashSet, fmt, sync::Arc};

use dashmap::{DashMap, mapref::entry::Entry};

use super::{DirectoryEntry, SessionKey};

/// All sessions that a provider means by one word of its tokens. The words of different issuers have nothing to do
/// with each other.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum SessionGroup {
    /// Those that belong to one session at the provider: one browser of one person.
    ProviderSession {
        /// The provider's issuer.
        issuer: Arc<str>,
        /// The claim `sid`.
        sid: String,
    },
    /// Those of one person.
    Subject {
        /// The provider's issuer.
        issuer: Arc<str>,
        /// The claim `sub`.
        sub: String,
    },
}

/// Finds sessions by their groups.
#[derive(Default)]
pub(super) struct GroupIndex {
    keys: DashMap<SessionGroup, HashSet<SessionKey>>,
}

impl GroupIndex {
    /// The keys of a group's sessions.
    pub(super) fn keys(&self, group: &SessionGroup) -> Vec<SessionKey> {
        self.keys.get(group).map(|keys| keys.iter().copied().collect()).unwrap_or_default()
    }

    /// Notes a session in each of its groups.
    pub(super) fn add(&self, entry: &DirectoryEntry) {
        for group in entry.groups() {
            self.keys.entry(group).or_default().insert(entry.key);
        }
    }

    /// Takes a session out of each of its groups.
    pub(super) fn remove(&self, entry: &DirectoryEntry) {
        for group in entry.groups() {
            if let Entry::Occupied(mut keys) = self.keys.entry(group) {
                keys.get_mut().remove(&entry.key);
                if keys.get().is_empty() {
                    keys.remove();
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for SessionGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A sid ends sessions over the front channel, so it is not for logs.
        match self {
            Self::ProviderSession { .. } => f.write_str("ProviderSession(redacted)"),
            Self::Subject { sub, .. } => write!(f, "Subject({sub})"),
        }
    }
}
