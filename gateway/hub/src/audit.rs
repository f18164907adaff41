//! The audit of the journal: all rows again against everything that was signed, and the export for a third party.
//!
//! Owns the reading of the whole log in bounded memory. Must never change anything, and never believe a row for
//! what another row says of it: only checkpoints prove.

use crate::evidence::Evidence;
use crate::fault::{Fault, Result};
use crate::log::{self, Leaf};
use crate::uploads::const_sql;
use crate::{Hub, log::COLUMNS};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pli_api::ProblemCode;
use pli_journal::{
    Checkpoint, Disagreement, Edge, FirstWrong, Hash, Suspect, TILE_WIDTH, TileId, TileSet, TreeHead,
    Verifier, root_tiles,
};
use pli_storage::{Row, Tx, args};
use std::collections::{BTreeMap, VecDeque};
use std::io;

/// Leaves read at once: whole tiles.
const PAGE: u64 = 16 * TILE_WIDTH as u64;
/// Checkpoints read at once.
const CHECKPOINTS: i64 = 500;

/// What agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Events in the log.
    pub events: u64,
    /// Of these, how many rows have left at the end of their retention; their hashes are still proved.
    pub removed: u64,
    /// Events under the last checkpoint.
    pub covered: u64,
    /// Checkpoints that agreed, those given from elsewhere included.
    pub checkpoints: u64,
    /// Events that have no place yet.
    pub waiting: u64,
}

/// The first thing that is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Tampered {
    /// The place of the first wrong event, as closely as it is known: the first that may be.
    pub place: u64,
    /// How.
    pub how: How,
    /// For the operator, in French.
    what: String,
}

/// What was done to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Its row says something else than was logged.
    Edited,
    /// Its row is not there.
    Deleted,
    /// Its row stood elsewhere.
    Reordered,
    /// A row that was never logged.
    Added,
    /// The log ends before, or differs from, what was signed.
    RolledBack,
    /// The rows are right; what was computed from them was changed.
    Derived,
    /// A checkpoint is not signed by the journal.
    Checkpoint,
}

impl Tampered {
    fn new(place: u64, how: How, what: impl Into<String>) -> Self {
        Self { place, how, what: what.into() }
    }
}

/// Checks the whole log; `witnesses` are checkpoints kept elsewhere.
///
/// # Errors
/// The outer error when the log cannot be read or a witness is not a checkpoint of this log; the inner one is the
/// first thing that is wrong.
pub async fn verify(hub: &Hub, witnesses: &[Vec<u8>]) -> Result<std::result::Result<Audited, Tampered>> {
    let evidence = evidence(hub)?;
    let (origin, keys) = (evidence.origin(), evidence.verifier_keys());
    let mut heads = Vec::new();
    for note in witnesses {
        let (checkpoint, _) = Checkpoint::open(note, &origin, &keys).map_err(|error| {
            Fault::because(
                ProblemCode::Invalid,
                format!("Le témoin n'est pas un point de contrôle de ce journal : {error}."),
            )
        })?;
        heads.push(checkpoint.head());
    }
    heads.sort_by_key(|head| head.size);
    // One state of the database from beginning to end.
    let mut tx = hub.db().read().await?;
    let audit = Audit::start(&mut tx, evidence, heads).await?;
    audit.run(&mut tx).await
}

fn evidence(hub: &Hub) -> Result<&Evidence> {
    hub.options().evidence.as_ref().ok_or_else(|| Fault::internal("no key of the journal is configured"))
}

struct Audit<'a> {
    evidence: &'a Evidence,
    head: TreeHead,
    pruned: u64,
    witnesses: VecDeque<TreeHead>,
    /// Checkpoints read ahead, and the size of the last that was read.
    ahead: VecDeque<(u64, String)>,
    read: Option<i64>,
    verifier: Verifier,
    removed: u64,
    pruning_told: bool,
}

type Verdict<T> = Result<std::result::Result<T, Tampered>>;

impl<'a> Audit<'a> {
    async fn start(tx: &mut Tx, evidence: &'a Evidence, witnesses: Vec<TreeHead>) -> Result<Self> {
        let row = tx.one("SELECT size, root, pruned FROM journal_head WHERE one = 1", args![]).await?;
        Ok(Self {
            evidence,
            head: TreeHead {
                size: unsigned(&row, "size")?,
                root: log::root_of(&row.get::<String>("root")?)?,
            },
            pruned: unsigned(&row, "pruned")?,
            witnesses: witnesses.into(),
            ahead: VecDeque::new(),
            read: Some(-1),
            verifier: Verifier::new(),
            removed: 0,
            pruning_told: false,
        })
    }

    async fn run(mut self, tx: &mut Tx) -> Verdict<Audited> {
        let mut place = 0;
        while place < self.head.size {
            let end = self.head.size.min(place.saturating_add(PAGE));
            if let Err(tampered) = self.page(tx, place, end).await? {
                return Ok(Err(tampered));
            }
            place = end;
        }
        // Those at the very end, and those beyond it.
        while let Some(size) = self.next_checkpoint(tx).await? {
            if let Err(tampered) = self.check(tx, size).await? {
                return Ok(Err(tampered));
            }
        }
        let sql = const_sql(&["SELECT ", COLUMNS, " FROM events WHERE seq >= $1 ORDER BY seq LIMIT 1"]);
        if let Some(row) = tx.optional(sql, args![self.head.size]).await? {
            let leaf = Leaf::of(&row)?;
            let what = format!("événement n° {} ({}) : ajouté hors du journal", leaf.seq, leaf.id);
            return Ok(Err(Tampered::new(leaf.seq, How::Added, what)));
        }
        let verified = match self.verifier.clone().finish() {
            Ok(verified) => verified,
            Err(disagreement) => return Ok(Err(self.explain(tx, disagreement).await?)),
        };
        let derived = |place, what: &str| Ok(Err(Tampered::new(place, How::Derived, what)));
        if verified.head != self.head {
            return derived(self.head.size, "la tête enregistrée n'est pas celle des événements");
        }
        if self.pruned > 0 && !self.pruning_told {
            return derived(
                0,
                "des lignes sont dites retirées en fin de durée, et aucun événement ne le dit",
            );
        }
        let edge = log::tiles(tx, root_tiles(self.head.size)).await?;
        if Edge::open(&self.head, &edge).is_err() {
            return derived(
                self.head.size,
                "des tuiles du journal ont été modifiées ; les événements sont bons",
            );
        }
        let row = tx.one("SELECT COUNT(*) AS n FROM events WHERE seq IS NULL", args![]).await?;
        Ok(Ok(Audited {
            events: verified.head.size,
            removed: self.removed,
            covered: verified.covered.size,
            checkpoints: verified.checkpoints,
            waiting: unsigned(&row, "n")?,
        }))
    }

    /// Leaves from one place to another.
    async fn page(&mut self, tx: &mut Tx, from: u64, to: u64) -> Verdict<()> {
        let stored = leaf_tiles(tx, from, to).await?;
        let mut rows = rows(tx, from, to).await?.into_iter().peekable();
        for place in from..to {
            while let Some(size) = self.next_checkpoint(tx).await?.filter(|size| *size <= place) {
                if let Err(tampered) = self.check(tx, size).await? {
                    return Ok(Err(tampered));
                }
            }
            let stored = stored.leaf(place);
            let row = match rows.next_if(|leaf| leaf.seq == place) {
                Some(leaf) => {
                    self.pruning_told |= self.pruned > 0 && leaf.tells_pruning(self.pruned);
                    Some(Hash::leaf(leaf.text().as_bytes()))
                }
                None if place < self.pruned => {
                    self.removed = self.removed.saturating_add(1);
                    stored
                }
                None => None,
            };
            if let Err(disagreement) = self.verifier.leaf(place, row, stored) {
                return Ok(Err(self.explain(tx, disagreement).await?));
            }
        }
        Ok(Ok(()))
    }

    /// The size of the next checkpoint or witness.
    async fn next_checkpoint(&mut self, tx: &mut Tx) -> Result<Option<u64>> {
        if self.ahead.is_empty()
            && let Some(read) = self.read
        {
            let sql = "SELECT size, note FROM journal_checkpoints WHERE size > $1 ORDER BY size LIMIT $2";
            let rows = tx.rows(sql, args![read, CHECKPOINTS]).await?;
            self.read = rows.last().map(|row| row.get("size")).transpose()?;
            for row in &rows {
                self.ahead.push_back((unsigned(row, "size")?, row.get("note")?));
            }
        }
        let (own, given) =
            (self.ahead.front().map(|own| own.0), self.witnesses.front().map(|head| head.size));
        Ok(own.into_iter().chain(given).min())
    }

    /// Checks the next checkpoint, which is of this size.
    async fn check(&mut self, tx: &mut Tx, size: u64) -> Verdict<()> {
        let head = match self.ahead.front() {
            Some((own, note)) if *own == size => {
                match log::open(note, &self.evidence.origin(), &self.evidence.verifier_keys()) {
                    Ok((checkpoint, _)) if checkpoint.head().size == size => {
                        self.ahead.pop_front();
                        checkpoint.head()
                    }
                    _ => {
                        let what =
                            format!("le point de contrôle de taille {size} n'est pas signé par le journal");
                        return Ok(Err(Tampered::new(size, How::Checkpoint, what)));
                    }
                }
            }
            _ => match self.witnesses.pop_front() {
                Some(head) => head,
                None => return Ok(Ok(())),
            },
        };
        match self.verifier.check(&head) {
            Ok(()) => Ok(Ok(())),
            Err(disagreement) => Ok(Err(self.explain(tx, disagreement).await?)),
        }
    }

    async fn explain(&self, tx: &mut Tx, disagreement: Disagreement) -> Result<Tampered> {
        let size = self.head.size;
        Ok(match disagreement {
            Disagreement::Rows { first_wrong: FirstWrong::Leaf(suspect), .. } => {
                self.suspect(tx, suspect).await?
            }
            Disagreement::Rows { checkpoint, .. } if checkpoint.size > size => {
                let what = format!(
                    "journal ramené en arrière : un point de contrôle couvre {} événements, la base en a {size} ; le \
                     premier qui manque est le n° {size}",
                    checkpoint.size
                );
                Tampered::new(size, How::RolledBack, what)
            }
            Disagreement::Rows {
                first_wrong: FirstWrong::Between { leaves, suspect: Some(suspect) },
                ..
            } => {
                let mut tampered = self.suspect(tx, suspect).await?;
                tampered.what = format!(
                    "{} ; des empreintes enregistrées entre les n° {} et {} ne sont pas bonnes non plus",
                    tampered.what, leaves.start, leaves.end
                );
                tampered
            }
            Disagreement::Rows { checkpoint, first_wrong: FirstWrong::Between { leaves, suspect: None } } => {
                let what = format!(
                    "journal ramené en arrière ou refait : les événements à partir du n° {} ne sont pas ceux que couvre \
                     le point de contrôle de taille {}",
                    leaves.start, checkpoint.size
                );
                Tampered::new(leaves.start, How::RolledBack, what)
            }
            Disagreement::Stored { index, .. } => {
                let what = format!(
                    "l'empreinte enregistrée de l'événement n° {index} a été modifiée ; l'événement est bon"
                );
                Tampered::new(index, How::Derived, what)
            }
            Disagreement::Uncovered { suspect, .. } => self.suspect(tx, suspect).await?,
            Disagreement::Checkpoints { checkpoint, agreed } => {
                let what = format!(
                    "deux points de contrôle se contredisent (tailles {} et {}) : le journal a été refait",
                    agreed.size, checkpoint.size
                );
                Tampered::new(checkpoint.size, How::RolledBack, what)
            }
            other => return Err(Fault::internal(other)),
        })
    }

    async fn suspect(&self, tx: &mut Tx, suspect: Suspect) -> Result<Tampered> {
        match suspect {
            Suspect::Missing(place) => {
                Ok(Tampered::new(place, How::Deleted, format!("événement n° {place} : supprimé")))
            }
            Suspect::Altered(place) => {
                let rows = rows(tx, place, place.saturating_add(1)).await?;
                let Some(leaf) = rows.first() else {
                    return Ok(Tampered::new(
                        place,
                        How::Deleted,
                        format!("événement n° {place} : supprimé"),
                    ));
                };
                let was = self.place_of(tx, leaf).await?;
                Ok(match was {
                    Some(was) => {
                        let what =
                            format!("événement n° {place} ({}) : déplacé, il portait le n° {was}", leaf.id);
                        Tampered::new(place, How::Reordered, what)
                    }
                    None => {
                        let what = format!("événement n° {place} ({}) : modifié", leaf.id);
                        Tampered::new(place, How::Edited, what)
                    }
                })
            }
        }
    }

    /// Where this row was logged, if anywhere.
    async fn place_of(&self, tx: &mut Tx, leaf: &Leaf) -> Result<Option<u64>> {
        let mut place = 0;
        while place < self.head.size {
            let end = self.head.size.min(place.saturating_add(PAGE));
            let stored = leaf_tiles(tx, place, end).await?;
            let found = (place..end)
                .find(|place| stored.leaf(*place) == Some(Hash::leaf(leaf.text_at(*place).as_bytes())));
            if found.is_some() {
                return Ok(found);
            }
            place = end;
        }
        Ok(None)
    }
}

fn unsigned(row: &Row, column: &str) -> Result<u64> {
    u64::try_from(row.get::<i64>(column)?).map_err(Fault::internal)
}

async fn rows(tx: &mut Tx, from: u64, to: u64) -> Result<Vec<Leaf>> {
    let sql = const_sql(&["SELECT ", COLUMNS, " FROM events WHERE seq >= $1 AND seq < $2 ORDER BY seq"]);
    tx.rows(sql, args![from, to]).await?.iter().map(Leaf::of).collect()
}

/// The tiles of level 0 over these leaves. A tile that cannot be one is left out, as if it were not there.
async fn leaf_tiles(tx: &mut Tx, from: u64, to: u64) -> Result<TileSet> {
    let width = TILE_WIDTH as u64;
    let sql = "SELECT idx, hashes FROM journal_tiles WHERE level = 0 AND idx >= $1 AND idx < $2";
    let mut set = TileSet::new();
    for row in tx.rows(sql, args![from / width, to.div_ceil(width)]).await? {
        let _ = set.insert(TileId { level: 0, index: unsigned(&row, "idx")? }, row.get::<Vec<u8>>("hashes")?);
    }
    Ok(set)
}

/// Writes the log for a third party: each event as its leaf, one a line; each checkpoint as a line of JSON. An event
/// whose row has left at the end of its retention is a line of its place and its leaf's hash. Gives how many of both.
///
/// # Errors
/// When the log cannot be read, or not be written out.
pub async fn export(
    hub: &Hub,
    events: &mut dyn io::Write,
    checkpoints: &mut dyn io::Write,
) -> Result<(u64, u64)> {
    let mut tx = hub.db().read().await?;
    let size = unsigned(&tx.one("SELECT size FROM journal_head WHERE one = 1", args![]).await?, "size")?;
    let mut place = 0;
    while place < size {
        let end = size.min(place.saturating_add(PAGE));
        let stored = leaf_tiles(&mut tx, place, end).await?;
        let mut leaves: BTreeMap<_, _> =
            rows(&mut tx, place, end).await?.into_iter().map(|leaf| (leaf.seq, leaf.text())).collect();
        for place in place..end {
            let line = match (leaves.remove(&place), stored.leaf(place)) {
                (Some(line), _) => line,
                (None, Some(hash)) => {
                    format!(r#"{{"seq":{place},"hash":"{}"}}"#, hex::encode(hash.as_bytes()))
                }
                (None, None) => format!(r#"{{"seq":{place}}}"#),
            };
            writeln!(events, "{line}").map_err(Fault::internal)?;
        }
        place = end;
    }
    let (mut after, mut count) = (-1_i64, 0_u64);
    loop {
        let sql =
            "SELECT size, at, note, token FROM journal_checkpoints WHERE size > $1 ORDER BY size LIMIT $2";
        let rows = tx.rows(sql, args![after, CHECKPOINTS]).await?;
        let Some(last) = rows.last() else { return Ok((size, count)) };
        after = last.get("size")?;
        for row in &rows {
            let line = serde_json::json!({
                "size": row.get::<i64>("size")?,
                "at": row.get::<pli_api::Time>("at")?,
                "note": row.get::<String>("note")?,
                "token": row.get::<Option<Vec<u8>>>("token")?.map(|token| STANDARD.encode(token)),
            });
            writeln!(checkpoints, "{line}").map_err(Fault::internal)?;
            count = count.saturating_add(1);
        }
    }
}

/// The last checkpoint, signed: what a witness keeps.
///
/// # Errors
/// When there is none.
pub async fn checkpoint(hub: &Hub) -> Result<String> {
    let mut tx = hub.db().read().await?;
    let signed = log::checkpoint(&mut tx, evidence(hub)?, None).await?.ok_or(ProblemCode::NotFound)?;
    Ok(signed.note.to_string())
}

/// Gives every event its place and signs, at once.
///
/// # Errors
/// When the log cannot be extended.
pub async fn append(hub: &Hub) -> Result<bool> {
    log::append(hub, log::Pace::Now).await
}
