//! What can fail, in terms a caller can act on.
//!
//! The texts carry no content, name, address or key: they go to logs. This is why errors of the JSON
//! and certificate parsers, which quote what they read, are not kept as sources.

use std::error::Error;
use std::fmt;

/// Where sealed bytes are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The packet's header, version, algorithms or salt.
    Header,
    /// The chunk of this index (from 0) does not match its tag, its place, its key or its salt.
    Chunk(u64),
    /// The tag that closes the packet.
    FinalTag,
    /// The literal data packet inside.
    Literal,
    /// A session key packet.
    WrappedKey,
    /// A length does not agree with the others.
    Length,
    /// Bytes are missing at the end.
    Truncated,
    /// Bytes follow the end.
    Trailing,
    /// The saved state of a digest.
    DigestState,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Header => f.write_str("header"),
            Part::Chunk(index) => write!(f, "chunk {index}"),
            Part::FinalTag => f.write_str("final tag"),
            Part::Literal => f.write_str("literal data"),
            Part::WrappedKey => f.write_str("wrapped key"),
            Part::Length => f.write_str("length"),
            Part::Truncated => f.write_str("bytes missing at the end"),
            Part::Trailing => f.write_str("bytes after the end"),
            Part::DigestState => f.write_str("digest state"),
        }
    }
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Sealed bytes are not what was sealed.
    #[error("sealed bytes are damaged: {0}")]
    Damaged(Part),
    /// The key and the row (or the packet's header, length and final tag) do not belong together:
    /// another document's key or row, or an altered one. An AEAD cannot tell these apart.
    #[error("the key does not belong to these sealed bytes")]
    WrongKey,
    /// The key is wrapped for none of the hub's certificates.
    #[error("the document key is wrapped for none of the hub's certificates")]
    NotOurs,
    /// A key was to be wrapped for nobody.
    #[error("a document key must be wrapped for at least one recipient")]
    NoRecipient,
    /// The passphrase is empty or does not open the hub's secret key.
    #[error("the passphrase does not open the secret key")]
    Passphrase,
    /// A certificate or secret key is refused.
    #[error("certificate refused: {0}")]
    Certificate(&'static str),
    /// A manifest is refused.
    #[error("manifest refused: {0}")]
    Manifest(&'static str),
    /// More than this crate handles.
    #[error("limit exceeded: {0}")]
    Limit(&'static str),
    /// An empty range, or one that leaves the segment.
    #[error("the range is empty or leaves the segment")]
    Range,
    /// A foreign packet in a form that is not supported.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// The cryptographic library or the random generator failed: not a verdict on any input.
    #[error("the cryptographic library failed")]
    Library(#[source] Box<dyn Error + Send + Sync>),
}

impl From<openssl::error::ErrorStack> for SealError {
    fn from(error: openssl::error::ErrorStack) -> Self {
        SealError::Library(Box::new(error))
    }
}

impl From<getrandom::Error> for SealError {
    fn from(error: getrandom::Error) -> Self {
        SealError::Library(Box::new(error))
    }
}
