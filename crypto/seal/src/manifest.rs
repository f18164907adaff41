//! The manifest: the signed list of a document's segments, stored beside them, with which the store
//! and the hub's key alone are enough to recover the document.
//!
//! In the store it is `PKESK… ‖ SEIPD version 2 (one-pass signature, literal data, signature)`, the
//! literal data being JSON. Its packet is sealed under part 0's key; the keys of further parts are
//! inside. Rotation of the hub's certificate replaces the session key packets in front and must never
//! touch the sealed packet. A manifest that the ring did not sign, or whose numbers disagree, must
//! never be believed in part.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::fmt;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{MessageLayer, MessageStructure, VerificationHelper, VerifierBuilder};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use sequoia_openpgp::{Cert, KeyHandle};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Part, SealError};
use crate::key::{DocumentKey, library, unwrap_front};
use crate::opening::SegmentRow;
use crate::packet::{object_length, take_packet};
use crate::ring::{KeyRing, Recipient};
use crate::small::{open_plain, seal_plain};

/// Bytes of a sealed manifest, wrapped keys included: enough for 60,000 segments (a terabyte).
pub const MANIFEST_MAX: usize = 32 << 20;

/// The only version there is.
const VERSION: u32 = 1;
/// Characters of a name, an identifier or a media type.
const TEXT_MAX: usize = 4_096;
/// Parts of one document.
const PARTS_MAX: usize = 10_000;

const ONE_PASS_SIGNATURE: u8 = 4;
const LITERAL_DATA: u8 = 11;
const SIGNATURE: u8 = 2;

/// What a document is made of. Its `Debug` leaves out the name, which says what a case is about.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub version: u32,
    /// The document's identifier.
    pub document: String,
    /// The identifier of the deposit it belongs to.
    pub deposit: String,
    /// The file name its sender gave.
    pub name: String,
    /// The media type its sender gave.
    pub media_type: String,
    /// Content bytes.
    pub size: u64,
    /// SHA-256 of the content, in lower-case hexadecimal.
    pub sha256: String,
    /// When the document was completed, in microseconds UTC since 1970. Also the time of the
    /// signature, unless the signing key is younger.
    pub created: i64,
    /// The parts, in the order of the content. The first has no key here: it is the one that the
    /// manifest is sealed under.
    pub parts: Vec<ManifestPart>,
}

/// A run of segments under one key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestPart {
    /// The part's key in hexadecimal; nothing for part 0.
    pub key: Option<String>,
    /// The segments, in order.
    pub segments: Vec<ManifestSegment>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestSegment {
    /// The object's key in the store.
    pub object: String,
    /// Content bytes.
    pub length: u64,
    /// Bytes of the object.
    pub object_length: u64,
    /// The packet's salt, in lower-case hexadecimal.
    pub salt: String,
    /// The packet's final tag, in lower-case hexadecimal.
    pub tag: String,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("version", &self.version)
            .field("document", &self.document)
            .field("deposit", &self.deposit)
            .field("size", &self.size)
            .field("created", &self.created)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ManifestPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestPart").field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Drop for ManifestPart {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl ManifestPart {
    /// A part; `key` is nothing for part 0.
    pub fn new(key: Option<&DocumentKey>, segments: Vec<ManifestSegment>) -> Self {
        Self { key: key.map(|key| hex::encode(key.as_bytes())), segments }
    }

    fn document_key(&self) -> Result<Option<DocumentKey>, SealError> {
        let Some(hexadecimal) = &self.key else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(from_hex::<32>(hexadecimal, "key of a part")?);
        Ok(Some(DocumentKey::from_bytes(&bytes)))
    }
}

impl ManifestSegment {
    /// A segment as its row describes it.
    pub fn new(object: String, row: &SegmentRow) -> Self {
        Self {
            object,
            length: row.length,
            object_length: row.object_length,
            salt: hex::encode(row.salt),
            tag: hex::encode(row.tag),
        }
    }

    /// What [`Opening`](crate::Opening) needs.
    ///
    /// # Errors
    /// [`SealError::Manifest`] when salt or tag are not hexadecimal of their length.
    pub fn row(&self) -> Result<SegmentRow, SealError> {
        Ok(SegmentRow {
            length: self.length,
            object_length: self.object_length,
            salt: from_hex(&self.salt, "salt of a segment")?,
            tag: from_hex(&self.tag, "tag of a segment")?,
        })
    }
}

impl Manifest {
    /// Signs the manifest with the ring's current key, seals it under part 0's key and puts that key,
    /// wrapped to `wrap_to`, in front.
    ///
    /// # Errors
    /// [`SealError::Manifest`] when its own numbers disagree; [`SealError::Limit`] above
    /// [`MANIFEST_MAX`]; [`SealError::NoRecipient`].
    pub fn seal(
        &self,
        key0: &DocumentKey,
        ring: &KeyRing,
        wrap_to: &[Recipient],
    ) -> Result<Vec<u8>, SealError> {
        self.check()?;
        // Room from the start: growing would leave copies of the keys behind.
        let segments: usize = self.parts.iter().map(|part| part.segments.len()).sum();
        let room = segments.saturating_add(self.parts.len()).saturating_mul(512).saturating_add(32_768);
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *json, self).map_err(library)?;
        let signed = Zeroizing::new(self.sign(&json, ring)?);
        let mut sealed = key0.wrap(wrap_to)?;
        sealed.append(&mut seal_plain(key0, &[&signed])?);
        if sealed.len() > MANIFEST_MAX {
            return Err(SealError::Limit("manifest"));
        }
        Ok(sealed)
    }

    /// Opens a sealed manifest with the ring and checks the ring's signature. Returns the keys of
    /// the parts, in their order, part 0's first.
    ///
    /// # Errors
    /// As [`DocumentKey::unwrap`] and [`open_small`](crate::open_small);
    /// [`SealError::Manifest`] when the packets inside are not exactly a one-pass signature, literal
    /// data and a signature, when no key of the ring made the signature, when a field is missing,
    /// unknown, too long or of another form, or when the lengths do not add up.
    pub fn open(bytes: &[u8], ring: &KeyRing) -> Result<(Self, Vec<DocumentKey>), SealError> {
        if bytes.len() > MANIFEST_MAX {
            return Err(SealError::Limit("manifest"));
        }
        let (key0, packet) = unwrap_front(bytes, ring)?;
        let signed = open_plain(&key0, packet)?;
        let manifest = Self::open_signed(&signed, ring)?;
        let mut keys = Vec::with_capacity(manifest.parts.len());
        for part in &manifest.parts {
            keys.push(part.document_key()?.unwrap_or_else(|| key0.clone()));
        }
        Ok((manifest, keys))
    }

    /// Replaces the wrapped keys in front of a sealed manifest; the sealed packet keeps its bytes.
    ///
    /// # Errors
    /// As [`DocumentKey::unwrap`]; [`SealError::WrongKey`] or [`SealError::Damaged`] when the key
    /// in front does not open the packet behind: a broken manifest is not passed on with a new wrap.
    pub fn rewrap(bytes: &[u8], ring: &KeyRing, to: &[Recipient]) -> Result<Vec<u8>, SealError> {
        if bytes.len() > MANIFEST_MAX {
            return Err(SealError::Limit("manifest"));
        }
        let (key0, packet) = unwrap_front(bytes, ring)?;
        drop(open_plain(&key0, packet)?);
        let mut rewrapped = key0.wrap(to)?;
        rewrapped.extend_from_slice(packet);
        Ok(rewrapped)
    }

    /// The time of the signature: the manifest's, unless the key is younger (a rotation between the
    /// document's completion and its sealing, or a clock that was set back). A signature older than
    /// its key would be refused for ever.
    fn sign(&self, json: &[u8], ring: &KeyRing) -> Result<Vec<u8>, SealError> {
        let signer = ring.signer();
        let micros = u64::try_from(self.created).unwrap_or_default();
        let created = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_micros(micros))
            .ok_or(SealError::Manifest("time of creation"))?;
        let time = created.max(ring.signing_since());
        let mut signed =
            Vec::with_capacity(json.len().saturating_add(json.len() / 256).saturating_add(4_096));
        let message = Message::new(&mut signed);
        let message =
            Signer::new(message, signer).map_err(library)?.creation_time(time).build().map_err(library)?;
        let mut literal = LiteralWriter::new(message).build().map_err(library)?;
        literal.write_all(json).map_err(library)?;
        literal.finalize().map_err(library)?;
        Ok(signed)
    }

    /// Checks the packets inside, the signature, and every field.
    pub(crate) fn open_signed(signed: &[u8], ring: &KeyRing) -> Result<Self, SealError> {
        let mut rest = signed;
        for expected in [ONE_PASS_SIGNATURE, LITERAL_DATA, SIGNATURE] {
            let packet = take_packet(rest)?;
            if packet.tag != expected {
                return Err(SealError::Manifest("packets other than one signed literal"));
            }
            rest = packet.rest;
        }
        if !rest.is_empty() {
            return Err(SealError::Damaged(Part::Trailing));
        }
        let refused = |_| SealError::Manifest("not signed by the hub");
        // Whether the signature was made while its key was valid is judged at the signature's own
        // time; the time given here only says that the signature is not from the future, and a clock
        // that was set back must not hide a document.
        let policy = StandardPolicy::new();
        let mut verifier = VerifierBuilder::from_bytes(signed)
            .map_err(refused)?
            .buffer_size(MANIFEST_MAX)
            .with_policy(&policy, end_of_time(), SignedByRing(ring))
            .map_err(refused)?;
        let mut json = Zeroizing::new(Vec::with_capacity(signed.len()));
        verifier.read_to_end(&mut json).map_err(|_| SealError::Manifest("not signed by the hub"))?;
        if !verifier.message_processed() {
            return Err(SealError::Manifest("not signed by the hub"));
        }
        Self::from_json(&json)
    }

    /// Reads the fields and checks every one.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, SealError> {
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|_| SealError::Manifest("not JSON with exactly the fields"))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Every rule that a manifest keeps by itself.
    fn check(&self) -> Result<(), SealError> {
        if self.version != VERSION {
            return Err(SealError::Manifest("version"));
        }
        let texts = [&self.document, &self.deposit, &self.name, &self.media_type];
        if texts.iter().any(|text| text.len() > TEXT_MAX) {
            return Err(SealError::Manifest("a text is too long"));
        }
        from_hex::<32>(&self.sha256, "sha256")?;
        let seconds = u64::try_from(self.created).map(|created| created / 1_000_000);
        if seconds.is_err() || seconds.is_ok_and(|seconds| seconds > u64::from(u32::MAX)) {
            return Err(SealError::Manifest("time of creation"));
        }
        if self.parts.is_empty() || self.parts.len() > PARTS_MAX {
            return Err(SealError::Manifest("number of parts"));
        }
        let mut size = 0_u64;
        let mut objects = HashSet::new();
        for (index, part) in self.parts.iter().enumerate() {
            if part.document_key()?.is_some() != (index > 0) {
                return Err(SealError::Manifest("every part but the first has a key"));
            }
            for segment in &part.segments {
                segment.row()?;
                if object_length(segment.length) != Some(segment.object_length) {
                    return Err(SealError::Manifest("length of a segment"));
                }
                if segment.object.is_empty() || segment.object.len() > TEXT_MAX {
                    return Err(SealError::Manifest("object of a segment"));
                }
                if !objects.insert(segment.object.as_str()) {
                    return Err(SealError::Manifest("an object is listed twice"));
                }
                size = size.saturating_add(segment.length);
            }
        }
        if size != self.size {
            return Err(SealError::Manifest("the segments do not add up to the size"));
        }
        Ok(())
    }
}

/// The last second that OpenPGP can express.
fn end_of_time() -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(u64::from(u32::MAX)))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Accepts exactly one good signature by a certificate of the ring, and no other layer.
struct SignedByRing<'a>(&'a KeyRing);

impl VerificationHelper for SignedByRing<'_> {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(self.0.certs().to_vec())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        let mut layers = structure.into_iter();
        match (layers.next(), layers.next()) {
            (Some(MessageLayer::SignatureGroup { results }), None)
                if results.len() == 1 && results.iter().all(Result::is_ok) =>
            {
                Ok(())
            }
            _ => Err(sequoia_openpgp::Error::BadSignature("not signed by the hub".into()).into()),
        }
    }
}

/// Lower-case hexadecimal of exactly `N` bytes: one text for one value.
fn from_hex<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
        return Err(SealError::Manifest(what));
    }
    Ok(bytes)
}
