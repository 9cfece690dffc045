//! Black-box tests, one file a capability: the program, Envoy, Keycloak and Chromium as they are, reached only from
//! outside. `make test` runs them over one shared Keycloak.

mod backchannel;
mod backchannel_requests;
mod bulkhead;
mod callback;
mod chromium;
mod client_authentication;
mod config;
mod cors;
mod exchange;
mod front_channel;
mod frontends;
mod lifecycle;
mod login;
mod logout;
mod logout_token;
mod mesh;
mod ml_pod;
mod model_tokens;
mod on_behalf;
mod outage;
mod own_endpoints;
mod paths;
mod provider;
mod refresh;
mod replicas;
mod requests;
mod secrets;
mod service_accounts;
mod sessions;
mod step_up;
mod step_up_refused;
mod steps;
mod tabs;
mod token_review;
mod upstream_headers;
