//! Packets that fit in memory: our own small ones, and whole packets that others wrote.
//!
//! It must never return a byte before every chunk and the final tag have been checked.

use zeroize::Zeroizing;

use crate::cipher::PacketCipher;
use crate::error::{Part, SealError};
use crate::key::{DocumentKey, unwrap_front};
use crate::packet::{
    CHUNK, Envelope, Geometry, SALT, SEGMENT_MAX, TAG, TAG_SEIPD, literal_content, literal_header,
    take_packet,
};
use crate::ring::KeyRing;

/// Seals bytes as one packet in memory, in the form of a segment, but of any length from 0 to
/// [`SEGMENT_MAX`].
///
/// # Errors
/// [`SealError::Limit`] above [`SEGMENT_MAX`].
pub fn seal_small(key: &DocumentKey, content: &[u8]) -> Result<Vec<u8>, SealError> {
    if content.len() > SEGMENT_MAX {
        return Err(SealError::Limit("segment length"));
    }
    let header = literal_header(content.len() as u64)?;
    seal_plain(key, &[&header, content])
}

/// Opens what [`seal_small`] sealed, and nothing in another form.
///
/// # Errors
/// [`SealError::WrongKey`] for another key or an altered length, salt or final tag;
/// [`SealError::Damaged`] for anything else that is not as it was sealed.
pub fn open_small(key: &DocumentKey, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let plain = open_plain(key, sealed)?;
    let content = literal_content(&plain)?;
    // The only form that is written, so that nothing else can stand for it.
    let header = literal_header(content.len() as u64)?;
    if plain.len() != header.len() + content.len() || !plain.starts_with(&header) {
        return Err(SealError::Damaged(Part::Literal));
    }
    Ok(content.into_owned())
}

/// Opens a whole encrypted data packet (SEIPD version 2, AES-256 in OCB or GCM, any chunk size, any
/// body length) that somebody else may have written, and returns the content of the literal packet
/// inside, of at most `limit` bytes. Signatures and compression inside are refused.
///
/// # Errors
/// [`SealError::Unsupported`] for another form; [`SealError::Limit`] when more than `limit`; else as
/// [`open_small`].
pub fn open_packet(key: &DocumentKey, packet: &[u8], limit: usize) -> Result<Vec<u8>, SealError> {
    let framed = take_packet(packet)?;
    if framed.tag != TAG_SEIPD {
        return Err(SealError::Unsupported("packet"));
    }
    if !framed.rest.is_empty() {
        return Err(SealError::Damaged(Part::Trailing));
    }
    let plain = open_envelope(key, &Envelope::parse(&framed.body)?)?;
    let content = literal_content(&plain)?;
    if content.len() > limit {
        return Err(SealError::Limit("content of the packet"));
    }
    Ok(content.into_owned())
}

/// Opens a whole message: session key packets (PKESK version 6), then a packet as [`open_packet`]
/// takes it. Returns the session key and the content.
///
/// # Errors
/// As [`DocumentKey::unwrap`] and [`open_packet`].
pub fn open_message(
    message: &[u8],
    ring: &KeyRing,
    limit: usize,
) -> Result<(DocumentKey, Vec<u8>), SealError> {
    let (key, packet) = unwrap_front(message, ring)?;
    let content = open_packet(&key, packet, limit)?;
    Ok((key, content))
}

/// Seals packets, given in pieces, with the parameters that this crate writes.
pub(crate) fn seal_plain(key: &DocumentKey, pieces: &[&[u8]]) -> Result<Vec<u8>, SealError> {
    let plain: usize = pieces.iter().map(|piece| piece.len()).sum();
    let geometry = Geometry::of_plain(plain as u64)?;
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt)?;
    let mut cipher = PacketCipher::sealing(key, &salt)?;

    let mut sealed = Vec::with_capacity(geometry.object_length() as usize);
    sealed.extend_from_slice(&geometry.header(&salt));
    let mut start = sealed.len();
    let mut index = 0;
    for piece in pieces {
        let mut piece = *piece;
        while !piece.is_empty() {
            let room = CHUNK - (sealed.len() - start);
            let (now, later) = piece.split_at(room.min(piece.len()));
            sealed.extend_from_slice(now);
            piece = later;
            if sealed.len() - start == geometry.chunk_plain(index) {
                sealed.extend_from_slice(&[0; TAG]);
                cipher.seal_chunk(index, &mut sealed[start..])?;
                start = sealed.len();
                index += 1;
            }
        }
    }
    debug_assert_eq!(index, geometry.chunks());
    sealed.extend_from_slice(&cipher.final_tag(index, plain as u64)?);
    Ok(sealed)
}

/// Opens a packet of exactly the form that [`seal_plain`] writes.
pub(crate) fn open_plain(key: &DocumentKey, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let framed = take_packet(sealed)?;
    if framed.tag != TAG_SEIPD {
        return Err(SealError::Damaged(Part::Header));
    }
    if !framed.rest.is_empty() {
        return Err(SealError::Damaged(Part::Trailing));
    }
    let envelope = Envelope::parse(&framed.body)?;
    let header = Geometry::of_plain(envelope.plain_length()?)?.header(&envelope.salt);
    if !envelope.is_ours() || !sealed.starts_with(&header) {
        return Err(SealError::Damaged(Part::Header));
    }
    open_envelope(key, &envelope)
}

/// Decrypts every chunk, after the final tag has shown that key, salt and length belong together.
fn open_envelope(key: &DocumentKey, envelope: &Envelope<'_>) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let plain = envelope.plain_length()?;
    let mut cipher = PacketCipher::opening_foreign(key, &envelope.salt, envelope.mode, envelope.chunk_octet)?;
    cipher.check_final_tag(envelope.chunk_count(), plain, &envelope.final_tag)?;
    let mut opened = Zeroizing::new(Vec::with_capacity(plain as usize + TAG));
    for (index, chunk) in envelope.chunks.chunks(envelope.sealed_chunk()).enumerate() {
        let start = opened.len();
        opened.extend_from_slice(chunk);
        cipher.open_chunk(index as u64, &mut opened[start..])?;
        opened.truncate(start + chunk.len() - TAG);
    }
    Ok(opened)
}
