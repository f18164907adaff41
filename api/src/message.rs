//! Messages, their threads, and the boxes they lie in.

use crate::{
    BoxKind, DepositId, DepositState, Document, DocumentId, EventId, LabelId, MessageId, Person, ProcedureId,
    ThreadId, Time,
};
use serde::{Deserialize, Serialize};

words! {
    /// What a message is in the course of a procedure. Who may send which is one table of the hub.
    MessageKind {
        /// The decision that gives an expert a mission, with its file.
        Mission = "mission",
        /// Correspondence.
        Correspondence = "correspondence",
        /// A draft, or an extract, of a report.
        DraftReport = "draft_report",
        /// A final report.
        FinalReport = "final_report",
        /// A referral by an administration.
        Referral = "referral",
        /// A notice (avis).
        Notice = "notice",
    }
}

impl MessageKind {
    /// The French word, as people read it and search for it (`type:`).
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Mission => "mission",
            Self::Correspondence => "correspondance",
            Self::DraftReport => "pré-rapport",
            Self::FinalReport => "rapport",
            Self::Referral => "saisine",
            Self::Notice => "avis",
        }
    }
}

words! {
    /// Where a message stands.
    MessageState {
        /// Being written: seen in its sender's box only.
        Draft = "draft",
        /// Sent: it never changes again.
        Sent = "sent",
    }
}

words! {
    /// Why a message lies in a box.
    DeliveryRole {
        /// It was sent from there.
        Sender = "sender",
        /// It was sent to it.
        To = "to",
        /// It was sent a copy.
        Copy = "copy",
    }
}

words! {
    /// Where to look in one's boxes.
    Folder {
        /// Received and not archived.
        Received = "received",
        /// Archived, received or sent.
        Archived = "archived",
        /// Sent and not archived.
        Sent = "sent",
        /// Everywhere.
        All = "all",
    }
}

/// What `POST /messages` takes: a draft.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewMessage {
    /// Address of the box it comes from: the caller's own, or a service's. By default the box that holds the
    /// message replied to, else the caller's own.
    pub from: Option<String>,
    /// Addresses. By default those that an answer or a correction goes to.
    pub to: Vec<String>,
    /// Addresses that get a copy.
    pub copy: Vec<String>,
    /// By default correspondence, or the kind of the message corrected.
    pub kind: Option<MessageKind>,
    /// One line.
    pub subject: String,
    /// Text. It is never markup.
    pub body: String,
    /// The procedure it is about.
    pub procedure: Option<ProcedureId>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// The sent message of the same box that it corrects.
    pub corrects: Option<MessageId>,
    /// The message it passes on.
    pub forwards: Option<MessageId>,
    /// Documents of the message passed on that its recipients may read.
    pub forwarded_documents: Vec<DocumentId>,
}

/// What `PUT /messages/{id}` takes: all of a draft that can be changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DraftEdit {
    /// Addresses.
    pub to: Vec<String>,
    /// Addresses that get a copy.
    pub copy: Vec<String>,
    /// Kind.
    pub kind: Option<MessageKind>,
    /// One line.
    pub subject: String,
    /// Text.
    pub body: String,
    /// The procedure it is about.
    pub procedure: Option<ProcedureId>,
    /// Documents of the message passed on that its recipients may read.
    pub forwarded_documents: Vec<DocumentId>,
}

/// What `POST /messages/{id}/deposit` takes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenDeposit {
    /// Days at disposal once available, within the organisation's bounds.
    pub retention_days: Option<u32>,
}

/// What `POST /messages/{id}/recipients` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRecipient {
    /// Address.
    pub address: String,
    /// Whether they get a copy only.
    #[serde(default)]
    pub copy: bool,
}

/// A message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Identifier.
    pub id: MessageId,
    /// Its thread; absent in a draft that begins one.
    pub thread: Option<ThreadId>,
    /// The procedure it is about.
    pub procedure: Option<ProcedureId>,
    /// Kind.
    pub kind: MessageKind,
    /// State.
    pub state: MessageState,
    /// The box it comes from.
    pub sender: Person,
    /// Who wrote it in person.
    pub author: Person,
    /// For whom, when by a delegation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<Person>,
    /// Subject.
    pub subject: String,
    /// Text, as it was written.
    pub body: String,
    /// To whom.
    pub recipients: Vec<Recipient>,
    /// The message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// The message it corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrects: Option<MessageId>,
    /// Those among the caller's messages that correct it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrected_by: Vec<MessageId>,
    /// The message it passes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
    /// Its documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit: Option<MessageDeposit>,
    /// Raised by each change of the draft; the `ETag` is this number.
    pub version: u64,
    /// When the draft was made.
    pub created: Time,
    /// When it was sent.
    pub sent: Option<Time>,
    /// In which of the caller's boxes it lies.
    pub boxes: Vec<InBox>,
}

/// A message passed on, as its text was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forwarded {
    /// Which.
    pub message: MessageId,
    /// Who had sent it.
    pub sender: Person,
    /// When.
    pub sent: Option<Time>,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub body: String,
    /// Those of its documents that were passed on with it.
    pub documents: Vec<Document>,
}

/// The documents of a message and their time at disposal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MessageDeposit {
    /// Identifier: uploads go into it.
    pub id: DepositId,
    /// State.
    pub state: DepositState,
    /// Days at disposal once available.
    pub retention_days: u32,
    /// When it came to its recipients' disposal.
    pub available: Option<Time>,
    /// When it ends.
    pub expires: Option<Time>,
    /// The documents.
    pub documents: Vec<Document>,
}

/// Someone a message is sent to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recipient {
    /// Address.
    pub address: String,
    /// Name.
    pub name: String,
    /// To or copy.
    pub role: DeliveryRole,
    /// When it came into their box; absent in a draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Time>,
    /// When it was first opened there; told to the sender only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Time>,
    /// When the sender withdrew them; told to the sender only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Time>,
}

/// A message in a box of the caller's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InBox {
    /// The box's address.
    pub address: String,
    /// The box's name.
    pub name: String,
    /// Why it lies there.
    pub role: DeliveryRole,
    /// Since when.
    pub at: Time,
    /// When it was first opened in this box.
    pub read: Option<Time>,
    /// Who opened it first.
    pub read_by: Option<Person>,
    /// Whether the caller in person has opened it there.
    pub read_by_me: bool,
    /// When it was archived.
    pub archived: Option<Time>,
    /// The box's labels on it.
    pub labels: Vec<Label>,
}

/// A line of a box.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InboxItem {
    /// The message.
    pub message: MessageId,
    /// Its thread.
    pub thread: ThreadId,
    /// The procedure it is about.
    pub procedure: Option<ProcedureId>,
    /// Kind.
    pub kind: MessageKind,
    /// Subject.
    pub subject: String,
    /// The beginning of the text.
    pub excerpt: String,
    /// The box it comes from.
    pub sender: Person,
    /// The caller's box that it lies in.
    #[serde(rename = "box")]
    pub in_box: Person,
    /// Why it lies there.
    pub role: DeliveryRole,
    /// Since when.
    pub at: Time,
    /// When it was first opened in this box.
    pub read: Option<Time>,
    /// When it was archived.
    pub archived: Option<Time>,
    /// Whether it has documents.
    pub documents: bool,
    /// Whether it corrects another.
    pub correction: bool,
    /// The box's labels on it.
    pub labels: Vec<Label>,
}

/// A box that the caller reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BoxSummary {
    /// Address.
    pub address: String,
    /// Name.
    pub name: String,
    /// One's own, or a service's.
    pub kind: BoxKind,
    /// Messages not opened yet, counted up to 1000.
    pub unread: u32,
}

/// The part of a thread that lies in the caller's boxes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Thread {
    /// Identifier.
    pub id: ThreadId,
    /// The procedure it is about.
    pub procedure: Option<ProcedureId>,
    /// Subject of its first message.
    pub subject: String,
    /// Messages, the oldest first.
    pub messages: Vec<Message>,
    /// What to give as `after` for the next messages.
    pub next: Option<String>,
}

/// What `POST /labels` and `PUT /labels/{id}` take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewLabel {
    /// Address of the box; by default the caller's own. A label does not change its box.
    #[serde(default, rename = "box")]
    pub in_box: Option<String>,
    /// Name.
    pub name: String,
}

/// A label of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Identifier.
    pub id: LabelId,
    /// The box's address.
    #[serde(rename = "box")]
    pub in_box: String,
    /// Name.
    pub name: String,
}

/// An event of a message, as its sender reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrailEvent {
    /// Identifier in the journal.
    pub id: EventId,
    /// When.
    pub at: Time,
    /// What: `thing.act`.
    pub kind: String,
    /// Who did it in person; absent when Pli did.
    pub actor: Option<Person>,
    /// For whom, when by a delegation.
    pub on_behalf: Option<Person>,
    /// The box concerned: who was added or withdrawn, where it was read.
    #[serde(rename = "box")]
    pub in_box: Option<Person>,
    /// On which document.
    pub document: Option<DocumentId>,
    /// Identifiers, sizes and digests.
    pub detail: serde_json::Value,
}
