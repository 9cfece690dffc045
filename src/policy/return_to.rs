use percent_encoding::percent_decode_str;
use url::Url;

use super::{Endpoint, Site};

/// The longest return target in bytes: it travels in the transaction cookie, which may have 1,024.
const MAXIMUM_LENGTH: usize = 400;

/// Where a login ends: an absolute URL at the frontend's own origin or at one on its list.
///
/// It is absolute so that no reading of a path (`//host`, `/\host`) can lead elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTarget(String);

impl ReturnTarget {
    /// Reads what a browser asked for: a path of the frontend, or a URL at an allowed origin. `None` for anything
    /// else, for a target that is too long, and for our own endpoints, where a login would begin anew.
    pub fn parse(text: &str, site: &Site) -> Option<Self> {
        let decoded = percent_decode_str(text).decode_utf8_lossy();
        let unsafe_character = |character: char| character.is_control() || character == '\\';
        if text.len() > MAXIMUM_LENGTH
            || text.contains(char::is_whitespace)
            || decoded.contains(unsafe_character)
        {
            return None;
        }
        let own = Url::parse(&site.origin).ok()?;
        let url = if text.starts_with('/') { own.join(text).ok()? } else { Url::parse(text).ok()? };
        let origin = url.origin().ascii_serialization();
        let is_own = origin == site.origin;
        let allowed = is_own || site.frontend.login.return_origins.contains(&origin);
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        if !allowed || has_credentials || (is_own && Endpoint::at(url.path()).is_some()) {
            return None;
        }
        (url.as_str().len() <= MAXIMUM_LENGTH).then(|| Self(url.into()))
    }

    /// The page where a login without a return target ends.
    pub fn start_page(site: &Site) -> Self {
        Self(format!("{}{}", site.origin, site.frontend.login.start_page))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frontend::test_support::site, *};

    fn parse(text: &str) -> Option<String> {
        ReturnTarget::parse(text, &site("https://app.example.com", &[])).map(|target| target.0)
    }

    #[test]
    fn paths_and_listed_origins_are_accepted() {
        for (text, target) in [
            ("/", "https://app.example.com/"),
            ("/a/b?c=d&e=%2Ff#g", "https://app.example.com/a/b?c=d&e=%2Ff#g"),
            ("https://app.example.com/x", "https://app.example.com/x"),
            ("https://app.example.com:443/x", "https://app.example.com/x"),
            ("https://shop.example.com/x", "https://shop.example.com/x"),
            // Not everything that is encoded is UTF-8.
            ("/search?q=%E4", "https://app.example.com/search?q=%E4"),
            ("/.//evil.example", "https://app.example.com//evil.example"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(target), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "x",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/%5cevil.example",
            "https://evil.example",
            "https://app.example.com.evil.example/",
            "http://app.example.com/",
            "https://app.example.com:8443/",
            "https://app.example.com@evil.example/",
            "https://u:p@app.example.com/",
            "javascript:alert(1)",
            "data:text/html,x",
            "/%0d%0aX",
            "/a\r\nb",
            "/\t/evil.example",
            "/ /x",
            "https:evil.example",
            "///evil.example",
            "/%00",
            "/auth/login",
            "/auth/callback?code=1",
            "https://app.example.com/auth/logout",
            "/%0A",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("/{}", "a".repeat(MAXIMUM_LENGTH))), None);
    }

    proptest! {
        #[test]
        fn no_text_leads_elsewhere(text in "[/\\\\.:@a-z%0-9?#]{0,30}") {
            if let Some(target) = parse(&text) {
                let allowed = ["https://app.example.com/", "https://shop.example.com/"];
                prop_assert!(allowed.iter().any(|origin| target.starts_with(origin)), "{}", target);
            }
        }
    }
}
