use std::{path::PathBuf, sync::Arc, time::Duration};

use reqwest::{Url, header::HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Algorithm, ClaimError, HttpClient, ProviderError, SignatureError,
    cached::Cached,
    claims::{Claims, check_times, text},
    keys::KeySet,
    signature::verify,
};
use crate::clock::SharedClock;

/// How far the clocks of a cluster may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

/// How long the address of the keys, and the keys themselves, are kept.
const LIFETIME: Duration = Duration::from_secs(600);

/// Somebody whose tokens are verified and of whom nothing else is asked: a Kubernetes API server, for example.
pub struct TokenIssuer {
    issuer: Arc<str>,
    http: HttpClient,
    /// Read at every call, since such a token is replaced all the time.
    bearer_file: Option<PathBuf>,
    algorithms: Vec<Algorithm>,
    place: PlaceOfKeys,
    keys: Arc<Cached<KeySet>>,
    clock: SharedClock,
}

/// Who says where the keys are.
enum PlaceOfKeys {
    /// The operator, who trusts that address as much as the issuer.
    Configured(Url),
    /// The issuer's discovery document.
    Discovered(Arc<Cached<Url>>),
}

/// A token is not one of this issuer's, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuedTokenError {
    /// Its signature does not prove it.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// A claim is missing or wrong.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: Url,
}

impl TokenIssuer {
    /// The issuer of this name, which is asked over `http` when it is first needed. Its keys are at `jwks_uri`, or else
    /// where its discovery document says. `bearer_file` holds a token to ask with, for issuers that do not tell
    /// everyone.
    pub fn new(
        issuer: Arc<str>,
        jwks_uri: Option<Url>,
        http: HttpClient,
        bearer_file: Option<PathBuf>,
        algorithms: Vec<Algorithm>,
        clock: SharedClock,
    ) -> Self {
        let place = match jwks_uri {
            Some(uri) => PlaceOfKeys::Configured(uri),
            None => PlaceOfKeys::Discovered(Cached::new(LIFETIME, Arc::clone(&clock))),
        };
        let keys = Cached::new(LIFETIME, Arc::clone(&clock));
        Self { issuer, http, bearer_file, algorithms, place, keys, clock }
    }

    /// How many sets of keys there have been: what was verified by one set need not hold by the next.
    pub fn key_generation(&self) -> u64 {
        self.keys.generation()
    }

    /// Verifies the signature of a token by the issuer's keys, then its issuer and times. Returns its claims, of which
    /// the audience and all others are for the caller to check.
    ///
    /// # Errors
    /// [`IssuedTokenError`] names the first check that failed.
    pub async fn verify(&self, token: &str) -> Result<Map<String, Value>, IssuedTokenError> {
        let (keys_uri, bearer) = self.locate_keys().await.map_err(SignatureError::NoKeys)?;
        let http = self.http.clone();
        let fetch = move || fetch_keys(http, keys_uri, bearer);
        let token = verify(token, &self.algorithms, &self.keys, fetch).await?;
        self.check(&token.claims)?;
        Ok(token.claims)
    }

    /// The address of the keys, and the file with the token that they are asked for with. Nobody is shown that token whom
    /// only a discovery document names: it is for the issuer.
    async fn locate_keys(&self) -> Result<(Url, Option<PathBuf>), ProviderError> {
        let bearer = self.bearer_file.clone();
        match &self.place {
            PlaceOfKeys::Configured(uri) => Ok((uri.clone(), bearer)),
            PlaceOfKeys::Discovered(uri) => {
                let (http, issuer) = (self.http.clone(), Arc::clone(&self.issuer));
                let asked_with = bearer.clone();
                let uri = uri.get(move || fetch_keys_uri(http, issuer, asked_with)).await?;
                let is_issuer = Url::parse(&self.issuer).is_ok_and(|issuer| issuer.origin() == uri.origin());
                Ok((Url::clone(&uri), bearer.filter(|_| is_issuer)))
            }
        }
    }

    fn check(&self, claims: &Claims) -> Result<(), ClaimError> {
        if text(claims, "iss") != Some(&*self.issuer) {
            return Err(ClaimError::Wrong("iss"));
        }
        check_times(claims, CLOCK_SKEW, self.clock.now())
    }
}

/// What the issuer is asked with.
async fn authorization(bearer_file: Option<PathBuf>) -> Result<Option<HeaderValue>, ProviderError> {
    let Some(file) = bearer_file else { return Ok(None) };
    let invalid = |error: String| ProviderError::Invalid(format!("{}: {error}", file.display()));
    let token = tokio::fs::read_to_string(&file).await.map_err(|error| invalid(error.to_string()))?;
    let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut value = value.map_err(|_| invalid("holds no token".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

async fn fetch_keys(
    http: HttpClient,
    keys_uri: Url,
    bearer_file: Option<PathBuf>,
) -> Result<KeySet, ProviderError> {
    let bearer = authorization(bearer_file).await?;
    KeySet::fetch(http, keys_uri, bearer).await
}

/// Reads where the keys are from the discovery document (OpenID Connect Discovery 1.0 section 4).
async fn fetch_keys_uri(
    http: HttpClient,
    issuer: Arc<str>,
    bearer_file: Option<PathBuf>,
) -> Result<Url, ProviderError> {
    let invalid = |what: String| ProviderError::Invalid(format!("discovery document of {issuer}: {what}"));
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = Url::parse(&url).map_err(|error| invalid(error.to_string()))?;
    let response = http.get_json(url, authorization(bearer_file).await?).await?;
    if !response.status.is_success() {
        return Err(invalid(format!("status {}", response.status)));
    }
    let document: Document =
        serde_json::from_slice(&response.body).map_err(|error| invalid(error.to_string()))?;
    if document.issuer != *issuer {
        return Err(invalid(format!("issuer is {:?}", document.issuer)));
    }
    if issuer.starts_with("https://") && document.jwks_uri.scheme() != "https" {
        return Err(invalid("jwks_uri is not https although the issuer is".to_owned()));
    }
    Ok(document.jwks_uri)
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use serde_json::json;
    use tempfile::NamedTempFile;
    use tokio::net::TcpListener;

    use super::*;
    use crate::clock::ManualClock;

    fn issuer(name: &str, jwks_uri: Option<&str>, bearer_file: &NamedTempFile) -> TokenIssuer {
        let http = HttpClient::new(Duration::from_secs(5)).unwrap();
        let jwks_uri = jwks_uri.map(|uri| Url::parse(uri).unwrap());
        let (bearer_file, clock) = (Some(bearer_file.path().to_owned()), ManualClock::starting_at(0));
        TokenIssuer::new(name.into(), jwks_uri, http, bearer_file, vec![Algorithm::RS256], clock)
    }

    /// The address of an issuer whose discovery document says that its keys are there.
    async fn serve_discovery(keys_at: impl FnOnce(&str) -> String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}", listener.local_addr().unwrap());
        let document = json!({"issuer": name, "jwks_uri": keys_at(&name)}).to_string();
        let app = Router::new().route("/.well-known/openid-configuration", get(|| async { document }));
        tokio::spawn(async move { axum::serve(listener, app).await });
        name
    }

    #[tokio::test]
    async fn the_issuers_token_is_shown_to_nobody_whom_only_a_document_names() {
        let file = NamedTempFile::new().unwrap();
        let own = serve_discovery(|name| format!("{name}/keys")).await;
        let (uri, bearer) = issuer(&own, None, &file).locate_keys().await.unwrap();
        assert_eq!((uri.path(), bearer.as_deref()), ("/keys", Some(file.path())));

        let elsewhere = serve_discovery(|_| "http://127.0.0.1:1/keys".to_owned()).await;
        let (uri, bearer) = issuer(&elsewhere, None, &file).locate_keys().await.unwrap();
        assert_eq!((uri.as_str(), bearer), ("http://127.0.0.1:1/keys", None));

        let configured = "https://cluster.example/keys";
        let unreachable = issuer("http://127.0.0.1:1", Some(configured), &file);
        let (uri, bearer) = unreachable.locate_keys().await.unwrap();
        assert_eq!((uri.as_str(), bearer.as_deref()), (configured, Some(file.path())));
    }
}
