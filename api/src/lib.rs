//! What Pli's parts, its clients and its connectors say to each other: typed identifiers, instants,
//! states, request and response types, problem codes.
//!
//! Owns the vocabulary only. Must never do input or output, read the clock, or depend on another
//! crate of Pli.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]
#![deny(missing_docs)]

mod deposit;
mod hold;
mod ids;
mod notice;
mod person;
mod problem;
pub mod range;
mod time;
pub mod tus;
mod upload;
mod webhook;

pub use deposit::{
    Deposit, DepositBox, DepositState, Document, DocumentState, InvalidTransition, NewDeposit, NewRecipient,
    Page, RecipientState,
};
pub use hold::{Hold, LiftHold, NewHold};
pub use ids::{
    AccountId, BoxId, DelegationId, DepositId, DocumentId, EventId, ExhibitId, HoldId, JobId, LabelId,
    MessageId, NoticeId, OrganisationId, PieceId, ProcedureId, ReceiptId, ServiceId, ThreadId, TokenId,
    UploadId, WebhookDeliveryId, WebhookId,
};
pub use notice::{
    Bounce, Certificate, Channel, Notice, NoticeKind, NoticePreference, NoticeReason, NoticeTiming,
    SetPreference,
};
pub use person::{
    Account, BoxKind, IssuedToken, Limits, Me, NewToken, OrganisationKind, Person, Role, SignIn, Token,
};
pub use problem::{Problem, ProblemCode};
pub use time::Time;
pub use upload::{PendingUpload, UploadKind};
pub use webhook::{DeliveryState, NewWebhook, Webhook, WebhookDelivery, WebhookNotice};
