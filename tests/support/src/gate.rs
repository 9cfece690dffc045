//! A gate in front of Keycloak: what goes through can be seen, held back and cut off, while other tests use the same
//! Keycloak undisturbed.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A forwarder from a port of loopback to another. Dropping it cuts every connection.
pub struct Gate {
    port: u16,
    target: u16,
    passage: Arc<Passage>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

struct Passage {
    held: watch::Sender<bool>,
    /// Counts up when the connections that there are then are to carry nothing more.
    frozen: watch::Sender<u64>,
    waiting: AtomicUsize,
    carried: Mutex<Vec<u8>>,
}

impl Gate {
    /// A gate before `target`, closed: connections to `port` are refused.
    pub fn closed(port: u16, target: u16) -> Self {
        let passage = Passage {
            held: watch::Sender::new(false),
            frozen: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            carried: Mutex::default(),
        };
        Self { port, target, passage: Arc::new(passage), listener: Mutex::default() }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets connections in.
    pub async fn open(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await;
        let listener = listener.unwrap_or_else(|error| panic!("gate, port {}: {error}", self.port));
        let (target, passage) = (self.target, Arc::clone(&self.passage));
        *self.listener.lock() = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(forward(client, target, Arc::clone(&passage)));
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// Cuts every connection and refuses new ones, until it is opened again.
    pub async fn close(&self) {
        let listener = self.listener.lock().take();
        if let Some(listener) = listener {
            listener.abort();
            // The port is free, and every connection gone, when the task has ended.
            let _ = listener.await;
        }
    }

    /// Holds back what clients send, also on connections that exist, until `release`.
    pub fn hold(&self) {
        self.passage.held.send_replace(true);
    }

    /// Freezes the connections that there are, for good: they stay open and carry nothing more in either direction. New
    /// ones pass.
    pub fn freeze(&self) {
        self.passage.frozen.send_modify(|count| *count += 1);
    }

    /// Lets everything through that was held back.
    pub fn release(&self) {
        self.passage.held.send_replace(false);
    }

    /// How many pieces of requests are held back at this moment.
    pub fn waiting(&self) -> usize {
        self.passage.waiting.load(Ordering::SeqCst)
    }

    /// Everything that went through so far, in both directions.
    pub fn carried(&self) -> String {
        String::from_utf8_lossy(&self.passage.carried.lock()).into_owned()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.lock().take() {
            listener.abort();
        }
    }
}

async fn forward(client: TcpStream, target: u16, passage: Arc<Passage>) {
    let mut frozen = passage.frozen.subscribe();
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut copies = std::pin::pin!(async {
        tokio::select! {
            () = copy(from_client, to_server, &passage, true) => {}
            () = copy(from_server, to_client, &passage, false) => {}
        }
    });
    tokio::select! {
        () = &mut copies => {}
        // The sockets stay open until the gate is closed.
        _ = frozen.changed() => std::future::pending().await,
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passage: &Passage, can_be_held: bool) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let piece = &buffer[..length];
        if can_be_held && *passage.held.borrow() {
            passage.waiting.fetch_add(1, Ordering::SeqCst);
            let _ = passage.held.subscribe().wait_for(|held| !held).await;
            passage.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        passage.carried.lock().extend_from_slice(piece);
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
