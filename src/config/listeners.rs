use deserr::Deserr;

use super::{
    Checker,
    errors::{At, ShapeErrors, Wrong},
};
use crate::listen::{ListenAddress, TlsClients, TlsSettings};

/// Where requests come in.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Envoy's external authorization calls.
    pub grpc: Listener,
    /// What a browser calls by name, through Envoy.
    pub browser: Listener,
    /// What workloads call by name, if they may.
    pub internal: Option<Listener>,
}

/// One place where requests come in.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address.
    pub address: ListenAddress,
    /// How TLS is spoken there, if it is.
    pub tls: Option<TlsSettings>,
}

#[derive(Default, Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct ListenersSection {
    #[deserr(default)]
    grpc: Option<Address>,
    #[deserr(default)]
    browser: Option<Address>,
    #[deserr(default)]
    internal: Option<Address>,
    #[deserr(default)]
    grpc_tls: Option<TlsSection>,
    #[deserr(default)]
    browser_tls: Option<TlsSection>,
    #[deserr(default)]
    internal_tls: Option<TlsSection>,
    #[deserr(default)]
    plaintext: Option<Plaintext>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
struct TlsSection {
    #[deserr(default)]
    certificate_file: Option<String>,
    #[deserr(default)]
    key_file: Option<String>,
    #[deserr(default)]
    client_ca_file: Option<String>,
    #[deserr(default)]
    clients: Vec<String>,
}

#[derive(Deserr)]
#[deserr(error = ShapeErrors, try_from(String) = Address::parse -> Wrong)]
struct Address(ListenAddress);

/// The only word by which unencrypted traffic between machines is allowed.
#[derive(Clone, Copy, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
pub(super) enum Plaintext {
    Accepted,
}

impl Address {
    fn parse(text: String) -> Result<Self, Wrong> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(Self(ListenAddress::Unix(path.into())))
            } else {
                Err(Wrong("must have an absolute path after unix:"))
            };
        }
        text.parse().map(|address| Self(ListenAddress::Tcp(address))).map_err(|_| {
            Wrong("must be an IP address and port such as 127.0.0.1:9191 or [::1]:9191, or unix:/path")
        })
    }
}

impl ListenersSection {
    pub(super) fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<Listeners> {
        let grpc = checker.required(self.grpc, &at.key("grpc")).map(|address| address.0);
        let browser = checker.required(self.browser, &at.key("browser")).map(|address| address.0);
        let internal = self.internal.map(|address| address.0);
        if grpc.is_some() && grpc == browser {
            checker.error(&at.key("browser"), "is the same address as grpc");
        }
        if internal.is_some() && (internal == grpc || internal == browser) {
            checker.error(&at.key("internal"), "is the same address as another listener's");
        }
        let plaintext = self.plaintext;
        let mut listener = |name, address: Option<ListenAddress>, tls: Option<TlsSection>| {
            let tls_at = at.key(name);
            let is_encrypted = tls.is_some();
            let tls = tls.and_then(|tls| tls.check(address.as_ref(), &tls_at, checker));
            let address = address?;
            if !is_encrypted && !address.is_local() {
                check_plaintext(plaintext, &at.key(name.trim_end_matches("_tls")), checker);
            }
            Some(Listener { address, tls })
        };
        let grpc = listener("grpc_tls", grpc, self.grpc_tls);
        let browser = listener("browser_tls", browser, self.browser_tls);
        let internal = listener("internal_tls", internal, self.internal_tls);
        Some(Listeners { grpc: grpc?, browser: browser?, internal })
    }
}

fn check_plaintext(plaintext: Option<Plaintext>, at: &At<'_>, checker: &mut Checker<'_>) {
    if plaintext.is_some() {
        checker.warn(at, "is reachable from other machines without encryption: the mesh must encrypt");
    } else {
        let message = "is not a loopback address or a unix socket. Whoever reaches it can have access tokens, so what \
                       comes from other machines must be encrypted, by TLS or by a mesh; if a mesh does it, say so with \
                       listeners.plaintext: accepted";
        checker.error(at, message);
    }
}

impl TlsSection {
    fn check(
        self,
        address: Option<&ListenAddress>,
        at: &At<'_>,
        checker: &mut Checker<'_>,
    ) -> Option<TlsSettings> {
        match address {
            Some(ListenAddress::Tcp(_)) => {}
            Some(ListenAddress::Unix(_)) => checker.error(at, "is of no use on a unix socket"),
            None => checker.error(at, "is for a listener that has no address"),
        }
        let certificate = checker.required(self.certificate_file, &at.key("certificate_file"));
        let key = checker.required(self.key_file, &at.key("key_file"));
        if !self.clients.is_empty() && self.client_ca_file.is_none() {
            checker.error(&at.key("client_ca_file"), "is missing: nobody vouches for the names in clients");
        }
        let names = self.clients;
        let clients = self.client_ca_file.map(|file| TlsClients { authorities: file.into(), names });
        let settings = TlsSettings { certificate: certificate?.into(), key: key?.into(), clients };
        if let Err(error) = settings.load() {
            checker.error(at, error.to_string());
        }
        Some(settings)
    }
}

impl Listener {
    /// Whether nobody but the proxy can connect, so that its word about who made a request can be believed.
    pub(super) fn is_the_proxys(&self) -> bool {
        let clients = self.tls.as_ref().and_then(|tls| tls.clients.as_ref());
        matches!(self.address, ListenAddress::Unix(_))
            || clients.is_some_and(|clients| !clients.names.is_empty())
    }
}
