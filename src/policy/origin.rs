use super::{Request, Site};

/// The static header by which a script proves that it is no cross-site form: a page of a foreign origin cannot set it
/// without a preflight (RFC 10017 section 6.1.3.3.2). Its value is `1`.
pub const CSRF_HEADER: &str = "x-csrf";

/// A request may have been made by a page that has no business with this frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// The page that made it is of an origin that is neither the frontend's own nor on its list.
    Foreign,
    /// Nothing tells where it came from, it carries a cookie, and the static header is missing.
    Unproven,
}

/// Whose requests pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    OwnAndListed,
    OwnOnly,
}

impl Site {
    /// Checks a request that changes something or opens a connection that can: unsafe methods and upgrades.
    ///
    /// # Errors
    /// [`OriginError`] says why it must not pass.
    pub fn check_unsafe(&self, request: &Request<'_>) -> Result<(), OriginError> {
        self.check(request, Allowed::OwnAndListed)
    }

    /// Checks a request that only the frontend's own pages may make: to sign out, to end sessions.
    ///
    /// # Errors
    /// [`OriginError`] says why it must not pass.
    pub fn check_own(&self, request: &Request<'_>) -> Result<(), OriginError> {
        self.check(request, Allowed::OwnOnly)
    }

    /// Checks a request that only reads, but reads what the session opens. Opening a page is never refused for coming
    /// from another site: the landing after a login does.
    ///
    /// # Errors
    /// [`OriginError::Foreign`] for a script, an image or a frame of a foreign page.
    pub fn check_read(&self, request: &Request<'_>) -> Result<(), OriginError> {
        let opens_document = request.fetch_mode == Some("navigate")
            && request.fetch_destination.is_none_or(|to| to == "document");
        let listed =
            request.origin.is_some_and(|origin| self.is_own_or_listed(origin, Allowed::OwnAndListed));
        match request.fetch_site {
            _ if opens_document || listed => Ok(()),
            Some("cross-site" | "same-site") => Err(OriginError::Foreign),
            // Without fetch metadata the origin tells, where the browser sends one.
            None if request.origin.is_some() && !request.cookies.is_empty() => Err(OriginError::Foreign),
            _ => Ok(()),
        }
    }

    fn check(&self, request: &Request<'_>, allowed: Allowed) -> Result<(), OriginError> {
        // A form of our own page under `Referrer-Policy: no-referrer` sends `Origin: null`, and says same-origin.
        if request.fetch_site == Some("same-origin") {
            return Ok(());
        }
        match request.origin {
            Some(origin) if self.is_own_or_listed(origin, allowed) => Ok(()),
            Some(_) => Err(OriginError::Foreign),
            None if matches!(request.fetch_site, Some("cross-site" | "same-site")) => {
                Err(OriginError::Foreign)
            }
            None if !request.cookies.is_empty() && request.csrf_header != Some("1") => {
                Err(OriginError::Unproven)
            }
            None => Ok(()),
        }
    }

    fn is_own_or_listed(&self, origin: &str, allowed: Allowed) -> bool {
        // `null` is what every sandboxed or hidden page sends; no list may hold it.
        origin != "null"
            && (origin == self.origin
                || (allowed == Allowed::OwnAndListed && self.frontend.cors.allows(origin)))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::frontend::test_support::site, *};

    const OWN: &str = "https://app.example.com";
    const LISTED: &str = "https://admin.example.com";

    fn request<'a>(headers: &[(&'static str, &'a str)]) -> Request<'a> {
        let mut request = Request { method: "POST", ..Request::default() };
        headers.iter().for_each(|&(name, value)| request.read_header(name, value));
        request
    }

    #[test]
    fn unsafe_requests_need_an_origin_that_may() {
        use OriginError::{Foreign, Unproven};
        let site = site(OWN, &[LISTED]);
        for (headers, all, own_only) in [
            (&[("sec-fetch-site", "same-origin")][..], Ok(()), Ok(())),
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")], Ok(()), Ok(())),
            (&[("origin", OWN)], Ok(()), Ok(())),
            (&[("origin", LISTED), ("sec-fetch-site", "same-site")], Ok(()), Err(Foreign)),
            (&[("origin", "https://evil.example")], Err(Foreign), Err(Foreign)),
            (&[("origin", "https://evil.example"), ("x-csrf", "1")], Err(Foreign), Err(Foreign)),
            (&[("origin", "null")], Err(Foreign), Err(Foreign)),
            (&[("origin", OWN), ("origin", "https://evil.example")], Err(Foreign), Err(Foreign)),
            (&[("sec-fetch-site", "cross-site")], Err(Foreign), Err(Foreign)),
            (&[("sec-fetch-site", "same-site")], Err(Foreign), Err(Foreign)),
            (&[("cookie", "a=1")], Err(Unproven), Err(Unproven)),
            (&[("cookie", "a=1"), ("x-csrf", "0")], Err(Unproven), Err(Unproven)),
            (&[("cookie", "a=1"), ("x-csrf", "1")], Ok(()), Ok(())),
            (&[("sec-fetch-site", "none"), ("cookie", "a=1")], Err(Unproven), Err(Unproven)),
            (&[], Ok(()), Ok(())),
        ] {
            assert_eq!(site.check_unsafe(&request(headers)), all, "{headers:?}");
            assert_eq!(site.check_own(&request(headers)), own_only, "{headers:?}");
        }
    }

    #[test]
    fn reading_with_a_cookie_is_for_known_origins_and_opened_pages() {
        let site = site(OWN, &[LISTED]);
        for (headers, expected) in [
            (&[("sec-fetch-site", "same-origin")][..], Ok(())),
            (&[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")], Ok(())),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                Ok(()),
            ),
            (
                &[
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "iframe"),
                ],
                Err(OriginError::Foreign),
            ),
            (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], Err(OriginError::Foreign)),
            (&[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")], Err(OriginError::Foreign)),
            (&[("sec-fetch-site", "same-site"), ("origin", LISTED)], Ok(())),
            (
                &[("sec-fetch-site", "same-site"), ("origin", "https://evil.example")],
                Err(OriginError::Foreign),
            ),
            (&[("origin", "https://evil.example"), ("cookie", "a=1")], Err(OriginError::Foreign)),
            (&[("cookie", "a=1")], Ok(())),
            (&[], Ok(())),
        ] {
            assert_eq!(site.check_read(&request(headers)), expected, "{headers:?}");
        }
    }
}
