//! The export of one's own data (droit d'accès et à la portabilité, RGPD art. 15 and 20): one JSON document,
//! streamed a page at a time, however long someone has been here.
//!
//! Must never tell what others wrote, nor about whom: of what was received it says that it was, from whom and
//! when, not its subject nor its files.

use crate::Hub;
use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use pli_api::{AccountId, Time};
use pli_storage::{Row, args};
use serde_json::{Value, json};
use uuid::Uuid;

/// Rows read at a time.
const PAGE: i64 = 500;

/// A list of the export. A table that holds something of a person is one more of these.
struct Section {
    name: &'static str,
    /// Rows of account `$1` after id `$2` in the order of `id`, at most `$3`.
    sql: &'static str,
    value: fn(&Row) -> Result<Value>,
}

fn time(row: &Row, column: &str) -> Result<Option<Time>> {
    Ok(row.get::<Option<Time>>(column)?)
}

fn id(row: &Row, column: &str) -> Result<Option<Uuid>> {
    Ok(row.get::<Option<Uuid>>(column)?)
}

const SECTIONS: &[Section] = &[
    Section {
        name: "sessions",
        sql: "SELECT id, created, seen, expires FROM sessions WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3",
        value: |row| {
            Ok(json!({ "created": time(row, "created")?, "seen": time(row, "seen")?, "expires": time(row, "expires")? }))
        },
    },
    Section {
        name: "tokens",
        sql: "SELECT id, name, created, expires, revoked FROM access_tokens WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3",
        value: |row| {
            Ok(json!({
                "id": id(row, "id")?, "name": row.get::<String>("name")?, "created": time(row, "created")?,
                "expires": time(row, "expires")?, "revoked": time(row, "revoked")?,
            }))
        },
    },
    Section {
        name: "invitations",
        sql: "SELECT id, purpose, created, expires, used FROM invitations WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3",
        value: |row| {
            Ok(json!({
                "purpose": row.get::<String>("purpose")?, "created": time(row, "created")?,
                "expires": time(row, "expires")?, "used": time(row, "used")?,
            }))
        },
    },
    Section {
        name: "delegations",
        sql: "SELECT d.id, d.kind, d.procedure, d.starts, d.ends, d.revoked, d.created,
                f.address AS delegator, t.address AS delegate
              FROM delegations d JOIN boxes f ON f.id = d.delegator JOIN boxes t ON t.id = d.delegate
              WHERE (d.delegator = $1 OR d.delegate = $1) AND d.id > $2 ORDER BY d.id LIMIT $3",
        value: |row| {
            Ok(json!({
                "id": id(row, "id")?, "kind": row.get::<String>("kind")?, "procedure": id(row, "procedure")?,
                "delegator": row.get::<String>("delegator")?, "delegate": row.get::<String>("delegate")?,
                "starts": time(row, "starts")?, "ends": time(row, "ends")?,
                "revoked": time(row, "revoked")?, "created": time(row, "created")?,
            }))
        },
    },
    Section {
        name: "deposits_sent",
        sql: "SELECT id, subject, reference, state, retention_days, created, sent, available, expires FROM deposits
              WHERE sender = $1 AND id > $2 ORDER BY id LIMIT $3",
        value: |row| {
            Ok(json!({
                "id": id(row, "id")?, "subject": row.get::<String>("subject")?,
                "reference": row.get::<Option<String>>("reference")?, "state": row.get::<String>("state")?,
                "retention_days": row.get::<i64>("retention_days")?, "created": time(row, "created")?,
                "sent": time(row, "sent")?, "available": time(row, "available")?, "expires": time(row, "expires")?,
            }))
        },
    },
    Section {
        name: "documents_sent",
        sql: "SELECT d.id, d.deposit, d.name, d.media_type, d.size, d.state, d.created FROM deposits p
              JOIN documents d ON d.deposit = p.id WHERE p.sender = $1 AND d.id > $2 ORDER BY d.id LIMIT $3",
        value: |row| {
            Ok(json!({
                "id": id(row, "id")?, "deposit": id(row, "deposit")?, "name": row.get::<String>("name")?,
                "media_type": row.get::<String>("media_type")?, "size": row.get::<Option<i64>>("size")?,
                "state": row.get::<String>("state")?, "created": time(row, "created")?,
            }))
        },
    },
    Section {
        name: "deposits_received",
        sql: "SELECT p.id, b.address AS sender, p.available, p.expires FROM recipients r
              JOIN deposits p ON p.id = r.deposit JOIN boxes b ON b.id = p.sender
              WHERE r.box = $1 AND r.withdrawn IS NULL AND p.state IN ('available', 'expired')
              AND p.id > $2 ORDER BY p.id LIMIT $3",
        value: |row| {
            Ok(json!({
                "id": id(row, "id")?, "sender": row.get::<String>("sender")?,
                "available": time(row, "available")?, "expires": time(row, "expires")?,
            }))
        },
    },
    Section {
        name: "events",
        sql: "SELECT id, at, kind, on_behalf, deposit, document, procedure, message, detail FROM events
              WHERE actor = $1 AND id > $2 ORDER BY id LIMIT $3",
        value: |row| {
            let detail = row.get::<String>("detail")?;
            Ok(json!({
                "id": id(row, "id")?, "at": time(row, "at")?, "kind": row.get::<String>("kind")?,
                "on_behalf": id(row, "on_behalf")?, "deposit": id(row, "deposit")?,
                "document": id(row, "document")?, "procedure": id(row, "procedure")?,
                "message": id(row, "message")?,
                "detail": serde_json::from_str::<Value>(&detail).map_err(Fault::internal)?,
            }))
        },
    },
];

/// GET /me/export.
pub(crate) async fn export(State(hub): State<Hub>, caller: Caller) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    Event::new("account.exported").by(&caller).write(&mut tx, now).await?;
    tx.commit().await?;
    let head = head(&hub, caller.account, now).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"mes-donnees-pli.json\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let place = Position { hub, account: caller.account, section: 0, after: Uuid::nil(), begun: false };
    let rest = stream::try_unfold(place, |place| async move {
        // The connection ends without its last octet: half an export must not look like a whole one.
        next(place).await.inspect_err(|fault| tracing::error!(error = %fault, "an export was cut"))
    });
    let start = stream::iter([Ok(Bytes::from(head))]);
    Ok((headers, Body::from_stream(futures_util::StreamExt::chain(start, rest))).into_response())
}

/// The account, its roles and services: what is short. Ends with an open object.
async fn head(hub: &Hub, account: AccountId, now: Time) -> Result<Vec<u8>> {
    let mut tx = hub.db().read().await?;
    let row = tx
        .one(
            "SELECT b.address, b.name, b.function, b.speciality, b.created, b.closed, o.name AS organisation,
                a.expert_number, a.password IS NOT NULL AS has_password, a.opted_out, a.delisted
             FROM boxes b JOIN accounts a ON a.id = b.id JOIN organisations o ON o.id = b.organisation
             WHERE b.id = $1",
            args![account.0],
        )
        .await?;
    let text = |column: &str| row.get::<String>(column);
    let head = json!({
        "exported": now,
        "account": {
            "id": account, "address": text("address")?, "name": text("name")?, "function": text("function")?,
            "speciality": text("speciality")?, "organisation": text("organisation")?,
            "expert_number": row.get::<Option<String>>("expert_number")?,
            "has_password": row.get::<bool>("has_password")?, "created": time(&row, "created")?,
            "opted_out": time(&row, "opted_out")?, "left_the_list": time(&row, "delisted")?,
        },
        "roles": crate::roles::held(&mut tx, account).await?,
        "services": crate::services::shared_with(&mut tx, account).await?,
    });
    let mut head = serde_json::to_vec(&head).map_err(Fault::internal)?;
    head.pop();
    Ok(head)
}

/// Where the export stands.
struct Position {
    hub: Hub,
    account: AccountId,
    section: usize,
    after: Uuid,
    begun: bool,
}

async fn next(mut place: Position) -> Result<Option<(Bytes, Position)>> {
    let Some(section) = SECTIONS.get(place.section) else {
        // Once past the last list, the object is closed and the stream ends.
        let last = place.section == SECTIONS.len();
        place.section = place.section.saturating_add(1);
        return Ok(last.then(|| (Bytes::from_static(b"}"), place)));
    };
    let rows = place.hub.db().rows(section.sql, args![place.account.0, place.after, PAGE]).await?;
    let mut out = Vec::new();
    if !place.begun {
        out.extend_from_slice(format!(",\"{}\":[", section.name).as_bytes());
    }
    for (n, row) in rows.iter().enumerate() {
        if n > 0 || place.begun {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, &(section.value)(row)?).map_err(Fault::internal)?;
        place.after = row.get("id")?;
    }
    place.begun = true;
    if i64::try_from(rows.len()).unwrap_or(PAGE) < PAGE {
        out.push(b']');
        place =
            Position { section: place.section.saturating_add(1), after: Uuid::nil(), begun: false, ..place };
    }
    Ok(Some((Bytes::from(out), place)))
}
