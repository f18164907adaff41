//! Labels: words that the readers of a box put on the messages in it.
//!
//! Owns the tables `labels` and `delivery_labels`. Must never show a label outside its box.

use crate::access::Caller;
use crate::boxes::{folded, line};
use crate::fault::{Fault, Result};
use crate::messages::MINE;
use crate::uploads::const_sql;
use crate::{Hub, people};
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use pli_api::{BoxId, Label, LabelId, MessageId, NewLabel, ProblemCode};
use pli_storage::{Row, Tx, args};

/// The most characters of a name.
const NAME_MAX: usize = 60;
/// The most labels of a box.
const LABELS_MAX: i64 = 200;

pub(crate) fn from_row(row: &Row) -> Result<Label> {
    Ok(Label { id: LabelId(row.get("id")?), in_box: row.get("address")?, name: row.get("name")? })
}

/// The labels of this box on a message.
pub(crate) async fn on(tx: &mut Tx, of: BoxId, message: MessageId) -> Result<Vec<Label>> {
    let sql = "SELECT l.id, l.name, b.address FROM delivery_labels d JOIN labels l ON l.id = d.label
               JOIN boxes b ON b.id = l.box WHERE d.message = $1 AND l.box = $2 ORDER BY l.folded";
    tx.rows(sql, args![message.0, of.0]).await?.iter().map(from_row).collect()
}

/// GET /labels: those of all the caller's boxes.
pub(crate) async fn list(State(hub): State<Hub>, caller: Caller) -> Result<Json<Vec<Label>>> {
    let sql = const_sql(&[
        "SELECT l.id, l.name, b.address FROM labels l JOIN boxes b ON b.id = l.box WHERE b.id = $1 OR b.id IN ",
        MINE,
        " ORDER BY b.address, l.folded",
    ]);
    let rows = hub.db().rows(sql, args![caller.account.0, caller.account.0]).await?;
    Ok(Json(rows.iter().map(from_row).collect::<Result<_>>()?))
}

/// A name as it is shown, and as it is compared.
fn name(given: &str) -> Result<(&str, String)> {
    let name = line("Nom de l'étiquette", given, NAME_MAX)?;
    let search = folded(name);
    if search.is_empty() {
        return Err(Fault::because(
            ProblemCode::Invalid,
            "Nom de l'étiquette : une lettre ou un chiffre au moins.",
        ));
    }
    Ok((name, search))
}

fn taken() -> Fault {
    Fault::because(ProblemCode::Conflict, "Nom de l'étiquette : cette boîte en a déjà une de ce nom.")
}

/// POST /labels.
pub(crate) async fn create(
    State(hub): State<Hub>,
    caller: Caller,
    Json(new): Json<NewLabel>,
) -> Result<(StatusCode, Json<Label>)> {
    let (name, search) = name(&new.name)?;
    let id = LabelId::new();
    let mut tx = hub.db().write().await?;
    let sql = const_sql(&[
        "SELECT id, address FROM boxes WHERE ($1 IS NULL AND id = $2 OR address = $1) AND id IN ",
        MINE,
    ]);
    let address = new.in_box.as_deref().map(people::address).transpose()?;
    let row = tx.optional(sql, args![address, caller.account.0]).await?;
    let Some(row) = row else {
        return Err(Fault::because(ProblemCode::Invalid, "Boîte : elle n'est pas parmi les vôtres."));
    };
    let (of, address) = (BoxId(row.get("id")?), row.get::<String>("address")?);
    tx.lock(&format!("labels of {of}")).await?;
    let sql = "SELECT COUNT(*) AS n FROM labels WHERE box = $1";
    if tx.one(sql, args![of.0]).await?.get::<i64>("n")? >= LABELS_MAX {
        return Err(Fault::because(
            ProblemCode::Invalid,
            format!("Étiquettes : {LABELS_MAX} au plus par boîte."),
        ));
    }
    let made = tx
        .execute(
            "INSERT INTO labels (id, box, name, folded) VALUES ($1, $2, $3, $4) ON CONFLICT (box, folded) DO NOTHING",
            args![id.0, of.0, name, search],
        )
        .await?;
    if made == 0 {
        return Err(taken());
    }
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(Label { id, in_box: address, name: name.to_owned() })))
}

/// PUT /labels/{id}: another name.
pub(crate) async fn rename(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<LabelId>,
    Json(new): Json<NewLabel>,
) -> Result<Json<Label>> {
    let (name, search) = name(&new.name)?;
    let mut tx = hub.db().write().await?;
    let (of, address) = load(&mut tx, &caller, id).await?;
    if new.in_box.as_deref().map(people::address).transpose()?.is_some_and(|given| given != address) {
        return Err(Fault::because(ProblemCode::Invalid, "Boîte : une étiquette ne change pas de boîte."));
    }
    let sql = "SELECT 1 AS one FROM labels WHERE box = $1 AND folded = $2 AND id <> $3";
    if tx.optional(sql, args![of.0, search.as_str(), id.0]).await?.is_some() {
        return Err(taken());
    }
    let sql = "UPDATE labels SET name = $2, folded = $3 WHERE id = $1";
    if tx.execute(sql, args![id.0, name, search]).await? == 0 {
        return Err(ProblemCode::NotFound.into());
    }
    tx.commit().await?;
    Ok(Json(Label { id, in_box: address, name: name.to_owned() }))
}

/// DELETE /labels/{id}, from every message too.
pub(crate) async fn remove(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<LabelId>,
) -> Result<StatusCode> {
    let mut tx = hub.db().write().await?;
    load(&mut tx, &caller, id).await?;
    tx.execute("DELETE FROM delivery_labels WHERE label = $1", args![id.0]).await?;
    tx.execute("DELETE FROM labels WHERE id = $1", args![id.0]).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The box of a label of the caller's, with its address.
async fn load(tx: &mut Tx, caller: &Caller, id: LabelId) -> Result<(BoxId, String)> {
    let sql = const_sql(&[
        "SELECT b.id, b.address FROM labels l JOIN boxes b ON b.id = l.box WHERE l.id = $1 AND l.box IN ",
        MINE,
    ]);
    let row = tx.optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    Ok((BoxId(row.get("id")?), row.get("address")?))
}

/// Whether the message lies in the label's box, within the procedure that limits the caller.
async fn lies(tx: &mut Tx, caller: &Caller, message: MessageId, label: LabelId) -> Result<()> {
    let (of, _) = load(tx, caller, label).await?;
    tx.optional(
        "SELECT 1 AS one FROM deliveries WHERE box = $1 AND message = $2 AND withdrawn IS NULL
         AND ($3 IS NULL OR procedure = $3)",
        args![of.0, message.0, caller.scope()],
    )
    .await?
    .ok_or(ProblemCode::NotFound)?;
    Ok(())
}

/// PUT /messages/{id}/labels/{label}.
pub(crate) async fn put(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, label)): Path<(MessageId, LabelId)>,
) -> Result<StatusCode> {
    let mut tx = hub.db().write().await?;
    lies(&mut tx, &caller, id, label).await?;
    let sql = "INSERT INTO delivery_labels (label, message) VALUES ($1, $2) ON CONFLICT (label, message) DO NOTHING";
    tx.execute(sql, args![label.0, id.0]).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// DELETE /messages/{id}/labels/{label}.
pub(crate) async fn take_off(
    State(hub): State<Hub>,
    caller: Caller,
    Path((id, label)): Path<(MessageId, LabelId)>,
) -> Result<StatusCode> {
    let mut tx = hub.db().write().await?;
    lies(&mut tx, &caller, id, label).await?;
    tx.execute("DELETE FROM delivery_labels WHERE label = $1 AND message = $2", args![label.0, id.0]).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
