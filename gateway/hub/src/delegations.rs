//! Delegations: someone acts for someone else, for a time, under their own name.
//!
//! Owns the table `delegations`. Must never let a delegation act that has not begun, has ended, was revoked,
//! or whose delegator's account is closed: every request asks anew. Nor be given by anyone but the delegator in
//! person: whoever acts for another delegates nothing further (the routes are [`crate::Access::Account`]).

use crate::Hub;
use crate::access::{Acting, Caller};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::people;
use crate::uploads::const_sql;
use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use pli_api::{
    AccountId, Delegation, DelegationId, DelegationKind, DelegationSide, NewDelegation, OrganisationId, Page,
    Person, ProblemCode, ProcedureId, Time,
};
use pli_storage::{Row, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// How long a delegation lasts at most, and how far ahead it starts at most, in seconds: a year and a day.
const LONGEST: i64 = 366 * 86_400;
/// The most delegations of one person that are in force or will be.
const LIVING_MAX: i64 = 50;

const COLUMNS: &str = "d.id, d.kind, d.procedure, d.starts, d.ends, d.revoked, d.created,
    f.address AS delegator_address, f.name AS delegator_name,
    t.address AS delegate_address, t.name AS delegate_name
    FROM delegations d JOIN boxes f ON f.id = d.delegator JOIN boxes t ON t.id = d.delegate";

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
            procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        }),
    }))
}

fn refused(why: &str) -> Fault {
    Fault::because(ProblemCode::Invalid, why)
}

/// When a delegation begins and ends, in bounds.
fn span(new: &NewDelegation, now: Time) -> Result<(Time, Time)> {
    let starts = new.starts.map_or(now, |given| given.max(now));
    if starts > now.plus_seconds(LONGEST) {
        return Err(refused("Début : dans un an au plus."));
    }
    if new.ends <= starts || new.ends > starts.plus_seconds(LONGEST) {
        return Err(refused("Fin : après le début, et un an après lui au plus."));
    }
    Ok((starts, new.ends))
}

/// POST /delegations.
pub(crate) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewDelegation>,
) -> Result<(StatusCode, Json<Delegation>)> {
    let now = hub.now();
    let (starts, ends) = span(&new, now)?;
    let address = people::address(&new.delegate)?;
    if new.kind == DelegationKind::Absence && new.procedure.is_some() {
        return Err(refused("Une absence vaut pour toutes les procédures."));
    }
    let mut tx = hub.db().write().await?;
    // Counted and compared one request after the other.
    tx.lock(&format!("delegations of {}", caller.account)).await?;
    // A colleague, or someone of the same court. Closed, foreign and unknown are not told apart.
    let delegate = tx
        .optional(
            "SELECT b.id FROM boxes b JOIN organisations o ON o.id = b.organisation
             JOIN organisations mine ON mine.id = $2
             WHERE b.address = $1 AND b.kind = 'person' AND b.closed IS NULL AND b.id <> $3
             AND (o.id = mine.id OR COALESCE(o.court, o.id) = COALESCE(mine.court, mine.id))",
            args![address, caller.organisation.0, caller.account.0],
        )
        .await?
        .ok_or_else(|| {
            refused("Délégataire : une autre personne de votre organisation ou de votre juridiction.")
        })?;
    let delegate = AccountId(delegate.get("id")?);
    let living = tx
        .one(
            "SELECT COUNT(*) AS n, COALESCE(SUM(CASE WHEN kind = 'absence' AND starts < $4 AND ends > $3 THEN 1 ELSE 0 END), 0) AS absences
             FROM delegations WHERE delegator = $1 AND revoked IS NULL AND ends > $2",
            args![caller.account.0, now, starts, ends],
        )
        .await?;
    if living.get::<i64>("n")? >= LIVING_MAX {
        return Err(Fault::because(
            ProblemCode::TooMany,
            format!("Au plus {LIVING_MAX} délégations en cours ou à venir."),
        ));
    }
    if new.kind == DelegationKind::Absence && living.get::<i64>("absences")? > 0 {
        return Err(Fault::because(
            ProblemCode::Conflict,
            "Une autre absence couvre une partie de ces dates : mettez-y d'abord fin.",
        ));
    }
    let id = DelegationId::new();
    tx.execute(
        "INSERT INTO delegations (id, delegator, delegate, kind, procedure, starts, ends, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![
            id.0,
            caller.account.0,
            delegate.0,
            new.kind.as_str(),
            new.procedure.map(|p| p.0),
            starts,
            ends,
            now
        ],
    )
    .await?;
    let detail = serde_json::json!({
        "delegation": id, "delegate": delegate, "kind": new.kind, "starts": starts, "ends": ends,
    });
    Event::new("delegation.granted")
        .by(&caller)
        .procedure(new.procedure)
        .detail(detail)
        .write(&mut tx, now)
        .await?;
    let sql = const_sql(&["SELECT ", COLUMNS, " WHERE d.id = $1"]);
    let made = delegation(&tx.one(sql, args![id.0]).await?)?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(made)))
}

fn delegation(row: &Row) -> Result<Delegation> {
    let person = |end: &str| -> Result<Person> {
        Ok(Person { address: row.get(&format!("{end}_address"))?, name: row.get(&format!("{end}_name"))? })
    };
    Ok(Delegation {
        id: DelegationId(row.get("id")?),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        delegator: person("delegator")?,
        delegate: person("delegate")?,
        procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        starts: row.get("starts")?,
        ends: row.get("ends")?,
        revoked: row.get("revoked")?,
        created: row.get("created")?,
    })
}

/// What this account can use at this instant: exactly what [`act`] would take.
pub(crate) async fn usable(tx: &mut Tx, account: AccountId, now: Time) -> Result<Vec<Delegation>> {
    let sql = const_sql(&[
        "SELECT ",
        COLUMNS,
        " WHERE d.delegate = $1 AND d.revoked IS NULL AND d.starts <= $2 AND d.ends > $2 AND f.closed IS NULL
          ORDER BY d.ends, d.id LIMIT 200",
    ]);
    tx.rows(sql, args![account.0, now]).await?.iter().map(delegation).collect()
}

/// What a list of delegations may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DelegationFilter {
    side: DelegationSide,
    after: Option<DelegationId>,
    limit: Option<u32>,
}

/// GET /delegations, the newest first, those that have ended too.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<DelegationFilter>,
) -> Result<Json<Page<Delegation>>> {
    let condition = match filter.side {
        DelegationSide::Given => "d.delegator = $1",
        DelegationSide::Received => "d.delegate = $1",
    };
    let limit = filter.limit.unwrap_or(50).clamp(1, 200);
    let after = filter.after.map_or(Uuid::max(), |id| id.0);
    let sql =
        const_sql(&["SELECT ", COLUMNS, " WHERE ", condition, " AND d.id < $2 ORDER BY d.id DESC LIMIT $3"]);
    let rows = hub.db().rows(sql, args![caller.account.0, after, i64::from(limit) + 1]).await?;
    let items: Vec<_> = rows.iter().take(limit as usize).map(delegation).collect::<Result<_>>()?;
    let next = if rows.len() > items.len() { items.last().map(|d| d.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// DELETE /delegations/{id}: by whoever gave it, or by whoever has it and no longer wants it.
pub(crate) async fn revoke(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DelegationId>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let row = tx
        .optional(
            "SELECT delegator, delegate, procedure FROM delegations
             WHERE id = $1 AND (delegator = $2 OR delegate = $2)",
            args![id.0, caller.account.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let ended = tx
        .execute(
            "UPDATE delegations SET revoked = $2 WHERE id = $1 AND revoked IS NULL AND ends > $2",
            args![id.0, now],
        )
        .await?;
    if ended == 0 {
        return Err(Fault::because(ProblemCode::Conflict, "Cette délégation a déjà pris fin."));
    }
    let detail = serde_json::json!({
        "delegation": id,
        "delegator": row.get::<Uuid>("delegator")?,
        "delegate": row.get::<Uuid>("delegate")?,
    });
    Event::new("delegation.revoked")
        .by(&caller)
        .procedure(row.get::<Option<Uuid>>("procedure")?.map(ProcedureId))
        .detail(detail)
        .write(&mut tx, now)
        .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends everything that someone gave or was given; gives how many.
pub(crate) async fn end_all(tx: &mut Tx, now: Time, account: AccountId) -> Result<u64> {
    let sql = "UPDATE delegations SET revoked = $2
               WHERE (delegator = $1 OR delegate = $1) AND revoked IS NULL AND ends > $2";
    Ok(tx.execute(sql, args![account.0, now]).await?)
}
