use std::{collections::HashSet, sync::Arc, time::Duration};

use deserr::Deserr;

use super::{
    Checker, check_name,
    duration::Span,
    errors::{At, ShapeErrors},
    workloads::{WorkloadSection, WorkloadsConfig},
};
use crate::{
    model_tokens::{ModelGrant, ModelSettings, OnBehalf},
    token_cache::Renewal,
};

/// A model client, still by the name of its provider.
pub struct ModelConfig {
    /// The name of its provider.
    pub provider: Arc<str>,
    /// The client.
    pub settings: ModelSettings,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct ModelSection {
    #[deserr(default)]
    name: Option<String>,
    #[deserr(default)]
    provider: Option<String>,
    #[deserr(default)]
    grants: Vec<GrantWord>,
    #[deserr(default)]
    scopes: Vec<String>,
    #[deserr(default)]
    audience: Option<String>,
    #[deserr(default = Span::seconds(30))]
    refresh_ahead: Span,
    #[deserr(default = Span::seconds(5))]
    least_token_life: Span,
    #[deserr(default)]
    allowed: Vec<WorkloadSection>,
    #[deserr(default)]
    on_behalf_of_users: Vec<OnBehalfSection>,
    #[deserr(default = LiveSession::Required)]
    live_session: LiveSession,
}

/// A workload that may act for users, and the audience of the tokens that it is called with.
#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct OnBehalfSection {
    #[deserr(default)]
    workload: Option<WorkloadSection>,
    #[deserr(default)]
    audience: Option<String>,
}

/// Whether users for whom workloads act must be signed in here.
#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum LiveSession {
    Required,
    Optional,
}

#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors)]
enum GrantWord {
    #[deserr(rename = "client_credentials")]
    ClientCredentials,
    #[deserr(rename = "jwt_authorization")]
    JwtAuthorization,
    #[deserr(rename = "token_exchange")]
    TokenExchange,
}

impl From<GrantWord> for ModelGrant {
    fn from(word: GrantWord) -> Self {
        match word {
            GrantWord::ClientCredentials => Self::ClientCredentials,
            GrantWord::JwtAuthorization => Self::JwtAuthorization,
            GrantWord::TokenExchange => Self::TokenExchange,
        }
    }
}

pub(super) fn check(
    sections: Vec<ModelSection>,
    providers: &[String],
    workloads: &WorkloadsConfig,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Vec<ModelConfig> {
    let mut names = HashSet::new();
    let check = |(index, section): (usize, ModelSection)| {
        section.check(providers, workloads, &mut names, &at.index(index), checker)
    };
    sections.into_iter().enumerate().filter_map(check).collect()
}

fn check_on_behalf(
    sections: Vec<OnBehalfSection>,
    workloads: &WorkloadsConfig,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Vec<OnBehalf> {
    let mut checked = Vec::with_capacity(sections.len());
    for (index, section) in sections.into_iter().enumerate() {
        let at = at.key("on_behalf_of_users");
        let at = at.index(index);
        let workload = checker.required(section.workload, &at.key("workload"));
        let workload = workload.and_then(|workload| workload.check(workloads, &at.key("workload"), checker));
        let audience = checker.required(section.audience, &at.key("audience"));
        if audience.as_ref().is_some_and(String::is_empty) {
            checker.error(&at.key("audience"), "is empty");
        }
        let (Some(workload), Some(audience)) = (workload, audience) else { continue };
        checked.push(OnBehalf { workload, audience });
    }
    checked
}

impl ModelSection {
    fn check(
        self,
        providers: &[String],
        workloads: &WorkloadsConfig,
        names: &mut HashSet<String>,
        at: &At<'_>,
        checker: &mut Checker<'_>,
    ) -> Option<ModelConfig> {
        let name = checker.required(self.name, &at.key("name"));
        check_name(name.as_deref(), names, at, checker);
        let provider = checker.required(self.provider, &at.key("provider"));
        if provider.as_ref().is_some_and(|provider| !providers.contains(provider)) {
            checker.error(&at.key("provider"), "is not the name of a provider");
        }
        if self.grants.is_empty() {
            checker.error(&at.key("grants"), "must have at least one grant");
        }
        if !self.allowed.is_empty() && !self.grants.contains(&GrantWord::ClientCredentials) {
            checker.error(&at.key("allowed"), "needs client_credentials among the grants");
        }
        if self.scopes.iter().any(|scope| scope.is_empty() || scope.contains(char::is_whitespace)) {
            checker.error(&at.key("scopes"), "must each be one word");
        }
        if self.audience.as_ref().is_some_and(String::is_empty) {
            checker.error(&at.key("audience"), "is empty");
        }
        if self.refresh_ahead.0 <= self.least_token_life.0 {
            checker.error(&at.key("refresh_ahead"), "must be longer than least_token_life");
        }
        if self.least_token_life.0 < Duration::from_secs(1) {
            checker.error(&at.key("least_token_life"), "must be at least 1s");
        }
        let mut allowed = Vec::with_capacity(self.allowed.len());
        for (index, workload) in self.allowed.into_iter().enumerate() {
            allowed.extend(workload.check(workloads, &at.key("allowed").index(index), checker));
        }
        let on_behalf = check_on_behalf(self.on_behalf_of_users, workloads, at, checker);
        let (by_assertion, by_exchange) = (
            self.grants.contains(&GrantWord::JwtAuthorization),
            self.grants.contains(&GrantWord::TokenExchange),
        );
        if !on_behalf.is_empty() && !by_assertion && !by_exchange {
            let message = "needs jwt_authorization or token_exchange among the grants";
            checker.error(&at.key("on_behalf_of_users"), message);
        }
        if by_assertion && by_exchange {
            let message = "has two ways to tokens of users: either jwt_authorization or token_exchange";
            checker.error(&at.key("grants"), message);
        }
        if by_exchange && self.audience.is_none() {
            checker.error(&at.key("audience"), "is missing: token_exchange asks for one");
        }
        if self.live_session == LiveSession::Optional {
            let message = "lets workloads act for users who are not signed in here any more";
            checker.warn(&at.key("live_session"), message);
        }
        Some(ModelConfig {
            provider: provider?.into(),
            settings: ModelSettings {
                name: name?.into(),
                grants: self.grants.into_iter().map(ModelGrant::from).collect(),
                scope: self.scopes.join(" "),
                audience: self.audience,
                renewal: Renewal { ahead: self.refresh_ahead.0, least_life: self.least_token_life.0 },
                allowed,
                on_behalf,
                needs_live_session: self.live_session == LiveSession::Required,
            },
        })
    }
}
