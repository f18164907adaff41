//! OpenPGP for Pli: document keys, segments, wrapping to certificates, manifests.
//!
//! A document is cut in segments. Each segment is one object in the store and one complete OpenPGP
//! packet: Symmetrically Encrypted and Integrity Protected Data, version 2 (RFC 9580, 5.13.2),
//! AES-256 in OCB mode, chunks of 64 KiB, its own random salt, one literal data packet inside. All
//! segments of a document share one random [`DocumentKey`], wrapped in PKESK packets for the hub and
//! for whoever else was asked for. `PKESK… ‖ segment` is an ordinary OpenPGP message.
//!
//! This crate is pure: bytes (and where it matters a time) in, bytes or a verdict out. It must never
//! open a file, a socket or a database, never log, never hand out a byte of a chunk that its tag does
//! not authenticate, and never print a key, a passphrase or content.
//!
//! | module | owns |
//! | --- | --- |
//! | `key` | [`DocumentKey`], wrapping and unwrapping |
//! | `ring` | the hub's secret certificates, passphrases, recipients' certificates |
//! | `packet` | the geometry and framing of packets, written and read |
//! | `cipher` | key derivation and the AEAD of one packet, chunk by chunk |
//! | `filling` | receiving content straight into an object's layout, sealing in place |
//! | `opening` | opening a segment, or a range of it, as its bytes arrive |
//! | `small` | packets that fit in memory, ours and foreign ones |
//! | `digest` | SHA-256 that can stop, be put away sealed, and go on |
//! | `manifest` | the signed list of segments that makes the store recoverable |

#![deny(missing_docs)]

mod cipher;
mod digest;
mod error;
mod filling;
mod key;
mod mail;
mod manifest;
mod opening;
mod packet;
mod ring;
mod small;

/// Parsers that the fuzz targets reach without a key in front. Not part of the interface: only there when
/// the fuzzer compiles the crate.
#[cfg(fuzzing)]
pub mod fuzzing {
    use crate::{KeyRing, Manifest, SealError};

    /// The packets inside a segment.
    pub fn literal_content(plain: &[u8]) -> Result<Vec<u8>, SealError> {
        crate::packet::literal_content(plain).map(std::borrow::Cow::into_owned)
    }

    /// The packets inside a manifest, and its signature.
    pub fn signed_manifest(signed: &[u8], ring: &KeyRing) -> Result<Manifest, SealError> {
        Manifest::open_signed(signed, ring)
    }

    /// The fields of a manifest.
    pub fn manifest_fields(json: &[u8]) -> Result<Manifest, SealError> {
        Manifest::from_json(json)
    }
}

pub use digest::ContentDigest;
pub use error::{Part, SealError};
pub use filling::{Filling, Sealed};
pub use key::DocumentKey;
pub use mail::encrypt_to;
pub use manifest::{MANIFEST_MAX, Manifest, ManifestPart, ManifestSegment};
pub use opening::{Opening, SegmentRow};
pub use packet::{
    BLOCK, BLOCK_CHUNKS, CHUNK, HEADER, LITERAL, SEGMENT_MAX, TAG, content_of_blocks, object_length,
};
pub use ring::{KeyRing, Passphrase, Recipient};
pub use small::{open_message, open_packet, open_small, seal_small};
