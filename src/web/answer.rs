use axum::{body::Body, response::Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::cookies::set_cookie;
use crate::{
    flow::CookieChange,
    page::{Link, PAGE_POLICY, page},
    policy::{Answer, CorsGrant, Frontend, Kind},
};

/// An answer in the making. Every answer of ours is `no-store`, `nosniff` and gives no address away.
pub(super) struct Reply(Response);

impl Reply {
    pub(super) fn new(status: StatusCode) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        Self(response)
    }

    /// Sends the browser elsewhere: 302 for a GET, 303 after a POST, never 307 or 308, which would send a form on.
    pub(super) fn redirect(status: StatusCode, location: &str) -> Self {
        Self::new(status).header(header::LOCATION, location)
    }

    pub(super) fn json(status: StatusCode, body: String) -> Self {
        let mut reply = Self::new(status).body(body);
        let content_type = HeaderValue::from_static("application/json");
        reply.0.headers_mut().insert(header::CONTENT_TYPE, content_type);
        reply
    }

    pub(super) fn html(status: StatusCode, body: String) -> Self {
        let reply = Self::new(status).header(header::CONTENT_TYPE, "text/html; charset=utf-8");
        reply.header(header::CONTENT_SECURITY_POLICY, PAGE_POLICY).body(body)
    }

    /// What a refusal becomes: a page for a person, JSON for a script.
    pub(super) fn refusal(answer: &Answer, kind: Kind, request_id: &str, login_url: Option<&str>) -> Self {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let reply = match kind {
            Kind::Navigation => Self::html(
                status,
                page(answer.message, request_id, login_url.map(|url| Link { url, text: "Try again" })),
            ),
            Kind::Fetch => Self::json(status, answer.json(request_id, login_url)),
        };
        reply.retry_after(answer.retry_after)
    }

    pub(super) fn retry_after(self, seconds: Option<u64>) -> Self {
        match seconds {
            Some(seconds) => self.header(header::RETRY_AFTER, &seconds.to_string()),
            None => self,
        }
    }

    /// A page that sends the browser on by itself. A browser holds a redirect that began at another site against
    /// `SameSite=Strict` cookies; a page of our own it does not.
    pub(super) fn landing(location: &str, request_id: &str) -> Self {
        let body = page("You are signed in.", request_id, Some(Link { url: location, text: "Continue" }));
        Self::html(StatusCode::OK, body).header(header::REFRESH, &format!("0; url={location}"))
    }

    pub(super) fn cookies(mut self, changes: &[CookieChange], frontend: &Frontend) -> Self {
        for change in changes {
            if let Ok(value) = HeaderValue::from_str(&set_cookie(change, frontend)) {
                self.0.headers_mut().append(header::SET_COOKIE, value);
            }
        }
        self
    }

    pub(super) fn cors(mut self, grant: Option<&CorsGrant>, frontend: &Frontend) -> Self {
        if frontend.cors.varies() {
            self.0.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
        }
        grant.map(CorsGrant::headers).unwrap_or_default().into_iter().fold(self, Self::static_header)
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Values come from our configuration or were read by a URL parser; one that still is no header value is left
        // out rather than sent broken.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().insert(name, value);
        }
        self
    }

    pub(super) fn static_header(self, (name, value): (&'static str, String)) -> Self {
        self.header(HeaderName::from_static(name), &value)
    }

    fn body(mut self, body: String) -> Self {
        *self.0.body_mut() = Body::from(body);
        self
    }
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        reply.0
    }
}
