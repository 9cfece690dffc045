//! Free ports on loopback.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which the system takes the ports of outgoing connections, so that none of those takes a port
/// between its choice here and its use.
const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

/// Test processes that run at once begin at different places.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(101)));

/// A port that nobody listens on and that was not given to another caller of this process.
pub fn free() -> u16 {
    for _ in 0..COUNT {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(port).expect("the range ends below 65536");
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// Whether one could listen on this loopback port.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
