//! The grants by which a client gets tokens without a browser: for itself, and for a user whose token it has.

use super::record::Parameters;
use super::signing::random;
use super::{Core, Fault, now};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// RFC 8693 section 2.1.
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 7523 section 2.1.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

impl Core {
    /// A token of the client itself (RFC 6749 section 4.4).
    pub(super) fn client_credentials(&self, form: &Parameters, client_id: &str) -> Value {
        self.client_token(form, client_id, &json!({"sub": format!("service-account-{client_id}")}))
    }

    /// A token of the user whom the token in this field names. Every such token is taken for a good one.
    pub(super) fn token_for(&self, form: &Parameters, client_id: &str, field: &str) -> Result<Value, Fault> {
        let user = form.get(field).and_then(|token| claims(token));
        let user = user.ok_or_else(|| Fault::error("invalid_request", "No token"))?;
        Ok(self.client_token(form, client_id, &json!({"sub": user["sub"], "sid": user["sid"]})))
    }

    fn client_token(&self, form: &Parameters, client_id: &str, whose: &Value) -> Value {
        let end = self.behaviour.access_token_end();
        let mut claims = json!({
            "iss": self.issuer,
            "azp": client_id,
            "aud": form.get("audience").map_or("account", String::as_str),
            "exp": end,
            "iat": now(),
            "jti": random(),
            "typ": "Bearer",
            "scope": "email profile",
        });
        crate::files::merge(&mut claims, whose);
        let mut answer = json!({
            "access_token": self.keys.sign_as("JWT", &claims),
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": end.saturating_sub(now()),
            "scope": claims["scope"],
        });
        self.edits.apply_to_answer(&mut answer);
        answer
    }
}

fn claims(token: &str) -> Option<Value> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}
