use super::SessionGroup;
use crate::{clock::Timestamp, crypto::sha256};

/// The latest sign-out of a group of sessions at a provider, which a login under way must not overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignOut {
    /// When it took place here.
    pub at: Timestamp,
    /// When the provider said so, by its own clock; of a sign-out that began here, the same.
    pub issued_at: Timestamp,
}

/// What a sign-out is remembered under: a hash, since what the provider calls a session may have any length.
pub(super) type SignOutKey = [u8; 32];

pub(super) fn sign_out_key(provider: &str, group: &SessionGroup) -> SignOutKey {
    let (claim, value) = match group {
        SessionGroup::ProviderSession { sid, .. } => ("sid", sid),
        SessionGroup::Subject { sub, .. } => ("sub", sub),
    };
    // The name of a provider holds no line break.
    sha256(format!("{provider}\n{claim}\n{value}").as_bytes())
}

impl SignOut {
    /// One that began here.
    pub fn here(at: Timestamp) -> Self {
        Self { at, issued_at: at }
    }

    /// One that the provider has told of.
    pub fn told(at: Timestamp, issued_at: Timestamp) -> Self {
        Self { at, issued_at }
    }

    /// Of each time the later one.
    pub fn latest(self, other: Self) -> Self {
        Self { at: self.at.max(other.at), issued_at: self.issued_at.max(other.issued_at) }
    }
}
