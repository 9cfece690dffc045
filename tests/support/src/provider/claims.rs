//! The tokens of one answer.

use super::grants::{RefreshToken, Session};
use super::signing::{base64url, random, sha256};
use super::{Core, now};
use serde_json::{Value, json};

/// How long ID tokens live, also where access tokens are over at once.
const ID_TOKEN_LIFETIME: u64 = 300;

/// How long refresh tokens live.
const REFRESH_LIFETIME: u64 = 1800;

impl Core {
    /// A successful answer of the token endpoint (RFC 6749 section 5.1, OpenID Connect Core section 3.1.3.3), with the
    /// test's edits. `nonce` is that of a login.
    pub(super) fn tokens(&self, session: &Session, grant: RefreshToken, nonce: Option<&str>) -> Value {
        let end = self.behaviour.access_token_end();
        let access_token = self.access_token(session, &grant, end);
        let id_token = self.id_token(session, &grant, nonce, &access_token);
        let mut answer = json!({
            "access_token": access_token,
            "expires_in": end.saturating_sub(now()),
            "refresh_expires_in": REFRESH_LIFETIME,
            "id_token": id_token,
            "token_type": "Bearer",
            "session_state": session.sid,
            "scope": grant.scope,
        });
        answer["refresh_token"] = self.grants.issue_refresh_token(grant).into();
        self.edits.apply_to_answer(&mut answer);
        answer
    }

    fn access_token(&self, session: &Session, grant: &RefreshToken, end: u64) -> String {
        let claims = json!({
            "iss": self.issuer,
            "sub": session.subject,
            "sid": session.sid,
            "azp": grant.client_id,
            "aud": "account",
            "exp": end,
            "iat": now(),
            "jti": random(),
            "typ": "Bearer",
            "scope": grant.scope,
            "realm_access": {"roles": ["user"]},
        });
        self.keys.sign_as("JWT", &claims)
    }

    fn id_token(
        &self,
        session: &Session,
        grant: &RefreshToken,
        nonce: Option<&str>,
        access_token: &str,
    ) -> String {
        let now = now();
        let mut claims = json!({
            "iss": self.issuer,
            "sub": session.subject,
            "aud": grant.client_id,
            "azp": grant.client_id,
            "sid": session.sid,
            "exp": now + ID_TOKEN_LIFETIME,
            "iat": now,
            "auth_time": session.auth_time,
            "jti": random(),
            "typ": "ID",
            "acr": grant.acr,
            // OpenID Connect Core section 3.1.3.6.
            "at_hash": base64url(&sha256(access_token)[..16]),
            "preferred_username": session.subject,
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        self.edits.apply_to_id_token(&mut claims);
        self.keys.sign_as("JWT", &claims)
    }
}
