//! Randomness, the key ring and the seals made with it. Nothing here knows what is sealed, and no other room calls a
//! cipher.

mod key_ring;
mod random;
mod seal;

pub use key_ring::{KeyRing, MINIMUM_KEY_LENGTH};
pub use random::{Random, RandomError, SharedRandom, SystemRandom};
pub use seal::{OpenError, Purpose, SealError};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The SHA-256 digest of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    hash
}

/// base64url without padding (RFC 4648 section 5), the alphabet of every value that travels in a URL or a cookie.
pub fn base64url(data: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(data)
}

/// The inverse of [`base64url`]; `None` for anything that it would not have written.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Compares without telling by its duration where two texts differ.
pub fn equal_in_constant_time(left: &str, right: &str) -> bool {
    subtle::ConstantTimeEq::ct_eq(left.as_bytes(), right.as_bytes()).into()
}
