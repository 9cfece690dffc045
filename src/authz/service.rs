use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tonic::{Request, Response, Status};

use super::{
    api::envoy::service::auth::v3::{CheckRequest, CheckResponse, authorization_server::Authorization},
    reply::{internal_fault, reply},
    request::view,
};
use crate::{
    flow::{Flows, Verdict, log_workload_token},
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
        // One request's panic is that request's 503, not the end of everyone's connection.
        let response = AssertUnwindSafe(self.answer(&check)).catch_unwind().await.unwrap_or_else(|_panic| {
            tracing::error!("a check panicked");
            internal_fault("unknown")
        });
        Ok(Response::new(response))
    }
}

impl AuthorizationService {
    async fn answer(&self, check: &CheckRequest) -> CheckResponse {
        let request = view(check);
        let given_id = request.as_ref().and_then(|request| request.request_id);
        let request_id = RequestId::of(given_id, &*self.flows.random);
        let Some(request) = request else {
            tracing::error!("a check without an HTTP request");
            return internal_fault(request_id.as_str());
        };
        let verdict = self.flows.check(&request).await;
        log(&verdict, &request, &request_id);
        reply(verdict, request_id.as_str())
    }
}

/// One short line for a request that does not pass, none for one that does; one for each model token.
fn log(verdict: &Verdict, request: &crate::policy::Request<'_>, request_id: &RequestId) {
    if let Verdict::Workload(answer) = verdict {
        log_workload_token(request_id.as_str(), answer.workload.as_ref(), answer.outcome.as_ref());
    }
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{
        authz::api::envoy::service::auth::v3::{
            AttributeContext,
            attribute_context::{HttpRequest, Request as HttpAttributes},
            check_response::HttpResponse,
        },
        clock::{Clock, Timestamp},
        flow::test_support::{HOST, ORIGIN, flows, site},
    };

    struct BrokenClock;

    impl Clock for BrokenClock {
        fn now(&self) -> Timestamp {
            panic!("the clock is broken")
        }
    }

    fn check(cookie: &str) -> Request<CheckRequest> {
        let http = HttpRequest {
            method: "GET".to_owned(),
            host: HOST.to_owned(),
            path: "/api".to_owned(),
            headers: HashMap::from([("cookie".to_owned(), cookie.to_owned())]),
            ..HttpRequest::default()
        };
        let request = HttpAttributes { http: Some(http), ..HttpAttributes::default() };
        Request::new(CheckRequest {
            attributes: Some(AttributeContext { request: Some(request), ..Default::default() }),
        })
    }

    async fn status(service: &AuthorizationService, request: Request<CheckRequest>) -> i32 {
        let response = service.check(request).await.unwrap().into_inner();
        assert_ne!(response.status.unwrap().code, 0);
        match response.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_panic_is_that_requests_503() {
        let test = flows(site(ORIGIN), "http://127.0.0.1:9");
        let (_session, cookie) = test.sign_in(&serde_json::json!({}));
        let Ok(mut flows) = Arc::try_unwrap(test.flows) else { panic!("the flows are shared") };
        flows.clock = Arc::new(BrokenClock);
        let service = AuthorizationService::new(Arc::new(flows));
        assert_eq!(status(&service, check(&cookie)).await, 503);
        assert_eq!(status(&service, check("")).await, 401, "the next request is served");
    }

    #[tokio::test]
    async fn a_check_of_nothing_is_503() {
        let service = AuthorizationService::new(flows(site(ORIGIN), "http://127.0.0.1:9").flows);
        assert_eq!(status(&service, Request::new(CheckRequest::default())).await, 503);
    }
}
