//! A TCP proxy that breaks things when told to: between a client and Pli, between Pli and its database or
//! its store. Owns the connections it forwards; must never look into them or change a byte.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

const PIECE: usize = 64 << 10;

/// What every connection looks at between two pieces.
#[derive(Clone, Copy)]
struct Orders {
    target: SocketAddr,
    /// Connections of an older generation are cut.
    generation: u64,
    stalled: bool,
    /// Waited before each piece of at most 64 KiB, in each direction.
    delay: Duration,
}

#[derive(Default)]
struct Seen {
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    /// Bytes that may still go up before everything is cut.
    budget: Mutex<Option<u64>>,
}

enum Door {
    Open(oneshot::Sender<io::Result<()>>),
    Shut(oneshot::Sender<()>),
}

/// A running proxy. Dropping it closes the port and every connection.
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    seen: Arc<Seen>,
    door: mpsc::Sender<Door>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`.
    ///
    /// # Errors
    /// The port could not be opened.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (orders, _) =
            watch::channel(Orders { target, generation: 0, stalled: false, delay: Duration::ZERO });
        let seen = Arc::new(Seen::default());
        let (door, commands) = mpsc::channel(1);
        let task = tokio::spawn(serve(listener, address, commands, orders.clone(), Arc::clone(&seen)));
        Ok(Self { address, orders, seen, door, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections go to `target` from now on: the server came back on another port.
    pub fn set_target(&self, target: SocketAddr) {
        self.orders.send_modify(|orders| orders.target = target);
    }

    /// Cuts every connection at once with a reset; new ones are accepted.
    pub fn cut(&self) {
        cut(&self.orders);
    }

    /// Cuts every connection once `bytes` more have gone up (from the client to the target), counted over
    /// all connections, as soon as the last of them was handed on; new ones are accepted.
    pub fn cut_after(&self, bytes: u64) -> CutToCome {
        let orders = self.orders.subscribe();
        let generation = orders.borrow().generation;
        *self.seen.budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
        CutToCome { orders, generation }
    }

    /// Half-open: nothing is forwarded in either direction, nothing is closed, as when a cable is pulled.
    pub fn stall(&self, stalled: bool) {
        self.orders.send_modify(|orders| orders.stalled = stalled);
    }

    /// Waits this long before each piece of at most 64 KiB, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.orders.send_modify(|orders| orders.delay = delay);
    }

    /// Closes the port: new connections are refused by the system, as when nothing runs there. Connections
    /// that stand go on; [`Self::cut`] ends them.
    pub async fn refuse(&self) {
        let (answer, done) = oneshot::channel();
        if self.door.send(Door::Shut(answer)).await.is_ok() {
            // An error means that the proxy is gone, and the port with it.
            done.await.unwrap_or(());
        }
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// Somebody else took it meanwhile.
    pub async fn accept(&self) -> io::Result<()> {
        let (answer, done) = oneshot::channel();
        self.door.send(Door::Open(answer)).await.map_err(io::Error::other)?;
        done.await.map_err(io::Error::other)?
    }

    /// Bytes forwarded so far to the target.
    pub fn up(&self) -> u64 {
        self.seen.up.load(Ordering::SeqCst)
    }

    /// Bytes forwarded so far from the target.
    pub fn down(&self) -> u64 {
        self.seen.down.load(Ordering::SeqCst)
    }

    /// Connections accepted so far, and those that stand.
    pub fn connections(&self) -> (u64, u64) {
        (self.seen.connections.load(Ordering::SeqCst), self.seen.open.load(Ordering::SeqCst))
    }
}

/// A cut that was ordered for later.
pub struct CutToCome {
    orders: watch::Receiver<Orders>,
    generation: u64,
}

impl CutToCome {
    /// Waits until it has happened, or the proxy is gone.
    pub async fn happened(mut self) {
        // An error means that the proxy is gone: nothing stands any more.
        let _ = self.orders.wait_for(|orders| orders.generation != self.generation).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

fn cut(orders: &watch::Sender<Orders>) {
    orders.send_modify(|orders| orders.generation += 1);
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    mut commands: mpsc::Receiver<Door>,
    orders: watch::Sender<Orders>,
    seen: Arc<Seen>,
) {
    let mut listener = Some(listener);
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accepted => if let Ok((near, _)) = accepted {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(forward(near, orders.clone(), Arc::clone(&seen)));
            },
            command = commands.recv() => match command {
                None => return,
                Some(Door::Shut(answer)) => {
                    listener = None;
                    // Nobody waits any more: nothing to tell.
                    answer.send(()).unwrap_or(());
                }
                Some(Door::Open(answer)) => {
                    let opened = if listener.is_some() { Ok(()) } else { open(address).map(|new| listener = Some(new)) };
                    answer.send(opened).unwrap_or(());
                }
            },
        }
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Why a direction ended before the end of its stream.
enum Ended {
    Cut,
    Broken,
}

async fn forward(mut near: TcpStream, orders: watch::Sender<Orders>, seen: Arc<Seen>) {
    seen.open.fetch_add(1, Ordering::SeqCst);
    let watched = orders.subscribe();
    let first = *watched.borrow();
    match TcpStream::connect(first.target).await {
        Err(_) => reset(&near),
        Ok(mut far) => {
            // Small requests must not wait for one another's acknowledgements; a failure only slows.
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ended = {
                let (near_in, near_out) = near.split();
                let (far_in, far_out) = far.split();
                let up = pump(
                    near_in,
                    far_out,
                    watched.clone(),
                    first.generation,
                    &seen.up,
                    Some((&seen, &orders)),
                );
                let down = pump(far_in, near_out, watched, first.generation, &seen.down, None);
                tokio::try_join!(up, down)
            };
            if matches!(ended, Err(Ended::Cut | Ended::Broken)) {
                reset(&near);
                reset(&far);
            }
        }
    }
    seen.open.fetch_sub(1, Ordering::SeqCst);
}

/// The next close sends a reset: the other side learns at once that it was cut.
fn reset(stream: &TcpStream) {
    // A socket that is already dead needs no reset.
    let _ = stream.set_zero_linger();
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut watched: watch::Receiver<Orders>,
    generation: u64,
    counter: &AtomicU64,
    limited: Option<(&Seen, &watch::Sender<Orders>)>,
) -> Result<(), Ended> {
    let mut piece = vec![0; PIECE];
    loop {
        let delay = may_go_on(&mut watched, generation).await?;
        let length = tokio::select! {
            biased;
            changed = watched.changed() => { changed.map_err(|_| Ended::Cut)?; continue }
            length = from.read(&mut piece) => length.map_err(|_| Ended::Broken)?,
        };
        if length == 0 {
            return to.shutdown().await.map_err(|_| Ended::Broken);
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let (allowed, last) = match limited {
            Some((seen, _)) => spend(seen, length),
            None => (length, false),
        };
        let mut sent = 0;
        while sent < allowed {
            may_go_on(&mut watched, generation).await?;
            tokio::select! {
                biased;
                changed = watched.changed() => changed.map_err(|_| Ended::Cut)?,
                wrote = to.write(&piece[sent..allowed]) => {
                    let wrote = wrote.map_err(|_| Ended::Broken)?;
                    counter.fetch_add(wrote as u64, Ordering::SeqCst);
                    sent += wrote;
                }
            }
        }
        if let (true, Some((_, orders))) = (last, limited) {
            cut(orders);
        }
    }
}

/// Returns once forwarding is allowed, with the delay in force; an error when this connection is cut.
async fn may_go_on(watched: &mut watch::Receiver<Orders>, generation: u64) -> Result<Duration, Ended> {
    let orders = watched
        .wait_for(|orders| orders.generation != generation || !orders.stalled)
        .await
        .map_err(|_| Ended::Cut)?;
    if orders.generation == generation { Ok(orders.delay) } else { Err(Ended::Cut) }
}

/// How much of a piece the budget allows, and whether it is the last.
fn spend(seen: &Seen, length: usize) -> (usize, bool) {
    let mut budget = seen.budget.lock().unwrap_or_else(PoisonError::into_inner);
    match *budget {
        None => (length, false),
        Some(left) if left > length as u64 => {
            *budget = Some(left - length as u64);
            (length, false)
        }
        Some(left) => {
            *budget = None;
            (left as usize, true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Ok(address)
    }

    async fn ping(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        if &answer == b"ping" { Ok(()) } else { Err(io::Error::other("not what was sent")) }
    }

    #[tokio::test]
    async fn forwards_and_counts() -> io::Result<()> {
        let proxy = Proxy::start(echo().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        ping(&mut stream).await?;
        stream.shutdown().await?;
        assert_eq!(stream.read(&mut [0; 1]).await?, 0, "the end of the stream goes through");
        assert_eq!((proxy.up(), proxy.down(), proxy.connections().0), (4, 4, 1));
        Ok(())
    }

    #[tokio::test]
    async fn cuts_what_stands_and_lets_new_ones_through() -> io::Result<()> {
        let proxy = Proxy::start(echo().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        ping(&mut stream).await?;
        proxy.cut();
        let cut = stream.read(&mut [0; 1]).await;
        assert_eq!(cut.map_err(|e| e.kind()), Err(io::ErrorKind::ConnectionReset));
        ping(&mut TcpStream::connect(proxy.address()).await?).await
    }

    #[tokio::test]
    async fn cuts_after_exactly_so_many_bytes() -> io::Result<()> {
        let sink = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxy = Proxy::start(sink.local_addr()?).await?;
        let cut = proxy.cut_after(1_000_001);
        let mut stream = TcpStream::connect(proxy.address()).await?;
        let (mut taken, _) = sink.accept().await?;
        let reader = tokio::spawn(async move {
            let (mut piece, mut total) = (vec![0; 1 << 16], 0);
            while let Ok(length @ 1..) = taken.read(&mut piece).await {
                total += length;
            }
            total
        });
        assert!(stream.write_all(&vec![7; 50 << 20]).await.is_err());
        cut.happened().await;
        assert!(reader.await.map_err(io::Error::other)? <= 1_000_001);
        assert_eq!(proxy.up(), 1_000_001);
        Ok(())
    }

    #[tokio::test]
    async fn a_stall_holds_back_without_closing() -> io::Result<()> {
        let proxy = Proxy::start(echo().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        ping(&mut stream).await?;
        proxy.stall(true);
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        // Another connection has its turn meanwhile, and does not get through either.
        let mut other = TcpStream::connect(proxy.address()).await?;
        other.write_all(b"ping").await?;
        assert_eq!((proxy.up(), proxy.down()), (4, 4), "something came through a stall");
        proxy.stall(false);
        other.read_exact(&mut answer).await?;
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"ping");
        Ok(())
    }

    #[tokio::test]
    async fn a_stalled_connection_can_still_be_cut() -> io::Result<()> {
        let proxy = Proxy::start(echo().await?).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        ping(&mut stream).await?;
        proxy.stall(true);
        proxy.cut();
        assert!(stream.read(&mut [0; 1]).await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn refuses_like_a_closed_port_and_opens_again() -> io::Result<()> {
        let proxy = Proxy::start(echo().await?).await?;
        let mut standing = TcpStream::connect(proxy.address()).await?;
        ping(&mut standing).await?;
        proxy.refuse().await;
        let refused = TcpStream::connect(proxy.address()).await.map(|_| ());
        assert_eq!(refused.map_err(|e| e.kind()), Err(io::ErrorKind::ConnectionRefused));
        ping(&mut standing).await?;
        proxy.accept().await?;
        ping(&mut TcpStream::connect(proxy.address()).await?).await
    }

    #[tokio::test]
    async fn follows_its_target() -> io::Result<()> {
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 1))).await?;
        let mut nowhere = TcpStream::connect(proxy.address()).await?;
        assert!(ping(&mut nowhere).await.is_err());
        proxy.set_target(echo().await?);
        ping(&mut TcpStream::connect(proxy.address()).await?).await
    }
}
