//! The document key and its wrapping (RFC 9580, 5.1: PKESK version 6).
//!
//! A key is wiped when its last clone goes. It must never be printed, logged or stored unwrapped.

use std::fmt;
use std::sync::Arc;

use sequoia_openpgp::Packet;
use sequoia_openpgp::crypto::SessionKey;
use sequoia_openpgp::packet::PKESK;
use sequoia_openpgp::packet::pkesk::PKESK6;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::serialize::Serialize;
use zeroize::Zeroizing;

use crate::cipher::hkdf_sha256;
use crate::error::{Part, SealError};
use crate::packet::take_packet;
use crate::ring::{KeyRing, Recipient};

/// The first octet of a session key packet in the current format (RFC 9580, 4.2).
const PKESK_OCTET: u8 = 0xC1;
/// Octets of a document key.
const KEY: usize = 32;
/// Session key packets that are looked at in front of one message.
const WRAPS_MAX: usize = 1_024;
/// Octets of one session key packet: the largest in use (RSA 8192) takes about 1,100.
const WRAP_MAX: usize = 4_096;

/// The random 256-bit key that all segments of a document share: an OpenPGP session key.
#[derive(Clone)]
pub struct DocumentKey(Arc<Zeroizing<[u8; KEY]>>);

impl fmt::Debug for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DocumentKey(…)")
    }
}

impl DocumentKey {
    /// A new key from the system's random generator.
    pub fn random() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY]);
        getrandom::fill(&mut key[..])?;
        Ok(Self(Arc::new(key)))
    }

    /// A key that came out of a wrapping or a manifest.
    pub fn from_bytes(bytes: &[u8; KEY]) -> Self {
        Self(Arc::new(Zeroizing::new(*bytes)))
    }

    /// The raw key: for a manifest's list of parts, and for recovery. Do not copy it elsewhere.
    pub fn as_bytes(&self) -> &[u8; KEY] {
        &self.0
    }

    /// A key for another use of the same document, from which this one cannot be found.
    pub(crate) fn derive(&self, label: &str) -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY]);
        hkdf_sha256(self.as_bytes(), &[], label.as_bytes(), &mut key[..])?;
        Ok(Self(Arc::new(key)))
    }

    /// Wraps the key for every encryption key of every recipient: PKESK packets of version 6, one
    /// after the other, ready to stand in front of a segment.
    ///
    /// # Errors
    /// [`SealError::NoRecipient`] when `to` is empty.
    pub fn wrap(&self, to: &[Recipient]) -> Result<Vec<u8>, SealError> {
        if to.is_empty() {
            return Err(SealError::NoRecipient);
        }
        let session_key = SessionKey::from(&self.as_bytes()[..]);
        let mut wrapped = Vec::new();
        for key in to.iter().flat_map(Recipient::encryption_keys) {
            let pkesk = PKESK6::for_recipient(&session_key, key).map_err(library)?;
            Packet::from(pkesk).serialize(&mut wrapped).map_err(library)?;
        }
        Ok(wrapped)
    }

    /// Opens a wrapping with whichever of the hub's keys it names.
    ///
    /// # Errors
    /// [`SealError::NotOurs`] when it names none of them; [`SealError::Damaged`] when it is not a
    /// list of PKESK packets of version 6, or the one for the hub does not open.
    pub fn unwrap(wrapped: &[u8], ring: &KeyRing) -> Result<Self, SealError> {
        let (key, rest) = unwrap_front(wrapped, ring)?;
        if rest.is_empty() { Ok(key) } else { Err(SealError::Damaged(Part::Trailing)) }
    }
}

/// The session key packets in front of `message`, as bytes, and what follows them.
pub(crate) fn split_wraps(message: &[u8]) -> Result<(&[u8], &[u8]), SealError> {
    let mut rest = message;
    let mut count = 0;
    // In the current format only: one wrapping has one form.
    while rest.first() == Some(&PKESK_OCTET) {
        count += 1;
        if count > WRAPS_MAX {
            return Err(SealError::Limit("wrapped keys of one document"));
        }
        rest = take_packet(rest)?.rest;
    }
    let front = message.len() - rest.len();
    Ok(message.split_at(front))
}

/// Opens the key wrapped in front of `message`; also returns what follows the wrapping.
pub(crate) fn unwrap_front<'a>(
    message: &'a [u8],
    ring: &KeyRing,
) -> Result<(DocumentKey, &'a [u8]), SealError> {
    let (mut wraps, rest) = split_wraps(message)?;
    if wraps.is_empty() {
        return Err(SealError::Damaged(Part::WrappedKey));
    }
    let mut found = None;
    let mut refused = false;
    while !wraps.is_empty() && found.is_none() {
        let packet = take_packet(wraps)?;
        wraps = packet.rest;
        if packet.body.len() > WRAP_MAX {
            return Err(SealError::Limit("wrapped key"));
        }
        match PKESK::from_bytes(&packet.body) {
            Ok(PKESK::V6(pkesk)) if ring.holds(pkesk.recipient()) => {
                found = ring.open_wrap(&pkesk);
                refused |= found.is_none();
            }
            // For somebody else, by an algorithm that we need not know.
            Ok(PKESK::V6(_)) => {}
            _ => return Err(SealError::Damaged(Part::WrappedKey)),
        }
    }
    match found {
        Some(session_key) => Ok((from_session_key(&session_key)?, rest)),
        None if refused => Err(SealError::Damaged(Part::WrappedKey)),
        None => Err(SealError::NotOurs),
    }
}

fn from_session_key(session_key: &SessionKey) -> Result<DocumentKey, SealError> {
    let bytes: &[u8; KEY] =
        session_key.as_ref().try_into().map_err(|_| SealError::Damaged(Part::WrappedKey))?;
    Ok(DocumentKey::from_bytes(bytes))
}

/// A failure of Sequoia that says nothing about the input.
pub(crate) fn library(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SealError {
    SealError::Library(error.into())
}
