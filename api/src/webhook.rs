//! Webhooks: notices to the information system of an organisation.

use crate::{
    BoxId, DepositId, DocumentId, MessageId, NoticeId, NoticeKind, ProcedureId, Time, WebhookDeliveryId,
    WebhookId,
};
use serde::{Deserialize, Serialize};

/// What `POST /webhooks` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWebhook {
    /// An `https:` address.
    pub url: String,
    /// What to be told of; all kinds when empty.
    #[serde(default)]
    pub kinds: Vec<NoticeKind>,
}

/// A webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Webhook {
    /// Identifier; the `keyid` of its signatures.
    pub id: WebhookId,
    /// Where notices go.
    pub url: String,
    /// What it is told of; all kinds when empty.
    pub kinds: Vec<NoticeKind>,
    /// The Ed25519 public key of its signatures (RFC 8032), base64.
    pub public_key: String,
    /// When it was registered.
    pub created: Time,
}

words! {
    /// Where a delivery stands.
    DeliveryState {
        /// On its way, or waiting to be tried again.
        Waiting = "waiting",
        /// Answered with a 2xx status.
        Delivered = "delivered",
        /// Given up; may be asked for again.
        Dead = "dead",
        /// The webhook was removed.
        Cancelled = "cancelled",
    }
}

/// A notice on its way to a webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// Identifier: the `Pli-Delivery` field of the request.
    pub id: WebhookDeliveryId,
    /// What about.
    pub kind: NoticeKind,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts since it was last asked for.
    pub attempts: u32,
    /// The HTTP status of the last attempt.
    pub status: Option<u16>,
    /// What went wrong before there was one.
    pub failure: Option<String>,
    /// When it was written.
    pub created: Time,
    /// When it ended.
    pub settled: Option<Time>,
}

/// The body of a webhook's request: identifiers, never content or names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookNotice {
    /// The notice; the same at every attempt.
    pub id: NoticeId,
    /// What about.
    pub kind: NoticeKind,
    /// The box it is for.
    #[serde(rename = "box")]
    pub which: BoxId,
    /// The deposit it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deposit: Option<DepositId>,
    /// The document it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<DocumentId>,
    /// The procedure it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub procedure: Option<ProcedureId>,
    /// The message it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// When it happened.
    pub at: Time,
}
