/// The paths that this program answers itself, on each frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Begins a login.
    Login,
    /// Where the provider sends the browser after a login.
    Callback,
    /// Ends the session.
    Logout,
    /// Where the provider sends the browser after a logout.
    LogoutReturn,
    /// Where the provider says that a session or a person is signed out (OpenID Connect Back-Channel Logout 1.0). It is
    /// answered on every host.
    BackchannelLogout,
    /// What the provider shows in a frame to sign out (OpenID Connect Front-Channel Logout 1.0).
    FrontchannelLogout,
    /// Tells who is signed in.
    Me,
    /// Lists the signed-in user's sessions.
    Sessions,
    /// One of them, by its handle.
    Session,
}

/// The longest handle of a session that is looked for.
const MAXIMUM_HANDLE: usize = 64;

impl Endpoint {
    /// All that have one path.
    const WITH_ONE_PATH: [Self; 8] = [
        Self::Login,
        Self::Callback,
        Self::Logout,
        Self::LogoutReturn,
        Self::BackchannelLogout,
        Self::FrontchannelLogout,
        Self::Me,
        Self::Sessions,
    ];

    /// Its path; for one session, what comes before the handle.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Login => "/auth/login",
            Self::Callback => "/auth/callback",
            Self::Logout => "/auth/logout",
            Self::LogoutReturn => "/auth/logout/return",
            Self::BackchannelLogout => "/auth/backchannel-logout",
            Self::FrontchannelLogout => "/auth/frontchannel-logout",
            Self::Me => "/auth/me",
            Self::Sessions => "/auth/sessions",
            Self::Session => "/auth/sessions/",
        }
    }

    /// The methods that it takes, as `Allow` lists them (RFC 9110 section 10.2.1).
    pub const fn methods(self) -> &'static str {
        match self {
            Self::Callback | Self::FrontchannelLogout => "GET",
            Self::Logout | Self::BackchannelLogout => "POST",
            Self::Login | Self::LogoutReturn | Self::Sessions => "GET, HEAD",
            Self::Me => "GET, HEAD, OPTIONS",
            Self::Session => "DELETE",
        }
    }

    /// The endpoint at exactly this path, as it was sent: another spelling of it is none.
    pub fn at(raw_path: &str) -> Option<Self> {
        let exact = Self::WITH_ONE_PATH.into_iter().find(|endpoint| endpoint.path() == raw_path);
        exact.or_else(|| Self::session_handle(raw_path).map(|_| Self::Session))
    }

    /// The handle in the path of one session.
    pub fn session_handle(raw_path: &str) -> Option<&str> {
        let handle = raw_path.strip_prefix(Self::Session.path())?;
        let is_handle = (1..=MAXIMUM_HANDLE).contains(&handle.len())
            && handle.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        is_handle.then_some(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_its_exact_path() {
        for endpoint in Endpoint::WITH_ONE_PATH {
            assert_eq!(Endpoint::at(endpoint.path()), Some(endpoint));
        }
        for path in ["/auth/me/", "/auth//me", "/auth/%6de", "/auth/ME", "/auth", "/auth/callback/x"] {
            assert_eq!(Endpoint::at(path), None, "{path}");
        }
    }

    #[test]
    fn a_session_is_named_by_one_plain_segment() {
        assert_eq!(Endpoint::at("/auth/sessions/aB3_-x"), Some(Endpoint::Session));
        assert_eq!(Endpoint::session_handle("/auth/sessions/aB3_-x"), Some("aB3_-x"));
        for path in ["/auth/sessions/", "/auth/sessions/a/b", "/auth/sessions/%61", "/auth/sessions/a;b"] {
            assert_eq!(Endpoint::at(path), None, "{path}");
        }
        assert_eq!(Endpoint::at(&format!("/auth/sessions/{}", "a".repeat(65))), None);
    }
}
