use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Url, header::HeaderValue};
use serde_json::{Map, Value, json};
use tokio::{sync::Mutex, time::timeout};

use super::{Workload, WorkloadError, service_account::service_account};
use crate::{
    clock::{SharedClock, Timestamp},
    oidc::{HttpClient, audiences, unverified_claims},
    session::{Full, Remembered},
};

/// How long the API server's word is kept: a deleted pod loses access after so long.
const LIFETIME: Duration = Duration::from_secs(60);

/// How long a refusal is kept, so that a pod with a bad token does not burden the API server.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(5);

/// How many tokens are remembered.
const MAXIMUM: usize = 10_000;

/// How many reviews may be under way at once.
const LANES: usize = 16;

/// How long the API server is left alone after it did not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// How long the API server may take.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the Kubernetes API server who a pod is (TokenReview, `authentication.k8s.io/v1`). Unlike with the cluster's
/// keys alone, a token of a pod that was deleted is no longer good.
pub struct TokenReviews {
    url: Url,
    audience: Arc<str>,
    http: HttpClient,
    /// Read at every call, since such a token is replaced all the time.
    token_file: PathBuf,
    known: Remembered<[u8; 32], Option<Workload>>,
    /// A pod that asks a thousand times at once is reviewed once, and all of them are so many reviews at once at most.
    turns: Box<[Mutex<()>; LANES]>,
    /// The API server is left alone until then.
    away_until: AtomicU64,
    clock: SharedClock,
}

impl TokenReviews {
    /// Reviews by the API server at `server`, which is asked with the token in `token_file`; tokens must be made for
    /// `audience`.
    ///
    /// # Errors
    /// When `server` is no address.
    pub fn new(
        server: &Url,
        audience: Arc<str>,
        http: HttpClient,
        token_file: PathBuf,
        clock: SharedClock,
    ) -> Result<Self, url::ParseError> {
        let url = server.join("/apis/authentication.k8s.io/v1/tokenreviews")?;
        let known = Remembered::new(MAXIMUM, Arc::clone(&clock));
        let turns = Box::default();
        Ok(Self { url, audience, http, token_file, known, turns, away_until: AtomicU64::new(0), clock })
    }

    /// Whose token this is; `key` is its SHA-256 digest.
    pub(super) async fn identify(&self, token: &str, key: [u8; 32]) -> Result<Workload, WorkloadError> {
        if let Some(known) = self.known.get(&key) {
            return known.ok_or(WorkloadError::Invalid);
        }
        // Nobody has verified this, but what does not even claim it need not be shown to the API server.
        let claimed = unverified_claims(token)
            .filter(|claims| claims_to_be_good(claims, &self.audience, self.clock.now()));
        if claimed.is_none() {
            return Err(WorkloadError::Invalid);
        }
        let reviewed = timeout(REVIEW_TIMEOUT, self.review_once(key, token)).await;
        reviewed.unwrap_or(Err(WorkloadError::Unavailable))
    }

    async fn review_once(&self, key: [u8; 32], token: &str) -> Result<Workload, WorkloadError> {
        let _turn = self.turns[usize::from(key[0]) % LANES].lock().await;
        if let Some(known) = self.known.get(&key) {
            return known.ok_or(WorkloadError::Invalid);
        }
        let now = self.clock.now();
        if now.as_unix() < self.away_until.load(Ordering::Acquire) {
            return Err(WorkloadError::Unavailable);
        }
        let workload = self.review(token).await.map_err(|error| {
            tracing::warn!(%error, "the API server does not review tokens");
            self.away_until.store((now + PAUSE).as_unix(), Ordering::Release);
            WorkloadError::Unavailable
        })?;
        let lifetime = if workload.is_some() { LIFETIME } else { REFUSAL_LIFETIME };
        let latest = |_, latest| latest;
        if let Err(Full) = self.known.put(key, workload.clone(), now + lifetime, latest) {
            tracing::warn!("more tokens of pods are in use than can be remembered");
        }
        workload.ok_or(WorkloadError::Invalid)
    }

    async fn review(&self, token: &str) -> Result<Option<Workload>, String> {
        let own = tokio::fs::read_to_string(&self.token_file).await;
        let own = own.map_err(|error| format!("{} cannot be read: {error}", self.token_file.display()))?;
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", own.trim())).map_err(|error| error.to_string())?;
        bearer.set_sensitive(true);
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [&*self.audience]},
        });
        let answer = self.http.post_json(self.url.clone(), review.to_string(), bearer).await;
        let (status, body) = answer.map_err(|error| error.to_string())?;
        if status != 200 && status != 201 {
            return Err(format!("status {status}"));
        }
        let answer: Value = serde_json::from_slice(&body).map_err(|_| "not JSON".to_owned())?;
        Ok(read(&answer, &self.audience))
    }
}

/// Whether a token says of itself that it is one of a service account, for this audience, and not over.
fn claims_to_be_good(claims: &Map<String, Value>, audience: &str, now: Timestamp) -> bool {
    let is_live = claims.get("exp").and_then(Value::as_u64).is_some_and(|end| end > now.as_unix());
    let subject = claims.get("sub").and_then(Value::as_str);
    is_live && audiences(claims).contains(&audience) && subject.and_then(service_account).is_some()
}

/// The service account that a review names, if the API server says that the token is good for this audience. One that
/// does not know audiences names none, and its word is not enough.
fn read(review: &Value, audience: &str) -> Option<Workload> {
    let status = review.get("status")?;
    let is_good = status.get("authenticated")?.as_bool()?;
    let audiences = status.get("audiences")?.as_array()?;
    let is_for_us = audiences.iter().any(|value| value.as_str() == Some(audience));
    (is_good && is_for_us).then(|| service_account(status.get("user")?.get("username")?.as_str()?))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_must_say_that_the_token_is_good_for_this_audience() {
        let review = |status: Value| read(&json!({"status": status}), "bff");
        let user = json!({"username": "system:serviceaccount:ml:trainer"});
        let good = json!({"authenticated": true, "audiences": ["bff"], "user": user});
        let trainer = Workload::ServiceAccount { namespace: "ml".into(), name: "trainer".into() };
        assert_eq!(review(good.clone()), Some(trainer));
        for (name, value) in [
            ("authenticated", json!(false)),
            ("authenticated", Value::Null),
            ("audiences", json!(["other"])),
            ("audiences", json!([])),
            ("audiences", Value::Null),
            ("user", json!({"username": "alice"})),
            ("user", json!({"username": "system:serviceaccount:ml"})),
            ("user", Value::Null),
        ] {
            let mut bad = good.clone();
            bad[name] = value.clone();
            assert_eq!(review(bad), None, "{name}: {value}");
        }
    }
}
