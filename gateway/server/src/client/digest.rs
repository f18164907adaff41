//! SHA-256 of content that moves in several pieces, some of them more than once.

use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

/// SHA-256 of content as far as it is known from its start.
#[derive(Default)]
pub(super) struct RunningDigest {
    hash: Sha256,
    upto: u64,
}

/// Shared by those who move content and the one who wants its digest.
pub(super) type SharedDigest = Arc<Mutex<RunningDigest>>;

impl RunningDigest {
    /// Takes what is new in a piece that starts at `at`; a piece beyond a gap is ignored.
    pub(super) fn take(&mut self, at: u64, piece: &[u8]) {
        let known = self.upto.checked_sub(at).and_then(|n| usize::try_from(n).ok());
        if let Some(new) = known.and_then(|n| piece.get(n..)) {
            self.hash.update(new);
            self.upto += new.len() as u64;
        }
    }

    /// How many bytes from the start it holds.
    pub(super) fn upto(&self) -> u64 {
        self.upto
    }

    /// In hexadecimal.
    pub(super) fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_counts_once_whatever_comes_again() {
        let content: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
        let mut digest = RunningDigest::default();
        let pieces =
            [(0, 3000), (1000, 2000), (2500, 4000), (9000, 10_000), (4000, 4000), (0, 7000), (7000, 10_000)];
        for (start, end) in pieces {
            digest.take(start as u64, &content[start..end]);
        }
        assert_eq!(digest.upto(), 10_000);
        assert_eq!(digest.finish(), hex::encode(Sha256::digest(&content)));
    }
}
