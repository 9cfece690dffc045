use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::{clock::Timestamp, crypto::Random};

/// How long a client assertion of ours lives, in seconds.
const ASSERTION_LIFETIME: u64 = 60;

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How this client proves itself at the token and revocation endpoints. Exactly one way is used: a failure is never
/// tried again with another.
pub enum ClientAuthentication {
    /// The secret in the `Authorization` header (RFC 6749 section 2.3.1).
    SecretBasic(SecretString),
    /// The secret among the form's fields (RFC 6749 section 2.3.1).
    SecretPost(SecretString),
    /// An assertion signed with the client's own key (RFC 7523 section 2.2): no secret leaves this program.
    PrivateKeyJwt(AssertionKey),
    /// An assertion that somebody else issues and keeps fresh in a file, such as a projected Kubernetes
    /// service-account token: this program holds no secret at all.
    AssertionFile(PathBuf),
    /// None: a public client, protected by PKCE alone.
    Public,
}

/// The private key of a client.
pub struct AssertionKey {
    key: EncodingKey,
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// A private key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no private key in PEM for RS256, ES256, ES384 or EdDSA (PKCS #8; RSA also PKCS #1)")]
pub struct AssertionKeyError;

/// The client cannot prove itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client cannot prove itself: {0}")]
pub struct ProofError(String);

/// Who asks whom, and when: what an assertion says.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) client_id: &'a str,
    pub(super) issuer: &'a str,
    pub(super) random: &'a dyn Random,
    pub(super) now: Timestamp,
}

/// What proves a client in one request.
pub(super) struct Proof {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Proof {
    /// The form fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl AssertionKey {
    /// Reads a private key in PEM. Its kind tells the algorithm; the id goes into the header of assertions.
    ///
    /// # Errors
    /// [`AssertionKeyError`] when it cannot sign.
    pub fn from_pem(pem: &str, key_id: Option<String>) -> Result<Self, AssertionKeyError> {
        let pem = pem.as_bytes();
        let kinds: [(Algorithm, Option<EncodingKey>); 4] = [
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pem).ok()),
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem).ok()),
            (Algorithm::ES384, EncodingKey::from_ec_pem(pem).ok()),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem).ok()),
        ];
        // The curve of a key shows only when it signs.
        let signs = |(algorithm, key): &(Algorithm, EncodingKey)| {
            encode(&Header::new(*algorithm), &json!({}), key).is_ok()
        };
        let usable = kinds.into_iter().filter_map(|(algorithm, key)| Some((algorithm, key?))).find(signs);
        let (algorithm, key) = usable.ok_or(AssertionKeyError)?;
        Ok(Self { key, algorithm, key_id })
    }

    /// An assertion for one request: for the issuer alone, good for a minute, and never made twice.
    fn assertion(&self, asking: Asking<'_>) -> Result<String, ProofError> {
        let id = asking.random.token().map_err(|error| ProofError(error.to_string()))?;
        let header = Header { kid: self.key_id.clone(), ..Header::new(self.algorithm) };
        let now = asking.now.as_unix();
        let claims = json!({
            "iss": asking.client_id, "sub": asking.client_id, "aud": asking.issuer, "jti": id,
            "iat": now, "exp": now + ASSERTION_LIFETIME,
        });
        encode(&header, &claims, &self.key).map_err(|error| ProofError(error.to_string()))
    }
}

impl ClientAuthentication {
    /// What proves the client in one request.
    pub(super) fn prove(&self, asking: Asking<'_>) -> Result<Proof, ProofError> {
        let client_id = ("client_id", asking.client_id.to_owned());
        let assertion = |assertion: String| Proof {
            authorization: None,
            fields: vec![
                ("client_id", asking.client_id.to_owned()),
                ("client_assertion_type", ASSERTION_TYPE.to_owned()),
                ("client_assertion", assertion),
            ],
        };
        Ok(match self {
            Self::SecretBasic(secret) => {
                Proof { authorization: basic(asking.client_id, secret.expose_secret()), fields: Vec::new() }
            }
            Self::SecretPost(secret) => Proof {
                authorization: None,
                fields: vec![client_id, ("client_secret", secret.expose_secret().to_owned())],
            },
            Self::PrivateKeyJwt(key) => assertion(key.assertion(asking)?),
            Self::AssertionFile(path) => {
                let token = fs::read_to_string(path)
                    .map_err(|error| ProofError(format!("{} cannot be read: {error}", path.display())))?;
                assertion(token.trim().to_owned())
            }
            Self::Public => Proof { authorization: None, fields: vec![client_id] },
        })
    }
}

/// Both parts are form-encoded before they are joined, as RFC 6749 section 2.3.1 says and many clients forget.
fn basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)));
    let mut value = HeaderValue::from_str(&format!("Basic {credentials}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
#[path = "client_authentication_tests.rs"]
mod tests;
