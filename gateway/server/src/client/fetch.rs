//! Brings documents to their places: several at once, and a large one in several stripes.
//! Every stripe goes on from what is on the disk after a cut; a document is compared with the
//! announced SHA-256 before it gets its name, and nothing is replaced unless asked.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pli_api::DocumentId;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::CallError;
use super::partial::{OpenError, Partial};
use super::patience::Patience;
use super::progress::Piece;
use super::{Failure, Run, texts};

/// Without a byte for this long, a download is cut and asked for again.
const STALL: Duration = Duration::from_secs(30);
/// Pieces between the network and the disk.
const AHEAD: usize = 8;
const READ: usize = 1 << 20;

/// A document and its place.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: DocumentId,
    pub(super) name: String,
    pub(super) size: u64,
    /// Lower-case hexadecimal.
    pub(super) sha256: String,
    /// Where it is written.
    pub(super) path: PathBuf,
    /// The same, from the chosen folder on.
    pub(super) relative: PathBuf,
}

/// How a document came to be at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fetched {
    Downloaded,
    Present,
}

pub(super) type Outcome = (Arc<Item>, Result<Fetched, Failure>);

/// Fetches all items. What fails for one document does not stop the others, unless it is the server
/// that is gone; documents that were not begun by then have no outcome.
pub(super) async fn all(
    run: &Arc<Run>,
    items: Vec<Item>,
    force: bool,
    streams: usize,
) -> Result<Vec<Outcome>, Failure> {
    let jobs = items.into_iter().map(|item| Job::Document(Arc::new(item))).collect();
    let fetching = Arc::new(Fetching {
        run: run.clone(),
        force,
        streams,
        queue: Mutex::new(Queue { jobs, opening: 0 }),
        changed: Notify::new(),
        outcomes: Mutex::default(),
    });
    let mut work = JoinSet::new();
    for stream in 0..streams {
        let fetching = fetching.clone();
        work.spawn(async move { fetching.stream(stream).await });
    }
    while let Some(done) = work.join_next().await {
        done?;
    }
    let outcomes = std::mem::take(&mut *fetching.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(outcomes)
}

enum Job {
    Document(Arc<Item>),
    Stripe(Arc<Open>, usize),
}

struct Queue {
    jobs: VecDeque<Job>,
    /// Documents being opened, which may bring stripes.
    opening: usize,
}

struct Fetching {
    run: Arc<Run>,
    force: bool,
    streams: usize,
    queue: Mutex<Queue>,
    changed: Notify,
    outcomes: Mutex<Vec<Outcome>>,
}

/// A document whose stripes are under way.
struct Open {
    item: Arc<Item>,
    partial: Partial,
    counters: Vec<Arc<Piece>>,
    /// Stripes that have not ended.
    missing: AtomicUsize,
    failure: Mutex<Option<Failure>>,
}

impl Open {
    fn new(run: &Run, item: Arc<Item>, partial: Partial) -> Arc<Self> {
        let counters = partial.stripes().iter().map(|stripe| {
            let counter = run.progress.piece();
            counter.stands_at(stripe.reached());
            Arc::new(counter)
        });
        let counters = counters.collect();
        let missing = AtomicUsize::new(partial.stripes().len());
        Arc::new(Self { item, partial, counters, missing, failure: Mutex::new(None) })
    }

    fn failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn fail(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }
}

impl Fetching {
    async fn stream(&self, stream: usize) {
        let client = self.run.api.stream(stream);
        while let Some(job) = self.next().await {
            match job {
                Job::Document(item) => {
                    let outcome = self.begin(client, &item).await;
                    match outcome {
                        Ok(Some(open)) => self.enqueue(&open),
                        Ok(None) => self.ended(item, Ok(Fetched::Present)),
                        Err(failure) => self.ended(item, Err(failure)),
                    }
                    self.queue.lock().unwrap_or_else(PoisonError::into_inner).opening -= 1;
                    self.changed.notify_waiters();
                }
                Job::Stripe(open, index) => {
                    if let Err(failure) = self.stripe(client, &open, index).await {
                        open.fail(failure);
                    }
                    if open.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
                        self.finish(open).await;
                    }
                }
            }
        }
    }

    /// The next job; waits while an opening document may bring some. `None` at the end.
    async fn next(&self) -> Option<Job> {
        loop {
            // Before looking, so that no change is missed in between.
            let changed = self.changed.notified();
            {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(job) = queue.jobs.pop_front() {
                    if self.run.stop.is_cancelled() && matches!(job, Job::Document(_)) {
                        return None;
                    }
                    queue.opening += usize::from(matches!(job, Job::Document(_)));
                    return Some(job);
                }
                if queue.opening == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Before the documents that are not begun.
    fn enqueue(&self, open: &Arc<Open>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for index in (0..open.counters.len()).rev() {
            queue.jobs.push_front(Job::Stripe(open.clone(), index));
        }
        drop(queue);
        self.changed.notify_waiters();
    }

    fn ended(&self, item: Arc<Item>, outcome: Result<Fetched, Failure>) {
        match &outcome {
            Ok(_) => self.run.progress.file_done(),
            // A server that is gone will not be back for the next document.
            Err(Failure::Interrupted | Failure::Unreachable(_)) => self.run.stop.cancel(),
            Err(_) => {}
        }
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((item, outcome));
    }

    /// Opens the partial file of a document, unless its place holds the document already.
    async fn begin(&self, client: &Client, item: &Arc<Item>) -> Result<Option<Arc<Open>>, Failure> {
        if self.already_there(item).await? {
            self.run.progress.piece().stands_at(item.size);
            return Ok(None);
        }
        if item.size == 0 {
            // Nothing to write; asked for all the same, so that the journal says it was handed over.
            self.run.insist(|| self.run.api.content(client, item.id, None)).await?;
        }
        let (wanted, streams) = (item.clone(), self.streams);
        let opened = tokio::task::spawn_blocking(move || {
            Partial::open(&wanted.path, wanted.size, &wanted.sha256, streams)
        });
        match opened.await? {
            Ok(partial) => Ok(Some(Open::new(&self.run, item.clone(), partial))),
            Err(OpenError::Locked) => Err(Failure::LocalFile(texts::locked(&item.path))),
            Err(OpenError::NotAFile) => Err(Failure::LocalFile(texts::not_a_file(&item.path))),
            Err(OpenError::Io(e)) => Err(Failure::LocalFile(texts::unreadable(&item.path, &e))),
        }
    }

    /// Whether the place holds the document already.
    ///
    /// # Errors
    /// When it holds something else that may not be replaced.
    async fn already_there(&self, item: &Arc<Item>) -> Result<bool, Failure> {
        let unreadable = |e: io::Error| Failure::LocalFile(texts::unreadable(&item.path, &e));
        let metadata = match std::fs::symlink_metadata(&item.path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(unreadable(e)),
        };
        if !metadata.is_file() {
            return Err(Failure::LocalFile(texts::not_a_file(&item.path)));
        }
        if metadata.len() == item.size {
            let (path, stop) = (item.path.clone(), self.run.stop.clone());
            let hashed = tokio::task::spawn_blocking(move || hash_file(File::open(path)?, &stop));
            if hashed.await?.map_err(unreadable)? == item.sha256 {
                return Ok(true);
            }
        }
        if self.run.stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        if self.force { Ok(false) } else { Err(Failure::LocalFile(texts::present_differs(&item.path))) }
    }

    /// Fetches a stripe to its end.
    async fn stripe(&self, client: &Client, open: &Arc<Open>, index: usize) -> Result<(), Failure> {
        let (Some(stripe), Some(counter)) = (open.partial.stripes().get(index), open.counters.get(index))
        else {
            return Ok(());
        };
        let mut patience = Patience::new(self.run.give_up);
        let mut tag = None;
        while stripe.left() > 0 && !open.failed() {
            counter.stands_at(stripe.reached());
            let before = stripe.reached();
            let outcome = self.attempt(client, open, index, counter, &mut tag).await?;
            if stripe.reached() > before {
                patience.progressed();
            }
            if let Err(error) = outcome {
                self.run.bear(&mut patience, error).await?;
            }
        }
        Ok(())
    }

    /// One request for the rest of a stripe. The outer failure is final, the inner error may pass.
    async fn attempt(
        &self,
        client: &Client,
        open: &Arc<Open>,
        index: usize,
        counter: &Piece,
        tag: &mut Option<HeaderValue>,
    ) -> Result<Result<(), CallError>, Failure> {
        let Some(stripe) = open.partial.stripes().get(index) else { return Ok(Ok(())) };
        let item = &open.item;
        let range = stripe.start + stripe.reached()..stripe.start + stripe.length;
        let asked = async {
            if tag.is_none() && range != (0..item.size) {
                *tag = self.run.api.tag(item.id).await?;
            }
            let part = tag.clone().filter(|_| range != (0..item.size)).map(|tag| (range.clone(), tag));
            self.run.api.content(client, item.id, part).await
        };
        let response = match self.run.unless_stopped(asked).await? {
            Ok(response) => response,
            Err(error) => return Ok(Err(error)),
        };
        match first_byte(&response, range.end, item.size)? {
            first if first == range.start => {}
            0 if range.end == item.size && stripe.start == 0 => {
                // The whole content came instead of the rest.
                open.partial.restart_stripe(stripe);
                counter.stands_at(0);
            }
            _ => return Err(CallError::Unexpected(texts::RANGE_IGNORED).into()),
        }
        *tag = strong_tag(&response);
        self.pour(open, index, response, counter).await
    }

    /// From the network to the disk until the stripe's end or a cut.
    async fn pour(
        &self,
        open: &Arc<Open>,
        index: usize,
        mut response: Response,
        counter: &Piece,
    ) -> Result<Result<(), CallError>, Failure> {
        let mut left = open.partial.stripes().get(index).map_or(0, |stripe| stripe.left());
        let (sender, mut pieces) = mpsc::channel::<Bytes>(AHEAD);
        let writing = open.clone();
        let writer = tokio::task::spawn_blocking(move || -> io::Result<()> {
            let Some(stripe) = writing.partial.stripes().get(index) else { return Ok(()) };
            while let Some(piece) = pieces.blocking_recv() {
                writing.partial.write(stripe, &piece)?;
            }
            Ok(())
        });
        let trouble = loop {
            if left == 0 || open.failed() {
                break Ok(());
            }
            let next = tokio::select! {
                next = tokio::time::timeout(STALL, response.chunk()) => next,
                () = self.run.stop.cancelled() => break Ok(()),
            };
            match next {
                Err(_) | Ok(Ok(None)) => break Err(CallError::Stalled),
                Ok(Err(error)) => break Err(error.into()),
                Ok(Ok(Some(piece))) if piece.len() as u64 > left => {
                    break Err(CallError::Unexpected(texts::TOO_MUCH));
                }
                Ok(Ok(Some(piece))) => {
                    let bytes = piece.len() as u64;
                    if sender.send(piece).await.is_err() {
                        // The disk refused: the writer says why.
                        break Ok(());
                    }
                    left -= bytes;
                    counter.moved(bytes);
                }
            }
        };
        drop(sender);
        writer.await?.map_err(|e| Failure::LocalFile(texts::unreadable(&open.item.path, &e)))?;
        if self.run.stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        Ok(trouble)
    }

    /// All stripes of a document have ended, well or not.
    async fn finish(&self, open: Arc<Open>) {
        let failure = open.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let outcome = match failure {
            Some(failure) => {
                let saving = open.clone();
                // What arrived is worth keeping; that it cannot be noted changes nothing to the failure.
                let _ = tokio::task::spawn_blocking(move || saving.partial.save()).await;
                Err(failure)
            }
            None => self.conclude(&open).await,
        };
        match outcome {
            Ok(true) => self.ended(open.item.clone(), Ok(Fetched::Downloaded)),
            Ok(false) => {
                open.missing.store(open.counters.len(), Ordering::Release);
                self.enqueue(&open);
            }
            Err(failure) => self.ended(open.item.clone(), Err(failure)),
        }
    }

    /// Compares and names a document; false when it has to be fetched again from its start.
    async fn conclude(&self, open: &Arc<Open>) -> Result<bool, Failure> {
        let (this, force, stop) = (open.clone(), self.force, self.run.stop.clone());
        let job = tokio::task::spawn_blocking(move || -> io::Result<Concluded> {
            let (item, partial) = (&this.item, &this.partial);
            let Some(ours) = partial.digest(|| !stop.is_cancelled())? else { return Ok(Concluded::Stopped) };
            if ours == item.sha256 {
                partial.place(&item.path, force)?;
                Ok(Concluded::Placed)
            } else if partial.inherited() {
                partial.restart()?;
                Ok(Concluded::Again)
            } else {
                partial.discard()?;
                Ok(Concluded::Differs(ours))
            }
        });
        let item = &open.item;
        match job.await? {
            Ok(Concluded::Placed) => Ok(true),
            Ok(Concluded::Stopped) => Err(Failure::Interrupted),
            Ok(Concluded::Again) => {
                // What an earlier run left was the start of something else.
                self.run.progress.say(&texts::restarting(&item.name));
                open.counters.iter().for_each(|counter| counter.stands_at(0));
                Ok(false)
            }
            Ok(Concluded::Differs(ours)) => {
                Err(Failure::Digest(texts::received_differs(&item.name, &ours, &item.sha256)))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::LocalFile(texts::present_differs(&item.path)))
            }
            Err(e) => Err(Failure::LocalFile(texts::unreadable(&item.path, &e))),
        }
    }
}

enum Concluded {
    Placed,
    Stopped,
    Again,
    Differs(String),
}

/// Hashes a file, or as much of it as is read before `stop`.
fn hash_file(mut file: File, stop: &CancellationToken) -> io::Result<String> {
    let mut buffer = vec![0; READ];
    let mut hash = Sha256::new();
    while !stop.is_cancelled() {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => hash.update(buffer.get(..got).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn strong_tag(response: &Response) -> Option<HeaderValue> {
    response.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned()
}

/// Where the content of an answer starts; it must go to `end`, and be of a content of `size` bytes.
fn first_byte(response: &Response, end: u64, size: u64) -> Result<u64, CallError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return match response.content_length() {
            Some(length) if length != size => Err(CallError::Unexpected("Content-Length")),
            _ => Ok(0),
        };
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    parse_range(range.unwrap_or_default(), end, size).ok_or(CallError::Unexpected("Content-Range"))
}

/// `bytes 10-49/100` for an end of 50 and a size of 100: 10.
fn parse_range(value: &str, end: u64, size: u64) -> Option<u64> {
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (whole.parse() == Ok(size) && last.checked_add(1) == Some(end) && first <= last).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_must_be_of_the_same_content_and_go_to_the_end_that_was_asked() {
        assert_eq!(parse_range("bytes 10-99/100", 100, 100), Some(10));
        assert_eq!(parse_range("bytes 0-49/100", 50, 100), Some(0));
        let bad = [
            "",
            "bytes 10-98/100",
            "bytes 10-99/101",
            "bytes 10-99/*",
            "bytes */100",
            "10-99/100",
            "bytes 99-10/100",
        ];
        for value in bad {
            assert_eq!(parse_range(value, 100, 100), None, "{value}");
        }
        assert_eq!(parse_range("bytes 10-99/100", 50, 100), None);
    }
}
