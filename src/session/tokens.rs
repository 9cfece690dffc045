use std::{fmt, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::clock::Timestamp;

/// What a login or a refresh brought, and what requests need of it, made ready once.
#[derive(Clone)]
pub struct Tokens {
    /// When the access token ends.
    pub access_expires_at: Timestamp,
    /// How long the access token lived when it was issued.
    pub access_lifetime: Duration,
    /// What gets the next access token.
    pub refresh_token: Option<SecretString>,
    /// When the refresh token ends; `None` if it does not (an offline token) or the provider does not say.
    pub refresh_expires_at: Option<Timestamp>,
    /// The last ID token: the hint by which the provider knows whom to sign out.
    pub id_token: SecretString,
    /// The verified claims of the ID token.
    pub id_claims: Map<String, Value>,
    /// The claims of the access token that hold roles (`realm_access`, `resource_access`); empty if it is opaque.
    pub access_claims: Map<String, Value>,
    /// The request headers made from all this.
    pub upstream: UpstreamHeaders,
}

/// The request headers that a session gives its requests on their way to the upstream.
#[derive(Clone)]
pub struct UpstreamHeaders {
    /// The value of `Authorization`, which holds the access token.
    pub authorization: SecretString,
    /// Names and values of the identity headers for which the user has a value.
    pub identity: Vec<(String, String)>,
    /// Names of headers that a client might have sent and that must not pass, without those above.
    pub remove: Vec<String>,
}

/// What the value of `Authorization` starts with (RFC 6750 section 2.1).
const SCHEME: &str = "Bearer ";

impl UpstreamHeaders {
    /// The access token alone.
    pub fn access_token(&self) -> &str {
        let value = self.authorization.expose_secret();
        value.strip_prefix(SCHEME).unwrap_or(value)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("access_expires_at", &self.access_expires_at)
            .field("refresh_expires_at", &self.refresh_expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UpstreamHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.identity.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("UpstreamHeaders").field("identity", &names).finish_non_exhaustive()
    }
}
