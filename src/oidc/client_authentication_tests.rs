use std::io::Write;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom as AwsRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    },
};

use super::*;
use crate::{crypto::SystemRandom, oidc::unverified_claims};

const ASKING: Asking<'_> = Asking {
    client_id: "client!+ID",
    issuer: "https://id.example.com/realms/users",
    random: &SystemRandom,
    now: Timestamp::from_unix(1_700_000_000),
};

fn field<'a>(proof: &'a Proof, name: &str) -> &'a str {
    &proof.fields.iter().find(|(field, _)| *field == name).unwrap().1
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

#[test]
fn odd_credentials_are_encoded_for_basic_and_left_for_the_form() {
    let proof = ClientAuthentication::SecretBasic("SECRET?%G".into()).prove(ASKING).unwrap();
    let credentials = STANDARD.encode("client%21%2BID:SECRET%3F%25G");
    assert_eq!(proof.authorization.unwrap().to_str().unwrap(), format!("Basic {credentials}"));
    assert!(proof.fields.is_empty());

    let proof = ClientAuthentication::SecretPost("SECRET?%G".into()).prove(ASKING).unwrap();
    assert!(proof.authorization.is_none());
    let expected = [("client_id", "client!+ID".to_owned()), ("client_secret", "SECRET?%G".to_owned())];
    assert_eq!(proof.fields, expected);
}

#[test]
fn a_private_key_signs_an_assertion_for_the_issuer_alone() {
    let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &AwsRandom::new()).unwrap();
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &AwsRandom::new()).unwrap();
    let ed25519 = Ed25519KeyPair::generate_pkcs8(&AwsRandom::new()).unwrap();
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    for (der, algorithm) in [
        (p256.as_ref(), Algorithm::ES256),
        (p384.as_ref(), Algorithm::ES384),
        (ed25519.as_ref(), Algorithm::EdDSA),
        (rsa.as_ref(), Algorithm::RS256),
    ] {
        let key = AssertionKey::from_pem(&pem(der), Some("key-1".to_owned())).unwrap();
        let authentication = ClientAuthentication::PrivateKeyJwt(key);
        let [first, second] = [(); 2].map(|()| authentication.prove(ASKING).unwrap());
        assert_eq!(field(&first, "client_assertion_type"), ASSERTION_TYPE);
        let header = jsonwebtoken::decode_header(field(&first, "client_assertion")).unwrap();
        assert_eq!((header.alg, header.kid.as_deref()), (algorithm, Some("key-1")));
        let claims =
            [&first, &second].map(|proof| unverified_claims(field(proof, "client_assertion")).unwrap());
        assert_eq!((&claims[0]["iss"], &claims[0]["sub"]), (&json!("client!+ID"), &json!("client!+ID")));
        assert_eq!(claims[0]["aud"], "https://id.example.com/realms/users", "one text, not a list");
        assert_eq!(claims[0]["exp"], 1_700_000_060);
        assert_ne!(claims[0]["jti"], claims[1]["jti"], "no assertion is made twice");
    }
    for garbage in ["", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert_eq!(AssertionKey::from_pem(garbage, None).err(), Some(AssertionKeyError), "{garbage}");
    }
}

#[test]
fn an_assertion_of_somebody_else_is_read_anew_every_time() {
    let path = std::env::temp_dir().join(format!("assertion-{}", std::process::id()));
    let authentication = ClientAuthentication::AssertionFile(path.clone());
    assert!(authentication.prove(ASKING).is_err());
    for token in ["first", "second"] {
        writeln!(fs::File::create(&path).unwrap(), "{token}").unwrap();
        assert_eq!(field(&authentication.prove(ASKING).unwrap(), "client_assertion"), token);
    }
    fs::remove_file(path).unwrap();
}
