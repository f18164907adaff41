//! What Pli's parts, its clients and its connectors say to each other: typed identifiers, instants,
//! states, request and response types, problem codes.
//!
//! Owns the vocabulary only. Must never do input or output, read the clock, or depend on another
//! crate of Pli.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]
#![deny(missing_docs)]

mod delegation;
#[macro_use]
mod deposit;
mod directory;
mod evidence;
mod hold;
mod ids;
mod invitation;
mod notice;
mod organisation;
#[macro_use]
mod person;
mod message;
mod problem;
mod procedure;
pub mod range;
pub mod search;
mod time;
pub mod tus;
mod upload;
mod webhook;

pub use delegation::{Delegation, DelegationKind, DelegationSide, NewDelegation};
pub use deposit::{
    Deposit, DepositBox, DepositState, Document, DocumentState, InvalidTransition, NewDeposit,
    NewDepositRecipient, NotAnalysed, Page, RecipientState, Scan, ScanState,
};
pub use directory::{Absence, DirectoryEntry};
pub use evidence::{
    Checkpoint, ConsistencyProof, DepositTrailEvent, InclusionProof, ReceiptDeposit, ReceiptDocument,
    ReceiptEvent, ReceiptJson, ReceiptKind, ReceiptParty, ReceiptSummary, TrailDocument,
};
pub use hold::{Hold, LiftHold, NewHold};
pub use ids::{
    AccountId, BoxId, DelegationId, DepositId, DocumentId, EventId, ExhibitId, HoldId, JobId, LabelId,
    MessageId, NoticeId, OrganisationId, PieceId, ProcedureId, ReceiptId, ServiceId, ThreadId, TokenId,
    UploadId, WebhookDeliveryId, WebhookId,
};
pub use invitation::{AcceptInvitation, AcceptedInvitation, OptIn};
pub use message::{
    BoxSummary, DeliveryRole, DraftEdit, Folder, Forwarded, InBox, InboxItem, Label, Message, MessageDeposit,
    MessageKind, MessageState, NewLabel, NewMessage, NewRecipient, OpenDeposit, Recipient, Thread,
    TrailEvent,
};
pub use notice::{
    Bounce, Certificate, Channel, Notice, NoticeKind, NoticePreference, NoticeReason, NoticeTiming,
    SetPreference,
};
pub use organisation::{Colleague, NewService, Service, ServiceChange, ServiceMember};
pub use person::{
    Account, BoxKind, HeldRole, IssuedToken, Limits, Me, NewToken, OrganisationKind, Person, Role, SharedBox,
    SignIn, Token,
};
pub use problem::{Problem, ProblemCode};
pub use procedure::{
    Exhibit, ExhibitChange, ExhibitState, Member, MemberChange, MemberRole, Motive, Movement, NewExhibit,
    NewMember, NewMovement, NewPiece, NewProcedure, Piece, PieceChange, PieceState, Procedure,
    ProcedureChange, ProcedureState, Reference, ReferenceKind, Warning,
};
pub use time::Time;
pub use upload::{PendingUpload, UploadKind};
pub use webhook::{DeliveryState, NewWebhook, Webhook, WebhookDelivery, WebhookNotice};
