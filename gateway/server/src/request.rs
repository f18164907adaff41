//! Every request and every answer: identifier, checks common to all routes, security headers,
//! problems, one log line.
//!
//! Owns what does not depend on the route. Must never read a body, decide who the caller is, or log
//! anything that says more about a person than an identifier.

use std::{
    any::Any,
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::MatchedPath,
    middleware::{Next, from_fn},
};
use futures_util::FutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
        REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use pli_api::{Problem, ProblemCode};
use rustls::pki_types::CertificateDer;
use tower::Service;
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::{
    activity::{Activity, Exchange},
    body::{Guarded, Intake, Metered},
    limits::Limits,
    logs::ClientAddress,
};

/// The header that carries the identifier, both to the handlers and to the client. What a client
/// sends under this name is thrown away.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const PROBLEM: &str = "application/problem+json";
/// Problems are small; anything larger under that name is passed as it is.
const PROBLEM_BYTES: u64 = 16 * 1024;

/// Who is at the other end of the connection, in the extensions of each request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The client's certificate and what it sent with it, leaf first, verified by the handshake.
    pub(crate) certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
}

/// The template of the matched route, told by the inside of the router to its outside.
#[derive(Clone, Default)]
struct Route(Arc<OnceLock<MatchedPath>>);

/// What every request of a listener goes through.
#[derive(Clone)]
pub(crate) struct Front {
    router: Router,
    limits: Arc<Limits>,
    secure: bool,
    quiet: bool,
    client_address: ClientAddress,
}

impl Front {
    /// `secure`: the listener speaks TLS, so that browsers may be told to insist on it.
    pub(crate) fn new(
        router: Router,
        limits: Arc<Limits>,
        secure: bool,
        client_address: ClientAddress,
    ) -> Self {
        let router = router.layer(from_fn(async |request: axum::extract::Request, next: Next| {
            if let (Some(route), Some(path)) =
                (request.extensions().get::<Route>(), request.extensions().get::<MatchedPath>())
            {
                // Set twice only when routers are nested: the first, outermost, is the whole path.
                let _ = route.0.set(path.clone());
            }
            next.run(request).await
        }));
        Self { router, limits, secure, quiet: false, client_address }
    }

    /// The same without log lines and metrics, for a listener that is asked the same thing every few
    /// seconds.
    pub(crate) fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// Answers one request. Never fails: a panic below is a 500.
    pub(crate) async fn answer(
        self,
        mut request: Request<Incoming>,
        peer: Peer,
        activity: Arc<Activity>,
    ) -> Result<Response<Metered>, Infallible> {
        let id = Uuid::now_v7();
        let route = Route::default();
        let head_only = request.method() == Method::HEAD;
        let version = request.version();
        let intake = Arc::new(Intake::default());
        let mut record = Record {
            begun: Instant::now(),
            exchange: activity.begin(),
            // Of the highest level, so that no filter takes the identifier from what is logged inside.
            span: tracing::error_span!("request", id = %id.hyphenated()),
            method: method_name(request.method()),
            version,
            route: route.clone(),
            client: self.client_address.show(peer.address),
            mutual: peer.certificates.is_some(),
            intake: Arc::clone(&intake),
            quiet: self.quiet,
            status: None,
            sent: 0,
            complete: false,
        };

        let response = match self.check(&request) {
            Err(refusal) => refusal.answer(version),
            Ok(()) => {
                let text = HeaderValue::from_str(&id.hyphenated().to_string());
                request.headers_mut().remove(REQUEST_ID);
                if let Ok(text) = text {
                    request.headers_mut().insert(REQUEST_ID, text);
                }
                name_host(&mut request);
                request.extensions_mut().insert(peer);
                request.extensions_mut().insert(route);
                let request =
                    request.map(|body| Body::new(Guarded::new(body, &self.limits, Arc::clone(&intake))));
                let mut router = self.router.clone();
                // The state a panic may leave half-changed is the handler's own and dies with it:
                // what is shared behind it is the database and the store.
                let answered = AssertUnwindSafe(async move { router.call(request).await })
                    .catch_unwind()
                    .instrument(record.span.clone())
                    .await;
                let mut response = match answered {
                    Ok(Ok(response)) => response,
                    Err(panic) => after_panic(&record.span, panic),
                };
                // Answered before the body came to its end: hyper does not wait for the rest and closes.
                // Said in the answer, or the peer's next request goes into a connection that dies.
                if version < Version::HTTP_2 && !intake.ended() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        let mut response = in_words(response, id, head_only).await;
        self.secure_headers(response.headers_mut());
        if let Ok(text) = HeaderValue::from_str(&id.hyphenated().to_string()) {
            response.headers_mut().insert(REQUEST_ID, text);
        }
        record.status = Some(response.status());
        if head_only {
            record.complete();
        }
        let length = response.headers().get(CONTENT_LENGTH).and_then(|text| text.to_str().ok()?.parse().ok());
        Ok(response.map(|body| Metered::new(body, record, length)))
    }

    /// What no route has to check for itself.
    fn check(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(Refusal::plain(ProblemCode::MethodNotAllowed));
        }
        if request.uri().path_and_query().is_some_and(|t| t.as_str().len() > self.limits.target_bytes) {
            return Err(Refusal { status: StatusCode::URI_TOO_LONG, code: ProblemCode::BadRequest });
        }
        let headers = request.headers();
        // A field line is at least `:` and CRLF more than its name and value.
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if headers.len() > self.limits.head_fields || bytes > self.limits.head_bytes {
            return Err(Refusal::plain(ProblemCode::HeadersTooLarge));
        }
        let hosts = headers.get_all(HOST).iter().count();
        // RFC 9112, 3.2: exactly one in HTTP/1.1. In HTTP/2 `:authority` takes its place.
        let enough = request.version() != Version::HTTP_11 || hosts == 1;
        if !enough || hosts > 1 || !one_host(request) {
            return Err(Refusal::plain(ProblemCode::BadRequest));
        }
        Ok(())
    }

    fn secure_headers(&self, headers: &mut HeaderMap) {
        let always = [
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        for (name, value) in always {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if self.secure {
            headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=63072000"));
        }
        // A page says what it needs; whatever says nothing needs nothing, and is nobody's to keep.
        let default = [
            (
                CONTENT_SECURITY_POLICY,
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            (CACHE_CONTROL, "no-store"),
        ];
        for (name, value) in default {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
}

/// Whether the target, when it names a host (HTTP/2, or the absolute form of HTTP/1.1), names the one
/// of the field: otherwise two readers would see two hosts.
fn one_host(request: &Request<Incoming>) -> bool {
    match (request.uri().authority(), request.headers().get(HOST)) {
        (Some(authority), Some(host)) => authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()),
        _ => true,
    }
}

/// Gives HTTP/2 requests the field that handlers know from HTTP/1.1.
fn name_host(request: &mut Request<Incoming>) {
    let authority = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(authority) = authority {
        request.headers_mut().entry(HOST).or_insert(authority);
    }
}

/// A refusal before any route.
struct Refusal {
    status: StatusCode,
    code: ProblemCode,
}

impl Refusal {
    fn plain(code: ProblemCode) -> Self {
        Self { status: status_of(code), code }
    }

    fn answer(self, version: Version) -> Response<Body> {
        let mut response = problem(self.status, self.code);
        // The rest of such a request is not worth reading, and what follows not worth trusting.
        if version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn status_of(code: ProblemCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The problem an answer without words stands for.
fn code_for(status: StatusCode) -> ProblemCode {
    match status.as_u16() {
        401 => ProblemCode::SignInRequired,
        403 => ProblemCode::Forbidden,
        404 => ProblemCode::NotFound,
        405 => ProblemCode::MethodNotAllowed,
        408 => ProblemCode::TooSlow,
        409 => ProblemCode::Conflict,
        410 => ProblemCode::Gone,
        412 => ProblemCode::PreconditionFailed,
        413 => ProblemCode::TooLarge,
        415 => ProblemCode::MediaType,
        416 => ProblemCode::RangeNotSatisfiable,
        422 => ProblemCode::Invalid,
        429 => ProblemCode::TooMany,
        431 => ProblemCode::HeadersTooLarge,
        503 => ProblemCode::Unavailable,
        507 => ProblemCode::StorageFull,
        400..500 => ProblemCode::BadRequest,
        _ => ProblemCode::Internal,
    }
}

fn problem(status: StatusCode, code: ProblemCode) -> Response<Body> {
    let mut told = Problem::new(code, None);
    told.status = status.as_u16();
    let mut response = Response::new(written(&told));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    response
}

fn written(problem: &Problem) -> Body {
    // A struct of strings and numbers: its JSON cannot fail, and an empty body would still be safe.
    serde_json::to_vec(problem).map_or_else(|_| Body::empty(), Body::from)
}

fn after_panic(span: &Span, panic: Box<dyn Any + Send>) -> Response<Body> {
    // The panic hook wrote the log line, inside of this span. The message itself may hold anything
    // that was in the handler's hands, and stays here.
    drop(panic);
    ::metrics::counter!("pli_panics_total").increment(1);
    span.in_scope(|| tracing::debug!("a panic became an answer"));
    problem(StatusCode::INTERNAL_SERVER_ERROR, ProblemCode::Internal)
}

/// Gives every failure the form of RFC 9457 and the request's identifier.
async fn in_words(response: Response<Body>, id: Uuid, head_only: bool) -> Response<Body> {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let told = match kind_of(kind_bytes(&parts.headers)) {
        Kind::Own => return Response::from_parts(parts, body),
        Kind::Wordless => None,
        Kind::Problem if body.size_hint().exact().is_some_and(|bytes| bytes <= PROBLEM_BYTES) => {
            match body.collect().await {
                Ok(bytes) => {
                    let bytes = bytes.to_bytes();
                    match serde_json::from_slice::<Problem>(&bytes) {
                        Ok(told) => Some(told),
                        Err(_) => return Response::from_parts(parts, Body::from(bytes)),
                    }
                }
                Err(_) => None,
            }
        }
        Kind::Problem => return Response::from_parts(parts, body),
    };
    let mut told = told.unwrap_or_else(|| {
        let mut told = Problem::new(code_for(status), None);
        told.status = status.as_u16();
        told
    });
    told.request = Some(id.hyphenated().to_string());
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    parts.headers.remove(CONTENT_LENGTH);
    let body = if head_only { Body::empty() } else { written(&told) };
    Response::from_parts(parts, body)
}

enum Kind {
    /// A page or document of the route's own making.
    Own,
    /// Nothing, or a sentence of the framework.
    Wordless,
    Problem,
}

fn kind_bytes(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes)
}

fn kind_of(content_type: Option<&[u8]>) -> Kind {
    match content_type {
        None => Kind::Wordless,
        Some(kind) if kind.starts_with(b"text/plain") => Kind::Wordless,
        Some(kind) if kind.starts_with(PROBLEM.as_bytes()) => Kind::Problem,
        Some(_) => Kind::Own,
    }
}

/// Names of methods for logs and metrics: a closed set, so that a client cannot fill either.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// One request's line in the log, written when the record is dropped: at the last byte of the answer
/// or when the client left.
pub(crate) struct Record {
    begun: Instant,
    exchange: Exchange,
    span: Span,
    method: &'static str,
    version: Version,
    route: Route,
    client: Option<String>,
    mutual: bool,
    intake: Arc<Intake>,
    quiet: bool,
    status: Option<StatusCode>,
    sent: u64,
    complete: bool,
}

impl Record {
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn handed(&mut self, bytes: u64) {
        self.sent += bytes;
        self.exchange.handed();
    }

    pub(crate) fn taken(&self) {
        self.exchange.taken();
    }

    /// The whole answer was given to the connection.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.quiet {
            return;
        }
        let taken: Duration = self.begun.elapsed();
        let received = self.intake.bytes();
        let route = self.route.0.get().map_or("none", MatchedPath::as_str);
        // 0: the client left before there was an answer.
        let status = self.status.map_or(0, |status| status.as_u16());
        let _entered = self.span.enter();
        tracing::info!(
            target: "pli::request",
            method = self.method,
            route,
            status,
            version = ?self.version,
            milliseconds = taken.as_secs_f64() * 1000.0,
            received,
            sent = self.sent,
            complete = self.complete,
            client = self.client.as_deref(),
            mutual = self.mutual,
            "request"
        );
        let route = route.to_owned();
        ::metrics::counter!("pli_http_requests_total", "method" => self.method, "route" => route.clone(), "status" => status.to_string()).increment(1);
        ::metrics::histogram!("pli_http_request_seconds", "method" => self.method, "route" => route)
            .record(taken.as_secs_f64());
        ::metrics::counter!("pli_http_received_bytes_total").increment(received);
        ::metrics::counter!("pli_http_sent_bytes_total").increment(self.sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{H2, HEADERS, START, one_answer, request as h2_request, start};
    use tokio::io::AsyncWriteExt;

    fn problem_in(answer: &str) -> Problem {
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    fn field<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v)
            .collect()
    }

    #[tokio::test]
    async fn every_answer_has_an_identifier_of_ours_and_the_security_headers() {
        let server = start(Limits::default()).await;
        for (line, status) in
            [("GET /", 200), ("GET /nowhere", 404), ("POST /", 405), ("TRACE /", 405), ("GET /panic", 500)]
        {
            let answer = server.ask(line, "X-Request-Id: forged\r\n").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            let ids = field(&answer, "x-request-id");
            assert_eq!(ids.len(), 1);
            assert_eq!(ids[0].parse::<Uuid>().unwrap().get_version_num(), 7);
            for (name, value) in [
                ("strict-transport-security", "max-age=63072000"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("x-frame-options", "DENY"),
                ("cache-control", "no-store"),
            ] {
                assert_eq!(field(&answer, name), [value], "{line}");
            }
            assert!(field(&answer, "content-security-policy")[0].starts_with("default-src 'none'"), "{line}");
            if status >= 400 {
                assert_eq!(field(&answer, "content-type"), ["application/problem+json"]);
                let problem = problem_in(&answer);
                assert_eq!((problem.status, problem.request.as_deref()), (status, Some(ids[0])));
            }
        }
        let seen = server.seen.ids.lock().unwrap();
        assert!(seen.iter().all(|id| id.parse::<Uuid>().is_ok()), "the handlers see ours too: {seen:?}");
    }

    #[tokio::test]
    async fn problems_have_their_codes() {
        let server = start(Limits::default()).await;
        let code = async |line: &str| problem_in(&server.ask(line, "").await).code;
        assert_eq!(code("GET /nowhere").await, "not-found");
        assert_eq!(code("POST /").await, "method-not-allowed");
        assert_eq!(code("CONNECT localhost:443").await, "method-not-allowed");
        assert_eq!(code("GET /panic").await, "internal");
        let allowed = server.ask("POST /", "").await;
        assert!(field(&allowed, "allow")[0].contains("GET"), "{allowed}");
        // axum's own refusals speak in plain text.
        let untyped = server.ask("POST /json", "").await;
        assert!(
            untyped.starts_with("HTTP/1.1 415") && problem_in(&untyped).code == "media-type",
            "{untyped}"
        );
        let bodiless = server.ask("HEAD /nowhere", "").await;
        assert!(bodiless.starts_with("HTTP/1.1 404") && bodiless.ends_with("\r\n\r\n"), "{bodiless}");
    }

    #[tokio::test]
    async fn an_answer_before_the_end_of_a_body_says_that_the_connection_closes() {
        let server = start(Limits::default()).await;
        for body in ["Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n"] {
            let answer = server.talk(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
            assert_eq!(field(&answer, "connection"), ["close"], "{answer}");
        }
        // Read to its end, or without one: the next request may follow.
        let mut stream = server.connect().await;
        for request in [
            "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            stream.write_all(request.as_bytes()).await.unwrap();
            let answer = one_answer(&mut stream).await;
            assert!(field(&answer, "connection").is_empty(), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_panic_tells_the_client_nothing() {
        let server = start(Limits::default()).await;
        let answer = server.ask("GET /panic", "").await;
        assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("case"), "{answer}");
        assert!(server.ask("GET /", "").await.contains("200 OK"));
    }

    #[tokio::test]
    async fn a_request_names_its_host_once() {
        let server = start(Limits::default()).await;
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        ] {
            let answer = server.talk(head.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        }
        assert_eq!(server.seen.requests(), 0);
        let answer = server.talk(b"GET /host HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("a.example"));
        let mut h2: H2 = server.connect_h2().await;
        h2.send(HEADERS, START, 1, &h2_request("GET", "/host")).await;
        let body = h2.next_of(&[crate::testing::DATA]).await.unwrap().payload;
        assert_eq!(body, b"localhost", "handlers find the authority of HTTP/2 where HTTP/1.1 has it");
    }
}
