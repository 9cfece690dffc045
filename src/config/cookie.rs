use deserr::Deserr;
use url::{Host, Url};

use super::{
    Checker,
    errors::{At, ShapeErrors},
};
use crate::policy::{CookieSettings, SameSite};

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct CookieSection {
    #[deserr(default = DEFAULT_NAME.to_owned())]
    name: String,
    #[deserr(default = SameSiteWord::Lax)]
    same_site: SameSiteWord,
    #[deserr(default)]
    domain: Option<String>,
}

#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum SameSiteWord {
    Lax,
    Strict,
    None,
}

const DEFAULT_NAME: &str = "__Host-session";

impl Default for CookieSection {
    fn default() -> Self {
        Self { name: DEFAULT_NAME.to_owned(), same_site: SameSiteWord::Lax, domain: None }
    }
}

impl CookieSection {
    /// Refuses what a browser would silently drop: that shows as a login that never takes.
    pub(super) fn check(self, origins: &[Url], at: &At<'_>, checker: &mut Checker<'_>) -> CookieSettings {
        // RFC 6265 section 4.1.1: a token.
        let is_token = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        if !is_token(&self.name) {
            checker.error(&at.key("name"), "is not a cookie name");
        }
        // Browsers know the prefixes in any case.
        let lower = self.name.to_ascii_lowercase();
        if lower.starts_with("__host-login-") || lower.starts_with("__host-logout-") {
            checker.error(&at.key("name"), "is the name of a cookie that this program sets itself");
        }
        match &self.domain {
            Some(domain) => {
                if lower.starts_with("__host-") {
                    let message = "must not be set with a __Host- name: browsers drop such a cookie";
                    checker.error(&at.key("domain"), message);
                }
                check_domain(domain, origins, &at.key("domain"), checker);
            }
            None if !lower.starts_with("__host-") => {
                let message =
                    "has no __Host- prefix: other hosts of the same domain can plant a cookie of this name";
                checker.warn(&at.key("name"), message);
            }
            None => {}
        }
        if self.same_site == SameSiteWord::None {
            checker.warn(&at.key("same_site"), "is none: the cookie goes along with requests of any site");
        }
        CookieSettings {
            name: self.name,
            same_site: match self.same_site {
                SameSiteWord::Lax => SameSite::Lax,
                SameSiteWord::Strict => SameSite::Strict,
                SameSiteWord::None => SameSite::None,
            },
            domain: self.domain,
        }
    }
}

/// Whether a cookie for `domain` reaches `host` (RFC 6265 section 5.1.3).
pub(super) fn is_at_or_below(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// RFC 6265 section 5.3: a host may set cookies for itself and the domains above it, but not for a whole suffix.
fn check_domain(domain: &str, origins: &[Url], at: &At<'_>, checker: &mut Checker<'_>) {
    if !domain.contains('.') || domain.starts_with('.') {
        checker.error(at, "must be a domain such as example.com, without a dot in front");
        return;
    }
    for origin in origins {
        let fits = match origin.host() {
            Some(Host::Domain(host)) => is_at_or_below(host, domain),
            // RFC 6265 section 5.1.3: domains above it are for names only.
            _ => false,
        };
        if !fits {
            let host = origin.host_str().unwrap_or_default();
            checker
                .error(at, format!("is not {host} or a domain above it, so browsers drop the cookie there"));
        }
    }
}
