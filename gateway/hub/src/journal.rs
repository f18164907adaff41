//! The journal: one event for each act, in the transaction of the act.
//!
//! An event says who, for whom, when, what and of which digest; never content, names or addresses.

use crate::access::Actor;
use pli_api::{DepositId, DocumentId, EventId, MessageId, ProcedureId, Time};
use pli_storage::{DbError, Tx, args};
use serde_json::Value;

/// An act to be written down.
pub(crate) struct Event {
    kind: &'static str,
    actor: Option<Actor>,
    deposit: Option<DepositId>,
    document: Option<DocumentId>,
    procedure: Option<ProcedureId>,
    message: Option<MessageId>,
    detail: Value,
}

impl Event {
    /// An event of this kind: `thing.act`, past participle.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            actor: None,
            deposit: None,
            document: None,
            procedure: None,
            message: None,
            detail: Value::Object(serde_json::Map::new()),
        }
    }

    /// Who did it, and for whom; absent when Pli did.
    pub(crate) fn by(mut self, actor: impl Into<Actor>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// In which deposit.
    pub(crate) fn deposit(mut self, deposit: DepositId) -> Self {
        self.deposit = Some(deposit);
        self
    }

    /// On which document.
    pub(crate) fn document(mut self, document: DocumentId) -> Self {
        self.document = Some(document);
        self
    }

    /// In which procedure.
    pub(crate) fn procedure(mut self, procedure: impl Into<Option<ProcedureId>>) -> Self {
        self.procedure = procedure.into();
        self
    }

    /// By or about which message.
    pub(crate) fn message(mut self, message: MessageId) -> Self {
        self.message = Some(message);
        self
    }

    /// Facts: an object of identifiers, sizes and digests.
    pub(crate) fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// Writes it.
    pub(crate) async fn write(self, tx: &mut Tx, now: Time) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO events (id, at, kind, actor, on_behalf, deposit, document, procedure, message, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            args![
                EventId::new().0,
                now,
                self.kind,
                self.actor.map(|a| a.person.0),
                self.actor.and_then(|a| a.on_behalf).map(|a| a.0),
                self.deposit.map(|d| d.0),
                self.document.map(|d| d.0),
                self.procedure.map(|p| p.0),
                self.message.map(|m| m.0),
                self.detail.to_string()
            ],
        )
        .await?;
        Ok(())
    }
}
