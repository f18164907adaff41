//! The « scellé numérique »: one large binary file, like the copy of a telephone's memory. Its bytes look
//! random, so that nothing compresses them, and hold the canary every few mebibytes, so that a plaintext
//! piece of any size that reached a disk would show.

use std::io::{self, Write};

use crate::random::Random;

const PIECE: usize = 1 << 20;
/// Every so many pieces holds the canary, at a place that moves with each of them.
const CANARY_EVERY: u64 = 3;

/// Writes `size` bytes to `out`.
pub(crate) fn write(out: &mut dyn Write, size: u64, seed: u64, canary: &str) -> io::Result<()> {
    let mut random = Random::new(seed).part(u64::MAX);
    let mut places = Random::new(seed).part(u64::MAX - 1);
    let mut piece = vec![0u8; PIECE];
    let mut left = size;
    let mut index = 0;
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        let length = left.min(PIECE as u64) as usize;
        let room = length.saturating_sub(canary.len());
        let last = left <= PIECE as u64;
        if !canary.is_empty() && room > 0 && (index % CANARY_EVERY == 0 || last) {
            // The last piece holds it at the very end: the tail of a file is where a flush may differ.
            let at = if last { room } else { places.between(0, room as u64) as usize };
            piece[at..at + canary.len()].copy_from_slice(canary.as_bytes());
        }
        out.write_all(&piece[..length])?;
        left -= length as u64;
        index += 1;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_the_canary_is_inside() {
        let made = |seed| {
            let mut bytes = Vec::new();
            write(&mut bytes, (7 << 20) + 123, seed, "CANARI-démo").map(|()| bytes).unwrap_or_default()
        };
        let bytes = made(1);
        assert_eq!(bytes.len(), (7 << 20) + 123);
        assert_eq!(bytes, made(1));
        assert_ne!(bytes, made(2));
        let canary = "CANARI-démo".as_bytes();
        assert_eq!(bytes.windows(canary.len()).filter(|w| w == &canary).count(), 4);
        assert!(bytes.ends_with(canary));
    }

    #[test]
    fn a_file_shorter_than_the_canary_is_still_a_file() {
        let mut bytes = Vec::new();
        assert!(write(&mut bytes, 3, 1, "CANARI").is_ok());
        assert_eq!(bytes.len(), 3);
    }
}
