use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tonic::{Request, Response, Status};

use super::{
    api::envoy::service::auth::v3::{CheckRequest, CheckResponse, authorization_server::Authorization},
    reply::{internal_fault, reply},
    request::view,
};
use crate::{
    flow::{Flows, Verdict},
    telemetry::RequestId,
};

/// Envoy's `envoy.service.auth.v3.Authorization`.
///
/// Every outcome is a reply with a status. A gRPC error would leave the answer to Envoy's `status_on_error` and
/// `failure_mode_allow`, and the second may be set to let everything through.
pub struct AuthorizationService {
    flows: Arc<Flows>,
}

impl AuthorizationService {
    /// The service over `flows`.
    pub fn new(flows: Arc<Flows>) -> Self {
        Self { flows }
    }
}

#[tonic::async_trait]
impl Authorization for AuthorizationService {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let check = request.into_inner();
        let request = view(&check);
        let request_id =
            RequestId::of(request.as_ref().and_then(|request| request.request_id), &*self.flows.random);
        let Some(request) = request else {
            tracing::error!("a check without an HTTP request");
            return Ok(Response::new(internal_fault(request_id.as_str())));
        };
        // One request's panic is that request's 503, not the end of everyone's connection.
        let response = match AssertUnwindSafe(self.flows.check(&request)).catch_unwind().await {
            Ok(verdict) => {
                log_refusal(&verdict, &request, &request_id);
                reply(verdict, request_id.as_str())
            }
            Err(_panic) => {
                tracing::error!(request_id = request_id.as_str(), "a check panicked");
                internal_fault(request_id.as_str())
            }
        };
        Ok(Response::new(response))
    }
}

/// One short line for a request that does not pass, none for one that does.
fn log_refusal(verdict: &Verdict, request: &crate::policy::Request<'_>, request_id: &RequestId) {
    if let Verdict::Refuse(refused) = verdict {
        let answer = refused.refusal.answer();
        let frontend = refused.site.as_ref().map_or("", |site| &site.frontend.name);
        tracing::info!(
            request_id = request_id.as_str(),
            frontend,
            method = request.method,
            path = request.raw_path(),
            status = answer.status,
            reason = answer.code,
            "refused"
        );
    }
}
