//! The HTTP door for browsers: login, callback, logout and the current user, on every frontend's host. It reads
//! requests and writes answers; what happens in between is the flows' business.

mod answer;
mod cookies;
mod handlers;
mod request;

use std::sync::Arc;

use axum::Router;

use crate::flow::Flows;

/// The browser listener's service.
pub fn browser(flows: Arc<Flows>) -> Router {
    // One handler for everything: paths are compared exactly, as the gRPC door compares them, and a request without
    // a known host is refused before its path is looked at.
    Router::new().fallback(handlers::serve).with_state(flows)
}
