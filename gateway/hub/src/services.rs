//! Services: boxes that several people share, each under their own name.
//!
//! Owns the routes and the commands of services. A service is seen by its members and by the managers of its
//! organisation, and changed by the latter, in person.

use crate::Hub;
use crate::access::{Actor, Caller};
use crate::boxes::{self, NewBox, Texts, line, line_or_nothing};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::organisations::{self, Named};
use crate::people;
use crate::roles::{self, Permission};
use crate::uploads::const_sql;
use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use pli_api::{
    AccountId, BoxKind, NewService, OrganisationId, Page, ProblemCode, Service, ServiceChange, ServiceId,
    ServiceMember, SharedBox, Time,
};
use pli_storage::{Row, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// The most characters of a service's name and of its function.
const TEXT_MAX: usize = 200;
/// The most people who share a box.
const MEMBERS_MAX: i64 = 500;

const COLUMNS: &str = "b.id, b.organisation, b.address, b.name, b.function, b.version, b.created, b.closed";

/// True in SQL when account `$1` manages the organisation of box `b`.
fn managed() -> String {
    let roles = roles::words_with(Permission::Manage);
    format!(
        "EXISTS (SELECT 1 FROM roles r WHERE r.account = $1 AND r.organisation = b.organisation AND r.role IN ({roles}))"
    )
}

/// True in SQL when account `$1` shares box `b`.
const SHARED: &str = "EXISTS (SELECT 1 FROM service_members m WHERE m.service = b.id AND m.account = $1)";

fn service(row: &Row) -> Result<Service> {
    Ok(Service {
        id: ServiceId(row.get("id")?),
        organisation: OrganisationId(row.get("organisation")?),
        address: row.get("address")?,
        name: row.get("name")?,
        function: row.get("function")?,
        version: row.get("version")?,
        created: row.get("created")?,
        closed: row.get("closed")?,
        members: None,
    })
}

/// The service with its members, if the caller shares it or manages its organisation.
async fn load(tx: &mut Tx, caller: &Caller, id: ServiceId) -> Result<Option<Service>> {
    let sql = const_sql(&[
        "SELECT ",
        COLUMNS,
        " FROM boxes b WHERE b.id = $2 AND b.kind = 'service' AND (",
        SHARED,
        " OR ",
        &managed(),
        ")",
    ]);
    let Some(row) = tx.optional(sql, args![caller.account.0, id.0]).await? else { return Ok(None) };
    let members = tx
        .rows(
            "SELECT m.account, b.address, b.name, m.added FROM service_members m JOIN boxes b ON b.id = m.account
             WHERE m.service = $1 ORDER BY b.folded, b.id",
            args![id.0],
        )
        .await?;
    let member = |row: &Row| -> Result<ServiceMember> {
        Ok(ServiceMember {
            account: AccountId(row.get("account")?),
            address: row.get("address")?,
            name: row.get("name")?,
            added: row.get("added")?,
        })
    };
    Ok(Some(Service { members: Some(members.iter().map(member).collect::<Result<_>>()?), ..service(&row)? }))
}

/// The organisation of a service, if the caller manages it.
///
/// # Errors
/// 404 when the caller does not see it, 403 when they share it and do not manage it.
async fn require_managed(tx: &mut Tx, caller: &Caller, id: ServiceId) -> Result<Service> {
    let service = load(tx, caller, id).await?.ok_or(ProblemCode::NotFound)?;
    roles::require(tx, caller, service.organisation, Permission::Manage).await?;
    Ok(service)
}

/// The open services that an account shares.
pub(crate) async fn shared_with(tx: &mut Tx, account: AccountId) -> Result<Vec<SharedBox>> {
    let rows = tx
        .rows(
            "SELECT b.id, b.address, b.name FROM service_members m JOIN boxes b ON b.id = m.service
             WHERE m.account = $1 AND b.closed IS NULL ORDER BY b.folded, b.id",
            args![account.0],
        )
        .await?;
    let shared = |row: &Row| -> Result<SharedBox> {
        Ok(SharedBox { id: ServiceId(row.get("id")?), address: row.get("address")?, name: row.get("name")? })
    };
    rows.iter().map(shared).collect()
}

async fn add(
    tx: &mut Tx,
    now: Time,
    by: Option<Actor>,
    organisation: OrganisationId,
    new: &NewService,
) -> Result<ServiceId> {
    let id = ServiceId::new();
    let address = people::address(&new.address)?;
    let made = NewBox {
        id: id.into(),
        kind: BoxKind::Service,
        organisation,
        address: &address,
        name: line("Nom", &new.name, TEXT_MAX)?,
        function: line_or_nothing("Fonction", &new.function, TEXT_MAX)?,
        speciality: "",
    };
    // Looked up first: a statement that fails would leave nothing but a rollback, and say less.
    if tx.optional("SELECT id FROM boxes WHERE address = $1", args![address.as_str()]).await?.is_some() {
        return Err(Fault::because(ProblemCode::Conflict, "Cette adresse est déjà prise."));
    }
    boxes::insert(tx, now, &made).await?;
    event("service.added", by, id, serde_json::json!({ "organisation": organisation }))
        .write(tx, now)
        .await?;
    Ok(id)
}

fn event(kind: &'static str, by: Option<Actor>, id: ServiceId, mut detail: serde_json::Value) -> Event {
    if let Some(object) = detail.as_object_mut() {
        object.insert("service".to_owned(), serde_json::json!(id));
    }
    let event = Event::new(kind).detail(detail);
    match by {
        Some(actor) => event.by(actor),
        None => event,
    }
}

/// Lets someone share a box; without effect when they do.
async fn add_member(
    tx: &mut Tx,
    now: Time,
    by: Option<Actor>,
    id: ServiceId,
    account: AccountId,
) -> Result<()> {
    tx.lock(&format!("members of {id}")).await?;
    let count = tx.one("SELECT COUNT(*) AS n FROM service_members WHERE service = $1", args![id.0]).await?;
    if count.get::<i64>("n")? >= MEMBERS_MAX {
        return Err(Fault::because(
            ProblemCode::TooMany,
            format!("Au plus {MEMBERS_MAX} membres par service."),
        ));
    }
    let added = tx
        .execute(
            "INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)
             ON CONFLICT (service, account) DO NOTHING",
            args![id.0, account.0, now],
        )
        .await?;
    if added > 0 {
        event("service.member_added", by, id, serde_json::json!({ "account": account }))
            .write(tx, now)
            .await?;
    }
    Ok(())
}

/// Gives whether they shared the box.
async fn drop_member(
    tx: &mut Tx,
    now: Time,
    by: Option<Actor>,
    id: ServiceId,
    account: AccountId,
) -> Result<bool> {
    let sql = "DELETE FROM service_members WHERE service = $1 AND account = $2";
    if tx.execute(sql, args![id.0, account.0]).await? == 0 {
        return Ok(false);
    }
    event("service.member_removed", by, id, serde_json::json!({ "account": account })).write(tx, now).await?;
    Ok(true)
}

/// POST /services.
pub(crate) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewService>,
) -> Result<(StatusCode, Json<Service>)> {
    let (now, organisation) = (hub.now(), new.organisation.unwrap_or(caller.organisation));
    let mut tx = hub.db().write().await?;
    organisations::require_manager(&mut tx, &caller, organisation).await?;
    let id = add(&mut tx, now, Some((&caller).into()), organisation, &new).await?;
    let made = load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// How a list of services is paged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServicePage {
    after: Option<ServiceId>,
    limit: Option<u32>,
}

/// GET /services: those that the caller shares, and all of the organisations that the caller manages.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(page): Query<ServicePage>,
) -> Result<Json<Page<Service>>> {
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let roles = roles::words_with(Permission::Manage);
    // From the caller's own rows outwards: nothing here grows with the services of others.
    let sql = const_sql(&[
        "SELECT ",
        COLUMNS,
        " FROM boxes b WHERE b.kind = 'service' AND b.id > $2 AND b.id IN (
            SELECT service FROM service_members WHERE account = $1
            UNION SELECT s.id FROM roles r JOIN boxes s ON s.organisation = r.organisation AND s.kind = 'service'
            WHERE r.account = $1 AND r.role IN (",
        &roles,
        ")) ORDER BY b.id LIMIT $3",
    ]);
    let after = page.after.map_or(Uuid::nil(), |id| id.0);
    let rows = hub.db().rows(sql, args![caller.account.0, after, i64::from(limit) + 1]).await?;
    let items: Vec<_> = rows.iter().take(limit as usize).map(service).collect::<Result<_>>()?;
    let next = if rows.len() > items.len() { items.last().map(|s| s.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// GET /services/{id}.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ServiceId>,
) -> Result<Json<Service>> {
    let mut tx = hub.db().read().await?;
    Ok(Json(load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?))
}

/// PATCH /services/{id}: a new name or function, unless someone else changed it since it was read.
pub(crate) async fn change(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ServiceId>,
    Json(change): Json<ServiceChange>,
) -> Result<Json<Service>> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let before = require_managed(&mut tx, &caller, id).await?;
    let name = line("Nom", change.name.as_deref().unwrap_or(&before.name), TEXT_MAX)?;
    let function =
        line_or_nothing("Fonction", change.function.as_deref().unwrap_or(&before.function), TEXT_MAX)?;
    if before.closed.is_some() {
        return Err(Fault::because(ProblemCode::Conflict, "Ce service est fermé."));
    }
    let texts = Texts { name, function, speciality: "" };
    let version = Some(change.version.max(0));
    if change.version < 0 || !boxes::describe(&mut tx, id.into(), version, texts).await? {
        return Err(Fault::because(
            ProblemCode::Conflict,
            "Ce service a été modifié entre-temps : relisez-le avant de le modifier.",
        ));
    }
    event("service.changed", Some((&caller).into()), id, serde_json::json!({})).write(&mut tx, now).await?;
    let changed = load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    Ok(Json(changed))
}

/// DELETE /services/{id}: nobody writes to it any more; its members keep reading its past.
pub(crate) async fn close(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ServiceId>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    require_managed(&mut tx, &caller, id).await?;
    let sql = "UPDATE boxes SET closed = $2, version = version + 1 WHERE id = $1 AND closed IS NULL";
    if tx.execute(sql, args![id.0, now]).await? == 0 {
        return Err(Fault::because(ProblemCode::Conflict, "Ce service est déjà fermé."));
    }
    event("service.closed", Some((&caller).into()), id, serde_json::json!({})).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// PUT /services/{id}/members/{account}: someone of the organisation shares the box.
pub(crate) async fn put_member(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, account)): Path<(ServiceId, AccountId)>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let service = require_managed(&mut tx, &caller, id).await?;
    if service.closed.is_some() {
        return Err(Fault::because(ProblemCode::Conflict, "Ce service est fermé."));
    }
    organisations::require_colleague(&mut tx, service.organisation, account, true).await?;
    add_member(&mut tx, now, Some((&caller).into()), id, account).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// DELETE /services/{id}/members/{account}.
pub(crate) async fn delete_member(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, account)): Path<(ServiceId, AccountId)>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    require_managed(&mut tx, &caller, id).await?;
    if !drop_member(&mut tx, now, Some((&caller).into()), id, account).await? {
        return Err(ProblemCode::NotFound.into());
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The operator adds a service to an organisation, named by its id or its exact name.
///
/// # Errors
/// 404 without such an organisation, 409 for an address that has a box, 422 for what is malformed.
pub async fn add_service(hub: &Hub, organisation: &str, new: &NewService) -> Result<ServiceId> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let Named { id: organisation, .. } = organisations::named(&mut tx, organisation).await?;
    let id = add(&mut tx, now, None, organisation, new).await?;
    tx.commit().await?;
    Ok(id)
}

/// The operator lets someone share a service's box, or no longer; both are named by their addresses.
///
/// # Errors
/// 404 without such an open service or such a person of its organisation, or when there is nobody to remove.
pub async fn set_member(hub: &Hub, service: &str, person: &str, shares: bool) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "SELECT id, organisation FROM boxes WHERE address = $1 AND kind = 'service' AND closed IS NULL";
    let row = tx.optional(sql, args![people::address(service)?]).await?;
    let row =
        row.ok_or_else(|| Fault::because(ProblemCode::NotFound, "Aucun service ouvert à cette adresse."))?;
    let (id, organisation) = (ServiceId(row.get("id")?), OrganisationId(row.get("organisation")?));
    let account = organisations::person(&mut tx, person).await?;
    if shares {
        organisations::require_colleague(&mut tx, organisation, account, true).await?;
        add_member(&mut tx, now, None, id, account).await?;
    } else if !drop_member(&mut tx, now, None, id, account).await? {
        return Err(Fault::because(ProblemCode::NotFound, "Cette personne ne partage pas cette boîte."));
    }
    tx.commit().await?;
    Ok(())
}
