use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf,
};
use secrecy::{ExposeSecret, SecretSlice};

use super::{KeyRing, Random, RandomError, base64url, from_base64url, key_ring::Key};

const VERSION: u8 = 1;
const KEY_ID_LENGTH: usize = 4;
const SALT_LENGTH: usize = 32;
const HEADER_LENGTH: usize = 1 + KEY_ID_LENGTH + SALT_LENGTH;

/// What a sealed value is for. Nothing sealed for one purpose opens for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A login transaction in its cookie.
    LoginTransaction,
    /// The tokens of a session in a store, which only its id opens.
    SessionTokens,
    /// What the directory says of a session in a store.
    SessionDirectory,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::LoginTransaction => b"login transaction",
            Self::SessionTokens => b"session tokens",
            Self::SessionDirectory => b"session directory",
        }
    }
}

/// A value could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No randomness for the one-time key.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The cipher refused, which happens only for values far beyond any that this program seals.
    #[error("the value cannot be sealed")]
    Cipher,
}

/// A text is not a value that this ring sealed for this purpose and context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sealed under this key ring for this purpose")]
pub struct OpenError;

impl KeyRing {
    /// Seals `plaintext` for `purpose` within `context` (the frontend it belongs to). The result is base64url.
    ///
    /// Every value has a key of its own, HKDF over the ring key with 32 random bytes as salt, so no nonce can ever
    /// repeat under a key. Version and key id stand in the clear and are authenticated.
    ///
    /// # Errors
    /// [`SealError`] without randomness.
    pub fn seal(
        &self,
        random: &dyn Random,
        purpose: Purpose,
        context: &str,
        plaintext: &[u8],
    ) -> Result<String, SealError> {
        let sealed = self.seal_bytes(random, purpose, context.as_bytes(), &[], plaintext)?;
        Ok(base64url(&sealed))
    }

    /// As [`KeyRing::seal`], as bytes, and under a key that `secret` is part of as well: without it the ring alone does not
    /// open the value.
    ///
    /// # Errors
    /// [`SealError`] without randomness.
    pub fn seal_bytes(
        &self,
        random: &dyn Random,
        purpose: Purpose,
        context: &[u8],
        secret: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let key = self.sealing_key();
        let mut header = [0; HEADER_LENGTH];
        header[0] = VERSION;
        header[1..=KEY_ID_LENGTH].copy_from_slice(&key.id);
        header[1 + KEY_ID_LENGTH..].copy_from_slice(&random.bytes::<SALT_LENGTH>()?);

        let mut ciphertext = plaintext.to_vec();
        one_time_key(key, &header, purpose, context, secret)
            .and_then(|one_time| {
                one_time.seal_in_place_append_tag(nonce(), Aad::from(header), &mut ciphertext)
            })
            .map_err(|_| SealError::Cipher)?;
        let mut sealed = header.to_vec();
        sealed.append(&mut ciphertext);
        Ok(sealed)
    }

    /// Opens what [`KeyRing::seal`] made for the same purpose and context, under any key of the ring.
    ///
    /// # Errors
    /// [`OpenError`] for everything else; it does not say which check failed.
    pub fn open(&self, purpose: Purpose, context: &str, sealed: &str) -> Result<Vec<u8>, OpenError> {
        let sealed = from_base64url(sealed).ok_or(OpenError)?;
        self.open_bytes(purpose, context.as_bytes(), &[], &sealed)
    }

    /// Opens what [`KeyRing::seal_bytes`] made for the same purpose, context and secret, under any key of the ring.
    ///
    /// # Errors
    /// As [`KeyRing::open`].
    pub fn open_bytes(
        &self,
        purpose: Purpose,
        context: &[u8],
        secret: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let (header, ciphertext) = sealed.split_first_chunk::<HEADER_LENGTH>().ok_or(OpenError)?;
        let (version, rest) = header.split_first().ok_or(OpenError)?;
        let (key_id, _salt) = rest.split_first_chunk::<KEY_ID_LENGTH>().ok_or(OpenError)?;
        if *version != VERSION {
            return Err(OpenError);
        }
        self.keys_with_id(*key_id)
            .find_map(|key| {
                let mut plaintext = ciphertext.to_vec();
                let one_time = one_time_key(key, header, purpose, context, secret).ok()?;
                let length = one_time.open_in_place(nonce(), Aad::from(header), &mut plaintext).ok()?.len();
                plaintext.truncate(length);
                Some(plaintext)
            })
            .ok_or(OpenError)
    }
}

fn one_time_key(
    key: &Key,
    header: &[u8; HEADER_LENGTH],
    purpose: Purpose,
    context: &[u8],
    secret: &[u8],
) -> Result<LessSafeKey, Unspecified> {
    let salt = &header[1 + KEY_ID_LENGTH..];
    // The purpose's length keeps "a" + "bc" apart from "ab" + "c".
    let purpose_length = [purpose.label().len() as u8];
    let info = [b"keycloak-bff seal".as_slice(), &purpose_length, purpose.label(), context];
    // A purpose takes either no secret or one of a fixed length, so that no two pairs are the same input.
    let input = SecretSlice::from([key.secret.expose_secret().as_bytes(), secret].concat());
    let material = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(input.expose_secret());
    Ok(LessSafeKey::new(UnboundKey::from(material.expand(&info, &AES_256_GCM)?)))
}

/// All zero, because no key is used twice.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::{super::SystemRandom, *};

    fn ring(secrets: &[&str]) -> KeyRing {
        KeyRing::new(secrets.iter().map(|&secret| secret.to_owned().into()).collect()).unwrap()
    }

    fn seal(ring: &KeyRing, context: &str, text: &str) -> String {
        ring.seal(&SystemRandom, Purpose::LoginTransaction, context, text.as_bytes()).unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_never_seals_alike_twice() {
        let ring = ring(&["first key, first key, first key!"]);
        let sealed = seal(&ring, "app", "hello");
        assert_eq!(ring.open(Purpose::LoginTransaction, "app", &sealed).unwrap(), b"hello");
        assert_ne!(sealed, seal(&ring, "app", "hello"));
    }

    #[test]
    fn a_seal_of_one_frontend_does_not_open_for_another() {
        let ring = ring(&["first key, first key, first key!"]);
        let sealed = seal(&ring, "app", "hello");
        assert_eq!(ring.open(Purpose::LoginTransaction, "admin", &sealed), Err(OpenError));
    }

    #[test]
    fn an_old_key_still_opens_and_a_dropped_one_no_longer() {
        let old = ring(&["old key, old key, old key, old key"]);
        let both = ring(&["new key, new key, new key, new key", "old key, old key, old key, old key"]);
        let new = ring(&["new key, new key, new key, new key"]);
        let sealed = seal(&old, "app", "hello");
        assert!(both.open(Purpose::LoginTransaction, "app", &sealed).is_ok());
        assert!(new.open(Purpose::LoginTransaction, "app", &sealed).is_err());
        let sealed = seal(&both, "app", "hello");
        assert!(new.open(Purpose::LoginTransaction, "app", &sealed).is_ok());
    }

    #[test]
    fn a_value_under_a_secret_opens_with_that_secret_and_in_its_place_only() {
        let ring = ring(&["first key, first key, first key!"]);
        let (purpose, secret) = (Purpose::SessionTokens, [7; 32]);
        let sealed = ring.seal_bytes(&SystemRandom, purpose, b"place", &secret, b"hello").unwrap();
        assert_eq!(ring.open_bytes(purpose, b"place", &secret, &sealed).unwrap(), b"hello");
        for (purpose, place, secret) in [
            (purpose, b"place", &[8; 32][..]),
            (purpose, b"place", &[]),
            (purpose, b"other", &secret),
            (Purpose::SessionDirectory, b"place", &secret),
        ] {
            assert_eq!(ring.open_bytes(purpose, place, secret, &sealed), Err(OpenError));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let ring = ring(&["first key, first key, first key!"]);
        let sealed = from_base64url(&seal(&ring, "app", "hello")).unwrap();
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(
                ring.open(Purpose::LoginTransaction, "app", &base64url(&changed)),
                Err(OpenError),
                "{index}"
            );
        }
        for length in 0..sealed.len() {
            assert!(ring.open(Purpose::LoginTransaction, "app", &base64url(&sealed[..length])).is_err());
        }
    }
}
