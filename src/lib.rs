//! `keycloak-bff`: an external authorizer for Envoy that keeps OAuth tokens away from browsers.
//!
//! The rooms, from the doors down; each may use those below it, never those above:
//!
//! - [`cli`]: the command line.
//! - [`lifecycle`]: start, drain and stop.
//! - [`listen`]: where connections come in.
//! - [`config`]: the configuration file.
//! - [`authz`]: the gRPC door, where Envoy asks about every request.
//! - [`web`]: the HTTP door, which browsers call by name.
//! - [`flow`]: what happens over several requests: login, callback, refresh, logout, the check itself.
//! - [`policy`]: pure decisions on one request.
//! - [`oidc`]: one OpenID provider.
//! - [`model_tokens`]: tokens of other realms for ML services.
//! - [`token_cache`]: tokens that are kept and renewed.
//! - [`session`]: sessions and their store.
//! - [`page`]: the small pages that both doors show to people.
//! - [`telemetry`]: logs and request ids.
//! - [`crypto`]: key ring, seals, randomness.
//! - [`clock`]: the only source of time.

pub mod authz;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod flow;
pub mod lifecycle;
pub mod listen;
pub mod model_tokens;
pub mod oidc;
pub mod page;
pub mod policy;
pub mod session;
pub mod telemetry;
pub mod token_cache;
pub mod web;
