//! What Envoy protects: an API that answers with what reached it, and the demo's page.

use crate::files;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

type Received = Arc<Mutex<Vec<Value>>>;

/// A running upstream. Dropping it ends it.
pub struct Upstream {
    server: JoinHandle<()>,
    received: Received,
}

impl Upstream {
    /// Listens on a port of loopback.
    pub async fn start(port: u16) -> Self {
        let received = Received::default();
        let app = Router::new().fallback(answer).with_state(received.clone());
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("upstream, port {port}: {error}"));
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the upstream serves until it is aborted");
        });
        Self { server, received }
    }

    /// All requests that reached it, each as `/api/echo` shows it.
    pub fn received(&self) -> Vec<Value> {
        self.received.lock().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(received): State<Received>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let target = request.uri().path_and_query().map_or(path.as_str(), |target| target.as_str());
    let echo = json!({
        "method": request.method().as_str(),
        "path": target,
        "headers": headers(request.headers()),
    });
    received.lock().push(echo.clone());
    match path.as_str() {
        "/" => file("index.html", "text/html; charset=utf-8"),
        "/assets/app.css" => file("app.css", "text/css; charset=utf-8"),
        "/assets/app.js" => file("app.js", "text/javascript; charset=utf-8"),
        // Vary, so that a test sees whether it survives.
        path if path.ends_with("/echo") => {
            ([(header::VARY, "Accept-Encoding")], axum::Json(echo)).into_response()
        }
        _ => (StatusCode::NOT_FOUND, axum::Json(json!({"error": "not_found"}))).into_response(),
    }
}

/// Every header by its name, with all its values. Bytes that are no UTF-8 show as replacement characters.
fn headers(headers: &HeaderMap) -> Value {
    let values = |name| {
        headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let by_name: Map<String, Value> =
        headers.keys().map(|name| (name.to_string(), values(name).collect())).collect();
    Value::Object(by_name)
}

/// Read at every request, so that an edit of the page shows at once.
fn file(name: &str, content_type: &'static str) -> Response {
    match std::fs::read(files::path("www").join(name)) {
        Ok(bytes) => {
            let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")];
            (headers, bytes).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{name}: {error}")).into_response(),
    }
}
