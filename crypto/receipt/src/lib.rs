//! Receipts (« reçus ») of Pli as documents: a PDF/A-3a in French, A4, that embeds the receipt in JSON, and
//! the way back from the sealed file to the JSON.
//!
//! This crate is pure: a [`Receipt`] in, bytes out; the same receipt gives the same bytes. It must never
//! open a file, read the clock, or decide what a receipt says. Sealing is [`pli_signature`]'s; this is a
//! crate of its own so that the judge of signatures does not build a PDF writer and a text shaper.
//!
//! | module | owns |
//! | --- | --- |
//! | `text` | fonts, what may be shown of a text, shaping, lines |
//! | `layout` | where things stand on pages, and their logical structure |
//! | `render` | the PDF/A-3a |
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use pli_api::Time;
//! use pli_receipt::{Block, Receipt, Section};
//!
//! let receipt = Receipt {
//!     issuer: "Tribunal judiciaire de Démonstration".into(),
//!     title: "Reçu de dépôt".into(),
//!     reference: "R-0001".into(),
//!     sections: vec![Section {
//!         heading: "Objet".into(),
//!         blocks: vec![Block::Paragraph("Le dépôt a été reçu.".into())],
//!     }],
//!     json: b"{}".to_vec(),
//!     created: Time::from_micros(1_795_820_373_000_000),
//! };
//! let pdf = receipt.render()?;
//! # assert!(pdf.starts_with(b"%PDF-1.7"));
//! # Ok(())
//! # }
//! ```

#![deny(missing_docs)]
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]

mod layout;
mod render;
mod text;

use pli_api::Time;
use pli_signature::{Certificate, SignatureError, TimestampToken, Trust};

/// The name under which the JSON is embedded.
pub const JSON_NAME: &str = "recu.json";
/// Octets of the embedded JSON.
pub const JSON_MAX: usize = 16 << 20;

/// What a receipt shows, and the JSON that it carries. All texts are shown as they are, in French.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Who gives it; at the head of the first page.
    pub issuer: String,
    /// « Reçu de dépôt ».
    pub title: String,
    /// What tells this receipt from others; under the title and at the foot of every page.
    pub reference: String,
    /// What it says.
    pub sections: Vec<Section>,
    /// The receipt for programs, embedded as `recu.json`. Not read here.
    pub json: Vec<u8>,
    /// When it was made; years 1970 to 9999.
    pub created: Time,
}

/// A part of a receipt under a heading.
#[derive(Debug, Clone)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// What stands under it.
    pub blocks: Vec<Block>,
}

/// A piece of a section.
#[derive(Debug, Clone)]
pub enum Block {
    /// Running text.
    Paragraph(String),
    /// Lines of a label and a value.
    Fields(Vec<Field>),
    /// A table of documents.
    Documents(Vec<Document>),
    /// Lines kept as they are, in a font of even width: a checkpoint, a proof.
    Verbatim(Vec<String>),
}

/// A label and its value.
#[derive(Debug, Clone)]
pub struct Field {
    /// « Expéditeur ».
    pub label: String,
    /// Wrapped when it is long.
    pub value: String,
}

/// A document that the receipt is about.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its name, wrapped when it is long. Characters that cannot be seen are shown by their number.
    pub name: String,
    /// Octets.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

/// Why a receipt cannot be rendered. The texts quote nothing from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The JSON is empty or too long.
    #[error("the JSON of a receipt has between 1 and {JSON_MAX} octets")]
    Json,
    /// The time is outside the years 1970 to 9999.
    #[error("the time cannot be written")]
    Time,
    /// A font of this crate cannot be read: a fault of the build.
    #[error("a font cannot be read")]
    Font,
    /// The PDF writer refused.
    #[error("the PDF cannot be written: {0}")]
    Pdf(&'static str),
}

impl Receipt {
    /// The receipt as a PDF/A-3a, not yet sealed.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn render(&self) -> Result<Vec<u8>, ReceiptError> {
        render::render(self)
    }
}

/// A sealed receipt whose seal holds.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The embedded JSON, byte for byte.
    pub json: Vec<u8>,
    /// The certificate that sealed.
    pub signer: Certificate,
    /// The time that the seal claims.
    pub claimed_time: Time,
    /// The timestamp over the seal, when there is one.
    pub timestamp: Option<TimestampToken>,
}

/// Verifies a sealed receipt and takes its JSON out.
///
/// # Errors
/// Those of [`pli_signature::verify`]; [`SignatureError::Attachment`] when the file is sealed but carries no
/// receipt.
pub fn open(pdf: &[u8], trust: &Trust) -> Result<Opened, SignatureError> {
    let verified = pli_signature::verify(pdf, trust)?;
    let attachment = verified.attachment(JSON_NAME, JSON_MAX)?;
    if attachment.media_type != "application/json" {
        return Err(SignatureError::Attachment("not application/json"));
    }
    Ok(Opened {
        json: attachment.content,
        signer: verified.signer().clone(),
        claimed_time: verified.claimed_time(),
        timestamp: verified.timestamp().cloned(),
    })
}
