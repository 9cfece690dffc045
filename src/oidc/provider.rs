use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::{
    AccessTokenError, Algorithm, AuthorizationRequest, ClientAuthentication, HttpClient, IdTokenError,
    LoginExpectation, LogoutToken, LogoutTokenError, ProofError, ProviderError, SignatureError, TokenError,
    TokenSet, TransportError, access_token,
    cached::Cached,
    circuit::Circuit,
    claims,
    client_authentication::{Asking, Proof},
    id_token,
    keys::KeySet,
    logout_token,
    metadata::Metadata,
    signature::{self, SignedClaims},
    token_endpoint,
};
use crate::{clock::SharedClock, crypto::SharedRandom};

/// How often a logout asks whether the provider is there, and how long it waits for the answer.
const LEAST_PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// A provider as it is configured: an issuer and a client at it.
pub struct ProviderSettings {
    /// Its name in the configuration and in logs.
    pub name: Arc<str>,
    /// The issuer, character by character as the provider names itself.
    pub issuer: Arc<str>,
    /// The client's id.
    pub client_id: String,
    /// How the client proves itself.
    pub client_authentication: ClientAuthentication,
    /// The scopes that a login asks for; `openid` is always one.
    pub scopes: Vec<String>,
    /// The algorithms that ID tokens may be signed with.
    pub signature_algorithms: Vec<Algorithm>,
    /// Audiences besides the client that an ID token may name.
    pub trusted_audiences: Vec<String>,
    /// How far the provider's clock may be from ours.
    pub clock_skew: Duration,
    /// How long the discovery document is kept.
    pub metadata_lifetime: Duration,
    /// How long the keys are kept.
    pub keys_lifetime: Duration,
    /// How many refreshes may be under way at once, and how many grants for tokens that are no session's.
    pub concurrent_refreshes: usize,
}

/// One OpenID provider.
pub struct Provider {
    settings: ProviderSettings,
    http: HttpClient,
    metadata: Arc<Cached<Metadata>>,
    keys: Arc<Cached<KeySet>>,
    pub(super) circuit: Circuit,
    random: SharedRandom,
    pub(super) clock: SharedClock,
}

impl Provider {
    /// A provider that is asked when it is first needed: nothing is fetched yet.
    pub fn new(
        settings: ProviderSettings,
        http: HttpClient,
        random: SharedRandom,
        clock: SharedClock,
    ) -> Self {
        let metadata = Cached::new(settings.metadata_lifetime, Arc::clone(&clock));
        let keys = Cached::new(settings.keys_lifetime, Arc::clone(&clock));
        let circuit = Circuit::new(settings.concurrent_refreshes);
        Self { settings, http, metadata, keys, circuit, random, clock }
    }

    /// How it is configured.
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// The address that begins a login.
    ///
    /// # Errors
    /// [`ProviderError`] when there is no discovery document to take it from.
    pub async fn authorization_url(&self, request: &AuthorizationRequest<'_>) -> Result<Url, ProviderError> {
        request.url(&self.settings, &*self.metadata().await?)
    }

    /// Checks the `iss` parameter of an authorization response (RFC 9207 section 2.4): where it is given it must be
    /// the issuer, and a provider that announces it must give it.
    ///
    /// # Errors
    /// [`ProviderError`] when there is no discovery document to tell.
    pub async fn is_response_issuer(&self, issuer: Option<&str>) -> Result<bool, ProviderError> {
        match issuer {
            Some(issuer) => Ok(issuer == &*self.settings.issuer),
            None => Ok(!self.metadata().await?.names_issuer),
        }
    }

    /// Redeems an authorization code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
    ///
    /// # Errors
    /// [`TokenError`] says why there are no tokens. The code must not be sent again.
    pub async fn redeem_code(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<TokenSet, TokenError> {
        self.request_tokens(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ])
        .await
    }

    /// Gets new tokens for a refresh token (RFC 6749 section 6).
    ///
    /// # Errors
    /// [`TokenError`] says why there are none.
    pub async fn refresh(&self, refresh_token: &SecretString) -> Result<TokenSet, TokenError> {
        self.request_tokens(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose_secret()),
        ])
        .await
    }

    /// Tells the provider that a refresh token is no longer needed. A provider without a revocation endpoint needs no
    /// telling.
    ///
    /// # Errors
    /// [`TokenError`] says why the provider may not know.
    pub async fn revoke(&self, refresh_token: &SecretString) -> Result<(), TokenError> {
        let Some(endpoint) = self.metadata().await?.revocation_endpoint.clone() else { return Ok(()) };
        token_endpoint::revoke(&self.http, endpoint, self.proof()?, refresh_token).await
    }

    /// The address that ends the user's session at the provider (OpenID Connect RP-Initiated Logout section 2);
    /// `None` if the provider has none. The discovery document is asked for anew, so that no browser is sent to a
    /// provider that is away.
    ///
    /// # Errors
    /// [`ProviderError`] when the provider does not answer.
    pub async fn end_session_url(
        &self,
        id_token_hint: Option<&SecretString>,
        return_uri: &str,
        state: &str,
    ) -> Result<Option<Url>, ProviderError> {
        let (http, issuer) = (self.http.clone(), self.settings.issuer.to_string());
        let metadata = self.metadata.renew(LEAST_PROBE_INTERVAL, move || Metadata::fetch(http, issuer));
        let metadata = timeout(PROBE_TIMEOUT, metadata).await.map_err(|_| TransportError::TimedOut)??;
        let Some(mut url) = metadata.end_session_endpoint.clone() else { return Ok(None) };
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("client_id", &self.settings.client_id);
            query.append_pair("post_logout_redirect_uri", return_uri);
            query.append_pair("state", state);
            if let Some(hint) = id_token_hint {
                query.append_pair("id_token_hint", hint.expose_secret());
            }
        }
        Ok(Some(url))
    }

    /// Ends the user's session at the provider without a browser; false if the provider has no way to.
    ///
    /// # Errors
    /// [`TokenError`] says why the provider may not know.
    pub async fn end_session(&self, id_token_hint: &SecretString) -> Result<bool, TokenError> {
        let Some(endpoint) = self.metadata().await?.end_session_endpoint.clone() else { return Ok(false) };
        // By POST, so that the token stands in no access log (OpenID Connect RP-Initiated Logout section 2).
        let form = [
            ("client_id", self.settings.client_id.as_str()),
            ("id_token_hint", id_token_hint.expose_secret()),
        ];
        let status = self.http.post_form(endpoint, &form, None).await?.status;
        if status.is_success() || status.is_redirection() {
            Ok(true)
        } else {
            Err(TokenError::Unreadable(format!("the logout answered with status {status}")))
        }
    }

    /// Verifies the ID token of a login: its signature by the provider's keys, then every claim. Returns its claims.
    ///
    /// # Errors
    /// [`IdTokenError`] names the first check that failed.
    pub async fn verify_login(
        &self,
        id_token: Option<&SecretString>,
        expected: &LoginExpectation<'_>,
    ) -> Result<Map<String, Value>, IdTokenError> {
        let token = self.verify_signature(id_token.ok_or(IdTokenError::Missing)?.expose_secret()).await?;
        id_token::check_login(&token, &self.settings, expected, self.clock.now())?;
        Ok(token.claims)
    }

    /// Verifies the ID token of a refresh against the claims of the one before. Returns its claims.
    ///
    /// # Errors
    /// [`IdTokenError`] names the first check that failed.
    pub async fn verify_refreshed(
        &self,
        id_token: &SecretString,
        previous: &Map<String, Value>,
        access_token: &str,
    ) -> Result<Map<String, Value>, IdTokenError> {
        let token = self.verify_signature(id_token.expose_secret()).await?;
        id_token::check_refreshed(&token, &self.settings, previous, access_token, self.clock.now())?;
        Ok(token.claims)
    }

    /// Verifies an access token of Keycloak's that this client was given for a user and somebody else presents: its
    /// signature, then every claim but the audience. Returns its claims.
    ///
    /// # Errors
    /// [`AccessTokenError`] names the first check that failed.
    pub async fn verify_access_token(&self, token: &str) -> Result<Map<String, Value>, AccessTokenError> {
        let token = self.verify_signature(token).await?;
        access_token::check_access_token(&token, &self.settings, self.clock.now())?;
        Ok(token.claims)
    }

    /// Whether a token with these claims, which nobody has verified yet, is meant for this client of this issuer.
    pub fn is_addressed_by(&self, unverified: &Map<String, Value>) -> bool {
        claims::text(unverified, "iss") == Some(&*self.settings.issuer)
            && claims::audiences(unverified).contains(&self.settings.client_id.as_str())
    }

    /// Verifies a logout token: its signature by the provider's keys, then every claim (OpenID Connect Back-Channel
    /// Logout 1.0 section 2.6). Whether it was used before is for the caller to tell.
    ///
    /// # Errors
    /// [`LogoutTokenError`] names the first check that failed.
    pub async fn verify_logout(&self, logout_token: &str) -> Result<LogoutToken, LogoutTokenError> {
        let token = self.verify_signature(logout_token).await?;
        logout_token::check_logout(&token, &self.settings, self.clock.now())
    }

    async fn verify_signature(&self, token: &str) -> Result<SignedClaims, SignatureError> {
        let keys_uri = self.metadata().await.map_err(SignatureError::NoKeys)?.keys_uri.clone();
        let http = self.http.clone();
        let fetch = move || KeySet::fetch(http, keys_uri, None);
        signature::verify(token, &self.settings.signature_algorithms, &self.keys, fetch).await
    }

    pub(super) async fn request_tokens(&self, grant: &[(&str, &str)]) -> Result<TokenSet, TokenError> {
        let endpoint = self.metadata().await?.token_endpoint.clone();
        token_endpoint::request(&self.http, endpoint, self.proof()?, grant).await
    }

    fn proof(&self) -> Result<Proof, ProofError> {
        let ProviderSettings { client_id, issuer, client_authentication, .. } = &self.settings;
        let (random, now) = (&*self.random, self.clock.now());
        client_authentication.prove(Asking { client_id, issuer, random, now })
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        let (http, issuer) = (self.http.clone(), self.settings.issuer.to_string());
        self.metadata.get(move || Metadata::fetch(http, issuer)).await
    }
}
