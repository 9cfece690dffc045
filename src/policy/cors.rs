use super::Request;

/// Which other origins may call a frontend with the user's cookie (Fetch standard, CORS protocol).
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// The origins, compared character by character.
    pub origins: Vec<String>,
    /// `Access-Control-Allow-Methods`, joined.
    pub methods: String,
    /// `Access-Control-Allow-Headers`, joined.
    pub headers: String,
    /// `Access-Control-Expose-Headers`, joined; empty for none.
    pub expose_headers: String,
    /// `Access-Control-Max-Age` in seconds: how long a browser may remember the preflight.
    pub max_age: u64,
    /// Whether this program answers for CORS. False where Envoy's CORS filter or a gateway's policy does it: two
    /// answers would contradict each other.
    pub answered_here: bool,
}

/// The headers that let a page of another origin read an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsGrant {
    /// `Access-Control-Allow-Origin`: the exact origin that asked.
    pub origin: String,
    /// `Access-Control-Expose-Headers`; empty for none.
    pub expose_headers: String,
}

/// The answer to an allowed preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// Whom it is for.
    pub grant: CorsGrant,
    /// `Access-Control-Allow-Methods`.
    pub methods: String,
    /// `Access-Control-Allow-Headers`.
    pub headers: String,
    /// `Access-Control-Max-Age`.
    pub max_age: u64,
}

impl Cors {
    /// Whether `origin` is on the list.
    pub fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|listed| listed == origin)
    }

    /// Whether answers differ by the origin that asks, so that caches must keep them apart.
    pub fn varies(&self) -> bool {
        self.answered_here && !self.origins.is_empty()
    }

    /// What the answer to `request` grants to the origin that made it, if anything.
    pub fn grant(&self, request: &Request<'_>) -> Option<CorsGrant> {
        let origin = request.origin.filter(|origin| self.answered_here && self.allows(origin))?;
        Some(CorsGrant { origin: origin.to_owned(), expose_headers: self.expose_headers.clone() })
    }

    /// The answer to an allowed preflight.
    pub fn preflight(&self, request: &Request<'_>) -> Option<Preflight> {
        let grant = self.grant(request)?;
        Some(Preflight {
            grant,
            methods: self.methods.clone(),
            headers: self.headers.clone(),
            max_age: self.max_age,
        })
    }
}

impl CorsGrant {
    /// The headers, in lower case, without `Vary`.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("access-control-allow-origin", self.origin.clone()),
            ("access-control-allow-credentials", "true".to_owned()),
        ];
        if !self.expose_headers.is_empty() {
            headers.push(("access-control-expose-headers", self.expose_headers.clone()));
        }
        headers
    }
}

impl Preflight {
    /// The headers, in lower case, without `Vary`.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = self.grant.headers();
        headers.push(("access-control-allow-methods", self.methods.clone()));
        headers.push(("access-control-allow-headers", self.headers.clone()));
        headers.push(("access-control-max-age", self.max_age.to_string()));
        headers
    }
}

impl Request<'_> {
    /// Whether this is a CORS preflight.
    pub fn is_preflight(&self) -> bool {
        self.method == "OPTIONS" && self.origin.is_some() && self.preflight_method.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_exactly() {
        let cors = Cors {
            origins: vec!["https://app.example.com".to_owned()],
            answered_here: true,
            ..Cors::default()
        };
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("https://app.example.com.evil.com", false),
            ("http://app.example.com", false),
            ("https://app.example.com:8443", false),
            ("https://app.example.com.", false),
            ("https://APP.example.com", false),
            ("https://evil.com", false),
            ("null", false),
            ("", false),
        ] {
            let request = Request { origin: Some(origin), ..Request::default() };
            assert_eq!(cors.grant(&request).is_some(), allowed, "{origin}");
            assert_eq!(cors.preflight(&request).is_some(), allowed, "{origin}");
        }
    }

    #[test]
    fn nothing_is_granted_where_a_gateway_answers() {
        let cors = Cors { origins: vec!["https://app.example.com".to_owned()], ..Cors::default() };
        let request = Request { origin: Some("https://app.example.com"), ..Request::default() };
        assert_eq!(cors.grant(&request), None);
        assert!(!cors.varies());
    }
}
