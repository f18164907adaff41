//! The path of uploaded bytes: received into blocks, hashed and sealed, stored, then named in the database.
//!
//! Four stages run side by side — receive, seal, store, commit — each on its own segment, so that a
//! transfer holds at most [`HubOptions::upload_memory`](crate::HubOptions). The durable offset moves
//! with each commit, while the request still runs. Must never name a segment in the database before
//! the store has it durably, nor delete an object whose commit may have happened.

use crate::access::Actor;
use crate::blocks::{Block, Share};
use crate::checksum::Checksum;
use crate::content::{Content, Piece};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::{Hub, Writer, jobs, uploads};
use axum::body::Body;
use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use http_body_util::BodyExt as _;
use pli_api::{DocumentId, OrganisationId, ProblemCode, Time, UploadId, UploadKind};
use pli_seal::{ContentDigest, DocumentKey, Filling, SealError, SegmentRow};
use pli_storage::{Class, DbError, ObjectKey, Tx, args};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A last segment shorter than this, and than a full one, is taken up again by the next request, so that
/// many small requests do not leave many small segments; each rewrites at most this much. It fits in
/// one block: a tail is never split between two segments.
const TAIL: usize = pli_seal::content_of_blocks(1);

/// How long a stored object may wait, in seconds, before a row names it: half of what the sweep of orphans
/// gives at the least. Only requests with a checksum keep objects waiting.
pub(crate) const UNNAMED: i64 = 12 * 3600;

/// Segments of one transfer that are being stored at a time.
const PUTS: usize = 2;

/// What is known of an upload when a writer has taken it.
pub(crate) struct Target {
    pub(crate) writer: Writer,
    pub(crate) kind: UploadKind,
    pub(crate) actor: Actor,
    pub(crate) organisation: OrganisationId,
    pub(crate) document: Option<DocumentId>,
    pub(crate) key: DocumentKey,
    pub(crate) size: Option<u64>,
    pub(crate) received: u64,
    pub(crate) reserved: u64,
    pub(crate) segments: i64,
    pub(crate) digest: Option<Vec<u8>>,
    pub(crate) digest_before: Option<Vec<u8>>,
    /// The last segment, with its place.
    pub(crate) last: Option<Piece>,
}

/// How a request's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// At its end.
    Body,
    /// Before its end.
    Cut,
    /// By the server, because it stood still.
    Slow,
    /// Because the server stops.
    Stopping,
    /// Because a newer writer came, or the upload was terminated.
    TakenOver,
    /// Because its owner asks how far it came, to resume.
    Retired,
    /// Past what the upload or the limit allows.
    TooLarge,
}

/// What came of it.
pub(crate) struct Received {
    pub(crate) offset: u64,
    pub(crate) ended: Ended,
}

/// A segment full of content, on its way to be sealed.
struct Filled {
    filling: Filling<Block>,
    /// The shorter segment that this one takes the place of.
    replaces: Option<Tail>,
}

/// A short last segment: its content now stands at the beginning of a longer one.
struct Tail {
    object: ObjectKey,
    length: u64,
}

/// A sealed segment, on its way to the store.
struct Sealed {
    row: SegmentRow,
    parts: Vec<Bytes>,
    replaces: Option<Tail>,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// A segment that the store holds, on its way to the database.
struct Stored {
    /// When it was handed to the store.
    at: Time,
    row: SegmentRow,
    object: ObjectKey,
    replaces: Option<Tail>,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// Receives a body to its end, its cut, or the first failure.
pub(crate) async fn receive(
    hub: Hub,
    mut target: Target,
    body: Body,
    limit: u64,
    mut checksum: Option<Checksum>,
) -> Result<Received> {
    let (to_sealer, filled) = mpsc::channel(1);
    let (to_store, sealed) = mpsc::channel(1);
    let short = TAIL.min(hub.options().segment_size) as u64;
    let tail = target.last.take().filter(|last| last.row.length < short);
    let (saved, at) = match &tail {
        Some(tail) => (&target.digest_before, target.received.saturating_sub(tail.row.length)),
        None => (&target.digest, target.received),
    };
    let digest = restore(saved.as_deref(), &target.key, at)?;
    let share =
        hub.inner.blocks.share(hub.options().upload_memory.max(2 * hub.options().segment_size + (4 << 20)));
    let staged = checksum.is_some();
    let (token, retired) = (target.writer.token.clone(), Arc::clone(&target.writer.retired));
    let key = target.key.clone();

    let sealer = tokio::spawn(seal(key.clone(), digest, filled, to_store));
    let committer = tokio::spawn(store(hub.clone(), target, sealed, staged));
    let mut reader = Reader {
        hub: &hub,
        token,
        retired,
        key,
        share,
        tail,
        to_sealer,
        limit,
        filling: Filling::new(),
        replaces: None,
    };
    let ended = reader.read(body, &mut checksum).await;
    // What arrived before a cut is kept as a short segment; with a checksum it cannot be judged, and is not.
    let keep = match ended {
        Ok(Ended::Body) => true,
        Ok(Ended::Cut | Ended::Slow | Ended::Stopping | Ended::Retired) => !staged,
        _ => false,
    };
    let flushed = if keep { reader.hand_over().await } else { Ok(()) };
    drop(reader);
    let sealed = sealer.await?;
    let mut committer = committer.await?;

    // The last stage knows the first cause; the others only that their neighbour is gone.
    let failure = committer.failure.take().map_or(Ok(()), Err);
    let verdict = failure.and(sealed).and(ended).and_then(|ended| flushed.map(|()| ended));
    let ended = match verdict {
        Ok(ended) => ended,
        Err(fault) => {
            committer.discard_staged().await;
            return Err(fault);
        }
    };
    let right = checksum.is_none_or(Checksum::matches);
    if staged && (ended != Ended::Body || !right) {
        committer.discard_staged().await;
        if ended == Ended::Body {
            return Err(ProblemCode::ChecksumMismatch.into());
        }
    }
    committer.finish().await?;
    Ok(Received { offset: committer.target.received, ended })
}

/// Whether the server ended this body itself, its sender having stood still.
fn timed_out(error: &axum::Error) -> bool {
    let sources = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    sources
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

/// The running digest at this offset. One that is lost is no reason to refuse bytes: a digest that does not
/// cover the whole document is made anew when the document is finished.
fn restore(saved: Option<&[u8]>, key: &DocumentKey, at: u64) -> Result<ContentDigest> {
    match saved.map(|saved| ContentDigest::restore(saved, key)) {
        Some(Ok(digest)) if digest.length() == at => return Ok(digest),
        None if at == 0 => {}
        None | Some(Ok(_) | Err(SealError::Damaged(_) | SealError::WrongKey)) => {
            tracing::error!("running digest lost: the content will be read through");
        }
        Some(Err(error)) => return Err(error.into()),
    }
    Ok(ContentDigest::new())
}

/// The first stage.
struct Reader<'h> {
    hub: &'h Hub,
    token: CancellationToken,
    retired: Arc<AtomicBool>,
    key: DocumentKey,
    share: Share,
    tail: Option<Piece>,
    to_sealer: mpsc::Sender<Filled>,
    limit: u64,
    filling: Filling<Block>,
    replaces: Option<Tail>,
}

impl Reader<'_> {
    async fn read(&mut self, mut body: Body, checksum: &mut Option<Checksum>) -> Result<Ended> {
        let mut left = self.limit;
        loop {
            // Stopped only between frames, where the segment at hand is whole in itself.
            let frame = tokio::select! {
                biased;
                () = self.token.cancelled() => return Ok(self.cancelled()),
                // A later stage has failed: nothing that still comes would be kept.
                () = self.to_sealer.closed() => return Err(Fault::internal("sealing ended early")),
                frame = body.frame() => frame,
            };
            let Some(frame) = frame else { return Ok(Ended::Body) };
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) if timed_out(&error) => return Ok(Ended::Slow),
                Err(_) => return Ok(Ended::Cut),
            };
            let Ok(data) = frame.into_data() else { continue };
            let Some(rest) = left.checked_sub(data.len() as u64) else { return Ok(Ended::TooLarge) };
            left = rest;
            if let Some(checksum) = checksum {
                checksum.update(&data);
            }
            if !data.is_empty() {
                let taken = self.take_up_tail().await? && self.put(data).await?;
                if !taken {
                    return Ok(self.cancelled());
                }
            }
        }
    }

    fn cancelled(&self) -> Ended {
        if self.hub.stopping() {
            Ended::Stopping
        } else if self.retired.load(Ordering::SeqCst) {
            Ended::Retired
        } else {
            Ended::TakenOver
        }
    }

    /// Puts the content of a short last segment in front of the new bytes. False when the writer was
    /// ended meanwhile: nothing of the tail is at hand then.
    async fn take_up_tail(&mut self) -> Result<bool> {
        let Some(tail) = self.tail.take() else { return Ok(true) };
        let (object, length) = (tail.object.clone(), tail.row.length);
        let content = Content::of_segment(self.key.clone(), tail);
        let mut reader = content.reader(self.hub.clone(), 0..length);
        loop {
            match reader.next().await {
                Ok(Some(bytes)) => {
                    if !self.put(bytes).await? {
                        self.filling = Filling::new();
                        return Ok(false);
                    }
                }
                Ok(None) => break,
                // Its row is no more: another writer has taken it up before us.
                Err(fault) if fault.code() == ProblemCode::Gone => return Err(ProblemCode::TakenOver.into()),
                Err(fault) => return Err(fault),
            }
        }
        self.replaces = Some(Tail { object, length });
        Ok(true)
    }

    /// Takes content in. False when the writer was ended while it waited for memory: what was taken
    /// until then is the beginning of it.
    async fn put(&mut self, mut data: Bytes) -> Result<bool> {
        let full = self.hub.options().segment_size;
        while !data.is_empty() {
            if self.filling.room() == 0 {
                match self.share.block_now().await {
                    Some(block) => self.filling.add_block(block)?,
                    // The blocks at hand are full.
                    None if !self.filling.is_empty() => {
                        self.hand_over().await?;
                        continue;
                    }
                    // Holding none, so that whoever holds some can go on.
                    None => {
                        let block = tokio::select! {
                            biased;
                            () = self.token.cancelled() => return Ok(false),
                            block = self.share.block() => block,
                        };
                        self.filling.add_block(block.ok_or_else(|| Fault::internal("block pool closed"))?)?;
                    }
                }
            }
            let take = data.len().min(full.saturating_sub(self.filling.len()));
            let taken = self.filling.put(data.get(..take).unwrap_or_default());
            data.advance(taken);
            if self.filling.len() >= full {
                self.hand_over().await?;
            }
        }
        Ok(true)
    }

    /// Closes the segment at hand.
    async fn hand_over(&mut self) -> Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let filling = std::mem::replace(&mut self.filling, Filling::new());
        let filled = Filled { filling, replaces: self.replaces.take() };
        self.to_sealer.send(filled).await.map_err(|_| Fault::internal("sealing ended early"))
    }
}

/// The second stage: in order, because the digest runs through.
async fn seal(
    key: DocumentKey,
    mut digest: ContentDigest,
    mut filled: mpsc::Receiver<Filled>,
    to_store: mpsc::Sender<Sealed>,
) -> Result<()> {
    loop {
        let next = tokio::select! {
            biased;
            () = to_store.closed() => return Err(Fault::internal("storing ended early")),
            next = filled.recv() => next,
        };
        let Some(Filled { filling, replaces }) = next else { return Ok(()) };
        let key = key.clone();
        let work = tokio::task::spawn_blocking(move || {
            let before = digest.save(&key)?;
            let sealed = filling.seal(&key, &mut digest)?;
            let after = digest.save(&key)?;
            let row = sealed.row();
            Ok::<_, pli_seal::SealError>((
                digest,
                Sealed { row, parts: sealed.into_bytes(), replaces, before, after },
            ))
        });
        let (next, sealed) = work.await??;
        digest = next;
        if to_store.send(sealed).await.is_err() {
            return Err(Fault::internal("storing ended early"));
        }
    }
}

/// The third and fourth stages: some segments are being stored while the first of them is committed.
async fn store(hub: Hub, target: Target, mut sealed: mpsc::Receiver<Sealed>, staged: bool) -> Committer {
    let mut committer = Committer { hub, target, staged: Vec::new(), failure: None };
    let mut puts = FuturesOrdered::new();
    let mut open = true;
    while open || !puts.is_empty() {
        tokio::select! {
            Some(done) = puts.next(), if !puts.is_empty() => {
                let done: Result<Result<Stored>, tokio::task::JoinError> = done;
                let outcome = match done {
                    Ok(Ok(stored)) => committer.take(stored, staged).await,
                    Ok(Err(fault)) => Err(fault),
                    Err(join) => Err(join.into()),
                };
                if let Err(fault) = outcome {
                    committer.failure = Some(fault);
                    break;
                }
            }
            next = sealed.recv(), if open && puts.len() < PUTS => match next {
                Some(next) => puts.push_back(tokio::spawn(put(committer.hub.clone(), next))),
                None => open = false,
            },
        }
    }
    // After a failure: what was still being stored is named nowhere, and nobody will name it.
    while let Some(done) = puts.next().await {
        if let Ok(Ok(stored)) = done {
            committer.staged.push(stored);
        }
    }
    committer
}

async fn put(hub: Hub, sealed: Sealed) -> Result<Stored> {
    let (at, object) = (hub.now(), ObjectKey::random(Class::Segment)?);
    hub.blobs().put(&object, sealed.parts).await?;
    metrics::counter!("pli_segments_sealed_total").increment(1);
    metrics::counter!("pli_content_bytes_sealed_total").increment(sealed.row.length);
    let Sealed { row, replaces, before, after, .. } = sealed;
    Ok(Stored { at, row, object, replaces, before, after })
}

struct Committer {
    hub: Hub,
    target: Target,
    /// Stored and not named in the database: they wait for the checksum, or nobody will name them.
    staged: Vec<Stored>,
    failure: Option<Fault>,
}

impl Committer {
    async fn take(&mut self, stored: Stored, staged: bool) -> Result<()> {
        if staged {
            self.staged.push(stored);
            return Ok(());
        }
        self.commit(vec![stored]).await
    }

    /// Commits what was staged, and the end of the upload when nothing was left to commit.
    async fn finish(&mut self) -> Result<()> {
        let staged = std::mem::take(&mut self.staged);
        let ended_by_length = self.target.size == Some(self.target.received);
        if staged.is_empty() && !ended_by_length {
            return Ok(());
        }
        self.commit(staged).await
    }

    async fn discard_staged(&mut self) {
        for stored in std::mem::take(&mut self.staged) {
            discard(&self.hub, &stored.object).await;
        }
    }

    /// Names segments in the database. Tried again while the database is away for a moment.
    async fn commit(&mut self, batch: Vec<Stored>) -> Result<()> {
        let mut pause = Duration::from_millis(100);
        let mut tries = 0_u32;
        // Whether a commit was sent whose answer never came.
        let mut unsure = false;
        let fault = loop {
            // Older ones may be gone: the sweep of orphans takes what nothing names.
            let oldest = self.hub.now().plus_seconds(-UNNAMED);
            if batch.iter().any(|stored| stored.at <= oldest) {
                let detail = "Avec une empreinte, un morceau doit être reçu en moins de douze heures.";
                break Fault::because(ProblemCode::TooLarge, detail);
            }
            match self.try_commit(&batch, &mut unsure).await {
                Ok(true) => return Ok(()),
                Ok(false) => break ProblemCode::TakenOver.into(),
                Err(fault) if !fault.is_passing() || tries >= 6 => break fault,
                Err(fault) => {
                    tracing::warn!(error = %fault, upload = %self.target.writer.upload, "commit of a segment is tried again");
                    tries = tries.saturating_add(1);
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
            }
        };
        // What may have been named stays: the sweep of old orphans judges later.
        if !unsure {
            for stored in &batch {
                discard(&self.hub, &stored.object).await;
            }
        }
        Err(fault)
    }

    /// False when the upload is another writer's.
    async fn try_commit(&mut self, batch: &[Stored], unsure: &mut bool) -> Result<bool> {
        let t = &self.target;
        let upload = t.writer.upload;
        let now = self.hub.now();
        let (mut count, mut received) = (t.segments, t.received);
        let mut places = Vec::with_capacity(batch.len());
        for stored in batch {
            if let Some(tail) = &stored.replaces {
                // The tail is the last segment; its content comes first in the new one.
                count = count.saturating_sub(1);
                received = received.saturating_sub(tail.length);
            }
            places.push((count, received));
            count = count.saturating_add(1);
            received = received.saturating_add(stored.row.length);
        }
        let complete = t.size == Some(received);
        let reserved = t.reserved.max(received);
        let last = batch.last();

        let mut tx = self.hub.db().write().await?;
        // First of all: two writers of one upload meet here, and the one who lost it has done nothing.
        let moved = tx
            .execute(
                "UPDATE uploads SET received = $3, segments = $4, reserved = $5, state = $7,
                        expires = CASE WHEN expires > $6 THEN expires ELSE $6 END,
                        digest = COALESCE($8, digest), digest_before = COALESCE($9, digest_before)
                 WHERE id = $1 AND fence = $2 AND state = 'pending' AND received = $10",
                args![
                    upload.0,
                    t.writer.fence,
                    signed(received),
                    count,
                    signed(reserved),
                    now.plus_seconds(self.hub.options().upload_expiry),
                    if complete { "complete" } else { "pending" },
                    last.map(|s| s.after.clone()),
                    last.map(|s| s.before.clone()),
                    signed(t.received)
                ],
            )
            .await?;
        if moved == 0 {
            tx.rollback().await?;
            return if *unsure { self.after_the_fact(received, complete).await } else { Ok(false) };
        }
        uploads::reserve(&mut tx, t.organisation, t.reserved, received).await?;
        let mut replaced = Vec::new();
        for (stored, (idx, start)) in batch.iter().zip(places) {
            if let Some(tail) = &stored.replaces {
                tx.execute("DELETE FROM segments WHERE object = $1", args![tail.object.as_str()]).await?;
                replaced.push(tail.object.as_str());
            }
            insert_segment(&mut tx, upload, idx, start, stored).await?;
        }
        jobs::delete_objects(&mut tx, &replaced).await?;
        if complete {
            uploads::completed(&mut tx, now, upload, t.kind, t.actor, t.document, received).await?;
        }
        *unsure = true;
        tx.commit().await?;
        if complete || !replaced.is_empty() {
            self.hub.inner.bell.notify_waiters();
        }
        self.moved(received, count, reserved);
        Ok(true)
    }

    /// No row moved though a commit was sent before: either it was done and only its answer was lost,
    /// or another writer has the upload.
    async fn after_the_fact(&mut self, received: u64, complete: bool) -> Result<bool> {
        let sql = "SELECT fence, state, received, segments, reserved FROM uploads WHERE id = $1";
        let row = self.hub.db().optional(sql, args![self.target.writer.upload.0]).await?;
        let Some(row) = row else { return Ok(false) };
        let done = row.get::<i64>("fence")? == self.target.writer.fence
            && row.get::<i64>("received")? == signed(received)
            && row.get::<String>("state")? == if complete { "complete" } else { "pending" };
        if done {
            let reserved = u64::try_from(row.get::<i64>("reserved")?).unwrap_or(0);
            self.moved(received, row.get("segments")?, reserved);
        }
        Ok(done)
    }

    fn moved(&mut self, received: u64, segments: i64, reserved: u64) {
        self.target.received = received;
        self.target.segments = segments;
        self.target.reserved = reserved;
        if self.target.size == Some(received) {
            // Marks the end as committed: `finish` has nothing more to say.
            self.target.size = None;
        }
    }
}

/// A length as the databases keep it. Lengths are bounded far below by `max_size`.
pub(crate) fn signed(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

async fn insert_segment(
    tx: &mut Tx,
    upload: UploadId,
    idx: i64,
    start: u64,
    stored: &Stored,
) -> Result<(), DbError> {
    let row = &stored.row;
    tx.execute(
        "INSERT INTO segments (upload, idx, start, length, object, object_length, salt, tag)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![
            upload.0,
            idx,
            signed(start),
            signed(row.length),
            stored.object.as_str(),
            signed(row.object_length),
            row.salt,
            row.tag
        ],
    )
    .await?;
    Ok(())
}

/// Deletes an object that no row names and none will; failing that, the sweep of old orphans finds it.
async fn discard(hub: &Hub, object: &ObjectKey) {
    if let Err(error) = hub.blobs().delete(object).await {
        tracing::info!(error = %error, "an unnamed object stays for the sweep");
    }
}

/// The journal's word on bytes that did not open as they were sealed.
pub(crate) async fn journal_damage(hub: &Hub, document: Option<DocumentId>, piece: &Piece, why: &str) {
    let now = hub.now();
    let written = async {
        let mut tx = hub.db().write().await?;
        let mut event = Event::new("segment.damaged")
            .detail(serde_json::json!({ "upload": piece.upload, "segment": piece.idx, "why": why }));
        if let Some(document) = document {
            event = event.document(document);
        }
        event.write(&mut tx, now).await?;
        tx.commit().await
    };
    if let Err(error) = written.await {
        tracing::error!(error = %error, upload = %piece.upload, segment = piece.idx, "damage could not be journalled");
    }
    metrics::counter!("pli_segments_damaged_total").increment(1);
}
