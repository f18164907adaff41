//! What ends by itself: stale uploads, forgotten drafts, deposits past their retention, sessions.
//!
//! Each thing ends in a transaction of its own that looks again, so that any number of processes may
//! sweep at once and a thing that has moved meanwhile stays.

use crate::fault::Result;
use crate::journal::Event;
use crate::uploads::{UNFINISHED, const_sql};
use crate::{Hub, antivirus, deposits, documents, holds, log, notices, recipients, uploads};
use pli_api::{DepositId, DocumentId, Time, UploadId};
use pli_storage::args;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Things of one kind ended in one sweep; the rest waits for the next.
const BATCH: &str = " LIMIT 200";
const DAY: i64 = 86_400;
/// A difference between the clock and the time that has passed, in microseconds, that is a jump and no drift.
const JUMP: u64 = 5 * 60 * 1_000_000;
/// How long a clock that jumped has to hold still before it is believed.
const TRIAL: Duration = Duration::from_secs(3600);
/// Days after which a draft that was not sent is discarded.
const DRAFT_DAYS: i64 = 30;

/// Days that the row of an ended upload stays, so that its address answers « gone ».
const ENDED_DAYS: i64 = 30;

/// Tells a clock that jumps from time that passes. An erasure cannot be taken back: a clock that is years ahead
/// for a minute must not be the end of every document.
pub(crate) struct ClockWatch {
    seen: (Instant, Time),
    doubted: Option<Instant>,
}

impl ClockWatch {
    pub(crate) fn new(elapsed: Instant, now: Time) -> Self {
        Self { seen: (elapsed, now), doubted: None }
    }

    /// Whether the clock has gone with the time that passed since the last look and, after a jump, for an hour.
    pub(crate) fn is_believed(&mut self, elapsed: Instant, now: Time) -> bool {
        let (before, at) = std::mem::replace(&mut self.seen, (elapsed, now));
        let passed = i64::try_from(elapsed.saturating_duration_since(before).as_micros()).unwrap_or(i64::MAX);
        let expected = at.micros().saturating_add(passed);
        if now.micros().abs_diff(expected) > JUMP {
            metrics::counter!("pli_clock_jumps_total").increment(1);
            self.doubted = Some(elapsed);
        }
        if self.doubted.is_some_and(|since| elapsed.saturating_duration_since(since) >= TRIAL) {
            self.doubted = None;
        }
        self.doubted.is_none()
    }
}

/// Ends what is due. One thing that cannot be ended does not keep the others: the first failure is told
/// once all were tried.
pub(crate) async fn sweep(hub: &Hub) -> Result<()> {
    let outcomes = [
        stale_uploads(hub).await,
        forgotten_drafts(hub).await,
        recipients::remind(hub).await,
        recipients::report(hub).await,
        expired_deposits(hub).await,
        antivirus::sweep(hub).await,
        notices::gather(hub).await,
        notices::forget(hub).await,
        old_rows(hub).await,
        log::prune(hub).await,
    ];
    outcomes.into_iter().collect()
}

async fn due(hub: &Hub, parts: &[&str], before: Time) -> Result<Vec<Uuid>> {
    let sql = const_sql(&[&parts.concat(), BATCH]);
    let rows = hub.db().rows(sql, args![before]).await?;
    rows.iter().map(|row| Ok(row.get::<Uuid>("id")?)).collect()
}

async fn stale_uploads(hub: &Hub) -> Result<()> {
    let sql = ["SELECT id FROM uploads WHERE expires <= $1 AND ", UNFINISHED, " ORDER BY expires"];
    let mut outcome = Ok(());
    for id in due(hub, &sql, hub.now()).await? {
        outcome = outcome.and(stale_upload(hub, UploadId(id)).await);
    }
    outcome
}

async fn stale_upload(hub: &Hub, id: UploadId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    // The fence goes up: a writer that comes back now has lost the upload.
    let sql = const_sql(&[
        "UPDATE uploads SET fence = fence + 1 WHERE id = $1 AND expires <= $2 AND ",
        UNFINISHED,
        " RETURNING document",
    ]);
    let Some(row) = tx.optional(sql, args![id.0, now]).await? else { return Ok(()) };
    match row.get::<Option<Uuid>>("document")? {
        Some(document) => documents::remove(&mut tx, DocumentId(document)).await?,
        None => uploads::end(&mut tx, id).await?,
    }
    Event::new("upload.expired").detail(serde_json::json!({ "upload": id })).write(&mut tx, now).await?;
    tx.commit().await?;
    hub.end_writer(id);
    hub.inner.bell.notify_waiters();
    Ok(())
}

async fn forgotten_drafts(hub: &Hub) -> Result<()> {
    let before = hub.now().plus_seconds(-DRAFT_DAYS * DAY);
    let sql = ["SELECT id FROM deposits WHERE state = 'draft' AND created <= $1 ORDER BY id"];
    let mut outcome = Ok(());
    for id in due(hub, &sql, before).await? {
        outcome = outcome.and(forgotten_draft(hub, DepositId(id)).await);
    }
    outcome
}

async fn forgotten_draft(hub: &Hub, id: DepositId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let held = tx
        .execute("UPDATE deposits SET version = version + 1 WHERE id = $1 AND state = 'draft'", args![id.0])
        .await?;
    if held == 0 {
        return Ok(());
    }
    let uploads = deposits::remove_draft(&mut tx, id).await?;
    Event::new("deposit.forgotten").deposit(id).write(&mut tx, now).await?;
    tx.commit().await?;
    uploads.into_iter().for_each(|upload| hub.end_writer(upload));
    hub.inner.bell.notify_waiters();
    Ok(())
}

async fn expired_deposits(hub: &Hub) -> Result<()> {
    let sql = [
        "SELECT p.id FROM deposits p WHERE p.state = 'available' AND p.expires <= $1 AND NOT ",
        holds::HELD,
        " ORDER BY p.expires",
    ];
    let mut outcome = Ok(());
    for id in due(hub, &sql, hub.now()).await? {
        outcome = outcome.and(expired_deposit(hub, DepositId(id)).await);
    }
    outcome
}

async fn expired_deposit(hub: &Hub, id: DepositId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let held = tx
        .execute(
            "UPDATE deposits SET state = 'expired', version = version + 1
             WHERE id = $1 AND state = 'available' AND expires <= $2",
            args![id.0, now],
        )
        .await?;
    // Asked again now that the row is held: a hold is placed under the same lock.
    if held == 0 || holds::is_held(&mut tx, id).await? {
        return Ok(());
    }
    for document in documents::ids_of_deposit(&mut tx, id).await? {
        documents::erase(&mut tx, now, document).await?;
    }
    Event::new("deposit.expired").deposit(id).write(&mut tx, now).await?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok(())
}

/// Sessions past their time, and what is left of uploads that ended long ago.
async fn old_rows(hub: &Hub) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sessions = tx.execute("DELETE FROM sessions WHERE expires <= $1", args![now]).await?;
    let uploads = tx
        .execute(
            "DELETE FROM uploads WHERE state = 'ended' AND expires <= $1 AND document IS NULL",
            args![now.plus_seconds(-ENDED_DAYS * DAY)],
        )
        .await?;
    if sessions + uploads > 0 {
        tx.commit().await?
    } else {
        tx.rollback().await?
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_is_believed_once_it_has_held_still() {
        let (start, zero) = (Instant::now(), Time::from_micros(1_800_000_000_000_000));
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut watch = ClockWatch::new(start, zero);
        assert!(watch.is_believed(at(60), zero.plus_seconds(60)));
        assert!(watch.is_believed(at(120), zero.plus_seconds(119)), "set right by a second");
        let years = 10 * 365 * DAY;
        assert!(!watch.is_believed(at(180), zero.plus_seconds(years + 180)));
        assert!(!watch.is_believed(at(240), zero.plus_seconds(years + 240)), "still there");
        assert!(!watch.is_believed(at(300), zero.plus_seconds(300)), "going back is a jump too");
        assert!(!watch.is_believed(at(3899), zero.plus_seconds(3899)));
        assert!(watch.is_believed(at(3900), zero.plus_seconds(3900)));
    }
}
