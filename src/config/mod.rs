//! The configuration: one YAML file, one section a file of this folder. Each section's type says what may be written;
//! its `check` turns that into what the rest of the program works with. Every error of a file is found in one go.

mod cookie;
mod cors;
mod duration;
mod errors;
mod frontends;
mod identity;
mod keys;
mod listeners;
mod log;
mod models;
mod origin;
mod providers;
mod redis;
mod rules;
mod secret;
mod sessions;
mod shape;
mod workloads;

pub use errors::{ConfigError, ConfigErrors};
pub use listeners::{Listener, Listeners};
pub use models::ModelConfig;
pub use providers::{DEFAULT_CALL_TIMEOUT, ProviderConfig};
pub use sessions::SessionSettings;
pub use workloads::{ServiceAccountsConfig, VerifiedBy, WorkloadsConfig};

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use deserr::Deserr;
use url::Url;

use crate::{crypto::KeyRing, model_tokens::Workload, policy::Site, telemetry::LogSettings};
use errors::{At, ShapeErrors};

/// A configuration that was read and found good.
pub struct Config {
    /// Where requests come in.
    pub listeners: Listeners,
    /// How many threads serve them.
    pub threads: usize,
    /// What is logged.
    pub log: LogSettings,
    /// The key ring; `None` if the file has none, so that keys are made at start.
    pub key_ring: Option<KeyRing>,
    /// How sessions live and how their tokens are renewed.
    pub sessions: SessionSettings,
    /// The providers.
    pub providers: Vec<ProviderConfig>,
    /// The model clients.
    pub models: Vec<ModelConfig>,
    /// Who may prove to be a workload.
    pub workloads: WorkloadsConfig,
    /// Every frontend at each of its origins.
    pub sites: Vec<Site>,
    /// What is allowed and still deserves a word at start.
    pub warnings: Vec<String>,
}

/// The file as it is written.
#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct File {
    #[deserr(default)]
    listeners: listeners::ListenersSection,
    #[deserr(default = 1)]
    threads: usize,
    #[deserr(default)]
    log: log::LogSection,
    #[deserr(default)]
    keys: Vec<secret::SecretSource>,
    #[deserr(default)]
    sessions: sessions::SessionsSection,
    #[deserr(default)]
    providers: Vec<providers::ProviderSection>,
    #[deserr(default)]
    models: Vec<models::ModelSection>,
    #[deserr(default)]
    workloads: workloads::WorkloadsSection,
    #[deserr(default)]
    frontends: Vec<frontends::FrontendSection>,
}

/// What sections are checked with: where to find secrets, and where to put what is wrong.
struct Checker<'a> {
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Config {
    /// Reads and checks the file at `path`. `environment` answers a variable's name with its value.
    ///
    /// # Errors
    /// [`ConfigErrors`] lists everything that is wrong.
    pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let text = fs::read_to_string(path).map_err(|error| {
            ConfigErrors::single("", format!("{} cannot be read: {error}", path.display()))
        })?;
        Self::parse(&text, environment)
    }

    /// Reads and checks the text of a configuration file.
    ///
    /// # Errors
    /// [`ConfigErrors`] lists everything that is wrong.
    pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        // The snippet that the parser would print may hold a secret of a neighbouring line.
        let options = serde_saphyr::options! { with_snippet: false };
        let yaml: serde_json::Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| ConfigErrors::single("", format!("not valid YAML: {error}")))?;
        let mut checker = Checker { errors: Vec::new(), warnings: Vec::new(), environment };
        let file = shape::read(yaml, &mut checker.errors);
        let config = file.and_then(|file| file.check(&mut checker));
        match config {
            Some(config) if checker.errors.is_empty() => Ok(Self { warnings: checker.warnings, ..config }),
            _ => Err(ConfigErrors(checker.errors)),
        }
    }
}

impl File {
    /// Checks every section, also after one was found wrong, so that all errors come to light.
    fn check(self, checker: &mut Checker<'_>) -> Option<Config> {
        let root = At::root();
        if self.threads == 0 {
            checker.error(&root.key("threads"), "must be at least 1");
        }
        let listeners = self.listeners.check(&root.key("listeners"), checker);
        let log = self.log.check(&root.key("log"), checker);
        let has_keys = !self.keys.is_empty();
        let key_ring = keys::check(self.keys, &root.key("keys"), checker);
        let sessions = self.sessions.check(has_keys, &root.key("sessions"), checker);
        let names: Vec<String> = self.providers.iter().filter_map(|provider| provider.name.clone()).collect();
        let providers = providers::check(self.providers, &root.key("providers"), checker);
        if let Some(sessions) = &sessions
            && providers.iter().any(|provider| provider.call_timeout > sessions.drain)
        {
            let message = "must not be shorter than any provider's call_timeout: a stop would lose the tokens of a \
                           refresh under way";
            checker.error(&root.key("sessions").key("drain"), message);
        }
        let workloads = self.workloads.check(&root.key("workloads"), checker);
        let models = models::check(self.models, &names, &workloads, &root.key("models"), checker);
        // Those of the mesh ask through the proxy.
        let are_asked = models.iter().any(|model| {
            let on_behalf = model.settings.on_behalf.iter().map(|allowed| &allowed.workload);
            let mut workloads = model.settings.allowed.iter().chain(on_behalf);
            workloads.any(|workload| !matches!(workload, Workload::Principal(_)))
        });
        if !workloads.mesh_hosts.is_empty()
            && listeners.as_ref().is_some_and(|listeners| !listeners.grpc.is_the_proxys())
        {
            let message = "would believe anyone who reaches listeners.grpc about who made a request: let that be a unix \
                           socket, or list the proxy's certificate in listeners.grpc_tls.clients";
            checker.error(&root.key("workloads").key("mesh"), message);
        }
        if are_asked && listeners.as_ref().is_some_and(|listeners| listeners.internal.is_none()) {
            checker.error(
                &root.key("listeners").key("internal"),
                "is missing: models have workloads that may ask",
            );
        }
        let issuer = |name: &str| {
            let named = providers.iter().find(|provider| *provider.settings.name == *name);
            named.map(|provider| Arc::clone(&provider.settings.issuer))
        };
        let known = frontends::Known {
            providers: &names,
            issuer: &issuer,
            models: &models,
            lifetimes: sessions.as_ref().map(|sessions| sessions.lifetimes),
        };
        let sites = frontends::check(self.frontends, &known, &root.key("frontends"), checker);
        for (index, host) in workloads.mesh_hosts.iter().enumerate() {
            let is_host_of = |site: &Site| {
                let origin = Url::parse(&site.origin);
                origin.is_ok_and(|url| url.host_str().is_some_and(|own| own.eq_ignore_ascii_case(host)))
            };
            if sites.iter().any(is_host_of) {
                let (workloads, mesh);
                workloads = root.key("workloads");
                mesh = workloads.key("mesh");
                checker
                    .error(&mesh.key("hosts").index(index), "is the host of a frontend: browsers get there");
            }
        }
        Some(Config {
            listeners: listeners?,
            threads: self.threads,
            log: log?,
            key_ring: key_ring?,
            sessions: sessions?,
            providers,
            models,
            workloads,
            sites,
            warnings: Vec::new(),
        })
    }
}

impl Checker<'_> {
    fn error(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.errors.push(ConfigError { path: at.to_string(), message: message.into() });
    }

    /// A value that must be there. One that was there with the wrong shape is an error already.
    fn required<T>(&mut self, value: Option<T>, at: &At<'_>) -> Option<T> {
        if value.is_none() {
            let path = at.to_string();
            if !self.errors.iter().any(|error| error.path == path) {
                self.error(at, "is missing");
            }
        }
        value
    }

    fn warn(&mut self, at: &At<'_>, message: &str) {
        self.warnings.push(format!("{at} {message}"));
    }
}

/// Checks a name that must be the only one of its kind.
fn check_name(name: Option<&str>, names: &mut HashSet<String>, at: &At<'_>, checker: &mut Checker<'_>) {
    let Some(name) = name else { return };
    if !is_plain_name(name) {
        checker.error(&at.key("name"), "must be 1 to 32 of the characters a-z, 0-9 and -");
    }
    if !names.insert(name.to_owned()) {
        checker.error(&at.key("name"), "stands here twice");
    }
}

/// Whether a name can stand in logs, cookie names and metadata without being quoted.
fn is_plain_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

#[cfg(test)]
mod models_tests;
