use jsonwebtoken::{Algorithm, DecodingKey, jwk::Jwk};
use reqwest::{Url, header::HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::{HttpClient, ProviderError};

/// The provider's public keys for signatures (RFC 7517 section 5).
pub(super) struct KeySet {
    keys: Vec<VerificationKey>,
}

struct VerificationKey {
    id: Option<String>,
    algorithm: Option<String>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Fetches the keys at `url`.
    pub(super) async fn fetch(
        http: HttpClient,
        url: Url,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, ProviderError> {
        let response = http.get_json(url, authorization).await?;
        if !response.status.is_success() {
            return Err(ProviderError::Invalid(format!(
                "the key set answered with status {}",
                response.status
            )));
        }
        Self::read(&response.body)
    }

    /// Reads a key set. Keys for encryption, symmetric keys and keys of a kind that we do not know are passed over:
    /// one of them never spoils the set.
    pub(super) fn read(body: &[u8]) -> Result<Self, ProviderError> {
        let document: Document = serde_json::from_slice(body)
            .map_err(|error| ProviderError::Invalid(format!("the key set is not one: {error}")))?;
        let keys = document.keys.into_iter().filter_map(VerificationKey::read).collect();
        Ok(Self { keys })
    }

    /// The keys that may have made a signature with `algorithm` under the key id of the token's header. Without an id
    /// every key that fits is one (OpenID Connect Core section 10.1).
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        self.keys.iter().filter_map(move |key| {
            let fits_id = id.is_none() || key.id.as_deref() == id;
            // A key that names its algorithm is for no other (RFC 7517 section 4.4).
            let fits_algorithm = key.key.family() == algorithm.family()
                && key.algorithm.as_deref().is_none_or(|named| named == format!("{algorithm:?}"));
            (fits_id && fits_algorithm).then_some(&key.key)
        })
    }
}

impl VerificationKey {
    fn read(jwk: Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).map(str::to_owned);
        if matches!(text("use").as_deref(), Some(other) if other != "sig")
            || text("kty").as_deref() == Some("oct")
        {
            return None;
        }
        let (id, algorithm) = (text("kid"), text("alg"));
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id, algorithm, key })
    }
}
