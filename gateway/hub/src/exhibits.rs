//! Exhibits (scellés) of a procedure: what they are, where each is, and every movement it made.
//!
//! Owns the tables `exhibits` and `exhibit_movements`. Must never let one move against the law's order, or forget a
//! movement.

use crate::access::Caller;
use crate::boxes::line;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::procedures::{self, Right};
use crate::references::compact;
use crate::{Hub, etag};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pli_api::{
    Exhibit, ExhibitChange, ExhibitId, ExhibitState, Movement, NewExhibit, NewMovement, Page, Person,
    ProblemCode, ProcedureId, Time,
};
use pli_storage::{Row, Sql, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// Exhibits `e` of procedure `$1`, with who entered them.
const EXHIBITS: &str = "SELECT e.id, e.procedure, e.number, e.label, e.state, e.place, e.version, e.created,
        a.address, a.name
     FROM exhibits e JOIN boxes a ON a.id = e.created_by WHERE e.procedure = $1";

fn state_of(row: &Row) -> Result<ExhibitState> {
    row.get::<String>("state")?.parse().map_err(|e: String| Fault::internal(e))
}

fn person(row: &Row) -> Result<Person> {
    Ok(Person { address: row.get("address")?, name: row.get("name")? })
}

fn from_row(row: &Row) -> Result<Exhibit> {
    Ok(Exhibit {
        id: ExhibitId(row.get("id")?),
        procedure: ProcedureId(row.get("procedure")?),
        number: row.get("number")?,
        label: row.get("label")?,
        state: state_of(row)?,
        place: row.get("place")?,
        created: row.get("created")?,
        created_by: person(row)?,
        version: row.get("version")?,
        movements: None,
    })
}

/// The exhibit with its movements. Who may see the procedure was asked before.
async fn load(tx: &mut Tx, procedure: ProcedureId, id: ExhibitId) -> Result<Option<Exhibit>> {
    let sql = Sql::assembled([EXHIBITS, " AND e.id = $2"].concat());
    let Some(row) = tx.optional(sql, args![procedure.0, id.0]).await? else { return Ok(None) };
    let mut exhibit = from_row(&row)?;
    let sql = "SELECT m.state, m.place, m.at, m.told, m.note, a.address, a.name
               FROM exhibit_movements m JOIN boxes a ON a.id = m.author WHERE m.exhibit = $1 ORDER BY m.version";
    let movement = |row: &Row| -> Result<Movement> {
        Ok(Movement {
            state: state_of(row)?,
            place: row.get("place")?,
            at: row.get("at")?,
            told: row.get("told")?,
            by: person(row)?,
            note: row.get("note")?,
        })
    };
    let rows = tx.rows(sql, args![id.0]).await?;
    exhibit.movements = Some(rows.iter().map(movement).collect::<Result<_>>()?);
    Ok(Some(exhibit))
}

fn number_of(given: &str) -> Result<(&str, String)> {
    let number = line("Numéro de scellé", given, 60)?;
    let folded = compact(number);
    if folded.is_empty() {
        return Err(Fault::because(
            ProblemCode::Invalid,
            "Numéro de scellé : au moins une lettre ou un chiffre.",
        ));
    }
    Ok((number, folded))
}

fn label_of(given: &str) -> Result<&str> {
    line("Désignation", given, 300)
}

fn place_of(given: &str) -> Result<&str> {
    line("Lieu", given, 300)
}

fn taken() -> Fault {
    Fault::because(ProblemCode::Conflict, "Ce numéro de scellé est déjà pris dans ce dossier.")
}

/// A movement as it is written down.
struct Moved<'a> {
    state: ExhibitState,
    place: &'a str,
    at: Time,
    note: Option<&'a str>,
}

/// Writes a movement down, and the event of it: what and when, never where or what was said.
async fn write_down(
    tx: &mut Tx,
    caller: &Caller,
    procedure: ProcedureId,
    id: ExhibitId,
    version: u64,
    moved: &Moved<'_>,
    now: Time,
) -> Result<()> {
    tx.execute(
        "INSERT INTO exhibit_movements (exhibit, version, state, place, at, told, author, note)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![id.0, version, moved.state.as_str(), moved.place, moved.at, now, caller.account.0, moved.note],
    )
    .await?;
    let kind = match moved.state {
        ExhibitState::Placed => "exhibit.placed",
        ExhibitState::AtExpert => "exhibit.entrusted",
        ExhibitState::Returned => "exhibit.returned",
        ExhibitState::Destroyed => "exhibit.destroyed",
    };
    let detail = serde_json::json!({ "exhibit": id, "at": moved.at });
    Event::new(kind).by(caller).procedure(procedure).detail(detail).write(tx, now).await?;
    Ok(())
}

/// An instant that has been.
fn past(at: Option<Time>, now: Time) -> Result<Time> {
    match at {
        Some(at) if at > now => Err(Fault::because(ProblemCode::Invalid, "Date : pas dans l'avenir.")),
        Some(at) => Ok(at),
        None => Ok(now),
    }
}

/// POST /procedures/{id}/exhibits.
pub(crate) async fn place(
    State(hub): State<Hub>,
    caller: Caller,
    Path(procedure): Path<ProcedureId>,
    Json(new): Json<NewExhibit>,
) -> Result<Response> {
    let (number, folded) = number_of(&new.number)?;
    let (label, place) = (label_of(&new.label)?, place_of(&new.place)?);
    let (id, now) = (ExhibitId::new(), hub.now());
    let at = past(new.at, now)?;
    let mut tx = hub.db().write().await?;
    procedures::enter(&mut tx, &caller, procedure, Right::Write, now).await?;
    let state = ExhibitState::Placed;
    let made = tx
        .execute(
            "INSERT INTO exhibits
                (id, procedure, number, folded_number, label, state, place, version, created, created_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9) ON CONFLICT (procedure, folded_number) DO NOTHING",
            args![
                id.0,
                procedure.0,
                number,
                folded,
                label,
                state.as_str(),
                place,
                now,
                caller.account.0
            ],
        )
        .await?;
    if made == 0 {
        return Err(taken());
    }
    let moved = Moved { state, place, at, note: None };
    write_down(&mut tx, &caller, procedure, id, 1, &moved, now).await?;
    let exhibit = load(&mut tx, procedure, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    let location = format!("/api/v1/procedures/{procedure}/exhibits/{id}");
    let location = HeaderValue::from_str(&location).map_err(Fault::internal)?;
    let body = etag::tagged(exhibit.version, exhibit)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// What a list of exhibits may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExhibitFilter {
    state: Option<ExhibitState>,
    number: Option<String>,
    after: Option<ExhibitId>,
    limit: Option<u32>,
}

/// GET /procedures/{id}/exhibits, in the order in which they were entered.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Path(procedure): Path<ProcedureId>,
    Query(filter): Query<ExhibitFilter>,
) -> Result<Json<Page<Exhibit>>> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 200) as usize;
    let mut tx = hub.db().read().await?;
    procedures::require(&mut tx, &caller, procedure, Right::Read, hub.now()).await?;
    let after = filter.after.map_or(Uuid::nil(), |id| id.0);
    let mut values = args![procedure.0, after, i64::try_from(limit).unwrap_or(0) + 1];
    let mut sql = [EXHIBITS, " AND e.id > $2"].concat();
    if let Some(state) = filter.state {
        values.push(state.as_str());
        sql.push_str(&format!(" AND e.state = ${}", values.len()));
    }
    if let Some(number) = &filter.number {
        values.push(compact(number));
        sql.push_str(&format!(" AND e.folded_number = ${}", values.len()));
    }
    sql.push_str(" ORDER BY e.id LIMIT $3");
    let rows = tx.rows(Sql::assembled(sql), values).await?;
    let items: Vec<Exhibit> = rows.iter().take(limit).map(from_row).collect::<Result<_>>()?;
    let next = if rows.len() > limit { items.last().map(|exhibit| exhibit.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// GET /procedures/{id}/exhibits/{exhibit}, with its movements.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path((procedure, id)): Path<(ProcedureId, ExhibitId)>,
) -> Result<Response> {
    let mut tx = hub.db().read().await?;
    procedures::require(&mut tx, &caller, procedure, Right::Read, hub.now()).await?;
    let exhibit = load(&mut tx, procedure, id).await?.ok_or(ProblemCode::NotFound)?;
    etag::tagged(exhibit.version, exhibit)
}

/// PATCH /procedures/{id}/exhibits/{exhibit}: its number, its label. Where it is changes by movements only.
pub(crate) async fn change(
    State(hub): State<Hub>,
    caller: Caller,
    Path((procedure, id)): Path<(ProcedureId, ExhibitId)>,
    headers: HeaderMap,
    Json(change): Json<ExhibitChange>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    procedures::enter(&mut tx, &caller, procedure, Right::Write, now).await?;
    let exhibit = load(&mut tx, procedure, id).await?.ok_or(ProblemCode::NotFound)?;
    etag::require(&headers, exhibit.version)?;
    let mut fields = Vec::new();
    if let Some(number) = &change.number {
        let (number, folded) = number_of(number)?;
        let rival = "SELECT id FROM exhibits WHERE procedure = $1 AND folded_number = $2 AND id <> $3";
        if tx.optional(rival, args![procedure.0, folded.as_str(), id.0]).await?.is_some() {
            return Err(taken());
        }
        let sql = "UPDATE exhibits SET number = $2, folded_number = $3 WHERE id = $1";
        tx.execute(sql, args![id.0, number, folded]).await?;
        fields.push("number");
    }
    if let Some(label) = &change.label {
        tx.execute("UPDATE exhibits SET label = $2 WHERE id = $1", args![id.0, label_of(label)?]).await?;
        fields.push("label");
    }
    if !fields.is_empty() {
        tx.execute("UPDATE exhibits SET version = version + 1 WHERE id = $1", args![id.0]).await?;
        let detail = serde_json::json!({ "exhibit": id, "fields": fields });
        Event::new("exhibit.changed")
            .by(&caller)
            .procedure(procedure)
            .detail(detail)
            .write(&mut tx, now)
            .await?;
    }
    let exhibit = load(&mut tx, procedure, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    etag::tagged(exhibit.version, exhibit)
}

/// POST /procedures/{id}/exhibits/{exhibit}/movements. To hand back and to destroy is for managers, also once the
/// procedure is closed; to entrust to an expert and to take back, for whoever adds to an open one.
pub(crate) async fn relocate(
    State(hub): State<Hub>,
    caller: Caller,
    Path((procedure, id)): Path<(ProcedureId, ExhibitId)>,
    headers: HeaderMap,
    Json(new): Json<NewMovement>,
) -> Result<Response> {
    let now = hub.now();
    let place = place_of(&new.place)?;
    let note = new.note.as_deref().map(|note| line("Observation", note, 500)).transpose()?;
    let at = past(new.at, now)?;
    let right = match new.state {
        ExhibitState::Placed | ExhibitState::AtExpert => Right::Write,
        ExhibitState::Returned | ExhibitState::Destroyed => Right::Manage,
    };
    let mut tx = hub.db().write().await?;
    procedures::enter(&mut tx, &caller, procedure, right, now).await?;
    let exhibit = load(&mut tx, procedure, id).await?.ok_or(ProblemCode::NotFound)?;
    etag::check(&headers, exhibit.version)?;
    let state = exhibit.state.to(new.state).map_err(|_| {
        Fault::because(ProblemCode::Conflict, "Là où il se trouve, ce scellé ne peut pas être déplacé ainsi.")
    })?;
    let before = exhibit.movements.as_deref().and_then(<[Movement]>::last);
    if before.is_some_and(|before| at < before.at) {
        return Err(Fault::because(ProblemCode::Invalid, "Date : pas avant celle du mouvement précédent."));
    }
    tx.execute(
        "UPDATE exhibits SET state = $2, place = $3, version = version + 1 WHERE id = $1 AND version = $4",
        args![id.0, state.as_str(), place, exhibit.version],
    )
    .await?;
    let moved = Moved { state, place, at, note };
    write_down(&mut tx, &caller, procedure, id, exhibit.version.saturating_add(1), &moved, now).await?;
    let exhibit = load(&mut tx, procedure, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, etag::tagged(exhibit.version, exhibit)?).into_response())
}
