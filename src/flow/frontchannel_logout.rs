use std::sync::Arc;

use super::{Flows, SignOut};
use crate::{policy::Site, session::SessionGroup};

impl Flows {
    /// Does what a frame on the provider's logout page asks for (OpenID Connect Front-Channel Logout 1.0 section 2).
    /// The session is found by what the provider says, since browsers do not send the cookie in a frame of another
    /// site; without both words, or with another issuer, nothing is done.
    ///
    /// Returns the origin whose pages may show the frame; `None` if the frontend does not take part in this.
    pub fn frontchannel_logout(
        &self,
        site: &Site,
        issuer: Option<&str>,
        sid: Option<&str>,
    ) -> Option<String> {
        if !site.frontend.login.front_channel_logout {
            return None;
        }
        let provider = self.provider(site)?;
        let own_issuer = &*provider.settings().issuer;
        if let (Some(issuer), Some(sid)) = (issuer, sid)
            && issuer == own_issuer
        {
            let group = SessionGroup::ProviderSession {
                issuer: Arc::clone(&provider.settings().issuer),
                sid: sid.to_owned(),
            };
            // Anyone can ask this, so only what ends something is remembered.
            if !self.sessions.group(&group).is_empty() {
                self.provider_ended(provider, &group, SignOut::here(self.clock.now()));
            }
        }
        Some(url::Url::parse(own_issuer).ok()?.origin().ascii_serialization())
    }
}
