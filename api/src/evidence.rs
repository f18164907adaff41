//! Evidence: the trail of a deposit, proofs of the journal, receipts.

use crate::{BoxId, DepositId, DocumentId, EventId, Person, ReceiptId, Time};
use serde::{Deserialize, Serialize};

/// A signed head of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Events under it.
    pub size: u64,
    /// Their Merkle tree hash (RFC 6962, 2.1), hexadecimal.
    pub root: String,
    /// When it was signed.
    pub at: Time,
    /// The signed note (C2SP tlog-checkpoint): what a witness keeps.
    pub note: String,
    /// RFC 3161 token in DER over the octets of the note, base 64; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The proof that an event is in the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InclusionProof {
    /// The event as it was logged: these octets are the leaf.
    pub leaf: String,
    /// C2SP tlog-proof: index, hashes, checkpoint.
    pub proof: String,
}

/// The proof that a checkpoint extends an earlier one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsistencyProof {
    /// The earlier.
    pub from: Checkpoint,
    /// The later.
    pub to: Checkpoint,
    /// The proof (RFC 9162, 2.1.4), each hash in base 64.
    pub hashes: Vec<String>,
}

/// An act in the trail of a deposit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DepositTrailEvent {
    /// Identifier.
    pub id: EventId,
    /// When.
    pub at: Time,
    /// `thing.act`.
    pub kind: String,
    /// Who did it in person; absent when Pli did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Person>,
    /// For whom, when by a delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<Person>,
    /// On which document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<TrailDocument>,
    /// Sizes, digests, identifiers.
    pub detail: serde_json::Value,
    /// Its place in the journal; absent for the second that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// A document as a trail names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrailDocument {
    /// Identifier.
    pub id: DocumentId,
    /// Its name.
    pub name: String,
}

/// What a receipt is given for, in the vocabulary of ETSI EN 319 522-1, on which it is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptKind {
    /// A.1: the deposit was accepted.
    #[serde(rename = "submission-acceptance")]
    SubmissionAcceptance,
    /// D.1: it was put at the recipients' disposal.
    #[serde(rename = "content-consignment")]
    ContentConsignment,
    /// E.1: a recipient was handed a document for the first time, to its last octet.
    #[serde(rename = "content-handover")]
    ContentHandover,
}

impl ReceiptKind {
    /// The word kept and sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SubmissionAcceptance => "submission-acceptance",
            Self::ContentConsignment => "content-consignment",
            Self::ContentHandover => "content-handover",
        }
    }

    /// The event of ETSI EN 319 522-1 that it is modelled on.
    #[must_use]
    pub const fn modelled_on(self) -> &'static str {
        match self {
            Self::SubmissionAcceptance => "ETSI EN 319 522-1 A.1 SubmissionAcceptance",
            Self::ContentConsignment => "ETSI EN 319 522-1 D.1 ContentConsignment",
            Self::ContentHandover => "ETSI EN 319 522-1 E.1 ContentHandover",
        }
    }

    /// Its title, for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::SubmissionAcceptance => "Reçu de dépôt",
            Self::ContentConsignment => "Reçu de mise à disposition",
            Self::ContentHandover => "Reçu de remise",
        }
    }
}

impl std::str::FromStr for ReceiptKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::SubmissionAcceptance, Self::ContentConsignment, Self::ContentHandover]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("unknown kind of receipt {text:?}"))
    }
}

/// A receipt in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiptSummary {
    /// Identifier.
    pub id: ReceiptId,
    /// What it is given for.
    pub kind: ReceiptKind,
    /// Its deposit.
    pub deposit: DepositId,
    /// The event that it is given for.
    pub event: EventId,
    /// The recipient that it is about, or the sender.
    pub about: Person,
    /// When it was made.
    pub created: Time,
}

/// Someone named in a receipt, as they were named then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptParty {
    /// Box.
    #[serde(rename = "box")]
    pub id: BoxId,
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
}

/// The deposit that a receipt is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptDeposit {
    /// Identifier.
    pub id: DepositId,
    /// Subject.
    pub subject: String,
    /// From whom.
    pub sender: ReceiptParty,
    /// To whom.
    pub recipients: Vec<ReceiptParty>,
    /// When it was sent.
    pub sent: Time,
    /// When it came to the recipients' disposal.
    pub available: Option<Time>,
    /// Until when.
    pub expires: Option<Time>,
}

/// A document that a receipt is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptDocument {
    /// Identifier.
    pub id: DocumentId,
    /// Name.
    pub name: String,
    /// Octets.
    pub size: u64,
    /// SHA-256 of the content, hexadecimal; absent while it was not known.
    pub sha256: Option<String>,
}

/// An event with its proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptEvent {
    /// The event as it was logged: these octets are the leaf.
    pub leaf: String,
    /// Its index in the log.
    pub index: u64,
    /// The inclusion proof (RFC 9162, 2.1.3), each hash in base 64, to the root of the receipt's checkpoint.
    pub proof: Vec<String>,
}

/// A receipt, version 1: the JSON embedded in the PDF.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptJson {
    /// `pli-receipt`.
    pub format: String,
    /// 1.
    pub version: u32,
    /// Identifier.
    pub id: ReceiptId,
    /// What it is given for.
    pub kind: ReceiptKind,
    /// The event of ETSI EN 319 522-1 that it is modelled on.
    pub modelled_on: String,
    /// Who gives it.
    pub issuer: String,
    /// To whom it is given.
    pub given_to: Vec<ReceiptParty>,
    /// When it was made.
    pub created: Time,
    /// The deposit.
    pub deposit: ReceiptDeposit,
    /// The documents: of the deposit, or those handed over.
    pub documents: Vec<ReceiptDocument>,
    /// The events that it rests on; the one it is given for comes first.
    pub events: Vec<ReceiptEvent>,
    /// The signed head that the proofs lead to (C2SP tlog-checkpoint).
    pub checkpoint: String,
    /// The key of the journal, in the form of C2SP signed-note. Believe it only from elsewhere or under a seal.
    pub journal_key: String,
}

impl ReceiptJson {
    /// What [`Self::format`] says.
    pub const FORMAT: &'static str = "pli-receipt";
}
