//! Waiting for a condition, with a bound. Tests never sleep for a fixed time.

use std::time::Duration;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it gives something; panics when `limit` has passed.
pub async fn until<T>(what: &str, limit: Duration, probe: impl AsyncFnMut() -> Option<T>) -> T {
    match within(limit, probe).await {
        Some(value) => value,
        None => panic!("waited {limit:?} in vain for {what}"),
    }
}

/// Asks `probe` again and again until it gives something; `None` when `limit` has passed.
pub async fn within<T>(limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether something listens on a loopback port.
pub async fn accepts(port: u16) -> bool {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}
