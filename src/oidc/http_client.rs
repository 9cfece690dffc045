use std::{error::Error, time::Duration};

use reqwest::{Method, StatusCode, Url, header, redirect};

/// The largest answer that is read, in bytes. A token answer has a few thousand.
const MAXIMUM_BODY: usize = 1024 * 1024;

/// No answer came, or none that says anything about the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection, or one that broke.
    #[error("no connection: {0}")]
    Connection(String),
    /// The provider took too long.
    #[error("no answer in time")]
    TimedOut,
    /// The provider is overloaded or broken: 429 or 5xx.
    #[error("answered with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What `Retry-After` said, if it gave seconds.
        retry_after: Option<Duration>,
    },
    /// The provider did not answer a moment ago and was not asked again.
    #[error("left alone after it did not answer")]
    Held {
        /// How long it is left alone.
        pause: Duration,
    },
    /// The answer is larger than any real one.
    #[error("the answer is larger than {MAXIMUM_BODY} bytes")]
    TooLarge,
}

impl TransportError {
    /// How long the provider asks to be left alone, or is.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Held { pause } => Some(*pause),
            _ => None,
        }
    }
}

/// An answer of the provider, other than those that are a [`TransportError`].
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Kubernetes gives its key set as nothing but `application/jwk-set+json` (RFC 7517 section 8.5.1).
const ACCEPTED: &str = "application/json, application/jwk-set+json";

/// How long a connection may take: a provider that is there takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Calls a provider: bounded in time and size, with reused connections, never following a redirect.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    call_timeout: Duration,
}

impl HttpClient {
    /// A client that gives up on a call after `call_timeout`.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub fn new(call_timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self { client: builder().build()?, call_timeout })
    }

    /// A client that believes the certificate authorities in this PEM text and no others.
    ///
    /// # Errors
    /// When the text holds none.
    pub fn with_authorities(call_timeout: Duration, pem: &[u8]) -> Result<Self, reqwest::Error> {
        let authorities = reqwest::Certificate::from_pem_bundle(pem)?;
        Ok(Self { client: builder().tls_certs_only(authorities).build()?, call_timeout })
    }

    /// The same client with another time limit. Reading the system's certificates is most of what a start costs, so
    /// providers share one client.
    #[must_use]
    pub fn with_call_timeout(&self, call_timeout: Duration) -> Self {
        Self { client: self.client.clone(), call_timeout }
    }

    pub(super) async fn get_json(
        &self,
        url: Url,
        authorization: Option<header::HeaderValue>,
    ) -> Result<Response, TransportError> {
        self.send(self.client.request(Method::GET, url), authorization).await
    }

    pub(super) async fn post_form(
        &self,
        url: Url,
        form: &[(&str, &str)],
        authorization: Option<header::HeaderValue>,
    ) -> Result<Response, TransportError> {
        self.send(self.client.request(Method::POST, url).form(form), authorization).await
    }

    /// Posts JSON to something that is no OpenID provider; gives the status and the body.
    ///
    /// # Errors
    /// [`TransportError`] when there is no answer that says anything.
    pub async fn post_json(
        &self,
        url: Url,
        body: String,
        authorization: header::HeaderValue,
    ) -> Result<(u16, Vec<u8>), TransportError> {
        let request = self.client.request(Method::POST, url).header(header::CONTENT_TYPE, "application/json");
        let response = self.send(request.body(body), Some(authorization)).await?;
        Ok((response.status.as_u16(), response.body))
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        authorization: Option<header::HeaderValue>,
    ) -> Result<Response, TransportError> {
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.header(header::ACCEPT, ACCEPTED).timeout(self.call_timeout);
        let mut response = request.send().await.map_err(transport)?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let seconds = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(TransportError::Status {
                status: status.as_u16(),
                retry_after: seconds.map(Duration::from_secs),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > MAXIMUM_BODY {
                return Err(TransportError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, body })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that makes a client")]
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // A redirect from a token endpoint would carry client credentials to wherever it points.
        .redirect(redirect::Policy::none())
        .pool_idle_timeout(Duration::from_secs(60))
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
}

fn transport(error: reqwest::Error) -> TransportError {
    if error.is_timeout() {
        return TransportError::TimedOut;
    }
    // The outer error says only "error sending request"; the innermost says why.
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    TransportError::Connection(cause.to_string())
}
