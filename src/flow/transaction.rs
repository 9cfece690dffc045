use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CookieChange, Flows};
use crate::{
    clock::Timestamp,
    crypto::{Purpose, equal_in_constant_time, sha256},
    policy::{Request, Site, StepUp},
};

/// How long a login may take: Keycloak's own login time-out.
pub(super) const TRANSACTION_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// How many logins one browser may have under way: more cookies would overflow the request's headers.
const MAXIMUM_TRANSACTIONS: usize = 5;

/// How many cookies one answer takes away: it must not overflow in turn.
const MAXIMUM_CLEARED: usize = 40;

/// The length of what tells the cookies of one frontend's transactions apart, in hexadecimal digits.
const TAG_LENGTH: usize = 16;

/// The largest transaction cookie, name and value, in bytes.
const MAXIMUM_COOKIE: usize = 1024;

/// A login under way. It lives sealed in a cookie of the browser that began it, so that a flood of logins costs no
/// memory here and any replica can finish it. Its fields have short names there: a browser that restores a hundred
/// tabs begins a hundred logins at once.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Transaction {
    #[serde(rename = "s")]
    pub(super) state: String,
    #[serde(rename = "n")]
    pub(super) nonce: String,
    #[serde(rename = "v")]
    pub(super) pkce_verifier: String,
    #[serde(rename = "r")]
    pub(super) return_to: String,
    #[serde(rename = "c")]
    pub(super) created_at: u64,
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(super) idp_hint: Option<String>,
    /// Whether the user was asked to sign in anew.
    #[serde(rename = "f", default, skip_serializing_if = "is_default")]
    pub(super) force: bool,
    /// The authentication contexts of which the sign-in must have one.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub(super) acr_values: Vec<String>,
    /// How many seconds ago the sign-in may be.
    #[serde(rename = "m", default, skip_serializing_if = "is_default")]
    pub(super) max_age: Option<u64>,
    /// How often Keycloak let it expire and it was begun again.
    #[serde(rename = "t", default, skip_serializing_if = "is_default")]
    pub(super) restarts: u8,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Transaction {
    pub(super) fn created_at(&self) -> Timestamp {
        Timestamp::from_unix(self.created_at)
    }

    /// What the sign-in must be like.
    pub(super) fn step_up(&self) -> StepUp {
        StepUp { acr_values: self.acr_values.clone(), max_age: self.max_age.map(Duration::from_secs) }
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        self.created_at() + TRANSACTION_LIFETIME
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(self.state.as_bytes())
    }
}

/// The name of the cookie of the transaction with this state. It tells the transactions of parallel tabs apart and
/// gives nothing of the state away.
fn cookie_name(site: &Site, state: &str) -> String {
    let hash = sha256(state.as_bytes());
    let tag: String = hash[..TAG_LENGTH / 2].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}{tag}", site.frontend.transaction_cookie_prefix())
}

impl Flows {
    /// The cookie changes that begin `transaction`: its own cookie, and the end of leftovers and of the oldest
    /// transactions beyond the bound. `None` if it cannot be sealed.
    pub(super) fn begin_transaction(
        &self,
        site: &Site,
        request: &Request<'_>,
        transaction: &Transaction,
    ) -> Option<Vec<CookieChange>> {
        let mut changes = self.crowded_out(site, request, 1);
        let name = cookie_name(site, &transaction.state);
        let mut value = self.seal(site, transaction)?;
        if name.len() + value.len() > MAXIMUM_COOKIE {
            // A return target is a convenience; a cookie that the browser drops is a failed login.
            let start_page = format!("{}{}", site.origin, site.frontend.login.start_page);
            value = self.seal(site, &Transaction { return_to: start_page, ..transaction.clone() })?;
        }
        changes.push(CookieChange::Set { name, value, lifetime: TRANSACTION_LIFETIME });
        Some(changes)
    }

    /// The transaction of this browser with this state, and its cookie's name.
    pub(super) fn find_transaction(
        &self,
        site: &Site,
        request: &Request<'_>,
        state: &str,
    ) -> Option<(String, Transaction)> {
        let name = cookie_name(site, state);
        let transaction = self.open(site, request.cookies.unambiguous(&name)?)?;
        equal_in_constant_time(&transaction.state, state).then_some((name, transaction))
    }

    /// Leftovers that no longer open, and the oldest of those that do, so that there is room for `room` more.
    pub(super) fn crowded_out(&self, site: &Site, request: &Request<'_>, room: usize) -> Vec<CookieChange> {
        let prefix = site.frontend.transaction_cookie_prefix();
        let mut open: Vec<(Timestamp, &str)> = Vec::new();
        let mut changes: Vec<CookieChange> = Vec::new();
        // The tag has a fixed length, so that the cookies of a frontend `a` are not taken for those of `a-b`.
        let is_own = |name: &str| name.strip_prefix(&prefix).is_some_and(|tag| tag.len() == TAG_LENGTH);
        for cookie in request.cookies.named(is_own) {
            match self.open(site, cookie.value) {
                Some(transaction) => open.push((transaction.created_at(), cookie.name)),
                None => changes.push(CookieChange::Clear(cookie.name.to_owned())),
            }
        }
        // Stable: of the same second, the first is the oldest, since browsers send cookies by age (RFC 6265 section 5.4).
        open.sort_by_key(|(created_at, _)| *created_at);
        let surplus = (open.len() + room).saturating_sub(MAXIMUM_TRANSACTIONS);
        changes.extend(open.iter().take(surplus).map(|(_, name)| CookieChange::Clear((*name).to_owned())));
        changes.truncate(MAXIMUM_CLEARED);
        changes
    }

    fn seal(&self, site: &Site, transaction: &Transaction) -> Option<String> {
        let plaintext = serde_json::to_vec(transaction).ok()?;
        self.key_ring.seal(&*self.random, Purpose::LoginTransaction, &site.frontend.name, &plaintext).ok()
    }

    fn open(&self, site: &Site, value: &str) -> Option<Transaction> {
        let plaintext = self.key_ring.open(Purpose::LoginTransaction, &site.frontend.name, value).ok()?;
        let transaction: Transaction = serde_json::from_slice(&plaintext).ok()?;
        (self.clock.now() < transaction.expires_at()).then_some(transaction)
    }
}
