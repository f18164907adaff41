//! Typed identifiers: UUIDv7, so that rows made in sequence lie in sequence.
//!
//! An identifier is not a secret and grants nothing: every load is filtered by its caller.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier, of the present millisecond (RFC 9562, version 7).
            #[must_use]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            /// The hyphenated form only, so that one thing has one address.
            ///
            /// # Errors
            /// When the text is not a hyphenated UUID.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(text.parse::<uuid::fmt::Hyphenated>()?.into_uuid()))
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }
    )*};
}

macro_rules! boxes {
    ($($name:ident)*) => {$(
        impl From<$name> for BoxId {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }
    )*};
}

boxes! { AccountId ServiceId }

ids! {
    /// An organisation: a court, an office, a company of experts, an administration.
    OrganisationId;
    /// A person's account.
    AccountId;
    /// Whatever can be written to: a person's account or a service.
    BoxId;
    /// A service with a shared box: a greffe, a cabinet d'instruction.
    ServiceId;
    /// A right to act for someone, for a time.
    DelegationId;
    /// A procedure (dossier).
    ProcedureId;
    /// A sealed exhibit of a procedure (scellé).
    ExhibitId;
    /// A document filed in a procedure (pièce).
    PieceId;
    /// A thread of messages.
    ThreadId;
    /// A message.
    MessageId;
    /// A label of a box.
    LabelId;
    /// A legal hold.
    HoldId;
    /// A receipt.
    ReceiptId;
    /// A notice: that something waits for a box.
    NoticeId;
    /// A registered webhook.
    WebhookId;
    /// A notice on its way to a webhook.
    WebhookDeliveryId;
    /// A personal access token.
    TokenId;
    /// A deposit: documents addressed to named recipients.
    DepositId;
    /// A document of a deposit.
    DocumentId;
    /// A tus upload resource.
    UploadId;
    /// An event of the journal.
    EventId;
    /// A job of the outbox.
    JobId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        let id = DepositId::new();
        assert_eq!(id.to_string().parse::<DepositId>().unwrap(), id);
        assert!(id.0.simple().to_string().parse::<DepositId>().is_err());
        assert!(id.0.urn().to_string().parse::<DepositId>().is_err());
        assert!(id.0.braced().to_string().parse::<DepositId>().is_err());
    }
}
