//! Downloads: ranges, validators and digests of RFC 9110 and RFC 9530, and the trail of each.
//!
//! The journal says « begun » before the first byte leaves, and « completed » or « aborted » when the
//! last of them has been handed to the connection or not.

use crate::access::{Actor, Caller};
use crate::content::{Content, ContentReader};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::{Hub, antivirus, documents, etag, notices};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pli_api::range::{self, Asked};
use pli_api::{DepositId, Document, DocumentId, DocumentState, ProblemCode};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// Pieces of about 1 MiB that wait between the store and the connection.
const AHEAD: usize = 2;

/// GET and HEAD /documents/{id}/content.
pub(crate) async fn content(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DocumentId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response> {
    let mut tx = hub.db().read().await?;
    let document = documents::load(&mut tx, &caller, id, hub.now()).await?.ok_or(ProblemCode::NotFound)?;
    let sha256 = readable(&document)?;
    antivirus::require_released(&mut tx, &caller, std::slice::from_ref(&document)).await?;
    let etag = format!("\"sha256-{sha256}\"");
    let size = document.size.unwrap_or(0);
    if let Some(response) = preconditions(&headers, &etag)? {
        return Ok(response);
    }
    let asked = match headers.get(header::RANGE) {
        Some(value) if method == Method::GET && if_range_holds(&headers, &etag) => {
            range::range(Some(value.as_bytes()), size)
        }
        _ => Asked::Whole,
    };
    let range = match &asked {
        Asked::Whole => 0..size,
        Asked::Part(range) => range.clone(),
        Asked::Outside => {
            let value = HeaderValue::from_str(&format!("bytes */{size}")).map_err(Fault::internal)?;
            return Err(Fault::new(ProblemCode::RangeNotSatisfiable).with(header::CONTENT_RANGE, value));
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let content = Content::load(&hub, &mut tx, id).await?;
        drop(tx);
        if content.size != size {
            return Err(Fault::because(ProblemCode::Damaged, "Il manque une partie."));
        }
        stream(&hub, Actor::from(&caller), &document, content, range.clone()).await?
    };
    let mut response = body.into_response();
    let partial = matches!(asked, Asked::Part(_));
    *response.status_mut() = if partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    describe(response.headers_mut(), &document, &sha256, &etag)?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, range.end.saturating_sub(range.start).into());
    if partial {
        let last = range.end.saturating_sub(1);
        let value = HeaderValue::from_str(&format!("bytes {}-{last}/{size}", range.start))
            .map_err(Fault::internal)?;
        headers.insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

fn readable(document: &Document) -> Result<String> {
    match (document.state, &document.sha256) {
        (DocumentState::Available, Some(sha256)) => Ok(sha256.clone()),
        (DocumentState::Receiving | DocumentState::Finishing, _) => Err(ProblemCode::NotReady.into()),
        (DocumentState::Erased, _) => Err(ProblemCode::Gone.into()),
        _ => Err(ProblemCode::Damaged.into()),
    }
}

fn describe(headers: &mut HeaderMap, document: &Document, sha256: &str, etag: &str) -> Result<()> {
    let text = |value: &str| HeaderValue::from_str(value).map_err(Fault::internal);
    headers.insert(header::CONTENT_TYPE, text(&document.media_type)?);
    headers.insert(header::CONTENT_DISPOSITION, disposition(&document.name)?);
    headers.insert(header::ETAG, text(etag)?);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    let digest = hex::decode(sha256).map_err(Fault::internal)?;
    headers.insert("repr-digest", text(&format!("sha-256=:{}:", STANDARD.encode(digest)))?);
    Ok(())
}

/// `Content-Disposition` (RFC 6266): an ASCII name for old clients, the true one by RFC 8187.
pub(crate) fn disposition(name: &str) -> Result<HeaderValue> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ' | '(' | ')');
    let ascii: String = base.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut encoded = String::new();
    for byte in base.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    HeaderValue::from_str(&format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}"))
        .map_err(Fault::internal)
}

/// `If-Match` and `If-None-Match` (RFC 9110, 13).
fn preconditions(headers: &HeaderMap, tag: &str) -> Result<Option<Response>> {
    if headers.get(header::IF_MATCH).is_some_and(|value| !etag::names(value, tag, false)) {
        return Err(ProblemCode::PreconditionFailed.into());
    }
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| etag::names(value, tag, true)) {
        let value = HeaderValue::from_str(tag).map_err(Fault::internal)?;
        return Ok(Some((StatusCode::NOT_MODIFIED, [(header::ETAG, value)]).into_response()));
    }
    Ok(None)
}

/// `If-Range`: only a strong match keeps the range; a date never does, since the content has a digest.
fn if_range_holds(headers: &HeaderMap, etag: &str) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes())
}

/// Begins a download: the event first, then the first bytes, so that damage at the start is still an
/// answer and not a cut.
async fn stream(
    hub: &Hub,
    actor: Actor,
    document: &Document,
    content: Content,
    range: std::ops::Range<u64>,
) -> Result<Body> {
    let length = range.end.saturating_sub(range.start);
    let trail = Trail { hub: hub.clone(), actor, deposit: document.deposit, document: Some(document.id) };
    let begun = trail.begin(serde_json::json!({ "from": range.start, "bytes": length })).await?;
    let mut reader = content.reader(hub.clone(), range);
    let first = match reader.next().await {
        Ok(first) => first,
        Err(fault) => {
            begun.end(Delivery::default()).await;
            return Err(fault);
        }
    };
    let (outlet, body) = outlet(Some(length));
    hub.inner.running.spawn(async move {
        let sent = pump(&outlet, first, &mut reader).await;
        if let Err(fault) = &sent {
            tracing::warn!(error = %fault, "download cut short");
        }
        begun.end(outlet.finish(sent.is_ok()).await).await;
    });
    Ok(body)
}

async fn pump(outlet: &Outlet, first: Option<Bytes>, reader: &mut ContentReader) -> Result<()> {
    let mut next = first;
    while let Some(bytes) = next {
        if !outlet.send(bytes).await {
            return Ok(());
        }
        next = reader.next().await?;
    }
    Ok(())
}

/// Whose download of what, for the journal.
#[derive(Clone)]
pub(crate) struct Trail {
    pub(crate) hub: Hub,
    pub(crate) actor: Actor,
    pub(crate) deposit: DepositId,
    pub(crate) document: Option<DocumentId>,
}

impl Trail {
    /// Writes that the download has begun; whatever becomes of the request then, its end is written too.
    pub(crate) async fn begin(self, detail: serde_json::Value) -> Result<BegunDownload> {
        let running = self.hub.inner.running.clone();
        let begin = async move {
            let from = detail.get("from").and_then(serde_json::Value::as_u64);
            self.write("download.begun", detail).await?;
            Ok(BegunDownload { trail: Some(self), from })
        };
        // In a task of its own: a request dropped here leaves no beginning without an end.
        running.spawn(begin).await?
    }

    async fn write(&self, kind: &'static str, detail: serde_json::Value) -> Result<()> {
        let mut event = Event::new(kind).by(self.actor).deposit(self.deposit).detail(detail);
        if let Some(document) = self.document {
            event = event.document(document);
        }
        let now = self.hub.now();
        let mut tx = self.hub.db().write().await?;
        if kind == "download.completed" {
            notices::deposit_downloaded(&mut tx, now, self.deposit, self.actor).await?;
        }
        event.write(&mut tx, now).await?;
        tx.commit().await?;
        self.hub.inner.bell.notify_waiters();
        Ok(())
    }

    async fn end(&self, from: Option<u64>, Delivery { complete, bytes }: Delivery) {
        let kind = if complete { "download.completed" } else { "download.aborted" };
        metrics::counter!("pli_downloads_total", "outcome" => if complete { "completed" } else { "aborted" })
            .increment(1);
        metrics::counter!("pli_content_bytes_sent_total").increment(bytes);
        let detail = match from {
            // Which octets: several ranges together may be the whole document.
            Some(from) => serde_json::json!({ "from": from, "bytes": bytes }),
            None => serde_json::json!({ "bytes": bytes }),
        };
        if let Err(fault) = self.write(kind, detail).await {
            tracing::error!(error = %fault, kind, "the end of a download could not be journalled");
        }
    }
}

/// A download that the journal knows to have begun. Dropped without [`BegunDownload::end`], it was aborted.
pub(crate) struct BegunDownload {
    trail: Option<Trail>,
    /// The first octet of the range; absent for a ZIP.
    from: Option<u64>,
}

impl BegunDownload {
    /// Writes how it ended.
    pub(crate) async fn end(mut self, delivery: Delivery) {
        if let Some(trail) = self.trail.take() {
            let running = trail.hub.inner.running.clone();
            // A failure is logged where it happens.
            let _ = running.spawn(async move { trail.end(self.from, delivery).await }).await;
        }
    }
}

impl Drop for BegunDownload {
    fn drop(&mut self) {
        if let (Some(trail), Ok(runtime)) = (self.trail.take(), tokio::runtime::Handle::try_current()) {
            let (running, from) = (trail.hub.inner.running.clone(), self.from);
            running.spawn_on(async move { trail.end(from, Delivery::default()).await }, &runtime);
        }
    }
}

/// The producing end of an answer's body.
pub(crate) struct Outlet {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    delivery: oneshot::Receiver<Delivery>,
}

/// What the connection took of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivery {
    pub(crate) bytes: u64,
    pub(crate) complete: bool,
}

/// A body that is fed from elsewhere and tells what was taken of it; `length` when it is known.
pub(crate) fn outlet(length: Option<u64>) -> (Outlet, Body) {
    let (pieces, from) = mpsc::channel(AHEAD);
    let (tell, told) = oneshot::channel();
    // Of an empty body hyper takes nothing, not even its end.
    let delivery = Delivery { bytes: 0, complete: length == Some(0) };
    let tap = Tap { from, length, delivery, tell: Some(tell) };
    (Outlet { pieces, delivery: told }, Body::from_stream(tap))
}

impl Outlet {
    /// False when nobody takes any more.
    pub(crate) async fn send(&self, bytes: Bytes) -> bool {
        self.pieces.send(Ok(bytes)).await.is_ok()
    }

    /// Ends the body, whole or cut, and waits for what was taken of it.
    pub(crate) async fn finish(self, whole: bool) -> Delivery {
        if !whole {
            // An error in the body makes the connection end early: the client sees a cut, not an end.
            let _ = self.pieces.send(Err(io::Error::other("content ended early"))).await;
        }
        drop(self.pieces);
        let delivery = self.delivery.await.unwrap_or_default();
        Delivery { complete: delivery.complete && whole, ..delivery }
    }
}

struct Tap {
    from: mpsc::Receiver<io::Result<Bytes>>,
    length: Option<u64>,
    delivery: Delivery,
    tell: Option<oneshot::Sender<Delivery>>,
}

impl Stream for Tap {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.from.poll_recv(cx));
        match &next {
            Some(Ok(bytes)) => {
                self.delivery.bytes = self.delivery.bytes.saturating_add(bytes.len() as u64);
                if Some(self.delivery.bytes) == self.length {
                    self.delivery.complete = true;
                }
            }
            Some(Err(_)) => {}
            // Without a length, only the end itself is the end.
            None => self.delivery.complete |= self.length.is_none_or(|length| length == self.delivery.bytes),
        }
        Poll::Ready(next)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(self.delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn french_names_survive() {
        let value = disposition("procédure/PV d'audition n° 12 \"été\".pdf").unwrap();
        assert_eq!(
            value.to_str().unwrap(),
            "attachment; filename=\"PV d_audition n_ 12 __t__.pdf\"; \
             filename*=UTF-8''PV%20d%27audition%20n%C2%B0%2012%20%22%C3%A9t%C3%A9%22.pdf"
        );
    }

    #[test]
    fn validators() {
        let etag = "\"sha256-ab\"";
        let with = |name: header::HeaderName, value: &'static str| {
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        assert!(preconditions(&with(header::IF_NONE_MATCH, "W/\"sha256-ab\""), etag).unwrap().is_some());
        assert!(preconditions(&with(header::IF_NONE_MATCH, "\"x\", \"sha256-ab\""), etag).unwrap().is_some());
        assert!(preconditions(&with(header::IF_NONE_MATCH, "\"x\""), etag).unwrap().is_none());
        assert!(preconditions(&with(header::IF_MATCH, "\"x\""), etag).is_err());
        assert!(
            preconditions(&with(header::IF_MATCH, "W/\"sha256-ab\""), etag).is_err(),
            "If-Match is strong"
        );
        assert!(preconditions(&with(header::IF_MATCH, "*"), etag).unwrap().is_none());
        assert!(!if_range_holds(&with(header::IF_RANGE, "W/\"sha256-ab\""), etag));
        assert!(!if_range_holds(&with(header::IF_RANGE, "Sun, 06 Nov 1994 08:49:37 GMT"), etag));
        assert!(if_range_holds(&with(header::IF_RANGE, "\"sha256-ab\""), etag));
    }
}
