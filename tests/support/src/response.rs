//! What a browser got, and the way there.

use reqwest::header::HeaderMap;
use serde_json::Value;
use url::Url;

/// One step of a chain of redirects.
#[derive(Clone, Debug)]
pub struct Hop {
    /// What was asked for.
    pub url: String,
    /// The answer's status.
    pub status: u16,
    /// The answer's `Location`, as it was sent.
    pub location: Option<String>,
}

/// The last answer, and the way there.
#[derive(Clone, Debug)]
pub struct Response {
    /// Where the way ended.
    pub url: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Every step, the last one included.
    pub hops: Vec<Hop>,
}

impl Response {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| text(value.as_bytes()))
    }

    /// All values of a header.
    pub fn header_values(&self, name: &str) -> Vec<String> {
        self.headers.get_all(name).iter().map(|value| text(value.as_bytes())).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        text(&self.body)
    }

    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} {} is no JSON: {}", self.status, self.url, self.text()))
    }

    /// The value of a parameter in the query of the `Location` header, or else of the URL.
    pub fn query(&self, name: &str) -> Option<String> {
        let base = Url::parse(&self.url).ok()?;
        let url = self.header("location").and_then(|location| base.join(&location).ok()).unwrap_or(base);
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The value of a request header that reached the upstream, from the JSON of an echo; panics if there are several.
    pub fn echoed(&self, name: &str) -> Option<String> {
        let echo = self.json();
        let values = echo["headers"].get(name)?.as_array().expect("an echo lists values").clone();
        assert_eq!(values.len(), 1, "several values of {name}: {values:?}");
        values[0].as_str().map(str::to_owned)
    }

    /// Where Keycloak's login form leads; panics if the page has none.
    pub fn login_form(&self) -> String {
        let page = self.text();
        let form = page.split("<form").find(|form| form.contains("kc-form-login"));
        let action = form.and_then(|form| form.split_once("action=\"")?.1.split('"').next());
        let action = action.unwrap_or_else(|| panic!("no login form: {} {} {page}", self.status, self.url));
        action.replace("&amp;", "&")
    }

    /// Whether this is a login page of Keycloak.
    pub fn is_login_page(&self) -> bool {
        self.status == 200 && self.text().contains("kc-form-login")
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
