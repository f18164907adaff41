//! Delivers one piece of a file to the server: opens or finds its upload, sends the content in one
//! request, and goes on from the server's durable offset after every cut.
//! Memory is bounded by a few frames whatever the size; nothing is kept between runs, because the
//! server knows what it has.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pli_api::{DepositId, DocumentId, DocumentState, UploadId};
use reqwest::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::api::{CallError, Created, NewUpload, metadata};
use super::digest::SharedDigest;
use super::files::{ReadError, Source, media_type};
use super::patience::Patience;
use super::plan::{self, Known, Step};
use super::progress::Piece;
use super::{Failure, Run, texts};

/// Files up to this size go with the request that opens their upload.
const AT_ONCE: u64 = 1 << 20;
/// Frames read ahead of the network.
const AHEAD: usize = 2;
/// When the server takes nothing for this long, the request is cut and taken up again. Dead
/// connections are mostly seen sooner by TCP; this is for those that die without a word. Nothing is
/// lost by a cut: what has arrived stays.
const STALL: Duration = Duration::from_secs(60);
/// The same once everything was handed to the connection and only the answer is missing.
const SILENCE: Duration = Duration::from_secs(30);
/// How often an upload may vanish from the server before the client gives up on it.
const VANISHINGS: u32 = 3;
/// How often in a row a request may be called malformed before it is believed to be.
const CUTS: u32 = 5;

/// Reads what was not hashed while it was sent, and gives the SHA-256 of the file in hexadecimal.
pub(super) async fn digest(run: &Run, source: &Source, so_far: SharedDigest) -> Result<String, Failure> {
    let stop = run.stop.clone();
    let source = source.clone();
    let job = tokio::task::spawn_blocking(move || {
        let mut digest = std::mem::take(&mut *so_far.lock().unwrap_or_else(PoisonError::into_inner));
        let read = source.read(digest.upto(), source.size - digest.upto(), |at, piece| {
            digest.take(at, &piece);
            !stop.is_cancelled()
        });
        match read {
            Ok(()) => Ok(digest.finish()),
            Err(error) => Err(error.into_failure(&source)),
        }
    });
    job.await?
}

/// A file, or a part of one, on its way.
pub(super) struct Delivery<'a> {
    pub(super) run: &'a Run,
    pub(super) client: &'a Client,
    pub(super) deposit: DepositId,
    pub(super) source: &'a Source,
    pub(super) start: u64,
    pub(super) length: u64,
    /// Which part of how many, from 1; `None` for a whole file.
    pub(super) part: Option<(usize, usize)>,
    /// Takes the content while it is sent, when it is sent from the start.
    pub(super) digest: Option<SharedDigest>,
}

/// Where a piece is now.
pub(super) struct Delivered {
    pub(super) upload: Option<UploadId>,
    pub(super) document: Option<DocumentId>,
}

enum Found {
    Nothing,
    Upload(Known),
    Document(DocumentId),
}

enum Pushed {
    All,
    /// The server does not have the upload any more.
    Gone,
}

enum Attempt {
    Reached(u64),
    Failed(CallError),
}

impl Delivery<'_> {
    /// Until the server has every byte, durably.
    pub(super) async fn deliver(&self, known: Option<Known>) -> Result<Delivered, Failure> {
        let counter = Arc::new(self.run.progress.piece());
        let mut patience = Patience::new(self.run.give_up);
        let mut known = known;
        let mut document = None;
        for _ in 0..VANISHINGS {
            let at = match known.take() {
                Some(known) => known,
                None => {
                    let created = match self.create(&mut patience).await? {
                        Ok(created) => created,
                        Err(finished) => {
                            counter.stands_at(self.length);
                            return Ok(Delivered { upload: None, document: Some(finished) });
                        }
                    };
                    document = created.document.or(document);
                    Known { id: created.id, offset: created.offset }
                }
            };
            match self.push(at, &counter, &mut patience).await? {
                Pushed::All => {
                    counter.stands_at(self.length);
                    return Ok(Delivered { upload: Some(at.id), document });
                }
                Pushed::Gone => {
                    counter.stands_at(0);
                    self.run.progress.say(&texts::upload_lost(&self.source.name));
                }
            }
        }
        Err(Failure::Refused(texts::upload_keeps_vanishing(&self.source.name)))
    }

    fn metadata(&self) -> String {
        let deposit = self.deposit.to_string();
        let modified = self.source.modified.to_string();
        let size = self.source.size.to_string();
        let part = self.part.map(|(number, of)| format!("{number}/{of}"));
        let mut pairs = vec![
            ("filename", self.source.name.as_str()),
            ("filetype", media_type(&self.source.name)),
            ("deposit", &deposit),
            (plan::MODIFIED, &modified),
        ];
        if let Some(part) = &part {
            pairs.extend([(plan::PART, part.as_str()), (plan::SIZE, &size)]);
        }
        metadata(pairs)
    }

    /// Opens the upload. When the answer is lost, the server may have opened it all the same: it is
    /// looked for before another is opened. `Err` inside is a document that turned out to be complete.
    async fn create(&self, patience: &mut Patience) -> Result<Result<Created, DocumentId>, Failure> {
        let new = match self.part {
            Some(_) => NewUpload::Partial { length: self.length },
            None => NewUpload::Whole { length: self.length },
        };
        let content =
            if self.length <= AT_ONCE && self.part.is_none() { Some(self.small().await?) } else { None };
        let metadata = self.metadata();
        loop {
            let call = self.run.api.create_upload(self.client, &new, &metadata, content.clone());
            match self.run.unless_stopped(call).await? {
                Ok(created) => return Ok(Ok(created)),
                Err(error) => self.run.bear(patience, error).await?,
            }
            match self.find(patience).await? {
                Found::Nothing => {}
                Found::Upload(known) => {
                    return Ok(Ok(Created { id: known.id, offset: known.offset, document: None }));
                }
                Found::Document(document) => return Ok(Err(document)),
            }
        }
    }

    /// The whole of a small file.
    async fn small(&self) -> Result<Bytes, Failure> {
        let (source, digest) = (self.source.clone(), self.digest.clone());
        let job = tokio::task::spawn_blocking(move || {
            let mut content = Vec::new();
            let read = source.read(0, source.size, |at, piece| {
                hash(digest.as_ref(), at, &piece);
                content.extend_from_slice(&piece);
                true
            });
            read.map(|()| Bytes::from(content)).map_err(|e| e.into_failure(&source))
        });
        job.await?
    }

    /// What the server has of this piece.
    async fn find(&self, patience: &mut Patience) -> Result<Found, Failure> {
        let (uploads, deposit) = loop {
            let both = async {
                Ok((self.run.api.uploads(self.deposit).await?, self.run.api.deposit(self.deposit).await?))
            };
            match self.run.unless_stopped(both).await? {
                Ok(both) => break both,
                Err(error) => self.run.bear(patience, error).await?,
            }
        };
        let documents: Vec<_> = deposit.documents.unwrap_or_default();
        let mine: Vec<_> = documents.into_iter().filter(|d| d.name == self.source.name).collect();
        if let Some(document) = mine.iter().find(|d| d.state != DocumentState::Receiving) {
            return Ok(if self.part.is_none() { Found::Document(document.id) } else { Found::Nothing });
        }
        // The same recognition as at the start of a run, for this one file.
        let streams = self.part.map_or(1, |(_, of)| of);
        let plan = plan::plan(std::slice::from_ref(self.source), &mine, &uploads, streams)?;
        Ok(match (plan.steps.into_iter().next(), self.part) {
            (Some(Step::Whole(Some(known))), None) => Found::Upload(known),
            (Some(Step::Parts(parts)), Some((number, of))) if parts.len() == of => {
                parts.get(number - 1).and_then(|p| p.known).map_or(Found::Nothing, Found::Upload)
            }
            _ => Found::Nothing,
        })
    }

    async fn push(
        &self,
        at: Known,
        counter: &Arc<Piece>,
        patience: &mut Patience,
    ) -> Result<Pushed, Failure> {
        let mut offset = at.offset;
        let mut cuts = 0;
        loop {
            counter.stands_at(offset);
            if offset >= self.length {
                return Ok(Pushed::All);
            }
            let error = match self.attempt(at.id, offset, counter).await? {
                Attempt::Reached(reached) if reached > offset && reached <= self.length => {
                    patience.progressed();
                    cuts = 0;
                    offset = reached;
                    continue;
                }
                Attempt::Reached(_) => CallError::Unexpected("Upload-Offset"),
                Attempt::Failed(error) => error,
            };
            match error.status() {
                Some(404 | 410) => return Ok(Pushed::Gone),
                // Another request of ours was still being read, or moved the offset.
                // Or the server, or a proxy, saw the body end early (a machine that slept) and says so.
                Some(status @ (400 | 409)) if status == 409 || cuts < CUTS => match patience.pause(None) {
                    Some(pause) => self.run.unless_stopped(tokio::time::sleep(pause)).await?,
                    None => return Err(error.into()),
                },
                _ => self.run.bear(patience, error).await?,
            }
            cuts += 1;
            match self.durable(at.id, patience).await? {
                Some(reached) => {
                    if reached > offset {
                        patience.progressed();
                        cuts = 0;
                    }
                    offset = reached;
                }
                None => return Ok(Pushed::Gone),
            }
        }
    }

    /// The server's offset, or `None` when it does not have the upload any more.
    async fn durable(&self, id: UploadId, patience: &mut Patience) -> Result<Option<u64>, Failure> {
        loop {
            match self.run.unless_stopped(self.run.api.offset(id)).await? {
                Ok(offset) if offset <= self.length => return Ok(Some(offset)),
                Ok(_) => return Err(CallError::Unexpected("Upload-Offset").into()),
                Err(error) if matches!(error.status(), Some(404 | 410)) => return Ok(None),
                Err(error) => self.run.bear(patience, error).await?,
            }
        }
    }

    /// One request with everything from `offset` on.
    async fn attempt(&self, id: UploadId, offset: u64, counter: &Arc<Piece>) -> Result<Attempt, Failure> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let flow = Arc::new(Flow::new(receiver));
        let (source, digest) = (self.source.clone(), self.digest.clone());
        let (start, length) = (self.start + offset, self.length - offset);
        let reader = tokio::task::spawn_blocking(move || {
            source.read(start, length, |at, piece| {
                hash(digest.as_ref(), at, &piece);
                sender.blocking_send(piece).is_ok()
            })
        });
        let body = Content { flow: flow.clone(), left: length, counter: counter.clone() };
        let call = self.run.api.patch(self.client, id, offset, reqwest::Body::wrap(body));
        let outcome = tokio::select! {
            outcome = call => Some(outcome),
            () = flow.stalled() => Some(Err(CallError::Stalled)),
            () = self.run.stop.cancelled() => None,
        };
        // The server may have answered before it read everything: the connection must not go on
        // sending what nobody wants, nor the reader wait for it.
        flow.end();
        match reader.await? {
            Ok(()) | Err(ReadError::Stopped) => {}
            Err(error) => return Err(error.into_failure(self.source)),
        }
        match outcome {
            None => Err(Failure::Interrupted),
            Some(Ok(reached)) => Ok(Attempt::Reached(reached)),
            Some(Err(error)) => Ok(Attempt::Failed(error)),
        }
    }
}

fn hash(digest: Option<&SharedDigest>, at: u64, piece: &[u8]) {
    if let Some(digest) = digest {
        digest.lock().unwrap_or_else(PoisonError::into_inner).take(at, piece);
    }
}

/// The frames between the reader and the network, and when the last one was taken.
struct Flow {
    frames: Mutex<mpsc::Receiver<Bytes>>,
    start: Instant,
    /// Milliseconds after `start`.
    last: AtomicU64,
    /// Everything was taken.
    all: AtomicBool,
}

impl Flow {
    fn new(frames: mpsc::Receiver<Bytes>) -> Self {
        Self {
            frames: Mutex::new(frames),
            start: Instant::now(),
            last: AtomicU64::new(0),
            all: AtomicBool::new(false),
        }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(millis, Ordering::Relaxed);
    }

    fn end(&self) {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// Ends when no frame was taken for [`STALL`], or nothing was answered for [`SILENCE`].
    async fn stalled(&self) {
        loop {
            let limit = if self.all.load(Ordering::Relaxed) { SILENCE } else { STALL };
            let until = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            let now = Instant::now();
            if now >= until {
                return;
            }
            // Looks again early enough to see that the last frame is gone.
            tokio::time::sleep_until(until.min(now + SILENCE)).await;
        }
    }
}

/// A request body of known length that is read from disk as the network takes it.
struct Content {
    flow: Arc<Flow>,
    left: u64,
    counter: Arc<Piece>,
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = {
            let mut frames = self.flow.frames.lock().unwrap_or_else(PoisonError::into_inner);
            match frames.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            }
        };
        match next {
            Some(frame) => {
                let bytes = frame.len() as u64;
                self.left = self.left.saturating_sub(bytes);
                self.counter.moved(bytes);
                self.flow.touch();
                self.flow.all.store(self.left == 0, Ordering::Relaxed);
                Poll::Ready(Some(Ok(Frame::data(frame))))
            }
            None if self.left == 0 => Poll::Ready(None),
            // The reader stopped early: the request must fail, not end short.
            None => Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flow_stalls_only_when_nothing_moves() {
        let (_sender, receiver) = mpsc::channel(1);
        let flow = Arc::new(Flow::new(receiver));
        let watched = flow.clone();
        let stalled = tokio::spawn(async move {
            watched.stalled().await;
            watched.start.elapsed()
        });
        for _ in 0..5 {
            tokio::time::sleep(STALL / 2).await;
            flow.touch();
        }
        let after = stalled.await.unwrap();
        assert!(after >= STALL * 7 / 2 && after < STALL * 4, "{after:?}");

        let flow = Flow::new(mpsc::channel(1).1);
        flow.all.store(true, Ordering::Relaxed);
        flow.stalled().await;
        assert!(flow.start.elapsed() < STALL);
    }
}
