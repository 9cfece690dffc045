//! What a failed refresh means for the session: the one table.

use std::time::Duration;

use crate::oidc::TokenError;

/// What becomes of a session whose refresh failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The provider's word that it is over: the session goes.
    Ended,
    /// The account is disabled: the session stays, nothing is let through, the provider is asked again soon.
    AccountDisabled,
    /// Nothing was said about the session: it stays, the token is used while it lives.
    Kept,
}

/// The longest time between two questions whether a disabled account is enabled again.
const LONGEST_DISABLED_PAUSE: Duration = Duration::from_secs(15);

/// The longest time between two tries to reach a provider that does not answer.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(30);

/// Reads the provider's word. Only `invalid_grant` is one about the session; Keycloak's reasons for it are
/// `Session not active`, `Token is not active`, `Stale token`, `Invalid refresh token`, reuse of a rotated token, and
/// `User disabled`, which alone can be undone.
pub(super) fn consequence(error: &TokenError) -> Consequence {
    match error {
        TokenError::Rejected { description } if description == "User disabled" => {
            Consequence::AccountDisabled
        }
        TokenError::Rejected { .. } => Consequence::Ended,
        TokenError::Configuration { .. }
        | TokenError::Unavailable(_)
        | TokenError::Discovery(_)
        | TokenError::Proof(_)
        | TokenError::Unreadable(_) => Consequence::Kept,
    }
}

/// How long to leave the provider alone after `failures` in a row. `jitter`, from 0 to 255, spreads many sessions, so
/// that a provider that comes back is not trampled.
pub(super) fn pause(
    consequence: Consequence,
    failures: u32,
    asked_for: Option<Duration>,
    jitter: u8,
) -> Duration {
    let doubled = Duration::from_secs(1 << failures.min(6));
    match consequence {
        Consequence::AccountDisabled => doubled.min(LONGEST_DISABLED_PAUSE),
        // An ended session asks no more.
        Consequence::Ended => Duration::ZERO,
        Consequence::Kept => {
            let pause = doubled
                .min(LONGEST_OUTAGE_PAUSE)
                .max(asked_for.unwrap_or_default().min(LONGEST_OUTAGE_PAUSE));
            let half = pause.as_secs() / 2;
            Duration::from_secs(pause.as_secs() - half + (half + 1) * u64::from(jitter) / 256)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oidc::{ProviderError, TransportError};

    #[test]
    fn only_the_providers_word_ends_a_session() {
        let rejected = |description: &str| TokenError::Rejected { description: description.to_owned() };
        let configuration =
            |error: &str| TokenError::Configuration { error: error.to_owned(), description: String::new() };
        let status = |status| TokenError::Unavailable(TransportError::Status { status, retry_after: None });
        for (error, expected) in [
            (rejected("Session not active"), Consequence::Ended),
            (rejected("Token is not active"), Consequence::Ended),
            (rejected("Stale token"), Consequence::Ended),
            (rejected("Invalid refresh token"), Consequence::Ended),
            (rejected("Maximum allowed refresh token reuse exceeded"), Consequence::Ended),
            (rejected("Session doesn't have required client"), Consequence::Ended),
            (rejected(""), Consequence::Ended),
            (rejected("User disabled"), Consequence::AccountDisabled),
            (configuration("invalid_client"), Consequence::Kept),
            (configuration("unauthorized_client"), Consequence::Kept),
            (configuration("Realm does not exist"), Consequence::Kept),
            (status(429), Consequence::Kept),
            (status(500), Consequence::Kept),
            (status(503), Consequence::Kept),
            (TokenError::Unavailable(TransportError::TimedOut), Consequence::Kept),
            (TokenError::Unavailable(TransportError::Connection("refused".to_owned())), Consequence::Kept),
            (TokenError::Discovery(ProviderError::Invalid("away".to_owned())), Consequence::Kept),
            (TokenError::Unreadable("html".to_owned()), Consequence::Kept),
        ] {
            assert_eq!(consequence(&error), expected, "{error}");
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_are_spread() {
        for failures in 1..100 {
            for jitter in [0, 128, 255] {
                let kept = pause(Consequence::Kept, failures, None, jitter);
                assert!(
                    kept >= Duration::from_secs(1) && kept <= LONGEST_OUTAGE_PAUSE,
                    "{failures}: {kept:?}"
                );
                assert!(
                    pause(Consequence::AccountDisabled, failures, None, jitter) <= LONGEST_DISABLED_PAUSE
                );
            }
        }
        assert!(pause(Consequence::Kept, 5, None, 0) < pause(Consequence::Kept, 5, None, 255));
        let asked = Some(Duration::from_secs(20));
        assert!(pause(Consequence::Kept, 1, asked, 255) == Duration::from_secs(20));
    }
}
