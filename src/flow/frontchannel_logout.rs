use std::sync::Arc;

use super::Flows;
use crate::{
    policy::Site,
    session::{SessionGroup, SignOut, StoreError},
};

impl Flows {
    /// Does what a frame on the provider's logout page asks for (OpenID Connect Front-Channel Logout 1.0 section 2).
    /// The session is found by what the provider says, since browsers do not send the cookie in a frame of another
    /// site; without both words, or with another issuer, nothing is done.
    ///
    /// Returns the origin whose pages may show the frame; `None` if the frontend does not take part in this.
    ///
    /// # Errors
    /// [`StoreError`] when the sessions may go on.
    pub async fn frontchannel_logout(
        &self,
        site: &Site,
        issuer: Option<&str>,
        sid: Option<&str>,
    ) -> Result<Option<String>, StoreError> {
        let provider = self.provider(site).filter(|_| site.frontend.login.front_channel_logout);
        let Some(provider) = provider else { return Ok(None) };
        let own_issuer = &*provider.settings().issuer;
        if let (Some(issuer), Some(sid)) = (issuer, sid)
            && issuer == own_issuer
        {
            let group = SessionGroup::ProviderSession {
                issuer: Arc::clone(&provider.settings().issuer),
                sid: sid.to_owned(),
            };
            // Anyone can ask this, so only what ends something is remembered.
            if !self.sessions.group(&group).await?.is_empty() {
                self.provider_ended(provider, &group, SignOut::here(self.clock.now())).await?;
            }
        }
        Ok(url::Url::parse(own_issuer).ok().map(|url| url.origin().ascii_serialization()))
    }
}
