//! Receipts: what a sender and a recipient keep of an exchange, and check away from Pli.
//!
//! Owns the tables `receipts` and `receipt_parties`, and the trail of a deposit. A receipt says who was called what
//! when it was made; the journal itself holds identifiers only. Receipts lie in the database beside the journal and
//! not sealed in the store: they are the register's, outlive the documents whose keys are erased, and hold nothing
//! that the rows of deposits and documents do not hold. Must never be given to anyone but its parties.

use crate::access::Caller;
use crate::evidence::Evidence;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::log::{self, Leaf, Signed};
use crate::uploads::const_sql;
use crate::{Hub, download, jobs};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, header};
use pli_api::{
    BoxId, DepositId, DepositTrailEvent, DocumentId, EventId, Page, Person, ProblemCode, ReceiptDeposit,
    ReceiptDocument, ReceiptEvent, ReceiptId, ReceiptJson, ReceiptKind, ReceiptParty, ReceiptSummary, Time,
    TrailDocument,
};
use pli_journal::{Checkpoint, HASH, Hash, NoteError, Proof, ProofError, VerifierKey, verify_inclusion};
use pli_receipt::{Block, Document, Field, Receipt, Section};
use pli_signature::{Certificate, Level, SignatureError, Statement, Trust};
use pli_storage::{AT_ONCE, DbError, Job, NewJob, Row, Tx, args};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Makes the receipts of a deposit that are due.
pub(crate) const MAKE: &str = "receipts.make";

/// Sealings of documents that a receipt proves one by one; the digests of further ones rest on its seal.
const SEALINGS: usize = 1000;

/// The boxes of account `$2`.
const BOXES: &str =
    "(SELECT id FROM boxes WHERE id = $2 UNION ALL SELECT service FROM service_members WHERE account = $2)";

/// Has receipts made for what happened at these places of the log. To be called where a checkpoint is signed that
/// covers them.
pub(crate) async fn enqueue(tx: &mut Tx, from: u64, to: u64) -> Result<(), DbError> {
    let sql = "SELECT DISTINCT deposit FROM events WHERE seq >= $1 AND seq < $2 AND deposit IS NOT NULL
               AND kind IN ('deposit.sent', 'deposit.available', 'download.completed', 'download.aborted')";
    for row in tx.rows(sql, args![from, to]).await? {
        let deposit = DepositId(row.get("deposit")?).to_string();
        let payload = serde_json::json!({ "deposit": deposit });
        tx.enqueue(NewJob { kind: MAKE, payload, run_at: AT_ONCE, unique: Some(&deposit) }).await?;
    }
    Ok(())
}

/// A receipt to be made.
struct Due {
    kind: ReceiptKind,
    about: ReceiptParty,
    given_to: Vec<ReceiptParty>,
    event: Leaf,
    at: Time,
    /// The only documents that it is about.
    only: Option<BTreeSet<Uuid>>,
}

/// A receipt that was made.
struct Made {
    json: ReceiptJson,
    text: String,
    pdf: Vec<u8>,
    about: BoxId,
    event: Uuid,
}

/// Makes the receipts of a deposit that are due and covered by a checkpoint.
pub(crate) async fn make(hub: &Hub, job: &Job) -> Result<()> {
    let Some(evidence) = hub.options().evidence.clone() else { return jobs::complete_alone(hub, job).await };
    let deposit: DepositId =
        serde_json::from_value(job.payload["deposit"].clone()).map_err(Fault::internal)?;
    let mut tx = hub.db().read().await?;
    let mut drafts = Vec::new();
    if let Some(signed) = log::checkpoint(&mut tx, &evidence, None).await? {
        for due in due(&mut tx, deposit, &signed).await? {
            drafts.push(draft(&mut tx, hub.now(), &evidence, deposit, &signed, due).await?);
        }
    }
    drop(tx);
    let mut made = Vec::new();
    for (json, about, event) in drafts {
        let text = serde_json::to_string(&json).map_err(Fault::internal)?;
        let pdf = seal(&evidence, &json, &text).await?;
        made.push(Made { json, text, pdf, about, event });
    }
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    for made in &made {
        store(&mut tx, now, made).await?;
    }
    if tx.complete(job).await? {
        tx.commit().await?;
        for made in made {
            metrics::counter!("pli_receipts_total", "kind" => made.json.kind.as_str()).increment(1);
        }
    }
    Ok(())
}

async fn store(tx: &mut Tx, now: Time, made: &Made) -> Result<()> {
    let (json, id) = (&made.json, made.json.id);
    let new = tx
        .execute(
            "INSERT INTO receipts (id, kind, deposit, event, box, created, json, pdf)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (deposit, kind, box) DO NOTHING",
            args![
                id.0,
                json.kind.as_str(),
                json.deposit.id.0,
                made.event,
                made.about.0,
                json.created,
                &made.text,
                &made.pdf
            ],
        )
        .await?;
    if new == 0 {
        return Ok(());
    }
    for party in &json.given_to {
        tx.execute(
            "INSERT INTO receipt_parties (box, receipt) VALUES ($1, $2) ON CONFLICT (box, receipt) DO NOTHING",
            args![party.id.0, id.0],
        )
        .await?;
    }
    let detail = serde_json::json!({
        "receipt": id, "kind": json.kind, "event": made.event, "sha256": hex::encode(Sha256::digest(&made.pdf)),
    });
    Event::new("receipt.issued").deposit(json.deposit.id).detail(detail).write(tx, now).await?;
    Ok(())
}

async fn due(tx: &mut Tx, deposit: DepositId, signed: &Signed) -> Result<Vec<Due>> {
    let rows = tx.rows("SELECT kind, box FROM receipts WHERE deposit = $1", args![deposit.0]).await?;
    let there: BTreeSet<(String, Uuid)> =
        rows.iter().map(|row| Ok((row.get("kind")?, row.get("box")?))).collect::<Result<_>>()?;
    let is_there = |kind: ReceiptKind, id: BoxId| there.contains(&(kind.as_str().to_owned(), id.0));
    let sql = "SELECT b.id, b.name, b.address FROM deposits p JOIN boxes b ON b.id = p.sender
               WHERE p.id = $1 AND p.state <> 'draft'";
    let Some(row) = tx.optional(sql, args![deposit.0]).await? else { return Ok(Vec::new()) };
    let sender = party(&row)?;
    let mut due = Vec::new();
    for (kind, event) in [
        (ReceiptKind::SubmissionAcceptance, "deposit.sent"),
        (ReceiptKind::ContentConsignment, "deposit.available"),
    ] {
        if is_there(kind, sender.id) {
            continue;
        }
        if let Some((event, at)) = first(tx, deposit, event, signed).await? {
            let (about, given_to) = (sender.clone(), vec![sender.clone()]);
            due.push(Due { kind, about, given_to, event, at, only: None });
        }
    }
    let kind = ReceiptKind::ContentHandover;
    let mut waiting: Vec<ReceiptParty> = recipients(tx, deposit, None).await?;
    waiting.retain(|recipient| !is_there(kind, recipient.id));
    if !waiting.is_empty() {
        for (about, event, at, documents) in handed(tx, deposit, signed, waiting).await? {
            let mut given_to = vec![sender.clone()];
            if about.id != sender.id {
                given_to.push(about.clone());
            }
            due.push(Due { kind, about, given_to, event, at, only: Some(documents) });
        }
    }
    Ok(due)
}

/// The first event of a kind in a deposit, once it is under the checkpoint.
async fn first(tx: &mut Tx, deposit: DepositId, kind: &str, signed: &Signed) -> Result<Option<(Leaf, Time)>> {
    let sql = const_sql(&[
        "SELECT ",
        log::COLUMNS,
        " FROM events WHERE deposit = $1 AND kind = $2 AND seq < $3 ORDER BY id LIMIT 1",
    ]);
    let row = tx.optional(sql, args![deposit.0, kind, signed.head.size]).await?;
    row.map(|row| Ok((Leaf::of(&row)?, row.get("at")?))).transpose()
}

/// The recipients of a deposit: all that ever were, or those of an instant.
async fn recipients(tx: &mut Tx, deposit: DepositId, at: Option<Time>) -> Result<Vec<ReceiptParty>> {
    let sql =
        "SELECT b.id, b.name, b.address, r.added, r.withdrawn FROM recipients r JOIN boxes b ON b.id = r.box
               WHERE r.deposit = $1 ORDER BY b.address";
    let mut parties = Vec::new();
    for row in tx.rows(sql, args![deposit.0]).await? {
        let (added, withdrawn) = (row.get::<Time>("added")?, row.get::<Option<Time>>("withdrawn")?);
        if at.is_none_or(|at| added <= at && withdrawn.is_none_or(|withdrawn| withdrawn > at)) {
            parties.push(party(&row)?);
        }
    }
    Ok(parties)
}

fn party(row: &Row) -> Result<ReceiptParty> {
    Ok(ReceiptParty { id: BoxId(row.get("id")?), name: row.get("name")?, address: row.get("address")? })
}

/// For each of these recipients who was handed a document to its last octet: by which event, and which documents.
///
/// Octets count wherever a download ended: two ranges that make up a document have handed it over.
async fn handed(
    tx: &mut Tx,
    deposit: DepositId,
    signed: &Signed,
    mut waiting: Vec<ReceiptParty>,
) -> Result<Vec<(ReceiptParty, Leaf, Time, BTreeSet<Uuid>)>> {
    let sizes = tx.rows("SELECT id, size FROM documents WHERE deposit = $1", args![deposit.0]).await?;
    let sizes: BTreeMap<Uuid, u64> = sizes
        .iter()
        .map(|row| {
            let size = row.get::<Option<i64>>("size")?.unwrap_or(i64::MAX);
            Ok((row.get("id")?, u64::try_from(size).unwrap_or(u64::MAX)))
        })
        .collect::<Result<_>>()?;
    let mut boxes: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for recipient in &waiting {
        boxes.entry(recipient.id.0).or_default().push(recipient.id.0);
        let sql = "SELECT account FROM service_members WHERE service = $1";
        for row in tx.rows(sql, args![recipient.id.0]).await? {
            boxes.entry(row.get("account")?).or_default().push(recipient.id.0);
        }
    }
    let sql = const_sql(&[
        "SELECT ",
        log::COLUMNS,
        " FROM events WHERE deposit = $1 AND kind IN ('download.completed', 'download.aborted') AND seq < $2
          ORDER BY seq",
    ]);
    let mut octets: BTreeMap<(Uuid, Uuid), Coverage> = BTreeMap::new();
    let mut handed = Vec::new();
    for row in tx.rows(sql, args![deposit.0, signed.head.size]).await? {
        let account = row.get::<Option<Uuid>>("on_behalf")?.or(row.get("actor")?);
        let Some(theirs) = account.and_then(|account| boxes.get(&account)) else { continue };
        let detail: serde_json::Value =
            serde_json::from_str(&row.get::<String>("detail")?).map_err(Fault::internal)?;
        for id in theirs {
            let documents = match row.get::<Option<Uuid>>("document")? {
                None if row.get::<String>("kind")? == "download.completed" => sizes.keys().copied().collect(),
                None => continue,
                Some(document) => {
                    let number = |name: &str| detail.get(name).and_then(serde_json::Value::as_u64);
                    let coverage = octets.entry((*id, document)).or_default();
                    coverage.add(number("from").unwrap_or(0), number("bytes").unwrap_or(0));
                    if !sizes.get(&document).is_some_and(|size| coverage.reaches(*size)) {
                        continue;
                    }
                    BTreeSet::from([document])
                }
            };
            if let Some(at) = waiting.iter().position(|recipient| recipient.id.0 == *id) {
                handed.push((waiting.remove(at), Leaf::of(&row)?, row.get("at")?, documents));
            }
        }
    }
    Ok(handed)
}

/// Which octets of a document were handed over, as separate ranges from their start to their end.
#[derive(Default)]
struct Coverage(BTreeMap<u64, u64>);

impl Coverage {
    fn add(&mut self, from: u64, bytes: u64) {
        let (mut from, mut to) = (from, from.saturating_add(bytes));
        while let Some((&start, &end)) = self.0.range(..=to).next_back().filter(|(_, end)| **end >= from) {
            self.0.remove(&start);
            (from, to) = (from.min(start), to.max(end));
        }
        self.0.insert(from, to);
    }

    fn reaches(&self, size: u64) -> bool {
        self.0.get(&0).is_some_and(|end| *end >= size)
    }
}

async fn draft(
    tx: &mut Tx,
    now: Time,
    evidence: &Evidence,
    deposit: DepositId,
    signed: &Signed,
    due: Due,
) -> Result<(ReceiptJson, BoxId, Uuid)> {
    let sql = "SELECT b.id, b.name, b.address, p.subject, p.sent, p.available, p.expires
               FROM deposits p JOIN boxes b ON b.id = p.sender WHERE p.id = $1";
    let row = tx.one(sql, args![deposit.0]).await?;
    let subject = ReceiptDeposit {
        id: deposit,
        subject: row.get("subject")?,
        sender: party(&row)?,
        recipients: recipients(tx, deposit, Some(due.at)).await?,
        sent: row.get::<Option<Time>>("sent")?.unwrap_or(due.at),
        available: row.get("available")?,
        expires: row.get("expires")?,
    };
    let rows = tx
        .rows("SELECT id, name, size, sha256 FROM documents WHERE deposit = $1 ORDER BY id", args![deposit.0])
        .await?;
    let mut documents = Vec::new();
    for row in &rows {
        let id: Uuid = row.get("id")?;
        if due.only.as_ref().is_none_or(|only| only.contains(&id)) {
            documents.push(ReceiptDocument {
                id: DocumentId(id),
                name: row.get("name")?,
                size: u64::try_from(row.get::<Option<i64>>("size")?.unwrap_or(0)).unwrap_or(0),
                sha256: row.get::<Option<Vec<u8>>>("sha256")?.map(hex::encode),
            });
        }
    }
    let id = due.event.id;
    let mut leaves = vec![due.event];
    if due.kind != ReceiptKind::SubmissionAcceptance
        && let Some((sent, _)) = first(tx, deposit, "deposit.sent", signed).await?
    {
        leaves.push(sent);
    }
    // What the sending did not know yet: the digest of a document that was still being read.
    let told: BTreeSet<String> =
        leaves.iter().flat_map(|leaf| digests(&leaf.text())).map(|(id, ..)| id).collect();
    let missing: BTreeSet<_> =
        documents.iter().map(|document| document.id.0).filter(|id| !told.contains(&id.to_string())).collect();
    if !missing.is_empty() {
        let sql = const_sql(&[
            "SELECT ",
            log::COLUMNS,
            " FROM events WHERE deposit = $1 AND kind = 'document.sealed' AND seq < $2 ORDER BY id",
        ]);
        for row in tx.rows(sql, args![deposit.0, signed.head.size]).await? {
            let sealed = row.get::<Option<Uuid>>("document")?;
            if sealed.is_some_and(|sealed| missing.contains(&sealed)) && leaves.len() < SEALINGS {
                leaves.push(Leaf::of(&row)?);
            }
        }
    }
    let mut events = Vec::new();
    for leaf in &leaves {
        let proof = log::inclusion(tx, leaf, &signed.head).await?;
        let proof = proof.hashes().iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect();
        events.push(ReceiptEvent { leaf: leaf.text(), index: leaf.seq, proof });
    }
    let json = ReceiptJson {
        format: ReceiptJson::FORMAT.to_owned(),
        version: 1,
        id: ReceiptId::new(),
        kind: due.kind,
        modelled_on: due.kind.modelled_on().to_owned(),
        issuer: evidence.issuer.clone(),
        given_to: due.given_to,
        created: now,
        deposit: subject,
        documents,
        events,
        checkpoint: signed.note.to_string(),
        journal_key: evidence.journal.verifier_key().to_string(),
    };
    Ok((json, due.about.id, id))
}

/// Digests that an event tells: document, size, SHA-256 in hexadecimal.
fn digests(leaf: &str) -> Vec<(String, Option<u64>, String)> {
    let Ok(leaf) = serde_json::from_str::<serde_json::Value>(leaf) else { return Vec::new() };
    let told = |document: &serde_json::Value, facts: &serde_json::Value| {
        let (document, sha256) = (document.as_str()?, facts["sha256"].as_str()?);
        Some((document.to_owned(), facts["size"].as_u64(), sha256.to_owned()))
    };
    let detail = &leaf["detail"];
    match leaf["kind"].as_str() {
        Some("document.sealed") => told(&leaf["document"], detail).into_iter().collect(),
        Some("deposit.sent") => {
            let documents = detail["documents"].as_array().into_iter().flatten();
            documents.filter_map(|facts| told(&facts["document"], facts)).collect()
        }
        _ => Vec::new(),
    }
}

/// The sealed PDF/A-3 that embeds the JSON.
async fn seal(evidence: &Evidence, json: &ReceiptJson, text: &str) -> Result<Vec<u8>> {
    let (receipt, time, name) = (document(json, text), json.created, evidence.issuer.clone());
    let (keys, level) =
        (evidence.clone(), if evidence.timestamps.is_some() { Level::BaselineT } else { Level::BaselineB });
    let reason = json.kind.title().to_owned();
    let work = move || -> Result<_> {
        let pdf = receipt.render().map_err(Fault::internal)?;
        let prepared = pli_signature::prepare(&pdf, &keys.seal, level, &Statement { name, reason }, time);
        prepared.and_then(pli_signature::Prepared::sign).map_err(Fault::internal)
    };
    let mut sealed = blocking(work).await?;
    if let Some(authority) = &evidence.timestamps {
        let nonce = crate::random32()?.first_chunk().copied().unwrap_or_default();
        let request = sealed.timestamp_request(nonce).map_err(Fault::internal)?;
        match authority.stamp(&request).await {
            Ok(token) => sealed.add_timestamp(&token).map_err(Fault::internal)?,
            // The checkpoint's own timestamp will say as much, later.
            Err(fault) => tracing::warn!(error = %fault, "receipt sealed without a timestamp"),
        }
    }
    sealed.finish().map_err(Fault::internal)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// What people read.
fn document(json: &ReceiptJson, text: &str) -> Receipt {
    let field = |label: &str, value: String| Field { label: label.to_owned(), value };
    let named = |party: &ReceiptParty| format!("{} <{}>", party.name, party.address);
    let deposit = &json.deposit;
    let mut fields = vec![field("Expéditeur", named(&deposit.sender))];
    fields.extend(deposit.recipients.iter().map(|recipient| field("Destinataire", named(recipient))));
    if !deposit.subject.is_empty() {
        fields.push(field("Objet", deposit.subject.clone()));
    }
    fields.push(field("Envoyé", said(deposit.sent)));
    if let Some(available) = deposit.available {
        fields.push(field("À disposition", said(available)));
    }
    if let Some(expires) = deposit.expires {
        fields.push(field("Jusqu'au", said(expires)));
    }
    fields.push(field("Dépôt", deposit.id.to_string()));
    let event = json.events.first();
    let facts = event
        .and_then(|event| serde_json::from_str::<serde_json::Value>(&event.leaf).ok())
        .unwrap_or_default();
    let at = facts["at"].as_i64().map(|at| said(Time::from_micros(at))).unwrap_or_default();
    let sentence = match json.kind {
        ReceiptKind::SubmissionAcceptance => format!("Le dépôt décrit ci-dessous a été accepté le {at}."),
        ReceiptKind::ContentConsignment => {
            format!("Les documents ci-dessous ont été mis à la disposition des destinataires le {at}.")
        }
        ReceiptKind::ContentHandover => {
            let to = json.given_to.last().map(named).unwrap_or_default();
            format!("Les documents ci-dessous ont été remis à {to}, jusqu'au dernier octet, le {at}.")
        }
    };
    let (known, unknown): (Vec<_>, Vec<_>) =
        json.documents.iter().partition(|document| document.sha256.is_some());
    let mut blocks = Vec::new();
    let rows: Vec<_> = known
        .into_iter()
        .filter_map(|document| {
            let sha256 = hex::decode(document.sha256.as_deref()?).ok()?.try_into().ok()?;
            Some(Document { name: document.name.clone(), size: document.size, sha256 })
        })
        .collect();
    if !rows.is_empty() {
        blocks.push(Block::Documents(rows));
    }
    if !unknown.is_empty() {
        blocks.push(Block::Paragraph(
            "Documents reçus entièrement dont l'empreinte était en cours de calcul ; le reçu de mise à disposition la \
             donne :"
                .to_owned(),
        ));
        let fields = unknown
            .into_iter()
            .map(|document| field(&format!("{} octets", document.size), document.name.clone()));
        blocks.push(Block::Fields(fields.collect()));
    }
    let place = event.map(|event| event.index.to_string()).unwrap_or_default();
    let proof = vec![
        field(
            "Événement",
            format!(
                "{} ({})",
                facts["id"].as_str().unwrap_or_default(),
                facts["kind"].as_str().unwrap_or_default()
            ),
        ),
        field("Place au journal", place),
        field("Modelé sur", json.modelled_on.clone()),
    ];
    Receipt {
        issuer: json.issuer.clone(),
        title: json.kind.title().to_owned(),
        reference: json.id.to_string(),
        sections: vec![
            Section { heading: "Attestation".to_owned(), blocks: vec![Block::Paragraph(sentence)] },
            Section { heading: "Dépôt".to_owned(), blocks: vec![Block::Fields(fields)] },
            Section { heading: "Documents".to_owned(), blocks },
            Section {
                heading: "Preuve".to_owned(),
                blocks: vec![
                    Block::Paragraph(
                        "Cet événement est inscrit au journal de Pli, dont voici le point de contrôle signé. Le fichier \
                         recu.json joint à ce document contient la preuve d'inclusion ; « pli receipt verify » la vérifie \
                         hors ligne. Les heures sont en temps universel (UTC)."
                            .to_owned(),
                    ),
                    Block::Fields(proof),
                    Block::Verbatim(json.checkpoint.lines().map(str::to_owned).collect()),
                ],
            },
        ],
        json: text.as_bytes().to_vec(),
        created: json.created,
    }
}

/// An instant for people: `27/11/2026 à 23:58:12 UTC`.
fn said(time: Time) -> String {
    let text = time.to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}/{}/{} à {} UTC", part(8, 10), part(5, 7), part(0, 4), part(11, 19))
}

const SUMMARY: &str = "r.id, r.kind, r.deposit, r.event, r.created, b.name, b.address";

fn summary(row: &Row) -> Result<ReceiptSummary> {
    Ok(ReceiptSummary {
        id: ReceiptId(row.get("id")?),
        kind: row.get::<String>("kind")?.parse().map_err(|e: String| Fault::internal(e))?,
        deposit: DepositId(row.get("deposit")?),
        event: EventId(row.get("event")?),
        about: Person { address: row.get("address")?, name: row.get("name")? },
        created: row.get("created")?,
    })
}

/// What a list of receipts may be narrowed by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReceiptFilter {
    deposit: Option<DepositId>,
    after: Option<ReceiptId>,
    limit: Option<u32>,
}

/// GET /receipts: those given to the caller's boxes, the newest first.
pub(crate) async fn list(
    State(hub): State<Hub>,
    caller: Caller,
    Query(filter): Query<ReceiptFilter>,
) -> Result<Json<Page<ReceiptSummary>>> {
    let limit = filter.limit.unwrap_or(50).clamp(1, 200);
    let after = filter.after.map_or(Uuid::max(), |id| id.0);
    let sql = const_sql(&[
        "SELECT ",
        SUMMARY,
        " FROM (SELECT v.receipt FROM receipt_parties v JOIN receipts d ON d.id = v.receipt
                WHERE v.box IN ",
        BOXES,
        " AND v.receipt < $1 AND ($4 IS NULL OR d.deposit = $4)
                GROUP BY v.receipt ORDER BY v.receipt DESC LIMIT $3) AS page
          JOIN receipts r ON r.id = page.receipt JOIN boxes b ON b.id = r.box ORDER BY r.id DESC",
    ]);
    let values = args![after, caller.account.0, i64::from(limit) + 1, filter.deposit.map(|id| id.0)];
    let rows = hub.db().rows(sql, values).await?;
    let items: Vec<_> = rows.iter().take(limit as usize).map(summary).collect::<Result<_>>()?;
    let next = if rows.len() > limit as usize { items.last().map(|item| item.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// GET /receipts/{id}, {id}.json, {id}.pdf.
pub(crate) async fn show(
    State(hub): State<Hub>,
    caller: Caller,
    Path(named): Path<String>,
) -> Result<Response> {
    let (id, form) = named.split_once('.').map_or((named.as_str(), None), |(id, form)| (id, Some(form)));
    let id: ReceiptId = id.parse().map_err(|_| ProblemCode::NotFound)?;
    let content = match form {
        None => "r.created AS content",
        Some("json") => "r.json AS content",
        Some("pdf") => "r.pdf AS content",
        Some(_) => return Err(ProblemCode::NotFound.into()),
    };
    let sql = const_sql(&[
        "SELECT ",
        SUMMARY,
        ", ",
        content,
        " FROM receipts r JOIN boxes b ON b.id = r.box WHERE r.id = $1
          AND r.id IN (SELECT receipt FROM receipt_parties WHERE box IN ",
        BOXES,
        ")",
    ]);
    let row = hub.db().optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    let (media_type, body) = match form {
        None => return Ok(Json(summary(&row)?).into_response()),
        Some("json") => ("application/json", row.get::<String>("content")?.into_bytes()),
        Some(_) => ("application/pdf", row.get::<Vec<u8>>("content")?),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CONTENT_DISPOSITION, download::disposition(&format!("recu-{named}"))?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    Ok(response)
}

/// Where a page of a trail begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrailFilter {
    after: Option<EventId>,
    limit: Option<u32>,
}

/// GET /deposits/{id}/trail: every event of what one sent, the oldest first; names as they are now.
pub(crate) async fn trail(
    State(hub): State<Hub>,
    caller: Caller,
    Path(id): Path<DepositId>,
    Query(filter): Query<TrailFilter>,
) -> Result<Json<Page<DepositTrailEvent>>> {
    let mut tx = hub.db().read().await?;
    let sql = const_sql(&["SELECT id FROM deposits WHERE id = $1 AND sender IN ", BOXES]);
    tx.optional(sql, args![id.0, caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    let limit = filter.limit.unwrap_or(100).clamp(1, 500);
    let after = filter.after.map_or(Uuid::nil(), |id| id.0);
    let sql = "SELECT e.id, e.at, e.kind, e.detail, e.seq, e.document, a.name AS actor_name,
                   a.address AS actor_address, o.name AS other_name, o.address AS other_address, d.name AS document_name
               FROM events e LEFT JOIN boxes a ON a.id = e.actor LEFT JOIN boxes o ON o.id = e.on_behalf
                   LEFT JOIN documents d ON d.id = e.document
               WHERE e.deposit = $1 AND e.id > $2 ORDER BY e.id LIMIT $3";
    let rows = tx.rows(sql, args![id.0, after, i64::from(limit) + 1]).await?;
    let person = |name: Option<String>, address: Option<String>| {
        name.zip(address).map(|(name, address)| Person { address, name })
    };
    let mut items = Vec::new();
    for row in rows.iter().take(limit as usize) {
        let (document, name) =
            (row.get::<Option<Uuid>>("document")?, row.get::<Option<String>>("document_name")?);
        items.push(DepositTrailEvent {
            id: EventId(row.get("id")?),
            at: row.get("at")?,
            kind: row.get("kind")?,
            actor: person(row.get("actor_name")?, row.get("actor_address")?),
            on_behalf: person(row.get("other_name")?, row.get("other_address")?),
            document: document.zip(name).map(|(id, name)| TrailDocument { id: DocumentId(id), name }),
            detail: serde_json::from_str(&row.get::<String>("detail")?).map_err(Fault::internal)?,
            seq: row.get::<Option<i64>>("seq")?.and_then(|seq| u64::try_from(seq).ok()),
        });
    }
    let next = if rows.len() > limit as usize { items.last().map(|item| item.id.to_string()) } else { None };
    Ok(Json(Page { items, next }))
}

/// What someone who checks a receipt believes beforehand.
#[derive(Clone, Debug, Default)]
pub struct ReceiptTrust {
    /// Certificates of the hub's seal, or of the authority that issued it.
    pub seals: Vec<Certificate>,
    /// Timestamp authorities.
    pub timestamps: Vec<Certificate>,
    /// Keys of the journal; without one, the key that a good seal covers.
    pub journal: Vec<VerifierKey>,
}

/// Why a receipt is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptRefused {
    /// A PDF needs a certificate to be believed, a bare JSON a key of the journal.
    #[error("rien n'est donné pour y croire : {0}")]
    NoTrust(&'static str),
    /// The seal does not hold.
    #[error("le cachet ne tient pas")]
    Seal(#[source] SignatureError),
    /// Not a receipt that this version knows.
    #[error("ce n'est pas un reçu que cette version connaît : {0}")]
    Form(String),
    /// It names another key of the journal.
    #[error("le reçu nomme une autre clé de journal que celle qui est donnée")]
    Key,
    /// The checkpoint is not what the journal signed.
    #[error("le point de contrôle n'est pas signé par le journal")]
    Checkpoint(#[source] NoteError),
    /// An event is not in the journal.
    #[error("l'événement {index} n'est pas au journal")]
    Inclusion {
        /// Its index.
        index: u64,
        /// Why.
        source: ProofError,
    },
    /// The receipt says something else than its events.
    #[error("le reçu dit autre chose que ses événements : {0}")]
    Contradiction(String),
}

/// A receipt that holds.
#[derive(Debug)]
pub struct CheckedReceipt {
    /// What it says.
    pub receipt: ReceiptJson,
    /// Who sealed it, and when they say they did; absent for a bare JSON.
    pub seal: Option<(String, Time)>,
    /// When a timestamp authority saw the seal.
    pub timestamp: Option<Time>,
    /// Documents whose digest stands in an event of the journal; that of the others rests on the seal.
    pub proved: usize,
}

/// Checks a receipt, PDF or JSON, away from the hub.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(file: &[u8], trust: &ReceiptTrust) -> std::result::Result<CheckedReceipt, ReceiptRefused> {
    use ReceiptRefused::{Checkpoint as BadCheckpoint, Contradiction, Form, Inclusion, Key, NoTrust, Seal};
    let (json, seal, timestamp) = if file.starts_with(b"%PDF-") {
        if trust.seals.is_empty() {
            return Err(NoTrust("un PDF se vérifie avec le certificat du cachet"));
        }
        let trusted = Trust { seals: trust.seals.clone(), timestamps: trust.timestamps.clone() };
        let opened = pli_receipt::open(file, &trusted).map_err(Seal)?;
        let time = opened.timestamp.as_ref().map(pli_signature::TimestampToken::time);
        (opened.json, Some((opened.signer.subject(), opened.claimed_time)), time)
    } else if file.len() > pli_receipt::JSON_MAX {
        return Err(Form("trop long".to_owned()));
    } else {
        (file.to_vec(), None, None)
    };
    let receipt: ReceiptJson = serde_json::from_slice(&json).map_err(|e| Form(e.to_string()))?;
    if receipt.format != ReceiptJson::FORMAT || receipt.version != 1 {
        return Err(Form(format!("{} {}", receipt.format, receipt.version)));
    }
    let own = VerifierKey::parse(&receipt.journal_key).map_err(BadCheckpoint)?;
    let keys = match (trust.journal.is_empty(), &seal) {
        (false, _) => trust.journal.clone(),
        (true, Some(_)) => vec![own.clone()],
        (true, None) => return Err(NoTrust("un JSON seul se vérifie avec la clé du journal")),
    };
    if !keys.contains(&own) {
        return Err(Key);
    }
    let (checkpoint, _) =
        Checkpoint::open(receipt.checkpoint.as_bytes(), own.name(), &keys).map_err(BadCheckpoint)?;

    let wrong = |what: &str| Err(Contradiction(what.to_owned()));
    let deposit = receipt.deposit.id.to_string();
    let mut told: BTreeMap<String, (Option<u64>, String)> = BTreeMap::new();
    for (position, event) in receipt.events.iter().enumerate() {
        let index = event.index;
        let refused = |source| Inclusion { index, source };
        let mut hashes = Vec::new();
        for hash in &event.proof {
            let bytes = STANDARD.decode(hash).ok().and_then(|bytes| <[u8; HASH]>::try_from(bytes).ok());
            hashes.push(Hash::from_bytes(bytes.ok_or_else(|| refused(ProofError::Malformed("not a hash")))?));
        }
        let proof = Proof::new(hashes).map_err(refused)?;
        let leaf = Hash::leaf(event.leaf.as_bytes());
        verify_inclusion(&leaf, index, &checkpoint.head(), &proof).map_err(refused)?;
        let facts: serde_json::Value = serde_json::from_str(&event.leaf).map_err(|e| Form(e.to_string()))?;
        if facts["seq"].as_u64() != Some(index) || facts["deposit"].as_str() != Some(deposit.as_str()) {
            return wrong("un événement d'un autre dépôt ou d'une autre place");
        }
        let (kind, at) = (facts["kind"].as_str().unwrap_or_default(), facts["at"].as_i64());
        let fits = match receipt.kind {
            ReceiptKind::SubmissionAcceptance => kind == "deposit.sent",
            ReceiptKind::ContentConsignment => kind == "deposit.available",
            ReceiptKind::ContentHandover => {
                let document = facts["document"].as_str();
                kind.starts_with("download.")
                    && document.is_none_or(|id| receipt.documents.iter().any(|one| one.id.to_string() == id))
            }
        };
        if position == 0 && !fits {
            return wrong("l'événement n'est pas de ce genre de reçu");
        }
        let said = match kind {
            "deposit.sent" => Some(receipt.deposit.sent),
            "deposit.available" => receipt.deposit.available,
            _ => None,
        };
        if said.is_some_and(|said| Some(said.micros()) != at) {
            return wrong("les heures diffèrent");
        }
        told.extend(digests(&event.leaf).into_iter().map(|(id, size, sha256)| (id, (size, sha256))));
    }
    if receipt.events.is_empty() {
        return wrong("aucun événement");
    }
    let mut proved = 0;
    for document in &receipt.documents {
        let Some((size, sha256)) = told.get(&document.id.to_string()) else { continue };
        if document.sha256.as_ref() != Some(sha256) || size.is_some_and(|size| size != document.size) {
            return wrong("l'empreinte ou la taille d'un document diffère");
        }
        proved += 1;
    }
    Ok(CheckedReceipt { receipt, seal, timestamp, proved })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_or_overlap_make_a_whole() {
        let mut coverage = Coverage::default();
        for (from, bytes) in [(50, 10), (0, 10), (30, 25), (9, 11), (70, 0)] {
            coverage.add(from, bytes);
        }
        assert!(!coverage.reaches(21));
        coverage.add(20, 10);
        assert!(coverage.reaches(60));
        assert!(!coverage.reaches(61));
        assert!(!Coverage::default().reaches(0), "nothing was asked for");
        coverage.add(u64::MAX, u64::MAX);
    }

    #[test]
    fn instants_are_said_as_people_write_them() {
        assert_eq!(said(Time::from_micros(1_795_820_373_000_001)), "27/11/2026 à 22:59:33 UTC");
    }
}
