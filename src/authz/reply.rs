use std::collections::BTreeMap;

use prost_types::{Struct, Value, value};
use secrecy::ExposeSecret;

use super::api::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::HttpStatus,
    },
    google::rpc::Status,
};
use crate::{
    flow::{Allow, MeshAnswer, Refused, UpstreamToken, Verdict, WorkloadRefusal},
    page::{Link, PAGE_POLICY, page},
    policy::{Endpoint, Frontend, Kind, Refusal, Site},
};

/// gRPC status codes (google.rpc.Code).
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Turns a verdict into Envoy's terms. What Envoy does with each field was measured on Envoy 1.40:
///
/// - The status is always set: Envoy lets a request through whose reply has none, and one whose reply has code 0
///   together with a denied response.
/// - `append` is never used, and append actions are spelled out, because their defaults have changed.
/// - A header is never both set and removed: removal comes last and wins. So `Cookie` is rewritten by setting it.
pub(super) fn reply(verdict: Verdict, request_id: &str) -> CheckResponse {
    match verdict {
        Verdict::Allow(allow) => allowed(allow),
        Verdict::Endpoint(site) => ok(
            OkHttpResponse {
                headers_to_remove: site.frontend.identity_headers.spellings().to_vec(),
                ..OkHttpResponse::default()
            },
            metadata(&site.frontend, None),
        ),
        Verdict::Preflight(site, preflight) => {
            denied(code::PERMISSION_DENIED, 204, Some(&site), preflight.headers(), String::new())
        }
        Verdict::Login(site, location) => {
            let headers = vec![("location", location)];
            denied(code::UNAUTHENTICATED, 302, Some(&site), headers, String::new())
        }
        Verdict::Refuse(refused) => refuse(refused, request_id),
        Verdict::Workload(answer) => answer_workload(&answer, request_id),
    }
}

/// The answer to a workload of the mesh. Status 200 too goes out as a denied response: nothing is to pass there.
fn answer_workload(answer: &MeshAnswer, request_id: &str) -> CheckResponse {
    let mut headers = vec![("content-type", "application/json".to_owned())];
    let refusal = match &answer.outcome {
        Ok(given) => {
            return denied(code::PERMISSION_DENIED, 200, None, headers, given.json(None));
        }
        Err(refusal) => refusal,
    };
    let answer = refusal.answer();
    headers.extend(answer.retry_after.map(|seconds| ("retry-after", seconds.to_string())));
    headers.extend(refusal.challenge().map(|challenge| ("www-authenticate", challenge.to_owned())));
    if let WorkloadRefusal::WrongMethod { allowed } = refusal {
        headers.push(("allow", (*allowed).to_owned()));
    }
    denied(code_of(answer.status), answer.status, None, headers, answer.json(request_id, None))
}

fn code_of(status: u16) -> i32 {
    match status {
        401 => code::UNAUTHENTICATED,
        503 => code::UNAVAILABLE,
        _ => code::PERMISSION_DENIED,
    }
}

/// The reply to a fault of our own: never OK, never without a status.
pub(super) fn internal_fault(request_id: &str) -> CheckResponse {
    refuse(Refused { site: None, refusal: Refusal::Internal, kind: Kind::Fetch, cors: None }, request_id)
}

fn allowed(allow: Allow) -> CheckResponse {
    let frontend = &allow.site.frontend;
    let mut headers = Vec::new();
    let mut headers_to_remove;
    match &allow.signed_in {
        Some(signed_in) => {
            let upstream = &signed_in.tokens.upstream;
            headers.reserve(upstream.identity.len() + 2);
            headers_to_remove = upstream.remove.clone();
            let authorization = match &signed_in.token {
                UpstreamToken::User => Some(upstream.authorization.expose_secret()),
                UpstreamToken::Cached(token) => Some(token.authorization()),
                UpstreamToken::None => None,
            };
            match authorization {
                Some(value) => headers.push(set("authorization", value.to_owned())),
                None => headers_to_remove.push("authorization".to_owned()),
            }
            headers.extend(upstream.identity.iter().map(|(name, value)| set(name, value.clone())));
        }
        None => headers_to_remove = frontend.identity_headers.spellings().to_vec(),
    }
    match allow.cookie {
        Some(cookie) if cookie.is_empty() => headers_to_remove.push("cookie".to_owned()),
        Some(cookie) => headers.push(set("cookie", cookie)),
        None => {}
    }
    let mut response_headers_to_add: Vec<HeaderValueOption> = Vec::new();
    if let Some(grant) = &allow.cors {
        response_headers_to_add.extend(grant.headers().into_iter().map(|(name, value)| set(name, value)));
    }
    if frontend.cors.varies() {
        response_headers_to_add.push(add("vary", "Origin".to_owned()));
    }
    let metadata = metadata(frontend, allow.signed_in.as_ref().map(|signed_in| &*signed_in.session));
    ok(
        OkHttpResponse { headers, headers_to_remove, response_headers_to_add, ..OkHttpResponse::default() },
        metadata,
    )
}

fn refuse(refused: Refused, request_id: &str) -> CheckResponse {
    let Refused { site, refusal, kind, cors } = refused;
    let answer = refusal.answer();
    let (login, challenge) = match (&refusal, site.as_deref()) {
        // RFC 9110 section 15.5.2 asks for a challenge. There is no scheme for a session cookie; Bearer is what the
        // upstream behind this is reached with, and browsers show no prompt for it.
        (Refusal::NotSignedIn, Some(site)) => (Some(site.url(Endpoint::Login)), Some("Bearer".to_owned())),
        (Refusal::InsufficientAuthentication(step_up), Some(site)) => {
            (Some(site.login_url(None, step_up)), Some(step_up.challenge()))
        }
        _ => (None, None),
    };
    let mut headers: Vec<(&'static str, String)> = cors.map(|grant| grant.headers()).unwrap_or_default();
    if let Some(seconds) = answer.retry_after {
        headers.push(("retry-after", seconds.to_string()));
    }
    headers.extend(challenge.map(|challenge| ("www-authenticate", challenge)));
    let body = match kind {
        Kind::Navigation => {
            headers.push(("content-type", "text/html; charset=utf-8".to_owned()));
            headers.push(("content-security-policy", PAGE_POLICY.to_owned()));
            let again = login.as_deref().map(|url| Link { url, text: "Sign in" });
            page(answer.message, request_id, again)
        }
        Kind::Fetch => {
            headers.push(("content-type", "application/json".to_owned()));
            answer.json(request_id, login.as_deref())
        }
    };
    denied(code_of(answer.status), answer.status, site.as_deref(), headers, body)
}

fn ok(response: OkHttpResponse, metadata: Struct) -> CheckResponse {
    CheckResponse {
        status: Some(Status { code: code::OK, ..Status::default() }),
        dynamic_metadata: Some(metadata),
        http_response: Some(HttpResponse::OkResponse(response)),
    }
}

fn denied(
    code: i32,
    status: u16,
    site: Option<&Site>,
    headers: Vec<(&'static str, String)>,
    body: String,
) -> CheckResponse {
    let mut headers: Vec<HeaderValueOption> =
        headers.into_iter().map(|(name, value)| set(name, value)).collect();
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.push(set(name, value.to_owned()));
    }
    if site.is_some_and(|site| site.frontend.cors.varies()) {
        headers.push(set("vary", "Origin".to_owned()));
    }
    let status_code = i32::from(status);
    CheckResponse {
        status: Some(Status { code, ..Status::default() }),
        dynamic_metadata: site.map(|site| metadata(&site.frontend, None)),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: status_code }),
            headers,
            body,
        })),
    }
}

/// What other filters of Envoy may build on. `subject` and `session` are there only with a session that was looked
/// up: whoever reads them must take absence for a no.
fn metadata(frontend: &Frontend, session: Option<&crate::session::Session>) -> Struct {
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let mut fields = BTreeMap::from([("frontend".to_owned(), text(&frontend.name))]);
    if let Some(session) = session {
        fields.insert("subject".to_owned(), text(&session.subject));
        fields.insert("session".to_owned(), text(&session.handle));
    }
    Struct { fields }
}

/// A header that takes the place of any other of its name.
fn set(name: &str, value: String) -> HeaderValueOption {
    header(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
}

/// A header that joins others of its name.
fn add(name: &str, value: String) -> HeaderValueOption {
    header(name, value, HeaderAppendAction::AppendIfExistsOrAdd)
}

fn header(name: &str, value: String, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, raw_value: Vec::new() }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
