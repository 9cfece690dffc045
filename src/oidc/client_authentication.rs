use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// How this client proves itself at the token and revocation endpoints. Exactly one way is used: a failure is never
/// tried again with another.
pub enum ClientAuthentication {
    /// The secret in the `Authorization` header (RFC 6749 section 2.3.1).
    SecretBasic(SecretString),
    /// The secret among the form's fields (RFC 6749 section 2.3.1).
    SecretPost(SecretString),
    /// None: a public client, protected by PKCE alone.
    Public,
}

/// A form field by which a client names itself.
pub(super) type Field<'a> = (&'static str, &'a str);

impl ClientAuthentication {
    /// The header and the form fields that prove the client.
    pub(super) fn apply<'a>(&'a self, client_id: &'a str) -> (Option<HeaderValue>, Vec<Field<'a>>) {
        match self {
            Self::SecretBasic(secret) => (basic(client_id, secret.expose_secret()), Vec::new()),
            Self::SecretPost(secret) => {
                (None, vec![("client_id", client_id), ("client_secret", secret.expose_secret())])
            }
            Self::Public => (None, vec![("client_id", client_id)]),
        }
    }
}

/// Both parts are form-encoded before they are joined, as RFC 6749 section 2.3.1 says and many clients forget.
fn basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)));
    let mut value = HeaderValue::from_str(&format!("Basic {credentials}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_credentials_are_encoded_for_basic_and_left_for_the_form() {
        let authentication = ClientAuthentication::SecretBasic("SECRET?%G".into());
        let (header, fields) = authentication.apply("client!+ID");
        let credentials = STANDARD.encode("client%21%2BID:SECRET%3F%25G");
        assert_eq!(header.unwrap().to_str().unwrap(), format!("Basic {credentials}"));
        assert!(fields.is_empty());

        let authentication = ClientAuthentication::SecretPost("SECRET?%G".into());
        let (header, fields) = authentication.apply("client!+ID");
        assert!(header.is_none());
        assert_eq!(fields, [("client_id", "client!+ID"), ("client_secret", "SECRET?%G")]);
    }
}
