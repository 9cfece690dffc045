//! The claims of logout tokens (OpenID Connect Back-Channel Logout section 2.4).

use super::{Provider, now, signing};
use serde_json::{Value, json};

/// The media type that the header of a logout token names.
pub const LOGOUT_TOKEN: &str = "logout+jwt";

impl Provider {
    /// What every logout token for a client holds. `sub`, `sid` or both are for the test to add.
    pub fn logout_claims(&self, client_id: &str) -> Value {
        let now = now();
        json!({
            "iss": self.core.issuer,
            "aud": client_id,
            "iat": now,
            "exp": now + 120,
            "jti": signing::random(),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        })
    }

    /// A logout token with these claims.
    pub fn logout_token(&self, claims: &Value) -> String {
        self.core.keys.sign_as(LOGOUT_TOKEN, claims)
    }
}
