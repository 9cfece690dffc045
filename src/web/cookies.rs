use cookie::{Cookie, CookieBuilder, SameSite as CookieSameSite, time::Duration};

use crate::{
    flow::CookieChange,
    policy::{CookieSettings, Frontend, SameSite},
};

/// The value of `Set-Cookie` (RFC 6265 section 4.1) that makes a change. Every cookie of ours is Secure and HttpOnly.
pub(super) fn set_cookie(change: &CookieChange, frontend: &Frontend) -> String {
    let cookie = match change {
        CookieChange::SetSession(value) => session(&frontend.cookie, value),
        // A browser forgets a cookie only under the name and attributes that it was set with.
        CookieChange::ClearSession => session(&frontend.cookie, "").max_age(Duration::ZERO),
        CookieChange::Set { name, value, lifetime } => {
            own(name, value).max_age(Duration::seconds(lifetime.as_secs().try_into().unwrap_or(i64::MAX)))
        }
        CookieChange::Clear(name) => own(name, "").max_age(Duration::ZERO),
    };
    cookie.build().to_string()
}

fn session<'a>(settings: &'a CookieSettings, value: &'a str) -> CookieBuilder<'a> {
    let same_site = match settings.same_site {
        SameSite::Lax => CookieSameSite::Lax,
        SameSite::Strict => CookieSameSite::Strict,
        SameSite::None => CookieSameSite::None,
    };
    let cookie = Cookie::build((&*settings.name, value)).path("/").secure(true).http_only(true);
    let cookie = cookie.same_site(same_site);
    match &settings.domain {
        Some(domain) => cookie.domain(domain),
        None => cookie,
    }
}

/// Transactions and logouts under way: host-only, and Lax because the provider sends the browser back.
fn own<'a>(name: &'a str, value: &'a str) -> CookieBuilder<'a> {
    Cookie::build((name, value)).path("/").secure(true).http_only(true).same_site(CookieSameSite::Lax)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::test_support::site;

    #[test]
    fn cookies_have_every_attribute() {
        let site = site("https://app.example.com", &[]);
        let write = |change: CookieChange| set_cookie(&change, &site.frontend);
        assert_eq!(
            write(CookieChange::SetSession("id".to_owned())),
            "__Host-session=id; HttpOnly; SameSite=Lax; Secure; Path=/"
        );
        assert_eq!(
            write(CookieChange::ClearSession),
            "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"
        );
        let set = CookieChange::Set {
            name: "__Host-login-app-1".to_owned(),
            value: "v".to_owned(),
            lifetime: std::time::Duration::from_secs(1800),
        };
        assert_eq!(write(set), "__Host-login-app-1=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=1800");
    }
}
