use std::{sync::Arc, time::Duration};

use super::{Flows, transaction::TRANSACTION_LIFETIME, transaction::Transaction};
use crate::{
    clock::Timestamp,
    crypto::sha256,
    oidc::Provider,
    session::{Full, Session, SessionGroup, SessionKey},
};

/// The latest sign-out of a group of sessions at a provider, which a login under way must not overtake.
#[derive(Clone, Copy, Debug)]
pub struct SignOut {
    /// When it took place here.
    at: Timestamp,
    /// When the provider said so, by its own clock; of a sign-out that began here, the same.
    issued_at: Timestamp,
}

/// What a sign-out is remembered under: a hash, since what the provider calls a session may have any length.
pub type SignOutKey = [u8; 32];

fn sign_out_key(provider: &str, group: &SessionGroup) -> SignOutKey {
    let (claim, value) = match group {
        SessionGroup::ProviderSession { sid, .. } => ("sid", sid),
        SessionGroup::Subject { sub, .. } => ("sub", sub),
    };
    // The name of a provider holds no line break.
    sha256(format!("{provider}\n{claim}\n{value}").as_bytes())
}

impl SignOut {
    /// One that began here.
    pub(super) fn here(at: Timestamp) -> Self {
        Self { at, issued_at: at }
    }

    /// One that the provider has told of.
    pub(super) fn told(at: Timestamp, issued_at: Timestamp) -> Self {
        Self { at, issued_at }
    }

    fn latest(self, other: Self) -> Self {
        Self { at: self.at.max(other.at), issued_at: self.issued_at.max(other.issued_at) }
    }
}

impl Flows {
    /// Ends a session, and with it those that other frontends have of the same session at the issuer: for the person
    /// it was one sign-in. Returns them; their provider does not know yet.
    pub(super) fn sign_out(&self, key: &SessionKey, session: &Session) -> Vec<Arc<Session>> {
        let mut ended: Vec<Arc<Session>> = self.sessions.remove(key).into_iter().collect();
        if let Some(group) = session.provider_session_group() {
            // The session at the provider may go on until the browser gets there: a login that was begun in this second
            // may be one that the user began after signing out.
            let sign_out = SignOut::here(self.clock.now() - Duration::from_secs(1));
            for provider in
                self.providers.values().filter(|provider| provider.settings().issuer == session.issuer)
            {
                ended.extend(self.end_group(provider, &group, sign_out));
            }
        }
        for session in &ended {
            tracing::info!(frontend = &*session.frontend, session = session.handle, "signed out");
        }
        ended
    }

    /// Ends the sessions of a group that were begun at this provider, and remembers that it was done, so that a login
    /// under way does not begin a new one. Returns those that were live.
    pub(super) fn end_group(
        &self,
        provider: &Provider,
        group: &SessionGroup,
        sign_out: SignOut,
    ) -> Vec<Arc<Session>> {
        let name = &provider.settings().name;
        let end = self.clock.now() + TRANSACTION_LIFETIME;
        // Before the sessions are looked for: a login looks here after it has put its session there.
        if let Err(Full) = self.sign_outs.put(sign_out_key(name, group), sign_out, end, SignOut::latest) {
            tracing::warn!(provider = &**name, "too many sign-outs to hold against every login under way");
        }
        let live = self.sessions.group(group).into_iter();
        live.filter(|(_, session)| session.provider == *name)
            .filter_map(|(key, _)| self.sessions.remove(&key))
            .collect()
    }

    /// Whether a login was signed out while it was under way: it was begun before the sign-out and, where that was one
    /// of all that a person has, its ID token was issued before it. Whoever stays at the login page meanwhile begins a
    /// new session there.
    pub(super) fn was_signed_out_meanwhile(&self, session: &Session, transaction: &Transaction) -> bool {
        let issued_at = session.tokens().id_claims.get("iat").and_then(serde_json::Value::as_f64);
        let issued_at = issued_at.map(|seconds| Timestamp::from_unix(seconds as u64));
        session.groups().any(|group| {
            let sign_out = self.sign_outs.get(&sign_out_key(&session.provider, &group));
            sign_out.is_some_and(|sign_out| {
                let is_new = match group {
                    SessionGroup::ProviderSession { .. } => false,
                    SessionGroup::Subject { .. } => issued_at.is_some_and(|at| at > sign_out.issued_at),
                };
                transaction.created_at() <= sign_out.at && !is_new
            })
        })
    }
}

#[cfg(test)]
#[path = "sign_out_tests.rs"]
mod tests;
