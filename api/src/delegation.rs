//! Delegations: « X pour Y ».

use crate::person::words;
use crate::{DelegationId, Person, ProcedureId, Time};
use serde::{Deserialize, Serialize};

words! {
    /// Why someone acts for someone else.
    DelegationKind {
        /// It was chosen.
        Delegation = "delegation",
        /// The substitute of someone who is away; the directory says so.
        Absence = "absence",
    }
}

words! {
    /// Which end of a delegation the caller is at.
    DelegationSide {
        /// The caller lets someone act.
        Given = "given",
        /// The caller may act.
        Received = "received",
    }
}

/// What `POST /delegations` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDelegation {
    /// The address of whoever will act.
    pub delegate: String,
    /// Why.
    #[serde(default = "chosen")]
    pub kind: DelegationKind,
    /// From when; at once when absent or past.
    #[serde(default)]
    pub starts: Option<Time>,
    /// Until when, at most a year after it starts.
    pub ends: Time,
    /// In this procedure only; in everything when absent. An absence is for everything.
    #[serde(default)]
    pub procedure: Option<ProcedureId>,
}

const fn chosen() -> DelegationKind {
    DelegationKind::Delegation
}

/// A delegation as either end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Identifier: what the header `Pli-Delegation` names.
    pub id: DelegationId,
    /// Why.
    pub kind: DelegationKind,
    /// For whom.
    pub delegator: Person,
    /// Who acts.
    pub delegate: Person,
    /// In this procedure only.
    pub procedure: Option<ProcedureId>,
    /// From when.
    pub starts: Time,
    /// Until when.
    pub ends: Time,
    /// When it was ended before its time.
    pub revoked: Option<Time>,
    /// When it was given.
    pub created: Time,
}
