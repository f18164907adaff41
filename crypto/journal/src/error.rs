//! What can fail, in terms a caller can act on. The texts carry sizes, indexes and names of keys; never what a
//! leaf or a note says.

use crate::{TileId, TreeHead};

/// Why the tree cannot be read or extended: the stored tiles, or what was asked of them, are not right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A tile that is needed was not given.
    #[error("tile {0} is missing")]
    MissingTile(TileId),
    /// A tile holds fewer hashes than the size of the tree asks for; at the right edge, fewer or more.
    #[error("tile {id} holds {width} hashes where the tree has {needed}")]
    Width {
        /// Which tile.
        id: TileId,
        /// Hashes in it.
        width: usize,
        /// Hashes that the tree has there.
        needed: usize,
    },
    /// The bytes of a tile are not 1 to 256 hashes.
    #[error("tile {id} has {length} bytes, which are not 1 to 256 hashes")]
    Length {
        /// Which tile.
        id: TileId,
        /// Bytes in it.
        length: usize,
    },
    /// The stored tiles do not give the root that was expected of them.
    #[error("the stored tiles do not give the root of size {}", .expected.size)]
    Root {
        /// The head that the tiles should give.
        expected: TreeHead,
    },
    /// A leaf that is not in the tree.
    #[error("leaf {index} is outside a tree of {size} leaves")]
    Outside {
        /// The leaf asked for, from 0.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// A consistency proof from a larger tree to a smaller one.
    #[error("a tree of {new} leaves cannot extend one of {old}")]
    Shrunk {
        /// Leaves in the tree said to be older.
        old: u64,
        /// Leaves in the tree said to be newer.
        new: u64,
    },
    /// The tree cannot have more than 2^64 - 1 leaves.
    #[error("the tree is full")]
    Full,
}

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// Longer than any tree needs, or not whole hashes.
    #[error("proof refused: {0}")]
    Malformed(&'static str),
    /// A leaf that is not in the tree.
    #[error("proof refused: leaf {index} is outside a tree of {size} leaves")]
    Outside {
        /// The leaf, from 0.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The newer tree is smaller than the older.
    #[error("proof refused: a tree of {new} leaves cannot extend one of {old}")]
    Shrunk {
        /// Leaves in the older tree.
        old: u64,
        /// Leaves in the newer tree.
        new: u64,
    },
    /// Not as many hashes as these sizes ask for.
    #[error("proof refused: not the number of hashes that these sizes ask for")]
    Length,
    /// The hashes do not lead to the root.
    #[error("proof refused: it does not lead to the root")]
    Root,
    /// The checkpoint that came with the proof is refused.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Why a note, a checkpoint or a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not a signed note (C2SP signed-note, "Format").
    #[error("note refused: {0}")]
    Note(&'static str),
    /// Not the text of a checkpoint (C2SP tlog-checkpoint, "Note text").
    #[error("checkpoint refused: {0}")]
    Checkpoint(&'static str),
    /// A key is refused.
    #[error("key refused: {0}")]
    Key(&'static str),
    /// More than this crate handles.
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// A signature in the name of a known key does not verify: the whole note is refused.
    #[error("the signature of {0} does not verify")]
    Signature(String),
    /// Two known keys share a name and an id: which one signed cannot be said.
    #[error("two keys are known as {0}")]
    Ambiguous(String),
    /// No known key has signed the note.
    #[error("no known key has signed")]
    Unsigned,
    /// A checkpoint of another log.
    #[error("the checkpoint is of another log")]
    Origin,
    /// The cryptographic library failed: not a verdict on any input.
    #[error("the cryptographic library failed")]
    Library,
}
