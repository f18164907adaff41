//! The root over leaves that come one after the other.
//!
//! A tree of n leaves is a run of perfect subtrees, one for each bit of n that is set, the largest first. Their
//! roots are all that the next leaf and the root need: at most 64 hashes.

use crate::{Hash, TreeError, TreeHead};

/// The roots of the perfect subtrees of a tree.
#[derive(Debug, Clone)]
pub struct Frontier {
    size: u64,
    /// As many as `size` has bits set; the largest subtree first.
    peaks: Vec<Hash>,
}

impl Default for Frontier {
    fn default() -> Self {
        Self::new()
    }
}

impl Frontier {
    /// The tree without leaves.
    pub fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// The perfect subtrees of a tree of this size. There must be one for each bit of `size`.
    pub(crate) fn from_peaks(size: u64, peaks: Vec<Hash>) -> Self {
        debug_assert_eq!(size.count_ones() as usize, peaks.len());
        Self { size, peaks }
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Size and root so far.
    pub fn head(&self) -> TreeHead {
        let peaks = self.peaks.iter().rev().copied();
        let root = peaks.reduce(|right, left| Hash::node(&left, &right)).unwrap_or_else(Hash::empty);
        TreeHead { size: self.size, root }
    }

    /// The next leaf, as its hash.
    ///
    /// # Errors
    /// [`TreeError::Full`].
    pub fn push(&mut self, leaf: Hash) -> Result<(), TreeError> {
        self.push_with(leaf, |_, _| ())
    }

    /// The next leaf; `completed` sees each perfect subtree that ends with it, by height, the leaf (0) first.
    pub(crate) fn push_with(
        &mut self,
        leaf: Hash,
        mut completed: impl FnMut(u32, Hash),
    ) -> Result<(), TreeError> {
        let size = self.size.checked_add(1).ok_or(TreeError::Full)?;
        let mut root = leaf;
        completed(0, root);
        // Each bit that the addition carries over is a subtree that finds its left neighbour.
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            root = Hash::node(&left, &root);
            completed(height, root);
        }
        self.peaks.push(root);
        self.size = size;
        Ok(())
    }
}
