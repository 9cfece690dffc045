use deserr::Deserr;
use url::Url;

use super::{
    Checker,
    duration::Span,
    errors::{At, ShapeErrors},
    origin::{are_same_site, parse_origin},
};
use crate::policy::Cors;

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct CorsSection {
    #[deserr(default)]
    origins: Vec<String>,
    #[deserr(default = words(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]))]
    methods: Vec<String>,
    #[deserr(default = words(&["content-type", "x-csrf", "x-requested-with"]))]
    headers: Vec<String>,
    #[deserr(default)]
    expose_headers: Vec<String>,
    #[deserr(default = Span::seconds(600))]
    max_age: Span,
    #[deserr(default = AnsweredBy::Program)]
    answered_by: AnsweredBy,
}

#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors)]
enum AnsweredBy {
    #[deserr(rename = "keycloak-bff")]
    Program,
    #[deserr(rename = "gateway")]
    Gateway,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl CorsSection {
    pub(super) fn check(self, own: &[Url], at: &At<'_>, checker: &mut Checker<'_>) -> Cors {
        for (index, text) in self.origins.iter().enumerate() {
            let at_origins = at.key("origins");
            let at = at_origins.index(index);
            match parse_origin(text) {
                Ok(origin) => {
                    if !own.iter().any(|own| are_same_site(own, &origin)) {
                        let message = "seems to be another site: browsers do not send a Lax or Strict cookie with its \
                                       requests; serve it a frontend of its own";
                        checker.warn(&at, message);
                    }
                }
                Err(message) => checker.error(&at, message),
            }
        }
        for (key, words) in
            [("methods", &self.methods), ("headers", &self.headers), ("expose_headers", &self.expose_headers)]
        {
            for (index, word) in words.iter().enumerate() {
                let is_token = !word.is_empty()
                    && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
                // `*` means the star itself once credentials are allowed (Fetch standard).
                if !is_token {
                    checker.error(
                        &at.key(key).index(index),
                        "must be one name; * does not work with credentials",
                    );
                }
            }
        }
        Cors {
            origins: self.origins,
            methods: self.methods.join(", "),
            headers: self.headers.join(", "),
            expose_headers: self.expose_headers.join(", "),
            max_age: self.max_age.0.as_secs(),
            answered_here: self.answered_by == AnsweredBy::Program,
        }
    }
}
