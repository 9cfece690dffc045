use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::session::UpstreamHeaders;

/// Characters that stand for themselves in an identity header; everything else is percent-encoded UTF-8 (RFC 3986
/// section 2.1), because Envoy passes raw UTF-8 on and upstreams read it as Latin-1. The comma is encoded: it joins
/// the elements of a list.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@')
    .remove(b':')
    .remove(b'/')
    .remove(b'+')
    .remove(b'=')
    .remove(b'!')
    .remove(b'(')
    .remove(b')');

/// The longest value of an identity header in bytes. Envoy answers 500 to a request whose headers pass its limit, so
/// a longer value is left out rather than let a user with many groups see nothing but errors.
const MAXIMUM_LENGTH: usize = 4096;

/// The longest that the values of all identity headers may be together, in bytes.
const MAXIMUM_TOTAL: usize = 16 * 1024;

const AUTHORIZATION: &str = "authorization";

/// A claim that upstreams get as a request header.
#[derive(Clone, Debug)]
pub struct IdentityHeader {
    /// The header's name in lower case.
    pub name: String,
    /// The claim: its name, or names joined by dots into nested objects (`realm_access.roles`).
    pub claim: String,
    /// The token that holds it.
    pub source: ClaimSource,
}

/// Which token a claim is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimSource {
    /// The ID token.
    Id,
    /// The access token, where Keycloak puts roles.
    Access,
}

/// The identity headers of a frontend, and every name under which a client might send one.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    headers: Vec<IdentityHeader>,
    spellings: Vec<String>,
}

impl IdentityHeaders {
    /// The given headers, and `Authorization`, which every frontend has.
    pub fn new(headers: Vec<IdentityHeader>) -> Self {
        let mut spellings: Vec<String> = vec![AUTHORIZATION.to_owned()];
        spellings.extend(headers.iter().flat_map(|header| spellings_of(&header.name)));
        spellings.sort();
        spellings.dedup();
        Self { headers, spellings }
    }

    /// The names to take out of a request that is given none of these headers.
    pub fn spellings(&self) -> &[String] {
        &self.spellings
    }

    /// The headers of a user with these tokens.
    pub fn render(
        &self,
        access_token: &str,
        id_claims: &Map<String, Value>,
        access_claims: &Map<String, Value>,
    ) -> UpstreamHeaders {
        let mut identity = Vec::with_capacity(self.headers.len());
        let mut total = 0;
        for header in &self.headers {
            let claims = match header.source {
                ClaimSource::Id => id_claims,
                ClaimSource::Access => access_claims,
            };
            let Some(value) = find_claim(claims, &header.claim).and_then(encode) else { continue };
            if value.len() > MAXIMUM_LENGTH || total + value.len() > MAXIMUM_TOTAL {
                tracing::warn!(
                    header = header.name,
                    length = value.len(),
                    "identity header left out: too long"
                );
                continue;
            }
            total += value.len();
            identity.push((header.name.clone(), value));
        }
        let is_set = |name: &str| name == AUTHORIZATION || identity.iter().any(|(set, _)| set == name);
        let remove = self.spellings.iter().filter(|name| !is_set(name)).cloned().collect();
        UpstreamHeaders { authorization: format!("Bearer {access_token}").into(), identity, remove }
    }
}

/// The claim of this name, or else the one that its dotted parts lead to: claim names may hold dots themselves.
fn find_claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        find_claim(claims.get(first)?.as_object()?, rest)
    })
}

/// A claim as a header value: text as it is, lists joined by commas, objects as JSON, each percent-encoded.
fn encode(claim: &Value) -> Option<String> {
    let value = match claim {
        Value::Null => return None,
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().filter_map(encode).collect();
            elements.join(",")
        }
        Value::String(text) => utf8_percent_encode(text, ENCODED).to_string(),
        other => utf8_percent_encode(&other.to_string(), ENCODED).to_string(),
    };
    (!value.is_empty()).then_some(value)
}

/// Every way to write a header's name with `-` and `_` exchanged: many servers take the one for the other.
fn spellings_of(name: &str) -> Vec<String> {
    let mut spellings = vec![String::with_capacity(name.len())];
    for character in name.chars() {
        let variants: &[char] = if matches!(character, '-' | '_') { &['-', '_'] } else { &[character] };
        spellings = spellings
            .iter()
            .flat_map(|start| variants.iter().map(move |variant| format!("{start}{variant}")))
            .collect();
    }
    spellings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(name: &str, claim: &str, source: ClaimSource) -> IdentityHeader {
        IdentityHeader { name: name.to_owned(), claim: claim.to_owned(), source }
    }

    fn headers() -> IdentityHeaders {
        IdentityHeaders::new(vec![
            header("x-user-name", "name", ClaimSource::Id),
            header("x-roles", "realm_access.roles", ClaimSource::Access),
            header("x-dotted", "https://example.com/a.b", ClaimSource::Id),
        ])
    }

    fn render(id_claims: Value, access_claims: Value) -> UpstreamHeaders {
        headers().render("token", id_claims.as_object().unwrap(), access_claims.as_object().unwrap())
    }

    #[test]
    fn any_name_survives() {
        for (name, expected) in [
            ("Alice Ångström", "Alice%20%C3%85ngstr%C3%B6m"),
            ("a\r\nx-evil: 1", "a%0D%0Ax-evil:%201"),
            ("100%", "100%25"),
            ("愛", "%E6%84%9B"),
        ] {
            let rendered = render(json!({"name": name}), json!({}));
            assert_eq!(rendered.identity, [("x-user-name".to_owned(), expected.to_owned())]);
            let decoded = percent_encoding::percent_decode_str(expected).decode_utf8().unwrap();
            assert_eq!(decoded, name);
        }
    }

    #[test]
    fn lists_are_joined_and_their_commas_encoded() {
        let rendered = render(json!({}), json!({"realm_access": {"roles": ["user", "a,b", 7, null]}}));
        assert_eq!(rendered.identity, [("x-roles".to_owned(), "user,a%2Cb,7".to_owned())]);
    }

    #[test]
    fn claim_names_with_dots_are_found() {
        let rendered = render(json!({"https://example.com/a.b": true}), json!({}));
        assert_eq!(rendered.identity, [("x-dotted".to_owned(), "true".to_owned())]);
    }

    #[test]
    fn every_spelling_is_removed_but_what_is_set() {
        let rendered = render(json!({"name": "Alice"}), json!({}));
        for name in
            ["x_user_name", "x-user_name", "x_user-name", "x-roles", "x_roles", "x-dotted", "x_dotted"]
        {
            assert!(rendered.remove.iter().any(|removed| removed == name), "{name}");
        }
        for name in ["x-user-name", "authorization"] {
            assert!(!rendered.remove.iter().any(|removed| removed == name), "{name}");
            assert!(headers().spellings().iter().any(|spelling| spelling == name), "{name}");
        }
    }

    #[test]
    fn all_of_them_together_are_bounded() {
        let names: Vec<String> = (0..8).map(|number| format!("x-{number}")).collect();
        let headers = names.iter().map(|name| header(name, "long", ClaimSource::Id)).collect();
        let claims = json!({"long": "x".repeat(MAXIMUM_LENGTH)});
        let rendered =
            IdentityHeaders::new(headers).render("token", claims.as_object().unwrap(), &Map::new());
        assert_eq!(rendered.identity.len(), MAXIMUM_TOTAL / MAXIMUM_LENGTH);
        // What is left out must not come from the client instead.
        assert!(names[4..].iter().all(|name| rendered.remove.contains(name)));
    }

    #[test]
    fn what_is_too_long_or_empty_is_left_out() {
        assert!(render(json!({"name": "x".repeat(MAXIMUM_LENGTH + 1)}), json!({})).identity.is_empty());
        for nothing in [json!(null), json!(""), json!([])] {
            assert!(render(json!({"name": nothing}), json!({})).identity.is_empty());
        }
    }
}
