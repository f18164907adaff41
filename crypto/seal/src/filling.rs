//! Receiving a segment's content straight into the object's layout, and sealing it in place.
//!
//! Content is copied once, to where its ciphertext will stand. Sealing walks the chunks in order: hash
//! 64 KiB, encrypt the same 64 KiB while they are still in the processor's cache. Blocks come from the
//! caller, who bounds memory by how many there are; a filling that is dropped unsealed wipes what it
//! received, so that a pooled block never carries one person's content into another's transfer.

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroize;

use crate::cipher::PacketCipher;
use crate::digest::ContentDigest;
use crate::error::SealError;
use crate::key::DocumentKey;
use crate::opening::SegmentRow;
use crate::packet::{
    BLOCK, BLOCK_CHUNKS, CHUNK, Geometry, HEADER, LITERAL, SALT, SEALED_CHUNK, SEGMENT_MAX, TAG,
    content_of_blocks, literal_header,
};

/// A segment being received.
pub struct Filling<B: AsRef<[u8]> + AsMut<[u8]>> {
    blocks: Vec<B>,
    length: usize,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Default for Filling<B> {
    fn default() -> Self {
        Self { blocks: Vec::new(), length: 0 }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> fmt::Debug for Filling<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filling").field("length", &self.length).field("blocks", &self.blocks.len()).finish()
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Filling<B> {
    /// An empty segment without any memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Content bytes received.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been received.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Blocks given so far.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Content bytes that still fit in the blocks given so far.
    pub fn room(&self) -> usize {
        content_of_blocks(self.blocks.len()).min(SEGMENT_MAX).saturating_sub(self.length)
    }

    /// Lends one more block, of exactly [`BLOCK`] bytes.
    ///
    /// # Errors
    /// [`SealError::Limit`] for a block of another size, or one that a segment of [`SEGMENT_MAX`]
    /// bytes does not need.
    pub fn add_block(&mut self, block: B) -> Result<(), SealError> {
        if block.as_ref().len() != BLOCK {
            return Err(SealError::Limit("size of a block"));
        }
        if content_of_blocks(self.blocks.len()) >= SEGMENT_MAX {
            return Err(SealError::Limit("blocks of a segment"));
        }
        self.blocks.push(block);
        Ok(())
    }

    /// Receives content: as much as there is room for. Returns how many bytes were taken.
    pub fn put(&mut self, content: &[u8]) -> usize {
        let taken = content.len().min(self.room());
        let mut rest = &content[..taken];
        while !rest.is_empty() {
            let plain = LITERAL + self.length;
            let (chunk, offset) = (plain / CHUNK, plain % CHUNK);
            let now = rest.len().min(CHUNK - offset);
            let start = (chunk % BLOCK_CHUNKS) * SEALED_CHUNK + offset;
            let block = self.blocks[chunk / BLOCK_CHUNKS].as_mut();
            block[start..start + now].copy_from_slice(&rest[..now]);
            self.length += now;
            rest = &rest[now..];
        }
        taken
    }

    /// Hashes and encrypts what was received, chunk by chunk, in place.
    ///
    /// `digest` takes the content on success and is left as it was on failure.
    ///
    /// # Errors
    /// [`SealError::Limit`] when nothing was received; [`SealError::Library`].
    pub fn seal(mut self, key: &DocumentKey, digest: &mut ContentDigest) -> Result<Sealed<B>, SealError> {
        let geometry = Geometry::of_segment(self.length as u64)?;
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt)?;
        let mut cipher = PacketCipher::sealing(key, &salt)?;
        let mut hashed = digest.clone();

        if let Some(first) = self.blocks.first_mut() {
            first.as_mut()[..LITERAL].copy_from_slice(&literal_header(self.length as u64)?);
        }
        let mut index = 0;
        let mut last_used = 0;
        let used = geometry.chunks().div_ceil(BLOCK_CHUNKS as u64) as usize;
        for block in self.blocks.iter_mut().take(used) {
            last_used = 0;
            for chunk in block.as_mut().chunks_exact_mut(SEALED_CHUNK) {
                let plain = geometry.chunk_plain(index);
                if plain == 0 {
                    break;
                }
                let content = if index == 0 { LITERAL } else { 0 };
                hashed.update(&chunk[content..plain]);
                cipher.seal_chunk(index, &mut chunk[..plain + TAG])?;
                last_used += plain + TAG;
                index += 1;
            }
        }
        let tag = cipher.final_tag(index, geometry.plain())?;
        *digest = hashed;

        let length = self.length as u64;
        // What is left in the blocks is ciphertext: nothing to wipe any more.
        self.length = 0;
        let mut blocks = std::mem::take(&mut self.blocks);
        blocks.truncate(used);
        Ok(Sealed {
            length,
            object_length: geometry.object_length(),
            salt,
            tag,
            header: geometry.header(&salt),
            blocks,
            last_used,
        })
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Drop for Filling<B> {
    fn drop(&mut self) {
        if self.length == 0 {
            return;
        }
        let used = (LITERAL + self.length).div_ceil(BLOCK_CHUNKS * CHUNK);
        for block in self.blocks.iter_mut().take(used) {
            block.as_mut().zeroize();
        }
    }
}

/// A sealed segment: an object to store, and what its row must say.
pub struct Sealed<B> {
    /// Content bytes.
    pub length: u64,
    /// Bytes of the object.
    pub object_length: u64,
    /// The packet's salt.
    pub salt: [u8; 32],
    /// The packet's final tag.
    pub tag: [u8; 16],
    header: [u8; HEADER],
    blocks: Vec<B>,
    /// Bytes of the object in the last block.
    last_used: usize,
}

impl<B> fmt::Debug for Sealed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("length", &self.length)
            .field("object_length", &self.object_length)
            .finish_non_exhaustive()
    }
}

impl<B> Sealed<B> {
    /// What the database must keep to open this segment.
    pub fn row(&self) -> SegmentRow {
        SegmentRow { length: self.length, object_length: self.object_length, salt: self.salt, tag: self.tag }
    }
}

impl<B: AsRef<[u8]> + Send + 'static> Sealed<B> {
    /// The object's bytes: header, blocks, final tag. Nothing is copied; a block is dropped, and so
    /// goes back to its pool, when its piece is.
    pub fn into_bytes(self) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(self.blocks.len() + 2);
        pieces.push(Bytes::copy_from_slice(&self.header));
        let last = self.blocks.len().saturating_sub(1);
        for (index, block) in self.blocks.into_iter().enumerate() {
            let mut piece = Bytes::from_owner(block);
            if index == last {
                piece.truncate(self.last_used);
            }
            pieces.push(piece);
        }
        pieces.push(Bytes::copy_from_slice(&self.tag));
        pieces
    }
}
