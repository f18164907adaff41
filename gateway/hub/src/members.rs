//! Members of procedures: which boxes, in what role, until when.
//!
//! Owns the table `procedure_members`. Must never leave a procedure without a manager of the organisation that
//! opened it, nor let anyone give the sight of restricted pieces who has not got it.

use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::procedures::{self, Membership, Right};
use crate::{Hub, etag, people};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use pli_api::{
    BoxId, Member, MemberChange, MemberRole, NewMember, Page, Person, ProblemCode, ProcedureId, Time,
};
use pli_storage::{Row, Sql, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// The most rows of members of a procedure, the past ones too.
const MEMBERS_MAX: i64 = 2000;

/// Members `m` of procedure `$1` at instant `$2`, with their boxes, organisations and who added them.
const MEMBERS: &str =
    "SELECT m.box, m.role, m.restricted, m.version, m.added, m.ends, b.kind, b.address, b.name,
        o.name AS organisation, a.address AS adder_address, a.name AS adder_name
     FROM procedure_members m JOIN boxes b ON b.id = m.box JOIN organisations o ON o.id = b.organisation
     JOIN boxes a ON a.id = m.added_by
     WHERE m.procedure = $1 AND m.removed IS NULL AND (m.ends IS NULL OR m.ends > $2)";

fn from_row(row: &Row) -> Result<Member> {
    Ok(Member {
        id: BoxId(row.get("box")?),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        address: row.get("address")?,
        name: row.get("name")?,
        organisation: row.get("organisation")?,
        role: row.get::<String>("role")?.parse().map_err(Fault::internal)?,
        restricted: row.get("restricted")?,
        added: row.get("added")?,
        added_by: Person { address: row.get("adder_address")?, name: row.get("adder_name")? },
        ends: row.get("ends")?,
        version: row.get("version")?,
    })
}

async fn load(tx: &mut Tx, procedure: ProcedureId, member: BoxId, now: Time) -> Result<Option<Member>> {
    let sql = Sql::assembled([MEMBERS, " AND m.box = $3"].concat());
    tx.optional(sql, args![procedure.0, now, member.0]).await?.as_ref().map(from_row).transpose()
}

/// Which page of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberPage {
    after: Option<BoxId>,
    limit: Option<u32>,
}

/// GET /procedures/{id}/members: those whose membership is in force, in the order of their boxes.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ProcedureId>,
    Query(page): Query<MemberPage>,
) -> Result<Json<Page<Member>>> {
    let (now, limit) = (hub.now(), page.limit.unwrap_or(50).clamp(1, 200) as usize);
    let mut tx = hub.db().read().await?;
    procedures::require(&mut tx, &caller, id, Right::Read, now).await?;
    let sql = Sql::assembled([MEMBERS, " AND m.box > $3 ORDER BY m.box LIMIT $4"].concat());
    let after = page.after.map_or(Uuid::nil(), |id| id.0);
    let fetched = i64::try_from(limit).unwrap_or(0) + 1;
    let rows = tx.rows(sql, args![id.0, now, after, fetched]).await?;
    let items: Vec<Member> = rows.iter().take(limit).map(from_row).collect::<Result<_>>()?;
    let next = if rows.len() > limit { items.last().map(|member| member.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// Refuses what no membership may be, and what the caller may not give.
fn check(
    caller: &Membership,
    role: MemberRole,
    restricted: bool,
    had: bool,
    ends: Option<Time>,
    now: Time,
) -> Result<()> {
    if restricted && !procedures::grants(role, Right::Read) {
        return Err(Fault::because(
            ProblemCode::Invalid,
            "Un déposant ne lit aucune pièce : il ne peut pas voir les pièces réservées.",
        ));
    }
    if restricted && !had && !caller.restricted() {
        return Err(Fault::because(
            ProblemCode::Forbidden,
            "Seul qui voit les pièces réservées peut en ouvrir l'accès.",
        ));
    }
    if ends.is_some_and(|ends| ends <= now) {
        return Err(Fault::because(ProblemCode::Invalid, "Fin : une date à venir."));
    }
    Ok(())
}

/// Refuses, at the end of a change, that nobody is left who manages all of the procedure for the organisation that
/// opened it, restricted pieces included, and for good.
async fn keeps_a_manager(tx: &mut Tx, id: ProcedureId) -> Result<()> {
    let left = tx
        .optional(
            "SELECT m.box FROM procedure_members m JOIN procedures c ON c.id = m.procedure JOIN boxes b ON b.id = m.box
             WHERE m.procedure = $1 AND m.role = 'manager' AND m.restricted AND m.removed IS NULL AND m.ends IS NULL
             AND b.organisation = c.organisation AND b.closed IS NULL
             AND (b.kind = 'person' OR EXISTS (SELECT 1 FROM service_members s WHERE s.service = b.id)) LIMIT 1",
            args![id.0],
        )
        .await?;
    if left.is_some() {
        return Ok(());
    }
    Err(Fault::because(
        ProblemCode::Conflict,
        "L'organisation qui a ouvert le dossier doit y garder un gestionnaire sans date de fin, qui voit les pièces réservées.",
    ))
}

fn told(member: &Member) -> serde_json::Value {
    serde_json::json!({
        "box": member.id, "role": member.role, "restricted": member.restricted, "ends": member.ends
    })
}

/// POST /procedures/{id}/members. Who was removed or whose time has ended may be added again.
pub(crate) async fn add(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ProcedureId>,
    Json(new): Json<NewMember>,
) -> Result<Response> {
    let (now, address) = (hub.now(), people::address(&new.address)?);
    let mut tx = hub.db().write().await?;
    let manager = procedures::enter(&mut tx, &caller, id, Right::Manage, now).await?;
    check(&manager, new.role, new.restricted, false, new.ends, now)?;
    let sql = "SELECT id FROM boxes WHERE address = $1 AND closed IS NULL";
    let row = tx.optional(sql, args![address.as_str()]).await?.ok_or_else(|| {
        Fault::because(ProblemCode::UnknownRecipient, format!("Pas de compte ni de service pour {address}."))
    })?;
    let member = BoxId(row.get("id")?);
    if load(&mut tx, id, member, now).await?.is_some() {
        return Err(Fault::because(
            ProblemCode::Conflict,
            format!("{address} est déjà membre de ce dossier."),
        ));
    }
    let known =
        tx.one("SELECT COUNT(*) AS n FROM procedure_members WHERE procedure = $1", args![id.0]).await?;
    if known.get::<i64>("n")? >= MEMBERS_MAX {
        return Err(Fault::because(
            ProblemCode::Conflict,
            format!("Un dossier a {MEMBERS_MAX} membres au plus ; ajoutez un service."),
        ));
    }
    tx.execute(
        "INSERT INTO procedure_members (procedure, box, role, restricted, version, added, added_by, ends)
         VALUES ($1, $2, $3, $4, 1, $5, $6, $7)
         ON CONFLICT (procedure, box) DO UPDATE SET role = excluded.role, restricted = excluded.restricted,
         version = procedure_members.version + 1, added = excluded.added, added_by = excluded.added_by,
         ends = excluded.ends, removed = NULL",
        args![id.0, member.0, new.role.as_str(), new.restricted, now, caller.account.0, new.ends],
    )
    .await?;
    let member = load(&mut tx, id, member, now).await?.ok_or(ProblemCode::NotFound)?;
    let event = Event::new("procedure.member_added").by(&caller).procedure(id).detail(told(&member));
    event.write(&mut tx, now).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, etag::tagged(member.version, member)?).into_response())
}

/// PATCH /procedures/{id}/members/{box}.
pub(crate) async fn change(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, member)): Path<(ProcedureId, BoxId)>,
    headers: HeaderMap,
    Json(change): Json<MemberChange>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let manager = procedures::enter(&mut tx, &caller, id, Right::Manage, now).await?;
    let before = load(&mut tx, id, member, now).await?.ok_or(ProblemCode::NotFound)?;
    etag::require(&headers, before.version)?;
    let role = change.role.unwrap_or(before.role);
    let restricted = change.restricted.unwrap_or(before.restricted);
    let ends = change.ends.unwrap_or(before.ends);
    check(&manager, role, restricted, before.restricted, ends, now)?;
    tx.execute(
        "UPDATE procedure_members SET role = $3, restricted = $4, ends = $5, version = version + 1
         WHERE procedure = $1 AND box = $2",
        args![id.0, member.0, role.as_str(), restricted, ends],
    )
    .await?;
    keeps_a_manager(&mut tx, id).await?;
    let member = load(&mut tx, id, member, now).await?.ok_or(ProblemCode::NotFound)?;
    let event = Event::new("procedure.member_changed").by(&caller).procedure(id).detail(told(&member));
    event.write(&mut tx, now).await?;
    tx.commit().await?;
    etag::tagged(member.version, member)
}

/// DELETE /procedures/{id}/members/{box}: from then on they see nothing of it. What they added stays.
pub(crate) async fn remove(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, member)): Path<(ProcedureId, BoxId)>,
    headers: HeaderMap,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    procedures::enter(&mut tx, &caller, id, Right::Manage, now).await?;
    let member = load(&mut tx, id, member, now).await?.ok_or(ProblemCode::NotFound)?;
    etag::check(&headers, member.version)?;
    tx.execute(
        "UPDATE procedure_members SET removed = $3, version = version + 1 WHERE procedure = $1 AND box = $2",
        args![id.0, member.id.0, now],
    )
    .await?;
    keeps_a_manager(&mut tx, id).await?;
    let event = Event::new("procedure.member_removed").by(&caller).procedure(id).detail(told(&member));
    event.write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
