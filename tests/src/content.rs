//! Contents for tests: any length, the same bytes for the same seed, made as they are read, so that a test of
//! gigabytes needs no memory and no file. Must never be used for anything secret.

use sha2::{Digest, Sha256};

/// A content of `length` bytes, different for each seed.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    seed: u64,
    length: u64,
}

impl Content {
    /// A content of `length` bytes.
    pub fn new(seed: u64, length: u64) -> Self {
        Self { seed, length }
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `from` up to, but not including, `to`, cut at the end of the content.
    pub fn bytes(&self, from: u64, to: u64) -> Vec<u8> {
        let to = to.min(self.length);
        let first = from / 8;
        let mut bytes = Vec::with_capacity((to.saturating_sub(from) + 16) as usize);
        for word in first..to.div_ceil(8) {
            bytes.extend_from_slice(&word_at(self.seed, word).to_le_bytes());
        }
        let skipped = (from - first * 8) as usize;
        bytes.drain(..skipped.min(bytes.len()));
        bytes.truncate(to.saturating_sub(from) as usize);
        bytes
    }

    /// All of it: for small contents.
    pub fn all(&self) -> Vec<u8> {
        self.bytes(0, self.length)
    }

    /// Its pieces of `size` bytes from the offset `from`, the last one shorter.
    pub fn pieces(self, from: u64, size: u64) -> impl Iterator<Item = Vec<u8>> + Send {
        (from..self.length).step_by(size as usize).map(move |at| self.bytes(at, at + size))
    }

    /// SHA-256 in hexadecimal, as Pli tells it.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        for piece in self.pieces(0, 1 << 20) {
            digest.update(&piece);
        }
        hex::encode(digest.finalize())
    }
}

/// `SplitMix64` at a place: any part can be made without what is before it.
fn word_at(seed: u64, index: u64) -> u64 {
    let mut z =
        seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_the_part_of_the_whole() {
        let content = Content::new(5, 100_003);
        let all = content.all();
        assert_eq!(all.len(), 100_003);
        for (from, to) in [(0, 1), (1, 2), (7, 9), (8, 16), (99_999, 200_000), (50_000, 50_000), (3, 100_003)]
        {
            let expected = &all[from..to.min(all.len())];
            assert_eq!(content.bytes(from as u64, to as u64), expected, "{from}..{to}");
        }
        assert_eq!(content.pieces(11, 4096).flatten().collect::<Vec<_>>(), &all[11..]);
        assert_ne!(Content::new(6, 100_003).all(), all);
    }
}
