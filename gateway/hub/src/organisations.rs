//! Organisations as their managers run them: who is in them, and what each is there.
//!
//! Owns the routes and commands of roles. Every change is made in person: a delegate who could give roles would
//! keep them after the delegation.

use crate::Hub;
use crate::access::Caller;
use crate::boxes;
use crate::fault::{Fault, Result};
use crate::people;
use crate::roles::{self, Permission, allows};
use crate::uploads::const_sql;
use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use pli_api::{AccountId, Colleague, OrganisationId, OrganisationKind, Page, ProblemCode, Role};
use pli_storage::{Row, Tx, args};
use serde::Deserialize;
use std::collections::HashMap;
use uuid::Uuid;

/// An organisation that an operator named.
pub(crate) struct Named {
    pub(crate) id: OrganisationId,
    pub(crate) kind: OrganisationKind,
    pub(crate) name: String,
}

/// The organisation of this id or exact name.
///
/// # Errors
/// 404 when there is none, or more than one of the name.
pub(crate) async fn named(tx: &mut Tx, name: &str) -> Result<Named> {
    let rows = match name.parse::<OrganisationId>() {
        Ok(id) => tx.rows("SELECT id, kind, name FROM organisations WHERE id = $1", args![id.0]).await?,
        Err(_) => {
            let sql = "SELECT id, kind, name FROM organisations WHERE name = $1 LIMIT 2";
            tx.rows(sql, args![name.trim()]).await?
        }
    };
    let [row] = rows.as_slice() else {
        return Err(Fault::because(ProblemCode::NotFound, "Aucune organisation, ou plusieurs, de ce nom."));
    };
    Ok(Named {
        id: OrganisationId(row.get("id")?),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        name: row.get("name")?,
    })
}

/// The open account of this address.
///
/// # Errors
/// 404 when there is none.
pub(crate) async fn person(tx: &mut Tx, address: &str) -> Result<AccountId> {
    let sql = "SELECT id FROM boxes WHERE address = $1 AND kind = 'person' AND closed IS NULL";
    let row = tx.optional(sql, args![people::address(address)?]).await?;
    let row =
        row.ok_or_else(|| Fault::because(ProblemCode::NotFound, "Aucun compte ouvert à cette adresse."))?;
    Ok(AccountId(row.get("id")?))
}

/// Refuses unless the caller manages this organisation.
///
/// # Errors
/// 404 for someone who is nothing there, 403 for someone who is something else.
pub(crate) async fn require_manager(
    tx: &mut Tx,
    caller: &Caller,
    organisation: OrganisationId,
) -> Result<()> {
    let roles = roles::of(tx, caller.account, organisation).await?;
    if roles.iter().any(|role| allows(*role, Permission::Manage)) {
        return Ok(());
    }
    let insider = !roles.is_empty() || organisation == caller.organisation;
    Err(if insider { ProblemCode::Forbidden } else { ProblemCode::NotFound }.into())
}

/// Refuses unless the account belongs to the organisation, by home or by a role there. A manager reaches nobody
/// else: whom to let in from outside is the operator's to say.
///
/// # Errors
/// 404; also for a closed account when it has to be open.
pub(crate) async fn require_colleague(
    tx: &mut Tx,
    organisation: OrganisationId,
    account: AccountId,
    open: bool,
) -> Result<()> {
    let row = tx
        .optional(
            "SELECT b.closed FROM boxes b WHERE b.id = $2 AND b.kind = 'person' AND (b.organisation = $1
                OR EXISTS (SELECT 1 FROM roles r WHERE r.account = b.id AND r.organisation = $1))",
            args![organisation.0, account.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    if open && row.get::<Option<i64>>("closed")?.is_some() {
        return Err(ProblemCode::NotFound.into());
    }
    Ok(())
}

/// How a list of people is paged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeoplePage {
    after: Option<AccountId>,
    limit: Option<u32>,
}

/// GET /organisations/{id}/people: for its managers, in the order in which they came, closed accounts too.
pub(crate) async fn list_people(
    State(hub): State<Hub>,
    caller: Caller,
    Path(organisation): Path<OrganisationId>,
    Query(page): Query<PeoplePage>,
) -> Result<Json<Page<Colleague>>> {
    let limit = page.limit.unwrap_or(50).clamp(1, 200);
    let after = page.after.map_or(Uuid::nil(), |id| id.0);
    let mut tx = hub.db().read().await?;
    require_manager(&mut tx, &caller, organisation).await?;
    let rows = tx
        .rows(
            "SELECT b.id, b.address, b.name, b.function, b.closed FROM boxes b
             WHERE b.kind = 'person' AND b.id > $2 AND b.id IN (
                SELECT id FROM boxes WHERE organisation = $1
                UNION SELECT account FROM roles WHERE organisation = $1)
             ORDER BY b.id LIMIT $3",
            args![organisation.0, after, i64::from(limit) + 1],
        )
        .await?;
    let colleague = |row: &Row| -> Result<Colleague> {
        Ok(Colleague {
            account: AccountId(row.get("id")?),
            address: row.get("address")?,
            name: row.get("name")?,
            function: row.get("function")?,
            closed: row.get("closed")?,
            roles: Vec::new(),
        })
    };
    let mut items: Vec<_> = rows.iter().take(limit as usize).map(colleague).collect::<Result<_>>()?;
    if !items.is_empty() {
        let mut values = args![organisation.0];
        let list = boxes::places(&mut values, items.iter().map(|item| item.account.0));
        let sql = const_sql(&[
            "SELECT account, role FROM roles WHERE organisation = $1 AND account IN (",
            &list,
            ") ORDER BY account, role",
        ]);
        let mut roles: HashMap<Uuid, Vec<Role>> = HashMap::new();
        for row in tx.rows(sql, values).await? {
            let role = row.get::<String>("role")?.parse().map_err(Fault::internal)?;
            roles.entry(row.get("account")?).or_default().push(role);
        }
        for item in &mut items {
            item.roles = roles.remove(&item.account.0).unwrap_or_default();
        }
    }
    let next = if rows.len() > items.len() { items.last().map(|p| p.account.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// The word of a role in an address.
fn role(word: &str) -> Result<Role> {
    word.parse().map_err(|_| ProblemCode::NotFound.into())
}

/// PUT /organisations/{id}/people/{account}/roles/{role}.
pub(crate) async fn grant(
    State(hub): State<Hub>,
    caller: Caller,
    Path((organisation, account, word)): Path<(OrganisationId, AccountId, String)>,
) -> Result<StatusCode> {
    let (now, role) = (hub.now(), role(&word)?);
    let mut tx = hub.db().write().await?;
    require_manager(&mut tx, &caller, organisation).await?;
    require_colleague(&mut tx, organisation, account, true).await?;
    if roles::grant(&mut tx, now, account, organisation, role).await? {
        roles::event("role.granted", account, organisation, role).by(&caller).write(&mut tx, now).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// DELETE /organisations/{id}/people/{account}/roles/{role}.
pub(crate) async fn revoke(
    State(hub): State<Hub>,
    caller: Caller,
    Path((organisation, account, word)): Path<(OrganisationId, AccountId, String)>,
) -> Result<StatusCode> {
    let (now, role) = (hub.now(), role(&word)?);
    let mut tx = hub.db().write().await?;
    // Held before the caller's own right is read: of two managers who dismiss each other, the second is none.
    tx.lock(&format!("managers of {organisation}")).await?;
    require_manager(&mut tx, &caller, organisation).await?;
    require_colleague(&mut tx, organisation, account, false).await?;
    if !roles::of(&mut tx, account, organisation).await?.contains(&role) {
        return Err(ProblemCode::NotFound.into());
    }
    if roles::revoke(&mut tx, account, organisation, role).await? {
        roles::event("role.revoked", account, organisation, role).by(&caller).write(&mut tx, now).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The operator gives a role, to anyone in any organisation, or takes it away.
///
/// # Errors
/// 404 without such an organisation, person or role; 409 for the last manager.
pub async fn set_role(hub: &Hub, organisation: &str, address: &str, role: Role, has: bool) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let Named { id: organisation, .. } = named(&mut tx, organisation).await?;
    let account = person(&mut tx, address).await?;
    if has {
        if roles::grant(&mut tx, now, account, organisation, role).await? {
            roles::event("role.granted", account, organisation, role).write(&mut tx, now).await?;
        }
    } else if !roles::of(&mut tx, account, organisation).await?.contains(&role) {
        return Err(Fault::because(ProblemCode::NotFound, "Cette personne n'a pas ce rôle."));
    } else if roles::revoke(&mut tx, account, organisation, role).await? {
        roles::event("role.revoked", account, organisation, role).write(&mut tx, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// The operator says to which court an office belongs: its people are found by it from then on.
///
/// # Errors
/// 404 without such an office or such a court.
pub async fn set_court(hub: &Hub, office: &str, court: &str) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (office, court) = (named(&mut tx, office).await?, named(&mut tx, court).await?);
    if office.kind != OrganisationKind::Office || court.kind != OrganisationKind::Court {
        return Err(Fault::because(ProblemCode::Invalid, "Un cabinet ou un greffe, puis une juridiction."));
    }
    tx.execute("UPDATE organisations SET court = $2 WHERE id = $1", args![office.id.0, court.id.0]).await?;
    boxes::index_organisation(&mut tx, office.id).await?;
    let detail = serde_json::json!({ "organisation": office.id, "court": court.id });
    crate::journal::Event::new("organisation.changed").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    Ok(())
}
