use super::api::envoy::service::auth::v3::{CheckRequest, attribute_context::HttpRequest};
use crate::policy::Request;

/// A borrowed view of what Envoy asks about; `None` if it is no HTTP request.
///
/// Method, host and path are taken from the attributes, which Envoy fills from the request line. Headers come as a
/// list where Envoy sends them raw (`encode_raw_headers`) and as a map otherwise; the decision is the same.
pub(super) fn view(check: &CheckRequest) -> Option<Request<'_>> {
    let attributes = check.attributes.as_ref()?;
    let http: &HttpRequest = attributes.request.as_ref()?.http.as_ref()?;
    let mut request = Request {
        method: &http.method,
        host: &http.host,
        target: &http.path,
        principal: attributes.source.as_ref().map(|source| source.principal.as_str()),
        ..Request::default()
    };
    match &http.header_map {
        Some(raw) => {
            for header in &raw.headers {
                let value =
                    if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
                if header.key == "cookie" {
                    request.read_cookies(value);
                } else if let Ok(value) = std::str::from_utf8(value) {
                    request.read_header(&header.key, value);
                }
            }
        }
        None => {
            for (name, value) in &http.headers {
                request.read_header(name, value);
            }
        }
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::api::envoy::{
        config::core::v3::{HeaderMap, HeaderValue},
        service::auth::v3::{AttributeContext, attribute_context},
    };

    fn check(http: HttpRequest) -> CheckRequest {
        let request = attribute_context::Request { http: Some(http), ..Default::default() };
        CheckRequest { attributes: Some(AttributeContext { request: Some(request), ..Default::default() }) }
    }

    fn http() -> HttpRequest {
        HttpRequest {
            method: "GET".to_owned(),
            host: "app.example.com".to_owned(),
            path: "/api?x=1".to_owned(),
            scheme: "https".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn raw_and_plain_headers_give_the_same_view() {
        let headers = [("cookie", "a=1"), ("origin", "https://app.example.com"), ("x-csrf", "1")];
        let plain = check(HttpRequest {
            headers: headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ..http()
        });
        let raw = |by_bytes: bool| {
            let header = |&(name, value): &(&str, &str)| HeaderValue {
                key: name.to_owned(),
                value: if by_bytes { String::new() } else { value.to_owned() },
                raw_value: if by_bytes { value.as_bytes().to_vec() } else { Vec::new() },
            };
            let headers = headers.iter().map(header).collect();
            check(HttpRequest { header_map: Some(HeaderMap { headers }), ..http() })
        };
        let expected = format!("{:?}", view(&plain).unwrap());
        assert_eq!(format!("{:?}", view(&raw(true)).unwrap()), expected);
        assert_eq!(format!("{:?}", view(&raw(false)).unwrap()), expected);
        assert_eq!(view(&plain).unwrap().raw_path(), "/api");
    }

    #[test]
    fn what_is_no_http_request_has_no_view() {
        assert!(view(&CheckRequest::default()).is_none());
    }

    #[test]
    fn claims_of_another_host_or_path_are_not_read() {
        let names = [
            "x-forwarded-host",
            "x-forwarded-uri",
            "x-original-url",
            "x-envoy-original-path",
            "x-forwarded-for",
        ];
        let headers = names.iter().map(|&name| (name.to_owned(), "/public".to_owned())).collect();
        let check = check(HttpRequest { headers, ..http() });
        let view = view(&check).unwrap();
        assert_eq!((view.host, view.target), ("app.example.com", "/api?x=1"));
        assert!(!format!("{view:?}").contains("/public"));
    }
}
