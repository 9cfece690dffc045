use std::{future::Future, sync::Arc, time::Duration};

pub use jsonwebtoken::Algorithm;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::{ProviderError, cached::Cached, keys::KeySet};

/// The algorithms that a token may be signed with, if the configuration names no fewer. Symmetric ones and `none` are
/// not among them and cannot be added (RFC 8725 section 3.1).
pub const SIGNATURE_ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A token is not signed by the provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not a signed JWT in the compact form, or one that asks for what we do not understand.
    #[error("not a signed JWT")]
    Malformed,
    /// Its algorithm is not on the list.
    #[error("signed with {0}, which is not accepted")]
    Algorithm(String),
    /// No key of the provider fits.
    #[error("signed with a key that the provider does not publish")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Invalid,
    /// The provider's keys are not to be had.
    #[error("no keys to verify with: {0}")]
    NoKeys(ProviderError),
}

/// How often an unknown key id may cause the keys to be fetched again: often enough for a rotation, too seldom to be
/// a way to make us flood the provider.
const LEAST_KEY_INTERVAL: Duration = Duration::from_secs(10);

/// Verifies the signature of a token with keys that `fetch` gets where they are not at hand.
pub(super) async fn verify<Fetch, Fetching>(
    token: &str,
    accepted: &[Algorithm],
    keys: &Arc<Cached<KeySet>>,
    fetch: Fetch,
) -> Result<SignedClaims, SignatureError>
where
    Fetch: FnOnce() -> Fetching + Clone + Send + 'static,
    Fetching: Future<Output = Result<KeySet, ProviderError>> + Send + 'static,
{
    let header = TokenHeader::read(token, accepted)?;
    let present = keys.get(fetch.clone()).await.map_err(SignatureError::NoKeys)?;
    match header.verify(token, &present) {
        // A key may have been published after we looked.
        Err(SignatureError::UnknownKey) => {
            let renewed = keys.renew(LEAST_KEY_INTERVAL, fetch).await.map_err(SignatureError::NoKeys)?;
            header.verify(token, &renewed)
        }
        verified => verified,
    }
}

/// A token whose signature was verified; its claims were not looked at yet.
pub(super) struct SignedClaims {
    pub(super) claims: Map<String, Value>,
    pub(super) algorithm: Algorithm,
    /// `typ` of the header (RFC 7519 section 5.1).
    pub(super) kind: Option<String>,
}

/// The header of a token, which says only which key to try: nothing else in it is believed before the signature is
/// verified, and `jku`, `jwk` and `x5u` never.
pub(super) struct TokenHeader {
    algorithm: Algorithm,
    key_id: Option<String>,
    kind: Option<String>,
}

impl TokenHeader {
    /// Reads the header of `token` and holds its algorithm against the fixed list.
    pub(super) fn read(token: &str, accepted: &[Algorithm]) -> Result<Self, SignatureError> {
        let header = decode_header(token).map_err(|_| SignatureError::Malformed)?;
        // RFC 7515 section 4.1.11: what is critical and not understood makes the token invalid.
        if header.crit.is_some() || header.enc.is_some() {
            return Err(SignatureError::Malformed);
        }
        if !accepted.contains(&header.alg) {
            return Err(SignatureError::Algorithm(format!("{:?}", header.alg)));
        }
        Ok(Self { algorithm: header.alg, key_id: header.kid, kind: header.typ })
    }

    /// Verifies the signature of `token` with the keys that its header may mean.
    pub(super) fn verify(&self, token: &str, keys: &KeySet) -> Result<SignedClaims, SignatureError> {
        let mut validation = Validation::new(self.algorithm);
        // Claims are checked by our own clock and rules: this crate takes a missing aud or iss for a right one.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let mut error = SignatureError::UnknownKey;
        for key in keys.candidates(self.key_id.as_deref(), self.algorithm) {
            match decode::<Map<String, Value>>(token, key, &validation) {
                Ok(token) => {
                    let kind = self.kind.clone();
                    return Ok(SignedClaims { claims: token.claims, algorithm: self.algorithm, kind });
                }
                Err(_) => error = SignatureError::Invalid,
            }
        }
        Err(error)
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
