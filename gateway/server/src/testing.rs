//! A listener of the real kind over a small router, and clients that may be rude to it.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    routing::{any, get, patch, post},
};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    limits::Limits,
    listen::{Listener, Stop},
    logs::ClientAddress,
    pki,
    request::{Front, Peer},
    tls::{Tls, TlsFiles},
};

/// Long enough for any machine, short enough to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for an event that must come.
pub(crate) async fn soon<F: Future>(event: F) -> F::Output {
    tokio::time::timeout(PATIENCE, event).await.expect("the awaited event did not come")
}

/// Limits that let a test see each of them end something.
pub(crate) fn brief() -> Limits {
    let brief = Duration::from_millis(300);
    Limits { handshake: brief, head: brief, idle: brief, body: brief, stall: brief, ..Limits::default() }
}

/// One development PKI for the whole test run: making keys is the slow part.
pub(crate) fn pki_folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            pki::make(folder.path(), &[], time::OffsetDateTime::now_utc()).unwrap();
            folder
        })
        .path()
}

pub(crate) fn tls_files(folder: &Path) -> TlsFiles {
    TlsFiles {
        certificate: folder.join(pki::Names::SERVER),
        key: folder.join(pki::Names::SERVER_KEY),
        client_authorities: None,
    }
}

/// What the handlers saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: AtomicUsize,
    pub(crate) smuggled: AtomicUsize,
    pub(crate) peers: Mutex<Vec<Peer>>,
    pub(crate) ids: Mutex<Vec<String>>,
    pub(crate) stopping: Notify,
}

impl Seen {
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn smuggled(&self) -> usize {
        self.smuggled.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Seen>,
    bodies: mpsc::UnboundedSender<(usize, bool)>,
    begun: mpsc::UnboundedSender<()>,
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) seen: Arc<Seen>,
    pub(crate) tls: Arc<Tls>,
    /// For each body read by `PATCH /upload`: bytes, and whether it came to its end.
    pub(crate) bodies: mpsc::UnboundedReceiver<(usize, bool)>,
    /// A message for each first piece of such a body.
    pub(crate) begun: mpsc::UnboundedReceiver<()>,
    pub(crate) ended: JoinHandle<()>,
}

fn router(shared: Shared) -> Router {
    async fn note(
        State(shared): State<Shared>,
        request: Request,
        next: axum::middleware::Next,
    ) -> axum::response::Response {
        shared.seen.requests.fetch_add(1, Ordering::SeqCst);
        shared.seen.peers.lock().unwrap().extend(request.extensions().get::<Peer>().cloned());
        let id = request.headers()["x-request-id"].to_str().unwrap().to_owned();
        shared.seen.ids.lock().unwrap().push(id);
        next.run(request).await
    }
    async fn upload(State(shared): State<Shared>, request: Request) -> Result<String, StatusCode> {
        let mut body = request.into_body();
        let mut bytes = 0;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                // As the hub does when it is told to stop: what is here is kept, the rest is not awaited.
                () = shared.seen.stopping.notified() => {
                    let _ = shared.bodies.send((bytes, false));
                    return Err(StatusCode::SERVICE_UNAVAILABLE);
                }
            };
            match frame {
                Some(Ok(frame)) => {
                    if bytes == 0 {
                        let _ = shared.begun.send(());
                    }
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
                Some(Err(_)) => {
                    let _ = shared.bodies.send((bytes, false));
                    return Err(StatusCode::REQUEST_TIMEOUT);
                }
                None => {
                    let _ = shared.bodies.send((bytes, true));
                    return Ok(bytes.to_string());
                }
            }
        }
    }
    let layered = shared.clone();
    Router::new()
        .route("/", get(async || "ok"))
        .route("/echo", post(async |body: Bytes| body))
        .route("/json", post(async |axum::Json(value): axum::Json<serde_json::Value>| axum::Json(value)))
        .route("/upload", patch(upload))
        .route("/host", get(async |request: Request| request.headers()["host"].to_str().unwrap().to_owned()))
        .route("/panic", get(async || -> () { panic_with_a_secret() }))
        .route(
            "/endless",
            get(async || {
                let piece = Bytes::from_static(&[b'x'; 65_536]);
                Body::from_stream(stream::repeat_with(move || Ok::<_, io::Error>(piece.clone())))
            }),
        )
        .route("/items/{id}", get(async || "an item"))
        .route(
            "/smuggled",
            any(async |State(shared): State<Shared>| {
                shared.seen.smuggled.fetch_add(1, Ordering::SeqCst);
                "smuggled"
            }),
        )
        .layer(axum::middleware::from_fn_with_state(layered, note))
        .with_state(shared)
}

fn panic_with_a_secret() {
    panic!("the name of a case");
}

/// Starts a TLS listener on a free port.
pub(crate) async fn start(limits: Limits) -> Running {
    start_with(limits, tls_files(pki_folder())).await
}

pub(crate) async fn start_with(limits: Limits, files: TlsFiles) -> Running {
    let tls = Arc::new(Tls::open(files).unwrap());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let (bodies, bodies_seen) = mpsc::unbounded_channel();
    let (begun, begun_seen) = mpsc::unbounded_channel();
    let router = router(Shared { seen: Arc::clone(&seen), bodies, begun });
    let limits = Arc::new(limits);
    let front = Front::new(router, Arc::clone(&limits), true, ClientAddress::None);
    let stop = Stop::default();
    let listener = Listener::new("test", socket, front, Some(Arc::clone(&tls)), limits, stop.clone());
    let ended = tokio::spawn(listener.run());
    Running { address, stop, seen, tls, bodies: bodies_seen, begun: begun_seen, ended }
}

/// A client's configuration that trusts the development root.
pub(crate) fn client_config(alpn: &[&str]) -> ClientConfig {
    client_config_of(pki_folder(), alpn)
}

pub(crate) fn client_config_of(folder: &Path, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let root: PathBuf = folder.join(pki::Names::ROOT);
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

impl Running {
    pub(crate) async fn connect_with(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    /// An HTTP/1.1 connection.
    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        soon(self.connect_with(client_config(&["http/1.1"]))).await.unwrap()
    }

    /// An HTTP/2 connection, its preface and settings sent.
    pub(crate) async fn connect_h2(&self) -> H2 {
        let stream = soon(self.connect_with(client_config(&["h2"]))).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut h2 = H2 { stream };
        h2.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        h2.send(SETTINGS, 0, 0, &[]).await;
        h2
    }

    /// Sends bytes on a new HTTP/1.1 connection and reads until the server closes it.
    pub(crate) async fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        until_closed(&mut stream).await
    }

    /// One request by itself; gives the whole answer.
    pub(crate) async fn ask(&self, request_line: &str, fields: &str) -> String {
        self.talk(
            format!("{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
                .as_bytes(),
        )
        .await
    }
}

/// Everything the peer still sends. However it ends the connection, it must end it.
pub(crate) async fn until_closed<S: AsyncReadExt + Unpin>(stream: &mut S) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    soon(async {
        while let Ok(n @ 1..) = stream.read(&mut piece).await {
            all.extend_from_slice(&piece[..n]);
        }
    })
    .await;
    String::from_utf8_lossy(&all).into_owned()
}

/// One answer with a `Content-Length`, on a connection that stays open.
pub(crate) async fn one_answer<S: AsyncReadExt + Unpin>(stream: &mut S) -> String {
    let mut all = Vec::new();
    soon(async {
        loop {
            let text = String::from_utf8_lossy(&all).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                });
                if length.is_some_and(|length| body.len() >= length) {
                    return text;
                }
            }
            let mut piece = [0; 1024];
            let n = stream.read(&mut piece).await.unwrap();
            assert_ne!(n, 0, "closed in the middle of an answer: {text}");
            all.extend_from_slice(&piece[..n]);
        }
    })
    .await
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// A request without a body.
pub(crate) const START: u8 = END_HEADERS | END_STREAM;

/// HTTP/2 frames by hand, so that they may be wrong.
pub(crate) struct H2 {
    pub(crate) stream: TlsStream<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct FrameSeen {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl FrameSeen {
    /// The error code of a GOAWAY or RST_STREAM.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A literal field without indexing, not Huffman-coded.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        // The integer of RFC 7541, 5.1, with a prefix of 7 bits.
        if text.len() < 127 {
            block.push(u8::try_from(text.len()).unwrap());
        } else {
            block.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// The pseudo-fields of a request.
pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    [
        field(":method", method),
        field(":scheme", "https"),
        field(":authority", "localhost"),
        field(":path", path),
    ]
    .concat()
}

impl H2 {
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.write_all(&frame(kind, flags, stream, payload)).await.unwrap();
    }

    /// The next frame; `None` when the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<FrameSeen> {
        let read = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(FrameSeen { kind: head[3], flags: head[4], stream, payload })
        };
        soon(Pin::from(Box::new(read) as Box<dyn Future<Output = _> + Send + '_>)).await
    }

    /// The next frame of these kinds; others are passed over, settings and pings answered.
    pub(crate) async fn next_of(&mut self, kinds: &[u8]) -> Option<FrameSeen> {
        loop {
            let seen = self.next().await?;
            if kinds.contains(&seen.kind) {
                return Some(seen);
            }
            if matches!(seen.kind, SETTINGS | 6) && seen.flags & 1 == 0 {
                let reply = if seen.kind == SETTINGS { Vec::new() } else { seen.payload };
                let _ = self.stream.write_all(&frame(seen.kind, 1, 0, &reply)).await;
            }
        }
    }
}
