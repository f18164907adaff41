//! Procedures (dossiers): who may see and do what in each, their references, their opening and closing.
//!
//! Owns the tables `procedures` and `procedure_references`, and is the one place that says what a membership
//! allows. Must never show anything to whom no membership in force names: not that a procedure exists.

use crate::access::Caller;
use crate::boxes::{folded, line};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::references::{self, REFERENCES_MAX, compact};
use crate::roles::{self, Permission};
use crate::{Hub, etag};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pli_api::{
    BoxId, MemberRole, NewProcedure, OrganisationId, Page, Person, ProblemCode, Procedure, ProcedureChange,
    ProcedureId, ProcedureState, Reference, ReferenceKind, Time, Warning,
};
use pli_storage::{Args, Row, Sql, Tx, args};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// Text of SQL: membership `m` is in force at instant `$3` and names a box of account `$2`: its own, or that of
/// a service that it belongs to.
macro_rules! in_force {
    () => {
        "m.removed IS NULL AND (m.ends IS NULL OR m.ends > $3)
         AND m.box IN (SELECT id FROM boxes WHERE id = $2
             UNION ALL SELECT service FROM service_members WHERE account = $2)"
    };
}
pub(crate) use in_force;

/// True in SQL when account `$2` is a member of procedure `c` at instant `$3`, in whatever role: a depositor too,
/// who must be shown nothing of it but its name. Says nothing of the scope of a delegation, which [`load`] and
/// [`require`] apply.
pub(crate) const VISIBLE: &str =
    concat!("EXISTS (SELECT 1 FROM procedure_members m WHERE m.procedure = c.id AND ", in_force!(), ")");

/// What is to be done in a procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// See what others put there.
    Read,
    /// Add to it and change what is there.
    Write,
    /// Add to it without seeing it.
    Deposit,
    /// Say who is a member; close and reopen.
    Manage,
}

/// Whether a role gives a right.
pub(crate) const fn grants(role: MemberRole, right: Right) -> bool {
    match right {
        Right::Read => !matches!(role, MemberRole::Depositor),
        Right::Write => matches!(role, MemberRole::Manager | MemberRole::Contributor),
        Right::Deposit => !matches!(role, MemberRole::Reader),
        Right::Manage => matches!(role, MemberRole::Manager),
    }
}

/// What a caller is in a procedure: each of their boxes may be a member.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) state: ProcedureState,
    pub(crate) version: u64,
    boxes: Vec<(BoxId, MemberRole, bool)>,
}

impl Membership {
    /// The box by which the caller has a right: their own before a service's.
    pub(crate) fn by(&self, right: Right) -> Option<BoxId> {
        self.boxes.iter().find(|(_, role, _)| grants(*role, right)).map(|(id, ..)| *id)
    }

    /// Whether this is a box of theirs by which they write.
    pub(crate) fn writes_as(&self, held: BoxId) -> bool {
        self.boxes.iter().any(|(id, role, _)| *id == held && grants(*role, Right::Write))
    }

    /// Whether restricted pieces are theirs to see.
    pub(crate) fn restricted(&self) -> bool {
        self.boxes.iter().any(|(_, role, restricted)| *restricted && grants(*role, Right::Read))
    }

    fn role(&self) -> Option<MemberRole> {
        let has = |role: &&MemberRole| self.boxes.iter().any(|(_, held, _)| held == *role);
        MemberRole::ALL.iter().find(has).copied()
    }
}

/// `$from, …`: placeholders of a list.
fn placeholders(from: usize, count: usize) -> String {
    let numbers: Vec<String> = (from..from.saturating_add(count)).map(|n| format!("${n}")).collect();
    numbers.join(", ")
}

/// Scope, account and instant of the caller in `$1` to `$3`, then the procedures.
fn about(caller: &Caller, ids: &[ProcedureId], now: Time) -> Args {
    let mut args = args![caller.scope(), caller.account.0, now];
    ids.iter().for_each(|id| args.push(id.0));
    args
}

async fn memberships(
    tx: &mut Tx,
    caller: &Caller,
    ids: &[ProcedureId],
    now: Time,
) -> Result<HashMap<ProcedureId, Membership>> {
    let sql = [
        "SELECT c.id, c.state, c.version, m.box, m.role, m.restricted
         FROM procedures c JOIN procedure_members m ON m.procedure = c.id WHERE c.id IN (",
        &placeholders(4, ids.len()),
        ") AND ($1 IS NULL OR c.id = $1) AND ",
        in_force!(),
        " ORDER BY CASE WHEN m.box = $2 THEN 0 ELSE 1 END, m.box",
    ];
    let mut found: HashMap<ProcedureId, Membership> = HashMap::new();
    for row in tx.rows(Sql::assembled(sql.concat()), about(caller, ids, now)).await? {
        let role: MemberRole = row.get::<String>("role")?.parse().map_err(Fault::internal)?;
        let (state, version) = (state_of(&row)?, row.get("version")?);
        let held = found.entry(ProcedureId(row.get("id")?)).or_insert_with(|| Membership {
            state,
            version,
            boxes: Vec::new(),
        });
        held.boxes.push((BoxId(row.get("box")?), role, row.get("restricted")?));
    }
    Ok(found)
}

/// What the caller is in a procedure, if anything.
pub(crate) async fn membership(
    tx: &mut Tx,
    caller: &Caller,
    id: ProcedureId,
    now: Time,
) -> Result<Option<Membership>> {
    Ok(memberships(tx, caller, &[id], now).await?.remove(&id))
}

/// What the caller is in a procedure in which they have a right.
///
/// # Errors
/// As [`require`].
pub(crate) async fn allowed(
    tx: &mut Tx,
    caller: &Caller,
    id: ProcedureId,
    right: Right,
    now: Time,
) -> Result<Membership> {
    let member = membership(tx, caller, id, now).await?.ok_or(ProblemCode::NotFound)?;
    if member.by(right).is_none() {
        return Err(ProblemCode::Forbidden.into());
    }
    if right != Right::Read {
        roles::require(tx, caller, caller.organisation, Permission::Write).await?;
    }
    if matches!(right, Right::Write | Right::Deposit) {
        open(member.state)?;
    }
    Ok(member)
}

/// Refuses unless the caller has this right in the procedure at this instant. What is then written depends on its
/// state: the transaction is to [`hold`] the procedure first.
///
/// # Errors
/// 404 when no membership in force names them, 403 when theirs does not give the right or their organisation gives
/// them no right to write, 409 when they would add to a procedure that is closed.
pub(crate) async fn require(
    tx: &mut Tx,
    caller: &Caller,
    id: ProcedureId,
    right: Right,
    now: Time,
) -> Result<()> {
    allowed(tx, caller, id, right, now).await.map(drop)
}

/// Holds a procedure until the transaction ends: its state and its members stand still meanwhile.
pub(crate) async fn hold(tx: &mut Tx, id: ProcedureId) -> Result<()> {
    tx.execute("UPDATE procedures SET version = version WHERE id = $1", args![id.0]).await?;
    Ok(())
}

/// Holds a procedure in which the caller has a right.
///
/// # Errors
/// As [`require`].
pub(crate) async fn enter(
    tx: &mut Tx,
    caller: &Caller,
    id: ProcedureId,
    right: Right,
    now: Time,
) -> Result<Membership> {
    hold(tx, id).await?;
    allowed(tx, caller, id, right, now).await
}

/// Refuses a procedure that is closed.
pub(crate) fn open(state: ProcedureState) -> Result<()> {
    match state {
        ProcedureState::Open => Ok(()),
        ProcedureState::Closed => {
            Err(Fault::because(ProblemCode::Conflict, "Ce dossier est clos ; il faut d'abord le rouvrir."))
        }
    }
}

fn state_of(row: &Row) -> Result<ProcedureState> {
    row.get::<String>("state")?.parse().map_err(|e: String| Fault::internal(e))
}

/// The procedure, if the caller may see it.
pub(crate) async fn load(
    tx: &mut Tx,
    caller: &Caller,
    id: ProcedureId,
    now: Time,
) -> Result<Option<Procedure>> {
    Ok(load_all(tx, caller, &[id], now).await?.pop())
}

/// Those that the caller may see, the newest first.
async fn load_all(tx: &mut Tx, caller: &Caller, ids: &[ProcedureId], now: Time) -> Result<Vec<Procedure>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let members = memberships(tx, caller, ids, now).await?;
    let mut known: HashMap<ProcedureId, Vec<Reference>> = HashMap::new();
    let sql = [
        "SELECT procedure, kind, value FROM procedure_references WHERE procedure IN (",
        &placeholders(1, ids.len()),
        ") ORDER BY procedure, idx",
    ];
    let listed: Args = ids.iter().map(|id| id.0.into()).collect::<Vec<_>>().into();
    for row in tx.rows(Sql::assembled(sql.concat()), listed).await? {
        let kind = row.get::<String>("kind")?.parse().map_err(Fault::internal)?;
        let reference = Reference { kind, value: row.get("value")? };
        known.entry(ProcedureId(row.get("procedure")?)).or_default().push(reference);
    }
    let sql = [
        "SELECT c.id, c.organisation, c.title, c.state, c.version, c.created, c.closed, a.address, a.name
         FROM procedures c JOIN boxes a ON a.id = c.opened_by WHERE c.id IN (",
        &placeholders(4, ids.len()),
        ") AND ($1 IS NULL OR c.id = $1) AND ",
        VISIBLE,
        " ORDER BY c.id DESC",
    ];
    let mut items = Vec::new();
    for row in tx.rows(Sql::assembled(sql.concat()), about(caller, ids, now)).await? {
        let id = ProcedureId(row.get("id")?);
        let Some(member) = members.get(&id) else { continue };
        let Some(role) = member.role() else { continue };
        items.push(Procedure {
            id,
            organisation: OrganisationId(row.get("organisation")?),
            title: row.get("title")?,
            references: known.remove(&id).unwrap_or_default(),
            state: state_of(&row)?,
            version: row.get("version")?,
            created: row.get("created")?,
            opened_by: Person { address: row.get("address")?, name: row.get("name")? },
            closed: row.get("closed")?,
            role,
            restricted: member.restricted(),
            warnings: None,
        });
    }
    Ok(items)
}

/// The procedure with what looks wrong in it.
async fn shown(tx: &mut Tx, caller: &Caller, id: ProcedureId, now: Time) -> Result<Procedure> {
    let mut procedure = load(tx, caller, id, now).await?.ok_or(ProblemCode::NotFound)?;
    let mut warnings = Vec::new();
    for (place, reference) in procedure.references.iter().enumerate() {
        let field = format!("references[{place}].value");
        if let Some(message) = references::doubt(reference) {
            warnings.push(Warning { field: field.clone(), message: message.to_owned() });
        }
        if is_elsewhere(tx, caller, id, reference, now).await? {
            let message = "Un autre dossier porte déjà cette référence.".to_owned();
            warnings.push(Warning { field, message });
        }
    }
    procedure.warnings = Some(warnings);
    Ok(procedure)
}

/// Whether another procedure that the caller may see has this reference. Looks at a hundred of its bearers.
async fn is_elsewhere(
    tx: &mut Tx,
    caller: &Caller,
    id: ProcedureId,
    reference: &Reference,
    now: Time,
) -> Result<bool> {
    let sql = [
        "SELECT c.id FROM (SELECT procedure FROM procedure_references WHERE folded = $5 AND kind = $6 LIMIT 100) r
         JOIN procedures c ON c.id = r.procedure WHERE c.id <> $4 AND ($1 IS NULL OR c.id = $1) AND ",
        VISIBLE,
        " LIMIT 1",
    ];
    let mut values = about(caller, &[id], now);
    values.push(compact(&reference.value));
    values.push(reference.kind.as_str());
    Ok(tx.optional(Sql::assembled(sql.concat()), values).await?.is_some())
}

fn title_of(given: &str) -> Result<&str> {
    line("Titre", given, 300)
}

/// Replaces the references of a held procedure.
async fn set_references(tx: &mut Tx, id: ProcedureId, references: &[Reference]) -> Result<()> {
    if references.len() > REFERENCES_MAX {
        return Err(Fault::because(
            ProblemCode::Invalid,
            format!("Références : {REFERENCES_MAX} au plus par dossier."),
        ));
    }
    tx.execute("DELETE FROM procedure_references WHERE procedure = $1", args![id.0]).await?;
    let mut seen = BTreeSet::new();
    for (place, reference) in (0_i64..).zip(references) {
        let (value, folded) = references::kept(reference)?;
        if !seen.insert((reference.kind.as_str(), folded.clone())) {
            return Err(Fault::because(
                ProblemCode::Invalid,
                format!("Référence donnée deux fois : {value}."),
            ));
        }
        tx.execute(
            "INSERT INTO procedure_references (procedure, kind, value, folded, idx) VALUES ($1, $2, $3, $4, $5)",
            args![id.0, reference.kind.as_str(), value, folded, place],
        )
        .await?;
    }
    Ok(())
}

/// POST /procedures. Who opens it manages it, and sees its restricted pieces.
pub(crate) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewProcedure>,
) -> Result<Response> {
    let title = title_of(&new.title)?;
    let (id, now) = (ProcedureId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    roles::require(&mut tx, &caller, caller.organisation, Permission::OpenProcedure).await?;
    tx.execute(
        "INSERT INTO procedures (id, organisation, title, folded, state, version, created, opened_by)
         VALUES ($1, $2, $3, $4, $5, 1, $6, $7)",
        args![
            id.0,
            caller.organisation.0,
            title,
            folded(title),
            ProcedureState::Open.as_str(),
            now,
            caller.account.0
        ],
    )
    .await?;
    set_references(&mut tx, id, &new.references).await?;
    tx.execute(
        "INSERT INTO procedure_members (procedure, box, role, restricted, version, added, added_by)
         VALUES ($1, $2, $3, $4, 1, $5, $2)",
        args![id.0, caller.account.0, MemberRole::Manager.as_str(), true, now],
    )
    .await?;
    let detail = serde_json::json!({ "organisation": caller.organisation });
    Event::new("procedure.opened").by(&caller).procedure(id).detail(detail).write(&mut tx, now).await?;
    let procedure = shown(&mut tx, &caller, id, now).await?;
    tx.commit().await?;
    let location = HeaderValue::from_str(&format!("/api/v1/procedures/{id}")).map_err(Fault::internal)?;
    let body = etag::tagged(procedure.version, procedure)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// What a list of procedures may be narrowed by.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcedureFilter {
    /// What one of its references begins with.
    pub(crate) reference: Option<String>,
    /// Of which kind that reference is.
    pub(crate) kind: Option<ReferenceKind>,
    /// What stands in its title.
    pub(crate) title: Option<String>,
    /// What one of the caller's boxes is in it.
    pub(crate) role: Option<MemberRole>,
    pub(crate) state: Option<ProcedureState>,
    pub(crate) after: Option<ProcedureId>,
    pub(crate) limit: Option<u32>,
}

/// The query of one box's page, the newest first. It walks the memberships of the box from where the page begins,
/// by their index; `CROSS JOIN` keeps SQLite from walking all procedures instead.
pub(crate) fn page_of_box(filter: &ProcedureFilter) -> String {
    let mut sql = "SELECT m.procedure AS id FROM procedure_members m CROSS JOIN procedures c
         WHERE m.box = $1 AND m.procedure < $2 AND c.id = m.procedure AND m.removed IS NULL
         AND (m.ends IS NULL OR m.ends > $3) AND ($4 IS NULL OR m.procedure = $4)"
        .to_owned();
    let mut next = 6_usize;
    let mut narrow = |given: bool, before: &str, after: &str| {
        if given {
            sql.push_str(&format!(" AND {before} ${next}{after}"));
            next = next.saturating_add(1);
        }
    };
    narrow(filter.role.is_some(), "m.role =", "");
    narrow(filter.state.is_some(), "c.state =", "");
    narrow(filter.title.is_some(), "c.folded LIKE '%' ||", " || '%'");
    let reference = "EXISTS (SELECT 1 FROM procedure_references r WHERE r.procedure = c.id AND";
    narrow(filter.reference.is_some(), &format!("{reference} r.folded LIKE"), " || '%'");
    if filter.reference.is_some() {
        narrow(filter.kind.is_some(), "r.kind =", "");
        sql.push(')');
    } else {
        narrow(filter.kind.is_some(), &format!("{reference} r.kind ="), ")");
    }
    sql.push_str(" ORDER BY m.procedure DESC LIMIT $5");
    sql
}

/// GET /procedures, the newest first: those of the caller's boxes.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<ProcedureFilter>,
) -> Result<Json<Page<Procedure>>> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 200) as usize;
    let after = filter.after.map_or(Uuid::max(), |id| id.0);
    let now = hub.now();
    let mut tx = hub.db().read().await?;
    let boxes =
        "SELECT id FROM boxes WHERE id = $1 UNION ALL SELECT service FROM service_members WHERE account = $1";
    let mut found = BTreeSet::new();
    // A page of each box, then the newest of them all: no box is read further than the page.
    for row in tx.rows(boxes, args![caller.account.0]).await? {
        let id: Uuid = row.get("id")?;
        let mut values = args![id, after, now, caller.scope(), i64::try_from(limit).unwrap_or(0) + 1];
        if let Some(role) = filter.role {
            values.push(role.as_str());
        }
        if let Some(state) = filter.state {
            values.push(state.as_str());
        }
        // Folded texts hold letters, digits and spaces only: nothing that LIKE gives a meaning to.
        if let Some(title) = &filter.title {
            values.push(folded(title));
        }
        if let Some(reference) = &filter.reference {
            values.push(compact(reference));
        }
        if let Some(kind) = filter.kind {
            values.push(kind.as_str());
        }
        for row in tx.rows(Sql::assembled(page_of_box(&filter)), values).await? {
            found.insert(ProcedureId(row.get("id")?));
        }
    }
    let more = found.len() > limit;
    let ids: Vec<ProcedureId> = found.into_iter().rev().take(limit).collect();
    let next = if more { ids.last().map(ToString::to_string) } else { None };
    Ok(Json(Page { items: load_all(&mut tx, &caller, &ids, now).await?, next }))
}

/// GET /procedures/{id}.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ProcedureId>,
) -> Result<Response> {
    let mut tx = hub.db().read().await?;
    let procedure = shown(&mut tx, &caller, id, hub.now()).await?;
    etag::tagged(procedure.version, procedure)
}

/// PATCH /procedures/{id}: its title, its references.
pub(crate) async fn change(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ProcedureId>,
    headers: HeaderMap,
    Json(change): Json<ProcedureChange>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let member = enter(&mut tx, &caller, id, Right::Manage, now).await?;
    open(member.state)?;
    etag::require(&headers, member.version)?;
    let mut fields = Vec::new();
    if let Some(title) = &change.title {
        let title = title_of(title)?;
        let sql = "UPDATE procedures SET title = $2, folded = $3 WHERE id = $1";
        tx.execute(sql, args![id.0, title, folded(title)]).await?;
        fields.push("title");
    }
    if let Some(references) = &change.references {
        set_references(&mut tx, id, references).await?;
        fields.push("references");
    }
    if !fields.is_empty() {
        tx.execute("UPDATE procedures SET version = version + 1 WHERE id = $1", args![id.0]).await?;
        let detail = serde_json::json!({ "fields": fields });
        Event::new("procedure.changed").by(&caller).procedure(id).detail(detail).write(&mut tx, now).await?;
    }
    let procedure = shown(&mut tx, &caller, id, now).await?;
    tx.commit().await?;
    etag::tagged(procedure.version, procedure)
}

/// POST /procedures/{id}/close.
pub(crate) async fn close(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ProcedureId>,
    headers: HeaderMap,
) -> Result<Response> {
    turn(&hub, &caller, id, &headers, "procedure.closed", ProcedureState::close).await
}

/// POST /procedures/{id}/reopen.
pub(crate) async fn reopen(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ProcedureId>,
    headers: HeaderMap,
) -> Result<Response> {
    turn(&hub, &caller, id, &headers, "procedure.reopened", ProcedureState::reopen).await
}

async fn turn(
    hub: &Hub,
    caller: &Caller,
    id: ProcedureId,
    headers: &HeaderMap,
    kind: &'static str,
    to: fn(ProcedureState) -> Result<ProcedureState, pli_api::InvalidTransition>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let member = enter(&mut tx, caller, id, Right::Manage, now).await?;
    etag::check(headers, member.version)?;
    let state = to(member.state).map_err(|_| ProblemCode::Conflict)?;
    let closed = if state == ProcedureState::Closed { Some(now) } else { None };
    tx.execute(
        "UPDATE procedures SET state = $2, closed = $3, version = version + 1 WHERE id = $1",
        args![id.0, state.as_str(), closed],
    )
    .await?;
    Event::new(kind).by(caller).procedure(id).write(&mut tx, now).await?;
    let procedure = shown(&mut tx, caller, id, now).await?;
    tx.commit().await?;
    etag::tagged(procedure.version, procedure)
}
