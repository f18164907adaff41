//! Delegations: someone acts for someone else, for a time, under their own name.
//!
//! Owns the table `delegations`. Must never let a delegation act that has not begun, has ended, was revoked,
//! or whose delegator's account is closed: every request asks anew.

use crate::Hub;
use crate::access::{Acting, Caller};
use crate::fault::Result;
use pli_api::{AccountId, DelegationId, OrganisationId, ProcedureId};
use pli_storage::args;
use uuid::Uuid;

/// The caller, acting by this delegation; none when it is not theirs or not in force at this instant.
pub(crate) async fn act(hub: &Hub, caller: &Caller, id: DelegationId) -> Result<Option<Caller>> {
    let row = hub
        .db()
        .optional(
            "SELECT d.delegator, d.procedure, b.organisation FROM delegations d JOIN boxes b ON b.id = d.delegator
             WHERE d.id = $1 AND d.delegate = $2 AND d.revoked IS NULL AND d.starts <= $3 AND d.ends > $3
             AND b.closed IS NULL",
            args![id.0, caller.account.0, hub.now()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Caller {
        account: AccountId(row.get("delegator")?),
        organisation: OrganisationId(row.get("organisation")?),
        session: caller.session,
        acting: Some(Acting {
            person: caller.account,
            delegation: id,
            procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        }),
    }))
}
