//! Looking at what a target answers: a wrong answer is often a cheap one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use keycloak_bff::authz::api::envoy::service::auth::v3::{
    CheckResponse, OkHttpResponse, check_response::HttpResponse,
};
use prost::Message as _;
use serde_json::Value;
use tokio::{net::TcpStream, task::spawn};

use crate::targets::Target;

/// What a target has to answer.
pub enum Expected {
    /// A reply that lets the request through with a token that has this claim, or with none.
    Passes(Option<(&'static str, String)>),
    /// A reply that answers with this status in the upstream's place.
    Refused(i32),
    /// Status 200 and a model token.
    ModelToken,
    /// Status 200 and nothing else.
    Nothing,
}

struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// Sends one request, and panics unless the answer is the expected one.
pub async fn verify(target: &Target) {
    let name = target.name;
    let is_expected = match &target.expected {
        Expected::Passes(claim) => {
            let ok = passed(&check(target).await);
            let authorization = header(&ok, "authorization");
            match claim {
                None => {
                    authorization.is_none() && ok.headers_to_remove.iter().any(|name| name == "authorization")
                }
                Some((claim, value)) => {
                    let claims = authorization.and_then(claims);
                    claims.is_some_and(|claims| claims[claim] == *value)
                }
            }
        }
        Expected::Refused(status) => match check(target).await.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => {
                denied.status.is_some_and(|given| given.code == *status)
            }
            _ => false,
        },
        Expected::ModelToken => {
            let answer = send(target).await;
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            answer.status == 200 && body["access_token"].is_string()
        }
        Expected::Nothing => {
            let answer = send(target).await;
            answer.status == 200 && answer.body.is_empty()
        }
    };
    assert!(is_expected, "{name}: not the expected answer");
}

/// The reply to a Check, after the status of its call was found to be good.
pub async fn check(target: &Target) -> CheckResponse {
    let answer = send(target).await;
    let status = answer.trailers.get("grpc-status").and_then(|status| status.to_str().ok());
    assert_eq!((answer.status.as_u16(), status), (200, Some("0")), "{}", target.name);
    let message = answer.body.get(5..).expect("a message has a prefix");
    CheckResponse::decode(message).expect("the reply is one")
}

/// The text of an answer.
pub async fn body(target: &Target) -> Vec<u8> {
    send(target).await.body
}

async fn send(target: &Target) -> Answer {
    let connection = TcpStream::connect(("127.0.0.1", target.port)).await.expect("the target accepts");
    let (client, connection) = h2::client::handshake(connection).await.expect("the target speaks HTTP/2");
    // It ends with the client.
    spawn(connection);
    let mut client = client.ready().await.expect("a stream can be opened");
    let method = if target.body.is_some() { Method::POST } else { Method::GET };
    let mut request = Request::builder().method(method).uri(target.url());
    for (name, value) in &target.headers {
        request = request.header(*name, value);
    }
    let request = request.body(()).expect("the request is one");
    let (answer, mut body) = client.send_request(request, target.body.is_none()).expect("it can be sent");
    if let Some(file) = &target.body {
        let bytes = std::fs::read(file).expect("the request's body can be read");
        body.send_data(Bytes::from(bytes), true).expect("a body can be sent");
    }
    let (head, mut stream) = answer.await.expect("an answer").into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        body.extend_from_slice(&data.expect("the answer's body"));
    }
    let trailers = stream.trailers().await.expect("the answer's end").unwrap_or_default();
    Answer { status: head.status, body, trailers }
}

fn passed(reply: &CheckResponse) -> OkHttpResponse {
    match &reply.http_response {
        Some(HttpResponse::OkResponse(ok)) => ok.clone(),
        other => panic!("the request does not pass: {other:?}"),
    }
}

fn header<'a>(ok: &'a OkHttpResponse, name: &str) -> Option<&'a str> {
    let headers = ok.headers.iter().filter_map(|option| option.header.as_ref());
    headers.into_iter().find(|header| header.key == name).map(|header| header.value.as_str())
}

fn claims(authorization: &str) -> Option<Value> {
    let claims = URL_SAFE_NO_PAD.decode(authorization.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}
