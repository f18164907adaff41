//! One connection, from its first octet to its last.
//!
//! Owns the handshake, the choice between HTTP/1.1 and HTTP/2, the watch over its time limits and
//! its part in a graceful stop. Must never outlive the `now` token, and never let one peer's
//! behaviour touch another's connection.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Instant};

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
        ::metrics::counter!("pli_tls_handshakes_total", "result" => result).increment(1);
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
            let io = TokioIo::new(Gate::new(io, Arc::clone(&activity), shared.limits.head));
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
    let mut leaving: Option<Instant> = None;
    let reason = loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                break "ended";
            }
            () = shared.stop.now.cancelled() => break "stopped",
            () = shared.stop.gentle.cancelled(), if leaving.is_none() => {
                leaving = Some(Instant::now());
                connection.as_mut().say_goodbye();
            }
            _ = look.tick() => match activity.verdict(limits) {
                Verdict::SlowHead => break "slow-head",
                Verdict::Stalled => break "stalled",
                Verdict::Idle if leaving.is_none() => {
                    leaving = Some(Instant::now());
                    connection.as_mut().say_goodbye();
                }
                Verdict::Idle | Verdict::Fine => {
                    // The goodbye, and what was still to be written, had its time. A peer that does
                    // not answer it holds up nothing.
                    let waited = leaving.is_some_and(|since| since.elapsed() > limits.head);
                    if waited && activity.quiet().is_some_and(|quiet| quiet > limits.head) {
                        break "deaf";
                    }
                }
            },
        }
    };
    ::metrics::counter!("pli_connections_closed_total", "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, H2, HEADERS, RST_STREAM, Running, brief, field,
        frame, one_answer, request, soon, start, until_closed,
    };

    const HEAD: &str = "HTTP/1.1\r\nHost: localhost\r\n";

    #[tokio::test]
    async fn requests_follow_each_other_on_one_connection() {
        let server = start(Limits::default()).await;
        let mut stream = server.connect().await;
        for _ in 0..3 {
            stream
                .write_all(format!("POST /echo {HEAD}Content-Length: 5\r\n\r\nhello").as_bytes())
                .await
                .unwrap();
            assert!(one_answer(&mut stream).await.ends_with("hello"));
            stream
                .write_all(
                    format!("POST /echo {HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
                        .as_bytes(),
                )
                .await
                .unwrap();
            assert!(one_answer(&mut stream).await.ends_with("hello"));
        }
        // Pipelined, as a reader of the RFC may.
        let two = format!("POST /echo {HEAD}Content-Length: 1\r\n\r\nxGET / {HEAD}Connection: close\r\n\r\n");
        stream.write_all(two.as_bytes()).await.unwrap();
        assert_eq!(until_closed(&mut stream).await.matches("200 OK").count(), 2);
        assert_eq!(server.seen.requests(), 8);
    }

    #[tokio::test]
    async fn nothing_behind_an_ambiguous_message_is_taken_for_a_request() {
        let smuggled = format!("GET /smuggled {HEAD}\r\n");
        let length = smuggled.len();
        let five = "5\r\nhello\r\n0\r\n\r\n";
        // Each is a head, and what one reader or another takes for its body.
        let cases = [
            (
                "both, length first",
                format!(
                    "POST /echo {HEAD}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                    5 + length
                ),
            ),
            (
                "both, coding first",
                format!("POST /echo {HEAD}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{five}"),
            ),
            (
                "two lengths",
                format!("POST /echo {HEAD}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n"),
            ),
            ("a list of lengths", format!("POST /echo {HEAD}Content-Length: 0, {length}\r\n\r\n")),
            ("a signed length", format!("POST /echo {HEAD}Content-Length: +0\r\n\r\n")),
            ("a space before the colon", format!("POST /echo {HEAD}Content-Length : {length}\r\n\r\n")),
            ("a folded line", format!("POST /echo {HEAD}X: a\r\n Content-Length: {length}\r\n\r\n")),
            ("a bare CR", format!("POST /echo {HEAD}X: a\rContent-Length: {length}\r\n\r\n")),
            ("a bare LF", format!("POST /echo {HEAD}X: a\nContent-Length: {length}\r\n\r\n")),
            ("a bare LF that ends the head", format!("POST /echo {HEAD}Content-Length: {length}\r\n\n")),
            (
                "chunked, identity",
                format!("POST /echo {HEAD}Transfer-Encoding: chunked, identity\r\n\r\n{five}"),
            ),
            ("identity", format!("POST /echo {HEAD}Transfer-Encoding: identity\r\n\r\n")),
            ("xchunked", format!("POST /echo {HEAD}Transfer-Encoding: xchunked\r\n\r\n{five}")),
            ("a vertical tab", format!("POST /echo {HEAD}Transfer-Encoding:\x0bchunked\r\n\r\n{five}")),
            (
                "chunked in HTTP/1.0",
                format!("POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{five}"),
            ),
            (
                "a chunk size that overflows",
                format!(
                    "POST /echo {HEAD}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n0\r\n\r\n"
                ),
            ),
            (
                "a chunk size with a sign",
                format!("POST /echo {HEAD}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n"),
            ),
            (
                "a chunk size ended by LF",
                format!("POST /echo {HEAD}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
            ),
            (
                "a chunk longer than it says",
                format!("POST /echo {HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n"),
            ),
            (
                "a length in the trailers",
                format!(
                    "POST /echo {HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: {length}\r\n\r\n"
                ),
            ),
            ("NUL in a field", format!("POST /echo {HEAD}X: a\0b\r\n\r\n")),
            ("a space in the target", format!("POST /echo /x {HEAD}\r\n")),
        ];
        for (name, message) in cases {
            let server = start(Limits::default()).await;
            let answer = server.talk(format!("{message}{smuggled}").as_bytes()).await;
            assert_eq!(server.seen.smuggled(), 0, "{name}: {answer}");
            assert!(!answer.contains("200 OK"), "{name}: {answer}");
            assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        }
    }

    #[tokio::test]
    async fn an_ambiguous_message_behind_a_good_one_is_refused_in_its_turn() {
        let server = start(Limits::default()).await;
        let answer = server
            .talk(
                format!("GET / {HEAD}\r\nPOST /echo {HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled {HEAD}\r\n")
                    .as_bytes(),
            )
            .await;
        let statuses: Vec<_> = answer.match_indices("HTTP/1.1").map(|(at, _)| &answer[at..at + 12]).collect();
        assert_eq!(statuses, ["HTTP/1.1 200", "HTTP/1.1 400"]);
        assert_eq!(server.seen.smuggled(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_comes_before_the_end_of_a_body_reaches_its_client() {
        let server = start(Limits::default()).await;
        for refused in ["PATCH /", "PATCH /nowhere", "TRACE /"] {
            let mut stream = server.connect().await;
            let size = 8 << 20;
            stream
                .write_all(format!("{refused} {HEAD}Content-Length: {size}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            // As clients do that look at the answer only when they have sent everything.
            stream.write_all(&vec![b'x'; size]).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = Vec::new();
            soon(stream.read_to_end(&mut answer)).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 40"), "{refused}: {}", answer.escape_ascii());
        }
    }

    #[tokio::test]
    async fn header_bombs_are_refused() {
        let limits = Limits { head_bytes: 4096, head_fields: 50, target_bytes: 512, ..Limits::default() };
        let many = |count: usize| (0..count).map(|n| format!("X-{n}: a\r\n")).collect::<String>();
        let long = |length: usize| format!("X: {}\r\n", "a".repeat(length));
        for (name, fields, status) in [
            ("a few too many", many(60), "431"),
            ("many times too many", many(5000), "431"),
            ("a little too long", long(4096), "431"),
            ("far too long", long(100_000), "431"),
            ("longer than any buffer", long(4_000_000), "431"),
        ] {
            let server = start(limits.clone()).await;
            let answer = server.ask("GET /", &fields).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer}");
            assert_eq!(server.seen.requests(), 0, "{name}");
            assert!(server.ask("GET /", "").await.contains("200 OK"), "{name}: the next one is served");
        }
        let server = start(limits).await;
        let answer = server.ask(&format!("GET /{}", "a".repeat(600)), "").await;
        assert!(answer.starts_with("HTTP/1.1 414") && answer.contains("\"status\":414"), "{answer}");
        let answer = server.ask(&format!("GET /{}", "a".repeat(70_000)), "").await;
        assert!(answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert_eq!(server.seen.requests(), 0);
    }

    #[tokio::test]
    async fn a_head_that_comes_octet_by_octet_is_ended() {
        let server = start(brief()).await;
        let mut stream = server.connect().await;
        let (mut read, mut write) = tokio::io::split(&mut stream);
        // Never silent, never done.
        let drip = async {
            let _ = write.write_all(format!("GET / {HEAD}X: ").as_bytes()).await;
            while write.write_all(b"a").await.is_ok() && write.flush().await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = until_closed(&mut read) => assert!(!answer.contains("200 OK"), "{answer}"),
            () = drip => {}
        }
        assert_eq!(server.seen.requests(), 0);
    }

    #[tokio::test]
    async fn a_connection_without_a_request_is_ended() {
        let server = start(brief()).await;
        let mut fresh = server.connect().await;
        let mut used = server.connect().await;
        used.write_all(format!("GET / {HEAD}\r\n").as_bytes()).await.unwrap();
        one_answer(&mut used).await;
        until_closed(&mut fresh).await;
        until_closed(&mut used).await;
        let mut h2 = server.connect_h2().await;
        h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/")).await;
        assert_eq!(h2.next_of(&[GOAWAY]).await.map(|f| f.code()), Some(0), "with a goodbye");
        while h2.next().await.is_some() {}
    }

    #[tokio::test]
    async fn a_body_that_stands_still_is_a_cut_for_its_handler() {
        let mut server = start(brief()).await;
        let mut stream = server.connect().await;
        let head = format!("PATCH /upload {HEAD}Content-Length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 5000]).await.unwrap();
        assert_eq!(soon(server.bodies.recv()).await, Some((5000, false)));
        assert!(until_closed(&mut stream).await.contains(" 408 "));

        let mut h2 = server.connect_h2().await;
        h2.send(HEADERS, END_HEADERS, 1, &request("PATCH", "/upload")).await;
        h2.send(DATA, 0, 1, &[b'x'; 5000]).await;
        assert_eq!(soon(server.bodies.recv()).await, Some((5000, false)));
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_a_cut_and_one_that_flows_is_not() {
        let mut server = start(Limits { body_progress: 100, ..brief() }).await;
        let mut stream = server.connect().await;
        let head = format!("PATCH /upload {HEAD}Content-Length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let drip = async {
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        let (bytes, whole) = soon(async {
            tokio::select! {
                body = server.bodies.recv() => body.unwrap(),
                () = drip => unreachable!(),
            }
        })
        .await;
        assert!(!whole && bytes < 1000, "{bytes} bytes, an octet at a time");

        // As slow, but each stretch brings what it must: no limit on the whole.
        let mut stream = server.connect().await;
        let head = format!("PATCH /upload {HEAD}Content-Length: 4000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..40 {
            stream.write_all(&[b'x'; 100]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(soon(server.bodies.recv()).await, Some((4000, true)));
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_is_let_go() {
        let server = start(Limits { idle: Limits::default().idle, ..brief() }).await;
        // Asks for an endless answer and reads nothing of it, so that nothing but the limit ends it.
        let mut stream = server.connect().await;
        stream.write_all(format!("GET /endless {HEAD}\r\n").as_bytes()).await.unwrap();
        let mut h2 = server.connect_h2().await;
        h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/endless")).await;
        soon(async {
            // A stopped listener ends when its last connection has.
            while server.seen.requests() < 2 {
                tokio::task::yield_now().await;
            }
            server.stop.gentle.cancel();
            server.ended.await.unwrap();
        })
        .await;
        drop((stream, h2));
    }

    async fn refused(server: &Running, mut h2: H2, name: &str) {
        let seen = h2.next_of(&[RST_STREAM, GOAWAY, HEADERS]).await;
        match seen {
            None => {}
            Some(seen) if seen.kind == HEADERS => {
                // 400 from the static table of RFC 7541, or 431 as a literal in Huffman's code.
                let block = &seen.payload;
                assert!(
                    block[0] == 0x8c || block[1..].starts_with(&[0x83, 0x69, 0x90, 0xff]),
                    "{name}: {seen:?}"
                );
            }
            Some(seen) => assert_ne!(seen.code(), 0, "{name}: {seen:?}"),
        }
        assert_eq!(server.seen.requests(), 0, "{name}");
    }

    #[tokio::test]
    async fn http2_with_fields_of_a_connection_is_refused() {
        let bad: [(&str, Vec<u8>); 8] = [
            ("connection", [request("POST", "/echo"), field("connection", "keep-alive")].concat()),
            ("transfer-encoding", [request("POST", "/echo"), field("transfer-encoding", "chunked")].concat()),
            ("upgrade", [request("POST", "/echo"), field("upgrade", "h2c")].concat()),
            ("te", [request("POST", "/echo"), field("te", "chunked")].concat()),
            ("upper case", [request("POST", "/echo"), field("X-Upper", "a")].concat()),
            (
                "CRLF in a value",
                [request("POST", "/echo"), field("x", "a\r\ntransfer-encoding: chunked")].concat(),
            ),
            ("a pseudo-field twice", [request("POST", "/echo"), field(":path", "/smuggled")].concat()),
            (
                "a host beside another authority",
                [request("POST", "/echo"), field("host", "elsewhere")].concat(),
            ),
        ];
        for (name, block) in bad {
            let server = start(Limits::default()).await;
            let mut h2 = server.connect_h2().await;
            h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
            refused(&server, h2, name).await;
        }
    }

    #[tokio::test]
    async fn http2_bodies_have_the_length_they_say() {
        for (name, data) in [("longer", &b"hello world"[..]), ("shorter", b"he")] {
            let mut server = start(Limits::default()).await;
            let mut h2 = server.connect_h2().await;
            let block = [request("PATCH", "/upload"), field("content-length", "5")].concat();
            h2.send(HEADERS, END_HEADERS, 1, &block).await;
            h2.send(DATA, END_STREAM, 1, data).await;
            let seen = h2.next_of(&[RST_STREAM, GOAWAY, HEADERS]).await;
            assert!(
                seen.is_none_or(|seen| seen.kind != HEADERS || seen.payload.first() != Some(&0x88)),
                "{name}"
            );
            // Where the handler had begun, it saw a cut.
            if let Ok((_, whole)) = server.bodies.try_recv() {
                assert!(!whole, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn http2_header_bombs_are_refused() {
        let limits = Limits { head_bytes: 4096, ..Limits::default() };
        let server = start(limits.clone()).await;
        let mut h2 = server.connect_h2().await;
        let block = [request("GET", "/"), field("x", &"a".repeat(12_000))].concat();
        h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        refused(&server, h2, "a long field").await;

        // One entry of the dynamic table, named again and again: small on the wire, large when read.
        let server = start(limits.clone()).await;
        let mut h2 = server.connect_h2().await;
        let mut entry = field("x", &"a".repeat(3000));
        entry[0] = 0x40;
        let block = [request("GET", "/"), entry, vec![0xbe; 4000]].concat();
        h2.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        refused(&server, h2, "a table entry repeated").await;

        // A head that never ends.
        let server = start(limits).await;
        let mut h2 = server.connect_h2().await;
        let mut flood = frame(HEADERS, END_STREAM, 1, &request("GET", "/"));
        for n in 0..10_000 {
            flood.extend(frame(CONTINUATION, 0, 1, &field("x", &n.to_string())));
        }
        let _ = h2.stream.write_all(&flood).await;
        refused(&server, h2, "a flood of continuations").await;
    }

    #[tokio::test]
    async fn http2_rapid_resets_end_the_connection() {
        let server = start(Limits::default()).await;
        let mut h2 = server.connect_h2().await;
        let mut flood = Vec::new();
        for n in 0..10_000_u32 {
            let stream = 2 * n + 1;
            flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/endless")));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        let _ = h2.stream.write_all(&flood).await;
        let goodbye = h2.next_of(&[GOAWAY]).await;
        const ENHANCE_YOUR_CALM: u32 = 11;
        assert!(goodbye.is_none_or(|frame| frame.code() == ENHANCE_YOUR_CALM));
        until_closed(&mut h2.stream).await;
        assert!(server.seen.requests() < 5000, "{} of 10000 were begun", server.seen.requests());
        assert!(server.ask("GET /", "").await.contains("200 OK"));
    }

    #[tokio::test]
    async fn http2_streams_are_limited() {
        let server = start(Limits { streams: 3, ..Limits::default() }).await;
        let mut h2 = server.connect_h2().await;
        let mut all = Vec::new();
        for stream in [1, 3, 5, 7] {
            all.extend(frame(HEADERS, END_HEADERS, stream, &request("PATCH", "/upload")));
        }
        h2.stream.write_all(&all).await.unwrap();
        let refusal = h2.next_of(&[RST_STREAM]).await.unwrap();
        const REFUSED_STREAM: u32 = 7;
        assert_eq!((refusal.stream, refusal.code()), (7, REFUSED_STREAM));
    }

    #[tokio::test]
    async fn a_large_body_passes_whole_by_both_protocols() {
        let mut server = start(Limits::default()).await;
        let size = 8 << 20;
        let mut stream = server.connect().await;
        let head = format!("PATCH /upload {HEAD}Content-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; size]).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(soon(server.bodies.recv()).await, Some((size, true)));
        assert!(one_answer(&mut stream).await.ends_with(&size.to_string()));
    }
}
