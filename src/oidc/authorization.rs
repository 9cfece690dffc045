use std::time::Duration;

use openidconnect::{
    AuthUrl, ClientId, CsrfToken, IssuerUrl, JsonWebKeySet, Nonce, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope,
    core::{CoreAuthPrompt, CoreAuthenticationFlow, CoreClient},
};
use serde_json::json;
use url::Url;

use super::{ProviderError, ProviderSettings, metadata::Metadata};

/// What one login asks of the provider (OpenID Connect Core section 3.1.2.1). PKCE with S256, state and nonce are
/// always part of it.
#[derive(Clone, Copy)]
pub struct AuthorizationRequest<'a> {
    /// Where the provider sends the browser back to.
    pub redirect_uri: &'a str,
    /// Binds the answer to this browser.
    pub state: &'a str,
    /// Binds the ID token to this login.
    pub nonce: &'a str,
    /// The secret that redeems the code (RFC 7636 section 4.1).
    pub pkce_verifier: &'a str,
    /// Keycloak's hint to go straight to one of its identity providers.
    pub idp_hint: Option<&'a str>,
    /// Whether the user must sign in anew although the provider knows them.
    pub force: bool,
    /// The authentication contexts of which the sign-in must have one; empty means any.
    pub acr_values: &'a [String],
    /// How long ago the sign-in may be.
    pub max_age: Option<Duration>,
}

impl AuthorizationRequest<'_> {
    /// The address to send the browser to.
    pub(super) fn url(&self, settings: &ProviderSettings, metadata: &Metadata) -> Result<Url, ProviderError> {
        let invalid = |error: url::ParseError| ProviderError::Invalid(error.to_string());
        let issuer = IssuerUrl::new(settings.issuer.to_string()).map_err(invalid)?;
        let redirect_uri = RedirectUrl::new(self.redirect_uri.to_owned()).map_err(invalid)?;
        let client =
            CoreClient::new(ClientId::new(settings.client_id.clone()), issuer, JsonWebKeySet::default())
                .set_auth_uri(AuthUrl::from_url(metadata.authorization_endpoint.clone()))
                .set_redirect_uri(redirect_uri);
        let verifier = PkceCodeVerifier::new(self.pkce_verifier.to_owned());
        let (state, nonce) = (CsrfToken::new(self.state.to_owned()), Nonce::new(self.nonce.to_owned()));
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        // The crate asks for `openid` by itself.
        for scope in settings.scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if let Some(hint) = self.idp_hint {
            request = request.add_extra_param("kc_idp_hint", hint.to_owned());
        }
        if !self.acr_values.is_empty() {
            // Essential, so that the provider does its best or says no (OpenID Connect Core section 5.5.1.1).
            let acr = json!({"essential": true, "values": self.acr_values});
            request = request.add_extra_param("claims", json!({"id_token": {"acr": acr}}).to_string());
        }
        if self.force {
            // max_age asks for auth_time, by which the callback sees that the user really signed in anew.
            request = request.add_prompt(CoreAuthPrompt::Login).set_max_age(Duration::ZERO);
        } else if let Some(max_age) = self.max_age {
            request = request.set_max_age(max_age);
        }
        let (url, _state, _nonce) = request.url();
        Ok(url)
    }
}
