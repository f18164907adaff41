//! A connection that misbehaves: forwards to a real server, and cuts, holds, damages or answers by itself.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to one connection.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Cut once the server has sent so many bytes.
    CutDown(usize),
    /// Cut once the client has sent so many bytes.
    CutUp(usize),
    /// The client's byte at this place arrives changed.
    FlipUp(usize),
    /// Nothing moves once the server has sent so many bytes, but the connection stays.
    StandStill(usize),
    /// This answer instead of the server's, once the head of a request is there.
    Answer(&'static str),
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    plans: Arc<Mutex<VecDeque<Plan>>>,
    held: watch::Sender<bool>,
    accepted: Arc<Mutex<usize>>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plans: Arc<Mutex<VecDeque<Plan>>> = Arc::default();
        let accepted: Arc<Mutex<usize>> = Arc::default();
        let (held, hold) = watch::channel(false);
        let (next, counted) = (plans.clone(), accepted.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                *counted.lock().unwrap() += 1;
                let plan = next.lock().unwrap().pop_front();
                let hold = hold.clone();
                tokio::spawn(async move {
                    let _ = carry(client, server, plan, hold).await;
                });
            }
        });
        Self { address, plans, held, accepted }
    }

    /// The next connections follow these plans, one each; later ones are carried unharmed.
    pub(crate) fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        self.plans.lock().unwrap().extend(plans);
    }

    /// While held, no byte moves on any connection.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// How many connections there were.
    pub(crate) fn accepted(&self) -> usize {
        *self.accepted.lock().unwrap()
    }
}

async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    plan: Option<Plan>,
    hold: watch::Receiver<bool>,
) -> std::io::Result<()> {
    if let Some(Plan::Answer(answer)) = plan {
        let mut head = Vec::new();
        while !head.windows(4).any(|w| w == b"\r\n\r\n") {
            if client.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        client.write_all(answer.as_bytes()).await?;
        client.shutdown().await?;
        // What the client still sends is taken, so that it reads the answer before a reset.
        return tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop);
    }
    let server = TcpStream::connect(server).await?;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let (cut_up, flip) = match plan {
        Some(Plan::CutUp(n)) => (Some(n), None),
        Some(Plan::FlipUp(n)) => (None, Some(n)),
        _ => (None, None),
    };
    let (cut_down, still) = match plan {
        Some(Plan::CutDown(n)) => (Some(n), None),
        Some(Plan::StandStill(n)) => (None, Some(n)),
        _ => (None, None),
    };
    tokio::select! {
        done = one_way(client_in, server_out, cut_up, None, flip, hold.clone()) => done,
        done = one_way(server_in, client_out, cut_down, still, None, hold) => done,
    }
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    cut: Option<usize>,
    still: Option<usize>,
    flip: Option<usize>,
    mut hold: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut moved = 0;
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let _ = hold.wait_for(|held| !held).await;
        let mut piece = buffer.get_mut(..n).unwrap().to_vec();
        if let Some(at) = flip.filter(|at| (moved..moved + n).contains(at)) {
            *piece.get_mut(at - moved).unwrap() ^= 1;
        }
        if let Some(most) = cut.or(still) {
            piece.truncate(most.saturating_sub(moved));
        }
        to.write_all(&piece).await?;
        moved += n;
        if cut.is_some_and(|most| moved >= most) {
            return Ok(());
        }
        if still.is_some_and(|most| moved >= most) {
            std::future::pending::<()>().await;
        }
    }
}
