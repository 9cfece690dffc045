use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{TlsError, TlsSettings};

/// How long a client may take to introduce itself.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How many clients may introduce themselves at once.
const HANDSHAKES: usize = 256;

/// How long to wait after the system refused a connection, for example because no more files may be open.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections over TLS. A client that is slow to introduce itself, or fails to, holds nobody else up.
pub struct TlsListener {
    ready: mpsc::Receiver<TlsStream<TcpStream>>,
    address: SocketAddr,
    accepting: AbortHandle,
}

impl TlsListener {
    /// Speaks TLS on the connections of `listener`.
    ///
    /// # Errors
    /// [`TlsError`] when what is in the files cannot be used.
    pub fn new(listener: TcpListener, settings: TlsSettings) -> Result<Self, TlsError> {
        let address = listener.local_addr().map_err(|error| TlsError::Unusable(error.to_string()))?;
        let certificates = Certificates::load(settings)?;
        let (sender, ready) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, certificates, sender)).abort_handle();
        Ok(Self { ready, address, accepting })
    }

    /// The next connection; `None` when there are no more.
    pub async fn next(&mut self) -> Option<TlsStream<TcpStream>> {
        self.ready.recv().await
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.next().await {
            Some(stream) => (stream, self.address),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    mut certificates: Certificates,
    ready: mpsc::Sender<TlsStream<TcpStream>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(turn) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let acceptor = TlsAcceptor::from(certificates.current());
        let ready = ready.clone();
        tokio::spawn(async move {
            let _turn = turn;
            match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send(stream).await),
                Ok(Err(error)) => tracing::info!(%error, "a client did not get through the TLS handshake"),
                Err(_) => tracing::info!("a client was too slow for the TLS handshake"),
            }
        });
    }
}

/// The certificates in use, read again when their files have changed.
struct Certificates {
    settings: TlsSettings,
    current: Arc<ServerConfig>,
    seen: Vec<Option<SystemTime>>,
}

impl Certificates {
    fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        // Looked at before they are read: a change in between is seen the next time.
        let seen = modified(&settings);
        Ok(Self { current: Arc::new(settings.load()?), settings, seen })
    }

    /// A file that cannot be used changes nothing: what was read before stays in use.
    fn current(&mut self) -> Arc<ServerConfig> {
        let seen = modified(&self.settings);
        if seen != self.seen {
            self.seen = seen;
            match self.settings.load() {
                Ok(config) => {
                    self.current = Arc::new(config);
                    tracing::info!(certificate = %self.settings.certificate.display(), "certificates read again");
                }
                Err(error) => {
                    tracing::error!(%error, "the new certificates cannot be used, the old ones stay")
                }
            }
        }
        Arc::clone(&self.current)
    }
}

fn modified(settings: &TlsSettings) -> Vec<Option<SystemTime>> {
    settings
        .files()
        .map(|file| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok())
        .collect()
}
