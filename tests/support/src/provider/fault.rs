//! Answers that no well-behaved provider gives.

use super::Provider;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::ready;
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::json;
use std::io;

/// What an endpoint does in place of its work. The call changes nothing at the provider.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It gives this answer.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Headers by name and value.
        headers: Vec<(String, String)>,
        /// The body, whatever it is.
        body: String,
    },
    /// It closes the connection without an answer.
    Disconnect,
}

impl Fault {
    /// A status with no body.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: String::new() }
    }

    /// Success with this body, which is called JSON whether it is or not.
    pub fn body(body: impl Into<String>) -> Self {
        Self::Answer { status: 200, headers: Vec::new(), body: body.into() }
            .with_header("content-type", "application/json")
    }

    /// An error of OAuth (RFC 6749 section 5.2), with status 400.
    pub fn error(error: &str, description: &str) -> Self {
        let body = json!({"error": error, "error_description": description}).to_string();
        Self::Answer { status: 400, headers: Vec::new(), body }
            .with_header("content-type", "application/json")
    }

    /// The same answer with another status; nothing else becomes of a closed connection.
    #[must_use]
    pub fn with_status(mut self, new: u16) -> Self {
        if let Self::Answer { status, .. } = &mut self {
            *status = new;
        }
        self
    }

    /// The same answer with another header, such as `Retry-After`; a closed connection has none.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self::Answer { status, headers, body } = self else {
            return Response::new(broken());
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).expect("an HTTP status");
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
            response.headers_mut().append(name, HeaderValue::from_str(&value).expect("a header value"));
        }
        response
    }
}

/// A body that breaks before anything was sent, upon which the server closes the connection.
fn broken() -> Body {
    let error = io::Error::from(io::ErrorKind::ConnectionReset);
    Body::from_stream(stream::once(ready(Err::<Bytes, _>(error))))
}

/// What is wrong at the moment, by endpoint.
#[derive(Default)]
pub(super) struct Faults {
    tokens: Mutex<Option<Fault>>,
    refreshes: Mutex<Option<Fault>>,
    keys: Mutex<Option<Fault>>,
    discovery: Mutex<Option<Fault>>,
}

impl Faults {
    pub(super) fn at_token_endpoint(&self, is_refresh: bool) -> Option<Fault> {
        let of_refreshes = if is_refresh { self.refreshes.lock().clone() } else { None };
        of_refreshes.or_else(|| self.tokens.lock().clone())
    }

    pub(super) fn at_keys(&self) -> Option<Fault> {
        self.keys.lock().clone()
    }

    pub(super) fn at_discovery(&self) -> Option<Fault> {
        self.discovery.lock().clone()
    }

    pub(super) fn clear(&self) {
        for fault in [&self.tokens, &self.refreshes, &self.keys, &self.discovery] {
            *fault.lock() = None;
        }
    }
}

impl Provider {
    /// From now on every call of the token endpoint ends like this.
    pub fn answer_tokens(&self, fault: Fault) {
        *self.core.faults.tokens.lock() = Some(fault);
    }

    /// From now on every refresh ends like this, while logins go on.
    pub fn answer_refreshes(&self, fault: Fault) {
        *self.core.faults.refreshes.lock() = Some(fault);
    }

    /// From now on whoever wants the public keys gets this.
    pub fn answer_keys(&self, fault: Fault) {
        *self.core.faults.keys.lock() = Some(fault);
    }

    /// From now on whoever wants the discovery document gets this.
    pub fn answer_discovery(&self, fault: Fault) {
        *self.core.faults.discovery.lock() = Some(fault);
    }
}
