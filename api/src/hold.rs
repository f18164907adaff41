//! Legal holds: deletion suspended, with a motive and an author.

use crate::{DepositId, HoldId, Person, ProcedureId, Time};
use serde::{Deserialize, Serialize};

/// What `POST /holds` takes: one of the two things, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewHold {
    /// A deposit that the organisation sent.
    #[serde(default)]
    pub deposit: Option<DepositId>,
    /// A procedure of the organisation, with every deposit in it.
    #[serde(default)]
    pub procedure: Option<ProcedureId>,
    /// Why nothing of it may be deleted.
    pub motive: String,
}

/// What `POST /holds/{id}/lift` takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftHold {
    /// Why deletion may go on.
    pub motive: String,
}

/// A hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Identifier.
    pub id: HoldId,
    /// The deposit held.
    pub deposit: Option<DepositId>,
    /// The procedure held.
    pub procedure: Option<ProcedureId>,
    /// Why.
    pub motive: String,
    /// When it was placed.
    pub placed: Time,
    /// By whom in person.
    pub placed_by: Person,
    /// When it was lifted.
    pub lifted: Option<Time>,
    /// By whom in person.
    pub lifted_by: Option<Person>,
    /// Why.
    pub lift_motive: Option<String>,
}
