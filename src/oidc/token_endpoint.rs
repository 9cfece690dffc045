use std::{fmt, time::Duration};

use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{HttpClient, ProofError, ProviderError, TransportError, client_authentication::Proof};
use crate::clock::Timestamp;

/// The longest part of the provider's own words that is kept for the log.
const MAXIMUM_WORDS: usize = 200;

/// The longest access token in bytes. Envoy takes 60 KiB of headers by default and answers 500 to more.
const MAXIMUM_ACCESS_TOKEN: usize = 32 * 1024;

/// What a token endpoint gave (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3).
pub struct TokenSet {
    /// The access token.
    pub access_token: SecretString,
    /// How long the access token lives, if the provider says so.
    pub expires_in: Option<Duration>,
    /// The refresh token, if there is one.
    pub refresh_token: Option<SecretString>,
    /// How long the refresh token lives (Keycloak's own field); zero means that it does not end.
    pub refresh_expires_in: Option<Duration>,
    /// The ID token, not yet verified.
    pub id_token: Option<SecretString>,
    /// The scopes of the access token, if the provider says so.
    pub scope: Option<String>,
}

/// How long an access token counts as living if neither the answer nor the token says so.
const LIFETIME_WITHOUT_WORD: Duration = Duration::from_secs(60);

impl TokenSet {
    /// How long the access token lives from `asked_at` on: by the answer, else by its own claims.
    pub fn access_lifetime(&self, access_claims: &Map<String, Value>, asked_at: Timestamp) -> Duration {
        let own_end = access_claims.get("exp").and_then(Value::as_u64).map(Timestamp::from_unix);
        self.expires_in.or_else(|| own_end.map(|end| end.since(asked_at))).unwrap_or(LIFETIME_WITHOUT_WORD)
    }

    /// When the refresh token ends; `None` if it does not or the provider does not say.
    pub fn refresh_end(&self, asked_at: Timestamp) -> Option<Timestamp> {
        // Keycloak writes 0 for an offline token, which does not end.
        self.refresh_expires_in.filter(|lifetime| !lifetime.is_zero()).map(|lifetime| asked_at + lifetime)
    }
}

/// A call to the token endpoint brought no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The provider's own word that the code or token is not good (RFC 6749 section 5.2, `invalid_grant`).
    #[error("the provider rejected the grant: {description}")]
    Rejected {
        /// Keycloak's reason; other providers may give none.
        description: String,
    },
    /// The client is not set up as the provider has it: nothing that a user could mend.
    #[error("the provider does not accept this client: {error}: {description}")]
    Configuration {
        /// The error code.
        error: String,
        /// The provider's words.
        description: String,
    },
    /// No answer, or one that says nothing about the grant.
    #[error(transparent)]
    Unavailable(#[from] TransportError),
    /// Discovery failed, so there is no endpoint to call.
    #[error("no discovery document: {0}")]
    Discovery(#[from] ProviderError),
    /// The client cannot even prove itself.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// An answer that is no token answer.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

impl TokenError {
    /// How long the provider asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(error) | Self::Discovery(ProviderError::Transport(error)) => {
                error.retry_after()
            }
            _ => None,
        }
    }

    /// Whether an exchange failed by a word about the token that was to be exchanged, and nothing else. Keycloak says so
    /// of one whose session is over in two ways.
    pub fn is_about_subject_token(&self) -> bool {
        match self {
            Self::Rejected { .. } => true,
            Self::Configuration { error, description } => {
                matches!(error.as_str(), "invalid_request" | "invalid_token")
                    && description == "Invalid token"
            }
            _ => false,
        }
    }

    /// Whether the provider said nothing at all.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Discovery(ProviderError::Transport(_)))
    }
}

#[derive(Deserialize)]
struct SuccessBody {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    refresh_expires_in: Option<u64>,
    #[serde(default)]
    id_token: Option<String>,
    #[serde(default)]
    scope: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// Sends one grant to the token endpoint.
pub(super) async fn request(
    http: &HttpClient,
    endpoint: Url,
    proof: Proof,
    grant: &[(&str, &str)],
) -> Result<TokenSet, TokenError> {
    let form: Vec<(&str, &str)> = grant.iter().copied().chain(proof.fields()).collect();
    let response = http.post_form(endpoint, &form, proof.authorization.clone()).await?;
    if response.status == StatusCode::OK {
        read_success(&response.body)
    } else {
        Err(read_error(response.status, &response.body))
    }
}

fn read_success(body: &[u8]) -> Result<TokenSet, TokenError> {
    // serde's message may repeat a piece of the body, which is made of tokens.
    let body: SuccessBody = serde_json::from_slice(body).map_err(|error| {
        TokenError::Unreadable(format!("{:?} error in the token answer", error.classify()))
    })?;
    if !body.token_type.eq_ignore_ascii_case("bearer") {
        return Err(TokenError::Unreadable("token_type is not Bearer".to_owned()));
    }
    // RFC 6750 section 2.1. Anything else could end the header that it is put into.
    let is_header_safe = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_header_safe(&body.access_token) {
        return Err(TokenError::Unreadable(
            "the access token has characters that no header may hold".to_owned(),
        ));
    }
    if body.access_token.len() > MAXIMUM_ACCESS_TOKEN {
        return Err(TokenError::Unreadable("the access token is too long for a header".to_owned()));
    }
    Ok(TokenSet {
        access_token: body.access_token.into(),
        expires_in: body.expires_in.map(Duration::from_secs),
        refresh_token: body.refresh_token.map(SecretString::from),
        refresh_expires_in: body.refresh_expires_in.map(Duration::from_secs),
        id_token: body.id_token.map(SecretString::from),
        scope: body.scope,
    })
}

fn read_error(status: StatusCode, body: &[u8]) -> TokenError {
    let Ok(ErrorBody { error, error_description }) = serde_json::from_slice(body) else {
        return TokenError::Unreadable(format!("status {status} without an OAuth error"));
    };
    let (error, description) = (printable(&error), printable(&error_description));
    if error == "invalid_grant" {
        TokenError::Rejected { description }
    } else {
        TokenError::Configuration { error, description }
    }
}

/// The provider's words as one bounded line.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAXIMUM_WORDS).collect()
}

/// Tells the provider that a refresh token is no longer needed (RFC 7009 section 2.1).
pub(super) async fn revoke(
    http: &HttpClient,
    endpoint: Url,
    proof: Proof,
    refresh_token: &SecretString,
) -> Result<(), TokenError> {
    let token = [("token", refresh_token.expose_secret()), ("token_type_hint", "refresh_token")];
    let form: Vec<(&str, &str)> = token.into_iter().chain(proof.fields()).collect();
    let response = http.post_form(endpoint, &form, proof.authorization.clone()).await?;
    if response.status == StatusCode::OK { Ok(()) } else { Err(read_error(response.status, &response.body)) }
}

impl fmt::Debug for TokenSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSet")
            .field("expires_in", &self.expires_in)
            .field("refresh_expires_in", &self.refresh_expires_in)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_answer_is_read() {
        let set = read_success(
            br#"{"access_token":"a.b.c","token_type":"bearer","expires_in":59,"refresh_expires_in":0,"refresh_token":"r","scope":"openid"}"#,
        )
        .unwrap();
        assert_eq!(set.expires_in, Some(Duration::from_secs(59)));
        assert_eq!(set.refresh_expires_in, Some(Duration::ZERO));
        assert!(set.id_token.is_none());
    }

    #[test]
    fn what_is_no_token_answer_is_told_without_repeating_it() {
        for body in [
            r#"{"access_token":"secret-canary","token_type":"DPoP"}"#,
            r#"{"access_token":"secret-canary\r\nx: y","token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"token_type":"Bearer","refresh_token":"secret-canary"}"#,
            r#"{"access_token":"a","token_type":"Bearer","expires_in":"secret-canary"}"#,
            "secret-canary",
        ] {
            let error = read_success(body.as_bytes()).unwrap_err();
            assert!(matches!(error, TokenError::Unreadable(_)), "{body}");
            assert!(!format!("{error} {error:?}").contains("secret-canary"), "{error}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        let read = |status, body: &str| read_error(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(
            read(400, r#"{"error":"invalid_grant","error_description":"Session not active"}"#),
            TokenError::Rejected { description: "Session not active".to_owned() }
        );
        for (status, error) in
            [(401, "unauthorized_client"), (401, "invalid_client"), (404, "Realm does not exist")]
        {
            let body = format!(r#"{{"error":"{error}"}}"#);
            let expected = TokenError::Configuration { error: error.to_owned(), description: String::new() };
            assert_eq!(read(status, &body), expected);
        }
        assert!(matches!(read(400, "<html>"), TokenError::Unreadable(_)));
    }
}
