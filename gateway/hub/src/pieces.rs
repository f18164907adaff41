//! Pieces (pièces): documents filed in a procedure.
//!
//! Owns the table `pieces`. A piece is a right to read, not a copy: the document lasts as long as the retention
//! that its sender chose for the deposit it came by, then its keys are deleted (arrêté of 24 October 2019) and the
//! piece says so. Must never keep a document beyond that, delete a piece, or show one to a member who may not see it.

use crate::access::Caller;
use crate::boxes::line;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::procedures::{self, Right};
use crate::references::compact;
use crate::{Hub, deposits, documents, etag};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pli_api::{
    BoxId, Document, DocumentState, Motive, NewPiece, Page, Person, Piece, PieceChange, PieceId, PieceState,
    ProblemCode, ProcedureId, Time,
};
use pli_storage::{Row, Sql, Tx, args};
use serde::Deserialize;
use uuid::Uuid;

/// Text of SQL: a membership in force lets account `$2` see piece `i` at instant `$3`: a depositor what that very
/// box filed, nobody a restricted piece unless the membership says so.
macro_rules! seen {
    () => {
        concat!(
            "EXISTS (SELECT 1 FROM procedure_members m WHERE m.procedure = i.procedure AND ",
            $crate::procedures::in_force!(),
            " AND (m.restricted OR NOT i.restricted)
              AND (m.role IN ('manager', 'contributor', 'reader') OR m.role = 'depositor' AND m.box = i.filed_by))"
        )
    };
}

/// True in SQL when account `$2` may read document `d` of deposit `p` at instant `$3` because it is a piece that they
/// may see, in procedure `$4` only unless that is NULL.
pub(crate) const READABLE: &str = concat!(
    "(p.state = 'available' AND p.expires > $3 AND EXISTS (SELECT 1 FROM pieces i WHERE i.document = d.id
      AND i.withdrawn IS NULL AND ($4 IS NULL OR i.procedure = $4) AND ",
    seen!(),
    "))"
);

/// Pieces `i` of procedure `$1` that account `$2` may see at instant `$3`, with their documents.
pub(crate) const PIECES: &str = concat!(
    "SELECT i.id AS piece, i.procedure, i.cote, i.title, i.restricted, i.version, i.filed, i.withdrawn, i.motive,
        i.filed_by, f.address AS filer_address, f.name AS filer_name,
        w.address AS withdrawer_address, w.name AS withdrawer_name, p.expires, p.state AS deposit_state,
        d.id, d.deposit, d.name, d.media_type, d.size, d.sha256, d.state
     FROM pieces i JOIN documents d ON d.id = i.document JOIN deposits p ON p.id = d.deposit
     JOIN boxes f ON f.id = i.filed_by LEFT JOIN boxes w ON w.id = i.withdrawn_by
     WHERE i.procedure = $1 AND ",
    seen!()
);

fn from_row(row: &Row, now: Time) -> Result<(Piece, BoxId)> {
    let document = documents::from_row(row)?;
    let (withdrawn, expires) = (row.get::<Option<Time>>("withdrawn")?, row.get::<Option<Time>>("expires")?);
    let over = expires.is_none_or(|expires| expires <= now);
    let state = if withdrawn.is_some() {
        PieceState::Withdrawn
    } else if document.state == DocumentState::Erased {
        PieceState::Erased
    } else if over || row.get::<String>("deposit_state")? != "available" {
        PieceState::Expired
    } else {
        PieceState::Filed
    };
    let by = row.get::<Option<String>>("withdrawer_address")?;
    let named = row.get::<Option<String>>("withdrawer_name")?;
    let piece = Piece {
        id: PieceId(row.get("piece")?),
        procedure: ProcedureId(row.get("procedure")?),
        cote: row.get("cote")?,
        title: row.get("title")?,
        restricted: row.get("restricted")?,
        state,
        filed: row.get("filed")?,
        filed_by: Person { address: row.get("filer_address")?, name: row.get("filer_name")? },
        expires,
        withdrawn,
        withdrawn_by: by.zip(named).map(|(address, name)| Person { address, name }),
        motive: row.get("motive")?,
        version: row.get("version")?,
        document,
    };
    Ok((piece, BoxId(row.get("filed_by")?)))
}

/// The piece and the box that filed it, if the caller may see it; none in a procedure that their delegation does not
/// reach.
async fn load(
    tx: &mut Tx,
    caller: &Caller,
    procedure: ProcedureId,
    id: PieceId,
    now: Time,
) -> Result<Option<(Piece, BoxId)>> {
    let sql = Sql::assembled([PIECES, " AND i.id = $4 AND ($5 IS NULL OR i.procedure = $5)"].concat());
    let values = args![procedure.0, caller.account.0, now, id.0, caller.scope()];
    tx.optional(sql, values).await?.map(|row| from_row(&row, now)).transpose()
}

fn cote_of(given: &str) -> Result<(&str, String)> {
    let cote = line("Cote", given, 40)?;
    let folded = compact(cote);
    if folded.is_empty() {
        return Err(Fault::because(ProblemCode::Invalid, "Cote : au moins une lettre ou un chiffre."));
    }
    Ok((cote, folded))
}

fn title_of(given: &str) -> Result<&str> {
    line("Titre", given, 300)
}

fn secrecy_refused() -> Fault {
    Fault::because(
        ProblemCode::Forbidden,
        "Seul qui voit les pièces réservées peut en réserver une ou en lever la réserve.",
    )
}

/// POST /procedures/{id}/pieces.
pub(crate) async fn file(
    State(hub): State<Hub>,
    caller: Caller,
    Path(procedure): Path<ProcedureId>,
    Json(new): Json<NewPiece>,
) -> Result<Response> {
    let title = title_of(&new.title)?;
    let cote = new.cote.as_deref().map(cote_of).transpose()?;
    let (id, now) = (PieceId::new(), hub.now());
    let mut tx = hub.db().write().await?;
    let member = procedures::enter(&mut tx, &caller, procedure, Right::Deposit, now).await?;
    // In the name of a box that may read and write, when there is one; else of one that may only add.
    let by = member.by(Right::Write).or(member.by(Right::Deposit)).ok_or(ProblemCode::Forbidden)?;
    if cote.is_some() && member.by(Right::Write).is_none() {
        return Err(Fault::because(ProblemCode::Forbidden, "Un déposant ne cote pas les pièces."));
    }
    if new.restricted && !member.restricted() {
        return Err(secrecy_refused());
    }
    let document = fileable(&mut tx, &caller, &new, now).await?;
    let made = tx
        .execute(
            "INSERT INTO pieces (id, procedure, document, cote, folded_cote, title, restricted, version, filed, filed_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9) ON CONFLICT DO NOTHING",
            args![
                id.0,
                procedure.0,
                document.id.0,
                cote.as_ref().map(|(cote, _)| *cote),
                cote.as_ref().map(|(_, folded)| folded.as_str()),
                title,
                new.restricted,
                now,
                by.0
            ],
        )
        .await?;
    if made == 0 {
        return Err(Fault::because(
            ProblemCode::Conflict,
            "Ce document est déjà versé à ce dossier, ou cette cote y est déjà prise.",
        ));
    }
    let detail = serde_json::json!({
        "piece": id, "box": by, "restricted": new.restricted, "sha256": document.sha256
    });
    let event = Event::new("piece.filed").by(&caller).procedure(procedure).deposit(document.deposit);
    event.document(document.id).detail(detail).write(&mut tx, now).await?;
    let (piece, _) = load(&mut tx, &caller, procedure, id, now).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    let location = format!("/api/v1/procedures/{procedure}/pieces/{id}");
    let location = HeaderValue::from_str(&location).map_err(Fault::internal)?;
    let body = etag::tagged(piece.version, piece)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// A document that the caller may file: of a deposit that is available and theirs to read, in their own right. A
/// delegation for one procedure does not reach the deposits of who gave it.
async fn fileable(tx: &mut Tx, caller: &Caller, new: &NewPiece, now: Time) -> Result<Document> {
    let sql = [
        "SELECT d.id, d.deposit, d.name, d.media_type, d.size, d.sha256, d.state
         FROM documents d JOIN deposits p ON p.id = d.deposit WHERE d.id = $1 AND $4 IS NULL AND ",
        deposits::VISIBLE,
    ];
    let values = args![new.document.0, caller.account.0, now, caller.scope()];
    let row = tx.optional(Sql::assembled(sql.concat()), values).await?.ok_or(ProblemCode::NotFound)?;
    let document = documents::from_row(&row)?;
    let available = "SELECT id FROM deposits WHERE id = $1 AND state = 'available' AND expires > $2";
    let available = tx.optional(available, args![document.deposit.0, now]).await?.is_some();
    match document.state {
        DocumentState::Available if available => Ok(document),
        DocumentState::Erased => Err(ProblemCode::Gone.into()),
        DocumentState::Damaged => Err(ProblemCode::Damaged.into()),
        _ => Err(Fault::because(
            ProblemCode::NotReady,
            "Seul un document d'un dépôt disponible peut être versé à un dossier.",
        )),
    }
}

/// What a list of pieces may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PieceFilter {
    cote: Option<String>,
    after: Option<PieceId>,
    limit: Option<u32>,
}

/// GET /procedures/{id}/pieces, in the order in which they were filed. A depositor is shown their own.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Path(procedure): Path<ProcedureId>,
    Query(filter): Query<PieceFilter>,
) -> Result<Json<Page<Piece>>> {
    let (now, limit) = (hub.now(), filter.limit.unwrap_or(50).clamp(1, 200) as usize);
    let mut tx = hub.db().read().await?;
    procedures::membership(&mut tx, &caller, procedure, now).await?.ok_or(ProblemCode::NotFound)?;
    let sql = [
        PIECES,
        " AND i.id > $4",
        if filter.cote.is_some() { " AND i.folded_cote = $6" } else { "" },
        " ORDER BY i.id LIMIT $5",
    ];
    let after = filter.after.map_or(Uuid::nil(), |id| id.0);
    let fetched = i64::try_from(limit).unwrap_or(0) + 1;
    let mut values = args![procedure.0, caller.account.0, now, after, fetched];
    if let Some(cote) = &filter.cote {
        values.push(compact(cote));
    }
    let rows = tx.rows(Sql::assembled(sql.concat()), values).await?;
    let piece = |row| from_row(row, now).map(|(piece, _)| piece);
    let items: Vec<Piece> = rows.iter().take(limit).map(piece).collect::<Result<_>>()?;
    let next = if rows.len() > limit { items.last().map(|piece| piece.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// GET /procedures/{id}/pieces/{piece}.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path((procedure, id)): Path<(ProcedureId, PieceId)>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().read().await?;
    let (piece, _) = load(&mut tx, &caller, procedure, id, now).await?.ok_or(ProblemCode::NotFound)?;
    etag::tagged(piece.version, piece)
}

/// PATCH /procedures/{id}/pieces/{piece}: its cote, its title, whether it is restricted.
pub(crate) async fn change(
    State(hub): State<Hub>,
    caller: Caller,
    Path((procedure, id)): Path<(ProcedureId, PieceId)>,
    headers: HeaderMap,
    Json(change): Json<PieceChange>,
) -> Result<Response> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    procedures::hold(&mut tx, procedure).await?;
    // One that they may not see does not exist for them, whatever else they may.
    let (piece, _) = load(&mut tx, &caller, procedure, id, now).await?.ok_or(ProblemCode::NotFound)?;
    let member = procedures::allowed(&mut tx, &caller, procedure, Right::Write, now).await?;
    etag::require(&headers, piece.version)?;
    if piece.state == PieceState::Withdrawn {
        return Err(Fault::because(ProblemCode::Conflict, "Cette pièce est retirée du dossier."));
    }
    let mut fields = Vec::new();
    if let Some(cote) = &change.cote {
        let (cote, folded) = cote_of(cote)?;
        let taken = "SELECT id FROM pieces WHERE procedure = $1 AND folded_cote = $2 AND id <> $3 AND withdrawn IS NULL";
        if tx.optional(taken, args![procedure.0, folded.as_str(), id.0]).await?.is_some() {
            return Err(Fault::because(ProblemCode::Conflict, "Cette cote est déjà prise dans ce dossier."));
        }
        let sql = "UPDATE pieces SET cote = $2, folded_cote = $3 WHERE id = $1";
        tx.execute(sql, args![id.0, cote, folded]).await?;
        fields.push("cote");
    }
    if let Some(title) = &change.title {
        let sql = "UPDATE pieces SET title = $2 WHERE id = $1";
        tx.execute(sql, args![id.0, title_of(title)?]).await?;
        fields.push("title");
    }
    let restricted = change.restricted.filter(|restricted| *restricted != piece.restricted);
    if let Some(restricted) = restricted {
        if !member.restricted() {
            return Err(secrecy_refused());
        }
        let sql = "UPDATE pieces SET restricted = $2 WHERE id = $1";
        tx.execute(sql, args![id.0, restricted]).await?;
        fields.push("restricted");
    }
    if !fields.is_empty() {
        tx.execute("UPDATE pieces SET version = version + 1 WHERE id = $1", args![id.0]).await?;
        let now_restricted = restricted.unwrap_or(piece.restricted);
        let detail = serde_json::json!({ "piece": id, "fields": fields, "restricted": now_restricted });
        let event = Event::new("piece.changed").by(&caller).procedure(procedure);
        event.document(piece.document.id).detail(detail).write(&mut tx, now).await?;
    }
    let (piece, _) = load(&mut tx, &caller, procedure, id, now).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    etag::tagged(piece.version, piece)
}

/// POST /procedures/{id}/pieces/{piece}/withdraw: by a manager, or by a contributor whose box filed it. Nothing is
/// deleted: the piece stays in the list with its motive, and nobody reads its document there any more (CPP 174).
pub(crate) async fn withdraw(
    State(hub): State<Hub>,
    caller: Caller,
    Path((procedure, id)): Path<(ProcedureId, PieceId)>,
    headers: HeaderMap,
    Json(given): Json<Motive>,
) -> Result<Response> {
    let (now, motive) = (hub.now(), line("Motif", &given.motive, 500)?);
    let mut tx = hub.db().write().await?;
    procedures::hold(&mut tx, procedure).await?;
    let (piece, filed_by) = load(&mut tx, &caller, procedure, id, now).await?.ok_or(ProblemCode::NotFound)?;
    let member = procedures::allowed(&mut tx, &caller, procedure, Right::Write, now).await?;
    if member.by(Right::Manage).is_none() && !member.writes_as(filed_by) {
        return Err(Fault::because(
            ProblemCode::Forbidden,
            "Seul un gestionnaire du dossier, ou qui l'a versée, peut retirer une pièce.",
        ));
    }
    etag::check(&headers, piece.version)?;
    piece
        .state
        .withdraw()
        .map_err(|_| Fault::because(ProblemCode::Conflict, "Cette pièce est déjà retirée."))?;
    tx.execute(
        "UPDATE pieces SET withdrawn = $2, withdrawn_by = $3, motive = $4, version = version + 1
         WHERE id = $1 AND withdrawn IS NULL",
        args![id.0, now, caller.account.0, motive],
    )
    .await?;
    let event = Event::new("piece.withdrawn").by(&caller).procedure(procedure);
    let event = event.deposit(piece.document.deposit).document(piece.document.id);
    event.detail(serde_json::json!({ "piece": id })).write(&mut tx, now).await?;
    let (piece, _) = load(&mut tx, &caller, procedure, id, now).await?.ok_or(ProblemCode::NotFound)?;
    tx.commit().await?;
    etag::tagged(piece.version, piece)
}
