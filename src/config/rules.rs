use std::{sync::Arc, time::Duration};

use deserr::Deserr;

use super::{
    Checker,
    duration::Span,
    errors::{At, ShapeErrors},
    models::ModelConfig,
};
use crate::{
    model_tokens::ModelGrant,
    policy::{Navigation, PathPattern, Role, Rule, Rules, SessionNeed, StepUp, TokenKind},
};

/// How many characters the authentication contexts of a rule may have in all.
const LONGEST_ACR: usize = 128;

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct RuleSection {
    #[deserr(default)]
    path: Option<String>,
    #[deserr(default)]
    methods: Vec<String>,
    #[deserr(default)]
    session: Option<SessionWord>,
    #[deserr(default)]
    roles: Vec<RoleSection>,
    #[deserr(default)]
    acr: Vec<String>,
    #[deserr(default)]
    max_age: Option<Span>,
    #[deserr(default)]
    token: Option<TokenWord>,
    #[deserr(default)]
    model: Option<String>,
    #[deserr(default)]
    audience: Option<String>,
    #[deserr(default = NavigationWord::Auto)]
    navigation: NavigationWord,
    #[deserr(default)]
    csrf_header: bool,
}

#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum SessionWord {
    Required,
    Optional,
    None,
}

#[derive(Clone, Copy, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum TokenWord {
    User,
    Model,
    Exchange,
    None,
}

#[derive(Clone, Copy, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum NavigationWord {
    Auto,
    Always,
    Never,
}

/// `{realm: admin}` or `{client: orders, role: editor}`.
#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct RoleSection {
    #[deserr(default)]
    realm: Option<String>,
    #[deserr(default)]
    client: Option<String>,
    #[deserr(default)]
    role: Option<String>,
}

/// The models that rules may name.
pub(super) struct Models<'a> {
    pub(super) all: &'a [ModelConfig],
    /// Whether a model's realm is the one where the frontend's users sign in.
    pub(super) is_users_realm: &'a dyn Fn(&ModelConfig) -> bool,
}

pub(super) fn check(
    sections: Vec<RuleSection>,
    models: &Models<'_>,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Rules {
    let check = |(index, section): (usize, RuleSection)| section.check(models, &at.index(index), checker);
    Rules::new(sections.into_iter().enumerate().filter_map(check).collect())
}

fn check_step_up(step_up: &StepUp, at: &At<'_>, checker: &mut Checker<'_>) {
    for (index, acr) in step_up.acr_values.iter().enumerate() {
        // They are joined by spaces in addresses and quoted in a challenge.
        let is_word = !acr.is_empty()
            && acr.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if !is_word {
            checker.error(&at.key("acr").index(index), "must be one word of printable characters");
        }
    }
    if step_up.acr_values.iter().map(String::len).sum::<usize>() > LONGEST_ACR {
        let message =
            format!("must not have more than {LONGEST_ACR} characters in all: logins carry it in a cookie");
        checker.error(&at.key("acr"), message);
    }
    if step_up.max_age.is_some_and(|age| age < Duration::from_secs(1)) {
        checker.error(&at.key("max_age"), "must be at least 1s");
    }
}

impl RuleSection {
    fn token_kind(&self, models: &Models<'_>, at: &At<'_>, checker: &mut Checker<'_>) -> TokenKind {
        if self.model.is_some() && !matches!(self.token, Some(TokenWord::Model)) {
            checker.error(&at.key("model"), "needs token: model");
        }
        if self.audience.is_some() && !matches!(self.token, Some(TokenWord::Exchange)) {
            checker.error(&at.key("audience"), "needs token: exchange");
        }
        match self.token {
            Some(TokenWord::None) => TokenKind::None,
            Some(TokenWord::Exchange) => {
                let audience = checker.required(self.audience.clone(), &at.key("audience"));
                if audience.as_ref().is_some_and(String::is_empty) {
                    checker.error(&at.key("audience"), "is empty");
                }
                TokenKind::Exchange(audience.unwrap_or_default().into())
            }
            Some(TokenWord::User) | None => TokenKind::User,
            Some(TokenWord::Model) => {
                let model = match (&self.model, models.all) {
                    (Some(name), all) => {
                        let model = all.iter().find(|model| *model.settings.name == **name);
                        model.ok_or("is not the name of a model")
                    }
                    (None, [only]) => Ok(only),
                    (None, _) => Err("must name one of the models"),
                };
                match model {
                    Ok(model) => {
                        let exchanges = model.settings.grants.contains(&ModelGrant::TokenExchange);
                        if exchanges && !(models.is_users_realm)(model) {
                            let message = "is a model whose token_exchange works only for users of its own realm, and \
                                           this frontend's sign in elsewhere";
                            checker.error(&at.key("model"), message);
                        }
                        TokenKind::Model(Arc::clone(&model.settings.name))
                    }
                    Err(message) => {
                        checker.error(&at.key("model"), message);
                        TokenKind::None
                    }
                }
            }
        }
    }

    fn check(self, models: &Models<'_>, at: &At<'_>, checker: &mut Checker<'_>) -> Option<Rule> {
        let token = self.token_kind(models, at, checker);
        for (index, method) in self.methods.iter().enumerate() {
            if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                checker.error(&at.key("methods").index(index), "must be a method in upper case, such as GET");
            }
        }
        let session = checker.required(self.session, &at.key("session"));
        let step_up = StepUp { acr_values: self.acr, max_age: self.max_age.map(|age| age.0) };
        check_step_up(&step_up, at, checker);
        for (key, is_set) in [
            ("roles", !self.roles.is_empty()),
            ("acr", !step_up.acr_values.is_empty()),
            ("max_age", step_up.max_age.is_some()),
            ("token", matches!(token, TokenKind::Model(_) | TokenKind::Exchange(_))),
        ] {
            if is_set && session.is_some_and(|session| session != SessionWord::Required) {
                checker.error(&at.key(key), "needs session: required");
            }
        }
        if self.token.is_some() && session == Some(SessionWord::None) {
            checker.error(&at.key("token"), "needs a session, and this rule looks for none");
        }
        let mut roles = Vec::with_capacity(self.roles.len());
        for (index, role) in self.roles.into_iter().enumerate() {
            match (role.realm, role.client, role.role) {
                (Some(name), None, None) => roles.push(Role::Realm(name)),
                (None, Some(client), Some(role)) => roles.push(Role::Client { client, role }),
                _ => {
                    checker.error(&at.key("roles").index(index), "must have either realm, or client and role")
                }
            }
        }
        let path = match checker.required(self.path, &at.key("path")).as_deref().map(PathPattern::parse) {
            Some(Ok(path)) => Some(path),
            Some(Err(error)) => {
                checker.error(&at.key("path"), error.to_string());
                None
            }
            None => None,
        };
        Some(Rule {
            path: path?,
            methods: self.methods,
            session: match session? {
                SessionWord::Required => SessionNeed::Required,
                SessionWord::Optional => SessionNeed::Optional,
                SessionWord::None => SessionNeed::None,
            },
            roles,
            step_up,
            token,
            navigation: match self.navigation {
                NavigationWord::Auto => Navigation::Auto,
                NavigationWord::Always => Navigation::Always,
                NavigationWord::Never => Navigation::Never,
            },
            csrf_header: self.csrf_header,
        })
    }
}
