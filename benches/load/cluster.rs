//! The keys of a Kubernetes cluster, and a projected service-account token of one of its pods. What a real API server
//! issues is for the black-box tests; here it only has to be as long, and signed with RSA as most clusters do.

use std::time::UNIX_EPOCH;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use axum::{Json, Router, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use keycloak_bff_testbed::ports;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, spawn},
};

/// The audience that its tokens are made for.
pub const AUDIENCE: &str = "keycloak-bff";

/// A cluster that publishes its key. Dropping it ends that.
pub struct Cluster {
    /// Its issuer identifier, which is its address as well.
    pub issuer: String,
    key: KeyPair,
    serving: JoinHandle<()>,
}

impl Cluster {
    pub async fn start() -> Self {
        let port = ports::free();
        let key = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let keys = json!({"keys": [jwk(&key)]});
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
        let service = Router::new().route("/keys", get(async || Json(keys)));
        let serving = spawn(async { axum::serve(listener, service).await.expect("keys are served") });
        Self { issuer: format!("http://127.0.0.1:{port}"), key, serving }
    }

    /// Where its keys are.
    pub fn jwks_uri(&self) -> String {
        format!("{}/keys", self.issuer)
    }

    /// The token that a pod of service account `ml/trainer` finds in a projected volume; it lives for an hour.
    pub fn token(&self) -> String {
        let now = UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs();
        let object = |name: &str| json!({"name": name, "uid": "3f0c7d5e-58a4-4c52-9b70-8f2ac50a1d11"});
        let claims = json!({
            "iss": self.issuer,
            "sub": "system:serviceaccount:ml:trainer",
            "aud": [AUDIENCE],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": "9f6c2f2c-6a1e-4c3d-a9d4-3df0b7c0a5e2",
            "kubernetes.io": {
                "namespace": "ml",
                "node": object("node-1"),
                "pod": object("trainer-7c9d8f6b5d-x2x4k"),
                "serviceaccount": object("trainer"),
                "warnafter": now + 3607,
            },
        });
        let input = format!("{}.{}", part(&json!({"alg": "RS256", "kid": "bench"})), part(&claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
            .expect("the key can sign");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// RFC 7518 section 6.3.1.
fn jwk(key: &KeyPair) -> Value {
    // RFC 8017 appendix A.1.1: two integers, of which the first has 256 bytes behind nine that say so, and the second
    // three at the very end.
    let public = key.public_key().as_ref();
    let (n, e) = (&public[9..265], &public[public.len() - 3..]);
    let [n, e] = [n, e].map(|number| URL_SAFE_NO_PAD.encode(number));
    json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench", "n": n, "e": e})
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}
