//! The evidence log of Pli: an append-only Merkle tree, its proofs, its signed checkpoints.
//!
//! Leaves are opaque bytes. Hashing is that of RFC 6962, 2.1 (RFC 9162, 2.1.1) with SHA-256. The tree is
//! kept as C2SP `tlog-tiles`: rows of 256 hashes, of which a proof reads a handful however long the log is.
//! Heads are published as C2SP `tlog-checkpoint` in a C2SP `signed-note`, Ed25519; a proof that can be checked
//! away from the log is a C2SP `tlog-proof`.
//!
//! This crate is pure: bytes in, bytes or verdicts out. It must never open a file, a socket or a database,
//! never read a clock, never log, and never call a checkpoint good before its signature is.
//!
//! ```
//! use std::collections::HashMap;
//! use pli_journal::*;
//! use zeroize::Zeroizing;
//!
//! // The table of tiles, and the head that was signed last.
//! let mut table: HashMap<TileId, Vec<u8>> = HashMap::new();
//! let fetch = |table: &HashMap<TileId, Vec<u8>>, ids: Vec<TileId>| {
//!     let mut tiles = TileSet::new();
//!     for id in ids {
//!         if let Some(bytes) = table.get(&id) {
//!             tiles.insert(id, bytes.clone())?;
//!         }
//!     }
//!     Ok::<_, TreeError>(tiles)
//! };
//! let last = TreeHead::empty();
//!
//! // Events become leaves: read the right edge, write the tiles, sign the new head.
//! let mut edge = Edge::open(&last, &fetch(&table, root_tiles(last.size))?)?;
//! let appended = edge.append(&[Hash::leaf(b"depot"), Hash::leaf(b"remise"), Hash::leaf(b"lecture")])?;
//! table.extend(appended.tiles.into_iter().map(|tile| (tile.id, tile.bytes)));
//! let key = SigningKey::from_seed("pli.example.org/journal", &Zeroizing::new([7; 32]))?;
//! let checkpoint = Checkpoint::new("pli.example.org/journal", appended.head)?.sign(&key)?;
//!
//! // A receipt carries the proof of its event; whoever knows the key checks it without the log.
//! let proof = inclusion_proof(1, appended.head.size, &fetch(&table, inclusion_tiles(1, appended.head.size)?)?)?;
//! let receipt = TlogProof { index: 1, proof, checkpoint, extra: None }.to_string();
//! let keys = [VerifierKey::parse(&key.verifier_key().to_string())?];
//! TlogProof::parse(receipt.as_bytes())?.verify(&Hash::leaf(b"remise"), "pli.example.org/journal", &keys)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `hash` | [`Hash`](struct@Hash): leaves, nodes, the empty tree; [`TreeHead`] |
//! | `frontier` | [`Frontier`]: the root of leaves that come one after the other, in O(log n) memory |
//! | `tile` | [`TileId`], [`Tile`], [`TileSet`]: the form in which the tree is stored |
//! | `append` | [`Edge`]: the right edge of the tree, and the tiles to write when it grows |
//! | `proof` | which tiles a proof needs, making it, checking it |
//! | `note` | signed notes and the keys that sign and verify them |
//! | `checkpoint` | [`Checkpoint`]: the text of a signed head |
//! | `tlog_proof` | [`TlogProof`]: leaf index, inclusion proof and checkpoint in one text |
//! | `verifier` | [`Verifier`]: all leaves again, against all checkpoints, naming the first that is wrong |

#![deny(missing_docs)]

mod append;
mod checkpoint;
mod error;
mod frontier;
mod hash;
mod note;
mod proof;
mod tile;
mod tlog_proof;
mod verifier;

pub use append::{Appended, Edge};
pub use checkpoint::{Checkpoint, EXTENSIONS_MAX, ORIGIN_MAX};
pub use error::{NoteError, ProofError, TreeError};
pub use frontier::Frontier;
pub use hash::{HASH, Hash, TreeHead};
pub use note::{NAME_MAX, NOTE_MAX, Note, NoteSignature, SIGNATURES_MAX, SigningKey, VerifierKey};
pub use proof::{
    PROOF_MAX, Proof, consistency_proof, consistency_tiles, inclusion_proof, inclusion_tiles, root,
    root_tiles, verify_consistency, verify_inclusion,
};
pub use tile::{TILE_BYTES, TILE_WIDTH, Tile, TileId, TileSet};
pub use tlog_proof::{TLOG_PROOF_MAX, TlogProof};
pub use verifier::{Disagreement, FirstWrong, Suspect, Verified, Verifier};
