//! Deposits: documents that a sender puts at the disposal of named recipients.
//!
//! Owns the tables `deposits` and `recipients`. Every load is filtered by its caller; what is not the
//! caller's does not exist for them.

use crate::access::Caller;
use crate::antivirus::Standing;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::uploads::const_sql;
use crate::{Hub, antivirus, documents, notices, people};
use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use pli_api::{
    Deposit, DepositBox, DepositId, DepositState, DocumentState, MessageId, NewDeposit, OrganisationId, Page,
    Person, ProblemCode, ProcedureId, ScanState, Time, UploadId,
};
use pli_storage::{Args, Row, Tx, args};
use serde::Deserialize;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The most recipients of a deposit.
pub(crate) const RECIPIENTS_MAX: usize = 100;

const COLUMNS: &str = "p.id, p.sender, p.subject, p.reference, p.state, p.retention_days, p.created, p.sent,
    p.available, p.expires, a.address AS sender_address, a.name AS sender_name";

/// True in SQL when account `$2` may see deposit `p` at instant `$3`: from or to its own box, or one of a
/// service that it belongs to. Where a procedure `$4` limits the caller, only what is in a message of it.
pub(crate) const VISIBLE: &str =
    "($4 IS NULL OR EXISTS (SELECT 1 FROM messages g WHERE g.deposit = p.id AND g.procedure = $4))
    AND (p.sender IN (SELECT id FROM boxes WHERE id = $2
        UNION ALL SELECT service FROM service_members WHERE account = $2)
    OR (p.state = 'available' AND p.expires > $3 AND EXISTS (
        SELECT 1 FROM recipients r WHERE r.deposit = p.id AND r.withdrawn IS NULL
        AND r.box IN (SELECT id FROM boxes WHERE id = $2
            UNION ALL SELECT service FROM service_members WHERE account = $2))))";

/// The bounds of retention in an organisation, in days, and what is taken when the sender says nothing: its own,
/// and the operator's where it has none.
pub(crate) async fn retention_bounds(
    hub: &Hub,
    tx: &mut Tx,
    organisation: OrganisationId,
) -> Result<(u32, u32, u32)> {
    let sql = "SELECT retention_min, retention_max, retention_usual FROM organisations WHERE id = $1";
    let row = tx.one(sql, args![organisation.0]).await?;
    let own = |column: &str| -> Result<Option<u32>> {
        Ok(row.get::<Option<i64>>(column)?.and_then(|days| u32::try_from(days).ok()))
    };
    let (least, most, usual) = hub.options().retention_days;
    let least = own("retention_min")?.unwrap_or(least);
    // One bound of its own may lie beyond the operator's other one.
    let most = own("retention_max")?.unwrap_or(most).max(least);
    let usual = own("retention_usual")?.unwrap_or(usual).clamp(least, most);
    Ok((least, most, usual))
}

/// POST /deposits: a draft.
pub(crate) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewDeposit>,
) -> Result<(StatusCode, Json<Deposit>)> {
    let (subject, reference) = (new.subject.trim(), new.reference.as_deref().filter(|r| !r.is_empty()));
    let odd = |text: &str, most: usize| text.chars().count() > most || text.chars().any(char::is_control);
    if odd(subject, 300) || reference.is_some_and(|r| odd(r, 200)) {
        return Err(Fault::because(
            ProblemCode::Invalid,
            "Objet (300 caractères) ou référence (200) non permis.",
        ));
    }
    let addresses = new.recipients.iter().map(|a| people::address(a)).collect::<Result<BTreeSet<_>>>()?;
    if addresses.is_empty() || addresses.len() > RECIPIENTS_MAX {
        return Err(Fault::because(ProblemCode::Invalid, format!("De 1 à {RECIPIENTS_MAX} destinataires.")));
    }

    let (id, now) = (DepositId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    let days = retention(&mut tx, &hub, caller.organisation, new.retention_days).await?;
    // Without effect when the caller has a draft of this reference, also one made this very moment.
    let made = tx
        .execute(
            "INSERT INTO deposits (id, sender, author, organisation, subject, reference, state, retention_days, version, created)
             VALUES ($1, $2, $8, $3, $4, $5, 'draft', $6, 0, $7)
             ON CONFLICT (sender, reference) WHERE state = 'draft' DO NOTHING",
            args![
                id.0,
                caller.account.0,
                caller.organisation.0,
                subject,
                reference,
                days,
                now,
                caller.person().0
            ],
        )
        .await?;
    if made == 0 {
        let sql = "SELECT id FROM deposits WHERE sender = $1 AND reference = $2 AND state = 'draft'";
        let row = tx.optional(sql, args![caller.account.0, reference]).await?.ok_or(ProblemCode::Conflict)?;
        let draft = load(&mut tx, &caller, DepositId(row.get("id")?), now).await?;
        return Ok((StatusCode::OK, Json(draft.ok_or(ProblemCode::NotFound)?)));
    }
    for address in &addresses {
        let added = tx
            .execute(
                "INSERT INTO recipients (deposit, box, added)
                 SELECT $1, id, $3 FROM boxes WHERE address = $2 AND closed IS NULL",
                args![id.0, address.as_str(), now],
            )
            .await?;
        if added == 0 {
            return Err(Fault::because(
                ProblemCode::UnknownRecipient,
                format!("Pas de compte pour {address}."),
            ));
        }
    }
    Event::new("deposit.drafted").by(&caller).deposit(id).write(&mut tx, now).await?;
    let deposit = load(&mut tx, &caller, id, now).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(deposit)))
}

/// The days at disposal that are asked for, or the usual ones, within the organisation's bounds and, where it
/// has none, the operator's.
///
/// # Errors
/// 422 when they lie outside.
pub(crate) async fn retention(
    tx: &mut Tx,
    hub: &Hub,
    organisation: OrganisationId,
    asked: Option<u32>,
) -> Result<i64> {
    let (least, most, usual) = retention_bounds(hub, tx, organisation).await?;
    let days = asked.unwrap_or(usual);
    if !(least..=most).contains(&days) {
        return Err(Fault::because(
            ProblemCode::Invalid,
            format!("Durée de conservation : de {least} à {most} jours."),
        ));
    }
    Ok(i64::from(days))
}

/// The deposit with its documents, if the caller may see it.
pub(crate) async fn load(tx: &mut Tx, caller: &Caller, id: DepositId, now: Time) -> Result<Option<Deposit>> {
    let sql = const_sql(&[
        "SELECT ",
        COLUMNS,
        " FROM deposits p JOIN boxes a ON a.id = p.sender WHERE p.id = $1 AND ",
        VISIBLE,
    ]);
    let Some(row) = tx.optional(sql, args![id.0, caller.account.0, now, caller.scope()]).await? else {
        return Ok(None);
    };
    let mut deposit = summary(tx, caller, &row).await?;
    deposit.documents = Some(documents::of_deposit(tx, id).await?);
    Ok(Some(deposit))
}

async fn summary(tx: &mut Tx, caller: &Caller, row: &Row) -> Result<Deposit> {
    let id = DepositId(row.get("id")?);
    let sender: Uuid = row.get("sender")?;
    let rows = tx
        .rows(
            "SELECT a.address, a.name FROM recipients r JOIN boxes a ON a.id = r.box
             WHERE r.deposit = $1 AND r.withdrawn IS NULL ORDER BY a.address",
            args![id.0],
        )
        .await?;
    let person =
        |row: &Row| -> Result<Person> { Ok(Person { address: row.get("address")?, name: row.get("name")? }) };
    Ok(Deposit {
        id,
        subject: row.get("subject")?,
        reference: if sender == caller.account.0 { row.get("reference")? } else { None },
        sender: Person { address: row.get("sender_address")?, name: row.get("sender_name")? },
        recipients: rows.iter().map(person).collect::<Result<_>>()?,
        state: state_of(row)?,
        retention_days: u32::try_from(row.get::<i64>("retention_days")?).unwrap_or(0),
        created: row.get("created")?,
        sent: row.get("sent")?,
        available: row.get("available")?,
        expires: row.get("expires")?,
        documents: None,
    })
}

pub(crate) fn state_of(row: &Row) -> Result<DepositState> {
    row.get::<String>("state")?.parse().map_err(|e: String| Fault::internal(e))
}

/// What a list of deposits may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DepositFilter {
    #[serde(rename = "box")]
    which: DepositBox,
    after: Option<DepositId>,
    limit: Option<u32>,
}

/// GET /deposits, the newest first.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<DepositFilter>,
) -> Result<Json<Page<Deposit>>> {
    let condition = match filter.which {
        DepositBox::Draft => "p.sender = $2 AND p.state = 'draft' AND $1 > 0",
        DepositBox::Sent => "p.sender = $2 AND p.state <> 'draft' AND $1 > 0",
        DepositBox::Received => {
            "p.state = 'available' AND p.expires > $1 AND EXISTS (
                 SELECT 1 FROM recipients r WHERE r.deposit = p.id AND r.withdrawn IS NULL
                 AND r.box IN (SELECT id FROM boxes WHERE id = $2
                     UNION ALL SELECT service FROM service_members WHERE account = $2))"
        }
    };
    let limit = filter.limit.unwrap_or(50).clamp(1, 200);
    let after = filter.after.map_or(Uuid::max(), |id| id.0);
    let sql = const_sql(&[
        "SELECT ",
        COLUMNS,
        " FROM deposits p JOIN boxes a ON a.id = p.sender WHERE p.id < $3 AND ",
        condition,
        " ORDER BY p.id DESC LIMIT $4",
    ]);
    let mut tx = hub.db().read().await?;
    let values: Args = args![hub.now(), caller.account.0, after, i64::from(limit) + 1];
    let rows = tx.rows(sql, values).await?;
    let mut items = Vec::new();
    for row in rows.iter().take(limit as usize) {
        items.push(summary(&mut tx, &caller, row).await?);
    }
    let next =
        if rows.len() > limit as usize { items.last().map(|d: &Deposit| d.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// GET /deposits/{id}.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
) -> Result<Json<Deposit>> {
    let mut tx = hub.db().read().await?;
    Ok(Json(load(&mut tx, &caller, id, hub.now()).await?.ok_or(ProblemCode::NotFound)?))
}

/// Holds a draft of the caller's boxes until the transaction ends, so that nothing is added to it while it is
/// sent. A delegation for one procedure reaches what is in a message of it.
///
/// # Errors
/// 404 when it is not the caller's, 409 when it is no draft.
pub(crate) async fn lock_draft(tx: &mut Tx, caller: &Caller, id: DepositId) -> Result<()> {
    let row = tx
        .optional(
            "UPDATE deposits SET version = version + 1 WHERE id = $1 AND sender IN (SELECT id FROM boxes WHERE id = $2
                 UNION ALL SELECT service FROM service_members WHERE account = $2)
             AND ($3 IS NULL OR EXISTS (SELECT 1 FROM messages g WHERE g.deposit = deposits.id AND g.procedure = $3))
             RETURNING state",
            args![id.0, caller.account.0, caller.scope()],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    match state_of(&row)? {
        DepositState::Draft => Ok(()),
        _ => Err(ProblemCode::DepositSent.into()),
    }
}

/// The documents of a message are sent and discarded with it, and not by themselves.
///
/// # Errors
/// 409.
async fn by_itself(tx: &mut Tx, id: DepositId) -> Result<()> {
    match tx.optional("SELECT 1 AS one FROM messages WHERE deposit = $1", args![id.0]).await? {
        None => Ok(()),
        Some(_) => Err(Fault::because(
            ProblemCode::Conflict,
            "Ce dépôt est celui d'un message : agissez sur le message.",
        )),
    }
}

/// DELETE /deposits/{id}: a draft and what it holds.
pub(crate) async fn discard(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    lock_draft(&mut tx, &caller, id).await?;
    by_itself(&mut tx, id).await?;
    let uploads = remove_draft(&mut tx, id).await?;
    Event::new("deposit.discarded").by(&caller).deposit(id).write(&mut tx, now).await?;
    tx.commit().await?;
    uploads.into_iter().for_each(|upload| hub.end_writer(upload));
    hub.inner.bell.notify_waiters();
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a locked draft with its documents; gives their uploads, whose writers are to be ended.
pub(crate) async fn remove_draft(tx: &mut Tx, id: DepositId) -> Result<Vec<UploadId>> {
    // All uploads at once, before the quota is touched: writers take these in the same order.
    let sql = "UPDATE uploads SET fence = fence + 1 WHERE deposit = $1 RETURNING id";
    let uploads = tx.rows(sql, args![id.0]).await?;
    for document in documents::ids_of_deposit(tx, id).await? {
        documents::remove(tx, document).await?;
    }
    tx.execute("UPDATE uploads SET deposit = NULL WHERE deposit = $1", args![id.0]).await?;
    tx.execute("UPDATE messages SET deposit = NULL WHERE deposit = $1", args![id.0]).await?;
    tx.execute("DELETE FROM recipients WHERE deposit = $1", args![id.0]).await?;
    tx.execute("DELETE FROM deposits WHERE id = $1", args![id.0]).await?;
    uploads.iter().map(|row| Ok(UploadId(row.get("id")?))).collect()
}

/// POST /deposits/{id}/send.
pub(crate) async fn send(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
) -> Result<(StatusCode, Json<Deposit>)> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    lock_draft(&mut tx, &caller, id).await?;
    by_itself(&mut tx, id).await?;
    send_in(&mut tx, &caller, now, id, None, None).await?;
    let deposit = load(&mut tx, &caller, id, now).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok((StatusCode::ACCEPTED, Json(deposit)))
}

/// Sends a draft that the transaction holds, by itself or with its message; gives what the journal says of its
/// documents.
///
/// # Errors
/// 409 when there is no document or one of them is not whole.
pub(crate) async fn send_in(
    tx: &mut Tx,
    caller: &Caller,
    now: Time,
    id: DepositId,
    message: Option<MessageId>,
    procedure: Option<ProcedureId>,
) -> Result<Vec<serde_json::Value>> {
    let documents = documents::of_deposit(tx, id).await?;
    if documents.is_empty() {
        return Err(ProblemCode::DepositEmpty.into());
    }
    if documents.iter().any(|d| d.state == DocumentState::Receiving) {
        return Err(ProblemCode::DepositIncomplete.into());
    }
    if documents.iter().any(|d| d.state == DocumentState::Damaged) {
        return Err(ProblemCode::Damaged.into());
    }
    if documents.iter().any(|d| d.scan.state == ScanState::Infected) {
        return Err(ProblemCode::Infected.into());
    }
    let sent = DepositState::Draft.send().map_err(|_| ProblemCode::DepositSent)?;
    tx.execute(
        "UPDATE deposits SET state = $2, sent = $3 WHERE id = $1 AND state = 'draft'",
        args![id.0, sent.as_str(), now],
    )
    .await?;
    let digests: Vec<_> = documents
        .iter()
        .map(|d| serde_json::json!({ "document": d.id, "size": d.size, "sha256": d.sha256 }))
        .collect();
    let detail = serde_json::json!({ "documents": digests });
    let mut event = Event::new("deposit.sent").by(caller).deposit(id).procedure(procedure);
    if let Some(message) = message {
        event = event.message(message);
    }
    event.detail(detail).write(tx, now).await?;
    release(tx, now, id).await?;
    Ok(digests)
}

/// Holds a deposit until the transaction ends.
pub(crate) async fn hold(tx: &mut Tx, id: DepositId) -> Result<()> {
    tx.execute("UPDATE deposits SET version = version + 1 WHERE id = $1", args![id.0]).await?;
    Ok(())
}

/// Puts a sent deposit at its recipients' disposal once all its documents are finished and may be released;
/// gives whether it did. One that may not be is held, for as long as it would have been available. To be
/// called in every transaction that finishes or scans a document, sends a deposit or withdraws a recipient.
pub(crate) async fn release(tx: &mut Tx, now: Time, id: DepositId) -> Result<bool> {
    let row = tx
        .one(
            "UPDATE deposits SET version = version + 1 WHERE id = $1 RETURNING state, retention_days, expires",
            args![id.0],
        )
        .await?;
    let Ok(available) = state_of(&row)?.release() else { return Ok(false) };
    let expires = now.plus_seconds(row.get::<i64>("retention_days")?.saturating_mul(86_400));
    match antivirus::standing(tx, id).await? {
        Standing::Unfinished => return Ok(false),
        Standing::Held if row.get::<Option<Time>>("expires")?.is_some() => return Ok(false),
        Standing::Held => {
            let sql = "UPDATE deposits SET expires = $2 WHERE id = $1 AND state = 'sent'";
            tx.execute(sql, args![id.0, expires]).await?;
            let detail = serde_json::json!({ "expires": expires });
            Event::new("deposit.held").deposit(id).detail(detail).write(tx, now).await?;
            return Ok(false);
        }
        Standing::Releasable => {}
    }
    tx.execute(
        "UPDATE deposits SET state = $2, available = $3, expires = $4 WHERE id = $1 AND state = 'sent'",
        args![id.0, available.as_str(), now, expires],
    )
    .await?;
    Event::new("deposit.available")
        .deposit(id)
        .detail(serde_json::json!({ "expires": expires }))
        .write(tx, now)
        .await?;
    notices::deposit_available(tx, now, id).await?;
    Ok(true)
}
