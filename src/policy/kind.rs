use super::{Navigation, Request};

/// Whether somebody opens a page or a script asks for data: the first may be sent to the login, the second is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A document that the user opens.
    Navigation,
    /// Everything else: fetch and XHR, images, frames, prefetches, every method that could lose a body.
    Fetch,
}

impl Kind {
    /// Tells the kind of a request. Fetch metadata decides where the browser sends it; otherwise `Accept` does.
    pub fn of(request: &Request<'_>, rule: Navigation) -> Self {
        if !matches!(request.method, "GET" | "HEAD") || request.upgrade || rule == Navigation::Never {
            return Self::Fetch;
        }
        if rule == Navigation::Always {
            return Self::Navigation;
        }
        Self::of_target(request)
    }

    /// Tells where the answer to a request goes, whatever its method: a submitted form opens a document too.
    pub fn of_target(request: &Request<'_>) -> Self {
        if request.requested_with_script || request.prefetch {
            return Self::Fetch;
        }
        let opens_document = match (request.fetch_mode, request.fetch_destination) {
            (None, None) => request.accepts_html,
            (mode, destination) => {
                mode.is_none_or(|mode| mode == "navigate")
                    && destination.is_none_or(|destination| destination == "document")
            }
        };
        if opens_document { Self::Navigation } else { Self::Fetch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

    fn kind(method: &str, headers: &[(&str, &str)], rule: Navigation) -> Kind {
        let mut request = Request { method, ..Request::default() };
        let headers: Vec<(String, String)> =
            headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        headers.iter().for_each(|(name, value)| request.read_header(name, value));
        Kind::of(&request, rule)
    }

    #[test]
    fn only_an_opened_document_is_a_navigation() {
        use Kind::{Fetch, Navigation as Page};
        for (method, headers, expected) in [
            ("GET", &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")][..], Page),
            ("HEAD", &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], Page),
            ("POST", &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], Fetch),
            ("GET", &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], Fetch),
            ("GET", &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image"), ("accept", HTML)], Fetch),
            ("GET", &[("sec-fetch-mode", "cors"), ("accept", HTML)], Fetch),
            ("GET", &[("accept", HTML)], Page),
            ("GET", &[("accept", "Text/HTML;q=0.9")], Page),
            ("GET", &[("accept", "*/*")], Fetch),
            ("GET", &[("accept", "application/json;charset=utf-8")], Fetch),
            ("GET", &[], Fetch),
            ("GET", &[("accept", HTML), ("x-requested-with", "XMLHttpRequest")], Fetch),
            ("GET", &[("accept", HTML), ("sec-purpose", "prefetch;prerender")], Fetch),
            ("GET", &[("accept", HTML), ("upgrade", "websocket")], Fetch),
        ] {
            assert_eq!(kind(method, headers, Navigation::Auto), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_rule_may_say_what_it_is() {
        assert_eq!(kind("GET", &[("accept", "*/*")], Navigation::Always), Kind::Navigation);
        assert_eq!(kind("POST", &[("accept", HTML)], Navigation::Always), Kind::Fetch);
        assert_eq!(kind("GET", &[("accept", HTML)], Navigation::Never), Kind::Fetch);
    }
}
