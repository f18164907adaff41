//! A proof that can be checked away from the log: index, inclusion proof, signed checkpoint (C2SP `tlog-proof`).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{decimal, hash};
use crate::{
    Checkpoint, Hash, NOTE_MAX, Note, NoteError, PROOF_MAX, Proof, ProofError, VerifierKey, verify_inclusion,
};

/// Bytes in the longest proof that is read: a note, and as much again for what stands in front of it.
pub const TLOG_PROOF_MAX: usize = 2 * NOTE_MAX;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Where a leaf is in the log, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The index of the leaf, from 0.
    pub index: u64,
    /// The inclusion proof, to the root of the checkpoint.
    pub proof: Proof,
    /// The checkpoint, with all its signatures.
    pub checkpoint: Note,
    /// Data that belong to the leaf. They are proved by nothing here.
    pub extra: Option<Vec<u8>>,
}

impl TlogProof {
    /// Reads a proof. Nothing is verified yet.
    ///
    /// # Errors
    /// [`ProofError::Malformed`]; what [`Note::parse`] refuses.
    pub fn parse(proof: &[u8]) -> Result<Self, ProofError> {
        if proof.len() > TLOG_PROOF_MAX {
            return Err(NoteError::Limit("bytes in a proof").into());
        }
        let proof = std::str::from_utf8(proof).map_err(|_| ProofError::Malformed("not UTF-8"))?;
        // The checkpoint holds no empty line but its own.
        let (lines, note) = proof.split_once("\n\n").ok_or(ProofError::Malformed("no checkpoint"))?;
        let mut lines = lines.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(ProofError::Malformed("not a proof of version 1"));
        }
        let mut line = lines.next();
        let extra = line.and_then(|line| line.strip_prefix("extra "));
        if extra.is_some() {
            line = lines.next();
        }
        let extra = extra.map(|encoded| STANDARD.decode(encoded)).transpose();
        let extra = extra.map_err(|_| ProofError::Malformed("the extra data are not base 64"))?;
        let index = line.and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(ProofError::Malformed("the index is not a number in its one form"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == PROOF_MAX {
                return Err(ProofError::Malformed("more hashes than any tree needs"));
            }
            hashes.push(hash(line).ok_or(ProofError::Malformed("not a hash in base 64"))?);
        }
        let checkpoint = Note::parse(note.as_bytes())?;
        Ok(Self { index, proof: Proof::new(hashes)?, checkpoint, extra })
    }

    /// Checks that the log `origin`, whose keys these are, holds the leaf, given as its hash ([`Hash::leaf`]), at the
    /// index. Gives the checkpoint that shows it.
    ///
    /// # Errors
    /// What [`Checkpoint::open`] and [`verify_inclusion`] refuse.
    pub fn verify(&self, leaf: &Hash, origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open_note(&self.checkpoint, origin, keys)?;
        verify_inclusion(leaf, self.index, &checkpoint.head(), &self.proof)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    /// The proof as it is kept and sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in self.proof.hashes() {
            writeln!(f, "{}", STANDARD.encode(hash.as_bytes()))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}
