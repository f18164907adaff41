//! All leaves again, against all checkpoints, naming the first that is wrong.
//!
//! Three things are compared: the rows (what the log says of itself), the stored leaf hashes (tiles of level 0), and
//! the signed checkpoints. Only the checkpoints are believed. Leaves that agree with the next checkpoint are
//! proved. When they do not, and the stored hashes do, then the first leaf that differs from its stored hash is
//! the first wrong one; when neither do, it lies somewhere between the last checkpoint that agreed and this one.
//!
//! What no checkpoint covers is not proved, and a database set back as a whole, its checkpoints included, agrees
//! with itself: that shows against a checkpoint kept elsewhere (a receipt, a witness), which is checked like any
//! other.

use std::ops::Range;

use crate::frontier::Frontier;
use crate::{Hash, TileSet, TreeError, TreeHead, append};

/// Checks leaves, in order, against checkpoints, in order. It keeps O(log n) hashes.
///
/// For each checkpoint, the smallest first: [`Verifier::leaf`] for the leaves up to its size, then
/// [`Verifier::check`]. At the end the leaves that no checkpoint covers, and [`Verifier::finish`].
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The tree over the rows; none since a leaf had no row.
    rows: Option<Frontier>,
    /// The next position: rows, stored hashes and missing leaves alike.
    position: u64,
    /// The last checkpoint that agreed.
    agreed: TreeHead,
    checkpoints: u64,
    /// The first leaf since then that cannot be right together with its stored hash.
    suspect: Option<Suspect>,
    /// From the suspect on, the tree over the stored hashes, and the rows where no hash is stored: if it leads to
    /// the checkpoint, all of them are right. None when a leaf has neither.
    stored: Option<Frontier>,
    failed: Option<Disagreement>,
}

/// A leaf that is not as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// The row of this leaf and its stored hash differ.
    Altered(u64),
    /// This leaf has no row.
    Missing(u64),
}

/// How closely the first wrong leaf is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstWrong {
    /// It is this one: the stored hashes lead to the checkpoint.
    Leaf(Suspect),
    /// It is one of these.
    Between {
        /// From the size of the last checkpoint that agreed to that of the first that does not.
        leaves: Range<u64>,
        /// The first that differs from its stored hash, or has no row. Both may be wrong; an earlier one may be
        /// wrong together with its stored hash.
        suspect: Option<Suspect>,
    },
}

/// The first disagreement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disagreement {
    /// The rows do not lead to the root of this checkpoint: a row was altered, removed, added or moved.
    #[error("the rows disagree with the checkpoint of size {}", .checkpoint.size)]
    Rows {
        /// The first checkpoint that disagrees.
        checkpoint: TreeHead,
        /// The first wrong leaf.
        first_wrong: FirstWrong,
    },
    /// The rows lead to the root of this checkpoint, but the stored hash of this leaf is another: the tile was
    /// altered.
    #[error("the stored hash of leaf {index} disagrees with the checkpoint of size {}", .checkpoint.size)]
    Stored {
        /// The leaf.
        index: u64,
        /// The checkpoint that proves the row.
        checkpoint: TreeHead,
    },
    /// After the last checkpoint a leaf differs from its stored hash or has no row. No checkpoint says which of the
    /// two is wrong.
    #[error("after the last checkpoint, of size {covered}, rows and stored hashes disagree")]
    Uncovered {
        /// The first such leaf.
        suspect: Suspect,
        /// The size of the last checkpoint.
        covered: u64,
    },
    /// Two checkpoints that no log may have signed both: of the same size with two roots, or out of order.
    #[error("the checkpoint of size {} contradicts the one of size {}", .checkpoint.size, .agreed.size)]
    Checkpoints {
        /// The checkpoint.
        checkpoint: TreeHead,
        /// The one before it, which agreed.
        agreed: TreeHead,
    },
    /// A checkpoint came after leaves beyond its size: a mistake of whoever feeds the verifier, and no verdict on the
    /// log.
    #[error("the checkpoint of size {} came after {position} leaves", .checkpoint.size)]
    Late {
        /// The checkpoint.
        checkpoint: TreeHead,
        /// Leaves given so far.
        position: u64,
    },
    /// A leaf came twice or out of order.
    #[error("leaf {found} came where leaf {expected} should")]
    Order {
        /// The index that should have come.
        expected: u64,
        /// The index that came.
        found: u64,
    },
}

/// What agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The head over all leaves.
    pub head: TreeHead,
    /// The last checkpoint: leaves from its size on are covered by none. The empty head when there was none.
    pub covered: TreeHead,
    /// Checkpoints that agreed.
    pub checkpoints: u64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// From the first leaf.
    pub fn new() -> Self {
        Self::from_frontier(Frontier::new())
    }

    /// From the leaf after a checkpoint that is believed already, with the tiles that [`crate::root_tiles`] names for
    /// its size. They may be those of a larger tree.
    ///
    /// # Errors
    /// [`TreeError`] when the tiles do not give the head.
    pub fn resume(head: &TreeHead, tiles: &TileSet) -> Result<Self, TreeError> {
        append::frontier(head, tiles).map(Self::from_frontier)
    }

    fn from_frontier(frontier: Frontier) -> Self {
        let agreed = frontier.head();
        Self {
            rows: Some(frontier),
            position: agreed.size,
            agreed,
            checkpoints: 0,
            suspect: None,
            stored: None,
            failed: None,
        }
    }

    /// The index of the leaf that should come next.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// A leaf of this index: the hash of its row ([`Hash::leaf`]), none when there is no row; and its stored hash
    /// ([`TileSet::leaf`]), none when it is not known. An index that leaves some out says that they have neither.
    ///
    /// # Errors
    /// [`Disagreement::Order`]. After an error every call gives the same one.
    pub fn leaf(&mut self, index: u64, row: Option<Hash>, stored: Option<Hash>) -> Result<(), Disagreement> {
        self.sound()?;
        let next = index.checked_add(1).filter(|_| index >= self.position);
        let Some(next) = next else {
            return self.fail(Disagreement::Order { expected: self.position, found: index });
        };
        if index > self.position {
            self.missing();
        }
        match row {
            Some(row) if stored.is_none_or(|stored| stored == row) => {}
            Some(_) => self.suspect(Suspect::Altered(index)),
            None => self.suspect(Suspect::Missing(index)),
        }
        if self.suspect.is_some() {
            push(&mut self.stored, stored.or(row));
        }
        push(&mut self.rows, row);
        self.position = next;
        Ok(())
    }

    /// A checkpoint whose signature is verified, when all leaves below its size were given. If some are still
    /// lacking, they are missing.
    ///
    /// # Errors
    /// [`Disagreement::Rows`], [`Disagreement::Stored`], [`Disagreement::Checkpoints`], [`Disagreement::Late`]. After an
    /// error every call gives the same one.
    pub fn check(&mut self, checkpoint: &TreeHead) -> Result<(), Disagreement> {
        self.sound()?;
        let (checkpoint, agreed) = (*checkpoint, self.agreed);
        if checkpoint.size < agreed.size || checkpoint.size == agreed.size && checkpoint.root != agreed.root {
            return self.fail(Disagreement::Checkpoints { checkpoint, agreed });
        }
        if checkpoint == agreed {
            self.checkpoints += 1;
            return Ok(());
        }
        if checkpoint.size < self.position {
            return self.fail(Disagreement::Late { checkpoint, position: self.position });
        }
        if checkpoint.size > self.position {
            self.missing();
        }
        let leads = |tree: &Option<Frontier>| tree.as_ref().is_some_and(|tree| tree.head() == checkpoint);
        if !leads(&self.rows) {
            let first_wrong = match self.suspect {
                Some(suspect) if leads(&self.stored) => FirstWrong::Leaf(suspect),
                suspect => FirstWrong::Between { leaves: agreed.size..checkpoint.size, suspect },
            };
            return self.fail(Disagreement::Rows { checkpoint, first_wrong });
        }
        if let Some(Suspect::Altered(index) | Suspect::Missing(index)) = self.suspect {
            return self.fail(Disagreement::Stored { index, checkpoint });
        }
        self.agreed = checkpoint;
        self.checkpoints += 1;
        Ok(())
    }

    /// After the last leaf.
    ///
    /// # Errors
    /// [`Disagreement::Uncovered`]; the one that was given before.
    pub fn finish(self) -> Result<Verified, Disagreement> {
        self.sound()?;
        match (self.rows, self.suspect) {
            (Some(rows), None) => {
                Ok(Verified { head: rows.head(), covered: self.agreed, checkpoints: self.checkpoints })
            }
            (_, suspect) => {
                let suspect = suspect.unwrap_or(Suspect::Missing(self.position));
                Err(Disagreement::Uncovered { suspect, covered: self.agreed.size })
            }
        }
    }

    /// The leaf at the position has neither row nor stored hash.
    fn missing(&mut self) {
        self.suspect(Suspect::Missing(self.position));
        self.rows = None;
        self.stored = None;
    }

    /// Up to the first suspect, rows and stored hashes are one tree.
    fn suspect(&mut self, suspect: Suspect) {
        if self.suspect.is_none() {
            self.suspect = Some(suspect);
            self.stored = self.rows.clone();
        }
    }

    fn sound(&self) -> Result<(), Disagreement> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, disagreement: Disagreement) -> Result<(), Disagreement> {
        self.failed = Some(disagreement.clone());
        Err(disagreement)
    }
}

/// Goes on with a tree, or gives it up.
fn push(tree: &mut Option<Frontier>, leaf: Option<Hash>) {
    *tree = tree.take().zip(leaf).and_then(|(mut tree, leaf)| tree.push(leaf).is_ok().then_some(tree));
}
