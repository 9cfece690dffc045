use std::{collections::HashSet, time::Duration};

use deserr::Deserr;
use secrecy::ExposeSecret;
use url::Url;

use super::{
    Checker,
    duration::Span,
    errors::{At, ShapeErrors},
    is_plain_name,
    listeners::Plaintext,
    origin::check_scheme,
    secret::SecretSource,
};
use crate::oidc::{Algorithm, AssertionKey, ClientAuthentication, ProviderSettings, SIGNATURE_ALGORITHMS};

/// A provider and how long to wait for it.
pub struct ProviderConfig {
    /// The provider.
    pub settings: ProviderSettings,
    /// How long a whole call may take.
    pub call_timeout: Duration,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct ProviderSection {
    #[deserr(default)]
    pub(super) name: Option<String>,
    #[deserr(default)]
    issuer: Option<String>,
    #[deserr(default)]
    plaintext: Option<Plaintext>,
    #[deserr(default)]
    client_id: Option<String>,
    #[deserr(default)]
    client_secret: Option<SecretSource>,
    #[deserr(default)]
    private_key: Option<SecretSource>,
    #[deserr(default)]
    private_key_id: Option<String>,
    #[deserr(default)]
    client_assertion_file: Option<String>,
    #[deserr(default)]
    client_authentication: Option<Method>,
    #[deserr(default = vec!["openid".to_owned()])]
    scopes: Vec<String>,
    #[deserr(default)]
    signature_algorithms: Option<Vec<String>>,
    #[deserr(default)]
    trusted_audiences: Vec<String>,
    #[deserr(default = Span::seconds(10))]
    clock_skew: Span,
    #[deserr(default = Span::seconds(600))]
    discovery_lifetime: Span,
    #[deserr(default = Span::seconds(600))]
    keys_lifetime: Span,
    #[deserr(default = Span(DEFAULT_CALL_TIMEOUT))]
    call_timeout: Span,
    #[deserr(default = CONCURRENT_REFRESHES)]
    concurrent_refreshes: usize,
}

/// How the client proves itself, by the names of OpenID Connect Core section 9.
#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors)]
enum Method {
    #[deserr(rename = "client_secret_basic")]
    Basic,
    #[deserr(rename = "client_secret_post")]
    Post,
    #[deserr(rename = "private_key_jwt")]
    PrivateKeyJwt,
    #[deserr(rename = "client_assertion")]
    AssertionFile,
    #[deserr(rename = "none")]
    Public,
}

/// How long a call to a provider may take, and the least that may be configured: with refresh token rotation, giving
/// up on a call loses the tokens that it brings.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A Keycloak on two cores answers a refresh in about 11 ms: more at once only wait there instead of here.
const CONCURRENT_REFRESHES: usize = 32;

/// RFC 7519 section 4.1.4 speaks of "no more than a few minutes"; synchronised clocks need far less.
const LARGEST_SKEW: Duration = Duration::from_secs(60);

pub(super) fn check(
    sections: Vec<ProviderSection>,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Vec<ProviderConfig> {
    if sections.is_empty() {
        checker.error(at, "must have at least one provider");
    }
    let (mut names, mut clients) = (HashSet::new(), HashSet::new());
    let mut providers = Vec::with_capacity(sections.len());
    for (index, section) in sections.into_iter().enumerate() {
        let at = at.index(index);
        if section.name.as_ref().is_some_and(|name| !names.insert(name.clone())) {
            checker.error(&at.key("name"), "is the name of another provider");
        }
        // A logout token names issuer and audience, and nothing else tells whose it is.
        if let (Some(issuer), Some(client_id)) = (&section.issuer, &section.client_id)
            && !clients.insert((issuer.clone(), client_id.clone()))
        {
            checker.error(&at, "has the issuer and client_id of another provider");
        }
        providers.extend(section.check(&at, checker));
    }
    providers
}

impl ProviderSection {
    fn check(mut self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<ProviderConfig> {
        let name = checker.required(self.name.take(), &at.key("name"));
        if name.as_ref().is_some_and(|name| !is_plain_name(name)) {
            checker.error(&at.key("name"), "must be 1 to 32 of the characters a-z, 0-9 and -");
        }
        let client_id = checker.required(self.client_id.take(), &at.key("client_id"));
        if client_id.as_ref().is_some_and(String::is_empty) {
            checker.error(&at.key("client_id"), "is empty");
        }
        let issuer = checker.required(self.issuer.take(), &at.key("issuer"));
        if let Some(issuer) = &issuer {
            self.check_issuer(issuer, &at.key("issuer"), checker);
        }
        for (index, scope) in self.scopes.iter().enumerate() {
            // RFC 6749 section 3.3.
            let is_scope = !scope.is_empty()
                && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
            if !is_scope {
                checker.error(
                    &at.key("scopes").index(index),
                    "is not a scope: one word of printable characters",
                );
            }
        }
        if self.clock_skew.0 > LARGEST_SKEW {
            checker.error(&at.key("clock_skew"), "must not be longer than 60s");
        }
        if self.call_timeout.0 < DEFAULT_CALL_TIMEOUT {
            let message = "must be at least 15s: with refresh token rotation, a call given up too early signs the user out";
            checker.error(&at.key("call_timeout"), message);
        }
        if self.concurrent_refreshes == 0 {
            checker.error(&at.key("concurrent_refreshes"), "must be at least 1");
        }
        let signature_algorithms = self.signature_algorithms(&at.key("signature_algorithms"), checker);
        let client_authentication = self.client_authentication(at, checker);
        Some(ProviderConfig {
            settings: ProviderSettings {
                name: name?.into(),
                issuer: issuer?.into(),
                client_id: client_id?,
                client_authentication: client_authentication?,
                scopes: self.scopes,
                signature_algorithms,
                trusted_audiences: self.trusted_audiences,
                clock_skew: self.clock_skew.0,
                metadata_lifetime: self.discovery_lifetime.0,
                keys_lifetime: self.keys_lifetime.0,
                concurrent_refreshes: self.concurrent_refreshes,
            },
            call_timeout: self.call_timeout.0,
        })
    }

    fn check_issuer(&self, issuer: &str, at: &At<'_>, checker: &mut Checker<'_>) {
        let url = match Url::parse(issuer) {
            Ok(url) => url,
            Err(error) => return checker.error(at, format!("is not a URL: {error}")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            checker.error(at, "must have no query and no fragment");
        }
        match check_scheme(&url) {
            Ok(()) => {}
            Err(_) if url.scheme() == "http" && self.plaintext.is_some() => {
                checker
                    .warn(at, "is reached without encryption: whoever can listen in can sign in as anyone");
            }
            Err(message) => checker.error(at, message),
        }
    }

    fn signature_algorithms(&self, at: &At<'_>, checker: &mut Checker<'_>) -> Vec<Algorithm> {
        let Some(names) = &self.signature_algorithms else { return SIGNATURE_ALGORITHMS.to_vec() };
        if names.is_empty() {
            checker.error(at, "must have at least one algorithm");
        }
        let mut algorithms = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            match SIGNATURE_ALGORITHMS.into_iter().find(|algorithm| format!("{algorithm:?}") == *name) {
                Some(algorithm) => algorithms.push(algorithm),
                None => checker.error(&at.index(index), format!("must be one of {SIGNATURE_ALGORITHMS:?}")),
            }
        }
        algorithms
    }

    fn client_authentication(&self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<ClientAuthentication> {
        let method = self.client_authentication.unwrap_or(Method::Basic);
        let given = [
            ("client_secret", self.client_secret.is_some()),
            ("private_key", self.private_key.is_some()),
            ("client_assertion_file", self.client_assertion_file.is_some()),
        ];
        if self.private_key_id.is_some() && self.private_key.is_none() {
            checker.error(&at.key("private_key_id"), "needs a private_key");
        }
        let needed = match method {
            Method::Basic | Method::Post => Some("client_secret"),
            Method::PrivateKeyJwt => Some("private_key"),
            Method::AssertionFile => Some("client_assertion_file"),
            Method::Public => None,
        };
        let mut fits = true;
        for (key, is_given) in given {
            if is_given && needed != Some(key) {
                let message = format!(
                    "has no use with this client_authentication, which needs {}",
                    needed.unwrap_or("none")
                );
                checker.error(&at.key(key), message);
                fits = false;
            }
            if !is_given && needed == Some(key) {
                let message = match method {
                    Method::Basic | Method::Post => {
                        "is missing; a client without one needs another client_authentication"
                    }
                    _ => "is missing",
                };
                checker.error(&at.key(key), message);
                fits = false;
            }
        }
        if !fits {
            return None;
        }
        let mut read = |source: &Option<SecretSource>, key| source.clone()?.read(&at.key(key), checker);
        Some(match method {
            Method::Basic => ClientAuthentication::SecretBasic(read(&self.client_secret, "client_secret")?),
            Method::Post => ClientAuthentication::SecretPost(read(&self.client_secret, "client_secret")?),
            Method::PrivateKeyJwt => {
                let pem = read(&self.private_key, "private_key")?;
                let key = AssertionKey::from_pem(pem.expose_secret(), self.private_key_id.clone());
                let key = key.map_err(|error| checker.error(&at.key("private_key"), error.to_string()));
                ClientAuthentication::PrivateKeyJwt(key.ok()?)
            }
            Method::AssertionFile => {
                ClientAuthentication::AssertionFile(self.client_assertion_file.clone()?.into())
            }
            Method::Public => {
                checker.warn(at, "is a public client: whoever knows its id can act as it");
                ClientAuthentication::Public
            }
        })
    }
}
