use std::{collections::HashSet, sync::Arc};

use deserr::Deserr;
use url::Url;

use super::{
    Checker,
    cookie::{CookieSection, is_at_or_below},
    cors::CorsSection,
    duration::Span,
    errors::{At, ShapeErrors},
    identity,
    identity::IdentityHeaderSection,
    is_plain_name,
    models::ModelConfig,
    origin::parse_origin,
    rules,
    rules::{Models, RuleSection},
    sessions,
};
use crate::{
    policy::{Cors, Endpoint, Frontend, LoginSettings, Site},
    session::Lifetimes,
};

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct FrontendSection {
    #[deserr(default)]
    name: Option<String>,
    #[deserr(default)]
    provider: Option<String>,
    #[deserr(default)]
    origins: Vec<String>,
    #[deserr(default)]
    cookie: CookieSection,
    #[deserr(default)]
    login: LoginSection,
    #[deserr(default)]
    me: MeSection,
    #[deserr(default)]
    identity_headers: Vec<IdentityHeaderSection>,
    #[deserr(default)]
    cors: Option<CorsSection>,
    #[deserr(default)]
    sessions: OwnSessionsSection,
    #[deserr(default)]
    rules: Vec<RuleSection>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct LoginSection {
    #[deserr(default)]
    idp_hints: Vec<String>,
    #[deserr(default = "/".to_owned())]
    start_page: String,
    #[deserr(default = "/".to_owned())]
    after_logout: String,
    #[deserr(default)]
    return_origins: Vec<String>,
    #[deserr(default)]
    front_channel_logout: bool,
}

impl Default for LoginSection {
    fn default() -> Self {
        let start = "/".to_owned();
        Self {
            idp_hints: Vec::new(),
            start_page: start.clone(),
            after_logout: start,
            return_origins: Vec::new(),
            front_channel_logout: false,
        }
    }
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct MeSection {
    #[deserr(default = vec!["sub".to_owned()])]
    claims: Vec<String>,
}

impl Default for MeSection {
    fn default() -> Self {
        Self { claims: vec!["sub".to_owned()] }
    }
}

/// What a frontend has otherwise than `sessions` says for all.
#[derive(Default, Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct OwnSessionsSection {
    #[deserr(default)]
    idle: Option<Span>,
    #[deserr(default)]
    absolute: Option<Span>,
}

/// What other sections say that frontends refer to.
pub(super) struct Known<'a> {
    /// The names of the providers.
    pub(super) providers: &'a [String],
    /// The issuer of a provider, by its name.
    pub(super) issuer: &'a dyn Fn(&str) -> Option<Arc<str>>,
    pub(super) models: &'a [ModelConfig],
    /// How long sessions live, unless a frontend says otherwise.
    pub(super) lifetimes: Option<Lifetimes>,
}

pub(super) fn check(
    sections: Vec<FrontendSection>,
    known: &Known<'_>,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Vec<Site> {
    if sections.is_empty() {
        checker.error(at, "must have at least one frontend");
    }
    let (mut names, mut hosts) = (HashSet::new(), HashSet::new());
    let mut cookies: Vec<SessionCookie> = Vec::new();
    let mut sites = Vec::new();
    for (index, section) in sections.into_iter().enumerate() {
        let at = at.index(index);
        if section.name.as_ref().is_some_and(|name| !names.insert(name.clone())) {
            checker.error(&at.key("name"), "is the name of another frontend");
        }
        let provider = checker.required(section.provider.clone(), &at.key("provider"));
        if provider.is_some_and(|provider| !known.providers.contains(&provider)) {
            checker.error(&at.key("provider"), "is not the name of a provider");
        }
        let origins = section.read_origins(&at.key("origins"), checker);
        for (index, origin) in &origins {
            // Requests tell their host and not their scheme, so http and https of one host are one place.
            let host = origin.as_str().split_once("://").map(|(_, host)| host.to_owned());
            if !hosts.insert(host) {
                let message = "is the host of another frontend, or stands here twice";
                checker.error(&at.key("origins").index(*index), message);
            }
        }
        let urls: Vec<Url> = origins.into_iter().map(|(_, url)| url).collect();
        let Some(frontend) = section.check(&urls, known, &at, checker).map(Arc::new) else { continue };
        for url in &urls {
            let cookie = SessionCookie::new(&frontend, url);
            if cookies.iter().any(|other| other.clashes_with(&cookie)) {
                let message = "reaches hosts where another frontend has a cookie of this name: they would overwrite \
                               each other's";
                checker.error(&at.key("cookie").key("name"), message);
            }
            cookies.push(cookie);
            let origin = url.origin().ascii_serialization();
            sites.push(Site { frontend: Arc::clone(&frontend), origin });
        }
    }
    sites
}

/// The session cookie of a frontend at one of its origins. Cookies know no ports.
struct SessionCookie {
    frontend: Arc<str>,
    name: String,
    host: String,
    domain: Option<String>,
}

impl SessionCookie {
    fn new(frontend: &Frontend, origin: &Url) -> Self {
        Self {
            frontend: Arc::clone(&frontend.name),
            name: frontend.cookie.name.clone(),
            host: origin.host_str().unwrap_or_default().to_owned(),
            domain: frontend.cookie.domain.clone(),
        }
    }

    /// Whether some host would get both cookies.
    fn clashes_with(&self, other: &Self) -> bool {
        let reaches = |cookie: &Self, host: &str| match &cookie.domain {
            Some(domain) => is_at_or_below(host, domain),
            None => cookie.host == host,
        };
        self.frontend != other.frontend
            && self.name == other.name
            && (reaches(self, &other.host) || reaches(other, &self.host))
    }
}

impl FrontendSection {
    /// The origins that can be read, with their places in the list.
    fn read_origins(&self, at: &At<'_>, checker: &mut Checker<'_>) -> Vec<(usize, Url)> {
        if self.origins.is_empty() {
            checker.error(at, "must have at least one origin");
        }
        let mut origins = Vec::with_capacity(self.origins.len());
        for (index, text) in self.origins.iter().enumerate() {
            match parse_origin(text) {
                Ok(url) => origins.push((index, url)),
                Err(message) => checker.error(&at.index(index), message),
            }
        }
        origins
    }

    fn check(
        self,
        urls: &[Url],
        known: &Known<'_>,
        at: &At<'_>,
        checker: &mut Checker<'_>,
    ) -> Option<Frontend> {
        let name = checker.required(self.name, &at.key("name"));
        if name.as_ref().is_some_and(|name| !is_plain_name(name)) {
            checker.error(&at.key("name"), "must be 1 to 32 of the characters a-z, 0-9 and -");
        }
        let cookie = self.cookie.check(urls, &at.key("cookie"), checker);
        let login = self.login.check(&at.key("login"), checker);
        let identity_headers = identity::check(self.identity_headers, &at.key("identity_headers"), checker);
        let cors = self.cors.map_or_else(Cors::default, |cors| cors.check(urls, &at.key("cors"), checker));
        let issuer = self.provider.as_deref().and_then(known.issuer);
        let is_users_realm =
            |model: &ModelConfig| issuer.is_none() || (known.issuer)(&model.provider) == issuer;
        let models = Models { all: known.models, is_users_realm: &is_users_realm };
        let rules = rules::check(self.rules, &models, &at.key("rules"), checker);
        let lifetimes = self.sessions.check(known.lifetimes, &at.key("sessions"), checker);
        Some(Frontend {
            name: name?.into(),
            provider: self.provider?.into(),
            cookie,
            login,
            shown_claims: self.me.claims,
            identity_headers,
            cors,
            rules,
            lifetimes,
        })
    }
}

impl LoginSection {
    fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> LoginSettings {
        for (index, hint) in self.idp_hints.iter().enumerate() {
            let is_alias = (1..=64).contains(&hint.len())
                && hint.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !is_alias {
                let message = "must be the alias of an identity provider: 1 to 64 letters, digits, - and _";
                checker.error(&at.key("idp_hints").index(index), message);
            }
        }
        for (key, path) in [("start_page", &self.start_page), ("after_logout", &self.after_logout)] {
            let is_path = path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
            if !is_path {
                checker.error(&at.key(key), "must be a path of the frontend that starts with one /");
            }
            let end = path.find(['?', '#']).unwrap_or(path.len());
            if Endpoint::at(&path[..end]).is_some() {
                checker
                    .error(&at.key(key), "is one of our own endpoints: browsers would go round in circles");
            }
        }
        for (index, origin) in self.return_origins.iter().enumerate() {
            if let Err(message) = parse_origin(origin) {
                checker.error(&at.key("return_origins").index(index), message);
            }
        }
        LoginSettings {
            idp_hints: self.idp_hints,
            start_page: self.start_page,
            after_logout: self.after_logout,
            return_origins: self.return_origins,
            front_channel_logout: self.front_channel_logout,
        }
    }
}

impl OwnSessionsSection {
    fn check(self, common: Option<Lifetimes>, at: &At<'_>, checker: &mut Checker<'_>) -> Lifetimes {
        // Without the common ones there is an error already, and these serve only to find more.
        let common = common
            .unwrap_or(Lifetimes { idle: std::time::Duration::MAX, absolute: std::time::Duration::MAX });
        if self.idle.is_none() && self.absolute.is_none() {
            return common;
        }
        let idle = self.idle.unwrap_or(Span(common.idle));
        sessions::lifetimes(idle, self.absolute.unwrap_or(Span(common.absolute)), at, checker)
    }
}
