//! Where connections come in: sockets, and TLS on them with certificates that may change at any time. Nothing here knows
//! what is spoken over a connection.

mod socket;
mod tls;
mod tls_settings;

pub use socket::{ListenAddress, Socket};
pub use tls::TlsListener;
pub use tls_settings::{TlsClients, TlsError, TlsSettings};
