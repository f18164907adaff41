//! What ends by itself: stale uploads, forgotten drafts, deposits past their retention, sessions.
//!
//! Each thing ends in a transaction of its own that looks again, so that any number of processes may
//! sweep at once and a thing that has moved meanwhile stays.

use crate::fault::Result;
use crate::journal::Event;
use crate::{Hub, deposits, documents, uploads};
use pli_api::{DepositId, DocumentId, UploadId};
use pli_storage::args;
use uuid::Uuid;

/// Things of one kind ended in one sweep; the rest waits for the next.
const BATCH: &str = "LIMIT 200";
/// Days after which a draft that was not sent is discarded.
const DRAFT_DAYS: i64 = 30;

pub(crate) async fn sweep(hub: &Hub) -> Result<()> {
    let now = hub.now();
    stale_uploads(hub).await?;
    forgotten_drafts(hub).await?;
    expired_deposits(hub).await?;
    let mut tx = hub.db().write().await?;
    let ended = tx.execute("DELETE FROM sessions WHERE expires <= $1", args![now]).await?;
    if ended > 0 {
        tx.commit().await?
    } else {
        tx.rollback().await?
    }
    Ok(())
}

async fn due(hub: &Hub, sql: &str) -> Result<Vec<Uuid>> {
    let sql = pli_storage::Sql::assembled([sql, " ", BATCH].concat());
    let rows = hub.db().rows(sql, args![hub.now()]).await?;
    rows.iter().map(|row| Ok(row.get::<Uuid>("id")?)).collect()
}

async fn stale_uploads(hub: &Hub) -> Result<()> {
    let now = hub.now();
    let stale = due(
        hub,
        "SELECT id FROM uploads WHERE expires <= $1
         AND (state = 'pending' OR (state = 'complete' AND kind = 'partial' AND document IS NULL)) ORDER BY expires",
    );
    for id in stale.await? {
        let mut tx = hub.db().write().await?;
        // The fence goes up: a writer that comes back now has lost the upload.
        let row = tx
            .optional(
                "UPDATE uploads SET fence = fence + 1 WHERE id = $1 AND expires <= $2
                 AND (state = 'pending' OR (state = 'complete' AND kind = 'partial' AND document IS NULL))
                 RETURNING document",
                args![id, now],
            )
            .await?;
        let Some(row) = row else { continue };
        match row.get::<Option<Uuid>>("document")? {
            Some(document) => documents::remove(&mut tx, now, DocumentId(document)).await?,
            None => uploads::end(&mut tx, now, UploadId(id)).await?,
        }
        Event::new("upload.expired").detail(serde_json::json!({ "upload": id })).write(&mut tx, now).await?;
        tx.commit().await?;
        hub.end_writer(UploadId(id));
        hub.inner.bell.notify_waiters();
    }
    Ok(())
}

async fn forgotten_drafts(hub: &Hub) -> Result<()> {
    let now = hub.now();
    let before = now.plus_seconds(-DRAFT_DAYS * 86_400);
    let sql = pli_storage::Sql::assembled(
        ["SELECT id FROM deposits WHERE state = 'draft' AND created <= $1 ORDER BY id ", BATCH].concat(),
    );
    let rows = hub.db().rows(sql, args![before]).await?;
    for row in &rows {
        let id: Uuid = row.get("id")?;
        let mut tx = hub.db().write().await?;
        let held = tx
            .execute("UPDATE deposits SET version = version + 1 WHERE id = $1 AND state = 'draft'", args![id])
            .await?;
        if held == 1 {
            deposits::remove_draft(&mut tx, now, DepositId(id)).await?;
            Event::new("deposit.forgotten").deposit(DepositId(id)).write(&mut tx, now).await?;
            tx.commit().await?;
            hub.inner.bell.notify_waiters();
        }
    }
    Ok(())
}

async fn expired_deposits(hub: &Hub) -> Result<()> {
    let now = hub.now();
    let past =
        due(hub, "SELECT id FROM deposits WHERE state = 'available' AND expires <= $1 ORDER BY expires");
    for id in past.await? {
        let mut tx = hub.db().write().await?;
        let held = tx
            .execute(
                "UPDATE deposits SET state = 'expired', version = version + 1
                 WHERE id = $1 AND state = 'available' AND expires <= $2",
                args![id, now],
            )
            .await?;
        if held == 0 {
            continue;
        }
        let id = DepositId(id);
        for document in documents::ids_of_deposit(&mut tx, id).await? {
            documents::erase(&mut tx, now, document).await?;
        }
        Event::new("deposit.expired").deposit(id).write(&mut tx, now).await?;
        tx.commit().await?;
        hub.inner.bell.notify_waiters();
    }
    Ok(())
}
