//! Growing the tree: the right edge in, the tiles to write out.

use crate::frontier::Frontier;
use crate::proof::places;
use crate::tile::TILE_HEIGHT;
use crate::{Hash, TILE_WIDTH, Tile, TileId, TileSet, TreeError, TreeHead};

/// The right edge of a tree: its partial tiles.
///
/// The tree is what is stored. Whoever keeps an edge in memory between two appends has to know that nobody
/// else has written meanwhile; opening it again costs one tile a level.
#[derive(Debug, Clone)]
pub struct Edge {
    frontier: Frontier,
    /// Hashes of the partial tile of each level; empty where a level has none.
    partial: Vec<Vec<Hash>>,
}

/// What an append has made of the tree.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The new head.
    pub head: TreeHead,
    /// Tiles to be written, those of lower levels first; each place once. A tile replaces one that was
    /// stored under its id.
    pub tiles: Vec<Tile>,
}

impl Edge {
    /// The edge of the tree without leaves.
    pub fn empty() -> Self {
        Self { frontier: Frontier::new(), partial: Vec::new() }
    }

    /// The edge of the tree of which `head` is known, from the tiles that [`crate::root_tiles`] names.
    ///
    /// # Errors
    /// [`TreeError::Root`] when the tiles do not give the root of `head`: whatever were appended to them
    /// would contradict it. [`TreeError::MissingTile`] or [`TreeError::Width`] when a tile is not there or does not
    /// end where the tree ends.
    pub fn open(head: &TreeHead, tiles: &TileSet) -> Result<Self, TreeError> {
        let mut partial = Vec::new();
        let mut rest = head.size;
        for level in 0.. {
            if rest == 0 {
                break;
            }
            let needed = (rest % TILE_WIDTH as u64) as usize;
            rest >>= TILE_HEIGHT;
            let mut hashes = Vec::with_capacity(TILE_WIDTH);
            if needed > 0 {
                let id = TileId { level, index: rest };
                let stored = tiles.hashes(id)?;
                if stored.len() != needed {
                    return Err(TreeError::Width { id, width: stored.len(), needed });
                }
                hashes.extend(stored.iter().copied().map(Hash::from_bytes));
            }
            partial.push(hashes);
        }
        let frontier = frontier(head, tiles)?;
        Ok(Self { frontier, partial })
    }

    /// The head of the tree that ends here.
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    /// Adds leaves, as their hashes ([`Hash::leaf`]), in order.
    ///
    /// # Errors
    /// [`TreeError::Full`]; then nothing has changed.
    pub fn append(&mut self, leaves: &[Hash]) -> Result<Appended, TreeError> {
        let before = self.frontier.size();
        before.checked_add(leaves.len() as u64).ok_or(TreeError::Full)?;
        let mut tiles = Vec::new();
        for leaf in leaves {
            let (partial, size) = (&mut self.partial, self.frontier.size());
            self.frontier.push_with(*leaf, |height, root| {
                // The root of a full tile is a hash of the level above: nothing is hashed twice.
                if height % TILE_HEIGHT == 0 {
                    let level = (height / TILE_HEIGHT) as usize;
                    if partial.len() == level {
                        partial.push(Vec::with_capacity(TILE_WIDTH));
                    }
                    partial[level].push(root);
                    if partial[level].len() == TILE_WIDTH {
                        // The leaf that fills a tile lies under it.
                        let index = size.checked_shr(height + TILE_HEIGHT).unwrap_or(0);
                        let id = TileId { level: level as u8, index };
                        tiles.push(Tile::new(id, &partial[level]));
                        partial[level].clear();
                    }
                }
            })?;
        }
        let after = self.frontier.size();
        for (level, hashes) in self.partial.iter().enumerate() {
            let height = level as u32 * TILE_HEIGHT;
            let grown = before >> height != after >> height;
            if grown && !hashes.is_empty() {
                let id = TileId { level: level as u8, index: (after >> height) >> TILE_HEIGHT };
                tiles.push(Tile::new(id, hashes));
            }
        }
        tiles.sort_by_key(|tile| tile.id);
        Ok(Appended { head: self.head(), tiles })
    }
}

/// The frontier of the tree of which `head` is known.
pub(crate) fn frontier(head: &TreeHead, tiles: &TileSet) -> Result<Frontier, TreeError> {
    let peaks = places(0..head.size).map(|place| tiles.subtree(place)).collect::<Result<_, _>>()?;
    let frontier = Frontier::from_peaks(head.size, peaks);
    if frontier.head() != *head {
        return Err(TreeError::Root { expected: *head });
    }
    Ok(frontier)
}
