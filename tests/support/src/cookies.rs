//! A browser's cookies.

use parking_lot::Mutex;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use url::Url;

/// When a cookie goes along with cross-site requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Never.
    Strict,
    /// On navigations by GET. What browsers take when nothing is said.
    Lax,
    /// Always.
    None,
}

/// A cookie as a browser keeps it.
#[derive(Clone, Debug)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The host that set it, or the domain that it was set for.
    pub host: String,
    /// Whether only that very host gets it.
    pub host_only: bool,
    /// The path that requests must be at or below.
    pub path: String,
    /// Whether it is for trustworthy connections only.
    pub secure: bool,
    /// Whether scripts cannot read it.
    pub http_only: bool,
    /// Whether cross-site requests carry it.
    pub same_site: SameSite,
    /// When it ends; `None` for a cookie of the browser's session.
    pub expires: Option<Instant>,
}

/// What a request is, as far as its cookies depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub same_site: bool,
    pub safe_navigation: bool,
}

/// All cookies of one browser. As in browsers, ports do not part them, and Secure cookies go to loopback over http.
#[derive(Debug, Default)]
pub struct Jar {
    cookies: Mutex<Vec<Cookie>>,
}

impl Jar {
    /// Every living cookie.
    pub fn all(&self) -> Vec<Cookie> {
        let mut cookies = self.cookies.lock();
        cookies.retain(|cookie| cookie.expires.is_none_or(|end| end > Instant::now()));
        cookies.clone()
    }

    /// The cookies that requests to a host get, whatever their path.
    pub fn of(&self, host: &str) -> Vec<Cookie> {
        self.all().into_iter().filter(|cookie| cookie.is_for(host)).collect()
    }

    /// A host's cookie of that name.
    pub fn get(&self, host: &str, name: &str) -> Option<Cookie> {
        self.of(host).into_iter().find(|cookie| cookie.name == name)
    }

    /// Puts a cookie in as it is, in place of the same host's cookie of that name and path.
    pub fn put(&self, cookie: Cookie) {
        let mut cookies = self.cookies.lock();
        cookies.retain(|old| (&old.name, &old.host, &old.path) != (&cookie.name, &cookie.host, &cookie.path));
        cookies.push(cookie);
    }

    /// Changes the value of a host's cookie; panics if there is none.
    pub fn set_value(&self, host: &str, name: &str, value: &str) {
        let mut cookies = self.cookies.lock();
        let cookie = cookies.iter_mut().find(|cookie| cookie.is_for(host) && cookie.name == name);
        cookie.unwrap_or_else(|| panic!("no cookie {name} for {host}")).value = value.to_owned();
    }

    /// Removes a host's cookies of that name.
    pub fn remove(&self, host: &str, name: &str) {
        self.cookies.lock().retain(|cookie| !(cookie.is_for(host) && cookie.name == name));
    }

    /// Removes all cookies of all hosts.
    pub fn clear(&self) {
        self.cookies.lock().clear();
    }

    /// Takes a `Set-Cookie` header from an answer of `url`. What a browser would refuse changes nothing.
    pub(crate) fn take(&self, url: &Url, header: &str) {
        if let Some(cookie) = parse(url, header) {
            self.put(cookie);
            self.all();
        }
    }

    /// The `Cookie` header of a request.
    pub(crate) fn header(&self, url: &Url, context: Context) -> Option<String> {
        let host = url.host_str()?;
        let mut cookies = self.of(host);
        cookies.retain(|cookie| cookie.covers(url.path()) && cookie.allows(context));
        // Longer paths first, as RFC 6265 has it.
        cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        let pairs: Vec<String> =
            cookies.iter().map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

impl Cookie {
    fn is_for(&self, host: &str) -> bool {
        let below = || host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.ends_with('.'));
        host == self.host || (!self.host_only && below())
    }

    fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        rest.is_some_and(|rest| rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/'))
    }

    fn allows(&self, context: Context) -> bool {
        match self.same_site {
            _ if context.same_site => true,
            SameSite::Strict => false,
            SameSite::Lax => context.safe_navigation,
            SameSite::None => true,
        }
    }
}

fn parse(url: &Url, header: &str) -> Option<Cookie> {
    let mut parts = header.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let host = url.host_str()?.to_owned();
    let default_path = match url.path().rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((directory, _)) => directory,
    };
    let mut cookie = Cookie {
        name: name.trim().to_owned(),
        value: value.trim().to_owned(),
        host_only: true,
        path: default_path.to_owned(),
        secure: false,
        http_only: false,
        same_site: SameSite::Lax,
        expires: None,
        host,
    };
    let mut max_age = None;
    for attribute in parts {
        let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match key.to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => cookie.path = value.to_owned(),
            "secure" => cookie.secure = true,
            "httponly" => cookie.http_only = true,
            "samesite" if value.eq_ignore_ascii_case("strict") => cookie.same_site = SameSite::Strict,
            "samesite" if value.eq_ignore_ascii_case("none") => cookie.same_site = SameSite::None,
            "max-age" => max_age = value.parse::<i64>().ok(),
            "expires" => cookie.expires = expiry(value),
            "domain" => {
                cookie.host_only = false;
                value.trim_start_matches('.').clone_into(&mut cookie.host);
            }
            _ => {}
        }
    }
    if let Some(seconds) = max_age {
        cookie.expires = Some(Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    }
    acceptable(url, &cookie).then_some(cookie)
}

/// The prefixes' rules, and that nobody sets a cookie for a foreign domain.
fn acceptable(url: &Url, cookie: &Cookie) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host_prefix =
        !cookie.name.starts_with("__Host-") || (cookie.secure && cookie.host_only && cookie.path == "/");
    let secure_prefix = !cookie.name.starts_with("__Secure-") || cookie.secure;
    let none_is_secure = cookie.same_site != SameSite::None || cookie.secure;
    host_prefix && secure_prefix && none_is_secure && cookie.is_for(host)
}

/// Dates in the past end a cookie at once. Those that cannot be read leave it to the browser's session.
fn expiry(date: &str) -> Option<Instant> {
    let end = httpdate::parse_http_date(&date.replace('-', " ")).ok()?;
    let left =
        end.duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(SystemTime::UNIX_EPOCH.elapsed().ok()?);
    Some(Instant::now() + left.unwrap_or_default())
}
