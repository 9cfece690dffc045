use std::{fmt, io, path::PathBuf, time::Duration};

use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisConnectionInfo, TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};

/// Where Redis or Valkey is, and what is kept there.
#[derive(Clone)]
pub struct RedisSettings {
    /// The server; the Sentinels; some nodes of the cluster.
    pub servers: Vec<ConnectionInfo>,
    /// Which of these they are.
    pub mode: RedisMode,
    /// The files that TLS needs, where the server is spoken to over TLS.
    pub tls: RedisTls,
    /// The name of the ACL user, if not the default one.
    pub username: Option<Credential>,
    /// The password.
    pub password: Option<Credential>,
    /// What every key begins with.
    pub prefix: String,
    /// How long after the loss of the server sessions at hand are still served; `None` for as long as their tokens need
    /// no refresh.
    pub grace: Option<Duration>,
    /// How many sessions are kept at hand.
    pub at_hand: usize,
}

/// How Redis is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisMode {
    /// One server.
    Single,
    /// Sentinels that know the master of this name.
    Sentinel(String),
    /// A cluster.
    Cluster,
}

/// A credential, or the file that holds it and may change.
#[derive(Clone)]
pub enum Credential {
    /// The credential itself.
    Fixed(SecretString),
    /// A file that is read at every connection.
    File(PathBuf),
}

/// The files of a TLS connection in PEM, read at every connection.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// The certificate authorities to trust instead of the system's.
    pub authorities: Option<PathBuf>,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Credential {
    async fn read(&self) -> io::Result<SecretString> {
        match self {
            Self::Fixed(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await?;
                Ok(text.trim_end_matches(['\r', '\n']).into())
            }
        }
    }
}

impl RedisSettings {
    /// A client of a server that signs in with what the files hold at this moment.
    pub(super) async fn client(&self, server: &ConnectionInfo) -> Result<redis::Client, ConnectError> {
        let mut settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // One command less that an ACL user must be allowed.
        settings = settings.set_skip_set_lib_name();
        if let Some(username) = &self.username {
            settings = settings.set_username(username.read().await?.expose_secret());
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.read().await?.expose_secret());
        }
        self.client_as(server.clone().set_redis_settings(settings)).await
    }

    /// A client of a Sentinel. Those are asked without credentials.
    pub(super) async fn sentinel_client(
        &self,
        sentinel: &ConnectionInfo,
    ) -> Result<redis::Client, ConnectError> {
        self.client_as(sentinel.clone().set_redis_settings(RedisConnectionInfo::default())).await
    }

    async fn client_as(&self, server: ConnectionInfo) -> Result<redis::Client, ConnectError> {
        if !matches!(server.addr(), ConnectionAddr::TcpTls { .. }) {
            return Ok(redis::Client::open(server)?);
        }
        let root_cert = match &self.tls.authorities {
            Some(path) => Some(tokio::fs::read(path).await?),
            None => None,
        };
        let client_tls = match &self.tls.identity {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: tokio::fs::read(certificate).await?,
                client_key: tokio::fs::read(key).await?,
            }),
            None => None,
        };
        Ok(redis::Client::build_with_tls(server, TlsCertificates { client_tls, root_cert })?)
    }
}

/// Why there is no connection.
pub(super) type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// The same server as `like`, spoken to in the same way, at another address.
pub(super) fn at_address(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let address = match like.addr() {
        ConnectionAddr::TcpTls { .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(address)
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field(
                "servers",
                &self.servers.iter().map(|server| server.addr().to_string()).collect::<Vec<_>>(),
            )
            .field("mode", &self.mode)
            .field("prefix", &self.prefix)
            .field("grace", &self.grace)
            .field("at_hand", &self.at_hand)
            .finish_non_exhaustive()
    }
}
