//! SHA-256 of a document's content that can stop after any byte, be put away, and go on.
//!
//! A saved state holds up to 63 bytes of content, so it must never leave this module unsealed. It is
//! sealed under a key derived from the document key, so that no state can pass for a segment nor a
//! segment for a state.

use std::fmt;

use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Part, SealError};
use crate::key::DocumentKey;
use crate::small::{open_small, seal_small};

/// What the derived key is for; also the version of the saved form.
const LABEL: &str = "pli digest state 1";

/// A running SHA-256, with the number of bytes it has taken.
#[derive(Clone, Default)]
pub struct ContentDigest {
    sha256: Sha256,
    length: u64,
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentDigest").field("length", &self.length).finish_non_exhaustive()
    }
}

impl ContentDigest {
    /// The digest of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the content.
    pub fn update(&mut self, content: &[u8]) {
        self.sha256.update(content);
        self.length = self.length.wrapping_add(content.len() as u64);
    }

    /// Bytes taken so far: compare it with the offset that a restored state should stand at.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The SHA-256 of all bytes taken.
    pub fn finalize(self) -> [u8; 32] {
        self.sha256.finalize().into()
    }

    /// The state, sealed under the document's key.
    ///
    /// # Errors
    /// [`SealError::Library`] only.
    pub fn save(&self, key: &DocumentKey) -> Result<Vec<u8>, SealError> {
        let state = Zeroizing::new(<[u8; STATE]>::from(self.sha256.serialize()));
        let mut saved = Zeroizing::new(Vec::with_capacity(8 + STATE));
        saved.extend_from_slice(&self.length.to_be_bytes());
        saved.extend_from_slice(&state[..]);
        seal_small(&key.derive(LABEL)?, &saved)
    }

    /// A state as [`ContentDigest::save`] gave it.
    ///
    /// # Errors
    /// Another document's key, or altered bytes: [`SealError::WrongKey`] or [`SealError::Damaged`].
    pub fn restore(saved: &[u8], key: &DocumentKey) -> Result<Self, SealError> {
        let damaged = SealError::Damaged(Part::DigestState);
        let saved = Zeroizing::new(open_small(&key.derive(LABEL)?, saved)?);
        let Some((length, state)) = saved.split_first_chunk::<8>() else {
            return Err(damaged);
        };
        let Ok(state) = SerializedState::<Sha256>::try_from(state) else {
            return Err(damaged);
        };
        let Ok(sha256) = Sha256::deserialize(&state) else {
            return Err(damaged);
        };
        Ok(Self { sha256, length: u64::from_be_bytes(*length) })
    }
}

/// Octets of a serialized SHA-256 state: chaining value, block count, buffer.
const STATE: usize = 104;
