//! Opening a segment, or a range of it, as its bytes arrive from the store.
//!
//! The database row is the authority: the salt it keeps derives the key, so an object under another
//! salt, from another place or another document, does not open; its length fixes where every chunk
//! lies; its final tag, checked before anything is fetched, proves that key, salt and length belong
//! together. A chunk's bytes must never be handed out before its own tag has been checked.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::cipher::PacketCipher;
use crate::error::{Part, SealError};
use crate::key::DocumentKey;
use crate::packet::{CHUNK, Geometry, HEADER, LITERAL, SEALED_CHUNK, TAG, literal_header};

/// [`CHUNK`], as offsets count.
const CHUNK_U64: u64 = CHUNK as u64;

/// What the database keeps of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRow {
    /// Content bytes.
    pub length: u64,
    /// Bytes of the object.
    pub object_length: u64,
    /// The packet's salt.
    pub salt: [u8; 32],
    /// The packet's final tag.
    pub tag: [u8; 16],
}

/// An opening in progress. After any error it opens nothing more.
pub struct Opening {
    cipher: PacketCipher,
    geometry: Geometry,
    header: [u8; HEADER],
    literal: [u8; LITERAL],
    tag: [u8; TAG],
    /// What to hand out, in plaintext bytes of the packet (the literal header counts).
    wanted: Range<u64>,
    /// Chunks to open.
    chunks: Range<u64>,
    whole: bool,
    stage: Stage,
    /// The beginning of a header, chunk or tag that has not arrived in full.
    pending: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Chunk(u64),
    FinalTag,
    Done,
    Failed(Part),
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("wanted", &self.wanted)
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

impl Opening {
    /// Prepares to open the content bytes `range` of a segment.
    ///
    /// # Errors
    /// [`SealError::Range`] for an empty range or one outside the segment; [`SealError::Damaged`] or
    /// [`SealError::Limit`] for a row that cannot be; [`SealError::WrongKey`] when the key and the
    /// row's salt, length and final tag do not belong together.
    pub fn new(key: &DocumentKey, row: &SegmentRow, range: Range<u64>) -> Result<Self, SealError> {
        let geometry = Geometry::of_segment(row.length)?;
        if row.object_length != geometry.object_length() {
            return Err(SealError::Damaged(Part::Length));
        }
        if range.is_empty() || range.end > row.length {
            return Err(SealError::Range);
        }
        let mut cipher = PacketCipher::opening(key, &row.salt)?;
        cipher.check_final_tag(geometry.chunks(), geometry.plain(), &row.tag)?;

        let whole = range == (0..row.length);
        let literal = LITERAL as u64;
        let wanted = range.start.saturating_add(literal)..range.end.saturating_add(literal);
        let chunks = wanted.start.div_euclid(CHUNK_U64)..wanted.end.div_ceil(CHUNK_U64);
        // The whole segment is its content and the literal header in front of it.
        let chunks = if whole { 0..geometry.chunks() } else { chunks };
        Ok(Self {
            cipher,
            geometry,
            header: geometry.header(&row.salt),
            literal: literal_header(row.length)?,
            tag: row.tag,
            stage: if whole { Stage::Header } else { Stage::Chunk(chunks.start) },
            wanted,
            chunks,
            whole,
            pending: Vec::new(),
        })
    }

    /// The bytes of the object to fetch and [`feed`](Self::feed), in order: whole chunks, or the
    /// whole object when the whole segment is wanted.
    pub fn object_range(&self) -> Range<u64> {
        if self.whole {
            0..self.geometry.object_length()
        } else {
            self.geometry.chunk_offset(self.chunks.start)..self.geometry.chunk_offset(self.chunks.end)
        }
    }

    /// Takes the next bytes of [`object_range`](Self::object_range), in pieces of any size, and
    /// returns the content that became ready, already cut to the range. Pieces of 64 KiB to 1 MiB
    /// suit the processor's caches.
    ///
    /// # Errors
    /// [`SealError::Damaged`] at the first byte, chunk or tag that is not as sealed, and from then on.
    pub fn feed(&mut self, sealed: &[u8]) -> Result<Option<Bytes>, SealError> {
        let outcome = self.take(sealed);
        if let Err(error) = &outcome {
            let part = match error {
                SealError::Damaged(part) => *part,
                _ => Part::Length,
            };
            self.stage = Stage::Failed(part);
            self.pending = Vec::new();
        }
        outcome
    }

    /// Ends the opening.
    ///
    /// # Errors
    /// [`SealError::Damaged`] when bytes are missing, or an earlier piece was refused.
    pub fn finish(self) -> Result<(), SealError> {
        match self.stage {
            Stage::Done => Ok(()),
            Stage::Failed(part) => Err(SealError::Damaged(part)),
            _ => Err(SealError::Damaged(Part::Truncated)),
        }
    }

    fn take(&mut self, mut sealed: &[u8]) -> Result<Option<Bytes>, SealError> {
        let mut ready = Vec::new();
        let mut ready_start = None;
        loop {
            let needed = match self.stage {
                Stage::Header => HEADER,
                Stage::Chunk(index) => self.geometry.chunk_plain(index).saturating_add(TAG),
                Stage::FinalTag => TAG,
                Stage::Done if sealed.is_empty() => break,
                Stage::Done => return Err(SealError::Damaged(Part::Trailing)),
                Stage::Failed(part) => return Err(SealError::Damaged(part)),
            };
            let missing = needed.saturating_sub(self.pending.len());
            let Some((piece, rest)) = sealed.split_at_checked(missing) else {
                self.pending.reserve_exact(SEALED_CHUNK.saturating_sub(self.pending.len()));
                self.pending.extend_from_slice(sealed);
                break;
            };
            sealed = rest;
            match self.stage {
                Stage::Header => self.check_header(piece)?,
                Stage::Chunk(index) => {
                    if ready_start.is_none() {
                        ready_start = Some(index.saturating_mul(CHUNK_U64));
                        // Room for this chunk and all that can follow it in this piece.
                        ready.reserve_exact(needed.saturating_add(sealed.len()));
                    }
                    self.open_chunk(index, piece, &mut ready)?;
                }
                _ => self.check_tag(piece)?,
            }
        }
        Ok(ready_start.and_then(|start| self.cut(start, ready)))
    }

    fn check_header(&mut self, piece: &[u8]) -> Result<(), SealError> {
        self.pending.extend_from_slice(piece);
        if self.pending != self.header {
            return Err(SealError::Damaged(Part::Header));
        }
        self.pending.clear();
        self.stage = Stage::Chunk(self.chunks.start);
        Ok(())
    }

    /// Opens one chunk at the end of `ready`, so that what several chunks yield is in one piece.
    fn open_chunk(&mut self, index: u64, piece: &[u8], ready: &mut Vec<u8>) -> Result<(), SealError> {
        let start = ready.len();
        ready.extend_from_slice(&self.pending);
        ready.extend_from_slice(piece);
        self.pending.clear();
        let chunk = ready.get_mut(start..).unwrap_or_default();
        self.cipher.open_chunk(index, chunk)?;
        if index == 0 && !chunk.starts_with(&self.literal) {
            return Err(SealError::Damaged(Part::Literal));
        }
        ready.truncate(ready.len().saturating_sub(TAG));
        let next = index.saturating_add(1);
        self.stage = if next < self.chunks.end {
            Stage::Chunk(next)
        } else if self.whole {
            Stage::FinalTag
        } else {
            Stage::Done
        };
        Ok(())
    }

    fn check_tag(&mut self, piece: &[u8]) -> Result<(), SealError> {
        self.pending.extend_from_slice(piece);
        // The row's tag was proved against the key in `new`; the object's must be the same.
        if self.pending != self.tag {
            return Err(SealError::Damaged(Part::FinalTag));
        }
        self.pending.clear();
        self.stage = Stage::Done;
        Ok(())
    }

    /// Cuts opened chunks, which begin at the plaintext offset `start`, to what is wanted.
    fn cut(&self, start: u64, ready: Vec<u8>) -> Option<Bytes> {
        let skip = self.wanted.start.saturating_sub(start);
        let keep = self.wanted.end.saturating_sub(start);
        let keep = usize::try_from(keep).ok()?.min(ready.len());
        let skip = usize::try_from(skip).ok()?.min(keep);
        let ready = Bytes::from(ready).slice(skip..keep);
        (!ready.is_empty()).then_some(ready)
    }
}
