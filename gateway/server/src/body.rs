//! Request bodies that may not stand still, and answers that are counted to their last byte.
//!
//! Owns the time limit on a body under way and the byte counts of the request's log line. Must never
//! limit how long a whole transfer takes, and never hold bytes back.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{limits::Limits, request::Record};

/// Why a request body ended before its end: for the handler, a cut like any other.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyCut {
    /// Its source is of the kind `TimedOut`, by which a handler that does not know this type tells it from a cut.
    #[error("the client sent too little for too long")]
    Slow(#[source] io::Error),
    #[error("the connection ended or broke the protocol")]
    Connection(#[source] hyper::Error),
}

/// How much of a request body was read, as seen from outside of the handler.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Intake {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the body was read to its end: what follows on the connection is the next request.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A request body whose sender has to bring a minimum of bytes in each stretch of waiting.
pub(crate) struct Guarded<B> {
    inner: B,
    limit: Duration,
    progress: u64,
    intake: Arc<Intake>,
    /// Bytes since the last time the minimum was reached.
    fresh: u64,
    /// Waiting done since then.
    waited: Duration,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B: Body> Guarded<B> {
    pub(crate) fn new(inner: B, limits: &Limits, intake: Arc<Intake>) -> Self {
        intake.ended.store(inner.is_end_stream(), Ordering::Relaxed);
        Self {
            inner,
            limit: limits.body,
            progress: limits.body_progress,
            intake,
            fresh: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    fn arrived(&mut self, bytes: u64) {
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.intake.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.fresh += bytes;
        if self.fresh >= self.progress {
            self.fresh = 0;
            self.waited = Duration::ZERO;
        }
    }
}

impl<B> Body for Guarded<B>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                let frame = frame.transpose().map_err(BodyCut::Connection)?;
                let bytes = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
                self.arrived(bytes as u64);
                if frame.is_none() || self.inner.is_end_stream() {
                    self.intake.ended.store(true, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(Ok))
            }
            Poll::Pending => {
                let left = self.limit.saturating_sub(self.waited);
                let (_, sleep) =
                    self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
                ready!(sleep.as_mut().poll(cx));
                ::metrics::counter!("pli_http_bodies_cut_total", "reason" => "slow").increment(1);
                Poll::Ready(Some(Err(BodyCut::Slow(io::ErrorKind::TimedOut.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body: counts, tells the watch when it is the peer's turn, and carries the request's
/// log line, which is written when this is dropped.
pub(crate) struct Metered {
    inner: axum::body::Body,
    record: Record,
    /// Bytes to come, where the answer says how many. hyper does not ask again after the last.
    left: Option<u64>,
}

impl Metered {
    pub(crate) fn new(inner: axum::body::Body, mut record: Record, length: Option<u64>) -> Self {
        if inner.is_end_stream() || length == Some(0) {
            record.complete();
        }
        Self { left: length.or(inner.size_hint().exact()), inner, record }
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.record.taken();
        let frame = {
            let span = self.record.span().clone();
            let _entered = span.enter();
            ready!(Pin::new(&mut self.inner).poll_frame(cx))
        };
        match &frame {
            None => self.record.complete(),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.record.handed(bytes as u64);
                self.left = self.left.map(|left| left.saturating_sub(bytes as u64));
                if self.inner.is_end_stream() || self.left == Some(0) {
                    self.record.complete();
                }
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
