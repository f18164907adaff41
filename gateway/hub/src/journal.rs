//! The journal: one event for each act, in the transaction of the act.
//!
//! An event says who, when, what and of which digest; never content, names or addresses.

use pli_api::{AccountId, DepositId, DocumentId, EventId, Time};
use pli_storage::{DbError, Tx, args};
use serde_json::Value;

/// An act to be written down.
pub(crate) struct Event {
    kind: &'static str,
    actor: Option<AccountId>,
    deposit: Option<DepositId>,
    document: Option<DocumentId>,
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
            detail: Value::Object(serde_json::Map::new()),
        }
    }

    /// Who did it; absent when Pli did.
    pub(crate) fn by(mut self, actor: AccountId) -> Self {
        self.actor = Some(actor);
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

    /// Facts: an object of identifiers, sizes and digests.
    pub(crate) fn detail(mut self, detail: Value) -> Self {
        self.detail = detail;
        self
    }

    /// Writes it.
    pub(crate) async fn write(self, tx: &mut Tx, now: Time) -> Result<(), DbError> {
        tx.execute(
            "INSERT INTO events (id, at, kind, actor, deposit, document, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            args![
                EventId::new().0,
                now,
                self.kind,
                self.actor.map(|a| a.0),
                self.deposit.map(|d| d.0),
                self.document.map(|d| d.0),
                self.detail.to_string()
            ],
        )
        .await?;
        Ok(())
    }
}
