use secrecy::{ExposeSecret, SecretString};

use super::{Provider, TokenError, TokenSet};

/// RFC 8693 section 3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a grant asks for besides the grant itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The scopes, separated by spaces; empty leaves them to the provider.
    pub scope: &'a str,
    /// The audience, for providers that let it be asked for.
    pub audience: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn append_to(self, grant: &mut Vec<(&'a str, &'a str)>) {
        if !self.scope.is_empty() {
            grant.push(("scope", self.scope));
        }
        grant.extend(self.audience.map(|audience| ("audience", audience)));
    }
}

impl Provider {
    /// Gets a token for the client itself (RFC 6749 section 4.4).
    ///
    /// # Errors
    /// [`TokenError`] says why there is none.
    pub async fn client_credentials(&self, wanted: Wanted<'_>) -> Result<TokenSet, TokenError> {
        let mut grant = vec![("grant_type", "client_credentials")];
        wanted.append_to(&mut grant);
        self.request_grant(&grant).await
    }

    /// Gets a token for the user whom another provider's token names (RFC 7523 section 2.1).
    ///
    /// # Errors
    /// [`TokenError`] says why there is none.
    pub async fn jwt_authorization_grant(
        &self,
        assertion: &SecretString,
        wanted: Wanted<'_>,
    ) -> Result<TokenSet, TokenError> {
        let mut grant = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.expose_secret()),
        ];
        wanted.append_to(&mut grant);
        self.request_grant(&grant).await
    }

    /// Exchanges an access token of this provider for one that is good for the wanted audience only (RFC 8693
    /// section 2.1).
    ///
    /// # Errors
    /// [`TokenError`] says why there is none.
    pub async fn exchange(&self, access_token: &str, wanted: Wanted<'_>) -> Result<TokenSet, TokenError> {
        let mut grant = vec![
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", access_token),
            ("subject_token_type", ACCESS_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ];
        wanted.append_to(&mut grant);
        self.request_grant(&grant).await
    }

    /// Gets the next token for the refresh token that came with one of these grants (RFC 6749 section 6).
    ///
    /// # Errors
    /// [`TokenError`] says why there is none.
    pub async fn renew(&self, refresh_token: &SecretString) -> Result<TokenSet, TokenError> {
        self.request_grant(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose_secret()),
        ])
        .await
    }

    /// Unlike the refreshes of sessions, which queue by urgency and pause each for itself, these are many alike: they
    /// are bounded together, and an outage that one of them meets spares the others the wait.
    async fn request_grant(&self, grant: &[(&str, &str)]) -> Result<TokenSet, TokenError> {
        let _turn = self.circuit.enter(&*self.clock).await?;
        let answer = self.request_tokens(grant).await;
        self.circuit.note(answer.as_ref().err(), self.clock.now());
        answer
    }
}
