//! What the provider was asked for.

use super::Provider;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The parameters of a request by name. Of a name that came twice the last value counts.
pub type Parameters = BTreeMap<String, String>;

#[derive(Default)]
pub(super) struct Record {
    logins: AtomicUsize,
    refreshes: AtomicUsize,
    refreshes_under_way: AtomicUsize,
    most_refreshes_at_once: AtomicUsize,
    discoveries: AtomicUsize,
    key_fetches: AtomicUsize,
    revocations: AtomicUsize,
    authorizations: Mutex<Vec<Parameters>>,
    end_sessions: Mutex<Vec<Parameters>>,
}

/// A refresh that is under way until this is dropped, which it is as well when the caller gives up.
pub(super) struct UnderWay<'a>(&'a Record);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.refreshes_under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Record {
    pub(super) fn login(&self) {
        self.logins.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn refresh(&self) -> UnderWay<'_> {
        self.refreshes.fetch_add(1, Ordering::SeqCst);
        let at_once = self.refreshes_under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_refreshes_at_once.fetch_max(at_once, Ordering::SeqCst);
        UnderWay(self)
    }

    pub(super) fn discovery(&self) {
        self.discoveries.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn key_fetch(&self) {
        self.key_fetches.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn revocation(&self) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn authorization(&self, parameters: &Parameters) {
        self.authorizations.lock().push(parameters.clone());
    }

    pub(super) fn end_session(&self, parameters: &Parameters) {
        self.end_sessions.lock().push(parameters.clone());
    }
}

impl Provider {
    /// How many codes were to be redeemed so far, whatever the answer was.
    pub fn logins(&self) -> usize {
        self.core.record.logins.load(Ordering::SeqCst)
    }

    /// How many refreshes were asked for so far, whatever the answer was.
    pub fn refreshes(&self) -> usize {
        self.core.record.refreshes.load(Ordering::SeqCst)
    }

    /// The largest number of refreshes that were under way at one moment.
    pub fn most_refreshes_at_once(&self) -> usize {
        self.core.record.most_refreshes_at_once.load(Ordering::SeqCst)
    }

    /// How often the discovery document was asked for.
    pub fn discoveries(&self) -> usize {
        self.core.record.discoveries.load(Ordering::SeqCst)
    }

    /// How often the public keys were asked for.
    pub fn key_fetches(&self) -> usize {
        self.core.record.key_fetches.load(Ordering::SeqCst)
    }

    /// How many refresh tokens were to be revoked.
    pub fn revocations(&self) -> usize {
        self.core.record.revocations.load(Ordering::SeqCst)
    }

    /// All authorization requests so far.
    pub fn authorizations(&self) -> Vec<Parameters> {
        self.core.record.authorizations.lock().clone()
    }

    /// The latest authorization request; panics if there was none.
    pub fn latest_authorization(&self) -> Parameters {
        self.core.record.authorizations.lock().last().expect("an authorization request").clone()
    }

    /// All calls of the end-session endpoint so far.
    pub fn end_sessions(&self) -> Vec<Parameters> {
        self.core.record.end_sessions.lock().clone()
    }
}
