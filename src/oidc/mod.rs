//! One OpenID provider: its discovery document and keys, its token endpoint, how this client proves itself there, and
//! what its tokens must hold. Nothing here knows sessions, cookies or requests of a browser.
//!
//! `openidconnect` reads the discovery document and makes the authorization request, `jsonwebtoken` checks
//! signatures. The calls to the token and revocation endpoints are our own: one client authentication for all of
//! them, and answers told apart by their HTTP status, which that crate does not show.

mod access_token;
mod authorization;
mod cached;
mod circuit;
mod claims;
mod client_authentication;
mod grants;
mod http_client;
mod id_token;
mod keys;
mod logout_token;
mod metadata;
mod provider;
mod signature;
mod token_endpoint;
mod token_issuer;

#[cfg(test)]
mod test_support;

pub use access_token::AccessTokenError;
pub use authorization::AuthorizationRequest;
pub use claims::{ClaimError, audiences, unverified_claims};
pub use client_authentication::{AssertionKey, ClientAuthentication, ProofError};
pub use grants::Wanted;
pub use http_client::{HttpClient, TransportError};
pub use id_token::{IdTokenError, LoginExpectation};
pub use logout_token::{LogoutToken, LogoutTokenError, SignsOut};
pub use metadata::ProviderError;
pub use provider::{Provider, ProviderSettings};
pub use signature::{Algorithm, SIGNATURE_ALGORITHMS, SignatureError};
pub use token_endpoint::{TokenError, TokenSet};
pub use token_issuer::{IssuedTokenError, TokenIssuer};
