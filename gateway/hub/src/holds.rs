//! Legal holds: what is held is not deleted, whatever its retention says.
//!
//! Owns the table `holds`. A hold keeps keys and objects; it gives nobody access: recipients see a deposit no
//! longer than its retention. Must never be lifted without a motive and an author, or forgotten: a lifted hold
//! stays in the list.

use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::notices::{self, About};
use crate::roles::{self, Permission};
use crate::uploads::const_sql;
use crate::{Hub, deposits};
use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use pli_api::{
    BoxId, DepositId, DepositState, Hold, HoldId, LiftHold, NewHold, NoticeKind, OrganisationId, Page,
    Person, ProblemCode, ProcedureId, Time,
};
use pli_storage::{Row, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// The most characters of a motive.
const MOTIVE_MAX: usize = 2000;

/// True in SQL when deposit `p` is held: itself, or by a procedure in which it was sent or in which a document of
/// it was filed. To be asked again once the deposit is locked: a statement does not see what was committed while it
/// waited for a row.
pub(crate) const HELD: &str =
    "(EXISTS (SELECT 1 FROM holds h WHERE h.lifted IS NULL AND h.deposit IS NOT NULL
        AND h.deposit = p.id)
    OR EXISTS (SELECT 1 FROM holds h WHERE h.lifted IS NULL AND h.procedure IS NOT NULL AND (
        h.procedure IN (SELECT m.procedure FROM messages m WHERE m.deposit = p.id)
        OR h.procedure IN (SELECT c.procedure FROM pieces c JOIN documents d ON d.id = c.document
            WHERE d.deposit = p.id))))";

const COLUMNS: &str = "h.id, h.deposit, h.procedure, h.motive, h.placed, h.lifted, h.lift_motive,
    a.address AS by_address, a.name AS by_name, l.address AS lift_address, l.name AS lift_name
    FROM holds h JOIN boxes a ON a.id = h.placed_by LEFT JOIN boxes l ON l.id = h.lifted_by";

/// Whether a deposit that this transaction holds may not be deleted.
pub(crate) async fn is_held(tx: &mut Tx, deposit: DepositId) -> Result<bool> {
    let sql = const_sql(&["SELECT p.id FROM deposits p WHERE p.id = $1 AND ", HELD]);
    Ok(tx.optional(sql, args![deposit.0]).await?.is_some())
}

fn from_row(row: &Row) -> Result<Hold> {
    let lifted_by = match row.get::<Option<String>>("lift_address")? {
        Some(address) => Some(Person { address, name: row.get("lift_name")? }),
        None => None,
    };
    Ok(Hold {
        id: HoldId(row.get("id")?),
        deposit: row.get::<Option<Uuid>>("deposit")?.map(DepositId),
        procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        motive: row.get("motive")?,
        placed: row.get("placed")?,
        placed_by: Person { address: row.get("by_address")?, name: row.get("by_name")? },
        lifted: row.get("lifted")?,
        lifted_by,
        lift_motive: row.get("lift_motive")?,
    })
}

/// A text of one or more lines that says why.
fn motive(given: &str) -> Result<&str> {
    let text = given.trim();
    let odd = |c: char| c.is_control() && c != '\n';
    if text.is_empty() || text.chars().count() > MOTIVE_MAX || text.chars().any(odd) {
        let said = format!("Motif : de 1 à {MOTIVE_MAX} caractères, sans caractère de contrôle.");
        return Err(Fault::because(ProblemCode::Invalid, said));
    }
    Ok(text)
}

async fn allowed(tx: &mut Tx, caller: &Caller, organisation: OrganisationId) -> Result<bool> {
    let roles = roles::of(tx, caller.account, organisation).await?;
    Ok(roles.into_iter().any(|role| roles::allows(role, Permission::Hold)))
}

/// What is to be held: whose it is, and who is told.
struct Target {
    organisation: OrganisationId,
    told: Vec<BoxId>,
}

/// A deposit that may be held: sent, not yet deleted, of an organisation where the caller may.
async fn deposit(tx: &mut Tx, caller: &Caller, id: DepositId, now: Time) -> Result<Target> {
    let row = tx
        .optional(
            "UPDATE deposits SET version = version + 1 WHERE id = $1 AND state <> 'draft'
             RETURNING organisation, sender, state",
            args![id.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let organisation = OrganisationId(row.get("organisation")?);
    if !allowed(tx, caller, organisation).await? {
        // Who sees the deposit is told that they may not; to others it does not exist.
        let seen = deposits::load(tx, caller, id, now).await?.is_some();
        return Err(if seen { ProblemCode::Forbidden } else { ProblemCode::NotFound }.into());
    }
    if row.get::<String>("state")? == DepositState::Expired.as_str() {
        return Err(Fault::because(
            ProblemCode::Conflict,
            "Ce dépôt est expiré : il n'en reste que les traces.",
        ));
    }
    Ok(Target { organisation, told: vec![BoxId(row.get("sender")?)] })
}

/// A procedure that may be held: of an organisation where the caller may.
async fn procedure(tx: &mut Tx, caller: &Caller, id: ProcedureId) -> Result<Target> {
    let row = tx
        .optional("SELECT organisation FROM procedures WHERE id = $1", args![id.0])
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let organisation = OrganisationId(row.get("organisation")?);
    if !allowed(tx, caller, organisation).await? {
        return Err(ProblemCode::NotFound.into());
    }
    Ok(Target { organisation, told: managers(tx, id).await? })
}

async fn managers(tx: &mut Tx, id: ProcedureId) -> Result<Vec<BoxId>> {
    let sql =
        "SELECT box FROM procedure_members WHERE procedure = $1 AND role = 'manager' AND removed IS NULL
               ORDER BY box";
    tx.rows(sql, args![id.0]).await?.iter().map(|row| Ok(BoxId(row.get("box")?))).collect()
}

/// POST /holds.
pub(crate) async fn place(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewHold>,
) -> Result<(StatusCode, Json<Hold>)> {
    let motive = motive(&new.motive)?;
    let (id, now) = (HoldId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    let target = match (new.deposit, new.procedure) {
        (Some(id), None) => deposit(&mut tx, &caller, id, now).await?,
        (None, Some(id)) => procedure(&mut tx, &caller, id).await?,
        _ => return Err(Fault::because(ProblemCode::Invalid, "Un dépôt ou une procédure, l'un des deux.")),
    };
    tx.execute(
        "INSERT INTO holds (id, organisation, deposit, procedure, motive, placed, placed_by, placed_for)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![
            id.0,
            target.organisation.0,
            new.deposit.map(|d| d.0),
            new.procedure.map(|p| p.0),
            motive,
            now,
            caller.person().0,
            caller.acting.map(|_| caller.account.0)
        ],
    )
    .await?;
    told(&mut tx, &caller, now, "hold.placed", id, (new.deposit, new.procedure), &target.told).await?;
    let hold = load(&mut tx, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok((StatusCode::CREATED, Json(hold)))
}

/// The event, and the notices to those concerned but who did it.
async fn told(
    tx: &mut Tx,
    caller: &Caller,
    now: Time,
    event: &'static str,
    id: HoldId,
    (deposit, procedure): (Option<DepositId>, Option<ProcedureId>),
    concerned: &[BoxId],
) -> Result<()> {
    let mut written =
        Event::new(event).by(caller).procedure(procedure).detail(serde_json::json!({ "hold": id }));
    let mut about = About::at(now).procedure(procedure);
    if let Some(deposit) = deposit {
        written = written.deposit(deposit);
        about = about.deposit(deposit);
    }
    written.write(tx, now).await?;
    let kind = if event == "hold.placed" { NoticeKind::HoldPlaced } else { NoticeKind::HoldLifted };
    for to in concerned.iter().filter(|to| to.0 != caller.account.0 && to.0 != caller.person().0) {
        notices::tell(tx, kind, *to, about).await?;
    }
    Ok(())
}

async fn load(tx: &mut Tx, id: HoldId) -> Result<Option<Hold>> {
    let sql = const_sql(&["SELECT ", COLUMNS, " WHERE h.id = $1"]);
    tx.optional(sql, args![id.0]).await?.as_ref().map(from_row).transpose()
}

/// What a list of holds may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoldFilter {
    /// Those of this deposit.
    deposit: Option<DepositId>,
    /// Those not lifted only.
    #[serde(default)]
    standing: bool,
    after: Option<HoldId>,
    limit: Option<u32>,
}

/// GET /holds: of the caller's organisation, the newest first; for who may hold, or reads its evidence.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<HoldFilter>,
) -> Result<Json<Page<Hold>>> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 200) as usize;
    let mut tx = hub.db().read().await?;
    if !allowed(&mut tx, &caller, caller.organisation).await? {
        roles::require(&mut tx, &caller, caller.organisation, Permission::ReadEvidence).await?;
    }
    let sql = const_sql(&[
        "SELECT ",
        COLUMNS,
        " WHERE h.organisation = $1 AND h.id < $2 AND ($3 = FALSE OR h.lifted IS NULL)
         AND ($4 = FALSE OR h.deposit = $5) ORDER BY h.id DESC LIMIT $6",
    ]);
    let rows = tx
        .rows(
            sql,
            args![
                caller.organisation.0,
                filter.after.map_or(Uuid::max(), |id| id.0),
                filter.standing,
                filter.deposit.is_some(),
                filter.deposit.map_or(Uuid::nil(), |id| id.0),
                (limit as i64).saturating_add(1)
            ],
        )
        .await?;
    let items: Vec<Hold> = rows.iter().take(limit).map(from_row).collect::<Result<_>>()?;
    let next = if rows.len() > limit { items.last().map(|hold| hold.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// POST /holds/{id}/lift.
pub(crate) async fn lift(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<HoldId>,
    Json(given): Json<LiftHold>,
) -> Result<Json<Hold>> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let row = tx
        .optional("SELECT organisation, deposit, procedure FROM holds WHERE id = $1", args![id.0])
        .await?
        .ok_or(ProblemCode::NotFound)?;
    if !allowed(&mut tx, &caller, OrganisationId(row.get("organisation")?)).await? {
        return Err(ProblemCode::NotFound.into());
    }
    let motive = motive(&given.motive)?;
    let deposit = row.get::<Option<Uuid>>("deposit")?.map(DepositId);
    let procedure = row.get::<Option<Uuid>>("procedure")?.map(ProcedureId);
    let lifted = tx
        .execute(
            "UPDATE holds SET lifted = $2, lifted_by = $3, lifted_for = $4, lift_motive = $5
             WHERE id = $1 AND lifted IS NULL",
            args![id.0, now, caller.person().0, caller.acting.map(|_| caller.account.0), motive],
        )
        .await?;
    if lifted == 0 {
        return Err(Fault::because(ProblemCode::Conflict, "Cette suspension est déjà levée."));
    }
    let concerned = match (deposit, procedure) {
        (Some(deposit), _) => {
            let row = tx.one("SELECT sender FROM deposits WHERE id = $1", args![deposit.0]).await?;
            vec![BoxId(row.get("sender")?)]
        }
        (None, Some(procedure)) => managers(&mut tx, procedure).await?,
        (None, None) => Vec::new(),
    };
    told(&mut tx, &caller, now, "hold.lifted", id, (deposit, procedure), &concerned).await?;
    let hold = load(&mut tx, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok(Json(hold))
}
