use std::{fmt::Write, time::Duration};

use serde_json::json;

/// Why a request does not pass. What each one becomes stands in one table, [`Refusal::answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No frontend has this host.
    UnknownHost,
    /// Servers would read the path in different ways, and the rules differ for them.
    AmbiguousPath,
    /// A page of another origin made the request.
    ForeignOrigin,
    /// Nothing proves that a page of this frontend made the request.
    MissingCsrfHeader,
    /// There is no session.
    NotSignedIn,
    /// The user has none of the roles that the path needs.
    MissingRole,
    /// The provider says that the account is disabled.
    AccountDisabled,
    /// The session's token can no longer be used and the provider cannot be asked for a new one now.
    Unavailable {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// A fault of this program.
    Internal,
}

/// What a refusal becomes, whatever carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// A fixed word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: &'static str,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// The answer table.
    pub fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::UnknownHost => (404, "unknown_host", "There is no application at this address."),
            Self::AmbiguousPath => (400, "ambiguous_path", "This address can be read in more than one way."),
            Self::ForeignOrigin => {
                (403, "foreign_origin", "This request was made by a page of another site.")
            }
            Self::MissingCsrfHeader => {
                (403, "missing_csrf_header", "This request lacks the header that shows where it came from.")
            }
            Self::NotSignedIn => (401, "not_signed_in", "You are not signed in."),
            Self::MissingRole => (403, "missing_role", "Your account is not allowed to do this."),
            Self::AccountDisabled => (403, "account_disabled", "Your account is disabled."),
            Self::Unavailable { .. } => (
                503,
                "sign_in_unavailable",
                "The sign-in service does not answer. Please try again in a moment.",
            ),
            Self::Internal => (503, "internal_error", "Something went wrong on our side. Please try again."),
        };
        let retry_after = match self {
            // A client that is told "0" comes back at once.
            Self::Unavailable { retry_after } => Some(retry_after.as_secs().max(1)),
            Self::Internal => Some(1),
            _ => None,
        };
        Answer { status, code, message, retry_after }
    }
}

impl Answer {
    /// The answer for a script.
    pub fn json(&self, request_id: &str, login_url: Option<&str>) -> String {
        let mut body = json!({"error": self.code, "message": self.message, "request_id": request_id});
        if let Some(login_url) = login_url {
            body["login_url"] = login_url.into();
        }
        body.to_string()
    }

    /// The answer for a person: nothing of the request is repeated in it but its id.
    pub fn html(&self, request_id: &str, again: Option<Link<'_>>) -> String {
        page(self.message, request_id, again)
    }
}

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

    #[test]
    fn scripts_are_told_where_to_sign_in() {
        let body = Refusal::NotSignedIn.answer().json("id-1", Some("https://app.example.com/auth/login"));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"], "not_signed_in");
        assert_eq!(body["login_url"], "https://app.example.com/auth/login");
        assert_eq!(body["request_id"], "id-1");
    }

    #[test]
    fn retry_after_is_never_zero() {
        let answer = Refusal::Unavailable { retry_after: Duration::ZERO }.answer();
        assert_eq!((answer.status, answer.retry_after), (503, Some(1)));
    }
}
