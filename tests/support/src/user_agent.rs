//! A browser without a screen: cookies, redirects and the headers that browsers add, for tests that need no scripts.

use crate::cookies::{Context, Jar};
use crate::response::{Hop, Response, text};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, redirect};
use serde_json::Value;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// As many as Chromium follows.
const MOST_REDIRECTS: usize = 20;

/// One browser. Two of them share nothing.
pub struct UserAgent {
    http: Client,
    /// Its cookies.
    pub cookies: Jar,
}

impl Default for UserAgent {
    fn default() -> Self {
        Self::new()
    }
}

impl UserAgent {
    /// A browser with no cookies yet.
    pub fn new() -> Self {
        let http = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::new(Loopback))
            .timeout(Duration::from_secs(60))
            .build()
            .expect("an HTTP client");
        Self { http, cookies: Jar::default() }
    }

    /// Someone enters an address or follows a link: a page is loaded. Await it to send it.
    pub fn navigate(&self, url: impl AsRef<str>) -> Request<'_> {
        self.request(Method::GET, url.as_ref(), Kind::Navigation)
    }

    /// A page of the same origin calls `fetch`. Await it to send it.
    pub fn fetch(&self, url: impl AsRef<str>) -> Request<'_> {
        self.request(Method::GET, url.as_ref(), Kind::Fetch)
    }

    /// Opens `url`, signs in on the login page that it leads to, and goes where that leads.
    pub async fn sign_in(&self, url: impl AsRef<str>, user: &str, password: &str) -> Response {
        let page = self.navigate(url).await;
        self.submit_login(&page, user, password).await
    }

    /// Fills in the login form of Keycloak's page and follows where that leads.
    pub async fn submit_login(&self, page: &Response, user: &str, password: &str) -> Response {
        let action = page.login_form();
        let form = [("username", user), ("password", password), ("credentialId", "")];
        self.navigate(action).method(Method::POST).form(&form).from_page(&page.url).await
    }

    fn request(&self, method: Method, url: &str, kind: Kind) -> Request<'_> {
        let url = Url::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        // A fetch comes from a page; a navigation need not.
        let page = (kind == Kind::Fetch).then(|| url.clone());
        let changes = Vec::new();
        Request { agent: self, method, url, kind, page, changes, body: None, follow: true, credentials: true }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Navigation,
    Fetch,
}

/// A request to be sent by awaiting it.
#[must_use = "a request is sent by awaiting it"]
pub struct Request<'a> {
    agent: &'a UserAgent,
    method: Method,
    url: Url,
    kind: Kind,
    page: Option<Url>,
    changes: Vec<(HeaderName, Option<HeaderValue>)>,
    body: Option<(&'static str, Vec<u8>)>,
    follow: bool,
    credentials: bool,
}

impl Request<'_> {
    /// Another method than GET.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets a header, also in place of one that the browser adds by itself. Several values of a name are all sent.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        self.changes.push((header_name(name), Some(value)));
        self
    }

    /// Leaves a header out that the browser adds by itself, such as `origin` or `sec-fetch-site`.
    pub fn without_header(mut self, name: &str) -> Self {
        self.changes.push((header_name(name), None));
        self
    }

    /// A form as the body.
    pub fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body = Some(("application/x-www-form-urlencoded", body.into_bytes()));
        self
    }

    /// JSON as the body.
    pub fn json(mut self, value: &Value) -> Self {
        self.body = Some(("application/json", value.to_string().into_bytes()));
        self
    }

    /// The page, or just the origin, that sends it.
    pub fn from_page(mut self, page: impl AsRef<str>) -> Self {
        let page = page.as_ref();
        self.page = Some(Url::parse(page).unwrap_or_else(|error| panic!("{page}: {error}")));
        self
    }

    /// Shows a redirect instead of following it.
    pub fn without_redirects(mut self) -> Self {
        self.follow = false;
        self
    }

    /// Neither sends nor takes cookies.
    pub fn without_cookies(mut self) -> Self {
        self.credentials = false;
        self
    }

    async fn send(mut self) -> Response {
        let mut hops = Vec::new();
        let mut same_site = self.page.as_ref().is_none_or(|page| is_same_site(page, &self.url));
        let mut same_origin = self.page.as_ref().is_none_or(|page| page.origin() == self.url.origin());
        loop {
            let headers = self.headers(same_origin, same_site);
            let answer = self.exchange(headers).await;
            let status = answer.status().as_u16();
            let headers = answer.headers().clone();
            let location = headers.get(LOCATION).map(|value| text(value.as_bytes()));
            hops.push(Hop { url: self.url.to_string(), status, location: location.clone() });
            if let (true, 300..400, Some(location)) = (self.follow, status, location) {
                assert!(hops.len() <= MOST_REDIRECTS, "too many redirects: {hops:#?}");
                let next = self.url.join(&location).unwrap_or_else(|error| panic!("{location}: {error}"));
                let from = self.page.as_ref().unwrap_or(&next);
                same_site &= is_same_site(from, &next);
                same_origin &= from.origin() == next.origin();
                if !matches!(status, 307 | 308) && self.method != Method::HEAD {
                    self.method = Method::GET;
                    self.body = None;
                }
                self.url = next;
                continue;
            }
            let body = answer.bytes().await.expect("the answer's body").to_vec();
            return Response { url: self.url.to_string(), status, headers, body, hops };
        }
    }

    async fn exchange(&self, headers: HeaderMap) -> reqwest::Response {
        let mut request = self.agent.http.request(self.method.clone(), self.url.clone()).headers(headers);
        if let Some((_, body)) = &self.body {
            request = request.body(body.clone());
        }
        let answer = request.send().await;
        let answer = answer.unwrap_or_else(|error| panic!("{} {}: {error:?}", self.method, self.url));
        if self.credentials {
            for header in answer.headers().get_all(SET_COOKIE) {
                self.agent.cookies.take(&self.url, &text(header.as_bytes()));
            }
        }
        answer
    }

    /// What the browser adds, then what the test wants otherwise.
    fn headers(&self, same_origin: bool, same_site: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut set = |name: &'static str, value: &str| {
            headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        };
        let (accept, mode, destination) = match self.kind {
            Kind::Navigation => ("text/html,application/xhtml+xml,*/*;q=0.8", "navigate", "document"),
            Kind::Fetch => ("*/*", "cors", "empty"),
        };
        set("accept", accept);
        set("accept-language", "en-GB,en;q=0.9");
        set("user-agent", "Mozilla/5.0 (X11; Linux x86_64) keycloak-bff-testbed");
        set("sec-fetch-mode", mode);
        set("sec-fetch-dest", destination);
        set(
            "sec-fetch-site",
            match (&self.page, same_origin, same_site) {
                (None, ..) => "none",
                (_, true, _) => "same-origin",
                (_, _, true) => "same-site",
                _ => "cross-site",
            },
        );
        let safe = matches!(self.method, Method::GET | Method::HEAD);
        if self.kind == Kind::Navigation {
            set("upgrade-insecure-requests", "1");
            set("sec-fetch-user", "?1");
        }
        if !safe || (self.kind == Kind::Fetch && !same_origin) {
            let page = self.page.as_ref().unwrap_or(&self.url);
            set("origin", &page.origin().ascii_serialization());
        }
        if let Some((content_type, _)) = &self.body {
            set("content-type", content_type);
        }
        if self.credentials {
            let context = Context { same_site, safe_navigation: safe && self.kind == Kind::Navigation };
            if let Some(cookies) = self.agent.cookies.header(&self.url, context) {
                headers.insert(COOKIE, HeaderValue::from_str(&cookies).expect("a cookie header"));
            }
        }
        for (name, _) in &self.changes {
            headers.remove(name);
        }
        for (name, value) in &self.changes {
            if let Some(value) = value {
                headers.append(name, value.clone());
            }
        }
        headers
    }
}

impl<'a> IntoFuture for Request<'a> {
    type Output = Response;
    type IntoFuture = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Every name means this machine, as in browsers for names below `localhost`.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _name: Name) -> Resolving {
        let addresses: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// A site is the scheme and the last two labels of the host: `localhost` is a public suffix, as `com` is.
fn is_same_site(a: &Url, b: &Url) -> bool {
    let site = |url: &Url| {
        let host = url.host_str().unwrap_or_default().to_owned();
        let last_two = host.rmatch_indices('.').nth(1).map(|(at, _)| host[at + 1..].to_owned());
        (url.scheme().to_owned(), last_two.unwrap_or(host))
    };
    site(a) == site(b)
}

fn header_name(name: &str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).expect("a header name")
}
