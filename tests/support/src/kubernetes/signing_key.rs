//! The keys of service-account tokens, and tokens that the API server itself would not give.

use super::Cluster;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// An RSA key, as most clusters have it.
pub(super) struct SigningKey {
    pair: KeyPair,
}

impl SigningKey {
    pub(super) fn new() -> Self {
        Self { pair: KeyPair::generate(KeySize::Rsa2048).expect("a key can be made") }
    }

    /// The whole key (PKCS #8).
    pub(super) fn private_pem(&self) -> String {
        pem("PRIVATE KEY", self.pair.as_der().expect("a key has an encoding").as_ref())
    }

    /// The public half (X.509's SubjectPublicKeyInfo).
    pub(super) fn public_pem(&self) -> String {
        pem("PUBLIC KEY", self.pair.public_key().as_der().expect("a key has an encoding").as_ref())
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("the key can sign");
        signature
    }
}

impl Cluster {
    /// A token like this one with changed claims, signed by the cluster's own key. The least life that the API server
    /// gives a token is ten minutes: this is how an expired one is had.
    pub fn sign_anew(&self, token: &str, changes: &Value) -> String {
        let key = self.keys.last().expect("there is always a key");
        let mut parts = token.split('.');
        let (header, claims) = parts.next().zip(parts.next()).expect("a JWT has three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("a JWT is base64url");
        let mut claims = serde_json::from_slice(&claims).expect("a JWT holds JSON");
        crate::files::merge(&mut claims, changes);
        let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(&input));
        format!("{input}.{signature}")
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
