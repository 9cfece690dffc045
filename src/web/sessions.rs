use std::time::Duration;

use http::{StatusCode, header};
use serde_json::json;

use super::{
    answer::Reply,
    handlers::Call,
    request::{parameters, single},
};
use crate::{
    flow::{AtProvider, CookieChange, CurrentUserError, EndSessionError, EndedSession, OwnSession},
    page::{Link, page},
    policy::{Endpoint, Kind, Refusal},
};

impl Call<'_> {
    pub(super) async fn logout(&self) -> Reply {
        if let Err(error) = self.site.check_own(&self.request) {
            return self.refuse(&error.into());
        }
        let step = match self.flows.log_out(self.site, &self.request).await {
            Ok(step) => step,
            Err(error) => return self.refuse(&error.into()),
        };
        let reply = match (Kind::of_target(&self.request), step.at_provider) {
            (Kind::Fetch, at_provider) => {
                let body = json!({"logout_url": step.location, "provider_reachable": at_provider != AtProvider::Away});
                Reply::json(StatusCode::OK, body.to_string())
            }
            (Kind::Navigation, AtProvider::Away) => {
                let message = "You are signed out here. The sign-in service does not answer, so you may still be \
                               signed in there.";
                let link = Link { url: &step.location, text: "Continue" };
                Reply::html(StatusCode::OK, page(message, self.request_id.as_str(), Some(link)))
            }
            (Kind::Navigation, _) => Reply::redirect(StatusCode::SEE_OTHER, &step.location),
        };
        reply.cookies(&step.cookies, &self.site.frontend)
    }

    pub(super) fn logout_return(&self) -> Reply {
        let parameters = parameters(self.parts);
        let state = single(&parameters, "state");
        let (location, cookie) = self.flows.return_from_logout(self.site, &self.request, state);
        Reply::redirect(StatusCode::FOUND, &location).cookies(&[cookie], &self.site.frontend)
    }

    pub(super) async fn frontchannel_logout(&self) -> Reply {
        let parameters = parameters(self.parts);
        let (issuer, sid) = (single(&parameters, "iss"), single(&parameters, "sid"));
        let provider = match self.flows.frontchannel_logout(self.site, issuer, sid).await {
            Ok(Some(provider)) => provider,
            Ok(None) => return self.refuse(&Refusal::NoEndpoint),
            Err(error) => return self.refuse(&error.into()),
        };
        let policy = format!("default-src 'none'; frame-ancestors {provider}");
        Reply::html(StatusCode::OK, String::new()).header(header::CONTENT_SECURITY_POLICY, &policy)
    }

    pub(super) async fn sessions(&self) -> Reply {
        if let Err(error) = self.site.check_read(&self.request) {
            return self.refuse(&error.into());
        }
        match self.flows.own_sessions(self.site, &self.request).await {
            Ok(sessions) => {
                let sessions: Vec<_> = sessions.iter().map(shown).collect();
                Reply::json(StatusCode::OK, json!({"sessions": sessions}).to_string())
            }
            Err(error) => self.refuse(&error.into()),
        }
    }

    pub(super) async fn end_session(&self) -> Reply {
        if let Err(error) = self.site.check_own(&self.request) {
            return self.refuse(&error.into());
        }
        let handle = Endpoint::session_handle(self.request.raw_path()).unwrap_or_default();
        match self.flows.end_own_session(self.site, &self.request, handle).await {
            Ok(EndedSession::Other) => Reply::new(StatusCode::NO_CONTENT),
            Ok(EndedSession::Current) => {
                Reply::new(StatusCode::NO_CONTENT).cookies(&[CookieChange::ClearSession], &self.site.frontend)
            }
            Err(EndSessionError::CurrentUser(error)) => self.refuse(&error.into()),
            Err(EndSessionError::NoSuchSession) => self.refuse(&Refusal::NoSuchSession),
        }
    }
}

fn shown(session: &OwnSession) -> serde_json::Value {
    json!({
        "handle": session.handle,
        "frontend": &*session.frontend,
        "current": session.is_current,
        "created_at": session.created_at.as_unix(),
        "last_used_at": session.last_used_at.as_unix(),
        "expires_at": session.expires_at.as_unix(),
    })
}

impl From<CurrentUserError> for Refusal {
    fn from(error: CurrentUserError) -> Self {
        match error {
            CurrentUserError::NotSignedIn => Self::NotSignedIn,
            CurrentUserError::AccountDisabled => Self::AccountDisabled,
            CurrentUserError::Unavailable => Self::Unavailable { retry_after: Duration::from_secs(1) },
        }
    }
}
