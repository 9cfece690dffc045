use std::path::PathBuf;

use deserr::Deserr;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use url::Url;

use super::{
    Checker,
    duration::Span,
    errors::{At, ShapeErrors},
    secret::SecretSource,
};
use crate::session::redis::{RedisMode, RedisSettings, RedisTls};

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct RedisSection {
    #[deserr(default)]
    url: Option<String>,
    #[deserr(default)]
    urls: Vec<String>,
    #[deserr(default)]
    mode: Mode,
    #[deserr(default)]
    master: Option<String>,
    #[deserr(default)]
    username: Option<SecretSource>,
    #[deserr(default)]
    password: Option<SecretSource>,
    #[deserr(default)]
    tls: Option<TlsSection>,
    #[deserr(default = PREFIX.to_owned())]
    prefix: String,
    #[deserr(default)]
    grace: Option<Span>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct TlsSection {
    #[deserr(default)]
    ca_file: Option<String>,
    #[deserr(default)]
    certificate_file: Option<String>,
    #[deserr(default)]
    key_file: Option<String>,
}

/// How Redis is run.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum Mode {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

const PREFIX: &str = "keycloak-bff:";

impl RedisSection {
    /// Checks the section. `maximum` is how many sessions are kept at hand.
    pub(super) fn check(
        self,
        maximum: usize,
        at: &At<'_>,
        checker: &mut Checker<'_>,
    ) -> Option<RedisSettings> {
        let named_mode = self.mode;
        let mode = mode(named_mode, self.master, at, checker);
        let servers = servers(self.url, self.urls, named_mode, at, checker);
        let is_tls = servers.iter().all(|server| matches!(server.addr(), ConnectionAddr::TcpTls { .. }));
        let mut credential = |source: Option<SecretSource>, key| match source {
            Some(source) => source.credential(&at.key(key), checker),
            None => None,
        };
        let username = credential(self.username, "username");
        let has_password = self.password.is_some();
        let password = credential(self.password, "password");
        if username.is_some() && !has_password {
            checker.error(&at.key("password"), "is missing: there is a username");
        }
        let tls_at = at.key("tls");
        if self.tls.is_some() && !is_tls {
            checker.error(&tls_at, "is there, and not every url begins with rediss://");
        }
        let tls = self.tls.map(|tls| tls.check(&tls_at, checker)).unwrap_or_default();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(is_word) {
            let message = "must have 1 to 64 characters out of a-z, A-Z, 0-9 and - _ . : /";
            checker.error(&at.key("prefix"), message);
        }
        (!servers.is_empty()).then_some(())?;
        Some(RedisSettings {
            servers,
            mode: mode?,
            tls,
            username,
            password,
            prefix: self.prefix,
            grace: self.grace.map(|grace| grace.0),
            at_hand: maximum,
        })
    }
}

/// The mode and, with Sentinels, the name of the master.
fn mode(mode: Mode, master: Option<String>, at: &At<'_>, checker: &mut Checker<'_>) -> Option<RedisMode> {
    let at = at.key("master");
    match (mode, master) {
        (Mode::Sentinel, master) => checker.required(master, &at).map(RedisMode::Sentinel),
        (_, Some(_)) => {
            checker.error(&at, "is there, and the mode is not sentinel");
            None
        }
        (Mode::Single, None) => Some(RedisMode::Single),
        (Mode::Cluster, None) => Some(RedisMode::Cluster),
    }
}

/// The servers that are named, one by `url` or several by `urls`.
fn servers(
    url: Option<String>,
    urls: Vec<String>,
    mode: Mode,
    at: &At<'_>,
    checker: &mut Checker<'_>,
) -> Vec<ConnectionInfo> {
    let (url_at, urls_at) = (at.key("url"), at.key("urls"));
    if mode == Mode::Single && !urls.is_empty() {
        checker.error(&urls_at, "is for the modes sentinel and cluster; a single server has one url");
        return Vec::new();
    }
    if let Some(url) = &url
        && !urls.is_empty()
    {
        checker.error(&urls_at, "is there, and url as well");
        return server(url, &url_at, checker).into_iter().collect();
    }
    if urls.is_empty() {
        let url = checker.required(url, &url_at);
        return url.and_then(|url| server(&url, &url_at, checker)).into_iter().collect();
    }
    let urls = urls.iter().enumerate();
    urls.filter_map(|(index, url)| server(url, &urls_at.index(index), checker)).collect()
}

fn server(url: &str, at: &At<'_>, checker: &mut Checker<'_>) -> Option<ConnectionInfo> {
    // Whatever is wrong with it, it is not repeated: it may hold a password.
    let parsed = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss" | "unix"));
    let Some(parsed) = parsed else {
        checker.error(at, "must be redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH");
        return None;
    };
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
        checker.error(at, "must hold neither credentials nor parameters; use username and password");
        return None;
    }
    let server = url.into_connection_info().ok();
    if server.is_none() {
        checker.error(at, "must be redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH");
    }
    let is_local = matches!(parsed.host_str(), None | Some("localhost" | "127.0.0.1" | "[::1]"));
    if parsed.scheme() == "redis" && !is_local {
        checker.warn(
            at,
            "is not encrypted: whoever reads on the way learns the password and which sessions there are",
        );
    }
    server
}

impl TlsSection {
    fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> RedisTls {
        let mut file = |path: Option<String>, key| {
            let path = PathBuf::from(path?);
            if let Err(error) = std::fs::read(&path) {
                checker.error(&at.key(key), format!("{} cannot be read: {error}", path.display()));
            }
            Some(path)
        };
        let authorities = file(self.ca_file, "ca_file");
        let certificate = file(self.certificate_file, "certificate_file");
        let key = file(self.key_file, "key_file");
        if certificate.is_some() != key.is_some() {
            let missing = if key.is_none() { "key_file" } else { "certificate_file" };
            checker.error(&at.key(missing), "is missing: a certificate and its key belong together");
        }
        RedisTls { authorities, identity: certificate.zip(key) }
    }
}
