//! Unfinished uploads, as their owner lists them.

use crate::{DepositId, Time, UploadId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The kind of a tus upload (tus 1.0.0, concatenation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadKind {
    /// A document by itself.
    Whole,
    /// A part, to be concatenated.
    Partial,
    /// The concatenation of parts.
    Final,
}

impl UploadKind {
    /// The word kept in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Partial => "partial",
            Self::Final => "final",
        }
    }
}

impl std::str::FromStr for UploadKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "whole" => Ok(Self::Whole),
            "partial" => Ok(Self::Partial),
            "final" => Ok(Self::Final),
            other => Err(format!("unknown kind {other:?}")),
        }
    }
}

/// An upload that still needs something of its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PendingUpload {
    /// Identifier, the last segment of the upload's address.
    pub id: UploadId,
    /// Kind.
    pub kind: UploadKind,
    /// File name, if told.
    pub name: Option<String>,
    /// The deposit it belongs to, if told.
    pub deposit: Option<DepositId>,
    /// Length in bytes, if told.
    pub size: Option<u64>,
    /// Bytes that are durable.
    pub offset: u64,
    /// The metadata given at creation; values that are not UTF-8 are left out.
    pub metadata: BTreeMap<String, String>,
    /// When it was created.
    pub created: Time,
    /// When it ends unless it advances.
    pub expires: Time,
}
