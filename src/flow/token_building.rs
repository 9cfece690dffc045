//! Makes the tokens of a session from what the token endpoint gave.

use std::{collections::HashMap, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::{
    clock::Timestamp,
    oidc::{TokenSet, unverified_claims},
    policy::{Frontend, Site},
    session::{
        Tokens,
        redis::{Rendered, Renderer},
    },
};

/// The tokens of a login, with the verified claims of its ID token; `None` without an ID token.
pub(super) fn at_login(
    frontend: &Frontend,
    set: TokenSet,
    id_claims: Map<String, Value>,
    now: Timestamp,
) -> Option<Tokens> {
    let id_token = set.id_token.clone()?;
    let refresh_token = set.refresh_token.clone();
    let refresh_expires_at = set.refresh_end(now);
    Some(build(frontend, set, now, Rest { id_token, id_claims, refresh_token, refresh_expires_at }))
}

/// The tokens of a refresh. What the answer does not renew stays as it was: the refresh token (RFC 6749 section 6),
/// and the ID token, unless there is a new one that was verified.
pub(super) fn at_refresh(
    frontend: &Frontend,
    set: TokenSet,
    verified: Option<Map<String, Value>>,
    previous: &Tokens,
    now: Timestamp,
) -> Tokens {
    let (id_token, id_claims) = match (&set.id_token, verified) {
        (Some(id_token), Some(claims)) => (id_token.clone(), merged(&previous.id_claims, claims)),
        _ => (previous.id_token.clone(), previous.id_claims.clone()),
    };
    let (refresh_token, refresh_expires_at) = match &set.refresh_token {
        Some(token) => (Some(token.clone()), set.refresh_end(now)),
        None => (previous.refresh_token.clone(), previous.refresh_expires_at),
    };
    build(frontend, set, now, Rest { id_token, id_claims, refresh_token, refresh_expires_at })
}

/// The tokens of a refresh whose ID token was wrong: none of it is believed but the refresh token, without which the
/// next try would be the provider's proof of a stolen one (RFC 9700 section 4.14.2).
pub(super) fn with_refresh_token_only(set: TokenSet, previous: &Tokens, now: Timestamp) -> Tokens {
    let refresh_expires_at = set.refresh_end(now);
    match set.refresh_token {
        Some(token) => Tokens { refresh_token: Some(token), refresh_expires_at, ..previous.clone() },
        None => previous.clone(),
    }
}

struct Rest {
    id_token: SecretString,
    id_claims: Map<String, Value>,
    refresh_token: Option<SecretString>,
    refresh_expires_at: Option<Timestamp>,
}

fn build(frontend: &Frontend, set: TokenSet, now: Timestamp, rest: Rest) -> Tokens {
    let access_token = set.access_token.expose_secret();
    let access_claims = claims_of(access_token);
    let access_lifetime = set.access_lifetime(&access_claims, now);
    let Rendered { access_claims, upstream } =
        rendered(frontend, access_token, &rest.id_claims, access_claims);
    Tokens {
        access_expires_at: now + access_lifetime,
        access_lifetime,
        refresh_token: rest.refresh_token,
        refresh_expires_at: rest.refresh_expires_at,
        id_token: rest.id_token,
        id_claims: rest.id_claims,
        access_claims,
        upstream,
    }
}

/// Makes what requests need of the tokens that a store holds.
pub fn renderer(sites: &[Site]) -> Box<Renderer> {
    let frontends = sites.iter().map(|site| (Arc::clone(&site.frontend.name), Arc::clone(&site.frontend)));
    let frontends: HashMap<Arc<str>, Arc<Frontend>> = frontends.collect();
    Box::new(move |frontend, access_token, id_claims| {
        let frontend = frontends.get(frontend)?;
        Some(rendered(frontend, access_token, id_claims, claims_of(access_token)))
    })
}

/// Empty if the token is no JWT. It came from the token endpoint itself, is for others to verify, and its claims are used
/// only to decide about the session that it came with.
fn claims_of(access_token: &str) -> Map<String, Value> {
    unverified_claims(access_token).unwrap_or_default()
}

fn rendered(
    frontend: &Frontend,
    access_token: &str,
    id_claims: &Map<String, Value>,
    mut access_claims: Map<String, Value>,
) -> Rendered {
    let upstream = frontend.identity_headers.render(access_token, id_claims, &access_claims);
    // All that requests ask for; the rest of a token need not be kept a second time for every session.
    access_claims.retain(|name, _| matches!(name.as_str(), "realm_access" | "resource_access"));
    Rendered { access_claims, upstream }
}

/// New claims over old ones: the nonce of the login is not in the ID token of a refresh and is still needed to check
/// the next one.
fn merged(previous: &Map<String, Value>, mut claims: Map<String, Value>) -> Map<String, Value> {
    if let Some(nonce) = previous.get("nonce") {
        claims.entry("nonce").or_insert_with(|| nonce.clone());
    }
    claims
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{flow::test_support::site, policy::Site};

    const NOW: Timestamp = Timestamp::from_unix(1_000_000);

    fn set(refresh: Option<&str>, refresh_expires_in: Option<u64>, id: Option<&str>) -> TokenSet {
        TokenSet {
            access_token: "access".into(),
            expires_in: Some(Duration::from_secs(59)),
            refresh_token: refresh.map(|token| token.into()),
            refresh_expires_in: refresh_expires_in.map(Duration::from_secs),
            id_token: id.map(|token| token.into()),
            scope: None,
        }
    }

    fn claims(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn login() -> (Site, Tokens) {
        let site = site("https://app.example.com");
        let id_claims = claims(json!({"sub": "alice", "nonce": "n", "name": "Alice"}));
        let tokens =
            at_login(&site.frontend, set(Some("r1"), Some(1800), Some("id1")), id_claims, NOW).unwrap();
        (site, tokens)
    }

    #[test]
    fn a_login_gives_every_time() {
        let (_, tokens) = login();
        assert_eq!(tokens.access_expires_at, NOW + Duration::from_secs(59));
        assert_eq!(tokens.refresh_expires_at, Some(NOW + Duration::from_secs(1800)));
        assert_eq!(tokens.upstream.authorization.expose_secret(), "Bearer access");
    }

    #[test]
    fn an_offline_token_does_not_end() {
        let site = site("https://app.example.com");
        let tokens = at_login(&site.frontend, set(Some("r"), Some(0), Some("id")), Map::new(), NOW).unwrap();
        assert_eq!(tokens.refresh_expires_at, None);
    }

    #[test]
    fn a_refresh_keeps_what_it_does_not_renew() {
        let (site, before) = login();
        let after = at_refresh(&site.frontend, set(None, None, None), None, &before, NOW);
        assert_eq!(after.refresh_token.unwrap().expose_secret(), "r1");
        assert_eq!(after.refresh_expires_at, before.refresh_expires_at);
        assert_eq!(after.id_token.expose_secret(), "id1");
        assert_eq!(after.id_claims, before.id_claims);
    }

    #[test]
    fn a_refresh_renews_what_it_brings_and_keeps_the_nonce() {
        let (site, before) = login();
        let renewed = claims(json!({"sub": "alice", "name": "Alice B"}));
        let after =
            at_refresh(&site.frontend, set(Some("r2"), Some(0), Some("id2")), Some(renewed), &before, NOW);
        assert_eq!(after.refresh_token.unwrap().expose_secret(), "r2");
        assert_eq!(after.refresh_expires_at, None);
        assert_eq!(after.id_token.expose_secret(), "id2");
        assert_eq!(after.id_claims["name"], "Alice B");
        assert_eq!(after.id_claims["nonce"], "n");
    }

    #[test]
    fn an_id_token_that_was_not_verified_is_not_kept() {
        let (site, before) = login();
        let after = at_refresh(&site.frontend, set(Some("r2"), None, Some("id2")), None, &before, NOW);
        assert_eq!(after.id_token.expose_secret(), "id1");
    }

    #[test]
    fn the_life_of_the_token_itself_is_taken_where_the_answer_gives_none() {
        let site = site("https://app.example.com");
        let payload = crate::crypto::base64url(json!({"exp": 1_000_300}).to_string().as_bytes());
        let set = TokenSet {
            access_token: format!("h.{payload}.s").into(),
            expires_in: None,
            ..set(None, None, Some("id"))
        };
        let tokens = at_login(&site.frontend, set, Map::new(), NOW).unwrap();
        assert_eq!(tokens.access_expires_at, NOW + Duration::from_secs(300));
    }
}
