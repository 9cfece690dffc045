use secrecy::ExposeSecret;

use super::{Checker, errors::At, secret::SecretSource};
use crate::crypto::{KeyRing, MINIMUM_KEY_LENGTH};

/// The key ring, newest key first. The outer `None` is an error, the inner one an empty section.
#[expect(clippy::option_option, reason = "an absent ring is not a wrong one")]
pub(super) fn check(
    keys: Vec<SecretSource>,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Option<Option<KeyRing>> {
    if keys.is_empty() {
        checker.warn(at, "is empty: keys are made at start, and a restart ends every login under way");
        return Some(None);
    }
    let count = keys.len();
    let mut secrets = Vec::with_capacity(count);
    for (index, key) in keys.into_iter().enumerate() {
        let at = at.index(index);
        let Some(secret) = key.read(&at, checker) else { continue };
        if secret.expose_secret().len() < MINIMUM_KEY_LENGTH {
            checker.error(&at, format!("must be at least {MINIMUM_KEY_LENGTH} characters long"));
            continue;
        }
        secrets.push(secret);
    }
    (secrets.len() == count).then(|| KeyRing::new(secrets))
}
