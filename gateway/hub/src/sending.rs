//! Sending: the one transaction after which a message stands, and what its sender may still do about it.
//!
//! Owns the writing of `threads` and of new rows of `deliveries`. Must never send half: message, documents,
//! deliveries, words and events are there together or not at all.

use crate::access::Caller;
use crate::boxes::{folded, line};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::messages::{self, Draft, MINE, RECIPIENTS_MAX, SUBJECT_MAX};
use crate::notices::About;
use crate::procedures::Right;
use crate::roles::{self, Permission};
use crate::uploads::const_sql;
use crate::{Hub, deposits, documents, etag, notices, people, procedures, search};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use pli_api::{
    BoxId, DeliveryRole, DepositId, DocumentId, EventId, MessageId, MessageState, NewRecipient, NoticeKind,
    Page, Person, ProblemCode, ProcedureId, ThreadId, Time, TrailEvent,
};
use pli_storage::{Row, Tx, args};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The digest of a message in the journal: SHA-256 of the subject, a line feed and the text, in UTF-8.
fn digest(subject: &str, body: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(subject.as_bytes());
    digest.update(b"\n");
    digest.update(body.as_bytes());
    hex::encode(digest.finalize())
}

/// POST /messages/{id}/send, of the version that `If-Match` names.
pub(crate) async fn send(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    headers: HeaderMap,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (draft, version, deposit) = messages::draft_of(&mut tx, &caller, id).await?;
    etag::require(&headers, version)?;
    if !draft.to.values().any(|role| *role == DeliveryRole::To) {
        return Err(Fault::because(ProblemCode::Invalid, "Destinataires : un au moins, hors copies."));
    }
    open_boxes(&mut tx, &draft.to).await?;
    messages::judge(&mut tx, &caller, now, &draft).await?;
    // The deposit before the message, everywhere.
    if let Some(deposit) = deposit {
        deposits::lock_draft(&mut tx, &caller, deposit).await?;
    }
    let row = tx
        .optional(
            "UPDATE messages SET state = 'sent', sent = $3, author = $4, on_behalf = $5
             WHERE id = $1 AND version = $2 AND state = 'draft' RETURNING subject, body, deposit",
            args![id.0, version, now, caller.person().0, caller.acting.map(|_| caller.account.0)],
        )
        .await?
        .ok_or(ProblemCode::PreconditionFailed)?;
    if row.get::<Option<Uuid>>("deposit")? != deposit.map(|deposit| deposit.0) {
        return Err(ProblemCode::Conflict.into());
    }
    let (subject, body) = (row.get::<String>("subject")?, row.get::<String>("body")?);
    line("Objet", &subject, SUBJECT_MAX)?;
    let thread = thread(&mut tx, now, id, &draft, &subject).await?;
    let text = folded(&format!("{subject} {body}"));
    tx.execute("UPDATE messages SET folded = $2 WHERE id = $1", args![id.0, text]).await?;
    search::index(&mut tx, id, &subject, &body).await?;
    let sender = (draft.sender.id, DeliveryRole::Sender);
    for (to, role) in draft.to.iter().map(|(to, role)| (*to, *role)).chain([sender]) {
        deliver(&mut tx, now, id, thread, draft.procedure, to, role).await?;
    }
    tx.execute("DELETE FROM addressees WHERE message = $1", args![id.0]).await?;
    let documents = match deposit {
        Some(deposit) => send_deposit(&mut tx, &hub, &caller, now, id, deposit, &draft, &subject).await?,
        None => Vec::new(),
    };
    let detail = serde_json::json!({
        "kind": draft.kind,
        "thread": thread,
        "sha256": digest(&subject, &body),
        "from": draft.sender.id,
        "to": draft.to.keys().collect::<Vec<_>>(),
        "documents": documents,
        "forwarded": draft.documents,
        "corrects": draft.corrects,
    });
    let mut event = Event::new("message.sent").by(&caller).message(id).procedure(draft.procedure);
    if let Some(deposit) = deposit.filter(|_| !documents.is_empty()) {
        event = event.deposit(deposit);
    }
    event.detail(detail).write(&mut tx, now).await?;
    let message = messages::load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    messages::tagged(StatusCode::OK, &message)
}

/// Boxes may have closed, and experts gone, since the draft was written.
async fn open_boxes(tx: &mut Tx, to: &BTreeMap<BoxId, DeliveryRole>) -> Result<()> {
    for id in to.keys() {
        let row = tx
            .optional(
                "SELECT b.address FROM boxes b LEFT JOIN accounts a ON a.id = b.id
                 WHERE b.id = $1 AND (b.closed IS NOT NULL OR a.opted_out IS NOT NULL)",
                args![id.0],
            )
            .await?;
        if let Some(row) = row {
            let address: String = row.get("address")?;
            let detail = format!("Destinataires : {address} ne reçoit plus de messages.");
            return Err(Fault::because(ProblemCode::UnknownRecipient, detail));
        }
    }
    Ok(())
}

/// The thread that the message is of, begun by it unless it follows another.
async fn thread(tx: &mut Tx, now: Time, id: MessageId, draft: &Draft, subject: &str) -> Result<ThreadId> {
    if let Some(thread) = draft.thread {
        tx.execute("UPDATE threads SET last = $2 WHERE id = $1", args![thread.0, now]).await?;
        return Ok(thread);
    }
    let thread = ThreadId::new();
    tx.execute(
        "INSERT INTO threads (id, procedure, subject, created, last) VALUES ($1, $2, $3, $4, $4)",
        args![thread.0, draft.procedure.map(|procedure| procedure.0), subject, now],
    )
    .await?;
    tx.execute("UPDATE messages SET thread = $2 WHERE id = $1", args![id.0, thread.0]).await?;
    Ok(thread)
}

/// Puts a sent message into a box. A box that has it keeps it; one that it was withdrawn from has it again.
async fn deliver(
    tx: &mut Tx,
    now: Time,
    id: MessageId,
    thread: ThreadId,
    procedure: Option<ProcedureId>,
    to: BoxId,
    role: DeliveryRole,
) -> Result<bool> {
    let delivered = tx
        .execute(
            "INSERT INTO deliveries (box, message, thread, procedure, at, role) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (box, message) DO UPDATE SET at = excluded.at, role = excluded.role, withdrawn = NULL,
                 read = NULL, read_by = NULL, archived = NULL
             WHERE deliveries.withdrawn IS NOT NULL",
            args![to.0, id.0, thread.0, procedure.map(|procedure| procedure.0), now, role.as_str()],
        )
        .await?;
    if delivered == 1 && role != DeliveryRole::Sender {
        let about = About::at(now).message(id).procedure(procedure);
        notices::tell(tx, NoticeKind::MessageReceived, to, about).await?;
    }
    Ok(delivered == 1)
}

/// The documents go with the message, to the same boxes. A deposit into which nothing was put is not sent.
#[expect(clippy::too_many_arguments, reason = "one step of one transaction")]
async fn send_deposit(
    tx: &mut Tx,
    hub: &Hub,
    caller: &Caller,
    now: Time,
    id: MessageId,
    deposit: DepositId,
    draft: &Draft,
    subject: &str,
) -> Result<Vec<serde_json::Value>> {
    if documents::ids_of_deposit(tx, deposit).await?.is_empty() {
        for upload in deposits::remove_draft(tx, deposit).await? {
            hub.end_writer(upload);
        }
        return Ok(Vec::new());
    }
    tx.execute("UPDATE deposits SET subject = $2 WHERE id = $1", args![deposit.0, subject]).await?;
    for to in draft.to.keys() {
        let sql = "INSERT INTO recipients (deposit, box, added) VALUES ($1, $2, $3)";
        tx.execute(sql, args![deposit.0, to.0, now]).await?;
    }
    deposits::send_in(tx, caller, now, deposit, Some(id), draft.procedure).await
}

/// A sent message of the caller's boxes, held until the transaction ends, with its deposit.
///
/// # Errors
/// 404 when the caller does not see it, 403 when it is another's, 409 when it is a draft.
async fn own(
    tx: &mut Tx,
    caller: &Caller,
    id: MessageId,
) -> Result<(ThreadId, Option<ProcedureId>, Option<DepositId>, BoxId)> {
    messages::load(tx, caller, id).await?.ok_or(ProblemCode::NotFound)?;
    let sql = const_sql(&[
        "SELECT m.thread, m.procedure, m.state, m.sender, m.deposit, b.organisation FROM messages m
         JOIN boxes b ON b.id = m.sender WHERE m.id = $1 AND m.sender IN ",
        MINE,
    ]);
    let row = tx.optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::Forbidden)?;
    if row.get::<String>("state")? != MessageState::Sent.as_str() {
        return Err(ProblemCode::Conflict.into());
    }
    let organisation = pli_api::OrganisationId(row.get("organisation")?);
    roles::require(tx, caller, organisation, Permission::Write).await?;
    let deposit = row.get::<Option<Uuid>>("deposit")?.map(DepositId);
    if let Some(deposit) = deposit {
        deposits::hold(tx, deposit).await?;
    }
    // The text does not change: this only makes rivals wait.
    tx.execute("UPDATE messages SET version = version WHERE id = $1", args![id.0]).await?;
    Ok((
        ThreadId(row.get("thread")?),
        row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        deposit,
        BoxId(row.get("sender")?),
    ))
}

/// POST /messages/{id}/recipients: one more recipient of a sent message, who gets all of it.
pub(crate) async fn add_recipient(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    Json(new): Json<NewRecipient>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (thread, procedure, deposit, sender) = own(&mut tx, &caller, id).await?;
    if let Some(procedure) = procedure {
        procedures::require(&mut tx, &caller, procedure, Right::Write, now).await?;
    }
    let to = messages::recipient(&mut tx, &new.address).await?;
    let sql =
        "SELECT COUNT(*) AS n FROM deliveries WHERE message = $1 AND role <> 'sender' AND withdrawn IS NULL";
    let known = tx.one(sql, args![id.0]).await?.get::<i64>("n")?;
    if usize::try_from(known).unwrap_or(usize::MAX) >= RECIPIENTS_MAX {
        let detail = format!("Destinataires : {RECIPIENTS_MAX} au plus, copies comprises.");
        return Err(Fault::because(ProblemCode::Invalid, detail));
    }
    let role = if new.copy { DeliveryRole::Copy } else { DeliveryRole::To };
    if to == sender || !deliver(&mut tx, now, id, thread, procedure, to, role).await? {
        return Err(Fault::because(ProblemCode::Conflict, "Ce message est déjà dans cette boîte."));
    }
    if let Some(deposit) = deposit {
        tx.execute(
            "INSERT INTO recipients (deposit, box, added) VALUES ($1, $2, $3)
             ON CONFLICT (deposit, box) DO UPDATE SET added = excluded.added, withdrawn = NULL",
            args![deposit.0, to.0, now],
        )
        .await?;
    }
    told(&mut tx, "message.recipient_added", &caller, now, id, procedure, deposit, to).await?;
    let message = messages::load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    messages::tagged(StatusCode::OK, &message)
}

/// DELETE /messages/{id}/recipients/{address}: from then on the message and its documents are not theirs to see.
pub(crate) async fn withdraw_recipient(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, address)): Path<(MessageId, String)>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (_, procedure, deposit, _) = own(&mut tx, &caller, id).await?;
    let row = tx
        .optional(
            "UPDATE deliveries SET withdrawn = $3 WHERE message = $1 AND role <> 'sender' AND withdrawn IS NULL
             AND box = (SELECT id FROM boxes WHERE address = $2) RETURNING box",
            args![id.0, people::address(&address)?, now],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let from = BoxId(row.get("box")?);
    if let Some(deposit) = deposit {
        let sql =
            "UPDATE recipients SET withdrawn = $3 WHERE deposit = $1 AND box = $2 AND withdrawn IS NULL";
        tx.execute(sql, args![deposit.0, from.0, now]).await?;
    }
    told(&mut tx, "message.recipient_withdrawn", &caller, now, id, procedure, deposit, from).await?;
    let message = messages::load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    messages::tagged(StatusCode::OK, &message)
}

#[expect(clippy::too_many_arguments, reason = "the facts of one event")]
async fn told(
    tx: &mut Tx,
    kind: &'static str,
    caller: &Caller,
    now: Time,
    id: MessageId,
    procedure: Option<ProcedureId>,
    deposit: Option<DepositId>,
    about: BoxId,
) -> Result<()> {
    let mut event = Event::new(kind).by(caller).message(id).procedure(procedure);
    if let Some(deposit) = deposit {
        event = event.deposit(deposit);
    }
    event.detail(serde_json::json!({ "box": about })).write(tx, now).await?;
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrailFilter {
    after: Option<EventId>,
    limit: Option<u32>,
}

/// GET /messages/{id}/trail: what became of a message and its documents, for its sender, in order.
pub(crate) async fn trail(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    Query(filter): Query<TrailFilter>,
) -> Result<Json<Page<TrailEvent>>> {
    let limit = filter.limit.unwrap_or(100).clamp(1, 500) as usize;
    let mut tx = hub.db().read().await?;
    messages::load(&mut tx, &caller, id).await?.ok_or(ProblemCode::NotFound)?;
    let sql = const_sql(&["SELECT deposit FROM messages m WHERE m.id = $1 AND m.sender IN ", MINE]);
    let row = tx.optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::Forbidden)?;
    let deposit = row.get::<Option<Uuid>>("deposit")?;
    let (after, most) = (filter.after.map_or(Uuid::nil(), |id| id.0), i64::try_from(limit + 1).unwrap_or(1));
    const COLUMNS: &str = "e.id, e.at, e.kind, e.document, e.detail, e.actor, e.on_behalf";
    // Each by its own index and no further than the page; an event found twice is one.
    let mut events: BTreeMap<Uuid, Row> = BTreeMap::new();
    for (condition, about) in [("e.message = $1", Some(id.0)), ("e.deposit = $1", deposit)] {
        let Some(about) = about else { continue };
        let sql = const_sql(&[
            "SELECT ",
            COLUMNS,
            ", a.address AS actor_address, a.name AS actor_name, y.address AS behalf_address, y.name AS behalf_name
             FROM events e LEFT JOIN boxes a ON a.id = e.actor LEFT JOIN boxes y ON y.id = e.on_behalf
             WHERE ",
            condition,
            " AND e.id > $2 ORDER BY e.id LIMIT $3",
        ]);
        for row in tx.rows(sql, args![about, after, most]).await? {
            events.insert(row.get("id")?, row);
        }
    }
    let more = events.len() > limit;
    let mut items = Vec::new();
    let mut known: BTreeMap<BoxId, Option<Person>> = BTreeMap::new();
    for (id, row) in events.into_iter().take(limit) {
        let detail: serde_json::Value =
            serde_json::from_str(&row.get::<String>("detail")?).map_err(Fault::internal)?;
        let about = detail.get("box").and_then(|id| id.as_str()).and_then(|id| id.parse::<BoxId>().ok());
        let in_box = match about {
            None => None,
            Some(about) => match known.get(&about) {
                Some(person) => person.clone(),
                None => {
                    let sql = "SELECT address, name FROM boxes WHERE id = $1";
                    let row = tx.optional(sql, args![about.0]).await?;
                    let found = match &row {
                        Some(row) => messages::person(row, "address", "name")?,
                        None => None,
                    };
                    known.insert(about, found.clone());
                    found
                }
            },
        };
        items.push(TrailEvent {
            id: EventId(id),
            at: row.get("at")?,
            kind: row.get("kind")?,
            actor: messages::person(&row, "actor_address", "actor_name")?,
            on_behalf: messages::person(&row, "behalf_address", "behalf_name")?,
            in_box,
            document: row.get::<Option<Uuid>>("document")?.map(DocumentId),
            detail,
        });
    }
    let next = if more { items.last().map(|last| last.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}
