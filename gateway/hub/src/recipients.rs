//! The recipients of a deposit, as its sender follows and changes them; reminders before its end, and the
//! report of who has not read it.
//!
//! Owns the changes of `recipients` after the draft. Must never take anything back from the journal: a
//! recipient that is withdrawn after reading has read.

use crate::access::Caller;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::notices::{self, About};
use crate::uploads::const_sql;
use crate::{Hub, deposits, people};
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use pli_api::{
    BoxId, DepositId, DepositState, NewDepositRecipient, NoticeKind, ProblemCode, RecipientState, Time,
};
use pli_storage::{Row, Tx, args};
use uuid::Uuid;

const DAY: i64 = 86_400;

/// When recipient `r` first downloaded something of its deposit to the last byte, in person, by a member of the
/// service or by a delegate.
const READ: &str =
    "(SELECT MIN(e.at) FROM events e WHERE e.deposit = r.deposit AND e.kind = 'download.completed'
    AND (COALESCE(e.on_behalf, e.actor) = r.box
        OR COALESCE(e.on_behalf, e.actor) IN (SELECT account FROM service_members WHERE service = r.box)))";

/// True in SQL when account `$2` sends in the name of deposit `p`'s sender.
const SENDS: &str = "p.sender IN (SELECT id FROM boxes WHERE id = $2
    UNION ALL SELECT service FROM service_members WHERE account = $2)";

fn state_of(row: &Row) -> Result<DepositState> {
    row.get::<String>("state")?.parse().map_err(|e: String| Fault::internal(e))
}

/// GET /deposits/{id}/recipients: for the sender only.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
) -> Result<Json<Vec<RecipientState>>> {
    let mut tx = hub.db().read().await?;
    let sql = const_sql(&["SELECT p.id FROM deposits p WHERE p.id = $1 AND ", SENDS]);
    tx.optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    Ok(Json(of_deposit(&mut tx, id).await?))
}

async fn of_deposit(tx: &mut Tx, id: DepositId) -> Result<Vec<RecipientState>> {
    let sql = const_sql(&[
        "SELECT r.box, r.added, r.withdrawn, b.address, b.name, k.since AS bounced, ",
        READ,
        " AS read FROM recipients r JOIN boxes b ON b.id = r.box LEFT JOIN bounces k ON k.box = r.box
         WHERE r.deposit = $1 ORDER BY b.address",
    ]);
    let state = |row: &Row| -> Result<RecipientState> {
        Ok(RecipientState {
            which: BoxId(row.get("box")?),
            address: row.get("address")?,
            name: row.get("name")?,
            added: row.get("added")?,
            withdrawn: row.get("withdrawn")?,
            read: row.get("read")?,
            bounced: row.get("bounced")?,
        })
    };
    tx.rows(sql, args![id.0]).await?.iter().map(state).collect()
}

/// Holds a deposit that the caller sends and that has not ended; gives its state.
async fn lock(tx: &mut Tx, caller: &Caller, id: DepositId, now: Time) -> Result<DepositState> {
    // Said as for any other load, then held: the update alone cannot name its table `p` on both databases.
    let sql = const_sql(&["SELECT p.id FROM deposits p WHERE p.id = $1 AND ", SENDS]);
    tx.optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    let row = tx
        .optional(
            "UPDATE deposits SET version = version + 1 WHERE id = $1 RETURNING state, expires",
            args![id.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let ended = row.get::<Option<Time>>("expires")?.is_some_and(|expires| expires <= now);
    match state_of(&row)? {
        DepositState::Expired => Err(ProblemCode::Conflict.into()),
        _ if ended => Err(ProblemCode::Conflict.into()),
        state => Ok(state),
    }
}

/// POST /deposits/{id}/recipients: one more, also one that had been withdrawn.
pub(crate) async fn add(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
    Json(new): Json<NewDepositRecipient>,
) -> Result<(StatusCode, Json<Vec<RecipientState>>)> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let state = lock(&mut tx, &caller, id, now).await?;
    let address = people::address(&new.address)?;
    let sql = "SELECT id FROM boxes WHERE address = $1 AND closed IS NULL";
    let Some(row) = tx.optional(sql, args![address.as_str()]).await? else {
        return Err(Fault::because(ProblemCode::UnknownRecipient, format!("Pas de compte pour {address}.")));
    };
    let to = BoxId(row.get("id")?);
    let row = tx
        .one("SELECT COUNT(*) AS n FROM recipients WHERE deposit = $1 AND withdrawn IS NULL", args![id.0])
        .await?;
    if row.get::<i64>("n")? >= deposits::RECIPIENTS_MAX as i64 {
        let said = format!("De 1 à {} destinataires.", deposits::RECIPIENTS_MAX);
        return Err(Fault::because(ProblemCode::Invalid, said));
    }
    let added = tx
        .execute(
            "INSERT INTO recipients (deposit, box, added) VALUES ($1, $2, $3)
             ON CONFLICT (deposit, box) DO UPDATE SET added = excluded.added, withdrawn = NULL, reminder = NULL
             WHERE recipients.withdrawn IS NOT NULL",
            args![id.0, to.0, now],
        )
        .await?;
    if added == 0 {
        return Ok((StatusCode::OK, Json(of_deposit(&mut tx, id).await?)));
    }
    let detail = serde_json::json!({ "box": to });
    Event::new("deposit.recipient_added").by(&caller).deposit(id).detail(detail).write(&mut tx, now).await?;
    if state == DepositState::Available {
        notices::tell(&mut tx, NoticeKind::DepositAvailable, to, About::at(now).deposit(id)).await?;
    }
    let all = of_deposit(&mut tx, id).await?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok((StatusCode::CREATED, Json(all)))
}

/// DELETE /deposits/{id}/recipients/{box}: from then on the deposit is not theirs to see. What they downloaded
/// before is theirs.
pub(crate) async fn withdraw(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, which)): Path<(DepositId, BoxId)>,
) -> Result<StatusCode> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let state = lock(&mut tx, &caller, id, now).await?;
    let sql = "UPDATE recipients SET withdrawn = $3 WHERE deposit = $1 AND box = $2 AND withdrawn IS NULL";
    if tx.execute(sql, args![id.0, which.0, now]).await? == 0 {
        return Err(ProblemCode::NotFound.into());
    }
    let row = tx
        .one("SELECT COUNT(*) AS n FROM recipients WHERE deposit = $1 AND withdrawn IS NULL", args![id.0])
        .await?;
    if row.get::<i64>("n")? == 0 && state == DepositState::Draft {
        return Err(Fault::because(ProblemCode::Conflict, "Un dépôt a au moins un destinataire."));
    }
    let detail = serde_json::json!({ "box": which });
    Event::new("deposit.recipient_withdrawn")
        .by(&caller)
        .deposit(id)
        .detail(detail)
        .write(&mut tx, now)
        .await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reminds who has not read of what ends soon: some days before the end, or half of the retention where that is
/// less. Once for each recipient. Part of the sweep.
pub(crate) async fn remind(hub: &Hub) -> Result<()> {
    let now = hub.now();
    let before = now.plus_seconds(i64::from(hub.options().reminder_days) * DAY);
    let sql = "SELECT p.id FROM deposits p WHERE p.state = 'available' AND p.expires > $1 AND p.expires <= $2
        AND (p.expires - $1) * 2 <= p.expires - p.available AND EXISTS (
            SELECT 1 FROM recipients r WHERE r.deposit = p.id AND r.withdrawn IS NULL AND r.reminder IS NULL)
        ORDER BY p.expires LIMIT 200";
    let mut outcome = Ok(());
    for row in hub.db().rows(sql, args![now, before]).await? {
        outcome = outcome.and(remind_of(hub, DepositId(row.get("id")?)).await);
    }
    outcome
}

async fn remind_of(hub: &Hub, id: DepositId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql =
        "UPDATE deposits SET version = version + 1 WHERE id = $1 AND state = 'available' AND expires > $2";
    if tx.execute(sql, args![id.0, now]).await? == 0 {
        return Ok(());
    }
    let sql = const_sql(&[
        "SELECT r.box, ",
        READ,
        " AS read FROM recipients r WHERE r.deposit = $1 AND r.withdrawn IS NULL AND r.reminder IS NULL ORDER BY r.box",
    ]);
    for row in tx.rows(sql, args![id.0]).await? {
        let to = BoxId(row.get("box")?);
        let sql = "UPDATE recipients SET reminder = $3 WHERE deposit = $1 AND box = $2 AND reminder IS NULL";
        if tx.execute(sql, args![id.0, to.0, now]).await? == 1 && row.get::<Option<Time>>("read")?.is_none() {
            notices::tell(&mut tx, NoticeKind::DepositExpiring, to, About::at(now).deposit(id)).await?;
        }
    }
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok(())
}

/// Tells senders who has not read what has ended, held or not. Once for each deposit. Part of the sweep.
pub(crate) async fn report(hub: &Hub) -> Result<()> {
    let sql = "SELECT id FROM deposits WHERE expires <= $1 AND reported IS NULL AND available IS NOT NULL
        ORDER BY expires LIMIT 200";
    let mut outcome = Ok(());
    for row in hub.db().rows(sql, args![hub.now()]).await? {
        outcome = outcome.and(report_on(hub, DepositId(row.get("id")?)).await);
    }
    outcome
}

async fn report_on(hub: &Hub, id: DepositId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "UPDATE deposits SET reported = $2, version = version + 1
        WHERE id = $1 AND expires <= $2 AND reported IS NULL RETURNING sender";
    let Some(row) = tx.optional(sql, args![id.0, now]).await? else { return Ok(()) };
    let sender = BoxId(row.get("sender")?);
    let all = of_deposit(&mut tx, id).await?;
    let unread: Vec<Uuid> =
        all.iter().filter(|r| r.withdrawn.is_none() && r.read.is_none()).map(|r| r.which.0).collect();
    if !unread.is_empty() {
        let detail = serde_json::json!({ "unread": unread });
        Event::new("deposit.unread").deposit(id).detail(detail).write(&mut tx, now).await?;
        notices::tell(&mut tx, NoticeKind::DepositUnread, sender, About::at(now).deposit(id)).await?;
    }
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok(())
}
