//! Electronic seals for Pli: X.509 certificates, CMS, PAdES, timestamps.
//!
//! What is here now seals receipts and verifies what Pli itself sealed. Judging the reports of others
//! (BER, paths of any length, revocation, trusted lists) is to come in modules beside these.
//!
//! This crate is pure: bytes and a time in, bytes or a verdict out. It must never open a file, a
//! socket or a database, read the clock, log, print a private key, or believe a byte of a file that
//! the seal does not cover. The types of the ASN.1 crates stay inside.
//!
//! | module | owns |
//! | --- | --- |
//! | `certificate` | [`Certificate`]: what is read from it, who issued it, [`Trust`] |
//! | `algorithm` | identifiers of algorithms, digests, verification of signature values |
//! | `seal` | [`SealKey`]: the hub's certificate and private key |
//! | `development` | a certificate and key for development, self-made |
//! | `cms` | SignedData: written for a seal, read and checked for seals and timestamps |
//! | `timestamp` | RFC 3161: requests, answers, tokens |
//! | `pdf` | a minimal reader of PDF files as we make them |
//! | `pades` | the seal inside a PDF: [`prepare`], [`verify`] |

#![deny(missing_docs)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod algorithm;
mod certificate;
mod cms;
mod development;
mod error;
mod pades;
mod pdf;
mod seal;
mod timestamp;

/// Readers that the fuzz targets reach without a seal in front. Not part of the interface: only there when the
/// fuzzer compiles the crate.
#[cfg(fuzzing)]
pub mod fuzzing {
    /// Everything that is read of a PDF.
    pub fn pdf(bytes: &[u8]) {
        crate::pades::read_everything(bytes);
    }
}

pub use certificate::{Certificate, Trust};
pub use development::{Development, development_seal};
pub use error::{SignatureError, TimestampError};
pub use pades::{Attachment, Level, PDF_MAX, Prepared, SealedPdf, Statement, Verified, prepare, verify};
pub use seal::SealKey;
pub use timestamp::{TimestampRequest, TimestampToken};
