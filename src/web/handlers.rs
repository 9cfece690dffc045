use std::sync::Arc;

use axum::{
    extract::{Request as HttpRequest, State},
    response::Response,
};
use http::{StatusCode, header, request::Parts};
use serde_json::json;

use super::{
    answer::Reply,
    backchannel,
    request::{parameters, single, view},
};
use crate::{
    flow::{CallbackFailure, CallbackOutcome, CookieChange, CurrentUserError, Flows, LoginRequest},
    policy::{ANY_SIGN_IN, Endpoint, Kind, Refusal, Request, SameSite, Site},
    telemetry::RequestId,
};

/// One request, with everything that its handlers need.
pub(super) struct Call<'a> {
    pub(super) flows: &'a Flows,
    pub(super) site: &'a Arc<Site>,
    pub(super) request: Request<'a>,
    pub(super) parts: &'a Parts,
    pub(super) request_id: RequestId,
}

/// Answers every request of the browser listener.
pub(super) async fn serve(State(flows): State<Arc<Flows>>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    // Before the host is looked at: the provider may call by an address that no browser knows.
    if parts.uri.path() == Endpoint::BackchannelLogout.path() {
        return backchannel::answer(&flows, &parts, body).await.into();
    }
    answer(&flows, &parts).await.into()
}

async fn answer(flows: &Flows, parts: &Parts) -> Reply {
    let view = view(parts);
    let request_id = RequestId::of(view.as_ref().and_then(|view| view.request_id), &*flows.random);
    let kind = view.as_ref().map_or(Kind::Fetch, Kind::of_target);
    let found = view.and_then(|view| Some((flows.frontends.find(view.host)?, view)));
    let Some((site, request)) = found else {
        return Reply::refusal(&Refusal::UnknownHost.answer(), kind, request_id.as_str(), None);
    };
    let Some(endpoint) = Endpoint::at(request.raw_path()) else {
        return Reply::refusal(&Refusal::NoEndpoint.answer(), kind, request_id.as_str(), None);
    };
    let call = Call { flows, site, request, parts, request_id };
    match (endpoint, call.request.method) {
        (Endpoint::Me, "OPTIONS") if call.request.is_preflight() => call.preflight(),
        (Endpoint::Login, "GET" | "HEAD") => call.login().await,
        (Endpoint::Callback, "GET") => call.callback().await,
        (Endpoint::Logout, "POST") => call.logout().await,
        (Endpoint::LogoutReturn, "GET" | "HEAD") => call.logout_return(),
        (Endpoint::FrontchannelLogout, "GET") => call.frontchannel_logout().await,
        (Endpoint::Me, "GET" | "HEAD") => call.me().await,
        (Endpoint::Sessions, "GET" | "HEAD") => call.sessions().await,
        (Endpoint::Session, "DELETE") => call.end_session().await,
        (endpoint, _) => call.wrong_method(endpoint),
    }
}

impl Call<'_> {
    async fn login(&self) -> Reply {
        // A script that follows the redirect ends at the provider's CORS policy, and an image or a prefetch that
        // does begins logins that nobody asked for.
        let by_script = self.request.fetch_mode.is_some() && Kind::of_target(&self.request) == Kind::Fetch;
        if by_script || self.request.prefetch {
            return self.refuse(&Refusal::NotSignedIn);
        }
        let parameters = parameters(self.parts);
        let login = LoginRequest {
            return_to: single(&parameters, "return_to"),
            idp_hint: single(&parameters, "kc_idp_hint"),
            force: single(&parameters, "force") == Some("true"),
            acr_values: single(&parameters, "acr_values"),
            max_age: single(&parameters, "max_age"),
        };
        match self.flows.begin_login(self.site, &self.request, login).await {
            Ok(step) => {
                Reply::redirect(StatusCode::FOUND, &step.location).cookies(&step.cookies, &self.site.frontend)
            }
            Err(error) => {
                self.log_failure("login", &error);
                let refusal = Refusal::Unavailable { retry_after: std::time::Duration::from_secs(2) };
                self.refuse(&refusal)
            }
        }
    }

    async fn callback(&self) -> Reply {
        let frontend = &self.site.frontend;
        match self.flows.finish_login(self.site, &self.request, &parameters(self.parts)).await {
            Ok(CallbackOutcome::SignedIn(step)) if frontend.cookie.same_site == SameSite::Strict => {
                Reply::landing(&step.location, self.request_id.as_str()).cookies(&step.cookies, frontend)
            }
            Ok(CallbackOutcome::SignedIn(step) | CallbackOutcome::Restarted(step)) => {
                Reply::redirect(StatusCode::FOUND, &step.location).cookies(&step.cookies, frontend)
            }
            Err(CallbackFailure { error, cookies, return_to }) => {
                self.log_failure("callback", &error);
                let login_url = self.site.login_url(return_to.as_deref(), ANY_SIGN_IN);
                let kind = Kind::of_target(&self.request);
                let answer = error.answer();
                Reply::refusal(&answer, kind, self.request_id.as_str(), Some(&login_url))
                    .cookies(&cookies, frontend)
            }
        }
    }

    async fn me(&self) -> Reply {
        let frontend = &self.site.frontend;
        if let Err(error) = self.site.check_read(&self.request) {
            return self.refuse(&error.into());
        }
        let keep_alive = single(&parameters(self.parts), "keep_alive") == Some("true");
        let reply = match self.flows.current_user(self.site, &self.request, keep_alive).await {
            Ok(user) => {
                let session = json!({
                    "expires_at": user.expires_at.as_unix(),
                    "login_expires_at": user.login_expires_at.as_unix(),
                });
                let body = json!({"authenticated": true, "claims": user.claims, "session": session});
                Reply::json(StatusCode::OK, body.to_string())
            }
            Err(CurrentUserError::NotSignedIn) => {
                let body = json!({"authenticated": false, "login_url": self.site.url(Endpoint::Login)});
                let reply = Reply::json(StatusCode::UNAUTHORIZED, body.to_string());
                let reply = reply.header(header::WWW_AUTHENTICATE, "Bearer");
                // A browser that still sends the cookie of a session that is over need not.
                match self.request.cookies.unambiguous(&frontend.cookie.name) {
                    Some(_) => reply.cookies(&[CookieChange::ClearSession], frontend),
                    None => reply,
                }
            }
            Err(error) => return self.refuse(&error.into()),
        };
        reply.cors(frontend.cors.grant(&self.request).as_ref(), frontend)
    }

    fn preflight(&self) -> Reply {
        match self.site.frontend.cors.preflight(&self.request) {
            Some(preflight) => {
                let reply = Reply::new(StatusCode::NO_CONTENT).cors(None, &self.site.frontend);
                preflight.headers().into_iter().fold(reply, Reply::static_header)
            }
            None => self.refuse(&Refusal::ForeignOrigin),
        }
    }

    fn wrong_method(&self, endpoint: Endpoint) -> Reply {
        self.refuse(&Refusal::WrongMethod).header(header::ALLOW, endpoint.methods())
    }

    pub(super) fn refuse(&self, refusal: &Refusal) -> Reply {
        let answer = refusal.answer();
        let login_url = (*refusal == Refusal::NotSignedIn || answer.status == 503)
            .then(|| self.site.url(Endpoint::Login));
        let frontend = &self.site.frontend;
        Reply::refusal(
            &answer,
            Kind::of_target(&self.request),
            self.request_id.as_str(),
            login_url.as_deref(),
        )
        .cors(frontend.cors.grant(&self.request).as_ref(), frontend)
    }

    fn log_failure(&self, step: &str, error: &dyn std::error::Error) {
        let frontend = &*self.site.frontend.name;
        tracing::warn!(request_id = self.request_id.as_str(), frontend, step, %error, "sign-in failed");
    }
}
