//! Threads, as far as they lie in the caller's boxes.
//!
//! Must never tell of a message of a thread that was not delivered to, or sent from, one of these.

use crate::Hub;
use crate::access::Caller;
use crate::fault::Result;
use crate::messages::{self, MINE};
use crate::uploads::const_sql;
use axum::Json;
use axum::extract::{Path, Query, State};
use pli_api::{MessageId, ProblemCode, ProcedureId, Thread, ThreadId, Time};
use pli_storage::args;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThreadFilter {
    after: Option<MessageId>,
    limit: Option<u32>,
}

/// GET /threads/{id}: its messages, the oldest first.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Query(filter): Query<ThreadFilter>,
) -> Result<Json<Thread>> {
    let limit = filter.limit.unwrap_or(20).clamp(1, 50) as usize;
    let mut tx = hub.db().read().await?;
    let sql = const_sql(&[
        "SELECT t.procedure, t.subject FROM threads t WHERE t.id = $1 AND ($3 IS NULL OR t.procedure = $3)
         AND EXISTS (SELECT 1 FROM deliveries v WHERE v.thread = t.id AND v.withdrawn IS NULL AND v.box IN ",
        MINE,
        ")",
    ]);
    let row = tx.optional(sql, args![id.0, caller.account.0, caller.scope()]).await?;
    let row = row.ok_or(ProblemCode::NotFound)?;
    // Where the last page ended; of another thread, or not the caller's to see, it is nowhere.
    let (sent, after) = match filter.after {
        None => (Time::from_micros(i64::MIN), Uuid::nil()),
        Some(after) => {
            let seen = messages::load(&mut tx, &caller, after).await?.filter(|m| m.thread == Some(id));
            (seen.and_then(|m| m.sent).ok_or(ProblemCode::NotFound)?, after.0)
        }
    };
    let sql = const_sql(&[
        "SELECT DISTINCT m.sent, m.id FROM deliveries v JOIN messages m ON m.id = v.message
         WHERE v.thread = $1 AND v.withdrawn IS NULL AND (m.sent, m.id) > ($3, $4) AND v.box IN ",
        MINE,
        " ORDER BY m.sent, m.id LIMIT $5",
    ]);
    let most = i64::try_from(limit + 1).unwrap_or(1);
    let rows = tx.rows(sql, args![id.0, caller.account.0, sent, after, most]).await?;
    let mut items = Vec::new();
    for row in rows.iter().take(limit) {
        items.extend(messages::load(&mut tx, &caller, MessageId(row.get("id")?)).await?);
    }
    let next = if rows.len() > limit { items.last().map(|last| last.id.to_string()) } else { None };
    Ok(Json(Thread {
        id,
        procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        subject: row.get("subject")?,
        messages: items,
        next,
    }))
}
