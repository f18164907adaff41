//! One connection, from its first octet to its last.
//!
//! Owns the handshake, the choice between HTTP/1.1 and HTTP/2, the watch over its time limits and
//! its part in a graceful stop. Must never outlive the `now` token, and never let one peer's
//! behaviour touch another's connection.

use std::{net::SocketAddr, pin::pin, sync::Arc};

use hyper::{
    Request,
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    activity::{Activity, Verdict},
    framing::Gate,
    limits::{HARD_FACTOR, Limits, WIRE},
    listen::Shared,
    request::Peer,
};

/// Bytes of a failed handshake's connection that are read and thrown away, so that the peer gets our
/// alert instead of a reset.
const DREGS: usize = 64 * 1024;

/// hyper's buffer for a head, for body pieces and for answers not yet written.
const BUFFER: usize = 128 * 1024;

/// Serves one accepted connection to its end.
pub(crate) async fn run(stream: TcpStream, address: SocketAddr, shared: Arc<Shared>) {
    // Answers are written whole; waiting to fill a segment only delays the last one.
    let _ = stream.set_nodelay(true);
    let wire = BufReader::with_capacity(WIRE, stream);
    let Some(tls) = &shared.tls else {
        let peer = Peer { address, certificates: None };
        return serve(Protocol::Http1, wire, peer, &shared).await;
    };
    let Some(stream) = shake_hands(wire, tls.acceptor(), &shared).await else { return };
    let (_, session) = stream.get_ref();
    let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    let certificates = session.peer_certificates().map(|chain| Arc::new(chain.to_vec()));
    serve(protocol, stream, Peer { address, certificates }, &shared).await;
}

async fn shake_hands(
    wire: BufReader<TcpStream>,
    acceptor: TlsAcceptor,
    shared: &Shared,
) -> Option<TlsStream<BufReader<TcpStream>>> {
    let result = |result: &'static str| {
        metrics::counter!("pli_tls_handshakes_total", "result" => result).increment(1);
    };
    let handshake = timeout(shared.limits.handshake, async {
        // The time spent in this queue counts: a client is never kept longer than the limit says.
        let _turn = shared.handshakes.acquire().await.ok()?;
        Some(acceptor.accept(wire).into_fallible().await)
    });
    let stopped = shared.stop.gentle.cancelled();
    let outcome = tokio::select! {
        outcome = handshake => outcome,
        () = stopped => return None,
    };
    match outcome {
        Ok(Some(Ok(stream))) => {
            result("done");
            Some(stream)
        }
        Ok(Some(Err((error, mut wire)))) => {
            result("failed");
            tracing::debug!(%error, "TLS handshake failed");
            let goodbye = async {
                wire.shutdown().await?;
                let mut dregs = (&mut wire).take(DREGS as u64);
                tokio::io::copy(&mut dregs, &mut tokio::io::sink()).await
            };
            let _ = timeout(shared.limits.handshake, goodbye).await;
            None
        }
        Ok(None) => None,
        Err(_) => {
            result("slow");
            None
        }
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

async fn serve<S>(protocol: Protocol, io: S, peer: Peer, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let service = {
        let front = shared.front.clone();
        let activity = Arc::clone(&activity);
        service_fn(move |request: Request<Incoming>| {
            front.clone().answer(request, peer.clone(), Arc::clone(&activity))
        })
    };
    match protocol {
        Protocol::Http1 => {
            let io = TokioIo::new(Gate::new(io, Arc::clone(&activity)));
            let connection = pin!(http1_rules(&shared.limits).serve_connection(io, service));
            watch(connection, &activity, shared).await;
        }
        Protocol::Http2 => {
            let streams = Streams { end: CancellationToken::new() };
            let _end = streams.end.clone().drop_guard();
            let rules = http2_rules(&shared.limits, streams);
            let connection = pin!(rules.serve_connection(TokioIo::new(io), service));
            watch(connection, &activity, shared).await;
        }
    }
}

fn http1_rules(limits: &Limits) -> http1::Builder {
    let mut rules = http1::Builder::new();
    rules
        .timer(TokioTimer::new())
        // The watch is finer; this stands behind it. hyper counts a connection's idle time as the
        // time its next head takes.
        .header_read_timeout(limits.idle.max(limits.head) * 2)
        .max_headers(limits.head_fields * HARD_FACTOR)
        .max_header_size(limits.head_bytes * HARD_FACTOR)
        .max_buf_size(BUFFER.max(limits.head_bytes * HARD_FACTOR))
        .half_close(false);
    rules
}

fn http2_rules(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut rules = http2::Builder::new(streams);
    rules
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(64 * 1024)
        .max_send_buf_size(BUFFER)
        .max_header_list_size(u32::try_from(limits.head_bytes * HARD_FACTOR).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.resets)
        .max_local_error_reset_streams(limits.resets)
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.head);
    rules
}

/// Runs each HTTP/2 stream as a task that ends with its connection.
#[derive(Clone)]
struct Streams {
    end: CancellationToken,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = self.end.clone();
        tokio::spawn(async move { end.run_until_cancelled_owned(stream).await });
    }
}

/// What both of hyper's connection types can do.
trait Served: Future<Output = hyper::Result<()>> {
    fn say_goodbye(self: std::pin::Pin<&mut Self>);
}

impl<S, V> Served for http1::Connection<S, V>
where
    V: hyper::service::HttpService<Incoming>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
    V::ResBody: http_body::Body + 'static,
    <V::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn say_goodbye(self: std::pin::Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, V, E> Served for http2::Connection<S, V, E>
where
    V: hyper::service::HttpService<Incoming>,
    V::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
    V::ResBody: http_body::Body + 'static,
    <V::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<V::Future, V::ResBody>,
{
    fn say_goodbye(self: std::pin::Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives a connection and judges it from time to time.
async fn watch<C: Served>(mut connection: std::pin::Pin<&mut C>, activity: &Activity, shared: &Shared) {
    let limits = &shared.limits;
    let mut look = interval(limits.watch());
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leaving = false;
    let reason = loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                break "ended";
            }
            () = shared.stop.now.cancelled() => break "stopped",
            () = shared.stop.gentle.cancelled(), if !leaving => {
                leaving = true;
                connection.as_mut().say_goodbye();
            }
            _ = look.tick() => match activity.verdict(limits) {
                Verdict::Fine => {}
                Verdict::SlowHead => break "slow-head",
                Verdict::Stalled => break "stalled",
                Verdict::Idle if !leaving => {
                    leaving = true;
                    connection.as_mut().say_goodbye();
                }
                // The goodbye, and what was still to be written, had its time too.
                Verdict::Idle if activity.quiet().is_some_and(|quiet| quiet > limits.idle + limits.stall) => {
                    break "idle";
                }
                Verdict::Idle => {}
            },
        }
    };
    metrics::counter!("pli_connections_closed_total", "reason" => reason).increment(1);
}
