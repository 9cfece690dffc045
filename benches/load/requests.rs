//! What Envoy asks: Checks of requests as a browser sends them, about one kilobyte each.

use keycloak_bff::authz::api::envoy::{
    config::core::v3::{
        Address, HeaderMap, HeaderValue, SocketAddress, address, socket_address::PortSpecifier,
    },
    service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Peer, Request},
    },
};
use prost::Message as _;

/// A Check as gRPC carries it, of a script's request for this path of the frontend at `host`.
pub fn check(host: &str, path: &str, cookie: Option<&str>) -> Vec<u8> {
    let referer = format!("http://{host}/orders?page=2");
    let mut headers = vec![
        (":authority", host),
        (":path", path),
        (":method", "GET"),
        (":scheme", "http"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
        ("priority", "u=1, i"),
        ("referer", &referer),
        ("sec-ch-ua", "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\", \"Google Chrome\";v=\"140\""),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", "\"Linux\""),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
        ),
        ("x-forwarded-for", "198.51.100.7"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "5b1f3c9e-8d3a-4c0e-9a52-0f6c1f6d2b7e"),
    ];
    headers.extend(cookie.map(|cookie| ("cookie", cookie)));
    let header = |(name, value): (&str, &str)| HeaderValue {
        key: name.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    };
    let http = HttpRequest {
        id: "12345678901234567890".to_owned(),
        method: "GET".to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        scheme: "http".to_owned(),
        protocol: "HTTP/2".to_owned(),
        size: -1,
        header_map: Some(HeaderMap { headers: headers.into_iter().map(header).collect() }),
        ..HttpRequest::default()
    };
    let check = CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer("198.51.100.7", 50_000)),
            destination: Some(peer("192.0.2.10", 8443)),
            request: Some(Request { http: Some(http), ..Request::default() }),
            ..AttributeContext::default()
        }),
    };
    framed(&check.encode_to_vec())
}

/// A message with its prefix: not compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a message is short");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

fn peer(address: &str, port: u32) -> Peer {
    let socket = SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    Peer { address: Some(address), ..Peer::default() }
}
