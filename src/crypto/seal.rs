use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf,
};
use secrecy::ExposeSecret;

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
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::LoginTransaction => b"login transaction",
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
        let key = self.sealing_key();
        let mut header = [0; HEADER_LENGTH];
        header[0] = VERSION;
        header[1..=KEY_ID_LENGTH].copy_from_slice(&key.id);
        header[1 + KEY_ID_LENGTH..].copy_from_slice(&random.bytes::<SALT_LENGTH>()?);

        let mut ciphertext = plaintext.to_vec();
        one_time_key(key, &header, purpose, context)
            .and_then(|one_time| {
                one_time.seal_in_place_append_tag(nonce(), Aad::from(header), &mut ciphertext)
            })
            .map_err(|_| SealError::Cipher)?;
        let mut sealed = header.to_vec();
        sealed.append(&mut ciphertext);
        Ok(base64url(&sealed))
    }

    /// Opens what [`KeyRing::seal`] made for the same purpose and context, under any key of the ring.
    ///
    /// # Errors
    /// [`OpenError`] for everything else; it does not say which check failed.
    pub fn open(&self, purpose: Purpose, context: &str, sealed: &str) -> Result<Vec<u8>, OpenError> {
        let sealed = from_base64url(sealed).ok_or(OpenError)?;
        let (header, ciphertext) = sealed.split_first_chunk::<HEADER_LENGTH>().ok_or(OpenError)?;
        let (version, rest) = header.split_first().ok_or(OpenError)?;
        let (key_id, _salt) = rest.split_first_chunk::<KEY_ID_LENGTH>().ok_or(OpenError)?;
        if *version != VERSION {
            return Err(OpenError);
        }
        self.keys_with_id(*key_id)
            .find_map(|key| {
                let mut plaintext = ciphertext.to_vec();
                let one_time = one_time_key(key, header, purpose, context).ok()?;
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
    context: &str,
) -> Result<LessSafeKey, Unspecified> {
    let salt = &header[1 + KEY_ID_LENGTH..];
    // The purpose's length keeps "a" + "bc" apart from "ab" + "c".
    let purpose_length = [purpose.label().len() as u8];
    let info = [b"keycloak-bff seal".as_slice(), &purpose_length, purpose.label(), context.as_bytes()];
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.secret.expose_secret().as_bytes());
    Ok(LessSafeKey::new(UnboundKey::from(secret.expand(&info, &AES_256_GCM)?)))
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
