//! The accept loop of a listener and its end.
//!
//! Owns the counts of connections, in all and by address, and the order of a graceful stop. Must
//! never wait for a client: whatever a client can delay happens in its connection's own task.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{connection, limits::Limits, request::Front, tls::Tls};

/// The two degrees of stopping.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// No new connections; those that are open finish what they are doing and say goodbye.
    pub(crate) gentle: CancellationToken,
    /// Everything ends at once.
    pub(crate) now: CancellationToken,
}

/// What all connections of a listener share.
pub(crate) struct Shared {
    pub(crate) front: Front,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) handshakes: Semaphore,
    pub(crate) stop: Stop,
}

/// A listener that runs until its `Stop` says so.
pub(crate) struct Listener {
    name: &'static str,
    socket: TcpListener,
    shared: Arc<Shared>,
}

impl Listener {
    /// `name` is the label of this listener in metrics and logs.
    pub(crate) fn new(
        name: &'static str,
        socket: TcpListener,
        front: Front,
        tls: Option<Arc<Tls>>,
        limits: Arc<Limits>,
        stop: Stop,
    ) -> Self {
        let handshakes = Semaphore::new(limits.handshakes);
        Self { name, socket, shared: Arc::new(Shared { front, tls, limits, handshakes, stop }) }
    }

    /// Accepts until told to stop, closes the socket, and returns when the last connection ended.
    pub(crate) async fn run(self) {
        let Self { name, socket, shared } = self;
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(shared.limits.connections));
        let addresses = Arc::new(Addresses::default());
        let open = metrics::gauge!("pli_connections", "listener" => name);
        let stop = shared.stop.gentle.clone();

        while let Some((place, (stream, address))) =
            stop.run_until_cancelled(next(name, &socket, &places)).await
        {
            metrics::counter!("pli_connections_total", "listener" => name).increment(1);
            let Some(share) = addresses.enter(address.ip(), shared.limits.per_address) else {
                metrics::counter!("pli_connections_refused_total", "reason" => "address").increment(1);
                // Dropped here: a clear close, and no task, no handshake, no memory for it.
                continue;
            };
            let shared = Arc::clone(&shared);
            let open = open.clone();
            connections.spawn(async move {
                open.increment(1.0);
                let ended = Ended(open);
                connection::run(stream, address, shared).await;
                drop((ended, share, place));
            });
        }
        drop(socket);
        connections.close();
        connections.wait().await;
    }
}

/// Counts a connection out even when its task panics.
struct Ended(metrics::Gauge);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The next connection, once there is a place for it. Connections beyond the limit wait in the
/// kernel's queue rather than being refused: under a peak that is a delay, not an error.
async fn next(
    name: &'static str,
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> (tokio::sync::OwnedSemaphorePermit, (TcpStream, SocketAddr)) {
    let mut pause = FIRST_PAUSE;
    loop {
        let place = match Arc::clone(places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                metrics::counter!("pli_connections_full_total", "listener" => name).increment(1);
                tracing::warn!(listener = name, "all connections are taken; new ones wait");
                match Arc::clone(places).acquire_owned().await {
                    Ok(place) => place,
                    // Never closed: nobody holds it but this loop.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        match socket.accept().await {
            Ok(accepted) => return (place, accepted),
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                // Mostly EMFILE or ENFILE: it does not pass by trying again at once.
                metrics::counter!("pli_accept_errors_total", "listener" => name).increment(1);
                tracing::error!(listener = name, %error, milliseconds = pause.as_millis(), "cannot accept; pausing");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Errors of a connection that ended before it was accepted.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<HashMap<Source, usize>>);

/// What counts as one address: an IPv6 client commonly holds a whole /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// One connection's share of its address's count.
struct Share {
    addresses: Arc<Addresses>,
    source: Source,
}

impl Addresses {
    fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Share> {
        let source = Source::of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if most != 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(Share { addresses: Arc::clone(self), source })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}
