use std::sync::Arc;

use super::*;
use crate::policy::{CorsGrant, StepUp, test_support::site};

fn named<'a>(headers: &'a [HeaderValueOption], name: &str) -> Vec<(&'a str, i32)> {
    let fits = |option: &&HeaderValueOption| option.header.as_ref().is_some_and(|header| header.key == name);
    headers
        .iter()
        .filter(fits)
        .map(|option| (option.header.as_ref().unwrap().value.as_str(), option.append_action))
        .collect()
}

fn allow(cookie: Option<&str>, cors: Option<CorsGrant>) -> OkHttpResponse {
    let site = Arc::new(site("https://app.example.com", &["https://admin.example.com"]));
    let allow = Allow { site, signed_in: None, cookie: cookie.map(str::to_owned), cors };
    let response = reply(Verdict::Allow(allow), "id");
    assert_eq!(response.status.unwrap().code, 0);
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("{other:?}"),
    }
}

fn denied_of(response: &CheckResponse) -> &DeniedHttpResponse {
    assert_ne!(response.status.as_ref().unwrap().code, 0, "Envoy would let it through");
    match &response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cookie_is_rewritten_by_setting_it_or_removed_never_both() {
    let ok = allow(Some("a=1"), None);
    assert_eq!(named(&ok.headers, "cookie"), [("a=1", 2)]);
    assert!(!ok.headers_to_remove.iter().any(|name| name == "cookie"));
    let ok = allow(Some(""), None);
    assert!(
        named(&ok.headers, "cookie").is_empty() && ok.headers_to_remove.iter().any(|name| name == "cookie")
    );
    let ok = allow(None, None);
    assert!(
        named(&ok.headers, "cookie").is_empty() && !ok.headers_to_remove.iter().any(|name| name == "cookie")
    );
}

#[test]
fn what_a_client_might_forge_is_removed_from_anonymous_requests() {
    assert!(allow(None, None).headers_to_remove.iter().any(|name| name == "authorization"));
}

#[test]
fn vary_joins_the_upstreams_and_the_rest_takes_its_place() {
    let grant = CorsGrant { origin: "https://admin.example.com".to_owned(), expose_headers: String::new() };
    let ok = allow(None, Some(grant));
    let added = &ok.response_headers_to_add;
    assert_eq!(named(added, "vary"), [("Origin", 0)]);
    assert_eq!(named(added, "access-control-allow-origin"), [("https://admin.example.com", 2)]);
    assert_eq!(named(added, "access-control-allow-credentials"), [("true", 2)]);
    // A cache must know also about answers that grant nothing.
    assert_eq!(named(&allow(None, None).response_headers_to_add, "vary"), [("Origin", 0)]);
}

#[test]
fn every_refusal_has_a_status_that_is_not_ok() {
    let site = Arc::new(site("https://app.example.com", &[]));
    for refusal in [
        Refusal::UnknownHost,
        Refusal::AmbiguousPath,
        Refusal::ForeignOrigin,
        Refusal::MissingCsrfHeader,
        Refusal::NotSignedIn,
        Refusal::InsufficientAuthentication(StepUp::default()),
        Refusal::MissingRole,
        Refusal::AccountDisabled,
        Refusal::Unavailable { retry_after: std::time::Duration::from_secs(7) },
        Refusal::Internal,
    ] {
        for kind in [Kind::Navigation, Kind::Fetch] {
            let refused =
                Refused { site: Some(Arc::clone(&site)), refusal: refusal.clone(), kind, cors: None };
            let response = reply(Verdict::Refuse(refused), "request-7");
            let denied = denied_of(&response);
            assert_eq!(denied.status.as_ref().unwrap().code, i32::from(refusal.answer().status));
            assert!(denied.body.contains("request-7"));
            assert_eq!(named(&denied.headers, "cache-control"), [("no-store", 2)]);
            let retry = named(&denied.headers, "retry-after");
            assert_eq!(!retry.is_empty(), refusal.answer().retry_after.is_some(), "{refusal:?}");
        }
    }
    assert_eq!(denied_of(&internal_fault("id")).status.as_ref().unwrap().code, 503);
}

#[test]
fn a_login_is_a_redirect_and_metadata_names_nobody() {
    let site = Arc::new(site("https://app.example.com", &[]));
    let response = reply(Verdict::Login(site, "https://app.example.com/auth/login".to_owned()), "id");
    let denied = denied_of(&response);
    assert_eq!(denied.status.as_ref().unwrap().code, 302);
    assert_eq!(named(&denied.headers, "location"), [("https://app.example.com/auth/login", 2)]);
    let fields: Vec<&String> = response.dynamic_metadata.as_ref().unwrap().fields.keys().collect();
    assert_eq!(fields, ["frontend"]);
}

#[test]
fn a_script_is_told_how_to_sign_in_and_what_is_missing() {
    let site = Arc::new(site("https://app.example.com", &[]));
    let step_up = StepUp { acr_values: vec!["gold".to_owned()], max_age: None };
    for (refusal, challenge, login_url) in [
        (Refusal::NotSignedIn, "Bearer".to_owned(), "https://app.example.com/auth/login"),
        (
            Refusal::InsufficientAuthentication(step_up.clone()),
            step_up.challenge(),
            "https://app.example.com/auth/login?acr_values=gold",
        ),
    ] {
        let refused = Refused { site: Some(Arc::clone(&site)), refusal, kind: Kind::Fetch, cors: None };
        let response = reply(Verdict::Refuse(refused), "id");
        let denied = denied_of(&response);
        assert_eq!(named(&denied.headers, "www-authenticate"), [(challenge.as_str(), 2)]);
        let body: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
        assert_eq!(body["login_url"], login_url);
    }
}
