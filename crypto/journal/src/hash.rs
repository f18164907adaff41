//! The hashes of RFC 6962, 2.1: leaves under 0x00, nodes under 0x01, so that neither passes for the other.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Bytes in a hash.
pub const HASH: usize = 32;

/// A hash of the tree: SHA-256.
///
/// Nothing here is secret, so hashes are compared without care for time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; HASH]);

impl Hash {
    /// A hash that is already known.
    pub const fn from_bytes(bytes: [u8; HASH]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; HASH] {
        &self.0
    }

    /// The root of the tree without leaves: SHA-256 of nothing.
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// The hash of a leaf: SHA-256(0x00 ‖ content).
    pub fn leaf(content: &[u8]) -> Self {
        Self(Sha256::new_with_prefix([0]).chain_update(content).finalize().into())
    }

    /// The hash of a node: SHA-256(0x01 ‖ left ‖ right).
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut input = [1; 1 + 2 * HASH];
        let (first, second) = input.split_at_mut(1 + HASH);
        first[1..].copy_from_slice(&left.0);
        second.copy_from_slice(&right.0);
        Self(Sha256::digest(input).into())
    }
}

impl fmt::Display for Hash {
    /// Lower-case hexadecimal. (Notes carry hashes in base 64.)
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The head of a tree: how many leaves, and the root over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves in the tree.
    pub size: u64,
    /// Their Merkle tree hash (RFC 6962, 2.1).
    pub root: Hash,
}

impl TreeHead {
    /// The head of the tree without leaves.
    pub fn empty() -> Self {
        Self { size: 0, root: Hash::empty() }
    }
}
