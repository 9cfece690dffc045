use std::{fmt, sync::Arc};

use subtle::ConstantTimeEq;

use super::{ServiceAccounts, TokenReviews};
use crate::crypto::sha256;

/// A workload that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// The holder of a static key, by the key's name.
    Key(Arc<str>),
    /// A pod with this Kubernetes service account.
    ServiceAccount {
        /// The namespace.
        namespace: Arc<str>,
        /// The name of the account.
        name: Arc<str>,
    },
    /// Whoever holds the client certificate with this name: in a mesh, a SPIFFE id.
    Principal(Arc<str>),
}

/// A static key, for development: it leaks easily and never expires.
#[derive(Clone)]
pub struct StaticKey {
    /// Its name in the configuration and in logs.
    pub name: Arc<str>,
    /// The SHA-256 digest of the key, so that the configuration does not hold the key itself.
    pub digest: [u8; 32],
}

/// A credential is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Nobody here has given it out.
    #[error("the credential is not valid")]
    Invalid,
    /// Nobody can say at the moment.
    #[error("the credential cannot be verified at the moment")]
    Unavailable,
}

/// Everyone who may prove to be a workload.
#[derive(Default)]
pub struct Workloads {
    /// The hosts at which workloads of the mesh ask, by the certificates of their connections to the proxy.
    pub mesh_hosts: Vec<String>,
    /// The static keys.
    pub keys: Vec<StaticKey>,
    /// The pods of a cluster.
    pub pods: Option<Pods>,
}

/// How pods prove who they are.
pub enum Pods {
    /// By the cluster's keys.
    Keys(ServiceAccounts),
    /// By the API server's word.
    Reviews(TokenReviews),
}

impl Workloads {
    /// Whose credential this is.
    ///
    /// # Errors
    /// [`WorkloadError`] when it is nobody's.
    pub async fn identify(&self, credential: &str) -> Result<Workload, WorkloadError> {
        let digest = sha256(credential.as_bytes());
        match (self.key(&digest), &self.pods) {
            (Some(workload), _) => Ok(workload),
            (None, Some(Pods::Keys(accounts))) => accounts.identify(credential, digest).await,
            (None, Some(Pods::Reviews(reviews))) => reviews.identify(credential, digest).await,
            (None, None) => Err(WorkloadError::Invalid),
        }
    }

    /// Whether workloads of the mesh ask at this host, an authority with or without a port. Host names know no case (RFC
    /// 9110 section 4.2.3).
    pub fn is_mesh_host(&self, authority: &str) -> bool {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        self.mesh_hosts.iter().any(|mesh| mesh.eq_ignore_ascii_case(host))
    }

    fn key(&self, digest: &[u8; 32]) -> Option<Workload> {
        // Every key is looked at, whichever it is, so that the time tells nothing.
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.digest.ct_eq(digest)) {
                found = Some(Workload::Key(Arc::clone(&key.name)));
            }
        }
        found
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(name) => write!(f, "key {name}"),
            Self::ServiceAccount { namespace, name } => write!(f, "service account {namespace}/{name}"),
            Self::Principal(name) => write!(f, "principal {name}"),
        }
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKey").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_known_by_its_digest() {
        let key = |name: &str, key: &str| StaticKey { name: name.into(), digest: sha256(key.as_bytes()) };
        let keys = vec![key("dev", "one-key"), key("ci", "another-key")];
        let workloads = Workloads { keys, ..Workloads::default() };
        assert_eq!(workloads.identify("another-key").await, Ok(Workload::Key("ci".into())));
        for credential in ["", "one-key ", "ONE-KEY", "one"] {
            assert_eq!(workloads.identify(credential).await, Err(WorkloadError::Invalid), "{credential}");
        }
        assert!(!format!("{:?}", workloads.keys[0]).contains("digest"));
    }

    #[test]
    fn a_host_of_the_mesh_is_meant_with_any_port() {
        let workloads = Workloads { mesh_hosts: vec!["models.mesh".to_owned()], ..Workloads::default() };
        for (authority, expected) in [
            ("models.mesh", true),
            ("models.mesh:8080", true),
            ("Models.Mesh", true),
            ("models.mesh.", false),
            ("models.mesh:", true),
            ("xmodels.mesh", false),
            ("models.mesh:80:80", false),
            ("", false),
        ] {
            assert_eq!(workloads.is_mesh_host(authority), expected, "{authority}");
        }
    }
}
