//! The HTTP doors, for browsers and for workloads. For browsers: login, callback, logout, the current user and their sessions, on every frontend's host,
//! and for what the provider says behind the browser's back. It reads
//! requests and writes answers; what happens in between is the flows' business.

mod answer;
mod backchannel;
mod cookies;
mod form;
mod handlers;
mod internal;
mod request;
mod sessions;

use std::sync::Arc;

use axum::Router;

use crate::flow::Flows;

/// The internal listener's service: what workloads call by name. No browser gets there.
pub fn internal(flows: Arc<Flows>) -> Router {
    Router::new().fallback(internal::serve).with_state(flows)
}

/// The browser listener's service.
pub fn browser(flows: Arc<Flows>) -> Router {
    // One handler for everything: paths are compared exactly, as the gRPC door compares them, and a request without
    // a known host is refused before its path is looked at.
    Router::new().fallback(handlers::serve).with_state(flows)
}
