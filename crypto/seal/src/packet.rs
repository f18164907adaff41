//! The geometry and framing of OpenPGP packets (RFC 9580, 4.2 and 5.13.2), written and read.
//!
//! Owns every offset and length. It must never trust a length it reads: the parsers below return an
//! error or a slice of what they were given, and allocate only to join partial body lengths.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::error::{Part, SealError};

/// Plaintext bytes of a full chunk.
pub const CHUNK: usize = 65_536;
/// Bytes of an authentication tag.
pub const TAG: usize = 16;
/// Chunks in a block, the unit in which memory is lent to a segment.
pub const BLOCK_CHUNKS: usize = 16;
/// Bytes of a block: full chunks, each with its tag.
pub const BLOCK: usize = BLOCK_CHUNKS * SEALED_CHUNK;
/// Bytes in front of the first chunk of an object: packet tag, five-octet length, version, cipher,
/// mode, chunk size, salt.
pub const HEADER: usize = 42;
/// Bytes of the literal packet's header, in front of the content in the first chunk.
pub const LITERAL: usize = 12;
/// Content bytes that a segment may hold.
pub const SEGMENT_MAX: usize = 64 << 20;

/// A full chunk with its tag.
pub(crate) const SEALED_CHUNK: usize = CHUNK + TAG;
/// The octet that says [`CHUNK`]: the size is 2^(octet + 6).
pub(crate) const CHUNK_OCTET: u8 = 10;
/// Octets of a salt.
pub(crate) const SALT: usize = 32;

const TAG_MARKER: u8 = 10;
const TAG_LITERAL: u8 = 11;
pub(crate) const TAG_SEIPD: u8 = 18;
const TAG_PADDING: u8 = 21;

/// A packet tag in the current format (RFC 9580, 4.2.1).
const NEW_FORMAT: u8 = 0xC0;
/// The length octet that announces four octets of length.
const FIVE_OCTETS: u8 = 0xFF;
/// Version 2 of the encrypted data packet.
pub(crate) const SEIPD_VERSION: u8 = 2;
/// AES with 256-bit keys (RFC 9580, 9.3).
pub(crate) const AES_256: u8 = 9;
/// Octets of a packet's body in front of its first chunk: version, cipher, mode, chunk size, salt.
const BODY_HEADER: usize = 4 + SALT;
/// The largest chunk size octet (4 MiB) that RFC 9580 allows.
const CHUNK_OCTET_MAX: u8 = 16;
/// The smallest first partial body (RFC 9580, 4.2.1.4).
const FIRST_PARTIAL_MIN: usize = 512;

/// The two AEAD modes that are opened; only OCB is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Ocb,
    Gcm,
}

impl Mode {
    /// RFC 9580, 9.6.
    pub(crate) fn octet(self) -> u8 {
        match self {
            Mode::Ocb => 2,
            Mode::Gcm => 3,
        }
    }

    fn from_octet(octet: u8) -> Result<Self, SealError> {
        match octet {
            2 => Ok(Mode::Ocb),
            3 => Ok(Mode::Gcm),
            _ => Err(SealError::Unsupported("AEAD mode")),
        }
    }
}

/// Where the chunks of one packet lie, given how many plaintext bytes it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    plain: u64,
}

impl Geometry {
    /// A packet of `plain` bytes before encryption, literal header included. At least one byte, and
    /// small enough for a five-octet length.
    pub(crate) fn of_plain(plain: u64) -> Result<Self, SealError> {
        let geometry = Self { plain };
        if plain == 0 || geometry.body_length().is_none() {
            return Err(SealError::Limit("packet length"));
        }
        Ok(geometry)
    }

    /// A segment of `content` bytes, 1 to [`SEGMENT_MAX`].
    pub(crate) fn of_segment(content: u64) -> Result<Self, SealError> {
        if content == 0 || content > SEGMENT_MAX as u64 {
            return Err(SealError::Limit("segment length"));
        }
        Self::of_plain(content.saturating_add(LITERAL as u64))
    }

    pub(crate) fn plain(self) -> u64 {
        self.plain
    }

    pub(crate) fn chunks(self) -> u64 {
        self.plain.div_ceil(CHUNK as u64)
    }

    /// Plaintext bytes of the chunk `index`; 0 for a chunk that does not exist.
    pub(crate) fn chunk_plain(self, index: u64) -> usize {
        let start = index.saturating_mul(CHUNK as u64);
        // At most CHUNK, so that the conversion loses nothing.
        self.plain.saturating_sub(start).min(CHUNK as u64) as usize
    }

    /// Offset in the object of the chunk `index`; of the final tag for the index past the last.
    pub(crate) fn chunk_offset(self, index: u64) -> u64 {
        let full = index.saturating_mul(SEALED_CHUNK as u64);
        full.min(self.sealed_chunks()).saturating_add(HEADER as u64)
    }

    /// Bytes of all chunks with their tags.
    fn sealed_chunks(self) -> u64 {
        self.plain.saturating_add(self.chunks().saturating_mul(TAG as u64))
    }

    /// Bytes of the whole object: header, chunks, final tag.
    pub(crate) fn object_length(self) -> u64 {
        self.sealed_chunks().saturating_add(HEADER as u64).saturating_add(TAG as u64)
    }

    fn body_length(self) -> Option<u32> {
        let body = self.sealed_chunks().checked_add(BODY_HEADER as u64)?.checked_add(TAG as u64)?;
        u32::try_from(body).ok()
    }

    /// The object's first bytes.
    pub(crate) fn header(self, salt: &[u8; SALT]) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let [a, b, c, d] = self.body_length().unwrap_or_default().to_be_bytes();
        let (front, rest) = header.split_at_mut(HEADER - SALT);
        front.copy_from_slice(&[
            NEW_FORMAT | TAG_SEIPD,
            FIVE_OCTETS,
            a,
            b,
            c,
            d,
            SEIPD_VERSION,
            AES_256,
            Mode::Ocb.octet(),
            CHUNK_OCTET,
        ]);
        rest.copy_from_slice(salt);
        header
    }
}

/// Bytes of the object that seals `content` bytes, or nothing when no segment holds that many.
pub fn object_length(content: u64) -> Option<u64> {
    Some(Geometry::of_segment(content).ok()?.object_length())
}

/// Content bytes that fit in so many blocks. A segment meant to fill its blocks takes this many: a
/// round 16 MiB would need a seventeenth block for its last twelve bytes.
pub const fn content_of_blocks(blocks: usize) -> usize {
    blocks.saturating_mul(BLOCK_CHUNKS * CHUNK).saturating_sub(LITERAL)
}

/// The literal packet's header: binary, no name, no date (RFC 9580, 5.9).
pub(crate) fn literal_header(content: u64) -> Result<[u8; LITERAL], SealError> {
    let body = content
        .checked_add(6)
        .and_then(|body| u32::try_from(body).ok())
        .ok_or(SealError::Limit("packet length"))?;
    let [a, b, c, d] = body.to_be_bytes();
    Ok([NEW_FORMAT | TAG_LITERAL, FIVE_OCTETS, a, b, c, d, b'b', 0, 0, 0, 0, 0])
}

/// A packet taken off the front of a byte string.
#[derive(Debug)]
pub(crate) struct Framed<'a> {
    pub(crate) tag: u8,
    pub(crate) body: Cow<'a, [u8]>,
    pub(crate) rest: &'a [u8],
}

/// The tag of the packet that `input` begins with.
fn peek_tag(input: &[u8]) -> Option<u8> {
    let first = *input.first()?;
    if first & NEW_FORMAT == NEW_FORMAT {
        Some(first & 0x3F)
    } else if first & NEW_FORMAT == 0x80 {
        Some((first >> 2) & 0x0F)
    } else {
        None
    }
}

/// Takes one packet off `input`, in the current format with any body length, or in the legacy format
/// with a definite one (RFC 9580, 4.2).
pub(crate) fn take_packet(input: &[u8]) -> Result<Framed<'_>, SealError> {
    let tag = peek_tag(input).ok_or(SealError::Damaged(Part::Header))?;
    let (&first, rest) = input.split_first().ok_or(SealError::Damaged(Part::Truncated))?;
    if first & 0x40 == 0 {
        let octets = match first & 3 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err(SealError::Unsupported("packet of indeterminate length")),
        };
        let (length, rest) = take(rest, octets)?;
        let length = length.iter().fold(0_usize, |length, octet| (length << 8) | usize::from(*octet));
        let (body, rest) = take(rest, length)?;
        return Ok(Framed { tag, body: Cow::Borrowed(body), rest });
    }
    let (length, rest) = take_length(rest)?;
    match length {
        BodyLength::Definite(length) => {
            let (body, rest) = take(rest, length)?;
            Ok(Framed { tag, body: Cow::Borrowed(body), rest })
        }
        BodyLength::Partial(length) => {
            // Only data packets may come in parts (RFC 9580, 4.2.1.4).
            if tag != TAG_LITERAL && tag != TAG_SEIPD || length < FIRST_PARTIAL_MIN {
                return Err(SealError::Damaged(Part::Length));
            }
            take_parts(tag, length, rest)
        }
    }
}

fn take_parts(tag: u8, first: usize, rest: &[u8]) -> Result<Framed<'_>, SealError> {
    let (piece, mut rest) = take(rest, first)?;
    let mut body = piece.to_vec();
    loop {
        let (length, after) = take_length(rest)?;
        let (length, last) = match length {
            BodyLength::Definite(length) => (length, true),
            BodyLength::Partial(length) => (length, false),
        };
        let (piece, after) = take(after, length)?;
        body.extend_from_slice(piece);
        rest = after;
        if last {
            return Ok(Framed { tag, body: Cow::Owned(body), rest });
        }
    }
}

enum BodyLength {
    Definite(usize),
    Partial(usize),
}

/// RFC 9580, 4.2.1.
fn take_length(input: &[u8]) -> Result<(BodyLength, &[u8]), SealError> {
    let (&first, rest) = input.split_first().ok_or(SealError::Damaged(Part::Truncated))?;
    match first {
        0..=191 => Ok((BodyLength::Definite(usize::from(first)), rest)),
        192..=223 => {
            let (&second, rest) = rest.split_first().ok_or(SealError::Damaged(Part::Truncated))?;
            let length = (usize::from(first).saturating_sub(192) << 8)
                .saturating_add(usize::from(second))
                .saturating_add(192);
            Ok((BodyLength::Definite(length), rest))
        }
        224..=254 => Ok((BodyLength::Partial(1 << (first & 0x1F)), rest)),
        FIVE_OCTETS => {
            let (octets, rest) = rest.split_first_chunk::<4>().ok_or(SealError::Damaged(Part::Truncated))?;
            Ok((BodyLength::Definite(u32::from_be_bytes(*octets) as usize), rest))
        }
    }
}

fn take(input: &[u8], length: usize) -> Result<(&[u8], &[u8]), SealError> {
    input.split_at_checked(length).ok_or(SealError::Damaged(Part::Truncated))
}

/// The body of an encrypted data packet, taken apart and not yet decrypted.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) mode: Mode,
    pub(crate) chunk_octet: u8,
    pub(crate) salt: [u8; SALT],
    pub(crate) chunks: &'a [u8],
    pub(crate) final_tag: [u8; TAG],
}

impl<'a> Envelope<'a> {
    /// Reads any AES-256 packet of version 2, whoever wrote it.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, SealError> {
        let (&[version, cipher, mode, chunk_octet], rest) =
            body.split_first_chunk::<4>().ok_or(SealError::Damaged(Part::Truncated))?;
        if version != SEIPD_VERSION {
            return Err(SealError::Unsupported("version of the encrypted packet"));
        }
        if cipher != AES_256 {
            return Err(SealError::Unsupported("cipher"));
        }
        let mode = Mode::from_octet(mode)?;
        if chunk_octet > CHUNK_OCTET_MAX {
            return Err(SealError::Damaged(Part::Header));
        }
        let (salt, rest) = rest.split_first_chunk::<SALT>().ok_or(SealError::Damaged(Part::Truncated))?;
        let (chunks, final_tag) =
            rest.split_last_chunk::<TAG>().ok_or(SealError::Damaged(Part::Truncated))?;
        let envelope = Self { mode, chunk_octet, salt: *salt, chunks, final_tag: *final_tag };
        envelope.plain_length()?;
        Ok(envelope)
    }

    /// Whether the packet has the parameters that this crate writes.
    pub(crate) fn is_ours(&self) -> bool {
        self.mode == Mode::Ocb && self.chunk_octet == CHUNK_OCTET
    }

    /// Bytes of a full chunk with its tag.
    pub(crate) fn sealed_chunk(&self) -> usize {
        (1_usize << (u32::from(self.chunk_octet) & 31).saturating_add(6)).saturating_add(TAG)
    }

    pub(crate) fn chunk_count(&self) -> u64 {
        self.chunks.len().div_ceil(self.sealed_chunk().max(1)) as u64
    }

    /// Plaintext bytes in all chunks. Every chunk holds at least one byte.
    pub(crate) fn plain_length(&self) -> Result<u64, SealError> {
        let last = self.chunks.chunks(self.sealed_chunk()).next_back();
        if last.is_none_or(|last| last.len() <= TAG) {
            return Err(SealError::Damaged(Part::Length));
        }
        let tags = self.chunk_count().saturating_mul(TAG as u64);
        Ok((self.chunks.len() as u64).saturating_sub(tags))
    }
}

/// The content of the one literal data packet in a decrypted packet. Marker packets around it and
/// padding after it are skipped; anything else, a signature or compressed data, is refused.
pub(crate) fn literal_content(mut plain: &[u8]) -> Result<Cow<'_, [u8]>, SealError> {
    let mut content = None;
    while !plain.is_empty() {
        let packet = take_packet(plain).map_err(|_| SealError::Damaged(Part::Literal))?;
        plain = packet.rest;
        match packet.tag {
            TAG_MARKER | TAG_PADDING => {}
            TAG_LITERAL if content.is_none() => content = Some(strip_literal(packet.body)?),
            _ => return Err(SealError::Unsupported("packet inside the encrypted packet")),
        }
    }
    content.ok_or(SealError::Damaged(Part::Literal))
}

/// Cuts format, name and date off a literal packet's body.
fn strip_literal(body: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, SealError> {
    let name = match body.first_chunk::<2>() {
        Some(&[b'b' | b't' | b'u', name]) => usize::from(name),
        _ => return Err(SealError::Damaged(Part::Literal)),
    };
    let start = name.saturating_add(6);
    match body {
        Cow::Borrowed(body) => body.get(start..).map(Cow::Borrowed),
        Cow::Owned(mut body) => (start <= body.len()).then(|| {
            body.drain(..start);
            Cow::Owned(body)
        }),
    }
    .ok_or(SealError::Damaged(Part::Literal))
}
