//! Proofs: which tiles they need, making them, checking them.
//!
//! A proof is a list of roots over ranges of leaves (RFC 6962, 2.1.1 and 2.1.2). What is planned is what is read:
//! the tiles asked for and the hashes computed come from the same list.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;
use std::ops::Range;

use crate::frontier::Frontier;
use crate::tile::Place;
use crate::{HASH, Hash, ProofError, TileId, TileSet, TreeError, TreeHead};

/// Hashes in the longest proof of a tree of fewer than 2^64 leaves: one for each level, and for consistency one
/// more to begin with.
pub const PROOF_MAX: usize = 65;

/// The hashes of an inclusion or consistency proof, those next to the leaves first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof(Vec<Hash>);

impl Proof {
    /// A proof of these hashes.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] when there are more than [`PROOF_MAX`].
    pub fn new(hashes: Vec<Hash>) -> Result<Self, ProofError> {
        if hashes.len() > PROOF_MAX {
            return Err(ProofError::Malformed("more hashes than any tree needs"));
        }
        Ok(Self(hashes))
    }

    /// A proof from the bytes of its hashes, one after the other.
    ///
    /// # Errors
    /// [`ProofError::Malformed`] when they are not whole hashes, or more than [`PROOF_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        let (hashes, rest) = bytes.as_chunks::<HASH>();
        if !rest.is_empty() {
            return Err(ProofError::Malformed("not whole hashes"));
        }
        if hashes.len() > PROOF_MAX {
            return Err(ProofError::Malformed("more hashes than any tree needs"));
        }
        Ok(Self(hashes.iter().copied().map(Hash::from_bytes).collect()))
    }

    /// The hashes, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|hash| hash.as_bytes()).copied().collect()
    }

    /// The hashes.
    pub fn hashes(&self) -> &[Hash] {
        &self.0
    }
}

/// The tiles from which [`root`] is computed, and from which [`crate::Edge::open`] takes up the tree. None for the
/// empty tree.
pub fn root_tiles(size: u64) -> Vec<TileId> {
    tiles(std::iter::once(0..size))
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// [`TreeError::MissingTile`], [`TreeError::Width`].
pub fn root(size: u64, tiles: &TileSet) -> Result<Hash, TreeError> {
    root_of(0..size, tiles)
}

/// The tiles from which [`inclusion_proof`] is made.
///
/// # Errors
/// [`TreeError::Outside`].
pub fn inclusion_tiles(index: u64, size: u64) -> Result<Vec<TileId>, TreeError> {
    inclusion(index, size).map(tiles)
}

/// The proof that the leaf of this index, from 0, is in the tree of the first `size` leaves (RFC 9162, 2.1.3.1).
///
/// It is made of what is stored: check it against a signed head ([`verify_inclusion`]) before it is given out.
///
/// # Errors
/// [`TreeError::Outside`], [`TreeError::MissingTile`], [`TreeError::Width`].
pub fn inclusion_proof(index: u64, size: u64, tiles: &TileSet) -> Result<Proof, TreeError> {
    proof(inclusion(index, size)?, tiles)
}

/// The tiles from which [`consistency_proof`] is made.
///
/// # Errors
/// [`TreeError::Shrunk`].
pub fn consistency_tiles(old: u64, new: u64) -> Result<Vec<TileId>, TreeError> {
    consistency(old, new).map(tiles)
}

/// The proof that the tree of `new` leaves extends the tree of `old` leaves (RFC 9162, 2.1.4.1). Empty when `old` is
/// 0 or `new`.
///
/// It is made of what is stored: check it against signed heads ([`verify_consistency`]) before it is given out.
///
/// # Errors
/// [`TreeError::Shrunk`], [`TreeError::MissingTile`], [`TreeError::Width`].
pub fn consistency_proof(old: u64, new: u64, tiles: &TileSet) -> Result<Proof, TreeError> {
    proof(consistency(old, new)?, tiles)
}

/// Checks that a leaf, given as its hash ([`Hash::leaf`]), is at this index, from 0, of the tree with this head
/// (RFC 9162, 2.1.3.2).
///
/// A root does not hold the size: a head has to be believed as a whole, as a checkpoint states it.
///
/// # Errors
/// [`ProofError::Outside`], [`ProofError::Length`], [`ProofError::Root`].
pub fn verify_inclusion(leaf: &Hash, index: u64, head: &TreeHead, proof: &Proof) -> Result<(), ProofError> {
    let outside = ProofError::Outside { index, size: head.size };
    let last = head.size.checked_sub(1).filter(|last| index <= *last).ok_or(outside)?;
    let mut path = Path { own: index, last };
    let mut root = *leaf;
    for hash in proof.hashes() {
        root = match path.up()? {
            Side::Left => Hash::node(hash, &root),
            Side::Right => Hash::node(&root, hash),
        };
    }
    path.ended()?;
    if root != head.root { Err(ProofError::Root) } else { Ok(()) }
}

/// Checks that the tree with the head `new` extends the tree with the head `old` (RFC 9162, 2.1.4.2). Every tree
/// extends the empty one and itself: the proof is then empty.
///
/// # Errors
/// [`ProofError::Shrunk`], [`ProofError::Length`], [`ProofError::Root`].
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &Proof) -> Result<(), ProofError> {
    if old.size > new.size {
        return Err(ProofError::Shrunk { old: old.size, new: new.size });
    }
    if old.size == 0 || old.size == new.size {
        let agree = if old.size == 0 { old.root == Hash::empty() } else { old.root == new.root };
        return match (proof.hashes(), agree) {
            ([], true) => Ok(()),
            ([], false) => Err(ProofError::Root),
            _ => Err(ProofError::Length),
        };
    }
    // The largest perfect subtree at the old tree's right end; both roots are built up from it.
    let (Some(own), Some(last)) = (old.size.checked_sub(1), new.size.checked_sub(1)) else {
        return Err(ProofError::Length);
    };
    let mut path = Path { own, last };
    path.shift(own.trailing_ones());
    let (start, hashes) = if old.size.is_power_of_two() {
        // It is the old tree itself, so that the proof need not say it.
        (old.root, proof.hashes())
    } else {
        let (start, hashes) = proof.hashes().split_first().ok_or(ProofError::Length)?;
        (*start, hashes)
    };
    let (mut old_root, mut new_root) = (start, start);
    for hash in hashes {
        match path.up()? {
            Side::Left => {
                old_root = Hash::node(hash, &old_root);
                new_root = Hash::node(hash, &new_root);
            }
            Side::Right => new_root = Hash::node(&new_root, hash),
        }
    }
    path.ended()?;
    if old_root != old.root || new_root != new.root { Err(ProofError::Root) } else { Ok(()) }
}

/// On which side of a subtree its sibling is.
enum Side {
    Left,
    Right,
}

/// The way from a subtree to the root: `fn` and `sn` of RFC 9162.
struct Path {
    /// The index of the subtree among those of its height.
    own: u64,
    /// The index of the last of them.
    last: u64,
}

impl Path {
    /// One hash further up, passing the heights at which the subtree has no sibling.
    fn up(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::Length);
        }
        let left = self.own & 1 == 1 || self.own == self.last;
        if left {
            // At the right edge: up to where it is the right child of someone. (`own` is not 0, as it is
            // odd or equals `last`.)
            self.shift(self.own.trailing_zeros());
        }
        self.shift(1);
        Ok(if left { Side::Left } else { Side::Right })
    }

    fn shift(&mut self, heights: u32) {
        self.own = self.own.checked_shr(heights).unwrap_or(0);
        self.last = self.last.checked_shr(heights).unwrap_or(0);
    }

    fn ended(&self) -> Result<(), ProofError> {
        if self.last == 0 { Ok(()) } else { Err(ProofError::Length) }
    }
}

/// PATH of RFC 6962, 2.1.1, as ranges of leaves: the siblings, from the leaf up.
fn inclusion(index: u64, size: u64) -> Result<Vec<Range<u64>>, TreeError> {
    if index >= size {
        return Err(TreeError::Outside { index, size });
    }
    let mut ranges = Vec::new();
    let mut around = 0..size;
    while let Some(middle) = middle(&around) {
        if index < middle {
            ranges.push(middle..around.end);
            around.end = middle;
        } else {
            ranges.push(around.start..middle);
            around.start = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}

/// PROOF of RFC 6962, 2.1.2, as ranges of leaves.
fn consistency(old: u64, new: u64) -> Result<Vec<Range<u64>>, TreeError> {
    if old > new {
        return Err(TreeError::Shrunk { old, new });
    }
    let mut ranges = Vec::new();
    if old == 0 {
        return Ok(ranges);
    }
    let mut around = 0..new;
    // At the end of the old tree a subtree is found that both trees have.
    while around.end != old {
        let Some(middle) = middle(&around) else { break };
        if old <= middle {
            ranges.push(middle..around.end);
            around.end = middle;
        } else {
            ranges.push(around.start..middle);
            around.start = middle;
        }
    }
    // When that is the old tree itself, the verifier knows it.
    if around.start != 0 {
        ranges.push(around);
    }
    ranges.reverse();
    Ok(ranges)
}

/// Where the tree over these leaves divides: after the largest power of two that is less than their number. None
/// for one leaf.
#[expect(clippy::arithmetic_side_effects, reason = "the middle is below the end")]
fn middle(leaves: &Range<u64>) -> Option<u64> {
    let height = (leaves.end - leaves.start).checked_sub(1)?.checked_ilog2()?;
    Some(leaves.start + (1 << height))
}

/// The perfect subtrees of the tree over these leaves, the largest first. Their number decides the shape; the
/// first leaf must be one at which such a tree can stand.
pub(crate) fn places(leaves: Range<u64>) -> impl Iterator<Item = Place> {
    let mut rest = leaves;
    std::iter::from_fn(move || {
        let height = rest.end.checked_sub(rest.start)?.checked_ilog2()?;
        let place = Place { height, index: rest.start.checked_shr(height)? };
        rest.start = rest.start.checked_add(1_u64.checked_shl(height)?)?;
        Some(place)
    })
}

fn tiles(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<TileId> {
    let places = ranges.into_iter().flat_map(places);
    places.map(|place| place.first().0).collect::<BTreeSet<_>>().into_iter().collect()
}

fn proof(ranges: Vec<Range<u64>>, tiles: &TileSet) -> Result<Proof, TreeError> {
    ranges.into_iter().map(|range| root_of(range, tiles)).collect::<Result<_, _>>().map(Proof)
}

fn root_of(leaves: Range<u64>, tiles: &TileSet) -> Result<Hash, TreeError> {
    let size = leaves.end.saturating_sub(leaves.start);
    let peaks = places(leaves).map(|place| tiles.subtree(place)).collect::<Result<_, _>>()?;
    Ok(Frontier::from_peaks(size, peaks).head().root)
}
