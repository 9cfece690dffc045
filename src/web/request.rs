use http::{header, request::Parts};

use crate::{crypto::Random, policy::Request, telemetry::RequestId};

/// A borrowed view of an HTTP request; `None` if it does not say unmistakably which host it is for.
pub(super) fn view(parts: &Parts) -> Option<Request<'_>> {
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = parts.headers.get_all(header::HOST).iter();
            let host = hosts.next()?.to_str().ok()?;
            if hosts.next().is_some() {
                return None;
            }
            host
        }
    };
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request { method: parts.method.as_str(), host, target, ..Request::default() };
    for (name, value) in &parts.headers {
        if name == header::COOKIE {
            request.read_cookies(value.as_bytes());
        } else if let Ok(value) = value.to_str() {
            request.read_header(name.as_str(), value);
        }
    }
    Some(request)
}

/// The id of a request that no browser makes.
pub(super) fn request_id(parts: &Parts, random: &dyn Random) -> RequestId {
    RequestId::of(parts.headers.get("x-request-id").and_then(|id| id.to_str().ok()), random)
}

/// The query's parameters in their order, decoded.
pub(super) fn parameters(parts: &Parts) -> Vec<(String, String)> {
    url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The only value of a parameter; one that is repeated counts as not given.
pub(super) fn single<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values =
        parameters.iter().filter(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str());
    let value = values.next()?;
    values.next().is_none().then_some(value)
}
