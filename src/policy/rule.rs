use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{Path, StepUp};

/// What a path needs before its requests pass.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The paths it is for.
    pub path: PathPattern,
    /// The methods it is for, in upper case; empty means all.
    pub methods: Vec<String>,
    /// Whether a session is needed.
    pub session: SessionNeed,
    /// Roles of which the user must have one; empty means none is needed.
    pub roles: Vec<Role>,
    /// How the user must have signed in.
    pub step_up: StepUp,
    /// Which token the upstream is given.
    pub token: TokenKind,
    /// Whether a request without a session may be sent to the login.
    pub navigation: Navigation,
    /// Whether every request, reading ones too, must carry the static header against request forgery.
    pub csrf_header: bool,
}

/// Whether a rule needs a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionNeed {
    /// Without a session the request is refused.
    Required,
    /// With a session the upstream is told who it is; without one the request passes all the same.
    Optional,
    /// The session is not even looked up.
    None,
}

/// Which token the upstream is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The user's access token.
    User,
    /// A token of another realm, by the name of the model client.
    Model(Arc<str>),
    /// The user's, exchanged for one that is good for this audience only.
    Exchange(Arc<str>),
    /// None at all.
    None,
}

/// How a request without a session is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Navigation {
    /// As the request looks: a page is sent to the login, everything else gets 401.
    Auto,
    /// A GET or HEAD is always taken for a page.
    Always,
    /// Never sent to the login: an API.
    Never,
}

/// A role in Keycloak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A role of the realm.
    Realm(String),
    /// A role of one of the realm's clients.
    Client {
        /// The client's id.
        client: String,
        /// The role's name.
        role: String,
    },
}

impl Role {
    /// Whether the claims of a Keycloak access token hold this role (`realm_access`, `resource_access`).
    pub fn is_in(&self, access_claims: &Map<String, Value>) -> bool {
        let (holder, name) = match self {
            Self::Realm(name) => (access_claims.get("realm_access"), name),
            Self::Client { client, role } => {
                (access_claims.get("resource_access").and_then(|clients| clients.get(client)), role)
            }
        };
        let roles = holder.and_then(|holder| holder.get("roles")).and_then(Value::as_array);
        roles.is_some_and(|roles| roles.iter().any(|role| role.as_str() == Some(name)))
    }
}

/// A pattern for paths: exact (`/health`), or a path and everything below it (`/public/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// Only this path.
    Exact(String),
    /// This path and every path below it. Kept without the slash at its end.
    Below(String),
}

/// A pattern is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It does not start with a slash.
    #[error("must start with /")]
    NotAbsolute,
    /// `*` stands elsewhere than alone in the last segment.
    #[error("may have * only alone in its last segment, as in /public/*")]
    Wildcard,
    /// Requests are normalised before they are matched, so it could never match.
    #[error(
        "is not a normalised path, so no request would ever match it (no query, //, dot segments, %, ; or \\)"
    )]
    NotNormalised,
}

impl PathPattern {
    /// Reads a pattern as written in the configuration.
    ///
    /// # Errors
    /// [`RuleError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if !text.starts_with('/') {
            return Err(RuleError::NotAbsolute);
        }
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(RuleError::Wildcard);
        }
        let unusual = path.contains(['?', '#', '%', ';', '\\']) || path.contains("//");
        if unusual
            || path.split('/').any(|segment| matches!(segment, "." | ".."))
            || (below && path.ends_with('/'))
        {
            return Err(RuleError::NotNormalised);
        }
        let path = path.to_owned();
        Ok(if below { Self::Below(path) } else { Self::Exact(path) })
    }

    /// Whether a normalised path fits. `/public/*` fits `/public`, `/public/` and `/public/a/b`, never `/publicx`.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Below(above) => {
                path.strip_prefix(above.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

/// The rules of a frontend: the first that fits decides.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    otherwise: Rule,
}

impl Rules {
    /// A table that asks for a session wherever no rule fits.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules, otherwise: Rule::new(PathPattern::Below(String::new()), SessionNeed::Required) }
    }

    /// The rule for a request; `None` if its path can be read in two ways that fall under different rules.
    pub fn find(&self, path: &Path<'_>, method: &str) -> Option<&Rule> {
        let index = path.agreed(|reading| {
            let fits = |rule: &Rule| {
                rule.path.matches(reading)
                    && (rule.methods.is_empty() || rule.methods.iter().any(|listed| listed == method))
            };
            self.rules.iter().position(fits)
        })?;
        Some(index.and_then(|index| self.rules.get(index)).unwrap_or(&self.otherwise))
    }

    /// Whether some rule asks for this authentication context.
    pub fn names_acr(&self, acr: &str) -> bool {
        self.rules.iter().any(|rule| rule.step_up.acr_values.iter().any(|named| named == acr))
    }

    /// The audiences for which tokens are exchanged.
    pub fn exchange_audiences(&self) -> impl Iterator<Item = &Arc<str>> {
        self.rules.iter().filter_map(|rule| match &rule.token {
            TokenKind::Exchange(audience) => Some(audience),
            _ => None,
        })
    }

    /// Whether some rule asks for a sign-in of this age.
    pub fn names_max_age(&self, max_age: Duration) -> bool {
        let whole_seconds = |age: Duration| age.as_secs() == max_age.as_secs();
        self.rules.iter().any(|rule| rule.step_up.max_age.is_some_and(whole_seconds))
    }
}

impl Rule {
    /// A rule for all methods that asks for no role and no header.
    pub fn new(path: PathPattern, session: SessionNeed) -> Self {
        Self {
            path,
            methods: Vec::new(),
            session,
            roles: Vec::new(),
            step_up: StepUp::default(),
            token: TokenKind::User,
            navigation: Navigation::Auto,
            csrf_header: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(pattern: &str, session: SessionNeed) -> Rule {
        Rule::new(PathPattern::parse(pattern).unwrap(), session)
    }

    fn table() -> Rules {
        let write_only = Rule { methods: vec!["POST".into()], ..rule("/forms/*", SessionNeed::Required) };
        Rules::new(vec![
            rule("/", SessionNeed::None),
            rule("/public/*", SessionNeed::None),
            rule("/health", SessionNeed::None),
            write_only,
            rule("/forms/*", SessionNeed::Optional),
        ])
    }

    fn need(raw: &str, method: &str) -> Option<SessionNeed> {
        let path = Path::normalise(raw)?;
        table().find(&path, method).map(|rule| rule.session)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        use SessionNeed::{None as NoSession, Optional, Required};
        for (path, method, expected) in [
            ("/", "GET", NoSession),
            ("/public", "GET", NoSession),
            ("/public/", "GET", NoSession),
            ("/public/a/b", "POST", NoSession),
            ("/publicx", "GET", Required),
            ("/Public/a", "GET", Required),
            ("/health", "GET", NoSession),
            ("/health/", "GET", Required),
            ("/healthz", "GET", Required),
            ("/forms/a", "GET", Optional),
            ("/forms/a", "POST", Required),
            ("/anything", "GET", Required),
            ("/public/../secret", "GET", Required),
            ("/public/%2e%2e/secret", "GET", Required),
            ("//public/a", "GET", NoSession),
        ] {
            assert_eq!(need(path, method), Some(expected), "{method} {path}");
        }
    }

    #[test]
    fn no_spelling_slips_through_a_rule() {
        for path in [
            "/public/..%2fsecret",
            "/public/..%5csecret",
            "/public\\..\\..\\secret",
            "/public/..;/secret",
            "/public/%252e%252e/secret",
            "/public/..%c0%afsecret",
            "/%70ublic%2f..%2fsecret",
            "/public/a%2f..%2f..%2fsecret%2f..%252f..%252fpublic",
            "/public/..;/admin/echo;%252f..%252f..%252fpublic%252fx",
            "/public%2fa",
            "/public;x%252fa",
        ] {
            assert_ne!(need(path, "GET"), Some(SessionNeed::None), "{path}");
        }
        let admin = Rule {
            roles: vec![Role::Realm("admin".to_owned())],
            ..rule("/api/admin/*", SessionNeed::Required)
        };
        let rules = Rules::new(vec![admin, rule("/api/*", SessionNeed::Optional)]);
        for path in ["/api/admin;x%252fc", "/api/admin%3bx/c", "/api%2fadmin", "/api/x%2f..%2fadmin"] {
            let found =
                Path::normalise(path).and_then(|path| rules.find(&path, "GET").map(|rule| rule.roles.len()));
            assert_ne!(found, Some(0), "{path}");
        }
    }

    #[test]
    fn patterns_that_could_never_match_are_refused() {
        for (pattern, error) in [
            ("public", RuleError::NotAbsolute),
            ("", RuleError::NotAbsolute),
            ("/pub*", RuleError::Wildcard),
            ("/*/x", RuleError::Wildcard),
            ("/a?b", RuleError::NotNormalised),
            ("/a/../b", RuleError::NotNormalised),
            ("/a//b", RuleError::NotNormalised),
            ("/a/%2e", RuleError::NotNormalised),
            ("/a//*", RuleError::NotNormalised),
        ] {
            assert_eq!(PathPattern::parse(pattern), Err(error), "{pattern}");
        }
        assert!(PathPattern::parse("/*").unwrap().matches("/anything/at/all"));
    }

    #[test]
    fn roles_of_realm_and_client_are_told_apart() {
        let claims = json!({
            "realm_access": {"roles": ["admin"]},
            "resource_access": {"orders": {"roles": ["editor"]}}
        });
        let claims = claims.as_object().unwrap();
        let client =
            |client: &str, role: &str| Role::Client { client: client.to_owned(), role: role.to_owned() };
        assert!(Role::Realm("admin".to_owned()).is_in(claims));
        assert!(client("orders", "editor").is_in(claims));
        for role in [Role::Realm("editor".to_owned()), client("orders", "admin"), client("other", "editor")] {
            assert!(!role.is_in(claims), "{role:?}");
        }
        assert!(!Role::Realm("admin".to_owned()).is_in(&Map::new()));
    }
}
