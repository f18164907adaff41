//! `Upload-Checksum` judged while the bytes run through.

use pli_api::tus::Announced;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An announced checksum and the hash that runs beside the bytes.
pub(crate) enum Checksum {
    Sha256(Box<Sha256>, [u8; 32]),
    Sha1(Box<Sha1>, [u8; 20]),
}

impl From<Announced> for Checksum {
    fn from(announced: Announced) -> Self {
        match announced {
            Announced::Sha256(expected) => Self::Sha256(Box::new(Sha256::new()), expected),
            Announced::Sha1(expected) => Self::Sha1(Box::new(Sha1::new()), expected),
        }
    }
}

impl Checksum {
    /// Takes the next bytes of the body.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash, _) => hash.update(bytes),
            Self::Sha1(hash, _) => hash.update(bytes),
        }
    }

    /// Whether the bytes had the announced checksum.
    pub(crate) fn matches(self) -> bool {
        match self {
            Self::Sha256(hash, expected) => hash.finalize().as_slice() == expected,
            Self::Sha1(hash, expected) => hash.finalize().as_slice() == expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_compare() {
        let sha1 = hex::decode("aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d").unwrap().try_into().unwrap();
        let judge = |text: &str, announced| {
            let mut sum = Checksum::from(announced);
            text.as_bytes().chunks(2).for_each(|bytes| sum.update(bytes));
            sum.matches()
        };
        assert!(judge("hello", Announced::Sha1(sha1)));
        assert!(!judge("hellO", Announced::Sha1(sha1)));
        let sha256: [u8; 32] = Sha256::digest("hello").into();
        assert!(judge("hello", Announced::Sha256(sha256)));
        assert!(!judge("", Announced::Sha256(sha256)));
    }
}
