//! Uploads: tus 1.0.0 with creation, creation-with-upload, creation-defer-length, checksum,
//! expiration, termination and concatenation.
//!
//! Owns the tables `uploads` and `segments`. An upload is written by whoever holds its newest fence.

use crate::access::{Actor, Caller};
use crate::checksum::Checksum;
use crate::content::Piece;
use crate::deposits::lock_draft;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::receive::{self, Ended, Received, Target, signed};
use crate::{Hub, documents, jobs};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use pli_api::tus::{self, Concat, Metadata};
use pli_api::{
    DepositId, DocumentId, OrganisationId, Page, PendingUpload, ProblemCode, Time, UploadId, UploadKind,
};
use pli_storage::{DbError, Row, Sql, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// True in SQL of an upload that still waits for something of its owner: bytes, or to be concatenated.
pub(crate) const UNFINISHED: &str =
    "(state = 'pending' OR (state = 'complete' AND kind = 'partial' AND document IS NULL))";

pub(crate) fn const_sql(parts: &[&str]) -> Sql {
    Sql::assembled(parts.concat())
}

const OFFSET_OCTETS: &str = "application/offset+octet-stream";

/// OPTIONS: what the server can do, and its limit.
pub(crate) async fn capabilities(State(hub): State<Hub>) -> impl IntoResponse {
    let headers = [
        (tus::TUS_RESUMABLE, tus::VERSION),
        (tus::TUS_VERSION, tus::VERSION),
        (tus::TUS_EXTENSION, tus::EXTENSIONS),
        (tus::TUS_MAX_SIZE, HeaderValue::from(hub.options().max_size)),
        (tus::TUS_CHECKSUM_ALGORITHM, tus::CHECKSUM_ALGORITHMS),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Every answer of tus carries the version.
fn answer(result: Result<Response>) -> Response {
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(tus::TUS_RESUMABLE, tus::VERSION);
    response
}

fn http_date(time: Time) -> Result<HeaderValue> {
    HeaderValue::from_str(&time.http_date()).map_err(Fault::internal)
}

fn media_type_is_offset(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(OFFSET_OCTETS.as_bytes()))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// POST /uploads: creation.
pub(crate) async fn create(State(hub): State<Hub>, caller: Caller, request: Request) -> Response {
    answer(create_upload(&hub, &caller, request).await)
}

async fn create_upload(hub: &Hub, caller: &Caller, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    tus::resumable(headers)?;
    let metadata = tus::metadata(headers)?;
    if hub.stopping() {
        return Err(ProblemCode::Stopping.into());
    }
    let (kind, size) = match tus::concat(headers)? {
        Concat::Final(list) => {
            let (id, document) = create_final(hub, caller, headers, &metadata, &list).await?;
            return created(id, Some(document), None, None);
        }
        Concat::Partial => (UploadKind::Partial, tus::creation_length(headers)?),
        Concat::Whole => (UploadKind::Whole, tus::creation_length(headers)?),
    };
    let announced = content_length(headers);
    let with_upload = media_type_is_offset(headers) && !body.is_end_stream() && announced != Some(0);
    if with_upload {
        // What is certain to be refused creates nothing.
        tus::checksum(headers)?;
        if announced > size.or(Some(hub.options().max_size)) {
            return Err(Fault::because(ProblemCode::TooLarge, "Plus d'octets que la taille annoncée."));
        }
    }
    let (id, document) = create_receiving(hub, caller, kind, &metadata, size).await?;
    let expires = hub.now().plus_seconds(hub.options().upload_expiry);
    if with_upload && size != Some(0) {
        let written = write(hub, caller, id, 0, None, headers, body).await;
        // The upload exists, whatever became of its first bytes: the client may go on with it.
        let received = written.map_err(|fault| fault.with(header::LOCATION, location(id)))?;
        return created(id, document, Some(received.offset), Some(expires));
    }
    created(id, document, Some(0), Some(expires))
}

fn location(id: UploadId) -> HeaderValue {
    let mut address = String::from("/api/v1/uploads/");
    address.push_str(&id.to_string());
    // Hexadecimal digits, hyphens and slashes are always a header value.
    HeaderValue::from_str(&address).unwrap_or(HeaderValue::from_static("/api/v1/uploads"))
}

fn created(
    id: UploadId,
    document: Option<DocumentId>,
    offset: Option<u64>,
    expires: Option<Time>,
) -> Result<Response> {
    let mut response = StatusCode::CREATED.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(id));
    if let Some(document) = document {
        let value = HeaderValue::from_str(&document.to_string()).map_err(Fault::internal)?;
        headers.insert("pli-document", value);
    }
    if let Some(offset) = offset {
        headers.insert(tus::UPLOAD_OFFSET, offset.into());
    }
    if let Some(expires) = expires {
        headers.insert(tus::UPLOAD_EXPIRES, http_date(expires)?);
    }
    Ok(response)
}

fn deposit_of(metadata: &Metadata) -> Result<DepositId> {
    let given = metadata.pairs.get("deposit");
    given.and_then(|text| text.parse().ok()).ok_or_else(|| {
        Fault::because(ProblemCode::BadMetadata, "upload-metadata : « deposit » absent ou mal formé.")
    })
}

fn name_of(metadata: &Metadata) -> Result<String> {
    let given = metadata.pairs.get("filename").or_else(|| metadata.pairs.get("name"));
    Ok(tus::document_name(given.map_or("", String::as_str))?)
}

async fn create_receiving(
    hub: &Hub,
    caller: &Caller,
    kind: UploadKind,
    metadata: &Metadata,
    size: Option<u64>,
) -> Result<(UploadId, Option<DocumentId>)> {
    let options = hub.options();
    if size.is_some_and(|size| size > options.max_size) {
        return Err(too_large(options.max_size));
    }
    let named = match kind {
        UploadKind::Partial => None,
        _ => Some((deposit_of(metadata)?, name_of(metadata)?)),
    };
    let (_, wrapped, wrapped_for) = hub.keys().new_key()?;
    let now = hub.now();
    let upload = UploadId::new();
    let mut tx = hub.db().write().await?;
    let mut document = None;
    if let Some((deposit, name)) = &named {
        lock_draft(&mut tx, caller, *deposit).await?;
        let media_type = tus::media_type(metadata.pairs.get("filetype"));
        let id = documents::insert(&mut tx, now, *deposit, name, &media_type, size).await?;
        document = Some(id);
    }
    // Counted one request after the other, or many at once would pass together.
    tx.lock(&format!("uploads of {}", caller.account)).await?;
    let sql = const_sql(&["SELECT COUNT(*) AS n FROM uploads WHERE owner = $1 AND ", UNFINISHED]);
    let pending = tx.one(sql, args![caller.account.0]).await?;
    if pending.get::<i64>("n")? >= i64::from(options.pending_uploads) {
        let detail = format!("Au plus {} envois inachevés par compte.", options.pending_uploads);
        return Err(Fault::because(ProblemCode::TooMany, detail));
    }
    let reserved = reserve(&mut tx, caller.organisation, 0, size.unwrap_or(0)).await?;
    let complete = size == Some(0);
    tx.execute(
        "INSERT INTO uploads (id, owner, organisation, kind, state, deposit, document, metadata, size, received,
                              reserved, segments, fence, wrapped_key, wrapped_for, created, expires)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, 0, 0, $11, $12, $13, $14)",
        args![
            upload.0,
            caller.account.0,
            caller.organisation.0,
            kind.as_str(),
            if complete { "complete" } else { "pending" },
            named.as_ref().map(|(deposit, _)| deposit.0),
            document.map(|d| d.0),
            metadata.header.as_str(),
            size.map(signed),
            signed(reserved),
            wrapped,
            wrapped_for,
            now,
            now.plus_seconds(options.upload_expiry)
        ],
    )
    .await?;
    if let Some(document) = document {
        documents::add_part(&mut tx, document, 0, upload, 0).await?;
    }
    if complete {
        completed(&mut tx, now, upload, kind, Actor::from(caller), document, 0).await?;
    }
    tx.commit().await?;
    if complete {
        hub.inner.bell.notify_waiters();
    }
    Ok((upload, document))
}

async fn create_final(
    hub: &Hub,
    caller: &Caller,
    headers: &HeaderMap,
    metadata: &Metadata,
    list: &[UploadId],
) -> Result<(UploadId, DocumentId)> {
    if tus::length(headers)?.is_some() {
        return Err(Fault::because(
            ProblemCode::BadMetadata,
            "Une concaténation ne porte pas upload-length.",
        ));
    }
    let (deposit, name) = (deposit_of(metadata)?, name_of(metadata)?);
    let concat =
        headers.get(&tus::UPLOAD_CONCAT).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let now = hub.now();
    let upload = UploadId::new();
    let mut tx = hub.db().write().await?;
    lock_draft(&mut tx, caller, deposit).await?;
    let media_type = tus::media_type(metadata.pairs.get("filetype"));
    let document = documents::insert(&mut tx, now, deposit, &name, &media_type, None).await?;
    let mut size = 0_u64;
    for (part, id) in (0_i64..).zip(list) {
        // The row is locked by the update: a part is given to one document, and cannot expire meanwhile.
        let row = tx
            .optional(
                "UPDATE uploads SET fence = fence + 1 WHERE id = $1 AND owner = $2 AND kind = 'partial'
                 RETURNING state, received, document",
                args![id.0, caller.account.0],
            )
            .await?
            .ok_or(ProblemCode::NotFound)?;
        match row.get::<String>("state")?.as_str() {
            "complete" if row.get::<Option<Uuid>>("document")?.is_none() => {}
            "complete" => return Err(ProblemCode::PartUsed.into()),
            "pending" => {
                return Err(Fault::because(ProblemCode::Conflict, "Une partie n'est pas entièrement reçue."));
            }
            _ => return Err(ProblemCode::Gone.into()),
        }
        documents::add_part(&mut tx, document, part, *id, size).await?;
        tx.execute(
            "UPDATE uploads SET document = $2, deposit = $3 WHERE id = $1",
            args![id.0, document.0, deposit.0],
        )
        .await?;
        size = size.saturating_add(u64::try_from(row.get::<i64>("received")?).unwrap_or(0));
    }
    if size > hub.options().max_size {
        return Err(too_large(hub.options().max_size));
    }
    tx.execute(
        "INSERT INTO uploads (id, owner, organisation, kind, state, deposit, document, metadata, concat, size,
                              received, reserved, segments, fence, created, expires)
         VALUES ($1, $2, $3, 'final', 'complete', $4, $5, $6, $7, $8, $8, 0, 0, 0, $9, $9)",
        args![
            upload.0,
            caller.account.0,
            caller.organisation.0,
            deposit.0,
            document.0,
            metadata.header.as_str(),
            concat,
            signed(size),
            now
        ],
    )
    .await?;
    completed(&mut tx, now, upload, UploadKind::Final, Actor::from(caller), Some(document), size).await?;
    tx.commit().await?;
    hub.inner.bell.notify_waiters();
    Ok((upload, document))
}

fn too_large(max: u64) -> Fault {
    Fault::because(ProblemCode::TooLarge, format!("Taille maximale : {max} octets."))
        .with(tus::TUS_MAX_SIZE, HeaderValue::from(max))
}

/// Moves an organisation's account of used bytes, so that `wanted` are promised where `reserved` were.
///
/// # Errors
/// 413 when the quota does not hold them.
pub(crate) async fn reserve(
    tx: &mut Tx,
    organisation: OrganisationId,
    reserved: u64,
    wanted: u64,
) -> Result<u64> {
    let Some(more) = wanted.checked_sub(reserved).filter(|more| *more > 0) else { return Ok(reserved) };
    let moved = tx
        .execute(
            "UPDATE organisations SET used = used + $2 WHERE id = $1 AND used <= quota - $2",
            args![organisation.0, signed(more)],
        )
        .await?;
    if moved == 0 { Err(ProblemCode::QuotaExceeded.into()) } else { Ok(wanted) }
}

/// All bytes of an upload are durable: its document goes on to be finished.
pub(crate) async fn completed(
    tx: &mut Tx,
    now: Time,
    upload: UploadId,
    kind: UploadKind,
    actor: Actor,
    document: Option<DocumentId>,
    size: u64,
) -> Result<()> {
    let Some(document) = document.filter(|_| kind != UploadKind::Partial) else { return Ok(()) };
    let detail = serde_json::json!({ "upload": upload, "size": size });
    Event::new("document.received").by(actor).document(document).detail(detail).write(tx, now).await?;
    documents::received(tx, document, size).await
}

/// HEAD: the durable offset.
pub(crate) async fn state(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<UploadId>,
    headers: HeaderMap,
) -> Response {
    answer(upload_state(&hub, &caller, id, &headers).await)
}

/// Makes the offset that HEAD is about to tell hold until the next PATCH. Who asks is about to resume, and the
/// connection that was cut may still stand here: its writer ends now, with what it received, and one on another
/// node can no longer commit. Whoever only watches asks the list of unfinished uploads.
async fn settle(hub: &Hub, caller: &Caller, id: UploadId) -> Result<()> {
    let pending =
        "SELECT 1 AS one FROM uploads WHERE id = $1 AND owner = $2 AND state = 'pending' AND kind <> 'final'";
    if hub.db().optional(pending, args![id.0, caller.account.0]).await?.is_none() {
        return Ok(());
    }
    hub.retire_writer(id).await;
    match raise_fence(hub, caller, id).await {
        // Where no fence can be raised for want of room, no writer can commit either.
        Err(DbError::Full(_)) => Ok(()),
        raised => Ok(raised?),
    }
}

async fn raise_fence(hub: &Hub, caller: &Caller, id: UploadId) -> Result<(), DbError> {
    let mut tx = hub.db().write().await?;
    tx.execute(
        "UPDATE uploads SET fence = fence + 1 WHERE id = $1 AND owner = $2 AND state = 'pending'",
        args![id.0, caller.account.0],
    )
    .await?;
    tx.commit().await
}

async fn upload_state(hub: &Hub, caller: &Caller, id: UploadId, headers: &HeaderMap) -> Result<Response> {
    tus::resumable(headers)?;
    settle(hub, caller, id).await?;
    let row = hub
        .db()
        .optional(
            "SELECT kind, state, metadata, concat, size, received, expires FROM uploads WHERE id = $1 AND owner = $2",
            args![id.0, caller.account.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let state: String = row.get("state")?;
    let expires: Time = row.get("expires")?;
    let pending = state == "pending";
    if state == "ended" || (pending && expires <= hub.now()) {
        return Err(ProblemCode::Gone.into());
    }
    let text = |value: String| HeaderValue::from_str(&value).map_err(Fault::internal);
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(tus::UPLOAD_OFFSET, row.get::<i64>("received")?.into());
    match row.get::<Option<i64>>("size")? {
        Some(size) => headers.insert(tus::UPLOAD_LENGTH, size.into()),
        None => headers.insert(tus::UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
    };
    let metadata: String = row.get("metadata")?;
    if !metadata.is_empty() {
        headers.insert(tus::UPLOAD_METADATA, text(metadata)?);
    }
    match row.get::<Option<String>>("concat")? {
        Some(concat) => headers.insert(tus::UPLOAD_CONCAT, text(concat)?),
        None if row.get::<String>("kind")? == "partial" => {
            headers.insert(tus::UPLOAD_CONCAT, HeaderValue::from_static("partial"))
        }
        None => None,
    };
    if pending {
        headers.insert(tus::UPLOAD_EXPIRES, http_date(expires)?);
    }
    Ok(response)
}

/// PATCH: bytes at the durable offset.
pub(crate) async fn append(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<UploadId>,
    request: Request,
) -> Response {
    answer(append_upload(&hub, &caller, id, request).await)
}

async fn append_upload(hub: &Hub, caller: &Caller, id: UploadId, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    tus::resumable(&parts.headers)?;
    if !media_type_is_offset(&parts.headers) {
        return Err(Fault::because(ProblemCode::MediaType, format!("Type attendu : {OFFSET_OCTETS}.")));
    }
    let offset = tus::offset(&parts.headers)?;
    let length = tus::length(&parts.headers)?;
    let received = write(hub, caller, id, offset, length, &parts.headers, body).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(tus::UPLOAD_OFFSET, received.offset.into());
    let expires = hub.now().plus_seconds(hub.options().upload_expiry);
    response.headers_mut().insert(tus::UPLOAD_EXPIRES, http_date(expires)?);
    Ok(response)
}

/// Takes the upload, receives the body, and says what is durable.
async fn write(
    hub: &Hub,
    caller: &Caller,
    id: UploadId,
    offset: u64,
    length: Option<u64>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Received> {
    if hub.stopping() {
        return Err(ProblemCode::Stopping.into());
    }
    let checksum = tus::checksum(headers)?.map(Checksum::from);
    let announced = content_length(headers);
    let Some(target) = take(hub, caller, id, offset, length, announced).await? else {
        // Complete already: a request that adds nothing is answered as its twin was.
        return if announced == Some(0) || body.is_end_stream() {
            Ok(Received { offset, ended: Ended::Body })
        } else {
            Err(Fault::because(ProblemCode::TooLarge, "L'envoi est déjà complet."))
        };
    };
    let limit = target.size.unwrap_or(hub.options().max_size).saturating_sub(offset);
    // A task of its own: when the connection dies, what has arrived is still sealed and committed.
    let work = hub.inner.running.spawn(receive::receive(hub.clone(), target, body, limit, checksum));
    let received = work.await??;
    let offset = HeaderValue::from(received.offset);
    match received.ended {
        Ended::Body => Ok(received),
        Ended::Cut => {
            Err(Fault::because(ProblemCode::BadRequest, "L'envoi a été coupé.")
                .with(tus::UPLOAD_OFFSET, offset))
        }
        Ended::Slow => Err(Fault::new(ProblemCode::TooSlow).with(tus::UPLOAD_OFFSET, offset)),
        Ended::Stopping => Err(Fault::new(ProblemCode::Stopping).with(tus::UPLOAD_OFFSET, offset)),
        Ended::TakenOver | Ended::Retired => Err(ProblemCode::TakenOver.into()),
        Ended::TooLarge => {
            Err(Fault::because(ProblemCode::TooLarge, "Plus d'octets que la taille annoncée."))
        }
    }
}

/// Raises the fence: from here on, older writers of this upload cannot commit. `None` when it is complete.
async fn take(
    hub: &Hub,
    caller: &Caller,
    id: UploadId,
    offset: u64,
    length: Option<u64>,
    announced: Option<u64>,
) -> Result<Option<Target>> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let row = tx
        .optional(
            "UPDATE uploads SET fence = fence + 1, expires = CASE WHEN expires > $5 THEN expires ELSE $5 END
             WHERE id = $1 AND owner = $2 AND state = 'pending' AND received = $3 AND expires > $4
             RETURNING fence, kind, size, document, wrapped_key, received, reserved, segments, digest, digest_before",
            args![
                id.0,
                caller.account.0,
                signed(offset),
                now,
                now.plus_seconds(hub.options().upload_expiry)
            ],
        )
        .await?;
    let Some(row) = row else {
        return if why_not_taken(&mut tx, caller, id, offset, now).await? {
            Ok(None)
        } else {
            Err(ProblemCode::Conflict.into())
        };
    };
    let mut size = row.get::<Option<i64>>("size")?.map(|n| u64::try_from(n).unwrap_or(0));
    let mut reserved = u64::try_from(row.get::<i64>("reserved")?).unwrap_or(0);
    if let Some(length) = length {
        match size {
            Some(known) if known == length => {}
            Some(_) => return Err(Fault::because(ProblemCode::BadMetadata, "La taille annoncée a changé.")),
            None if length < offset => {
                return Err(Fault::because(ProblemCode::BadMetadata, "Taille inférieure à ce qui est reçu."));
            }
            None if length > hub.options().max_size => return Err(too_large(hub.options().max_size)),
            None => {
                reserved = reserve(&mut tx, caller.organisation, reserved, length).await?;
                tx.execute(
                    "UPDATE uploads SET size = $2, reserved = $3 WHERE id = $1",
                    args![id.0, signed(length), signed(reserved)],
                )
                .await?;
                size = Some(length);
            }
        }
    }
    let limit = size.unwrap_or(hub.options().max_size).saturating_sub(offset);
    if announced.is_some_and(|announced| announced > limit) {
        return Err(Fault::because(ProblemCode::TooLarge, "Plus d'octets que la taille annoncée."));
    }
    let segments: i64 = row.get("segments")?;
    let last = tx
        .optional(
            "SELECT upload, idx, start, length, object, object_length, salt, tag FROM segments
             WHERE upload = $1 AND idx = $2",
            args![id.0, segments.saturating_sub(1)],
        )
        .await?;
    let last = last.map(|row| Piece::from_row(&row, 0, 0)).transpose()?;
    let wrapped = row.get::<Option<Vec<u8>>>("wrapped_key")?.ok_or(ProblemCode::Gone)?;
    let fence: i64 = row.get("fence")?;
    tx.commit().await?;
    Ok(Some(Target {
        writer: hub.take_writer(id, fence),
        kind: row.get::<String>("kind")?.parse().map_err(|e: String| Fault::internal(e))?,
        actor: Actor::from(caller),
        organisation: caller.organisation,
        document: row.get::<Option<Uuid>>("document")?.map(DocumentId),
        key: hub.keys().unwrap(&wrapped)?,
        size,
        received: offset,
        reserved,
        segments,
        digest: row.get("digest")?,
        digest_before: row.get("digest_before")?,
        last,
    }))
}

/// True when the upload is complete at this very offset; an error says why else it could not be taken.
async fn why_not_taken(tx: &mut Tx, caller: &Caller, id: UploadId, offset: u64, now: Time) -> Result<bool> {
    let row = tx
        .optional(
            "SELECT kind, state, received, expires FROM uploads WHERE id = $1 AND owner = $2",
            args![id.0, caller.account.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let received = row.get::<i64>("received")?;
    match (row.get::<String>("kind")?.as_str(), row.get::<String>("state")?.as_str()) {
        ("final", _) => {
            Err(Fault::because(ProblemCode::Forbidden, "Une concaténation ne reçoit pas d'octets."))
        }
        (_, "ended") => Err(ProblemCode::Gone.into()),
        (_, "pending") if row.get::<Time>("expires")? <= now => Err(ProblemCode::Gone.into()),
        _ if received != signed(offset) => {
            Err(Fault::new(ProblemCode::WrongOffset).with(tus::UPLOAD_OFFSET, received))
        }
        (_, "complete") => Ok(true),
        _ => Ok(false),
    }
}

/// DELETE: termination.
pub(crate) async fn terminate(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<UploadId>,
    headers: HeaderMap,
) -> Response {
    answer(terminate_upload(&hub, &caller, id, &headers).await)
}

async fn terminate_upload(hub: &Hub, caller: &Caller, id: UploadId, headers: &HeaderMap) -> Result<Response> {
    tus::resumable(headers)?;
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let row = tx
        .optional(
            "SELECT state, deposit, document FROM uploads WHERE id = $1 AND owner = $2",
            args![id.0, caller.account.0],
        )
        .await?
        .ok_or(ProblemCode::NotFound)?;
    if row.get::<String>("state")? == "ended" {
        return Err(ProblemCode::Gone.into());
    }
    let deposit = row.get::<Option<Uuid>>("deposit")?;
    if let Some(deposit) = deposit {
        lock_draft(&mut tx, caller, DepositId(deposit)).await?;
    }
    // The deposit is held before the upload, everywhere; what was read before may have changed.
    let sql = "UPDATE uploads SET fence = fence + 1 WHERE id = $1 RETURNING deposit, document";
    let row = tx.one(sql, args![id.0]).await?;
    if row.get::<Option<Uuid>>("deposit")? != deposit {
        return Err(ProblemCode::Conflict.into());
    }
    match row.get::<Option<Uuid>>("document")? {
        Some(document) => {
            documents::remove(&mut tx, DocumentId(document)).await?;
        }
        None => {
            end(&mut tx, id).await?;
        }
    }
    Event::new("upload.terminated")
        .by(caller)
        .detail(serde_json::json!({ "upload": id }))
        .write(&mut tx, now)
        .await?;
    tx.commit().await?;
    hub.end_writer(id);
    hub.inner.bell.notify_waiters();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Ends an upload: its key and what its owner said of it are deleted at once, its objects by a job, its
/// bytes given back to the quota. The row stays, so that its address answers « gone » and not « never was ».
pub(crate) async fn end(tx: &mut Tx, upload: UploadId) -> Result<(), DbError> {
    let row = tx
        .optional(
            "UPDATE uploads SET state = 'ended', fence = fence + 1, wrapped_key = NULL, wrapped_for = NULL,
                    digest = NULL, digest_before = NULL, metadata = '', concat = NULL
             WHERE id = $1 AND state <> 'ended' RETURNING organisation, reserved",
            args![upload.0],
        )
        .await?;
    let Some(row) = row else { return Ok(()) };
    tx.execute(
        "UPDATE organisations SET used = CASE WHEN used >= $2 THEN used - $2 ELSE 0 END WHERE id = $1",
        args![row.get::<Uuid>("organisation")?, row.get::<i64>("reserved")?],
    )
    .await?;
    tx.execute("UPDATE uploads SET reserved = 0 WHERE id = $1", args![upload.0]).await?;
    let rows = tx.rows("SELECT object FROM segments WHERE upload = $1", args![upload.0]).await?;
    let objects = rows.iter().map(|row| row.get::<String>("object")).collect::<Result<Vec<_>, _>>()?;
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    tx.execute("DELETE FROM segments WHERE upload = $1", args![upload.0]).await?;
    jobs::delete_objects(tx, &objects).await
}

/// POST on an upload: only with `X-HTTP-Method-Override` (tus 1.0.0, core protocol).
pub(crate) async fn overridden(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<UploadId>,
    request: Request,
) -> Response {
    let method = request.headers().get(&tus::METHOD_OVERRIDE).map(|v| v.as_bytes().to_ascii_uppercase());
    match method.as_deref() {
        Some(b"PATCH") => answer(append_upload(&hub, &caller, id, request).await),
        Some(b"DELETE") => answer(terminate_upload(&hub, &caller, id, request.headers()).await),
        Some(b"HEAD") => answer(upload_state(&hub, &caller, id, request.headers()).await),
        _ => answer(Err(ProblemCode::MethodNotAllowed.into())),
    }
}

/// What a list of uploads may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UploadFilter {
    deposit: Option<DepositId>,
    after: Option<UploadId>,
}

/// The most rows of a page.
const PAGE: usize = 500;

/// GET /uploads: the caller's unfinished uploads.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<UploadFilter>,
) -> Result<Json<Page<PendingUpload>>> {
    let mut tx = hub.db().read().await?;
    let rows = tx
        .rows(
            const_sql(&[
                "SELECT id, kind, deposit, metadata, size, received, created, expires FROM uploads
                 WHERE owner = $1 AND expires > $2 AND id > $3 AND ",
                UNFINISHED,
                " ORDER BY id LIMIT 501",
            ]),
            args![caller.account.0, hub.now(), filter.after.map_or(Uuid::nil(), |id| id.0)],
        )
        .await?;
    let more = rows.len() > PAGE;
    let mut items = rows.iter().take(PAGE).map(pending).collect::<Result<Vec<_>>>()?;
    let next = if more { items.last().map(|last| last.id.to_string()) } else { None };
    if let Some(deposit) = filter.deposit {
        // A partial upload says its deposit, if at all, in its metadata.
        let told =
            |u: &PendingUpload| u.deposit.or_else(|| u.metadata.get("deposit").and_then(|d| d.parse().ok()));
        items.retain(|upload| told(upload) == Some(deposit));
    }
    Ok(Json(Page { items, next }))
}

fn pending(row: &Row) -> Result<PendingUpload> {
    let length = |n: i64| u64::try_from(n).unwrap_or(0);
    let metadata = tus::metadata_of(row.get::<String>("metadata")?.as_bytes())?.pairs;
    Ok(PendingUpload {
        id: UploadId(row.get("id")?),
        kind: row.get::<String>("kind")?.parse().map_err(|e: String| Fault::internal(e))?,
        name: metadata.get("filename").cloned(),
        deposit: row.get::<Option<Uuid>>("deposit")?.map(DepositId),
        size: row.get::<Option<i64>>("size")?.map(length),
        offset: length(row.get("received")?),
        metadata,
        created: row.get("created")?,
        expires: row.get("expires")?,
    })
}
