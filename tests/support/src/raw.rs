//! Requests as nobody's browser sends them: the bytes of the request line are the test's own, because every URL
//! library resolves `..` and its like before they reach the wire.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer.
#[derive(Clone, Debug)]
pub struct RawResponse {
    /// The status.
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

impl RawResponse {
    /// The body as JSON; `None` if it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }
}

/// Sends `METHOD TARGET` over HTTP/1.1 to a port of loopback, with these header lines besides `Host`, and reads the
/// answer to its end.
pub async fn request(port: u16, method: &str, target: &str, host: &str, lines: &[&str]) -> RawResponse {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the listener accepts");
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    for line in lines {
        request.push_str(line);
        request.push_str("\r\n");
    }
    if !lines.iter().any(|line| line.to_ascii_lowercase().starts_with("connection:")) {
        request.push_str("Connection: close\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request can be sent");
    let mut answer = Vec::new();
    // A connection that is reset after its answer has been read all the same.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{method} {target}: no HTTP answer: {answer:?}"));
    RawResponse { status, head: head.to_owned(), body: body.to_owned() }
}
