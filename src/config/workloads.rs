use std::{collections::HashSet, fs, path::PathBuf, sync::Arc};

use deserr::Deserr;
use url::Url;

use super::{
    Checker, check_name,
    errors::{At, ShapeErrors},
    origin::check_scheme,
};
use crate::{
    config::DEFAULT_CALL_TIMEOUT,
    model_tokens::{StaticKey, Workload},
    oidc::HttpClient,
};

/// Who may prove to be a workload.
#[derive(Default)]
pub struct WorkloadsConfig {
    /// The static keys.
    pub keys: Vec<StaticKey>,
    /// The cluster whose service accounts may.
    pub service_accounts: Option<ServiceAccountsConfig>,
    /// The hosts at which workloads of the mesh ask.
    pub mesh_hosts: Vec<String>,
}

/// A cluster whose service accounts prove who they are.
pub struct ServiceAccountsConfig {
    /// Who says so.
    pub verified_by: VerifiedBy,
    /// The audience that they must be made for.
    pub audience: Arc<str>,
    /// How the cluster is called, if it has certificate authorities of its own.
    pub http: Option<HttpClient>,
    /// A file with a token to ask the cluster with.
    pub token_file: Option<PathBuf>,
}

/// Who says whose a service-account token is.
pub enum VerifiedBy {
    /// The keys of an issuer.
    Issuer {
        /// Its name, as it stands in its tokens.
        issuer: Arc<str>,
        /// Where its keys are, if that is not to be read from its discovery document.
        jwks_uri: Option<Url>,
    },
    /// The API server at this address.
    ApiServer(Url),
}

#[derive(Default, Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct WorkloadsSection {
    #[deserr(default)]
    keys: Vec<KeySection>,
    #[deserr(default)]
    service_accounts: Option<ServiceAccountsSection>,
    #[deserr(default)]
    mesh: Option<MeshSection>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct MeshSection {
    #[deserr(default)]
    hosts: Vec<String>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct KeySection {
    #[deserr(default)]
    name: Option<String>,
    #[deserr(default)]
    sha256: Option<String>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct ServiceAccountsSection {
    #[deserr(default)]
    issuer: Option<String>,
    #[deserr(default)]
    jwks_uri: Option<String>,
    #[deserr(default)]
    api_server: Option<String>,
    #[deserr(default)]
    audience: Option<String>,
    #[deserr(default)]
    ca_file: Option<String>,
    #[deserr(default)]
    token_file: Option<String>,
}

/// `{key: dev}`, `{namespace: ml, service_account: trainer}` or `{principal: spiffe://cluster.local/ns/ml/sa/trainer}`.
#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct WorkloadSection {
    #[deserr(default)]
    key: Option<String>,
    #[deserr(default)]
    namespace: Option<String>,
    #[deserr(default)]
    service_account: Option<String>,
    #[deserr(default)]
    principal: Option<String>,
}

impl WorkloadsSection {
    pub(super) fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> WorkloadsConfig {
        let keys = check_keys(self.keys, &at.key("keys"), checker);
        let accounts = self.service_accounts;
        let service_accounts =
            accounts.and_then(|section| section.check(&at.key("service_accounts"), checker));
        let mesh_hosts = self.mesh.map(|mesh| check_mesh(mesh, &at.key("mesh").key("hosts"), checker));
        WorkloadsConfig { keys, service_accounts, mesh_hosts: mesh_hosts.unwrap_or_default() }
    }
}

fn check_mesh(section: MeshSection, at: &At<'_>, checker: &mut Checker<'_>) -> Vec<String> {
    if section.hosts.is_empty() {
        checker.error(at, "must have at least one host");
    }
    for (index, host) in section.hosts.iter().enumerate() {
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        if !is_host {
            checker.error(&at.index(index), "must be the name of a host, without a port");
        }
    }
    section.hosts
}

fn check_keys(sections: Vec<KeySection>, at: &At<'_>, checker: &mut Checker<'_>) -> Vec<StaticKey> {
    let mut names = HashSet::new();
    let mut keys = Vec::with_capacity(sections.len());
    for (index, key) in sections.into_iter().enumerate() {
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
        checker.warn(at, "are for development: such a key leaks easily and never expires");
    }
    keys
}

fn read_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn check_url(text: &str, at: &At<'_>, checker: &mut Checker<'_>) -> Option<Url> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"));
    let url = url.and_then(|url| check_scheme(&url).map(|()| url).map_err(|message| message.to_string()));
    url.map_err(|message| checker.error(at, message)).ok()
}

impl ServiceAccountsSection {
    fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<ServiceAccountsConfig> {
        if self.jwks_uri.is_some() && self.issuer.is_none() {
            let message = "is where the keys of an issuer are: it needs issuer, and is not for api_server";
            checker.error(&at.key("jwks_uri"), message);
        }
        let jwks_uri = self.jwks_uri.and_then(|uri| check_url(&uri, &at.key("jwks_uri"), checker));
        let verified_by = match (self.issuer, self.api_server) {
            (Some(issuer), None) => check_url(&issuer, &at.key("issuer"), checker)
                .map(|_| VerifiedBy::Issuer { issuer: issuer.into(), jwks_uri }),
            (None, Some(server)) => {
                if self.token_file.is_none() {
                    checker
                        .error(&at.key("token_file"), "is missing: the API server reviews for nobody else");
                }
                check_url(&server, &at.key("api_server"), checker).map(VerifiedBy::ApiServer)
            }
            _ => {
                checker.error(at, "must have either issuer or api_server");
                None
            }
        };
        let audience = checker.required(self.audience, &at.key("audience"));
        if audience.as_ref().is_some_and(String::is_empty) {
            checker.error(&at.key("audience"), "is empty");
        }
        let http = self.ca_file.and_then(|file| {
            let at = at.key("ca_file");
            let pem = fs::read(&file).map_err(|error| format!("{file} cannot be read: {error}"));
            let client = pem.and_then(|pem| {
                HttpClient::with_authorities(DEFAULT_CALL_TIMEOUT, &pem)
                    .map_err(|error| format!("{file} holds no certificates: {error}"))
            });
            client.map_err(|message| checker.error(&at, message)).ok()
        });
        Some(ServiceAccountsConfig {
            verified_by: verified_by?,
            audience: audience?.into(),
            http,
            token_file: self.token_file.map(PathBuf::from),
        })
    }
}

impl WorkloadSection {
    /// The workload that a list allows.
    pub(super) fn check(
        self,
        known: &WorkloadsConfig,
        at: &At<'_>,
        checker: &mut Checker<'_>,
    ) -> Option<Workload> {
        match (self.key, self.namespace, self.service_account, self.principal) {
            (Some(name), None, None, None) => {
                if !known.keys.iter().any(|key| *key.name == *name) {
                    checker.error(&at.key("key"), "is not the name of a key in workloads.keys");
                }
                Some(Workload::Key(name.into()))
            }
            (None, Some(namespace), Some(name), None) => {
                if known.service_accounts.is_none() {
                    checker.error(&at.key("service_account"), "needs workloads.service_accounts");
                }
                if name == "default" {
                    let message = "is the account of every pod in the namespace that has none of its own";
                    checker.warn(&at.key("service_account"), message);
                }
                Some(Workload::ServiceAccount { namespace: namespace.into(), name: name.into() })
            }
            (None, None, None, Some(name)) => {
                if known.mesh_hosts.is_empty() {
                    checker.error(&at.key("principal"), "needs workloads.mesh");
                }
                if name.is_empty() {
                    checker.error(&at.key("principal"), "is empty");
                }
                Some(Workload::Principal(name.into()))
            }
            _ => {
                let message = "must have either key, or principal, or namespace and service_account";
                checker.error(at, message);
                None
            }
        }
    }
}
