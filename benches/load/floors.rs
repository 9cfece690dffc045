//! Servers that decide nothing: what the frameworks themselves cost. Each has one thread, as the program has.

use std::{fs, path::Path};

use axum::{Router, routing::get};
use bytes::Bytes;
use keycloak_bff::authz::api::envoy::service::auth::v3::{
    CheckRequest, CheckResponse,
    authorization_server::{Authorization, AuthorizationServer},
};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// The task of [`grpc`].
pub const GRPC: &str = "grpc-floor";
/// The task of [`http`].
pub const HTTP: &str = "http-floor";

/// Gives everyone the same reply.
struct Constant {
    reply: CheckResponse,
}

#[tonic::async_trait]
impl Authorization for Constant {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        drop(request.into_inner());
        // A reply of the program is made for each request too: of the same headers, each a text of its own.
        Ok(Response::new(self.reply.clone()))
    }
}

/// Serves Envoy's external authorization: decodes each request, and builds and encodes the reply in this file.
pub async fn grpc(port: &str, reply: &Path) {
    let reply = fs::read(reply).expect("the reply can be read");
    let reply = CheckResponse::decode(&*reply).expect("the reply is one");
    let incoming = TcpIncoming::from(listen(port).await).with_nodelay(Some(true));
    let service = AuthorizationServer::new(Constant { reply });
    let served = Server::builder().add_service(service).serve_with_incoming(incoming).await;
    served.expect("the floor serves until it is killed");
}

/// Where [`http`] answers with what is in its file.
pub const ANSWER: &str = "/answer";

/// Serves HTTP with a handler that does nothing, and at [`ANSWER`] with one that gives everyone the text in this file.
pub async fn http(port: &str, answer: &Path) {
    let answer = Bytes::from(fs::read(answer).expect("the answer can be read"));
    let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
    let service = Router::new().route(ANSWER, get(async move || (headers, answer)));
    let service = service.fallback(async || ());
    axum::serve(listen(port).await, service).await.expect("the floor serves until it is killed");
}

async fn listen(port: &str) -> TcpListener {
    let port: u16 = port.parse().expect("a port is a number");
    TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free")
}
