use std::collections::HashSet;

use deserr::Deserr;

use super::{
    Checker,
    errors::{At, ShapeErrors},
};
use crate::policy::{ClaimSource, IdentityHeader, IdentityHeaders};

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct IdentityHeaderSection {
    #[deserr(default)]
    header: Option<String>,
    #[deserr(default)]
    claim: Option<String>,
    #[deserr(default = TokenWord::Id)]
    token: TokenWord,
}

#[derive(Clone, Copy, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum TokenWord {
    Id,
    Access,
}

/// Every `-` and `_` of a name doubles its spellings, all of which are removed from each request.
const MAXIMUM_SEPARATORS: usize = 5;

/// Headers that carry the request itself; a claim in their place would break it or forge it.
const RESERVED: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

pub(super) fn check(
    sections: Vec<IdentityHeaderSection>,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> IdentityHeaders {
    let mut names = HashSet::new();
    let mut headers = Vec::with_capacity(sections.len());
    for (index, section) in sections.into_iter().enumerate() {
        let at = at.index(index);
        let at_header = at.key("header");
        let claim = checker.required(section.claim, &at.key("claim"));
        if claim.as_ref().is_some_and(String::is_empty) {
            checker.error(&at.key("claim"), "is empty");
        }
        let Some(name) = checker.required(section.header, &at_header) else { continue };
        let name = name.to_ascii_lowercase();
        let is_name = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_name {
            checker.error(&at_header, "must be a header name of letters, digits, - and _");
        }
        if RESERVED.contains(&name.replace('_', "-").as_str()) {
            checker.error(&at_header, "is a header with a meaning of its own");
        }
        if name.bytes().filter(|byte| matches!(byte, b'-' | b'_')).count() > MAXIMUM_SEPARATORS {
            checker.error(&at_header, format!("must not have more than {MAXIMUM_SEPARATORS} of - and _"));
            continue;
        }
        if !names.insert(name.replace('_', "-")) {
            checker.error(&at_header, "is the name of another header of this list, give or take - and _");
        }
        let source = match section.token {
            TokenWord::Id => ClaimSource::Id,
            TokenWord::Access => ClaimSource::Access,
        };
        headers.extend(claim.map(|claim| IdentityHeader { name, claim, source }));
    }
    IdentityHeaders::new(headers)
}
