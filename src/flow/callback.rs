use std::{collections::HashMap, sync::Arc, time::Duration};

use secrecy::ExposeSecret;

use super::{CookieChange, Flows, LoginError, LoginStep, login::NewTransaction, transaction::Transaction};
use crate::{
    crypto::base64url,
    oidc::{IdTokenError, LoginExpectation, Provider, SignatureError, TokenError},
    policy::{Answer, Endpoint, Request, Site},
    session::{NewSession, Once, Session, SessionId, StoreError, Use},
};

/// How often a login that Keycloak let expire is begun again by itself.
const MAXIMUM_RESTARTS: u8 = 2;

/// A login did not end in a session. What each failure becomes stands in one table, [`CallbackError::answer`].
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// A parameter is there more than once (RFC 6749 section 3.1).
    #[error("a parameter is repeated")]
    RepeatedParameter,
    /// This browser has no login under way with this state.
    #[error("no login transaction fits the state")]
    NoTransaction,
    /// The answer names another issuer, or none where one is due (RFC 9207).
    #[error("the answer is not of this issuer")]
    WrongIssuer,
    /// The transaction was used before.
    #[error("the login transaction was used before")]
    AlreadyUsed,
    /// The user or the provider said no.
    #[error("the provider denied the login")]
    Denied,
    /// The provider answered with another error.
    #[error("the provider answered with an error")]
    ProviderSaidNo,
    /// The answer holds no code.
    #[error("there is no code in the answer")]
    NoCode,
    /// The code was not accepted.
    #[error("{0}")]
    CodeRejected(TokenError),
    /// The client is not set up as the provider has it.
    #[error("{0}")]
    Misconfigured(TokenError),
    /// The provider could not be asked.
    #[error("{0}")]
    ProviderAway(String),
    /// The ID token cannot be believed.
    #[error(transparent)]
    IdToken(IdTokenError),
    /// More logins end than can be kept apart.
    #[error("too many login transactions were used lately")]
    TooManyLogins,
    /// There is no room for another session, or nobody to ask.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider ended the session, or the user did, before this login was finished.
    #[error("signed out while the login was under way")]
    SignedOutMeanwhile,
    /// A fault of this program.
    #[error("{0}")]
    Internal(&'static str),
}

/// A failed callback, and what a door needs to answer it.
#[derive(Debug)]
pub struct CallbackFailure {
    /// What went wrong.
    pub error: CallbackError,
    /// The cookies that change.
    pub cookies: Vec<CookieChange>,
    /// Where the failed login was to return to, for the way to try again.
    pub return_to: Option<String>,
}

/// What a callback led to.
#[derive(Debug)]
pub enum CallbackOutcome {
    /// There is a session; the browser goes where the login was begun.
    SignedIn(LoginStep),
    /// Keycloak let the login expire, and it begins again.
    Restarted(LoginStep),
}

impl CallbackError {
    /// The answer table.
    pub fn answer(&self) -> Answer {
        let (status, code, message) = match self {
            Self::RepeatedParameter => (400, "repeated_parameter", "This sign-in link is not valid."),
            Self::NoTransaction => {
                (400, "no_login_under_way", "This sign-in has expired, or was begun in another browser.")
            }
            Self::WrongIssuer => {
                (400, "wrong_issuer", "This sign-in answer did not come from our sign-in service.")
            }
            Self::AlreadyUsed => (400, "already_used", "This sign-in was finished before."),
            Self::Denied => (403, "access_denied", "The sign-in was cancelled or not allowed."),
            Self::ProviderSaidNo => (400, "login_failed", "The sign-in service could not sign you in."),
            Self::NoCode => (400, "no_code", "This sign-in link is not valid."),
            Self::CodeRejected(_) => (400, "code_rejected", "This sign-in could not be finished."),
            Self::Misconfigured(_) => (
                502,
                "misconfigured",
                "The sign-in service does not know this application. Please tell its operators.",
            ),
            Self::ProviderAway(_) => (
                503,
                "sign_in_unavailable",
                "The sign-in service does not answer. Please try again in a moment.",
            ),
            Self::IdToken(IdTokenError::NotSignedInAnew) => {
                (403, "not_signed_in_anew", "You were asked to sign in again and did not.")
            }
            Self::IdToken(IdTokenError::InsufficientAuthentication) => (
                403,
                "insufficient_user_authentication",
                "You signed in, but not in the way that this page needs.",
            ),
            Self::IdToken(_) => {
                (400, "invalid_id_token", "The sign-in service gave an answer that cannot be trusted.")
            }
            Self::TooManyLogins => {
                (503, "too_many_logins", "Too many people are signing in. Please try again in a moment.")
            }
            Self::Store(StoreError::Full) => {
                (503, "too_many_sessions", "Too many people are signed in. Please try again later.")
            }
            Self::Store(StoreError::Away(_)) => (
                503,
                "sign_in_unavailable",
                "You cannot be signed in at the moment. Please try again shortly.",
            ),
            Self::SignedOutMeanwhile => (403, "signed_out", "You were signed out while you were signing in."),
            Self::Internal(_) => {
                (503, "internal_error", "Something went wrong on our side. Please try again.")
            }
        };
        let retry_after = (status == 503).then_some(2);
        Answer { status, code, message, retry_after }
    }
}

impl From<TokenError> for CallbackError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Rejected { .. } => Self::CodeRejected(error),
            TokenError::Configuration { .. } | TokenError::Proof(_) => Self::Misconfigured(error),
            TokenError::Unavailable(_) | TokenError::Discovery(_) | TokenError::Unreadable(_) => {
                Self::ProviderAway(error.to_string())
            }
        }
    }
}

impl From<IdTokenError> for CallbackError {
    fn from(error: IdTokenError) -> Self {
        match error {
            IdTokenError::Signature(SignatureError::NoKeys(_)) => Self::ProviderAway(error.to_string()),
            _ => Self::IdToken(error),
        }
    }
}

impl From<LoginError> for CallbackError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Provider(error) => Self::ProviderAway(error.to_string()),
            LoginError::Store(error) => Self::Store(error),
            LoginError::Internal(what) => Self::Internal(what),
        }
    }
}

impl Flows {
    /// Finishes a login with the provider's answer: the parameters of the callback, in their order.
    ///
    /// # Errors
    /// [`CallbackFailure`] says what to tell the browser.
    pub async fn finish_login(
        &self,
        site: &Arc<Site>,
        request: &Request<'_>,
        parameters: &[(String, String)],
    ) -> Result<CallbackOutcome, CallbackFailure> {
        let failure = |error| CallbackFailure { error, cookies: Vec::new(), return_to: None };
        let mut answer: HashMap<&str, &str> = HashMap::with_capacity(parameters.len());
        for (name, value) in parameters {
            if answer.insert(name, value).is_some() {
                return Err(failure(CallbackError::RepeatedParameter));
            }
        }
        let (cookie, transaction) = answer
            .get("state")
            .and_then(|state| self.find_transaction(site, request, state))
            .ok_or_else(|| failure(CallbackError::NoTransaction))?;
        let result = self.finish_transaction(site, request, &answer, &transaction).await;
        let clear = CookieChange::Clear(cookie);
        match result {
            Ok(CallbackOutcome::SignedIn(mut step)) => {
                step.cookies.push(clear);
                Ok(CallbackOutcome::SignedIn(step))
            }
            Ok(CallbackOutcome::Restarted(mut step)) => {
                step.cookies.push(clear);
                Ok(CallbackOutcome::Restarted(step))
            }
            // Whoever sent this answer is not the provider: the real one may still come.
            Err(error @ CallbackError::WrongIssuer) => Err(failure(error)),
            // Nothing was decided about this login: loading the page again may finish it.
            Err(error @ CallbackError::Store(StoreError::Away(_))) => {
                Err(CallbackFailure { error, cookies: Vec::new(), return_to: Some(transaction.return_to) })
            }
            Err(error) => {
                Err(CallbackFailure { error, cookies: vec![clear], return_to: Some(transaction.return_to) })
            }
        }
    }

    async fn finish_transaction(
        &self,
        site: &Arc<Site>,
        request: &Request<'_>,
        answer: &HashMap<&str, &str>,
        transaction: &Transaction,
    ) -> Result<CallbackOutcome, CallbackError> {
        let provider = self.provider(site).ok_or(CallbackError::Internal("the frontend has no provider"))?;
        let is_issuer = provider.is_response_issuer(answer.get("iss").copied()).await;
        if !is_issuer.map_err(|error| CallbackError::ProviderAway(error.to_string()))? {
            return Err(CallbackError::WrongIssuer);
        }
        if let Some(&error) = answer.get("error") {
            let description = answer.get("error_description").copied().unwrap_or_default();
            return self.provider_said_no(site, request, transaction, error, description).await;
        }
        let code = answer.get("code").ok_or(CallbackError::NoCode)?;
        // Only what is about to cost the provider a request is remembered: anyone can make answers without a code.
        match self.sessions.use_once(Once::Transaction(transaction.hash()), transaction.expires_at()).await? {
            Use::First => {}
            Use::Again => return Err(CallbackError::AlreadyUsed),
            Use::Full => return Err(CallbackError::TooManyLogins),
        }
        let session = self.redeem(site, provider, code, transaction).await?;
        self.start_session(site, request, session, transaction).await
    }

    async fn provider_said_no(
        &self,
        site: &Site,
        request: &Request<'_>,
        transaction: &Transaction,
        error: &str,
        description: &str,
    ) -> Result<CallbackOutcome, CallbackError> {
        let expired = error == "temporarily_unavailable" && description == "authentication_expired";
        if expired && transaction.restarts < MAXIMUM_RESTARTS {
            let again = NewTransaction {
                return_to: &transaction.return_to,
                idp_hint: transaction.idp_hint.as_deref(),
                force: transaction.force,
                step_up: &transaction.step_up(),
                restarts: transaction.restarts + 1,
            };
            return Ok(CallbackOutcome::Restarted(self.send_to_provider(site, request, again).await?));
        }
        Err(if error == "access_denied" { CallbackError::Denied } else { CallbackError::ProviderSaidNo })
    }

    async fn redeem(
        &self,
        site: &Site,
        provider: &Provider,
        code: &str,
        transaction: &Transaction,
    ) -> Result<Session, CallbackError> {
        let frontend = &site.frontend;
        // The lives of the tokens count from here at the latest; the call may take long.
        let asked_at = self.clock.now();
        let set =
            provider.redeem_code(code, &site.url(Endpoint::Callback), &transaction.pkce_verifier).await?;
        let begun_at = transaction.force.then(|| transaction.created_at());
        let oldest = transaction.max_age.map(|age| self.clock.now() - Duration::from_secs(age));
        let claims = provider
            .verify_login(
                set.id_token.as_ref(),
                &LoginExpectation {
                    nonce: &transaction.nonce,
                    access_token: set.access_token.expose_secret(),
                    signed_in_since: begun_at.max(oldest),
                    acr_values: &transaction.acr_values,
                },
            )
            .await?;
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        let subject = text("sub").ok_or(CallbackError::IdToken(IdTokenError::Claim("sub")))?;
        let provider_session = text("sid");
        let tokens = super::token_building::at_login(frontend, set, claims, asked_at)
            .ok_or(CallbackError::IdToken(IdTokenError::Missing))?;
        let handle = self.random.bytes::<12>().map_err(|_| CallbackError::Internal("no randomness"))?;
        let new = NewSession {
            handle: base64url(&handle),
            frontend: Arc::clone(&frontend.name),
            provider: Arc::clone(&provider.settings().name),
            issuer: Arc::clone(&provider.settings().issuer),
            subject,
            provider_session,
            tokens,
            lifetimes: frontend.lifetimes,
        };
        Ok(Session::new(new, self.clock.now()))
    }

    async fn start_session(
        &self,
        site: &Site,
        request: &Request<'_>,
        session: Session,
        transaction: &Transaction,
    ) -> Result<CallbackOutcome, CallbackError> {
        let id = SessionId::random(&*self.random).map_err(|_| CallbackError::Internal("no randomness"))?;
        let session = Arc::new(session);
        let entry = session.directory_entry(id.key());
        match self.put_session(&id, &session, transaction).await {
            Ok(()) => {}
            Err(error @ CallbackError::SignedOutMeanwhile) => {
                self.revoke_behind(vec![entry]);
                return Err(error);
            }
            Err(error) => {
                if matches!(error, CallbackError::Store(StoreError::Full)) {
                    tracing::error!("a login was turned away: sessions.maximum is reached");
                }
                return Err(error);
            }
        }
        // The session that the browser had is over: nothing of before the login is carried on.
        if let Some((old, session)) = self.session(site, request).await? {
            self.sessions.remove(&session.directory_entry(old.key())).await?;
        }
        tracing::info!(
            frontend = &*site.frontend.name,
            session = session.handle,
            subject = session.subject,
            "signed in"
        );
        let mut cookies = self.crowded_out(site, request, 0);
        cookies.push(CookieChange::SetSession(id.cookie_value()));
        Ok(CallbackOutcome::SignedIn(LoginStep { location: transaction.return_to.clone(), cookies }))
    }
    async fn put_session(
        &self,
        id: &SessionId,
        session: &Arc<Session>,
        transaction: &Transaction,
    ) -> Result<(), CallbackError> {
        self.sessions.insert(id, Arc::clone(session)).await?;
        let entry = session.directory_entry(id.key());
        // Looked at afterwards: a sign-out that comes in between finds the session.
        let result = match self.was_signed_out_meanwhile(&entry, session, transaction).await {
            Ok(false) => return Ok(()),
            Ok(true) => CallbackError::SignedOutMeanwhile,
            Err(error) => error.into(),
        };
        self.sessions.remove(&entry).await?;
        Err(result)
    }
}
