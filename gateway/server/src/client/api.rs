//! Typed calls to a Pli server, one function a request, and what their failures mean.
//! Owns requests, answers and their classification (worth retrying or not); never retries, never
//! waits for anything but the answer itself, and never follows a redirection: the token goes to
//! the configured server only.
//!
//! Two kinds of connections on purpose: control calls share one HTTP/2 connection; every stream of
//! content has its own HTTP/1.1 connection, so that each has its own TCP window and its own TLS
//! state, and a stream that is cut does not take the others with it.

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use pli_api::{
    Deposit, DepositBox, DepositId, Document, DocumentId, Me, NewDeposit, Page, PendingUpload, Problem,
    ProblemCode, UploadId,
};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::settings::Settings;
use super::texts;

/// Without an answer or a byte for this long, a control call is given up (and may be tried again).
const QUIET: Duration = Duration::from_secs(60);
/// Sent bytes that nobody acknowledges for this long mean a dead connection (TCP_USER_TIMEOUT).
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(15);
const OFFSET_STREAM: HeaderValue = HeaderValue::from_static("application/offset+octet-stream");

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{}", texts::network(&innermost(.0)))]
    Network(reqwest::Error),
    #[error("{}", texts::untrusted(.0))]
    Untrusted(String),
    #[error("{}", texts::STALLED)]
    Stalled,
    #[error("{}", texts::unavailable(.problem))]
    Unavailable { problem: Box<Problem>, retry_after: Option<Duration> },
    #[error("{}", texts::refused(.0))]
    Refused(Box<Problem>),
    #[error("{}", texts::unexpected(.0))]
    Unexpected(&'static str),
}

impl CallError {
    /// Whether the same call may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Stalled | Self::Unavailable { .. })
    }

    /// How long the server asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Unavailable { problem, .. } | Self::Refused(problem) => Some(problem),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.problem().map(|p| p.status)
    }

    pub(super) fn is(&self, code: ProblemCode) -> bool {
        self.problem().is_some_and(|p| p.code == code.code())
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        match certificate_problem(&error) {
            Some(why) => Self::Untrusted(why),
            None => Self::Network(error),
        }
    }
}

/// The last cause of a chain is the one that says something (« Connection refused »).
fn innermost(error: &reqwest::Error) -> String {
    let mut current: &dyn std::error::Error = error;
    while let Some(source) = current.source() {
        current = source;
    }
    // rustls ends this one with the address of its manual.
    let text = current.to_string();
    if text.contains("close_notify") { texts::CLOSED.into() } else { text }
}

/// A certificate that is not accepted will not be accepted in a minute either.
fn certificate_problem(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut current = Some(error);
    while let Some(cause) = current {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = cause
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(rustls::Error::InvalidCertificate(why)) = tls {
            return Some(why.to_string());
        }
        current = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// What a new upload is to the server.
#[derive(Debug, Clone)]
pub(super) enum NewUpload {
    Whole {
        length: u64,
    },
    Partial {
        length: u64,
    },
    /// The parts in order.
    Final {
        parts: Vec<UploadId>,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Created {
    pub(super) id: UploadId,
    /// Bytes already durable (creation with content).
    pub(super) offset: u64,
    pub(super) document: Option<DocumentId>,
}

pub(super) struct Api {
    control: Client,
    streams: Vec<Client>,
    base: Url,
}

impl Api {
    /// # Errors
    /// A sentence when the TLS set-up is impossible.
    pub(super) fn new(settings: &Settings, streams: usize) -> Result<Self, String> {
        let mut authorization =
            HeaderValue::from_bytes(&[b"Bearer ".as_slice(), settings.token.as_bytes()].concat())
                .map_err(|_| texts::BAD_TOKEN.to_owned())?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        let builder = || {
            let mut builder = Client::builder()
                .user_agent(concat!("pli/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers.clone())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .tcp_keepalive(Duration::from_secs(20))
                .tls_certs_merge(settings.roots.iter().cloned());
            #[cfg(target_os = "linux")]
            {
                builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
            }
            builder
        };
        let control = builder()
            .read_timeout(QUIET)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(20))
            .build()
            .map_err(|e| texts::no_client(&innermost(&e)))?;
        let streams = (0..streams.max(1))
            .map(|_| builder().http1_only().pool_max_idle_per_host(1).build())
            .collect::<Result<_, _>>()
            .map_err(|e| texts::no_client(&innermost(&e)))?;
        Ok(Self { control, streams, base: settings.server.clone() })
    }

    /// The connection of one stream of content.
    pub(super) fn stream(&self, index: usize) -> &Client {
        // Never empty: `new` makes at least one.
        self.streams.get(index % self.streams.len()).unwrap_or(&self.control)
    }

    /// The connection of short calls.
    pub(super) fn control(&self) -> &Client {
        &self.control
    }

    fn url(&self, path: &str) -> Result<Url, CallError> {
        self.base.join("api/v1/").and_then(|u| u.join(path)).map_err(|_| CallError::Unexpected("adresse"))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        Ok(self.control.request(method, self.url(path)?))
    }

    pub(super) async fn me(&self) -> Result<Me, CallError> {
        json(self.request(Method::GET, "me")?).await
    }

    /// The draft of that reference, made now or found; true when it was made now.
    pub(super) async fn create_deposit(&self, new: &NewDeposit) -> Result<(Deposit, bool), CallError> {
        let response = checked(self.request(Method::POST, "deposits")?.json(new).send().await?).await?;
        let made = response.status() == StatusCode::CREATED;
        Ok((response.json().await.map_err(body_error)?, made))
    }

    pub(super) async fn deposit(&self, id: DepositId) -> Result<Deposit, CallError> {
        json(self.request(Method::GET, &format!("deposits/{id}"))?).await
    }

    pub(super) async fn deposits(
        &self,
        of: DepositBox,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Deposit>, CallError> {
        let of = match of {
            DepositBox::Received => "received",
            DepositBox::Sent => "sent",
            DepositBox::Draft => "draft",
        };
        let mut url = self.url("deposits")?;
        url.query_pairs_mut().append_pair("box", of).append_pair("limit", &limit.to_string());
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        json(self.control.get(url)).await
    }

    pub(super) async fn send_deposit(&self, id: DepositId) -> Result<Deposit, CallError> {
        json(self.request(Method::POST, &format!("deposits/{id}/send"))?).await
    }

    pub(super) async fn delete_deposit(&self, id: DepositId) -> Result<(), CallError> {
        checked(self.request(Method::DELETE, &format!("deposits/{id}"))?.send().await?).await.map(drop)
    }

    pub(super) async fn document(&self, id: DocumentId) -> Result<Document, CallError> {
        json(self.request(Method::GET, &format!("documents/{id}"))?).await
    }

    /// The caller's unfinished uploads for a deposit.
    pub(super) async fn uploads(&self, deposit: DepositId) -> Result<Vec<PendingUpload>, CallError> {
        let mut uploads = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut url = self.url("uploads")?;
            url.query_pairs_mut().append_pair("deposit", &deposit.to_string());
            if let Some(after) = &after {
                url.query_pairs_mut().append_pair("after", after);
            }
            let page: Page<PendingUpload> = json(self.control.get(url)).await?;
            uploads.extend(page.items);
            if page.next.is_none() || page.next == after {
                return Ok(uploads);
            }
            after = page.next;
        }
    }

    /// Opens an upload; `content` goes with the request (tus creation-with-upload).
    pub(super) async fn create_upload(
        &self,
        client: &Client,
        new: &NewUpload,
        metadata: &str,
        content: Option<Bytes>,
    ) -> Result<Created, CallError> {
        let url = self.url("uploads")?;
        let mut request = tus(client.request(Method::POST, url.clone()));
        request = match new {
            NewUpload::Whole { length } => request.header("Upload-Length", *length),
            NewUpload::Partial { length } => {
                request.header("Upload-Length", *length).header("Upload-Concat", "partial")
            }
            NewUpload::Final { parts } => {
                let paths =
                    parts.iter().map(|p| self.url(&format!("uploads/{p}")).map(|u| u.path().to_owned()));
                let paths: Vec<String> = paths.collect::<Result<_, _>>()?;
                request.header("Upload-Concat", format!("final;{}", paths.join(" ")))
            }
        };
        if !metadata.is_empty() {
            request = request.header("Upload-Metadata", metadata);
        }
        if let Some(content) = content {
            request = request.header(CONTENT_TYPE, OFFSET_STREAM).body(content);
        }
        let response =
            tokio::time::timeout(2 * QUIET, request.send()).await.map_err(|_| CallError::Stalled)??;
        let response = checked(response).await?;
        let location =
            text_header(&response, LOCATION.as_str()).ok_or(CallError::Unexpected("Location manque"))?;
        let location = url.join(location).map_err(|_| CallError::Unexpected("Location"))?;
        let id = location
            .path_segments()
            .and_then(|mut s| s.next_back())
            .and_then(|s| s.parse().ok())
            .ok_or(CallError::Unexpected("Location"))?;
        Ok(Created {
            id,
            offset: number_header(&response, "Upload-Offset").unwrap_or(0),
            document: text_header(&response, "Pli-Document").and_then(|d| d.parse().ok()),
        })
    }

    /// The durable offset of an upload.
    pub(super) async fn offset(&self, id: UploadId) -> Result<u64, CallError> {
        let request = tus(self.request(Method::HEAD, &format!("uploads/{id}"))?);
        let response = checked(request.send().await?).await?;
        number_header(&response, "Upload-Offset").ok_or(CallError::Unexpected("Upload-Offset manque"))
    }

    /// Sends content from `offset`; gives the offset reached. The caller watches for a stall.
    pub(super) async fn patch(
        &self,
        client: &Client,
        id: UploadId,
        offset: u64,
        body: reqwest::Body,
    ) -> Result<u64, CallError> {
        let url = self.url(&format!("uploads/{id}"))?;
        let request = tus(client.request(Method::PATCH, url))
            .header(CONTENT_TYPE, OFFSET_STREAM)
            .header("Upload-Offset", offset)
            .body(body);
        let response = checked(request.send().await?).await?;
        number_header(&response, "Upload-Offset").ok_or(CallError::Unexpected("Upload-Offset manque"))
    }

    pub(super) async fn terminate(&self, id: UploadId) -> Result<(), CallError> {
        let request = tus(self.request(Method::DELETE, &format!("uploads/{id}"))?);
        checked(request.send().await?).await.map(drop)
    }

    /// The strong entity tag of a document's content, when the server gives one.
    pub(super) async fn tag(&self, document: DocumentId) -> Result<Option<HeaderValue>, CallError> {
        let request = self.request(Method::HEAD, &format!("documents/{document}/content"))?;
        let response = checked(request.send().await?).await?;
        Ok(response.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned())
    }

    /// Content of a document: all of it, or a range when it is still the content of `tag`.
    /// The caller reads the body and watches for a stall.
    pub(super) async fn content(
        &self,
        client: &Client,
        document: DocumentId,
        range: Option<(Range<u64>, HeaderValue)>,
    ) -> Result<Response, CallError> {
        let url = self.url(&format!("documents/{document}/content"))?;
        let mut request = client.request(Method::GET, url);
        if let Some((range, tag)) = range {
            let value = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            request = request.header(RANGE, value).header(IF_RANGE, tag);
        }
        let response =
            tokio::time::timeout(QUIET, request.send()).await.map_err(|_| CallError::Stalled)??;
        checked(response).await
    }
}

/// `Upload-Metadata`: keys with their values in base64 (tus 1.0.0, creation).
pub(super) fn metadata<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> =
        pairs.into_iter().map(|(key, value)| format!("{key} {}", BASE64.encode(value))).collect();
    pairs.join(",")
}

fn tus(request: RequestBuilder) -> RequestBuilder {
    request.header("Tus-Resumable", "1.0.0")
}

async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, CallError> {
    checked(request.send().await?).await?.json().await.map_err(body_error)
}

fn body_error(error: reqwest::Error) -> CallError {
    if error.is_decode() { CallError::Unexpected("JSON") } else { error.into() }
}

fn text_header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn number_header(response: &Response, name: &str) -> Option<u64> {
    text_header(response, name)?.parse().ok()
}

/// Turns an answer that is not a success into what it means.
async fn checked(response: Response) -> Result<Response, CallError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = text_header(&response, RETRY_AFTER.as_str()).and_then(parse_retry_after);
    let mut problem = Box::new(explanation(response).await);
    problem.status = status.as_u16();
    Err(match problem.status {
        // Bytes that do not open will not open later.
        _ if problem.code == ProblemCode::Damaged.code() => CallError::Refused(problem),
        // 501 and 505 say that the server will never understand the request.
        408 | 423 | 425 | 429 | 500 | 502..=504 | 506..=599 => {
            CallError::Unavailable { problem, retry_after }
        }
        _ => CallError::Refused(problem),
    })
}

/// The body of an answer that is not a success, never more than 64 KiB of it. A proxy in between may
/// answer something that is not a problem: then nothing is known but the status.
async fn explanation(mut response: Response) -> Problem {
    let mut body = Vec::new();
    while let Ok(Ok(Some(piece))) = tokio::time::timeout(Duration::from_secs(10), response.chunk()).await {
        body.extend_from_slice(&piece);
        if body.len() > 65_536 {
            break;
        }
    }
    serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
        kind: String::new(),
        title: String::new(),
        status: 0,
        code: String::new(),
        detail: None,
        request: None,
    })
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3).
fn parse_retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    let wait = at.duration_since(jiff::Timestamp::now());
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_what_tus_says() {
        assert_eq!(metadata([("filename", "été.pdf"), ("part", "1/4")]), "filename w6l0w6kucGRm,part MS80");
    }

    #[test]
    fn retry_after_in_both_forms() {
        assert_eq!(parse_retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let soon = parse_retry_after("Tue, 01 Jan 2999 00:00:00 GMT").unwrap();
        assert!(soon > Duration::from_secs(86_400));
        assert_eq!(parse_retry_after("bientôt"), None);
    }
}
