//! The evidence log: gives each event its place in a Merkle tree, and signs the tree's heads.
//!
//! Owns the tables `journal_head`, `journal_tiles`, `journal_checkpoints` and the column `events.seq`. Must never
//! sign a head that does not extend what it signed before, nor give out a proof that does not hold.
//!
//! Identifiers of events are not the order in which they are committed: a transaction may end after a later one,
//! and on PostgreSQL several write at once. Whatever is committed and has no place is therefore taken, in the
//! order of identifiers within one round. The place, the tiles and the checkpoint are one transaction under one
//! lock, with compare-and-set on the size of the tree: a second sequencer finds the work done.

use crate::access::Caller;
use crate::evidence::Evidence;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::uploads::const_sql;
use crate::{Hub, jobs, receipts};
use axum::Json;
use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pli_api::{Checkpoint as CheckpointAnswer, ConsistencyProof, EventId, InclusionProof, ProblemCode, Time};
use pli_journal::{
    Checkpoint, Edge, HASH, Hash, Note, Proof, TileId, TileSet, TlogProof, TreeHead, VerifierKey,
    consistency_proof, consistency_tiles, inclusion_proof, inclusion_tiles, root_tiles, verify_consistency,
    verify_inclusion,
};
use pli_signature::TimestampRequest;
use pli_storage::{AT_ONCE, Args, Job, NewJob, Row, Sql, Tx, args};
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Asks the authority for a timestamp over the last checkpoint.
pub(crate) const TIMESTAMP: &str = "journal.timestamp";

/// The event that says that rows have left at the end of their retention.
pub(crate) const PRUNED: &str = "register.pruned";

/// Events that one transaction gives their places.
const BATCH: i64 = 1000;
/// Between two checkpoints, in microseconds, unless someone waits.
const PERIOD: i64 = 1_000_000;
/// How long a process keeps the work to itself after its last round, in microseconds.
const LEASE: i64 = 5_000_000;
/// How often a process looks for events that have no place.
const LOOK: Duration = Duration::from_millis(200);
/// Tiles fetched by one statement.
const TILES: usize = 64;

/// Columns of an event, in the order of its leaf.
pub(crate) const COLUMNS: &str =
    "seq, id, at, kind, actor, on_behalf, deposit, document, procedure, message, detail";

/// What this process knows of its own sequencing.
pub(crate) struct Sequencer {
    holder: Uuid,
    /// The greatest head that this process has signed.
    signed: Mutex<Option<TreeHead>>,
}

impl Default for Sequencer {
    fn default() -> Self {
        Self { holder: Uuid::now_v7(), signed: Mutex::default() }
    }
}

impl Sequencer {
    fn signed(&self) -> Option<TreeHead> {
        self.signed.lock().map_or(None, |head| *head)
    }

    fn has_signed(&self, head: TreeHead) {
        if let Ok(mut signed) = self.signed.lock()
            && signed.is_none_or(|before| before.size < head.size)
        {
            *signed = Some(head);
        }
    }
}

/// When a round may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// By the process that has the lease, at most one checkpoint a second.
    Shared,
    /// By whoever asks, at once.
    Now,
}

/// An event as it is logged.
pub(crate) struct Leaf {
    pub(crate) seq: u64,
    pub(crate) id: Uuid,
    at: i64,
    kind: String,
    ids: [Option<Uuid>; 6],
    detail: String,
}

/// The columns behind [`Leaf::ids`].
const IDS: [&str; 6] = ["actor", "on_behalf", "deposit", "document", "procedure", "message"];

impl Leaf {
    pub(crate) fn of(row: &Row) -> Result<Self> {
        let mut ids = [None; 6];
        for (id, column) in ids.iter_mut().zip(IDS) {
            *id = row.get(column)?;
        }
        Ok(Self {
            seq: u64::try_from(row.get::<i64>("seq")?).map_err(Fault::internal)?,
            id: row.get("id")?,
            at: row.get("at")?,
            kind: row.get("kind")?,
            ids,
            detail: row.get("detail")?,
        })
    }

    /// The leaf of this event at a place: one line of JSON, its members in this order, without spaces. The instant
    /// is in microseconds; `detail` is the stored text as it is.
    pub(crate) fn text_at(&self, seq: u64) -> String {
        let Self { id, at, kind, ids, detail, .. } = self;
        let kind = serde_json::Value::from(kind.as_str());
        let mut text = String::with_capacity(320 + detail.len());
        // Writing to a string cannot fail.
        let _ = write!(text, r#"{{"v":1,"seq":{seq},"id":"{id}","at":{at},"kind":{kind}"#);
        for (column, id) in IDS.iter().zip(ids) {
            let _ = match id {
                Some(id) => write!(text, r#","{column}":"{id}""#),
                None => write!(text, r#","{column}":null"#),
            };
        }
        let _ = write!(text, r#","detail":{detail}}}"#);
        text
    }

    /// Whether this is the event that says that rows below this place have left.
    pub(crate) fn tells_pruning(&self, below: u64) -> bool {
        let told = serde_json::json!({ "below": below }).to_string();
        self.kind == PRUNED && self.detail == told
    }

    /// The leaf.
    pub(crate) fn text(&self) -> String {
        self.text_at(self.seq)
    }
}

/// Sequences until `stop`.
pub(crate) async fn run(hub: Hub, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let bell = hub.inner.bell.notified();
        if let Err(fault) = append(&hub, Pace::Shared).await {
            metrics::counter!("pli_journal_failures_total").increment(1);
            tracing::error!(error = %fault, "events could not be given their places in the log");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = bell => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Gives every event its place and signs the head, if there is anything to do. Whether a checkpoint was signed.
pub(crate) async fn append(hub: &Hub, pace: Pace) -> Result<bool> {
    let Some(evidence) = hub.options().evidence.clone() else { return Ok(false) };
    if !is_due(hub, pace).await? {
        return Ok(false);
    }
    loop {
        match round(hub, &evidence, pace).await? {
            Round::More => {}
            Round::Nothing => return Ok(false),
            Round::Signed(head) => {
                hub.inner.log.has_signed(head);
                metrics::counter!("pli_journal_checkpoints_total").increment(1);
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                metrics::gauge!("pli_journal_size").set(head.size as f64);
                // Receipts wait for it.
                hub.inner.bell.notify_waiters();
                return Ok(true);
            }
        }
    }
}

/// A look that takes no lock.
async fn is_due(hub: &Hub, pace: Pace) -> Result<bool> {
    let sql = "SELECT size, signed, signed_at, holder, until,
                   (SELECT COUNT(*) FROM (SELECT id FROM events WHERE seq IS NULL LIMIT 1) AS w) AS waiting
               FROM journal_head WHERE one = 1";
    let Some(row) = hub.db().optional(sql, args![]).await? else { return Ok(false) };
    if row.get::<i64>("waiting")? == 0 && row.get::<i64>("size")? == row.get::<i64>("signed")? {
        return Ok(false);
    }
    if pace == Pace::Now {
        return Ok(true);
    }
    let now = hub.now().micros();
    let since = now.saturating_sub(row.get::<i64>("signed_at")?);
    let until = row.get::<i64>("until")?;
    let others = row.get::<Option<Uuid>>("holder")?.is_some_and(|holder| holder != hub.inner.log.holder);
    // A clock that went back waits for nothing.
    let held = others && until > now && until <= now.saturating_add(LEASE);
    Ok(!held && !(0..PERIOD).contains(&since))
}

enum Round {
    More,
    Nothing,
    Signed(TreeHead),
}

async fn round(hub: &Hub, evidence: &Evidence, pace: Pace) -> Result<Round> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    tx.lock("journal").await?;
    let row = match pace {
        Pace::Now => {
            tx.optional("SELECT size, root, signed FROM journal_head WHERE one = 1", args![]).await?
        }
        Pace::Shared => {
            let until = Time::from_micros(now.micros().saturating_add(LEASE));
            tx.optional(
                "UPDATE journal_head SET holder = $1, until = $2
                 WHERE one = 1 AND (holder IS NULL OR holder = $1 OR until <= $3 OR until > $2)
                 RETURNING size, root, signed",
                args![hub.inner.log.holder, until, now],
            )
            .await?
        }
    };
    let Some(row) = row else { return Ok(Round::Nothing) };
    let before = TreeHead { size: size_of(&row, "size")?, root: root_of(&row.get::<String>("root")?)? };
    let signed = size_of(&row, "signed")?;

    let leaves = take(&mut tx, before.size).await?;
    let mut head = before;
    if !leaves.is_empty() {
        let mut edge =
            Edge::open(&before, &tiles(&mut tx, root_tiles(before.size)).await?).map_err(Fault::internal)?;
        let hashes: Vec<_> = leaves.iter().map(|leaf| Hash::leaf(leaf.text().as_bytes())).collect();
        let appended = edge.append(&hashes).map_err(Fault::internal)?;
        for tile in &appended.tiles {
            tx.execute(
                "INSERT INTO journal_tiles (level, idx, hashes) VALUES ($1, $2, $3)
                 ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes",
                args![i64::from(tile.id.level), tile.id.index, &tile.bytes],
            )
            .await?;
        }
        head = appended.head;
        let moved = tx
            .execute(
                "UPDATE journal_head SET size = $1, root = $2 WHERE one = 1 AND size = $3",
                args![head.size, hex::encode(head.root.as_bytes()), before.size],
            )
            .await?;
        if moved != 1 {
            return Ok(Round::Nothing);
        }
    }
    if i64::try_from(leaves.len()).is_ok_and(|taken| taken == BATCH) {
        tx.commit().await?;
        return Ok(Round::More);
    }
    if head.size == signed {
        return Ok(Round::Nothing);
    }
    extends(hub, &mut tx, evidence, signed, &head).await?;
    let note = Checkpoint::new(&evidence.origin(), head).and_then(|text| text.sign(&evidence.journal));
    let note = note.map_err(Fault::internal)?;
    tx.execute(
        "INSERT INTO journal_checkpoints (size, at, note) VALUES ($1, $2, $3)",
        args![head.size, now, note.to_string()],
    )
    .await?;
    tx.execute("UPDATE journal_head SET signed = $1, signed_at = $2 WHERE one = 1", args![head.size, now])
        .await?;
    receipts::enqueue(&mut tx, signed, head.size).await?;
    if let Some(authority) = &evidence.timestamps {
        let last =
            tx.one("SELECT MAX(stamped) AS last FROM journal_checkpoints WHERE stamped IS NOT NULL", args![]);
        let last: Option<Time> = last.await?.get("last")?;
        let run_at = last.map_or(AT_ONCE, |last| last.plus_seconds(authority.every));
        let payload = serde_json::json!({});
        tx.enqueue(NewJob { kind: TIMESTAMP, payload, run_at, unique: Some("last") }).await?;
    }
    tx.commit().await?;
    Ok(Round::Signed(head))
}

/// Gives places to events that have none; they come back in the order of their places.
async fn take(tx: &mut Tx, from: u64) -> Result<Vec<Leaf>> {
    let sql = const_sql(&[
        "UPDATE events SET seq = $1 + n.place - 1
         FROM (SELECT id AS event, ROW_NUMBER() OVER (ORDER BY id) AS place
               FROM (SELECT id FROM events WHERE seq IS NULL ORDER BY id LIMIT $2) AS w) AS n
         WHERE id = n.event AND seq IS NULL RETURNING ",
        COLUMNS,
    ]);
    let mut leaves: Vec<_> =
        tx.rows(sql, args![from, BATCH]).await?.iter().map(Leaf::of).collect::<Result<_>>()?;
    leaves.sort_by_key(|leaf| leaf.seq);
    let gap = leaves.iter().zip(from..).any(|(leaf, place)| leaf.seq != place);
    if gap {
        Err(Fault::internal("events were given places that do not follow each other"))
    } else {
        Ok(leaves)
    }
}

/// Refuses to sign a head that does not extend what was signed last, here or by any process.
async fn extends(hub: &Hub, tx: &mut Tx, evidence: &Evidence, signed: u64, head: &TreeHead) -> Result<()> {
    let mine = hub.inner.log.signed();
    if mine.is_some_and(|mine| mine.size > signed) {
        return Err(Fault::internal(
            "the database was set back: it lacks a checkpoint that this process signed",
        ));
    }
    let mut before: Vec<TreeHead> = mine.into_iter().collect();
    if signed > 0 {
        let row = tx.optional("SELECT note FROM journal_checkpoints WHERE size = $1", args![signed]).await?;
        let row = row.ok_or_else(|| Fault::internal("the checkpoint that was signed last is not there"))?;
        let opened = open(&row.get::<String>("note")?, &evidence.origin(), &evidence.verifier_keys())?;
        before.push(opened.0.head());
    }
    for older in before {
        let set = tiles(tx, consistency_tiles(older.size, head.size).map_err(Fault::internal)?).await?;
        let proof = consistency_proof(older.size, head.size, &set).map_err(Fault::internal)?;
        verify_consistency(&older, head, &proof).map_err(Fault::internal)?;
    }
    Ok(())
}

/// A checkpoint whose signature holds.
pub(crate) fn open(note: &str, origin: &str, keys: &[VerifierKey]) -> Result<(Checkpoint, Note)> {
    Checkpoint::open(note.as_bytes(), origin, keys).map_err(Fault::internal)
}

fn size_of(row: &Row, column: &str) -> Result<u64> {
    u64::try_from(row.get::<i64>(column)?).map_err(Fault::internal)
}

/// A root as `journal_head` keeps it.
pub(crate) fn root_of(text: &str) -> Result<Hash> {
    let bytes = hex::decode(text).map_err(Fault::internal)?;
    let bytes = <[u8; HASH]>::try_from(bytes).map_err(|_| Fault::internal("the root is not a hash"))?;
    Ok(Hash::from_bytes(bytes))
}

/// The tiles of these places that are there.
pub(crate) async fn tiles(tx: &mut Tx, mut ids: Vec<TileId>) -> Result<TileSet> {
    ids.sort_unstable();
    ids.dedup();
    let mut set = TileSet::new();
    for ids in ids.chunks(TILES) {
        let mut wanted = Args::default();
        let mut list = String::new();
        for id in ids {
            wanted.push(i64::from(id.level));
            wanted.push(id.index);
            let comma = if list.is_empty() { "" } else { ", " };
            let _ = write!(list, "{comma}(${}, ${})", wanted.len().saturating_sub(1), wanted.len());
        }
        // Each is looked up by its primary key, on both databases.
        let sql = Sql::assembled(format!(
            "SELECT t.level, t.idx, t.hashes FROM (VALUES {list}) AS w
             JOIN journal_tiles t ON t.level = w.column1 AND t.idx = w.column2"
        ));
        for row in tx.rows(sql, wanted).await? {
            let (level, index) = (row.get::<i64>("level")?, row.get::<i64>("idx")?);
            let id = TileId {
                level: u8::try_from(level).map_err(Fault::internal)?,
                index: u64::try_from(index).map_err(Fault::internal)?,
            };
            set.insert(id, row.get::<Vec<u8>>("hashes")?).map_err(Fault::internal)?;
        }
    }
    Ok(set)
}

/// A signed head of the log, as the table keeps it.
pub(crate) struct Signed {
    pub(crate) head: TreeHead,
    pub(crate) at: Time,
    pub(crate) note: Note,
    pub(crate) token: Option<Vec<u8>>,
}

impl Signed {
    fn answer(&self) -> CheckpointAnswer {
        CheckpointAnswer {
            size: self.head.size,
            root: hex::encode(self.head.root.as_bytes()),
            at: self.at,
            note: self.note.to_string(),
            token: self.token.as_ref().map(|token| STANDARD.encode(token)),
        }
    }
}

/// The checkpoint of this size, or the last; its signature holds.
pub(crate) async fn checkpoint(
    tx: &mut Tx,
    evidence: &Evidence,
    size: Option<u64>,
) -> Result<Option<Signed>> {
    let row = match size {
        Some(size) => {
            let sql = "SELECT at, note, token FROM journal_checkpoints WHERE size = $1";
            tx.optional(sql, args![size]).await?
        }
        None => {
            let sql = "SELECT at, note, token FROM journal_checkpoints ORDER BY size DESC LIMIT 1";
            tx.optional(sql, args![]).await?
        }
    };
    let Some(row) = row else { return Ok(None) };
    let (checkpoint, note) =
        open(&row.get::<String>("note")?, &evidence.origin(), &evidence.verifier_keys())?;
    Ok(Some(Signed { head: checkpoint.head(), at: row.get("at")?, note, token: row.get("token")? }))
}

/// The proof that this leaf is under this head; it holds.
pub(crate) async fn inclusion(tx: &mut Tx, leaf: &Leaf, head: &TreeHead) -> Result<Proof> {
    let ids = inclusion_tiles(leaf.seq, head.size).map_err(Fault::internal)?;
    let proof = inclusion_proof(leaf.seq, head.size, &tiles(tx, ids).await?).map_err(Fault::internal)?;
    verify_inclusion(&Hash::leaf(leaf.text().as_bytes()), leaf.seq, head, &proof).map_err(Fault::internal)?;
    Ok(proof)
}

fn evidence(hub: &Hub) -> Result<&Evidence> {
    hub.options().evidence.as_ref().ok_or_else(|| ProblemCode::NotFound.into())
}

/// GET /journal/checkpoint: the last one.
pub(crate) async fn show_checkpoint(State(hub): State<Hub>, _: Caller) -> Result<Json<CheckpointAnswer>> {
    let mut tx = hub.db().read().await?;
    let signed = checkpoint(&mut tx, evidence(&hub)?, None).await?.ok_or(ProblemCode::NotFound)?;
    Ok(Json(signed.answer()))
}

/// True in SQL when account `$2` may have the proof of event `e`: its own act, one about what its boxes sent, or
/// one about what an organisation sent whose evidence it may read (see [`crate::roles::TABLE`]).
const PROVABLE: &str = "(e.actor = $2 OR e.on_behalf = $2 OR EXISTS (
    SELECT 1 FROM deposits p WHERE p.id = e.deposit AND (
        p.sender IN (SELECT id FROM boxes WHERE id = $2
            UNION ALL SELECT service FROM service_members WHERE account = $2)
        OR p.state <> 'draft' AND EXISTS (SELECT 1 FROM roles r WHERE r.account = $2
            AND r.organisation = p.organisation AND r.role IN ('magistrate', 'manager', 'auditor')))))";

/// Which event a proof is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InclusionAsked {
    event: EventId,
}

/// GET /journal/proof/inclusion.
pub(crate) async fn prove_inclusion(
    State(hub): State<Hub>,
    caller: Caller,
    Query(asked): Query<InclusionAsked>,
) -> Result<Json<InclusionProof>> {
    let evidence = evidence(&hub)?;
    let mut tx = hub.db().read().await?;
    let sql = const_sql(&["SELECT ", COLUMNS, " FROM events e WHERE e.id = $1 AND ", PROVABLE]);
    let row = tx.optional(sql, args![asked.event.0, caller.account.0]).await?.ok_or(ProblemCode::NotFound)?;
    let later =
        || Fault::because(ProblemCode::Conflict, "Pas encore au journal ; réessayez dans une seconde.");
    if row.get::<Option<i64>>("seq")?.is_none() {
        return Err(later());
    }
    let leaf = Leaf::of(&row)?;
    let signed = checkpoint(&mut tx, evidence, None).await?.filter(|signed| signed.head.size > leaf.seq);
    let signed = signed.ok_or_else(later)?;
    let proof = inclusion(&mut tx, &leaf, &signed.head).await?;
    let proof = TlogProof { index: leaf.seq, proof, checkpoint: signed.note, extra: None };
    Ok(Json(InclusionProof { leaf: leaf.text(), proof: proof.to_string() }))
}

/// Between which checkpoints a proof is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsistencyAsked {
    from: u64,
    to: Option<u64>,
}

/// GET /journal/proof/consistency: between two checkpoints, named by their sizes; the later is the last one unless said.
pub(crate) async fn prove_consistency(
    State(hub): State<Hub>,
    _: Caller,
    Query(asked): Query<ConsistencyAsked>,
) -> Result<Json<ConsistencyProof>> {
    let evidence = evidence(&hub)?;
    let mut tx = hub.db().read().await?;
    let from = checkpoint(&mut tx, evidence, Some(asked.from)).await?.ok_or(ProblemCode::NotFound)?;
    let to = checkpoint(&mut tx, evidence, asked.to).await?.ok_or(ProblemCode::NotFound)?;
    if from.head.size > to.head.size {
        return Err(Fault::because(ProblemCode::Invalid, "« from » dépasse « to »."));
    }
    let ids = consistency_tiles(from.head.size, to.head.size).map_err(Fault::internal)?;
    let set = tiles(&mut tx, ids).await?;
    let proof = consistency_proof(from.head.size, to.head.size, &set).map_err(Fault::internal)?;
    verify_consistency(&from.head, &to.head, &proof).map_err(Fault::internal)?;
    Ok(Json(ConsistencyProof {
        hashes: proof.hashes().iter().map(|hash| STANDARD.encode(hash.as_bytes())).collect(),
        from: from.answer(),
        to: to.answer(),
    }))
}

/// Stamps the last checkpoint, unless it is.
pub(crate) async fn timestamp(hub: &Hub, job: &Job) -> Result<()> {
    let Some(evidence) = hub.options().evidence.clone() else { return jobs::complete_alone(hub, job).await };
    let Some(authority) = &evidence.timestamps else { return jobs::complete_alone(hub, job).await };
    let mut tx = hub.db().read().await?;
    let last = checkpoint(&mut tx, &evidence, None).await?;
    drop(tx);
    let Some(last) = last.filter(|last| last.token.is_none()) else {
        return jobs::complete_alone(hub, job).await;
    };
    let nonce = crate::random32()?.first_chunk().copied().unwrap_or_default();
    let request = TimestampRequest::new(last.note.to_string().as_bytes(), nonce).map_err(Fault::internal)?;
    let token = authority.stamp(&request).await?;
    let mut tx = hub.db().write().await?;
    tx.execute(
        "UPDATE journal_checkpoints SET token = $2, stamped = $3 WHERE size = $1 AND token IS NULL",
        args![last.head.size, token.der(), hub.now()],
    )
    .await?;
    if tx.complete(job).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Takes rows out of the register at the end of their retention, once a day at most. Their hashes stay in the tree,
/// and an event says below which place rows may be missing. What concerns a procedure or a document that is still
/// there stays as long as it.
pub(crate) async fn prune(hub: &Hub) -> Result<()> {
    let Some(evidence) = hub.options().evidence.clone().filter(|evidence| evidence.register_years > 0) else {
        return Ok(());
    };
    let (now, day) = (hub.now(), 86_400);
    // A year and its leap day: never a day too early.
    let before = now.plus_seconds(i64::from(evidence.register_years).saturating_mul(-366 * day));
    let mut tx = hub.db().write().await?;
    tx.lock("journal").await?;
    let sql = "SELECT h.pruned, c.at FROM journal_head h LEFT JOIN journal_checkpoints c ON c.size = h.pruned WHERE h.one = 1";
    let row = tx.one(sql, args![]).await?;
    let (pruned, last) = (row.get::<i64>("pruned")?, row.get::<Option<Time>>("at")?);
    let sql = "SELECT size, at FROM journal_checkpoints WHERE at <= $1 ORDER BY at DESC, size DESC LIMIT 1";
    let Some(row) = tx.optional(sql, args![before]).await? else { return Ok(()) };
    let (below, at) = (row.get::<i64>("size")?, row.get::<Time>("at")?);
    if below <= pruned || last.is_some_and(|last| at < last.plus_seconds(day)) {
        return Ok(());
    }
    tx.execute("UPDATE journal_head SET pruned = $1 WHERE one = 1", args![below]).await?;
    Event::new(PRUNED).detail(serde_json::json!({ "below": below })).write(&mut tx, now).await?;
    tx.commit().await?;
    loop {
        let mut tx = hub.db().write().await?;
        let gone = tx
            .execute(
                "DELETE FROM events WHERE id IN (
                     SELECT e.id FROM events e WHERE e.seq < $1 AND e.procedure IS NULL
                     AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.id = e.document AND d.state <> 'erased')
                     AND NOT EXISTS (SELECT 1 FROM deposits p WHERE p.id = e.deposit AND p.state <> 'expired')
                     LIMIT $2)",
                args![below, BATCH],
            )
            .await?;
        tx.commit().await?;
        if gone < BATCH.unsigned_abs() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::{self, Permission};
    use pli_api::Role;

    #[test]
    fn a_leaf_is_one_line_in_one_form() {
        let id = |n| Uuid::from_u128(n);
        let leaf = Leaf {
            seq: 7,
            id: id(1),
            at: 1_795_820_373_000_001,
            kind: "a\"b".into(),
            ids: [Some(id(2)), None, Some(id(3)), None, None, None],
            detail: r#"{"bytes":3}"#.into(),
        };
        assert_eq!(
            leaf.text(),
            r#"{"v":1,"seq":7,"id":"00000000-0000-0000-0000-000000000001","at":1795820373000001,"kind":"a\"b","actor":"00000000-0000-0000-0000-000000000002","on_behalf":null,"deposit":"00000000-0000-0000-0000-000000000003","document":null,"procedure":null,"message":null,"detail":{"bytes":3}}"#
        );
        assert_ne!(leaf.text_at(8), leaf.text());
    }

    #[test]
    fn proofs_are_for_the_roles_that_read_evidence() {
        for role in Role::ALL {
            let named = PROVABLE.contains(&format!("'{}'", role.as_str()));
            assert_eq!(named, roles::allows(*role, Permission::ReadEvidence), "{}", role.as_str());
        }
    }
}
