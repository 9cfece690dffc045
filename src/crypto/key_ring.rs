use std::fmt;

use aws_lc_rs::hkdf;
use secrecy::{ExposeSecret, SecretString};

/// The least length of a key in characters: 256 bits if every character carries eight.
pub const MINIMUM_KEY_LENGTH: usize = 32;

/// The keys under which values are sealed. The first seals, every one opens, so that a new key can be put in front
/// while values under the old one are still about.
pub struct KeyRing {
    keys: Vec<Key>,
}

pub(super) struct Key {
    pub(super) id: [u8; 4],
    pub(super) secret: SecretString,
}

impl KeyRing {
    /// A ring of `secrets`, newest first; `None` if there is none.
    pub fn new(secrets: Vec<SecretString>) -> Option<Self> {
        let keys: Vec<Key> = secrets.into_iter().map(Key::new).collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    pub(super) fn sealing_key(&self) -> &Key {
        // `new` makes no ring without a key.
        &self.keys[0]
    }

    pub(super) fn keys_with_id(&self, id: [u8; 4]) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.id == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.keys.len())
    }
}

impl Key {
    fn new(secret: SecretString) -> Self {
        let mut id = [0; 4];
        derive(secret.expose_secret(), b"", &[b"keycloak-bff key id"], KeyLength(id.len()), &mut id);
        Self { id, secret }
    }
}

/// Fills `output` from `secret` by HKDF with SHA-256 (RFC 5869).
fn derive(secret: &str, salt: &[u8], info: &[&[u8]], length: KeyLength, output: &mut [u8]) {
    let filled = hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret.as_bytes())
        .expand(info, length)
        .and_then(|okm| okm.fill(output));
    // HKDF refuses only lengths above 255 hashes; an id is four bytes.
    debug_assert!(filled.is_ok());
}

struct KeyLength(usize);

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        self.0
    }
}
