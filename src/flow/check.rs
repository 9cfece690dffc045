use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout_at};

use super::{
    Flows, MeshAnswer,
    bulkhead::Urgency,
    refresh::{Begun, Outcome, Subject},
};
use crate::{
    clock::Patience,
    model_tokens::{ModelTokenError, User, UserToken},
    policy::{
        ANY_SIGN_IN, CorsGrant, Endpoint, Kind, Navigation, OriginError, Path, Preflight, Refusal, Request,
        ReturnTarget, Rule, SessionNeed, Site, StepUp, TokenKind,
    },
    session::{Session, SessionId, Tokens},
    token_cache::CachedToken,
};

/// How long a client should wait that was turned away while a refresh is under way.
const RETRY_DURING_REFRESH: Duration = Duration::from_secs(1);

/// What becomes of a request. A door turns it into its own kind of answer.
pub enum Verdict {
    /// It passes.
    Allow(Allow),
    /// It is for one of our own endpoints and passes untouched; the web door decides.
    Endpoint(Arc<Site>),
    /// It is an allowed preflight and is answered.
    Preflight(Arc<Site>, Preflight),
    /// The browser is sent to the login at this address.
    Login(Arc<Site>, String),
    /// It is refused.
    Refuse(Refused),
    /// It is from a workload of the mesh and is answered: nothing passes there.
    Workload(MeshAnswer),
}

/// A request that passes.
pub struct Allow {
    /// Whose request it is.
    pub site: Arc<Site>,
    /// Who made it, if that was looked up and there is a session.
    pub signed_in: Option<SignedIn>,
    /// The `Cookie` header without our own cookies; `None` if it stays as it is, empty if nothing is left of it.
    pub cookie: Option<String>,
    /// What the answer grants to another origin.
    pub cors: Option<CorsGrant>,
}

/// Who made a request.
pub struct SignedIn {
    /// The session.
    pub session: Arc<Session>,
    /// Its tokens at this moment.
    pub tokens: Arc<Tokens>,
    /// The token that the upstream gets.
    pub token: UpstreamToken,
}

/// The token that an upstream gets.
pub enum UpstreamToken {
    /// The user's access token.
    User,
    /// Another one in its place: of another realm, or exchanged for another audience.
    Cached(Arc<CachedToken>),
    /// None at all.
    None,
}

/// A request that is refused.
pub struct Refused {
    /// Whose request it is, unless nobody's.
    pub site: Option<Arc<Site>>,
    /// Why.
    pub refusal: Refusal,
    /// Whether a person or a script is told.
    pub kind: Kind,
    /// What the answer grants to another origin.
    pub cors: Option<CorsGrant>,
}

/// The usable tokens of a session, or why there are none.
type Usable = Result<Arc<Tokens>, Refusal>;

impl Flows {
    /// Decides about one request.
    ///
    /// With a live session whose token is good for some time yet, nothing here waits, calls anyone or parses a token.
    pub async fn check(&self, request: &Request<'_>) -> Verdict {
        let Some(site) = self.frontends.find(request.host) else {
            if self.model_tokens.workloads.is_mesh_host(request.host) {
                return Verdict::Workload(self.mesh_workload_token(request).await);
            }
            let kind = Kind::of(request, Navigation::Auto);
            return Verdict::Refuse(Refused { site: None, refusal: Refusal::UnknownHost, kind, cors: None });
        };
        if Endpoint::at(request.raw_path()).is_some() {
            return Verdict::Endpoint(Arc::clone(site));
        }
        if request.is_preflight() {
            return self.preflight(site, request);
        }
        let rules = &site.frontend.rules;
        let rule = Path::normalise(request.raw_path()).and_then(|path| rules.find(&path, request.method));
        let Some(rule) = rule else {
            return refuse(site, request, Navigation::Auto, Refusal::AmbiguousPath);
        };
        if let Err(error) = check_origin(site, rule, request) {
            return refuse(site, request, rule.navigation, error.into());
        }
        match self.signed_in(site, rule, request).await {
            Ok(signed_in) => self.allow(site, request, signed_in),
            Err(Refusal::NotSignedIn) if Kind::of(request, rule.navigation) == Kind::Navigation => {
                login(site, request, ANY_SIGN_IN)
            }
            Err(Refusal::InsufficientAuthentication(step_up))
                if Kind::of(request, rule.navigation) == Kind::Navigation =>
            {
                login(site, request, &step_up)
            }
            Err(refusal) => refuse(site, request, rule.navigation, refusal),
        }
    }

    fn allow(&self, site: &Arc<Site>, request: &Request<'_>, signed_in: Option<SignedIn>) -> Verdict {
        Verdict::Allow(Allow {
            site: Arc::clone(site),
            signed_in,
            cookie: request.cookies.without(|name| self.frontends.owns_cookie(name)),
            cors: site.frontend.cors.grant(request),
        })
    }

    fn preflight(&self, site: &Arc<Site>, request: &Request<'_>) -> Verdict {
        let cors = &site.frontend.cors;
        match cors.preflight(request) {
            Some(preflight) => Verdict::Preflight(Arc::clone(site), preflight),
            // Where the gateway answers preflights but asks us first, as Istio does.
            None if !cors.answered_here && request.origin.is_some_and(|origin| cors.allows(origin)) => {
                self.allow(site, request, None)
            }
            None => refuse(site, request, Navigation::Never, Refusal::ForeignOrigin),
        }
    }

    /// Who makes the request, if its rule wants to know.
    async fn signed_in(
        &self,
        site: &Arc<Site>,
        rule: &Rule,
        request: &Request<'_>,
    ) -> Result<Option<SignedIn>, Refusal> {
        if rule.session == SessionNeed::None {
            return Ok(None);
        }
        // For the refresh and whatever comes after it together.
        let patience = Patience::new(self.refresher.settings.wait);
        let signed_in = match self.session(site, request).await? {
            Some((id, session)) => {
                session.touch(self.clock.now());
                match self.usable_tokens(site, &id, &session, &patience).await {
                    Ok(tokens) => Some((session, tokens)),
                    // Over just now. For an optional session that is as good as none; an outage is not.
                    Err(Refusal::NotSignedIn) => None,
                    Err(refusal) => return Err(refusal),
                }
            }
            None => None,
        };
        let Some((session, tokens)) = signed_in else {
            return if rule.session == SessionNeed::Optional { Ok(None) } else { Err(Refusal::NotSignedIn) };
        };
        if !rule.roles.is_empty() && !rule.roles.iter().any(|role| role.is_in(&tokens.access_claims)) {
            return Err(Refusal::MissingRole);
        }
        if !rule.step_up.is_empty() {
            let skew = self.provider(site).ok_or(Refusal::Internal)?.settings().clock_skew;
            if !rule.step_up.is_met(&tokens.id_claims, skew, self.clock.now()) {
                return Err(Refusal::InsufficientAuthentication(rule.step_up.clone()));
            }
        }
        let token = match &rule.token {
            TokenKind::User => UpstreamToken::User,
            TokenKind::None => UpstreamToken::None,
            TokenKind::Model(name) => {
                UpstreamToken::Cached(self.model_token(site, &session, &tokens, name, &patience).await?)
            }
            TokenKind::Exchange(audience) => UpstreamToken::Cached(
                self.exchanged_token(site, &session, &tokens, audience, &patience).await?,
            ),
        };
        Ok(Some(SignedIn { session, tokens, token }))
    }

    /// The token of another realm for this user's request. Without one the request does not pass: the user's own token
    /// is not for that upstream.
    async fn model_token(
        &self,
        site: &Site,
        session: &Session,
        tokens: &Arc<Tokens>,
        model: &str,
        patience: &Patience,
    ) -> Result<Arc<CachedToken>, Refusal> {
        let client = self.model_tokens.client(Some(model)).map_err(Refusal::from)?;
        let user = User {
            issuer: Arc::clone(&session.issuer),
            subject: session.subject.clone(),
            token: UserToken::Session(Arc::clone(tokens)),
            provider: Arc::clone(self.provider(site).ok_or(Refusal::Internal)?),
            since: session.created_at,
        };
        self.model_tokens.token_for(client, user, patience).await.map_err(Refusal::from)
    }

    /// Tokens that the upstream may be given, renewed if need be: behind the request while the old ones are still
    /// good, before it when they are not.
    pub(super) async fn usable_tokens(
        &self,
        site: &Site,
        id: &SessionId,
        session: &Arc<Session>,
        patience: &Patience,
    ) -> Usable {
        let tokens = session.tokens();
        let settings = &self.refresher.settings;
        let now = self.clock.now();
        let usable = settings.is_usable(&tokens, now) && !session.is_account_disabled();
        if usable && !settings.is_due(&tokens, now) {
            return Ok(tokens);
        }
        if tokens.refresh_token.is_none() {
            return if usable { Ok(tokens) } else { Err(Refusal::NotSignedIn) };
        }
        let provider = self.provider(site).ok_or(Refusal::Internal)?;
        let subject = Subject {
            id: id.clone(),
            session: Arc::clone(session),
            frontend: Arc::clone(&site.frontend),
            provider: Arc::clone(provider),
        };
        let urgency = if usable { Urgency::Background } else { Urgency::WaitedFor };
        match self.refresher.begin(subject, &tokens, urgency) {
            _ if usable => Ok(tokens),
            Begun::AlreadyDone => self.without_refresh(session, RETRY_DURING_REFRESH),
            Begun::Paused(pause) => self.without_refresh(session, pause),
            Begun::Running(outcome) => match wait_for(outcome, patience).await {
                Some(Outcome::Ended) => Err(Refusal::NotSignedIn),
                Some(Outcome::Refreshed | Outcome::Failed) => {
                    // Another replica may have done it, and what it stored stands in a newer copy of the session.
                    let session = self.sessions.get(id).await?.ok_or(Refusal::NotSignedIn)?;
                    let pause = session.refresh_pause().until.since(self.clock.now());
                    self.without_refresh(&session, pause)
                }
                None => self.without_refresh(session, RETRY_DURING_REFRESH),
            },
        }
    }

    /// What the session has at this moment.
    fn without_refresh(&self, session: &Session, retry_after: Duration) -> Usable {
        if session.is_account_disabled() {
            return Err(Refusal::AccountDisabled);
        }
        let tokens = session.tokens();
        if self.refresher.settings.is_usable(&tokens, self.clock.now()) {
            return Ok(tokens);
        }
        Err(Refusal::Unavailable { retry_after })
    }
}

/// The outcome of a refresh; `None` if it takes longer than this request may wait, or broke.
async fn wait_for(mut outcome: watch::Receiver<Option<Outcome>>, patience: &Patience) -> Option<Outcome> {
    let ended = outcome.wait_for(Option::is_some);
    let outcome = timeout_at(patience.deadline(), ended).await.ok()?.ok()?;
    *outcome
}

fn check_origin(site: &Site, rule: &Rule, request: &Request<'_>) -> Result<(), OriginError> {
    if !request.is_safe() {
        site.check_unsafe(request)?;
    } else if rule.session != SessionNeed::None {
        site.check_read(request)?;
    }
    if rule.csrf_header && request.csrf_header != Some("1") { Err(OriginError::Unproven) } else { Ok(()) }
}

fn login(site: &Arc<Site>, request: &Request<'_>, step_up: &StepUp) -> Verdict {
    let way_back = ReturnTarget::parse(request.target, site).map(|_| request.target);
    Verdict::Login(Arc::clone(site), site.login_url(way_back, step_up))
}

fn refuse(site: &Arc<Site>, request: &Request<'_>, navigation: Navigation, refusal: Refusal) -> Verdict {
    let kind = match (&refusal, navigation) {
        // Navigations are sent to the login; everything else without a session is told where it is.
        (Refusal::NotSignedIn | Refusal::InsufficientAuthentication(_), _) | (_, Navigation::Never) => {
            Kind::Fetch
        }
        // A submitted form is answered with a page like any other navigation.
        _ => Kind::of_target(request),
    };
    Verdict::Refuse(Refused {
        site: Some(Arc::clone(site)),
        refusal,
        kind,
        cors: site.frontend.cors.grant(request),
    })
}

impl From<ModelTokenError> for Refusal {
    fn from(error: ModelTokenError) -> Self {
        match error {
            ModelTokenError::UserNotLinked => Self::UserNotLinked,
            ModelTokenError::Unavailable { retry_after } => Self::NoModelToken { retry_after },
            ModelTokenError::TooManyUsers => Self::NoModelToken { retry_after: Duration::from_secs(5) },
            ModelTokenError::SubjectTokenRefused => {
                Self::NoModelToken { retry_after: Duration::from_secs(1) }
            }
            ModelTokenError::UnknownModel
            | ModelTokenError::ModelNotNamed
            | ModelTokenError::UserNeeded
            | ModelTokenError::ValidityTooLong => Self::Internal,
        }
    }
}

impl From<OriginError> for Refusal {
    fn from(error: OriginError) -> Self {
        match error {
            OriginError::Foreign => Self::ForeignOrigin,
            OriginError::Unproven => Self::MissingCsrfHeader,
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
