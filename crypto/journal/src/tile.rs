//! The tree as it is stored: C2SP `tlog-tiles`.
//!
//! A tile of level l holds up to 256 consecutive roots of perfect subtrees of height 8·l: leaf hashes at level 0,
//! roots of full tiles of the level below from level 1. A full tile never changes. The last tile of a level may be
//! partial, and then grows in place: whoever stores it writes the wider one over it. What a smaller tree needs is
//! a prefix of it, so proofs for older sizes can be made from the tiles of the newest.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::fmt;

use crate::{HASH, Hash, TreeError};

/// Hashes in a full tile.
pub const TILE_WIDTH: usize = 256;
/// Bytes in a full tile.
pub const TILE_BYTES: usize = TILE_WIDTH * HASH;
/// The height of the tree inside a tile.
pub(crate) const TILE_HEIGHT: u32 = TILE_WIDTH.ilog2();

/// The place of a tile. In a tree of fewer than 2^64 leaves the level is at most 7 and the index below 2^56, so
/// both fit the signed integers of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// 0 for leaf hashes.
    pub level: u8,
    /// From 0, from the left, within the level.
    pub index: u64,
}

impl fmt::Display for TileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level, self.index)
    }
}

/// A tile to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Where it belongs.
    pub id: TileId,
    /// Its hashes, one after the other: 32 to 8,192 bytes.
    pub bytes: Vec<u8>,
}

impl Tile {
    pub(crate) fn new(id: TileId, hashes: &[Hash]) -> Self {
        let mut bytes = Vec::with_capacity(hashes.len().saturating_mul(HASH));
        for hash in hashes {
            bytes.extend_from_slice(hash.as_bytes());
        }
        Self { id, bytes }
    }

    /// Whether it will never change again.
    pub fn is_full(&self) -> bool {
        self.bytes.len() == TILE_BYTES
    }
}

/// Stored tiles, as many as the question at hand needs.
#[derive(Debug, Clone, Default)]
pub struct TileSet {
    tiles: BTreeMap<TileId, Vec<u8>>,
}

impl TileSet {
    /// No tiles.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tile as it was stored; one that was there under this id is replaced.
    ///
    /// # Errors
    /// [`TreeError::Length`] when the bytes are not 1 to 256 hashes.
    pub fn insert(&mut self, id: TileId, bytes: impl Into<Vec<u8>>) -> Result<(), TreeError> {
        let bytes = bytes.into();
        let length = bytes.len();
        if length == 0 || length > TILE_BYTES || !length.is_multiple_of(HASH) {
            return Err(TreeError::Length { id, length });
        }
        self.tiles.insert(id, bytes);
        Ok(())
    }

    /// Tiles in the set.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// The hash of the leaf at this index as it is stored, if its tile is here: what [`crate::Verifier::leaf`]
    /// compares with the leaf itself.
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        let (id, offset) = Place { height: 0, index }.first();
        self.hashes(id).ok()?.get(offset).copied().map(Hash::from_bytes)
    }

    /// The hashes of a tile.
    pub(crate) fn hashes(&self, id: TileId) -> Result<&[[u8; HASH]], TreeError> {
        // Their length was judged when the tile was added.
        self.tiles.get(&id).map(|bytes| bytes.as_chunks().0).ok_or(TreeError::MissingTile(id))
    }

    /// The root of a perfect subtree, from the one tile that holds it.
    pub(crate) fn subtree(&self, place: Place) -> Result<Hash, TreeError> {
        let (id, offset) = place.first();
        let stored = self.hashes(id)?;
        let needed = offset.saturating_add(place.width());
        let hashes =
            stored.get(offset..needed).ok_or(TreeError::Width { id, width: stored.len(), needed })?;
        Ok(perfect(hashes))
    }
}

/// The root over a power of two of hashes, at most a tile's.
fn perfect(hashes: &[[u8; HASH]]) -> Hash {
    match hashes {
        [one] => Hash::from_bytes(*one),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Hash::node(&perfect(left), &perfect(right))
        }
    }
}

/// The place of a perfect subtree: the leaves from `index << height`, as many as `1 << height`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) height: u32,
    pub(crate) index: u64,
}

impl Place {
    /// Where the first of its hashes is stored: tile, and position in the tile. The others follow it there, since
    /// a subtree no higher than a tile never leaves it.
    #[expect(clippy::arithmetic_side_effects, reason = "heights are below 64, shifts below 8")]
    pub(crate) fn first(self) -> (TileId, usize) {
        let position = self.index << (self.height % TILE_HEIGHT);
        let level = (self.height / TILE_HEIGHT) as u8;
        let offset = (position % TILE_WIDTH as u64) as usize;
        (TileId { level, index: position >> TILE_HEIGHT }, offset)
    }

    /// How many hashes of its tile are its own: 1 to 128.
    fn width(self) -> usize {
        1_usize.checked_shl(self.height % TILE_HEIGHT).unwrap_or(1)
    }
}
