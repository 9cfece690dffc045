//! The provider's keys, and every kind of JWT that a test may want to send.

use super::Provider;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use serde_json::{Value, json};

/// The keys of the provider. The last one signs.
pub(super) struct Keys {
    keys: RwLock<Vec<Key>>,
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
    is_published: bool,
}

impl Key {
    fn new(is_published: bool) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
        Self { id: random(), pair, is_published }
    }

    /// The public half (RFC 7518 section 6.2.1).
    fn jwk(&self) -> Value {
        // An uncompressed point: a byte that says so, then both coordinates.
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (base64url(x), base64url(y));
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.id, "use": "sig", "alg": "ES256"})
    }
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { keys: RwLock::new(vec![Key::new(true)]) }
    }

    /// The public keys as a JWK set (RFC 7517 section 5).
    pub(super) fn published(&self) -> Value {
        let keys = self.keys.read();
        let keys: Vec<Value> = keys.iter().filter(|key| key.is_published).map(Key::jwk).collect();
        json!({ "keys": keys })
    }

    pub(super) fn publish(&self) {
        self.keys.write().iter_mut().for_each(|key| key.is_published = true);
    }

    /// A token of the provider's own.
    pub(super) fn sign_as(&self, kind: &str, claims: &Value) -> String {
        self.sign(&self.header(kind), claims)
    }

    fn header(&self, kind: &str) -> Value {
        json!({"alg": "ES256", "typ": kind, "kid": self.latest(|key| key.id.clone())})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = signing_input(header, claims);
        let signature = self.latest(|key| key.pair.sign(&SystemRandom::new(), input.as_bytes()));
        with_signature(&input, signature.expect("the key can sign").as_ref())
    }

    fn latest<T>(&self, read: impl FnOnce(&Key) -> T) -> T {
        read(self.keys.read().last().expect("there is always a key"))
    }
}

impl Provider {
    /// From now on another key signs. It is published beside the old ones.
    pub fn rotate_keys(&self) {
        self.core.keys.keys.write().push(Key::new(true));
    }

    /// From now on another key signs that is not published before `publish_keys` or `behave`.
    pub fn rotate_to_unpublished_key(&self) {
        self.core.keys.keys.write().push(Key::new(false));
    }

    /// Publishes all keys.
    pub fn publish_keys(&self) {
        self.core.keys.publish();
    }

    /// The header of a JWT that the present key signs, for a test to change.
    pub fn header(&self, kind: &str) -> Value {
        self.core.keys.header(kind)
    }

    /// A JWT with this header, whatever it says, signed by the present key.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.core.keys.sign(header, claims)
    }
}

/// A JWT of algorithm `none`: without a signature.
pub fn sign_none(kind: &str, claims: &Value) -> String {
    with_signature(&signing_input(&json!({"alg": "none", "typ": kind}), claims), &[])
}

/// A JWT with this header and a signature of algorithm HS256, made with a shared secret.
pub fn sign_hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let input = signing_input(header, claims);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
    with_signature(&input, signature.as_ref())
}

fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn with_signature(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", base64url(signature))
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn sha256(text: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

/// A name that nobody else has.
pub(super) fn random() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    base64url(&bytes)
}
