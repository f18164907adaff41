//! What Pli's parts, its clients and its connectors say to each other: typed identifiers, instants,
//! states, request and response types, problem codes.
//!
//! Owns the vocabulary only. Must never do input or output, read the clock, or depend on another
//! crate of Pli.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]
#![deny(missing_docs)]

mod delegation;
mod deposit;
mod directory;
mod ids;
mod invitation;
mod organisation;
mod person;
mod problem;
pub mod range;
mod time;
pub mod tus;
mod upload;

pub use delegation::{Delegation, DelegationKind, DelegationSide, NewDelegation};
pub use deposit::{
    Deposit, DepositBox, DepositState, Document, DocumentState, InvalidTransition, NewDeposit, Page,
};
pub use directory::{Absence, DirectoryEntry};
pub use ids::{
    AccountId, BoxId, DelegationId, DepositId, DocumentId, EventId, ExhibitId, HoldId, JobId, LabelId,
    MessageId, OrganisationId, PieceId, ProcedureId, ReceiptId, ServiceId, ThreadId, TokenId, UploadId,
    WebhookId,
};
pub use invitation::{AcceptInvitation, AcceptedInvitation, OptIn};
pub use organisation::{Colleague, NewService, Service, ServiceChange, ServiceMember};
pub use person::{
    Account, BoxKind, HeldRole, IssuedToken, Limits, Me, NewToken, OrganisationKind, Person, Role, SharedBox,
    SignIn, Token,
};
pub use problem::{Problem, ProblemCode};
pub use time::Time;
pub use upload::{PendingUpload, UploadKind};
