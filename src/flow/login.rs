use super::{CookieChange, Flows, transaction::Transaction};
use crate::{
    oidc::{AuthorizationRequest, ProviderError},
    policy::{Endpoint, Request, ReturnTarget, Site, StepUp},
    session::{Session, StoreError},
};

/// What a browser asks of a login.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoginRequest<'a> {
    /// Where to go afterwards; what is not allowed counts as not given.
    pub return_to: Option<&'a str>,
    /// The identity provider to go straight to; one that is not on the frontend's list counts as not given.
    pub idp_hint: Option<&'a str>,
    /// Whether the user must sign in anew although there is a session.
    pub force: bool,
    /// The authentication contexts of which the sign-in must have one, separated by spaces; those that no rule of the
    /// frontend names count as not given.
    pub acr_values: Option<&'a str>,
    /// How many seconds ago the sign-in may be; what no rule of the frontend asks for counts as not given.
    pub max_age: Option<&'a str>,
}

/// Where the browser goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginStep {
    /// The address.
    pub location: String,
    /// The cookies that change on the way.
    pub cookies: Vec<CookieChange>,
}

/// A login could not be begun.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The provider cannot be asked where its login is.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Nobody can say whether there is a session already.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of this program.
    #[error("{0}")]
    Internal(&'static str),
}

impl Flows {
    /// Begins a login, or goes straight back where there is a session already.
    ///
    /// # Errors
    /// [`LoginError`] when the browser cannot be sent to the provider.
    pub async fn begin_login(
        &self,
        site: &Site,
        request: &Request<'_>,
        login: LoginRequest<'_>,
    ) -> Result<LoginStep, LoginError> {
        let return_to = login.return_to.and_then(|target| ReturnTarget::parse(target, site));
        let return_to = return_to.unwrap_or_else(|| ReturnTarget::start_page(site));
        let provider = self.provider(site).ok_or(LoginError::Internal("the frontend has no provider"))?;
        let step_up = StepUp::requested(&site.frontend.rules, login.acr_values, login.max_age);
        let is_signed_in = self.session(site, request).await?.is_some_and(|(_, session)| {
            let (skew, now) = (provider.settings().clock_skew, self.clock.now());
            self.can_go_on(&session) && step_up.is_met(&session.tokens().id_claims, skew, now)
        });
        if !login.force && is_signed_in {
            return Ok(LoginStep { location: return_to.as_str().to_owned(), cookies: Vec::new() });
        }
        let hints = &site.frontend.login.idp_hints;
        let idp_hint = login.idp_hint.filter(|hint| hints.iter().any(|allowed| allowed == hint));
        self.send_to_provider(
            site,
            request,
            NewTransaction {
                return_to: return_to.as_str(),
                idp_hint,
                force: login.force,
                step_up: &step_up,
                restarts: 0,
            },
        )
        .await
    }

    /// Whether the next check of this session can be expected to let it through, so that sending the browser back
    /// does not end in a circle.
    fn can_go_on(&self, session: &Session) -> bool {
        let tokens = session.tokens();
        let is_usable = self.refresher.settings.is_usable(&tokens, self.clock.now());
        !session.is_account_disabled() && (is_usable || tokens.refresh_token.is_some())
    }

    /// Makes a transaction and sends the browser to the provider with it.
    pub(super) async fn send_to_provider(
        &self,
        site: &Site,
        request: &Request<'_>,
        new: NewTransaction<'_>,
    ) -> Result<LoginStep, LoginError> {
        let provider = self.provider(site).ok_or(LoginError::Internal("the frontend has no provider"))?;
        let secret = || self.random.token().map_err(|_| LoginError::Internal("no randomness"));
        let transaction = Transaction {
            state: secret()?,
            nonce: secret()?,
            pkce_verifier: secret()?,
            return_to: new.return_to.to_owned(),
            created_at: self.clock.now().as_unix(),
            idp_hint: new.idp_hint.map(str::to_owned),
            force: new.force,
            acr_values: new.step_up.acr_values.clone(),
            max_age: new.step_up.max_age.map(|age| age.as_secs()),
            restarts: new.restarts,
        };
        let location = provider
            .authorization_url(&AuthorizationRequest {
                redirect_uri: &site.url(Endpoint::Callback),
                state: &transaction.state,
                nonce: &transaction.nonce,
                pkce_verifier: &transaction.pkce_verifier,
                idp_hint: new.idp_hint,
                force: new.force,
                acr_values: &new.step_up.acr_values,
                max_age: new.step_up.max_age,
            })
            .await?;
        let cookies = self.begin_transaction(site, request, &transaction);
        let cookies = cookies.ok_or(LoginError::Internal("the transaction could not be sealed"))?;
        Ok(LoginStep { location: location.into(), cookies })
    }
}

/// What a new transaction is to remember.
pub(super) struct NewTransaction<'a> {
    pub(super) return_to: &'a str,
    pub(super) idp_hint: Option<&'a str>,
    pub(super) force: bool,
    pub(super) step_up: &'a StepUp,
    pub(super) restarts: u8,
}
