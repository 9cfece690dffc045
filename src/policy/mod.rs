//! Pure decisions on one request: which frontend, which rule, which kind of request, which origin, where a login may
//! return to. Nothing here waits, and nothing knows gRPC, a web framework or a provider.

mod cookies;
mod cors;
mod endpoint;
mod frontend;
mod identity;
mod kind;
mod origin;
mod path;
mod refusal;
mod request;
mod return_to;
mod rule;
mod step_up;

pub use cookies::{Cookies, RequestCookie};
pub use cors::{Cors, CorsGrant, Preflight};
pub use endpoint::Endpoint;
pub use frontend::{CookieSettings, Frontend, Frontends, LoginSettings, SameSite, Site};
pub use identity::{ClaimSource, IdentityHeader, IdentityHeaders};
pub use kind::Kind;
pub use origin::{CSRF_HEADER, OriginError};
pub use path::Path;
pub use refusal::{Answer, Refusal};
pub use request::{Request, SUBJECT_TOKEN_HEADER};
pub use return_to::ReturnTarget;
pub use rule::{Navigation, PathPattern, Role, Rule, RuleError, Rules, SessionNeed, TokenKind};
pub use step_up::{ANY_SIGN_IN, StepUp};

#[cfg(test)]
pub(crate) use frontend::test_support;
