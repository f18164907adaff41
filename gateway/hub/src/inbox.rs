//! The boxes as their readers see them: what was received, sent and archived, searched and read.
//!
//! Owns `readings`, and the states read and archived of `deliveries`. Must never let a GET change a state, or
//! write a list whose cost grows with more than the page, or, when it searches, with more than the box.

use crate::Hub;
use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::messages::{self, MINE, Mine};
use crate::search::Search;
use crate::uploads::const_sql;
use crate::{labels, people};
use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use pli_api::search::Is;
use pli_api::{
    BoxId, BoxSummary, Folder, InboxItem, Label, MessageId, Page, Person, ProblemCode, ProcedureId, ThreadId,
    Time,
};
use pli_storage::{Args, Row, Sql, Tx, args};
use serde::Deserialize;
use std::collections::HashMap;
use uuid::Uuid;

/// Unread messages are counted so far.
const COUNTED: i64 = 1000;
/// Characters of the beginning of a text in a list.
const EXCERPT: &str = "200";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InboxFilter {
    /// A search, in the language of [`pli_api::search`].
    q: Option<String>,
    /// Address of one of the caller's boxes; all of them otherwise.
    #[serde(rename = "box")]
    in_box: Option<String>,
    folder: Option<Folder>,
    after: Option<String>,
    limit: Option<u32>,
}

/// Where a page ended: messages are in the order of instant, message and box, the newest first.
#[derive(Clone, Copy)]
pub(crate) struct Cursor {
    pub(crate) at: i64,
    pub(crate) message: Uuid,
    pub(crate) in_box: Uuid,
}

impl Cursor {
    pub(crate) const START: Self = Self { at: i64::MAX, message: Uuid::max(), in_box: Uuid::max() };

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let cursor = Self {
            at: parts.next()?.parse().ok()?,
            message: parts.next()?.parse().ok()?,
            in_box: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(cursor)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.at, self.message, self.in_box)
    }
}

/// What lies in a box, in parts that have no message in common; each literally the condition of a partial
/// index, so that the databases recognise it.
const RECEIVED: &str = "v.role <> 'sender' AND v.archived IS NULL AND v.withdrawn IS NULL";
const UNREAD: &str = "v.role <> 'sender' AND v.archived IS NULL AND v.withdrawn IS NULL AND v.read IS NULL";
const SENT: &str = "v.role = 'sender' AND v.archived IS NULL AND v.withdrawn IS NULL";
const ARCHIVED: &str = "v.archived IS NOT NULL AND v.withdrawn IS NULL";

/// The parts that a folder is made of.
pub(crate) const fn parts(folder: Folder, unread: bool) -> &'static [&'static str] {
    match (folder, unread) {
        (Folder::Received, false) => &[RECEIVED],
        (Folder::Received, true) => &[UNREAD],
        (Folder::Sent, _) => &[SENT],
        (Folder::Archived, _) => &[ARCHIVED],
        (Folder::All, false) => &[RECEIVED, SENT, ARCHIVED],
        (Folder::All, true) => &[UNREAD, ARCHIVED],
    }
}

/// The statement for one page of a part of one box, with its arguments: box `$1`, account `$2`, instant `$3`, scope `$4`.
pub(crate) fn statement(
    caller: &Caller,
    now: Time,
    of: BoxId,
    part: &str,
    search: &Search,
    after: Cursor,
    limit: i64,
) -> (String, Args) {
    let mut values = args![of.0, caller.account.0, now, caller.scope(), after.at, after.message, limit];
    // The row at which the last page ended may lie in a lesser box too.
    let compare = if of.0 < after.in_box { "<=" } else { "<" };
    let conditions = search.conditions(&mut values);
    // Joined in this order: a box is walked in the order of its list, and what is looked at is looked up.
    let (more, joined) = match search.is_empty() {
        true => ("", ""),
        false => (" CROSS JOIN messages m CROSS JOIN boxes s", " AND m.id = v.message AND s.id = m.sender"),
    };
    let sql = [
        "SELECT v.box, v.message, v.thread, v.procedure, v.at, v.role, v.read, v.archived, n.kind, n.subject,
         substr(n.body, 1, ",
        EXCERPT,
        ") AS excerpt, n.deposit, n.corrects, f.address, f.name
         FROM (SELECT v.box, v.message, v.thread, v.procedure, v.at, v.role, v.read, v.archived FROM deliveries v",
        more,
        " WHERE v.box = $1 AND ",
        part,
        " AND (v.at, v.message) ",
        compare,
        " ($5, $6)",
        if caller.scope().is_some() { " AND v.procedure = $4" } else { "" },
        joined,
        &conditions,
        " ORDER BY v.at DESC, v.message DESC LIMIT $7) v
         JOIN messages n ON n.id = v.message JOIN boxes f ON f.id = n.sender
         WHERE $2 IS NOT NULL AND $3 IS NOT NULL AND ($4 IS NULL OR $4 IS NOT NULL)
         ORDER BY v.at DESC, v.message DESC",
    ];
    (sql.concat(), values)
}

/// GET /inbox: a page of the caller's boxes, the newest first.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<InboxFilter>,
) -> Result<Json<Page<InboxItem>>> {
    let search = Search::of(filter.q.as_deref().unwrap_or_default())?;
    let folder = match filter.folder {
        Some(folder) => folder,
        None if search.is_empty() => Folder::Received,
        None if search.asks_for(Is::Archived) => Folder::Archived,
        None => Folder::All,
    };
    let after = match &filter.after {
        None => Cursor::START,
        Some(text) => Cursor::parse(text)
            .ok_or_else(|| Fault::because(ProblemCode::Invalid, "Suite (after) : mal formée."))?,
    };
    let address = filter.in_box.as_deref().map(people::address).transpose()?;
    let limit = filter.limit.unwrap_or(50).clamp(1, 200) as usize;
    let mut tx = hub.db().read().await?;
    let mut mine = messages::boxes(&mut tx, &caller).await?;
    if let Some(address) = address {
        mine.retain(|of| of.address == address);
        if mine.is_empty() {
            return Err(Fault::because(ProblemCode::Invalid, "Boîte : elle n'est pas parmi les vôtres."));
        }
    }
    let mut rows: Vec<(Cursor, Row)> = Vec::new();
    for of in &mine {
        let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        for part in parts(folder, search.asks_for(Is::Unread)) {
            let (sql, values) = statement(&caller, hub.now(), of.id, part, &search, after, most);
            for row in tx.rows(Sql::assembled(sql), values).await? {
                let key =
                    Cursor { at: row.get("at")?, message: row.get("message")?, in_box: row.get("box")? };
                rows.push((key, row));
            }
        }
    }
    rows.sort_by_key(|(key, _)| std::cmp::Reverse((key.at, key.message, key.in_box)));
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(|(key, _)| key.to_string()) } else { None };
    let mut labels = labels_on(&mut tx, &mine, &rows).await?;
    let items = rows.iter().map(|(key, row)| item(key, row, &mine, &mut labels)).collect::<Result<_>>()?;
    Ok(Json(Page { items, next }))
}

type Labels = HashMap<(Uuid, Uuid), Vec<Label>>;

fn item(key: &Cursor, row: &Row, mine: &[Mine], labels: &mut Labels) -> Result<InboxItem> {
    let of =
        mine.iter().find(|of| of.id.0 == key.in_box).ok_or_else(|| Fault::internal("a box of nobody's"))?;
    Ok(InboxItem {
        message: MessageId(key.message),
        thread: ThreadId(row.get("thread")?),
        procedure: row.get::<Option<Uuid>>("procedure")?.map(ProcedureId),
        kind: row.get::<String>("kind")?.parse().map_err(Fault::internal)?,
        subject: row.get("subject")?,
        excerpt: row.get("excerpt")?,
        sender: Person { address: row.get("address")?, name: row.get("name")? },
        in_box: Person { address: of.address.clone(), name: of.name.clone() },
        role: row.get::<String>("role")?.parse().map_err(Fault::internal)?,
        at: Time::from_micros(key.at),
        read: row.get("read")?,
        archived: row.get("archived")?,
        documents: row.get::<Option<Uuid>>("deposit")?.is_some(),
        correction: row.get::<Option<Uuid>>("corrects")?.is_some(),
        labels: labels.remove(&(key.in_box, key.message)).unwrap_or_default(),
    })
}

/// The labels on a page of messages, each in its box.
async fn labels_on(tx: &mut Tx, mine: &[Mine], rows: &[(Cursor, Row)]) -> Result<Labels> {
    let mut found = Labels::new();
    if rows.is_empty() {
        return Ok(found);
    }
    let mut values = Args::default();
    let mut places = String::new();
    // As many placeholders for every page, so that there is one statement and not one for each length.
    let padding = rows.len().next_multiple_of(50).saturating_sub(rows.len());
    for message in rows.iter().map(|(key, _)| key.message).chain(std::iter::repeat_n(Uuid::nil(), padding)) {
        values.push(message);
        places.push_str(if values.len() == 1 { "$" } else { ", $" });
        places.push_str(&values.len().to_string());
    }
    let sql = ["SELECT d.message, l.box, l.id, l.name, b.address FROM delivery_labels d JOIN labels l ON l.id = d.label
        JOIN boxes b ON b.id = l.box WHERE d.message IN (", &places, ") ORDER BY l.folded"];
    for row in tx.rows(const_sql(&sql), values).await? {
        let of: Uuid = row.get("box")?;
        if mine.iter().any(|mine| mine.id.0 == of) {
            found.entry((of, row.get("message")?)).or_default().push(labels::from_row(&row)?);
        }
    }
    Ok(found)
}

/// GET /inbox/boxes: the boxes that the caller reads, with what waits in each.
pub(crate) async fn boxes(State(hub): State<Hub>, caller: Caller) -> Result<Json<Vec<BoxSummary>>> {
    let mut tx = hub.db().read().await?;
    let mut list = Vec::new();
    for of in messages::boxes(&mut tx, &caller).await? {
        let sql = const_sql(&[
            "SELECT COUNT(*) AS n FROM (SELECT 1 AS one FROM deliveries v WHERE v.box = $1 AND ",
            UNREAD,
            " AND ($2 IS NULL OR v.procedure = $2) LIMIT $3) counted",
        ]);
        let row = tx.one(sql, args![of.id.0, caller.scope(), COUNTED]).await?;
        let unread = u32::try_from(row.get::<i64>("n")?).unwrap_or(u32::MAX);
        list.push(BoxSummary { address: of.address, name: of.name, kind: of.kind, unread });
    }
    Ok(Json(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BoxFilter {
    /// Address of one of the caller's boxes; all of them otherwise.
    #[serde(rename = "box")]
    in_box: Option<String>,
}

/// The caller's boxes in which a message lies.
///
/// # Errors
/// 404 when there is none.
async fn holding(
    tx: &mut Tx,
    caller: &Caller,
    id: MessageId,
    filter: &BoxFilter,
) -> Result<Vec<(BoxId, bool)>> {
    let address = filter.in_box.as_deref().map(people::address).transpose()?;
    let sql = const_sql(&[
        "SELECT v.box, CASE WHEN v.role = 'sender' THEN 1 ELSE 0 END AS sender FROM deliveries v JOIN boxes b ON b.id = v.box
         WHERE v.message = $1 AND v.withdrawn IS NULL AND ($3 IS NULL OR v.procedure = $3)
         AND ($4 IS NULL OR b.address = $4) AND v.box IN ",
        MINE,
        " ORDER BY v.box",
    ]);
    let rows = tx.rows(sql, args![id.0, caller.account.0, caller.scope(), address]).await?;
    if rows.is_empty() {
        return Err(ProblemCode::NotFound.into());
    }
    rows.iter().map(|row| Ok((BoxId(row.get("box")?), row.get::<i64>("sender")? == 1))).collect()
}

/// POST /messages/{id}/read: the caller in person has opened it, in the boxes that received it.
pub(crate) async fn read(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    Query(filter): Query<BoxFilter>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let mut changed = false;
    for (of, sender) in holding(&mut tx, &caller, id, &filter).await? {
        if sender {
            continue;
        }
        let first = tx
            .optional(
                "UPDATE deliveries SET read = COALESCE(read, $3), read_by = COALESCE(read_by, $4)
                 WHERE box = $1 AND message = $2 AND withdrawn IS NULL RETURNING read, procedure",
                args![of.0, id.0, now, caller.person().0],
            )
            .await?;
        // Withdrawn at this very moment.
        let Some(row) = first else { continue };
        let opened = tx
            .execute(
                "INSERT INTO readings (box, message, account, at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (message, box, account) DO NOTHING",
                args![of.0, id.0, caller.person().0, now],
            )
            .await?;
        if opened == 1 {
            changed = true;
            Event::new("message.read")
                .by(&caller)
                .message(id)
                .procedure(row.get::<Option<Uuid>>("procedure")?.map(ProcedureId))
                .detail(serde_json::json!({ "box": of }))
                .write(&mut tx, now)
                .await?;
        }
    }
    if changed {
        tx.commit().await?
    } else {
        tx.rollback().await?
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn put_away(
    hub: &Hub,
    caller: &Caller,
    id: MessageId,
    filter: &BoxFilter,
    away: bool,
) -> Result<StatusCode> {
    let mut tx = hub.db().write().await?;
    for (of, _) in holding(&mut tx, caller, id, filter).await? {
        let sql = if away {
            "UPDATE deliveries SET archived = COALESCE(archived, $3) WHERE box = $1 AND message = $2 AND withdrawn IS NULL"
        } else {
            "UPDATE deliveries SET archived = NULL WHERE box = $1 AND message = $2 AND withdrawn IS NULL AND $3 IS NOT NULL"
        };
        tx.execute(sql, args![of.0, id.0, hub.now()]).await?;
    }
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// PUT /messages/{id}/archive.
pub(crate) async fn archive(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    Query(filter): Query<BoxFilter>,
) -> Result<StatusCode> {
    put_away(&hub, &caller, id, &filter, true).await
}

/// DELETE /messages/{id}/archive: back among what was received or sent.
pub(crate) async fn unarchive(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<MessageId>,
    Query(filter): Query<BoxFilter>,
) -> Result<StatusCode> {
    put_away(&hub, &caller, id, &filter, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { at: 17, message: Uuid::now_v7(), in_box: Uuid::now_v7() };
        let again = Cursor::parse(&cursor.to_string()).unwrap();
        assert_eq!((again.at, again.message, again.in_box), (cursor.at, cursor.message, cursor.in_box));
        for bad in ["", "1", "1.2.3", "x.y.z", &format!("{cursor}.4")] {
            assert!(Cursor::parse(bad).is_none(), "{bad}");
        }
    }
}
