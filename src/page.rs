//! The small pages that people see when something goes wrong, for both doors. They say one thing, load nothing, and
//! repeat nothing of the request but its id.

use std::fmt::Write;

/// A link on a page.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Where it leads.
    pub url: &'a str,
    /// What it says.
    pub text: &'a str,
}

/// A small page that says one thing.
pub fn page(message: &str, request_id: &str, link: Option<Link<'_>>) -> String {
    let mut body = String::from(PAGE_START);
    let _ = write!(body, "<p class=\"message\">{}</p>", escape(message));
    if let Some(Link { url, text }) = link {
        let _ = write!(body, "<p><a href=\"{}\">{}</a></p>", escape(url), escape(text));
    }
    let _ = writeln!(body, "<p class=\"id\">Request {}</p></main></body></html>", escape(request_id));
    body
}

/// What a page of ours may load: its own inline style and nothing else; no other page may frame it.
pub const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE_START: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Sign-in</title><style>\
    :root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;margin:0;display:grid;\
    min-height:100vh;place-items:center}main{max-width:32rem;padding:2rem}.message{font-size:1.25rem}\
    .id{opacity:.6;font-size:.8rem}</style></head><body><main>";

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_reflect_nothing_as_markup() {
        let html = page("a<b>", "\"><script>", Some(Link { url: "/x\"onclick=", text: "<i>" }));
        assert!(!html.contains("<b>") && !html.contains("<script>") && !html.contains("<i>"), "{html}");
        assert!(!html.contains("\"onclick"), "{html}");
    }
}
