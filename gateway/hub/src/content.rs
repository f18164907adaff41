//! The content of a document: its segments in order, read back in ranges and judged as they are read.
//!
//! Must never give out a byte that its segment's AEAD has not vouched for.

use crate::Hub;
use crate::fault::{Fault, Result};
use crate::receive::journal_damage;
use bytes::Bytes;
use pli_api::{DocumentId, ProblemCode, UploadId};
use pli_seal::{DocumentKey, Manifest, Opening, SegmentRow};
use pli_storage::{BlobReader, Blobs, ObjectKey, Row, Tx, args};
use std::ops::Range;
use std::sync::Arc;

/// One segment, with its place in the whole.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(crate) upload: UploadId,
    pub(crate) idx: i64,
    /// Which of the content's keys opens it.
    pub(crate) part: usize,
    /// Where it begins in the content.
    pub(crate) start: u64,
    pub(crate) row: SegmentRow,
    pub(crate) object: ObjectKey,
}

impl Piece {
    /// From a row of `segments`; `part` and `offset` say where its upload lies in the document.
    pub(crate) fn from_row(row: &Row, part: usize, offset: u64) -> Result<Self> {
        let number =
            |column: &str| -> Result<u64> { u64::try_from(row.get::<i64>(column)?).map_err(Fault::internal) };
        let bytes = |column: &str| row.get::<Vec<u8>>(column);
        Ok(Self {
            upload: UploadId(row.get("upload")?),
            idx: row.get("idx")?,
            part,
            start: offset.saturating_add(number("start")?),
            row: SegmentRow {
                length: number("length")?,
                object_length: number("object_length")?,
                salt: bytes("salt")?.try_into().map_err(|_| Fault::internal("salt of another length"))?,
                tag: bytes("tag")?.try_into().map_err(|_| Fault::internal("tag of another length"))?,
            },
            object: row.get::<String>("object")?.parse::<ObjectKey>().map_err(Fault::internal)?,
        })
    }
}

/// A content that can be read.
#[derive(Clone)]
pub(crate) struct Content {
    document: Option<DocumentId>,
    pub(crate) keys: Vec<DocumentKey>,
    pub(crate) pieces: Arc<Vec<Piece>>,
    pub(crate) size: u64,
}

impl Content {
    /// One segment by itself.
    pub(crate) fn of_segment(key: DocumentKey, piece: Piece) -> Self {
        let piece = Piece { start: 0, part: 0, ..piece };
        Self { document: None, keys: vec![key], size: piece.row.length, pieces: Arc::new(vec![piece]) }
    }

    /// All segments of a document, whoever asks: the caller has been judged before.
    pub(crate) async fn load(hub: &Hub, tx: &mut Tx, document: DocumentId) -> Result<Self> {
        let parts = tx
            .rows(
                "SELECT p.part, p.start, u.wrapped_key, u.received FROM document_parts p JOIN uploads u ON u.id = p.upload
                 WHERE p.document = $1 ORDER BY p.part",
                args![document.0],
            )
            .await?;
        if parts.is_empty() {
            // Removed since the caller saw it: a document has one part at the least.
            return Err(ProblemCode::Gone.into());
        }
        let mut keys = Vec::with_capacity(parts.len());
        let mut starts = Vec::with_capacity(parts.len());
        let mut size = 0_u64;
        for part in &parts {
            let wrapped = part.get::<Option<Vec<u8>>>("wrapped_key")?.ok_or(ProblemCode::Gone)?;
            keys.push(hub.keys().unwrap(&wrapped)?);
            starts.push(size);
            size = size.saturating_add(u64::try_from(part.get::<i64>("received")?).unwrap_or(0));
        }
        let rows = tx
            .rows(
                "SELECT p.part, s.upload, s.idx, s.start, s.length, s.object, s.object_length, s.salt, s.tag
                 FROM document_parts p JOIN segments s ON s.upload = p.upload
                 WHERE p.document = $1 ORDER BY p.part, s.idx",
                args![document.0],
            )
            .await?;
        let mut pieces = Vec::with_capacity(rows.len());
        let mut next = 0_u64;
        for row in &rows {
            let part = usize::try_from(row.get::<i64>("part")?).map_err(Fault::internal)?;
            let offset = *starts.get(part).ok_or_else(|| Fault::internal("segment of an unknown part"))?;
            let piece = Piece::from_row(row, part, offset)?;
            if piece.start != next {
                return Err(Fault::because(ProblemCode::Damaged, "Il manque un segment."));
            }
            next = next.saturating_add(piece.row.length);
            pieces.push(piece);
        }
        if next != size {
            return Err(Fault::because(ProblemCode::Damaged, "Il manque un segment."));
        }
        Ok(Self { document: Some(document), keys, pieces: Arc::new(pieces), size })
    }

    /// Reads `range` of the content, which must lie inside it.
    pub(crate) fn reader(&self, hub: Hub, range: Range<u64>) -> ContentReader {
        ContentReader { journal: Some(hub.clone()), ..self.bare_reader(hub.blobs().clone(), range) }
    }

    /// As [`Content::reader`], with a store alone: for recovery, where there is no journal to write to.
    pub(crate) fn bare_reader(&self, blobs: Blobs, range: Range<u64>) -> ContentReader {
        let first = self.pieces.partition_point(|p| p.start.saturating_add(p.row.length) <= range.start);
        ContentReader { blobs, journal: None, content: self.clone(), range, next: first, open: None }
    }

    /// The content that a manifest tells of.
    pub(crate) fn of_manifest(manifest: &Manifest, keys: Vec<DocumentKey>) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut size = 0_u64;
        for (part, segments) in manifest.parts.iter().map(|p| &p.segments).enumerate() {
            for (idx, segment) in (0_i64..).zip(segments) {
                let row = segment.row()?;
                let object = segment.object.parse().map_err(Fault::internal)?;
                let start = size;
                size = size.saturating_add(row.length);
                pieces.push(Piece { upload: UploadId(uuid::Uuid::nil()), idx, part, start, row, object });
            }
        }
        if size != manifest.size {
            return Err(Fault::because(ProblemCode::Damaged, "Il manque un segment."));
        }
        Ok(Self { document: None, keys, pieces: Arc::new(pieces), size })
    }
}

/// Content in order, in pieces of about 1 MiB.
pub(crate) struct ContentReader {
    blobs: Blobs,
    journal: Option<Hub>,
    content: Content,
    range: Range<u64>,
    next: usize,
    open: Option<(Opening, BlobReader)>,
}

impl ContentReader {
    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// `Damaged`, journalled, when a segment is missing or does not open; what the store says otherwise.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some((opening, mut blob)) = self.open.take() else {
                if !self.open_next().await? {
                    return Ok(None);
                }
                continue;
            };
            let sealed = match blob.next().await {
                Ok(sealed) => sealed,
                Err(error) => return Err(self.judge(error.into()).await),
            };
            let outcome = match sealed {
                // Decryption is the processor's work: not on the threads that serve connections.
                Some(sealed) => {
                    tokio::task::spawn_blocking(move || {
                        let mut opening = opening;
                        let content = opening.feed(&sealed);
                        content.map(|content| (Some(opening), content))
                    })
                    .await?
                }
                None => opening.finish().map(|()| (None, None)),
            };
            match outcome {
                Ok((Some(opening), content)) => {
                    self.open = Some((opening, blob));
                    if content.is_some() {
                        return Ok(content);
                    }
                }
                Ok((None, _)) => {}
                Err(error) => return Err(self.judge(error.into()).await),
            }
        }
    }

    async fn open_next(&mut self) -> Result<bool> {
        let Some(piece) = self.content.pieces.get(self.next) else { return Ok(false) };
        if piece.start >= self.range.end || self.range.is_empty() {
            return Ok(false);
        }
        self.next = self.next.saturating_add(1);
        let from = self.range.start.saturating_sub(piece.start);
        let to = self.range.end.saturating_sub(piece.start).min(piece.row.length);
        let key = self.content.keys.get(piece.part).ok_or_else(|| Fault::internal("no key for a part"))?;
        let opening = match Opening::new(key, &piece.row, from..to) {
            Ok(opening) => opening,
            // Row and key do not belong together.
            Err(error) => return Err(self.judge(error.into()).await),
        };
        match self.blobs.get(&piece.object, opening.object_range()).await {
            Ok(blob) => self.open = Some((opening, blob)),
            Err(error) => return Err(self.judge(error.into()).await),
        }
        Ok(true)
    }

    /// Journals damage; the piece at fault is the last one opened. A segment whose row has gone since the
    /// content was loaded is not damaged: it was erased, or taken up in a longer one. Nor is anything
    /// while the store itself has gone, such as a disk that is not mounted.
    async fn judge(&self, fault: Fault) -> Fault {
        if fault.code() == ProblemCode::Damaged
            && let Some(piece) = self.next.checked_sub(1).and_then(|i| self.content.pieces.get(i))
        {
            if let Some(hub) = &self.journal {
                let sql = "SELECT 1 AS named FROM segments WHERE object = $1";
                if let Ok(None) = hub.db().optional(sql, args![piece.object.as_str()]).await {
                    return ProblemCode::Gone.into();
                }
                if let Err(error) = hub.blobs().probe().await {
                    return error.into();
                }
                journal_damage(hub, self.content.document, piece, &fault.to_string()).await;
            }
            tracing::error!(upload = %piece.upload, segment = piece.idx, error = %fault, "segment damaged");
        }
        fault
    }
}
