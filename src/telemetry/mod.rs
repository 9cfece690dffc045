//! Logs, and the id by which a request is found in them.

mod logs;
mod request_id;

pub use logs::{LogFormat, LogLevelError, LogSettings, init, parse_levels};
pub use request_id::RequestId;
