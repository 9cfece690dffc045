use std::fmt;

use aws_lc_rs::{hkdf, hmac};
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

    /// Whether there is more than one key: values under an older one are still about.
    pub fn is_changing(&self) -> bool {
        self.keys.len() > 1
    }

    /// Names for `data` that tell nothing of it to whoever lacks the ring: HMAC-SHA-256 under a key of each of its keys,
    /// newest first. What is looked up by such a name is stored under the first, and looked for under every one.
    pub fn names(&self, data: &[u8]) -> impl Iterator<Item = [u8; 32]> {
        self.keys.iter().map(move |key| {
            let mut name_key = [0; 32];
            let length = KeyLength(name_key.len());
            derive(key.secret.expose_secret(), b"", &[b"keycloak-bff name"], length, &mut name_key);
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &name_key), data);
            let mut name = [0; 32];
            name.copy_from_slice(tag.as_ref());
            name
        })
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
    // HKDF refuses only lengths above 255 hashes; nothing here is longer than one.
    debug_assert!(filled.is_ok());
}

struct KeyLength(usize);

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        self.0
    }
}
