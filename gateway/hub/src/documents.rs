//! Documents: from the last byte received to the signed manifest, and to their erasure.
//!
//! Owns the tables `documents` and `document_parts`.

use crate::access::Caller;
use crate::content::Content;
use crate::deposits::{self, VISIBLE};
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::receive::signed;
use crate::{Hub, antivirus, jobs, pieces, uploads};
use axum::Json;
use axum::extract::{Path, State};
use pli_api::{DepositId, Document, DocumentId, DocumentState, MessageId, ProblemCode, Time, UploadId};
use pli_seal::{ContentDigest, Manifest, ManifestPart, ManifestSegment, SealError};
use pli_storage::{AT_ONCE, Class, DbError, Job, NewJob, ObjectKey, Row, Sql, Tx, args};
use uuid::Uuid;

/// The job that finishes a document.
pub(crate) const FINISH: &str = "document.finish";

/// Attempts after which a document whose content does not open is called damaged.
const DAMAGE_ATTEMPTS: i64 = 3;

const COLUMNS: &str = "d.id, d.deposit, d.name, d.media_type, d.size, d.sha256, d.state,
    d.scan, d.scan_reason, d.scan_signature";

pub(crate) fn from_row(row: &Row) -> Result<Document> {
    Ok(Document {
        id: DocumentId(row.get("id")?),
        deposit: DepositId(row.get("deposit")?),
        name: row.get("name")?,
        media_type: row.get("media_type")?,
        size: row.get::<Option<i64>>("size")?.and_then(|n| u64::try_from(n).ok()),
        sha256: row.get::<Option<Vec<u8>>>("sha256")?.map(hex::encode),
        state: row.get::<String>("state")?.parse().map_err(|e: String| Fault::internal(e))?,
        scan: antivirus::from_row(row)?,
    })
}

/// A document of a draft, about to be received.
pub(crate) async fn insert(
    tx: &mut Tx,
    now: Time,
    deposit: DepositId,
    name: &str,
    media_type: &str,
    size: Option<u64>,
) -> Result<DocumentId, DbError> {
    let id = DocumentId::new();
    tx.execute(
        "INSERT INTO documents (id, deposit, name, media_type, size, state, created)
         VALUES ($1, $2, $3, $4, $5, 'receiving', $6)",
        args![id.0, deposit.0, name, media_type, size.map(signed), now],
    )
    .await?;
    Ok(id)
}

/// One more part of a document.
pub(crate) async fn add_part(
    tx: &mut Tx,
    document: DocumentId,
    part: i64,
    upload: UploadId,
    start: u64,
) -> Result<(), DbError> {
    tx.execute(
        "INSERT INTO document_parts (document, part, upload, start) VALUES ($1, $2, $3, $4)",
        args![document.0, part, upload.0, signed(start)],
    )
    .await?;
    Ok(())
}

/// All bytes are durable: the rest is a job, in the same transaction.
pub(crate) async fn received(tx: &mut Tx, document: DocumentId, size: u64) -> Result<()> {
    tx.execute(
        "UPDATE documents SET state = 'finishing', size = $2 WHERE id = $1 AND state = 'receiving'",
        args![document.0, signed(size)],
    )
    .await?;
    let payload = serde_json::json!({ "document": document });
    let unique = document.to_string();
    tx.enqueue(NewJob { kind: FINISH, payload, run_at: AT_ONCE, unique: Some(&unique) }).await?;
    Ok(())
}

/// The documents of a deposit, in the order in which they were begun.
pub(crate) async fn of_deposit(tx: &mut Tx, deposit: DepositId) -> Result<Vec<Document>> {
    let sql = ["SELECT ", COLUMNS, " FROM documents d WHERE d.deposit = $1 ORDER BY d.id"];
    tx.rows(Sql::assembled(sql.concat()), args![deposit.0]).await?.iter().map(from_row).collect()
}

pub(crate) async fn ids_of_deposit(tx: &mut Tx, deposit: DepositId) -> Result<Vec<DocumentId>> {
    let rows = tx.rows("SELECT id FROM documents WHERE deposit = $1", args![deposit.0]).await?;
    rows.iter().map(|row| Ok(DocumentId(row.get("id")?))).collect()
}

/// True in SQL when document `d` of deposit `p` was passed on to account `$2` and is at its disposal at instant
/// `$3`: by a message that lies in one of its boxes, within the procedure `$4` where one limits it, and while
/// whoever passed it on may read it still.
const PASSED_ON: &str = "(p.state = 'available' AND p.expires > $3 AND EXISTS (
    SELECT 1 FROM forwarded_documents f JOIN messages h ON h.id = f.message JOIN deliveries v ON v.message = f.message
    WHERE f.document = d.id AND v.withdrawn IS NULL AND ($4 IS NULL OR h.procedure = $4)
    AND v.box IN (SELECT id FROM boxes WHERE id = $2
        UNION ALL SELECT service FROM service_members WHERE account = $2)
    AND (h.sender = p.sender OR EXISTS (SELECT 1 FROM recipients r
        WHERE r.deposit = p.id AND r.box = h.sender AND r.withdrawn IS NULL))))";

/// The document, if the caller may see it: in a deposit, passed on by a message, or as a piece of a procedure.
pub(crate) async fn load(
    tx: &mut Tx,
    caller: &Caller,
    id: DocumentId,
    now: Time,
) -> Result<Option<Document>> {
    let sql = [
        "SELECT ",
        COLUMNS,
        " FROM documents d JOIN deposits p ON p.id = d.deposit WHERE d.id = $1 AND ((",
        VISIBLE,
        ") OR ",
        PASSED_ON,
        " OR ",
        pieces::READABLE,
        ")",
    ];
    let values = args![id.0, caller.account.0, now, caller.scope()];
    let row = tx.optional(Sql::assembled(sql.concat()), values).await?;
    row.as_ref().map(from_row).transpose()
}

/// The documents that a message passes on.
pub(crate) async fn forwarded_by(tx: &mut Tx, message: MessageId) -> Result<Vec<Document>> {
    let sql = [
        "SELECT ",
        COLUMNS,
        " FROM forwarded_documents f JOIN documents d ON d.id = f.document WHERE f.message = $1 ORDER BY d.id",
    ];
    tx.rows(Sql::assembled(sql.concat()), args![message.0]).await?.iter().map(from_row).collect()
}

/// GET /documents/{id}.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DocumentId>,
) -> Result<Json<Document>> {
    let mut tx = hub.db().read().await?;
    Ok(Json(load(&mut tx, &caller, id, hub.now()).await?.ok_or(ProblemCode::NotFound)?))
}

/// The job: digest and manifest; then the document, and perhaps its deposit, is available.
pub(crate) async fn finish(hub: &Hub, job: &Job) -> Result<()> {
    let id: DocumentId = serde_json::from_value(job.payload["document"].clone()).map_err(Fault::internal)?;
    let mut tx = hub.db().read().await?;
    let row = tx
        .optional(
            "SELECT d.deposit, d.name, d.media_type, d.state, d.created FROM documents d WHERE d.id = $1",
            args![id.0],
        )
        .await?;
    let Some(row) = row.filter(|row| row.get::<String>("state").is_ok_and(|s| s == "finishing")) else {
        drop(tx);
        return jobs::complete_alone(hub, job).await;
    };
    let loaded = Content::load(hub, &mut tx, id).await;
    let midstate = match &loaded {
        Ok(content) => digest_of_single_part(&mut tx, id, content).await?,
        Err(_) => None,
    };
    drop(tx);
    let digested = match (loaded, midstate) {
        (Ok(content), Some(digest)) => Ok((content, digest.finalize())),
        (Ok(content), None) => read_through(hub, &content).await.map(|digest| (content, digest)),
        (Err(fault), _) => Err(fault),
    };
    let (content, sha256) = match digested {
        Ok(digested) => digested,
        Err(fault) if fault.code() == ProblemCode::Damaged && job.attempt >= DAMAGE_ATTEMPTS => {
            return damaged(hub, job, id).await;
        }
        Err(fault) => return Err(fault),
    };

    let deposit = DepositId(row.get("deposit")?);
    let ring = hub.keys().ring();
    let manifest = manifest(&row, id, deposit, &content, &sha256)?;
    let key = content.keys.first().cloned().ok_or_else(|| Fault::internal("document without a part"))?;
    let sealing = ring.clone();
    let sealed =
        tokio::task::spawn_blocking(move || manifest.seal(&key, &sealing, &[sealing.current()])).await??;
    let object = ObjectKey::random(Class::Manifest)?;
    hub.blobs().put(&object, vec![sealed.into()]).await?;

    let now = hub.now();
    let mut tx = hub.db().write().await?;
    // The deposit before its documents, everywhere.
    deposits::hold(&mut tx, deposit).await?;
    let moved = tx
        .execute(
            "UPDATE documents SET state = 'available', sha256 = $2, manifest = $3, wrapped_for = $4, finished = $5
             WHERE id = $1 AND state = 'finishing'",
            args![id.0, sha256.to_vec(), object.as_str(), ring.current().fingerprint(), now],
        )
        .await?;
    if moved == 0 || !tx.complete(job).await? {
        tx.rollback().await?;
        hub.blobs().delete(&object).await?;
        return Ok(());
    }
    let detail = serde_json::json!({ "sha256": hex::encode(sha256), "size": content.size });
    Event::new("document.sealed").deposit(deposit).document(id).detail(detail).write(&mut tx, now).await?;
    antivirus::sealed(hub, &mut tx, id).await?;
    deposits::release(&mut tx, now, deposit).await?;
    tx.commit().await?;
    metrics::counter!("pli_documents_sealed_total").increment(1);
    Ok(())
}

/// A document of one part was hashed while it was received; the midstate must cover all of it. Without one
/// that does, the content is read through.
async fn digest_of_single_part(
    tx: &mut Tx,
    id: DocumentId,
    content: &Content,
) -> Result<Option<ContentDigest>> {
    let [key] = content.keys.as_slice() else { return Ok(None) };
    if content.size == 0 {
        return Ok(Some(ContentDigest::new()));
    }
    let row = tx
        .one(
            "SELECT u.digest FROM document_parts p JOIN uploads u ON u.id = p.upload WHERE p.document = $1",
            args![id.0],
        )
        .await?;
    let Some(saved) = row.get::<Option<Vec<u8>>>("digest")? else { return Ok(None) };
    match ContentDigest::restore(&saved, key) {
        Ok(digest) => Ok((digest.length() == content.size).then_some(digest)),
        Err(error @ (SealError::Damaged(_) | SealError::WrongKey)) => {
            tracing::error!(error = %error, document = %id, "running digest damaged: the content is read through");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// A concatenation has no running digest: everything is read back, which also proves that it can be.
async fn read_through(hub: &Hub, content: &Content) -> Result<[u8; 32]> {
    let mut digest = ContentDigest::new();
    let mut reader = content.reader(hub.clone(), 0..content.size);
    while let Some(bytes) = reader.next().await? {
        digest = tokio::task::spawn_blocking(move || {
            digest.update(&bytes);
            digest
        })
        .await?;
    }
    Ok(digest.finalize())
}

fn manifest(
    row: &Row,
    id: DocumentId,
    deposit: DepositId,
    content: &Content,
    sha256: &[u8; 32],
) -> Result<Manifest> {
    let part = |index: usize| {
        let key = if index == 0 { None } else { content.keys.get(index) };
        let pieces = content.pieces.iter().filter(|piece| piece.part == index);
        let segments = pieces.map(|p| ManifestSegment::new(p.object.as_str().to_owned(), &p.row)).collect();
        ManifestPart::new(key, segments)
    };
    Ok(Manifest {
        version: 1,
        document: id.to_string(),
        deposit: deposit.to_string(),
        name: row.get("name")?,
        media_type: row.get("media_type")?,
        size: content.size,
        sha256: hex::encode(sha256),
        created: row.get::<Time>("created")?.micros(),
        parts: (0..content.keys.len()).map(part).collect(),
    })
}

/// The job found that the content does not open: it ends, and so does the document.
pub(crate) async fn damaged(hub: &Hub, job: &Job, id: DocumentId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "UPDATE documents SET state = 'damaged' WHERE id = $1
               AND (state = 'finishing' OR (state = 'available' AND scan = 'pending')) RETURNING deposit";
    if let Some(row) = tx.optional(sql, args![id.0]).await? {
        let deposit = DepositId(row.get("deposit")?);
        Event::new("document.damaged").deposit(deposit).document(id).write(&mut tx, now).await?;
    }
    if tx.complete(job).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Ends every upload of a document: keys at once, objects by a job.
async fn end_uploads(tx: &mut Tx, id: DocumentId) -> Result<()> {
    let rows = tx.rows("SELECT id FROM uploads WHERE document = $1", args![id.0]).await?;
    for row in &rows {
        uploads::end(tx, UploadId(row.get::<Uuid>("id")?)).await?;
    }
    // Held, not only read: a rotation that replaces the manifest meanwhile would leave the new one behind.
    let sql = "UPDATE documents SET finished = finished WHERE id = $1 RETURNING manifest";
    let row = tx.optional(sql, args![id.0]).await?;
    if let Some(manifest) = row.map(|row| row.get::<Option<String>>("manifest")).transpose()?.flatten() {
        jobs::delete_objects(tx, &[&manifest]).await?;
    }
    Ok(())
}

/// Takes a document out of a draft, as if it had not been.
pub(crate) async fn remove(tx: &mut Tx, id: DocumentId) -> Result<()> {
    end_uploads(tx, id).await?;
    tx.execute("DELETE FROM document_parts WHERE document = $1", args![id.0]).await?;
    tx.execute("UPDATE uploads SET document = NULL, deposit = NULL WHERE document = $1", args![id.0]).await?;
    tx.execute("DELETE FROM documents WHERE id = $1", args![id.0]).await?;
    Ok(())
}

/// Crypto-erasure: no key is left to open anything; the row stays, with its digest, as evidence.
pub(crate) async fn erase(tx: &mut Tx, now: Time, id: DocumentId) -> Result<()> {
    end_uploads(tx, id).await?;
    let row = tx
        .one(
            "UPDATE documents SET state = $2, manifest = NULL, wrapped_for = NULL WHERE id = $1 RETURNING deposit",
            args![id.0, DocumentState::Erased.as_str()],
        )
        .await?;
    let deposit = DepositId(row.get("deposit")?);
    Event::new("document.erased").deposit(deposit).document(id).write(tx, now).await?;
    Ok(())
}
