use std::sync::Arc;

use aws_lc_rs::rand;

use super::base64url;

/// The operating system could not give random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct RandomError;

/// Gives unpredictable bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// [`RandomError`] when there is no entropy to be had; nothing may be made up in its place.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError>;
}

/// A source of randomness that many parts of the program hold.
pub type SharedRandom = Arc<dyn Random>;

impl dyn Random + '_ {
    /// `LENGTH` random bytes.
    ///
    /// # Errors
    /// See [`Random::fill`].
    pub fn bytes<const LENGTH: usize>(&self) -> Result<[u8; LENGTH], RandomError> {
        let mut bytes = [0; LENGTH];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// 256 random bits as 43 characters of base64url, the shape of every state, nonce, PKCE verifier and session id.
    ///
    /// # Errors
    /// See [`Random::fill`].
    pub fn token(&self) -> Result<String, RandomError> {
        Ok(base64url(&self.bytes::<32>()?))
    }
}

/// The operating system's generator.
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        rand::fill(bytes).map_err(|_| RandomError)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn tokens_are_43_characters_and_never_repeat() {
        let random: &dyn Random = &SystemRandom;
        let tokens: HashSet<String> = (0..100_000).map(|_| random.token().unwrap()).collect();
        assert_eq!(tokens.len(), 100_000);
        assert!(tokens.iter().all(|token| token.len() == 43));
        // No part of them may be a counter, a clock or a shared seed.
        let prefixes: HashSet<&str> = tokens.iter().map(|token| &token[..8]).collect();
        let suffixes: HashSet<&str> = tokens.iter().map(|token| &token[35..]).collect();
        assert!(prefixes.len() > 99_990 && suffixes.len() > 99_990);
    }
}
