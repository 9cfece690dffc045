use std::{fmt, net::SocketAddr, path::PathBuf};

use deserr::Deserr;

use super::{
    Checker,
    errors::{At, ShapeErrors, Wrong},
};

/// Where requests come in.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// Envoy's external authorization calls.
    pub grpc: ListenAddress,
    /// What a browser calls by name, through Envoy.
    pub browser: ListenAddress,
    /// What workloads call by name, if they may.
    pub internal: Option<ListenAddress>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
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
    plaintext: Option<Plaintext>,
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
        for (name, address) in [("grpc", &grpc), ("browser", &browser), ("internal", &internal)] {
            if address.as_ref().is_none_or(ListenAddress::is_local) {
                continue;
            }
            let at = at.key(name);
            if self.plaintext.is_some() {
                checker
                    .warn(&at, "is reachable from other machines without encryption: the mesh must encrypt");
            } else {
                let message = "is not a loopback address or a unix socket. Whoever reaches it can have access tokens, \
                               so what comes from other machines must be encrypted by a mesh; if it is, say so with \
                               listeners.plaintext: accepted";
                checker.error(&at, message);
            }
        }
        Some(Listeners { grpc: grpc?, browser: browser?, internal })
    }
}

impl ListenAddress {
    fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
