use crate::crypto::{Random, base64url};

/// The longest id that is taken over from the proxy.
const MAXIMUM_LENGTH: usize = 64;

/// The id of a request: the proxy's, or one of our own where that is missing or no fit for a log line and a page.
#[derive(Clone, Debug)]
pub struct RequestId(String);

impl RequestId {
    /// The id of a request whose proxy says `given`.
    pub fn of(given: Option<&str>, random: &dyn Random) -> Self {
        let is_fit = |id: &&str| {
            !id.is_empty()
                && id.len() <= MAXIMUM_LENGTH
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        match given.filter(is_fit) {
            Some(id) => Self(id.to_owned()),
            None => {
                Self(random.bytes::<12>().map_or_else(|_| "unknown".to_owned(), |bytes| base64url(&bytes)))
            }
        }
    }

    /// The id as text: letters, digits, `-`, `_` and `.` only.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemRandom;

    #[test]
    fn a_fit_id_is_kept_and_any_other_is_replaced() {
        let id = |given| RequestId::of(given, &SystemRandom).as_str().to_owned();
        assert_eq!(id(Some("0a1b-2c")), "0a1b-2c");
        for unfit in [None, Some(""), Some("<script>"), Some("a b"), Some("ä"), Some(&*"a".repeat(65))] {
            let made = id(unfit);
            assert_eq!(made.len(), 16, "{unfit:?} became {made}");
        }
    }
}
