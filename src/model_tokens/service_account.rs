use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};

use super::{Workload, WorkloadError};
use crate::{
    clock::{SharedClock, Timestamp},
    oidc::{IssuedTokenError, SignatureError, TokenIssuer, audiences},
    session::Remembered,
};

/// What the `sub` of every service account starts with.
const SUBJECT: &str = "system:serviceaccount:";

/// How long a token that was verified is known again without that.
const LIFETIME: Duration = Duration::from_secs(60);

/// How many tokens are remembered.
const MAXIMUM: usize = 10_000;

/// Pods that prove who they are by a projected service-account token, verified with the keys of their cluster. Such a
/// token cannot be taken back before its end, so it should be short-lived: ten minutes are the least that Kubernetes
/// issues.
pub struct ServiceAccounts {
    issuer: TokenIssuer,
    audience: Arc<str>,
    /// The tokens that were verified of late, each with the set of keys that did it.
    known: Remembered<[u8; 32], (u64, Workload)>,
    clock: SharedClock,
}

impl ServiceAccounts {
    /// Those of the cluster `issuer`, whose tokens must be made for `audience`.
    pub fn new(issuer: TokenIssuer, audience: Arc<str>, clock: SharedClock) -> Self {
        Self { issuer, audience, known: Remembered::new(MAXIMUM, Arc::clone(&clock)), clock }
    }

    /// Whose token this is; `digest` is its SHA-256 digest.
    pub(super) async fn identify(&self, token: &str, digest: [u8; 32]) -> Result<Workload, WorkloadError> {
        // Looked at before the keys are used: a set that comes in between counts as another.
        let generation = self.issuer.key_generation();
        if let Some((verified_by, workload)) = self.known.get(&digest)
            && verified_by == generation
        {
            return Ok(workload);
        }
        match self.issuer.verify(token).await {
            Ok(claims) => {
                let workload = read(&claims, &self.audience).ok_or(WorkloadError::Invalid)?;
                if let Some(end) = claims.get("exp").and_then(Value::as_u64) {
                    let end = Timestamp::from_unix(end).min(self.clock.now() + LIFETIME);
                    // Without room for it, it is verified again the next time.
                    let _ = self.known.put(digest, (generation, workload.clone()), end, |_, latest| latest);
                }
                Ok(workload)
            }
            Err(IssuedTokenError::Signature(SignatureError::NoKeys(error))) => {
                tracing::warn!(%error, "the keys of the cluster are not to be had");
                Err(WorkloadError::Unavailable)
            }
            Err(error) => {
                tracing::info!(%error, "a service-account token is refused");
                Err(WorkloadError::Invalid)
            }
        }
    }
}

/// The service account that verified claims name, if they are made for this audience and agree with each other.
fn read(claims: &Map<String, Value>, audience: &str) -> Option<Workload> {
    let account = service_account(claims.get("sub")?.as_str()?)?;
    let details = claims.get("kubernetes.io")?;
    let in_details = Workload::ServiceAccount {
        namespace: details.get("namespace")?.as_str()?.into(),
        name: details.get("serviceaccount")?.get("name")?.as_str()?.into(),
    };
    (audiences(claims).contains(&audience) && account == in_details).then_some(account)
}

/// The service account that a name of Kubernetes' stands for: `system:serviceaccount:NAMESPACE:NAME`.
pub(super) fn service_account(name: &str) -> Option<Workload> {
    let (namespace, name) = name.strip_prefix(SUBJECT)?.split_once(':')?;
    let is_whole = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    is_whole.then(|| Workload::ServiceAccount { namespace: namespace.into(), name: name.into() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(changes: &Value) -> Map<String, Value> {
        let mut claims = json!({
            "aud": ["keycloak-bff"],
            "sub": "system:serviceaccount:ml:trainer",
            "kubernetes.io": {
                "namespace": "ml", "serviceaccount": {"name": "trainer", "uid": "1"}, "pod": {"name": "p"},
            },
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object().cloned().unwrap()
    }

    #[test]
    fn a_service_account_is_read_where_all_claims_agree() {
        let trainer = Workload::ServiceAccount { namespace: "ml".into(), name: "trainer".into() };
        for changes in [json!({}), json!({"aud": "keycloak-bff"}), json!({"aud": ["other", "keycloak-bff"]})]
        {
            assert_eq!(read(&claims(&changes), "keycloak-bff").as_ref(), Some(&trainer), "{changes}");
        }
        for changes in [
            json!({"aud": ["other"]}),
            json!({"aud": "keycloak-bff2"}),
            json!({"aud": null}),
            json!({"sub": "system:serviceaccount:ml"}),
            json!({"sub": "system:serviceaccount::trainer"}),
            json!({"sub": "system:node:ml:trainer"}),
            json!({"sub": "system:serviceaccount:other:trainer"}),
            json!({"sub": "system:serviceaccount:ml:other"}),
            json!({"kubernetes.io": null}),
            json!({"kubernetes.io": {"namespace": "ml"}}),
            json!({"kubernetes.io": {"namespace": "other", "serviceaccount": {"name": "trainer"}}}),
        ] {
            assert_eq!(read(&claims(&changes), "keycloak-bff"), None, "{changes}");
        }
    }
}
