//! What the provider remembers: codes, sessions and refresh tokens, each found by its name at once however many there
//! are.

use super::record::Parameters;
use super::{now, signing};
use dashmap::DashMap;

#[derive(Default)]
pub(super) struct Grants {
    codes: DashMap<String, Code>,
    sessions: DashMap<String, Session>,
    refresh_tokens: DashMap<String, RefreshToken>,
}

/// An authorization code.
pub(super) struct Code {
    /// The request that it answers.
    pub(super) request: Parameters,
    pub(super) sid: String,
}

/// A user who is signed in here.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) sid: String,
    pub(super) subject: String,
    pub(super) auth_time: u64,
    is_over: bool,
}

/// What a refresh token stands for.
#[derive(Clone)]
pub(super) struct RefreshToken {
    pub(super) sid: String,
    pub(super) client_id: String,
    pub(super) scope: String,
    pub(super) acr: String,
    was_used: bool,
}

impl RefreshToken {
    pub(super) fn new(sid: &str, client_id: &str, scope: &str, acr: &str) -> Self {
        let [sid, client_id, scope, acr] = [sid, client_id, scope, acr].map(str::to_owned);
        Self { sid, client_id, scope, acr, was_used: false }
    }
}

impl Grants {
    /// Signs someone in, unless the session exists, and gives the code for it.
    pub(super) fn issue_code(&self, request: Parameters, subject: String, sid: String) -> String {
        let session = Session { sid: sid.clone(), subject, auth_time: now(), is_over: false };
        self.sessions.entry(sid.clone()).or_insert(session);
        let code = signing::random();
        self.codes.insert(code.clone(), Code { request, sid });
        code
    }

    /// What a code stands for. It can be redeemed once.
    pub(super) fn take_code(&self, code: &str) -> Option<Code> {
        self.codes.remove(code).map(|(_, code)| code)
    }

    /// A session that is not over.
    pub(super) fn session(&self, sid: &str) -> Option<Session> {
        let session = self.sessions.get(sid)?;
        (!session.is_over).then(|| session.clone())
    }

    pub(super) fn end_session(&self, sid: &str) {
        if let Some(mut session) = self.sessions.get_mut(sid) {
            session.is_over = true;
        }
    }

    pub(super) fn issue_refresh_token(&self, grant: RefreshToken) -> String {
        let token = signing::random();
        self.refresh_tokens.insert(token.clone(), grant);
        token
    }

    /// What a refresh token stands for, which can be asked once. Who asks again has a stolen one, or lost the answer,
    /// and the session ends.
    ///
    /// # Errors
    /// Keycloak's reason why it is not good.
    pub(super) fn use_refresh_token(&self, token: &str) -> Result<RefreshToken, &'static str> {
        let mut found = self.refresh_tokens.get_mut(token).ok_or("Invalid refresh token")?;
        if found.was_used {
            self.end_session(&found.sid);
            return Err("Maximum allowed refresh token reuse exceeded");
        }
        found.was_used = true;
        Ok(found.clone())
    }

    pub(super) fn revoke_refresh_token(&self, token: &str) {
        self.refresh_tokens.remove(token);
    }
}
