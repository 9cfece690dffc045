use std::{collections::HashSet, sync::Arc, time::Duration};

use deserr::Deserr;

use super::{
    Checker,
    duration::Span,
    errors::{At, ShapeErrors},
    is_plain_name,
};
use crate::model_tokens::{ModelGrant, ModelLifetimes, StaticKey, Workload};

/// A model client, still by the name of its provider.
pub struct ModelConfig {
    /// Its name.
    pub name: Arc<str>,
    /// The name of its provider.
    pub provider: Arc<str>,
    /// How its tokens are obtained.
    pub grants: Vec<ModelGrant>,
    /// The scopes that are asked for, separated by spaces.
    pub scope: String,
    /// The audience that is asked for.
    pub audience: Option<String>,
    /// When its tokens are renewed.
    pub lifetimes: ModelLifetimes,
    /// Who may ask.
    pub allowed: Vec<Workload>,
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
}

#[derive(Clone, Copy, Deserr, PartialEq, Eq)]
#[deserr(error = ShapeErrors)]
enum GrantWord {
    #[deserr(rename = "client_credentials")]
    ClientCredentials,
    #[deserr(rename = "jwt_authorization")]
    JwtAuthorization,
}

impl From<GrantWord> for ModelGrant {
    fn from(word: GrantWord) -> Self {
        match word {
            GrantWord::ClientCredentials => Self::ClientCredentials,
            GrantWord::JwtAuthorization => Self::JwtAuthorization,
        }
    }
}

/// `{key: dev}`.
#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct WorkloadSection {
    #[deserr(default)]
    key: Option<String>,
}

#[derive(Default, Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct WorkloadsSection {
    #[deserr(default)]
    keys: Vec<KeySection>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct KeySection {
    #[deserr(default)]
    name: Option<String>,
    #[deserr(default)]
    sha256: Option<String>,
}

impl WorkloadsSection {
    pub(super) fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> Vec<StaticKey> {
        let at = at.key("keys");
        let mut names = HashSet::new();
        let mut keys = Vec::with_capacity(self.keys.len());
        for (index, key) in self.keys.into_iter().enumerate() {
            let at = at.index(index);
            let name = checker.required(key.name, &at.key("name"));
            check_name(name.as_deref(), &mut names, &at, checker);
            let digest = checker.required(key.sha256, &at.key("sha256"));
            let digest = digest.and_then(|text| {
                let digest = read_digest(&text);
                if digest.is_none() {
                    checker.error(&at.key("sha256"), "must be a SHA-256 digest in 64 hexadecimal digits");
                }
                digest
            });
            let (Some(name), Some(digest)) = (name, digest) else { continue };
            keys.push(StaticKey { name: name.into(), digest });
        }
        if !keys.is_empty() {
            checker.warn(&at, "are for development: such a key leaks easily and never expires");
        }
        keys
    }
}

fn read_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn check_name(name: Option<&str>, names: &mut HashSet<String>, at: &At<'_>, checker: &mut Checker<'_>) {
    let Some(name) = name else { return };
    if !is_plain_name(name) {
        checker.error(&at.key("name"), "must be 1 to 32 of the characters a-z, 0-9 and -");
    }
    if !names.insert(name.to_owned()) {
        checker.error(&at.key("name"), "stands here twice");
    }
}

pub(super) fn check(
    sections: Vec<ModelSection>,
    providers: &[String],
    keys: &[StaticKey],
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Vec<ModelConfig> {
    let mut names = HashSet::new();
    let check = |(index, section): (usize, ModelSection)| {
        section.check(providers, keys, &mut names, &at.index(index), checker)
    };
    sections.into_iter().enumerate().filter_map(check).collect()
}

impl ModelSection {
    fn check(
        self,
        providers: &[String],
        keys: &[StaticKey],
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
        if self.refresh_ahead.0 <= self.least_token_life.0 {
            checker.error(&at.key("refresh_ahead"), "must be longer than least_token_life");
        }
        if self.least_token_life.0 < Duration::from_secs(1) {
            checker.error(&at.key("least_token_life"), "must be at least 1s");
        }
        let mut allowed = Vec::with_capacity(self.allowed.len());
        for (index, workload) in self.allowed.into_iter().enumerate() {
            let at = at.key("allowed");
            match workload.key {
                Some(name) if keys.iter().any(|key| *key.name == *name) => {
                    allowed.push(Workload::Key(name.into()));
                }
                Some(_) => {
                    checker.error(&at.index(index).key("key"), "is not the name of a key in workloads.keys")
                }
                None => checker.error(&at.index(index), "must name a workload: key"),
            }
        }
        Some(ModelConfig {
            name: name?.into(),
            provider: provider?.into(),
            grants: self.grants.into_iter().map(ModelGrant::from).collect(),
            scope: self.scopes.join(" "),
            audience: self.audience,
            lifetimes: ModelLifetimes { ahead: self.refresh_ahead.0, least_life: self.least_token_life.0 },
            allowed,
        })
    }
}
