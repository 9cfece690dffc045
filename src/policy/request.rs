use super::Cookies;

/// What decisions are made on: a borrowed view of a request, filled by the door that received it.
///
/// Method, host and target come from the connection itself; headers by which a client or a proxy might claim another
/// host, path or address (`X-Forwarded-*`, `X-Original-*`) are never read.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// The method, in upper case.
    pub method: &'a str,
    /// The authority that the request was made to, with its port if it has one.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The cookies.
    pub cookies: Cookies<'a>,
    /// Whether `Accept` names HTML.
    pub accepts_html: bool,
    /// `Origin` (RFC 6454 section 7).
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site` (Fetch Metadata Request Headers).
    pub fetch_site: Option<&'a str>,
    /// `Sec-Fetch-Mode`.
    pub fetch_mode: Option<&'a str>,
    /// `Sec-Fetch-Dest`.
    pub fetch_destination: Option<&'a str>,
    /// Whether `X-Requested-With` is there: scripts set it, navigations cannot.
    pub requested_with_script: bool,
    /// Whether `Purpose` or `Sec-Purpose` says that the page is only fetched in case somebody opens it.
    pub prefetch: bool,
    /// Whether the connection is to become a WebSocket or anything else (`Upgrade`, RFC 9110 section 7.8).
    pub upgrade: bool,
    /// `Access-Control-Request-Method`: with `Origin` and the method OPTIONS, a CORS preflight.
    pub preflight_method: Option<&'a str>,
    /// The static header that proves that a script of an allowed origin made the request.
    pub csrf_header: Option<&'a str>,
    /// `X-Request-Id`.
    pub request_id: Option<&'a str>,
    /// Who made the request by the proxy's word, from the certificate of the connection. No header is ever read for it.
    pub principal: Option<&'a str>,
    /// The access token of a user for whom a workload asks.
    pub subject_token: Option<&'a str>,
}

/// The header in which a workload passes the access token that it was called with.
pub const SUBJECT_TOKEN_HEADER: &str = "x-subject-token";

impl<'a> Request<'a> {
    /// Takes in one header; `name` is in lower case, as HTTP/2 and Envoy have it. Headers that decide nothing are
    /// passed over.
    pub fn read_header(&mut self, name: &str, value: &'a str) {
        match name {
            "cookie" => self.cookies.add_line(value.as_bytes()),
            "accept" => self.accepts_html |= names_html(value),
            "origin" => once(&mut self.origin, value),
            "sec-fetch-site" => once(&mut self.fetch_site, value),
            "sec-fetch-mode" => once(&mut self.fetch_mode, value),
            "sec-fetch-dest" => once(&mut self.fetch_destination, value),
            "x-requested-with" => self.requested_with_script = true,
            "purpose" | "sec-purpose" => self.prefetch |= value.contains("prefetch"),
            "upgrade" | ":protocol" => self.upgrade = true,
            "access-control-request-method" => once(&mut self.preflight_method, value),
            super::CSRF_HEADER => once(&mut self.csrf_header, value),
            SUBJECT_TOKEN_HEADER => once(&mut self.subject_token, value),
            "x-request-id" => self.request_id = Some(value),
            _ => {}
        }
    }

    /// Takes in one `Cookie` line, which may hold any bytes.
    pub fn read_cookies(&mut self, line: &'a [u8]) {
        self.cookies.add_line(line);
    }

    /// The path as it was sent, without query or fragment.
    pub fn raw_path(&self) -> &'a str {
        let end = self.target.find(['?', '#']).unwrap_or(self.target.len());
        &self.target[..end]
    }

    /// Whether the method is one that only reads (RFC 9110 section 9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE") && !self.upgrade
    }
}

/// Keeps a value of which no browser sends two. Two are neither: a proxy that joins them and one that does not must
/// lead to the same decision.
fn once<'a>(place: &mut Option<&'a str>, value: &'a str) {
    *place = Some(if place.is_some() { "repeated" } else { value });
}

fn names_html(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let media_type = range.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("text/html")
    })
}
