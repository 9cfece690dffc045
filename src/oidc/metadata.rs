use openidconnect::{
    AdditionalProviderMetadata, ProviderMetadata,
    core::{
        CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
        CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
        CoreSubjectIdentifierType,
    },
};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{HttpClient, TransportError};

/// The provider could not say what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An answer that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// What the provider says of itself (OpenID Connect Discovery 1.0 section 3), as far as it is needed here.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) keys_uri: Url,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) end_session_endpoint: Option<Url>,
    /// Whether every authorization response names its issuer (RFC 9207 section 3).
    pub(super) names_issuer: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Additional {
    revocation_endpoint: Option<Url>,
    end_session_endpoint: Option<Url>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Additional {}

type Document = ProviderMetadata<
    Additional,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

impl Metadata {
    /// Fetches the discovery document of `issuer`.
    pub(super) async fn fetch(http: HttpClient, issuer: String) -> Result<Self, ProviderError> {
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|error| ProviderError::Invalid(format!("issuer: {error}")))?;
        let response = http.get_json(url, None).await?;
        if !response.status.is_success() {
            return Err(ProviderError::Invalid(format!(
                "discovery answered with status {}",
                response.status
            )));
        }
        Self::read(&response.body, &issuer)
    }

    fn read(body: &[u8], issuer: &str) -> Result<Self, ProviderError> {
        let invalid = |what: String| ProviderError::Invalid(format!("discovery document: {what}"));
        let document: Document = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
        // Discovery section 4.3: exactly the issuer that was asked, or another could answer in its name.
        if document.issuer().as_str() != issuer {
            return Err(invalid(format!("issuer is {:?}, not {issuer:?}", document.issuer().as_str())));
        }
        let token_endpoint =
            document.token_endpoint().ok_or_else(|| invalid("no token_endpoint".to_owned()))?;
        let additional = document.additional_metadata();
        let metadata = Self {
            authorization_endpoint: document.authorization_endpoint().url().clone(),
            token_endpoint: token_endpoint.url().clone(),
            keys_uri: document.jwks_uri().url().clone(),
            revocation_endpoint: additional.revocation_endpoint.clone(),
            end_session_endpoint: additional.end_session_endpoint.clone(),
            names_issuer: additional.authorization_response_iss_parameter_supported,
        };
        // An issuer on plain http was accepted in the configuration; one on https never leads to plain http.
        if issuer.starts_with("https://")
            && let Some(plain) = metadata.endpoints().find(|url| url.scheme() != "https")
        {
            return Err(invalid(format!("{plain} is not https although the issuer is")));
        }
        Ok(metadata)
    }

    fn endpoints(&self) -> impl Iterator<Item = &Url> {
        let optional = self.revocation_endpoint.iter().chain(&self.end_session_endpoint);
        [&self.authorization_endpoint, &self.token_endpoint, &self.keys_uri].into_iter().chain(optional)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://id.example.com/realms/users";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": format!("{ISSUER}/auth"),
            "token_endpoint": format!("{ISSUER}/token"),
            "jwks_uri": format!("{ISSUER}/certs"),
            "end_session_endpoint": format!("{ISSUER}/logout"),
            "authorization_response_iss_parameter_supported": true,
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "a-new-one"],
            "something_new": {"a": 1}
        })
    }

    fn read(document: &Value) -> Result<Metadata, ProviderError> {
        Metadata::read(document.to_string().as_bytes(), ISSUER)
    }

    #[test]
    fn a_document_is_read() {
        let metadata = read(&document()).unwrap();
        assert!(metadata.names_issuer && metadata.revocation_endpoint.is_none());
        assert_eq!(metadata.end_session_endpoint.unwrap().path(), "/realms/users/logout");
    }

    #[test]
    fn another_issuer_plain_http_and_missing_endpoints_are_refused() {
        for (field, value, reason) in [
            ("issuer", json!("https://id.example.com/realms/users/"), "issuer is"),
            ("issuer", json!("https://evil.example"), "issuer is"),
            ("token_endpoint", json!("http://id.example.com/token"), "not https"),
            ("end_session_endpoint", json!("http://id.example.com/logout"), "not https"),
            ("token_endpoint", Value::Null, "no token_endpoint"),
            ("jwks_uri", Value::Null, "JsonWebKeySetUrl"),
            ("authorization_endpoint", json!("no url"), "relative URL"),
        ] {
            let mut document = document();
            document[field] = value;
            let error = read(&document).unwrap_err().to_string();
            assert!(error.contains(reason), "{field}: {error}");
        }
        assert!(Metadata::read(b"<html>", ISSUER).is_err());
    }
}
