use std::{collections::HashMap, sync::Arc};

use super::{Cors, Endpoint, IdentityHeaders, Rules, StepUp};
use crate::session::Lifetimes;

/// One browser application: its hosts, cookie, rules and the provider where its users sign in.
pub struct Frontend {
    /// Its name in the configuration, in logs and in dynamic metadata.
    pub name: Arc<str>,
    /// The name of its provider.
    pub provider: Arc<str>,
    /// The session cookie.
    pub cookie: CookieSettings,
    /// How logins begin and end.
    pub login: LoginSettings,
    /// The claims of the ID token that `/auth/me` shows.
    pub shown_claims: Vec<String>,
    /// The headers that tell upstreams who is signed in.
    pub identity_headers: IdentityHeaders,
    /// Which other origins may call it.
    pub cors: Cors,
    /// What its paths need.
    pub rules: Rules,
    /// How long its sessions live.
    pub lifetimes: Lifetimes,
}

/// The session cookie of a frontend. It is always Secure and HttpOnly, and sent with every path, ours among them.
#[derive(Clone, Debug)]
pub struct CookieSettings {
    /// Its name.
    pub name: String,
    /// When browsers send it with requests that other sites caused.
    pub same_site: SameSite,
    /// `Domain`; without it only the very host that set the cookie gets it back.
    pub domain: Option<String>,
}

/// The `SameSite` attribute of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Sent when a page of another site links here, not with its forms, images or scripts.
    Lax,
    /// Sent only from pages of the same site.
    Strict,
    /// Always sent.
    None,
}

/// How a frontend's logins begin and end.
#[derive(Clone, Debug)]
pub struct LoginSettings {
    /// The identity providers that `kc_idp_hint` may name.
    pub idp_hints: Vec<String>,
    /// Where a login without a return target ends.
    pub start_page: String,
    /// Where a logout ends.
    pub after_logout: String,
    /// Other origins that a login may return to.
    pub return_origins: Vec<String>,
    /// Whether the provider may sign users out by a frame that it shows them.
    pub front_channel_logout: bool,
}

/// A frontend at one of its origins.
pub struct Site {
    /// The frontend.
    pub frontend: Arc<Frontend>,
    /// The origin: scheme, host and, if it is not the scheme's own, port.
    pub origin: String,
}

impl Site {
    /// The address of one of our endpoints, made from the configuration alone.
    pub fn url(&self, endpoint: Endpoint) -> String {
        format!("{}{}", self.origin, endpoint.path())
    }

    /// The address that begins a login, with the way back and with what the sign-in must be like.
    pub fn login_url(&self, return_to: Option<&str>, step_up: &StepUp) -> String {
        let login = self.url(Endpoint::Login);
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(return_to.map(|return_to| ("return_to", return_to)));
        query.extend_pairs(step_up.parameters());
        let query = query.finish();
        if query.is_empty() { login } else { format!("{login}?{query}") }
    }
}

impl Frontend {
    /// The prefix of the names of its transaction cookies.
    pub fn transaction_cookie_prefix(&self) -> String {
        format!("{LOGIN_COOKIES}{}-", self.name)
    }

    /// The name of the cookie that remembers a logout under way at the provider.
    pub fn logout_cookie_name(&self) -> String {
        format!("{LOGOUT_COOKIES}{}", self.name)
    }
}

/// What the names of our login and logout cookies start with.
const LOGIN_COOKIES: &str = "__Host-login-";
const LOGOUT_COOKIES: &str = "__Host-logout-";

/// Every frontend by its hosts.
pub struct Frontends {
    sites: HashMap<String, Arc<Site>>,
    session_cookies: Vec<String>,
}

impl Frontends {
    /// A table of `sites`, each under the host of its origin, with and without the scheme's own port.
    pub fn new(sites: Vec<Site>) -> Self {
        let mut by_host = HashMap::new();
        let mut session_cookies: Vec<String> =
            sites.iter().map(|site| site.frontend.cookie.name.clone()).collect();
        session_cookies.sort();
        session_cookies.dedup();
        for site in sites {
            let site = Arc::new(site);
            let (scheme, authority) = site.origin.split_once("://").unwrap_or(("https", &site.origin));
            let default_port = if scheme == "http" { ":80" } else { ":443" };
            if !authority.contains(':') || authority.ends_with(']') {
                by_host.insert(format!("{authority}{default_port}"), Arc::clone(&site));
            }
            by_host.insert(authority.to_owned(), Arc::clone(&site));
        }
        Self { sites: by_host, session_cookies }
    }

    /// Whether a cookie of this name is ours, so that no upstream may see it. Cookies know no ports and may be meant
    /// for a whole domain, so those of one frontend come along to others.
    pub fn owns_cookie(&self, name: &str) -> bool {
        self.session_cookies.iter().any(|own| own == name)
            || name.starts_with(LOGIN_COOKIES)
            || name.starts_with(LOGOUT_COOKIES)
    }

    /// The site at `host`, an authority as in `Host` or `:authority`. Host names know no case (RFC 9110 section 4.2.3).
    pub fn find(&self, host: &str) -> Option<&Arc<Site>> {
        self.sites.get(host).or_else(|| {
            let has_upper_case = host.bytes().any(|byte| byte.is_ascii_uppercase());
            has_upper_case.then(|| self.sites.get(&host.to_ascii_lowercase())).flatten()
        })
    }
}

#[cfg(test)]
pub(crate) mod test_support {
    use std::time::Duration;

    use super::*;
    use crate::policy::{PathPattern, Rule, SessionNeed};

    /// A frontend `app` at `origin` that lists `origins` for CORS and leaves `/public/*` open.
    pub(crate) fn site(origin: &str, origins: &[&str]) -> Site {
        let open = Rule::new(PathPattern::Below("/public".to_owned()), SessionNeed::None);
        let frontend = Frontend {
            name: "app".into(),
            provider: "users".into(),
            cookie: CookieSettings {
                name: "__Host-session".to_owned(),
                same_site: SameSite::Lax,
                domain: None,
            },
            login: LoginSettings {
                idp_hints: vec!["corp".to_owned()],
                start_page: "/".to_owned(),
                after_logout: "/".to_owned(),
                return_origins: vec!["https://shop.example.com".to_owned()],
                front_channel_logout: true,
            },
            shown_claims: vec!["sub".to_owned()],
            identity_headers: IdentityHeaders::new(Vec::new()),
            cors: Cors {
                origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
                answered_here: true,
                ..Cors::default()
            },
            rules: Rules::new(vec![open]),
            lifetimes: Lifetimes { idle: Duration::from_secs(600), absolute: Duration::from_secs(6000) },
        };
        Site { frontend: Arc::new(frontend), origin: origin.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::{test_support::site, *};

    #[test]
    fn a_host_is_found_exactly_with_or_without_the_default_port() {
        let frontends =
            Frontends::new(vec![site("https://app.example.com", &[]), site("http://[::1]:8000", &[])]);
        for (host, known) in [
            ("app.example.com", true),
            ("app.example.com:443", true),
            ("APP.example.com", true),
            ("[::1]:8000", true),
            ("app.example.com:80", false),
            ("app.example.com.", false),
            ("app.example.com.evil.com", false),
            ("xapp.example.com", false),
            ("[::1]", false),
            ("", false),
        ] {
            assert_eq!(frontends.find(host).is_some(), known, "{host}");
        }
    }

    #[test]
    fn the_cookies_of_every_frontend_are_ours_everywhere() {
        let mut other = site("https://app.example.com:8443", &[]);
        Arc::get_mut(&mut other.frontend).unwrap().cookie.name = "__Host-other".to_owned();
        let first = site("https://app.example.com", &[]);
        let names = [first.frontend.transaction_cookie_prefix(), first.frontend.logout_cookie_name()];
        let frontends = Frontends::new(vec![first, other]);
        for name in ["__Host-session", "__Host-other", &names[0], &names[1]] {
            assert!(frontends.owns_cookie(name), "{name}");
        }
        for name in ["__host-session", "session", "__Host-sessions", "x__Host-login-app-1"] {
            assert!(!frontends.owns_cookie(name), "{name}");
        }
    }
}
