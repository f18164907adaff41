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
        let open = ::metrics::gauge!("pli_connections", "listener" => name);
        let stop = shared.stop.gentle.clone();

        while let Some((place, (stream, address))) =
            stop.run_until_cancelled(next(name, &socket, &places)).await
        {
            ::metrics::counter!("pli_connections_total", "listener" => name).increment(1);
            let Some(share) = addresses.enter(address.ip(), shared.limits.per_address) else {
                ::metrics::counter!("pli_connections_refused_total", "reason" => "address").increment(1);
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
struct Ended(::metrics::Gauge);

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
                ::metrics::counter!("pli_connections_full_total", "listener" => name).increment(1);
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
                ::metrics::counter!("pli_accept_errors_total", "listener" => name).increment(1);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, one_answer, request, soon, start, until_closed,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn shares_are_given_back() {
        let addresses = Arc::new(Addresses::default());
        let one = IpAddr::from([192, 0, 2, 1]);
        let first = addresses.enter(one, 1).unwrap();
        assert!(addresses.enter(one, 1).is_none());
        assert!(addresses.enter(IpAddr::from([192, 0, 2, 2]), 1).is_some());
        drop(first);
        assert!(addresses.enter(one, 1).is_some());
        assert!(addresses.0.lock().unwrap().is_empty(), "nothing is kept for an address without connections");
        let unlimited: Vec<_> = (0..100).map(|_| addresses.enter(one, 0).unwrap()).collect();
        drop(unlimited);
        assert!(addresses.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_place() {
        let server = start(Limits { per_address: 2, ..Limits::default() }).await;
        let first = server.connect().await;
        let mut second = server.connect().await;
        let mut third = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(until_closed(&mut third).await, "", "closed without a word");
        second.write_all(GET).await.unwrap();
        assert!(one_answer(&mut second).await.contains("200 OK"), "the others go on");
        drop(first);
        // The place is free as soon as the server has seen the end of it.
        soon(async {
            while server.connect_with(crate::testing::client_config(&["http/1.1"])).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    #[tokio::test]
    async fn beyond_the_limit_connections_wait_for_a_place() {
        let server = start(Limits { connections: 2, per_address: 0, ..Limits::default() }).await;
        let mut first = server.connect().await;
        let second = server.connect().await;
        let waiting = server.connect();
        let mut waiting = std::pin::pin!(waiting);
        // With both places taken, a whole exchange on one of them brings the third no further.
        first.write_all(GET).await.unwrap();
        tokio::select! {
            biased;
            _ = waiting.as_mut() => unreachable!("there is no place"),
            answer = one_answer(&mut first) => assert!(answer.contains("200 OK")),
        }
        drop(second);
        let mut third = soon(waiting).await;
        third.write_all(GET).await.unwrap();
        assert!(one_answer(&mut third).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn a_gentle_stop_lets_an_upload_reach_its_end() {
        let mut server = start(Limits::default()).await;
        let mut idle = server.connect().await;
        idle.write_all(GET).await.unwrap();
        one_answer(&mut idle).await;
        let mut busy = server.connect().await;
        busy.write_all(b"PATCH /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            .await
            .unwrap();
        let mut busy2 = server.connect_h2().await;
        busy2.send(HEADERS, END_HEADERS, 1, &request("PATCH", "/upload")).await;
        busy2.send(DATA, 0, 1, b"hello").await;
        soon(server.begun.recv()).await;
        soon(server.begun.recv()).await;

        server.stop.gentle.cancel();
        until_closed(&mut idle).await;
        soon(async {
            // The socket is closed: nobody new.
            while TcpStream::connect(server.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(busy2.next_of(&[GOAWAY]).await.unwrap().code(), 0);
        busy.write_all(b"world").await.unwrap();
        let answer = until_closed(&mut busy).await;
        assert!(answer.contains("200 OK") && answer.to_lowercase().contains("connection: close"), "{answer}");
        busy2.send(DATA, END_STREAM, 1, b"world").await;
        assert_eq!(busy2.next_of(&[HEADERS]).await.unwrap().payload.first(), Some(&0x88), "status 200");
        assert_eq!(soon(server.bodies.recv()).await, Some((10, true)));
        assert_eq!(soon(server.bodies.recv()).await, Some((10, true)));
        while busy2.next().await.is_some() {}
        soon(server.ended).await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_with_transfers_told_to_end_is_quick() {
        let mut server = start(Limits::default()).await;
        let mut busy = server.connect().await;
        busy.write_all(b"PATCH /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            .await
            .unwrap();
        soon(server.begun.recv()).await;
        server.stop.gentle.cancel();
        server.seen.stopping.notify_one();
        assert!(until_closed(&mut busy).await.starts_with("HTTP/1.1 503"));
        assert_eq!(soon(server.bodies.recv()).await, Some((5, false)));
        soon(server.ended).await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_is_not_held_up_by_a_peer_that_is_deaf_to_the_goodbye() {
        let server = start(Limits { idle: Limits::default().idle, ..crate::testing::brief() }).await;
        // Neither settings nor pings are answered, nothing is read and nothing closed.
        let mut deaf = server.connect_h2().await;
        deaf.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/")).await;
        assert!(deaf.next_of(&[HEADERS]).await.is_some());
        server.stop.gentle.cancel();
        soon(server.ended).await.unwrap();
        drop(deaf);
    }

    #[tokio::test]
    async fn a_hard_stop_waits_for_nobody() {
        let mut server = start(Limits::default()).await;
        let mut busy = server.connect().await;
        busy.write_all(b"PATCH /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            .await
            .unwrap();
        let mut busy2 = server.connect_h2().await;
        busy2.send(HEADERS, END_HEADERS, 1, &request("PATCH", "/upload")).await;
        busy2.send(DATA, 0, 1, b"hello").await;
        soon(server.begun.recv()).await;
        soon(server.begun.recv()).await;
        server.stop.gentle.cancel();
        server.stop.now.cancel();
        soon(server.ended).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(busy.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
    }
}
