//! Deposits and their documents.

use crate::{BoxId, DepositId, DocumentId, Person, Time};
use serde::{Deserialize, Serialize};

/// A change of state that the present state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not from state {from}")]
pub struct InvalidTransition {
    /// The state that refused.
    pub from: &'static str,
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// The word kept in the database and sent on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    other => Err(format!("unknown state {other:?}")),
                }
            }
        }
    };
}

states! {
    /// Where a deposit stands.
    DepositState {
        /// Being prepared: seen by its sender only.
        Draft = "draft",
        /// Sent by its sender; documents are still being finished.
        Sent = "sent",
        /// At its recipients' disposal.
        Available = "available",
        /// Past its retention: keys deleted, documents unreadable.
        Expired = "expired",
    }
}

impl DepositState {
    /// The sender sends.
    ///
    /// # Errors
    /// Unless it is a draft.
    pub const fn send(self) -> Result<Self, InvalidTransition> {
        match self {
            Self::Draft => Ok(Self::Sent),
            other => Err(InvalidTransition { from: other.as_str() }),
        }
    }

    /// All documents are finished.
    ///
    /// # Errors
    /// Unless it was sent.
    pub const fn release(self) -> Result<Self, InvalidTransition> {
        match self {
            Self::Sent => Ok(Self::Available),
            other => Err(InvalidTransition { from: other.as_str() }),
        }
    }

    /// Its retention has ended.
    ///
    /// # Errors
    /// Unless it was sent or available.
    pub const fn expire(self) -> Result<Self, InvalidTransition> {
        match self {
            Self::Sent | Self::Available => Ok(Self::Expired),
            other => Err(InvalidTransition { from: other.as_str() }),
        }
    }
}

states! {
    /// Where a document stands.
    DocumentState {
        /// Its bytes are still arriving.
        Receiving = "receiving",
        /// All bytes are durable; digest and manifest are being made.
        Finishing = "finishing",
        /// Sealed, with its manifest.
        Available = "available",
        /// Bytes of it could not be read back as they were sealed.
        Damaged = "damaged",
        /// Its keys are deleted.
        Erased = "erased",
    }
}

states! {
    /// What the antivirus says of a document.
    ScanState {
        /// It has not said anything yet.
        Pending = "pending",
        /// It has read all of it and found nothing.
        Clean = "clean",
        /// It has found something: nobody downloads the document.
        Infected = "infected",
        /// It has not read all of it; the reason says why.
        NotAnalysed = "not_analysed",
    }
}

states! {
    /// Why a document was not analysed.
    NotAnalysed {
        /// It, or what is in it, is over the engine's limits.
        TooLarge = "too_large",
        /// It, or something in it, is encrypted.
        Encrypted = "encrypted",
        /// The engine did not answer, or failed on it, for as long as it was asked.
        EngineDown = "engine_down",
        /// There was no engine when it was sealed.
        Disabled = "disabled",
    }
}

/// The antivirus on a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// What it says.
    pub state: ScanState,
    /// Why, of what was not analysed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<NotAnalysed>,
    /// What the engine calls it, of what is infected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Default for Scan {
    /// Nothing said yet.
    fn default() -> Self {
        Self { state: ScanState::Pending, reason: None, signature: None }
    }
}

/// What `POST /deposits` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDeposit {
    /// Addresses of the recipients, each one's account known.
    pub recipients: Vec<String>,
    /// The subject, seen by the recipients.
    #[serde(default)]
    pub subject: String,
    /// Days at disposal once available.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// A text by which a client finds its own draft again after a cut.
    #[serde(default)]
    pub reference: Option<String>,
}

/// A deposit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deposit {
    /// Identifier.
    pub id: DepositId,
    /// Subject.
    pub subject: String,
    /// The client's own reference; told to the sender only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Who sends.
    pub sender: Person,
    /// To whom.
    pub recipients: Vec<Person>,
    /// State.
    pub state: DepositState,
    /// Days at disposal once available.
    pub retention_days: u32,
    /// When the draft was made.
    pub created: Time,
    /// When it was sent.
    pub sent: Option<Time>,
    /// When it came to its recipients' disposal.
    pub available: Option<Time>,
    /// When it ends; of a sent deposit that may not be released, when it ends unreleased.
    pub expires: Option<Time>,
    /// Its documents; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<Vec<Document>>,
}

/// What `POST /deposits/{id}/recipients` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDepositRecipient {
    /// The address of a box.
    pub address: String,
}

/// A recipient as the sender follows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecipientState {
    /// The box.
    #[serde(rename = "box")]
    pub which: BoxId,
    /// Its address.
    pub address: String,
    /// Its name.
    pub name: String,
    /// Since when it is a recipient.
    pub added: Time,
    /// When the sender withdrew it.
    pub withdrawn: Option<Time>,
    /// When the first download by it, or by a member of the service, was complete.
    pub read: Option<Time>,
    /// Since when mail to its address is refused.
    pub bounced: Option<Time>,
}

/// A document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// Identifier.
    pub id: DocumentId,
    /// Its deposit.
    pub deposit: DepositId,
    /// Name, with `/` between folders.
    pub name: String,
    /// Media type as the sender said it.
    pub media_type: String,
    /// Size in bytes; absent while it is not known.
    pub size: Option<u64>,
    /// SHA-256 of the content, hexadecimal; absent until it is finished.
    pub sha256: Option<String>,
    /// State.
    pub state: DocumentState,
    /// What the antivirus says of it.
    #[serde(default)]
    pub scan: Scan,
}

/// Which deposits to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepositBox {
    /// Those at the caller's disposal.
    Received,
    /// Those the caller sent.
    Sent,
    /// Those the caller prepares.
    Draft,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// What to give as `after` for the next page.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deposit_moves_one_way() {
        let sent = DepositState::Draft.send().unwrap();
        let available = sent.release().unwrap();
        assert_eq!(available, DepositState::Available);
        assert_eq!(available.expire().unwrap(), DepositState::Expired);
        assert_eq!(available.send(), Err(InvalidTransition { from: "available" }));
        assert!(DepositState::Expired.release().is_err());
        assert!(DepositState::Draft.release().is_err());
        assert!(DepositState::Draft.expire().is_err());
    }

    #[test]
    fn the_word_is_the_same_everywhere() {
        let word = serde_json::to_string(&DocumentState::Finishing).unwrap();
        assert_eq!(word, format!("{:?}", DocumentState::Finishing.as_str()));
        assert_eq!("finishing".parse(), Ok(DocumentState::Finishing));
    }
}
