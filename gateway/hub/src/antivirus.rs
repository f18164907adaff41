//! What the antivirus says of documents, and what follows from it.
//!
//! Owns the columns `documents.scan…`, the job that scans, and the fate of deposits that may not be released.
//! Must never call clean what the engine did not read in full, let an infected document be downloaded, or
//! write content anywhere but to the engine.
//!
//! An engine is trusted once it has stood [`Antivirus::verify`]: clamd as it is installed answers « OK » for
//! what is over its limits and for what is encrypted.

use crate::access::Caller;
use crate::clamd::{Answer, Clamd, ClamdAddress, ClamdError};
use crate::content::Content;
use crate::fault::{Fault, Result};
use crate::journal::Event;
use crate::notices::About;
use crate::uploads::const_sql;
use crate::{Hub, admin, deposits, documents, jobs, notices};
use pli_api::{
    BoxId, DepositId, Document, DocumentId, NotAnalysed, NoticeKind, OrganisationId, ProblemCode, Scan,
    ScanState, Time,
};
use pli_storage::{AT_ONCE, DbError, Job, NewJob, Row, Tx, args};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use uuid::Uuid;

/// The job that has a document scanned.
pub(crate) const SCAN: &str = "document.scan";

/// Attempts after which a document whose content does not open is called damaged.
const DAMAGE_ATTEMPTS: i64 = 3;
/// How long an engine that was found fit is believed to be, its version being the same.
const FIT: Duration = Duration::from_secs(15 * 60);
/// Zero bytes put into the archive that must exceed the engine's limits are made in pieces of so many.
const ZEROS: usize = 64 << 10;
/// Deeper than clamd can be told to go (`MaxRecursion`: 100 at the most).
const NESTED: usize = 110;

/// True in SQL of a document `d` that the engine does not keep from recipients whose organisations take
/// what could not be analysed, and of one that it keeps from nobody.
const CLEAN: &str = "(d.scan = 'clean' OR (d.scan = 'not_analysed' AND d.scan_reason = 'disabled'))";

/// How documents are scanned.
#[derive(Clone, Debug)]
pub struct AntivirusOptions {
    /// Where clamd listens.
    pub clamd: ClamdAddress,
    /// The most bytes of a document, and of all that is in it, that the engine reads: its `MaxScanSize`.
    pub max_size: u64,
    /// How long it may take no byte, or leave a command unanswered.
    pub stall: Duration,
    /// How long it may scan a document once it has all of it. More than its `MaxScanTime`.
    pub scan: Duration,
    /// Seconds for which an engine that fails is asked again before a document counts as not analysed.
    pub patience: i64,
}

/// The engine, as configured.
pub(crate) struct Antivirus {
    clamd: Clamd,
    max_size: u64,
    patience: i64,
    /// The version that was found fit, and when.
    fit: Mutex<Option<(String, Instant)>>,
}

/// Why there is no verdict.
#[derive(Debug)]
enum Trouble {
    /// The engine's; the document may be asked about again.
    Engine(String),
    /// The content cannot be read.
    Content(Fault),
}

impl From<ClamdError> for Trouble {
    fn from(error: ClamdError) -> Self {
        Self::Engine(error.to_string())
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Content(fault)
    }
}

impl Antivirus {
    pub(crate) fn new(options: AntivirusOptions) -> Self {
        let clamd = Clamd { address: options.clamd, stall: options.stall, scan: options.scan };
        Self { clamd, max_size: options.max_size, patience: options.patience, fit: Mutex::default() }
    }

    /// The engine's version, once it is known that it finds, opens archives, and tells what it did not read.
    ///
    /// # Errors
    /// What it failed at.
    async fn verify(&self) -> Result<String, Trouble> {
        let version = self.clamd.version().await?;
        // Held while it is tried: the others wait for the outcome instead of trying too.
        let mut fit = self.fit.lock().await;
        if fit.as_ref().is_some_and(|(known, at)| *known == version && at.elapsed() < FIT) {
            return Ok(version);
        }
        *fit = None;
        let unfit = |what: &str| Trouble::Engine(format!("clamd is not fit: {what}"));
        self.clamd.ping().await?;
        if !matches!(self.ask(&probe::eicar()).await?, Answer::Found(_)) {
            return Err(unfit("it does not find the EICAR test file"));
        }
        if !matches!(
            verdict(self.ask(&probe::nested(NESTED)).await?),
            Verdict::NotAnalysed(NotAnalysed::TooLarge)
        ) {
            return Err(unfit("it does not tell what is over its limits (AlertExceedsMax, ScanArchive)"));
        }
        if !matches!(
            verdict(self.ask(&probe::encrypted()).await?),
            Verdict::NotAnalysed(NotAnalysed::Encrypted)
        ) {
            return Err(unfit("it does not tell what is encrypted (AlertEncrypted)"));
        }
        // A member of a ZIP that is over MaxFileSize is cut there without a word; MaxScanSize then has to tell.
        let size = self.max_size;
        let oversized =
            tokio::task::spawn_blocking(move || probe::oversized(size)).await.map_err(Fault::from)?;
        if !matches!(verdict(self.ask(&oversized).await?), Verdict::NotAnalysed(NotAnalysed::TooLarge)) {
            return Err(unfit("MaxScanSize is over antivirus.max_size, or over MaxFileSize"));
        }
        tracing::info!(version, "clamd is fit");
        *fit = Some((version.clone(), Instant::now()));
        Ok(version)
    }

    async fn ask(&self, content: &[u8]) -> Result<Answer, ClamdError> {
        let mut stream = self.clamd.stream().await?;
        stream.give(content).await?;
        stream.end().await
    }

    async fn examine(&self, hub: &Hub, content: &Content) -> Result<(Verdict, Option<String>), Trouble> {
        if content.size > self.max_size {
            return Ok((Verdict::NotAnalysed(NotAnalysed::TooLarge), None));
        }
        let version = self.verify().await?;
        let mut reader = content.reader(hub.clone(), 0..content.size);
        let mut stream = self.clamd.stream().await?;
        let mut opaque = None;
        while let Some(bytes) = reader.next().await? {
            opaque.get_or_insert_with(|| is_openpgp_message(&bytes));
            if !stream.give(&bytes).await? {
                break;
            }
            metrics::counter!("pli_scanned_bytes_total").increment(bytes.len() as u64);
        }
        let verdict = match verdict(stream.end().await?) {
            // To the engine these are bytes like any others.
            Verdict::Clean if opaque == Some(true) => Verdict::NotAnalysed(NotAnalysed::Encrypted),
            verdict => verdict,
        };
        Ok((verdict, Some(version)))
    }
}

/// What is known of a document once it was scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Clean,
    Infected(String),
    NotAnalysed(NotAnalysed),
}

impl Verdict {
    fn state(&self) -> ScanState {
        match self {
            Self::Clean => ScanState::Clean,
            Self::Infected(_) => ScanState::Infected,
            Self::NotAnalysed(_) => ScanState::NotAnalysed,
        }
    }

    fn reason(&self) -> Option<NotAnalysed> {
        if let Self::NotAnalysed(reason) = self { Some(*reason) } else { None }
    }

    fn signature(&self) -> Option<&str> {
        if let Self::Infected(name) = self { Some(name) } else { None }
    }
}

/// clamd tells limits and encryption in the form of a find; a true find in the same file comes before them
/// (`HeuristicScanPrecedence` is off by default, and only changes which name is told).
fn verdict(answer: Answer) -> Verdict {
    match answer {
        Answer::Nothing => Verdict::Clean,
        Answer::StreamTooLong => Verdict::NotAnalysed(NotAnalysed::TooLarge),
        Answer::Found(name) if name.starts_with("Heuristics.Encrypted.") => {
            Verdict::NotAnalysed(NotAnalysed::Encrypted)
        }
        Answer::Found(name)
            if name.starts_with("Heuristics.Limits.Exceeded")
                || name.starts_with("Heuristics.Email.ExceedsMax") =>
        {
            Verdict::NotAnalysed(NotAnalysed::TooLarge)
        }
        Answer::Found(name) => Verdict::Infected(name),
    }
}

/// Whether content begins as an encrypted OpenPGP message (RFC 9580, 4.2, 5.1, 5.3, 5.13), armoured or not.
/// It decides only between « clean » and « not analysed ».
fn is_openpgp_message(start: &[u8]) -> bool {
    const ARMOUR: &[u8] = b"-----BEGIN PGP MESSAGE";
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if text.starts_with(ARMOUR) {
        return true;
    }
    let Some((&first, rest)) = start.split_first() else { return false };
    let (tag, length) = match first {
        // New format: one, two or five octets of length, or a partial length in one.
        0xc0..=0xff => (
            first & 0x3f,
            match rest.first() {
                Some(192..=223) => 2,
                Some(255) => 5,
                _ => 1,
            },
        ),
        0x80..=0xbf => (
            (first >> 2) & 0x0f,
            match first & 3 {
                0 => 1,
                1 => 2,
                2 => 4,
                _ => 0,
            },
        ),
        _ => return false,
    };
    let version = rest.get(length);
    match tag {
        // Session key for a certificate, for a passphrase; encrypted data with integrity.
        1 => matches!(version, Some(3 | 6)),
        3 => matches!(version, Some(4..=6)),
        18 => matches!(version, Some(1 | 2)),
        _ => false,
    }
}

/// From the columns `scan`, `scan_reason` and `scan_signature`.
pub(crate) fn from_row(row: &Row) -> Result<Scan> {
    let reason = row.get::<Option<String>>("scan_reason")?;
    Ok(Scan {
        state: row.get::<String>("scan")?.parse().map_err(|e: String| Fault::internal(e))?,
        reason: reason.map(|word| word.parse()).transpose().map_err(|e: String| Fault::internal(e))?,
        signature: row.get("scan_signature")?,
    })
}

/// A document is sealed: it is to be scanned, or nobody will. In the transaction that seals it.
pub(crate) async fn sealed(hub: &Hub, tx: &mut Tx, document: DocumentId) -> Result<(), DbError> {
    if hub.antivirus().is_some() {
        return enqueue(tx, document).await;
    }
    tx.execute(
        "UPDATE documents SET scan = 'not_analysed', scan_reason = $2 WHERE id = $1 AND scan = 'pending'",
        args![document.0, NotAnalysed::Disabled.as_str()],
    )
    .await?;
    Ok(())
}

async fn enqueue(tx: &mut Tx, document: DocumentId) -> Result<(), DbError> {
    let payload = serde_json::json!({ "document": document });
    let unique = document.to_string();
    tx.enqueue(NewJob { kind: SCAN, payload, run_at: AT_ONCE, unique: Some(&unique) }).await?;
    Ok(())
}

/// The job: asks the engine, and releases the deposit if nothing else keeps it.
pub(crate) async fn scan(hub: &Hub, job: &Job) -> Result<()> {
    let id: DocumentId = serde_json::from_value(job.payload["document"].clone()).map_err(Fault::internal)?;
    let mut tx = hub.db().read().await?;
    let sql = "SELECT deposit, scan_failing FROM documents WHERE id = $1 AND state = 'available' AND scan = 'pending'";
    let Some(row) = tx.optional(sql, args![id.0]).await? else {
        drop(tx);
        return jobs::complete_alone(hub, job).await;
    };
    let deposit = DepositId(row.get("deposit")?);
    let failing: Option<Time> = row.get("scan_failing")?;
    let Some(engine) = hub.antivirus() else {
        // Switched off since it was asked.
        drop(tx);
        return settle(hub, job, deposit, id, &Verdict::NotAnalysed(NotAnalysed::Disabled), None).await;
    };
    let content = Content::load(hub, &mut tx, id).await;
    drop(tx);
    let begun = Instant::now();
    let examined = match content {
        Ok(content) => engine.examine(hub, &content).await,
        Err(fault) => Err(fault.into()),
    };
    match examined {
        Ok((verdict, version)) => {
            metrics::histogram!("pli_scan_seconds").record(begun.elapsed().as_secs_f64());
            settle(hub, job, deposit, id, &verdict, version.as_deref()).await
        }
        Err(Trouble::Engine(error)) => {
            metrics::counter!("pli_scans_failed_total").increment(1);
            tracing::warn!(document = %id, attempt = job.attempt, error, "not scanned");
            let now = hub.now();
            let since = failing.unwrap_or(now);
            let until = since.plus_seconds(engine.patience);
            if now >= until {
                let verdict = Verdict::NotAnalysed(NotAnalysed::EngineDown);
                return settle(hub, job, deposit, id, &verdict, None).await;
            }
            if failing.is_none() {
                let mut tx = hub.db().write().await?;
                let sql = "UPDATE documents SET scan_failing = $2 WHERE id = $1 AND scan_failing IS NULL";
                tx.execute(sql, args![id.0, since]).await?;
                tx.commit().await?;
            }
            // Not later than patience ends, and settled here: how often it was tried says nothing.
            hub.db().fail(job, now, &error, Some(job.retry_at(now).min(until))).await?;
            Ok(())
        }
        // Erased, or taken out of its draft.
        Err(Trouble::Content(fault)) if fault.code() == ProblemCode::Gone => {
            jobs::complete_alone(hub, job).await
        }
        Err(Trouble::Content(fault))
            if fault.code() == ProblemCode::Damaged && job.attempt >= DAMAGE_ATTEMPTS =>
        {
            documents::damaged(hub, job, id).await
        }
        Err(Trouble::Content(fault)) => Err(fault),
    }
}

async fn settle(
    hub: &Hub,
    job: &Job,
    deposit: DepositId,
    id: DocumentId,
    verdict: &Verdict,
    version: Option<&str>,
) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    // The deposit before its documents, everywhere.
    deposits::hold(&mut tx, deposit).await?;
    let (reason, signature) = (verdict.reason().map(NotAnalysed::as_str), verdict.signature());
    let moved = tx
        .execute(
            "UPDATE documents SET scan = $2, scan_reason = $3, scan_signature = $4, scan_failing = NULL
             WHERE id = $1 AND scan = 'pending' AND state = 'available'",
            args![id.0, verdict.state().as_str(), reason, signature],
        )
        .await?;
    if !tx.complete(job).await? {
        tx.rollback().await?;
        return Ok(());
    }
    if moved == 1 {
        let detail = serde_json::json!({
            "verdict": verdict.state(), "reason": reason, "signature": signature, "engine": version,
        });
        Event::new("scan.done").deposit(deposit).document(id).detail(detail).write(&mut tx, now).await?;
        if verdict.state() == ScanState::Infected {
            let row = tx.one("SELECT sender FROM deposits WHERE id = $1", args![deposit.0]).await?;
            let about = About::at(now).deposit(deposit).document(id);
            notices::tell(&mut tx, NoticeKind::ScanInfected, BoxId(row.get("sender")?), about).await?;
        }
        deposits::release(&mut tx, now, deposit).await?;
    }
    tx.commit().await?;
    if moved == 1 {
        let outcome = reason.unwrap_or(verdict.state().as_str());
        metrics::counter!("pli_scans_total", "outcome" => outcome).increment(1);
    }
    Ok(())
}

/// Where the documents of a deposit stand between sealing and release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Some are not sealed or not scanned.
    Unfinished,
    /// Nothing keeps them from their recipients.
    Releasable,
    /// One is infected, or could not be analysed and a recipient's organisation does not take that.
    Held,
}

/// Judges a deposit, which the transaction holds.
pub(crate) async fn standing(tx: &mut Tx, deposit: DepositId) -> Result<Standing> {
    let sql = const_sql(&[
        "SELECT COUNT(*) AS documents,
             COALESCE(SUM(CASE WHEN d.state <> 'available' OR d.scan = 'pending' THEN 1 ELSE 0 END), 0) AS unfinished,
             COALESCE(SUM(CASE WHEN d.scan = 'infected' THEN 1 ELSE 0 END), 0) AS infected,
             COALESCE(SUM(CASE WHEN ",
        CLEAN,
        " THEN 0 ELSE 1 END), 0) AS unanalysed FROM documents d WHERE d.deposit = $1",
    ]);
    let row = tx.one(sql, args![deposit.0]).await?;
    if row.get::<i64>("unfinished")? > 0 {
        return Ok(Standing::Unfinished);
    }
    if row.get::<i64>("unanalysed")? == 0 {
        return Ok(Standing::Releasable);
    }
    if row.get::<i64>("infected")? > 0 {
        return Ok(Standing::Held);
    }
    let sql = "SELECT COUNT(*) AS n FROM recipients r JOIN boxes b ON b.id = r.box
               JOIN organisations o ON o.id = b.organisation
               WHERE r.deposit = $1 AND r.withdrawn IS NULL AND NOT o.takes_unanalysed";
    let refusing = tx.one(sql, args![deposit.0]).await?.get::<i64>("n")?;
    Ok(if refusing == 0 { Standing::Releasable } else { Standing::Held })
}

/// Refuses what may not leave: an infected document to anyone; to others than its sender, one that was not
/// analysed and that their organisation does not take. `documents` are of one deposit, seen by the caller.
///
/// # Errors
/// 403, `infected` or `not-analysed`.
pub(crate) async fn require_released(tx: &mut Tx, caller: &Caller, documents: &[Document]) -> Result<()> {
    if documents.iter().any(|d| d.scan.state == ScanState::Infected) {
        return Err(ProblemCode::Infected.into());
    }
    let kept = documents
        .iter()
        .find(|d| d.scan.state != ScanState::Clean && d.scan.reason != Some(NotAnalysed::Disabled));
    let Some(kept) = kept else { return Ok(()) };
    let sql = "SELECT 1 AS allowed FROM deposits p WHERE p.id = $1 AND (
                   p.sender IN (SELECT id FROM boxes WHERE id = $2
                       UNION ALL SELECT service FROM service_members WHERE account = $2)
                   OR EXISTS (SELECT 1 FROM organisations o WHERE o.id = $3 AND o.takes_unanalysed))";
    let values = args![kept.deposit.0, caller.account.0, caller.organisation.0];
    match tx.optional(sql, values).await? {
        Some(_) => Ok(()),
        None => Err(ProblemCode::NotAnalysed.into()),
    }
}

/// Held deposits whose time has passed end as those do that were available.
pub(crate) async fn sweep(hub: &Hub) -> Result<()> {
    let sql = "SELECT id FROM deposits WHERE state = 'sent' AND expires <= $1 ORDER BY expires LIMIT 200";
    let mut outcome = Ok(());
    for row in hub.db().rows(sql, args![hub.now()]).await? {
        outcome = outcome.and(end_held(hub, DepositId(row.get("id")?)).await);
    }
    outcome
}

async fn end_held(hub: &Hub, id: DepositId) -> Result<()> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let sql = "UPDATE deposits SET state = 'expired', version = version + 1
               WHERE id = $1 AND state = 'sent' AND expires <= $2";
    if tx.execute(sql, args![id.0, now]).await? == 0 {
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

/// Tries the engine of these options as a scan would.
///
/// # Errors
/// `Unavailable`, with what it failed at.
pub async fn check(options: &AntivirusOptions) -> Result<String> {
    Antivirus::new(options.clone()).verify().await.map_err(|trouble| match trouble {
        Trouble::Engine(error) => Fault::because(ProblemCode::Unavailable, error),
        Trouble::Content(fault) => fault,
    })
}

/// Has documents scanned again that were not analysed for one of these reasons; all of them are asked about
/// once more in the order of their making, those at their recipients' disposal too. Gives how many.
///
/// # Errors
/// What the database says; what was asked stays asked.
pub async fn rescan(hub: &Hub, reasons: &[NotAnalysed]) -> Result<u64> {
    let mut asked = 0_u64;
    for reason in reasons {
        let mut after = Uuid::nil();
        loop {
            let sql = "SELECT id FROM documents WHERE scan = 'not_analysed' AND scan_reason = $1
                       AND state = 'available' AND id > $2 ORDER BY id LIMIT 200";
            let rows = hub.db().rows(sql, args![reason.as_str(), after]).await?;
            let Some(last) = rows.last() else { break };
            after = last.get("id")?;
            for row in &rows {
                let id = DocumentId(row.get("id")?);
                let mut tx = hub.db().write().await?;
                let sql = "UPDATE documents SET scan = 'pending', scan_reason = NULL
                           WHERE id = $1 AND scan = 'not_analysed' AND scan_reason = $2 AND state = 'available'";
                if tx.execute(sql, args![id.0, reason.as_str()]).await? == 1 {
                    enqueue(&mut tx, id).await?;
                    Event::new("scan.asked").document(id).write(&mut tx, hub.now()).await?;
                    tx.commit().await?;
                    asked = asked.saturating_add(1);
                }
            }
        }
    }
    hub.inner.bell.notify_waiters();
    Ok(asked)
}

/// Says whether an organisation's people may be given what could not be analysed, and releases what waited
/// for that. Gives how many deposits it released.
///
/// # Errors
/// 404 without such an organisation, or with several of that name.
pub async fn set_takes_unanalysed(hub: &Hub, organisation: &str, takes: bool) -> Result<u64> {
    let now = hub.now();
    let mut tx = hub.db().write().await?;
    let (id, _) = admin::organisation_named(&mut tx, organisation).await?;
    let sql = "UPDATE organisations SET takes_unanalysed = $2 WHERE id = $1";
    tx.execute(sql, args![id.0, takes]).await?;
    let detail = serde_json::json!({ "organisation": id, "takes_unanalysed": takes });
    Event::new("organisation.changed").detail(detail).write(&mut tx, now).await?;
    tx.commit().await?;
    if takes { release_held(hub, id).await } else { Ok(0) }
}

async fn release_held(hub: &Hub, organisation: OrganisationId) -> Result<u64> {
    let mut released = 0_u64;
    let mut after = Uuid::nil();
    loop {
        let sql = "SELECT DISTINCT p.id FROM boxes b JOIN recipients r ON r.box = b.id JOIN deposits p ON p.id = r.deposit
                   WHERE b.organisation = $1 AND p.state = 'sent' AND p.expires IS NOT NULL AND p.id > $2
                   ORDER BY p.id LIMIT 200";
        let rows = hub.db().rows(sql, args![organisation.0, after]).await?;
        let Some(last) = rows.last() else { return Ok(released) };
        after = last.get("id")?;
        for row in &rows {
            let mut tx = hub.db().write().await?;
            if deposits::release(&mut tx, hub.now(), DepositId(row.get("id")?)).await? {
                released = released.saturating_add(1);
            }
            tx.commit().await?;
        }
    }
}

/// What an engine is tried with.
pub(crate) mod probe {
    use super::ZEROS;

    /// The EICAR test file, put together here so that no file of the program's holds it.
    pub(crate) fn eicar() -> Vec<u8> {
        [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR", "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat().into_bytes()
    }

    /// An archive in an archive in an archive…
    pub(crate) fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(b"pli".to_vec(), |inner, _| Member::stored(&inner).zip())
    }

    /// An archive of one file.
    #[cfg(test)]
    pub(crate) fn archive(content: &[u8]) -> Vec<u8> {
        Member::stored(content).zip()
    }

    /// An archive whose only member says that it is encrypted.
    pub(crate) fn encrypted() -> Vec<u8> {
        Member { flags: 1, ..Member::stored(b"sixteen bytes...") }.zip()
    }

    /// An archive with one member of zeros, one byte longer than `size`.
    pub(crate) fn oversized(size: u64) -> Vec<u8> {
        let length = u32::try_from(size.saturating_add(1)).unwrap_or(u32::MAX);
        let (data, length) = deflated_zeros(length);
        let mut crc = crc32fast::Hasher::new();
        let mut left = length as usize;
        while left > 0 {
            let piece = left.min(ZEROS);
            crc.update(&[0; ZEROS][..piece]);
            left = left.saturating_sub(piece);
        }
        Member { flags: 0, method: 8, crc: crc.finalize(), length, data }.zip()
    }

    /// Zeros in one block of fixed codes (RFC 1951, 3.2.6): a literal, then matches of 258 bytes at distance 1,
    /// 13 bits each. Gives how many there are, `length` at the least.
    fn deflated_zeros(length: u32) -> (Vec<u8>, u32) {
        let matches = length.saturating_sub(1).div_ceil(258).min(u32::MAX / 258 - 1);
        let mut bits = Bits::default();
        // Last block, fixed codes; the literal 0; a match is code 285 and distance code 0; then the end.
        bits.put(0b011, 3);
        bits.put(0b0000_1100, 8);
        for _ in 0..matches {
            bits.put(0b1010_0011, 8);
            bits.put(0, 5);
        }
        bits.put(0, 7);
        (bits.finish(), matches.saturating_mul(258).saturating_add(1))
    }

    /// Bits from the least significant on; codes are given mirrored, as the format wants them.
    #[derive(Default)]
    struct Bits {
        out: Vec<u8>,
        held: u32,
        count: u32,
    }

    impl Bits {
        fn put(&mut self, bits: u32, count: u32) {
            self.held |= bits << self.count;
            self.count = self.count.saturating_add(count);
            while self.count >= 8 {
                self.out.push(self.held.to_le_bytes()[0]);
                self.held >>= 8;
                self.count = self.count.saturating_sub(8);
            }
        }

        fn finish(mut self) -> Vec<u8> {
            self.put(0, 7);
            self.out
        }
    }

    /// The only member of a ZIP.
    struct Member {
        flags: u16,
        method: u16,
        crc: u32,
        length: u32,
        data: Vec<u8>,
    }

    impl Member {
        fn stored(data: &[u8]) -> Self {
            let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
            Self { flags: 0, method: 0, crc: crc32fast::hash(data), length, data: data.to_vec() }
        }

        fn zip(&self) -> Vec<u8> {
            let packed = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
            let mut common = Vec::new();
            for field in [20, self.flags, self.method, 0, 0x21] {
                common.extend(field.to_le_bytes());
            }
            for field in [self.crc, packed, self.length] {
                common.extend(field.to_le_bytes());
            }
            // The length of the name, and of what would follow it.
            common.extend([1, 0, 0, 0]);
            let mut out = [b"PK\x03\x04", common.as_slice(), b"a", &self.data].concat();
            let directory = u32::try_from(out.len()).unwrap_or(u32::MAX);
            out.extend([b"PK\x01\x02\x14\x00", common.as_slice(), &[0; 14], b"a"].concat());
            let size = u32::try_from(out.len()).unwrap_or(u32::MAX).saturating_sub(directory);
            out.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
            out.extend(size.to_le_bytes());
            out.extend(directory.to_le_bytes());
            out.extend([0, 0]);
            out
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::{Cursor, Read as _};

        #[test]
        fn the_archives_are_archives() {
            let mut archive = zip::ZipArchive::new(Cursor::new(nested(3))).unwrap();
            let mut inner = Vec::new();
            archive.by_index(0).unwrap().read_to_end(&mut inner).unwrap();
            assert_eq!(inner, nested(2));
            let mut archive = zip::ZipArchive::new(Cursor::new(encrypted())).unwrap();
            assert!(archive.by_index_raw(0).unwrap().encrypted());
        }

        #[test]
        fn zeros_are_more_than_asked() {
            for length in [1, 2, 258, 259, 260, 1 << 20] {
                let (packed, told) = deflated_zeros(length);
                let zeros = miniz_oxide::inflate::decompress_to_vec(&packed).unwrap();
                assert!(zeros.iter().all(|byte| *byte == 0));
                assert_eq!(zeros.len(), told as usize);
                assert!(told >= length && told < length + 258, "{length}");
            }
            let mut archive = zip::ZipArchive::new(Cursor::new(oversized(1000))).unwrap();
            let member = archive.by_index_raw(0).unwrap();
            assert!(member.size() > 1000);
            assert_eq!(member.crc32(), crc32fast::hash(&vec![0; usize::try_from(member.size()).unwrap()]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_encryption_are_not_clean_and_not_infected() {
        let found = |name: &str| verdict(Answer::Found(name.to_owned()));
        let too_large = Verdict::NotAnalysed(NotAnalysed::TooLarge);
        assert_eq!(found("Heuristics.Limits.Exceeded.MaxScanSize"), too_large);
        assert_eq!(found("Heuristics.Limits.Exceeded"), too_large);
        assert_eq!(found("Heuristics.Email.ExceedsMaxRecursion"), too_large);
        assert_eq!(found("Heuristics.Encrypted.PDF"), Verdict::NotAnalysed(NotAnalysed::Encrypted));
        assert_eq!(
            found("Heuristics.OLE2.ContainsMacros"),
            Verdict::Infected("Heuristics.OLE2.ContainsMacros".into())
        );
        assert_eq!(verdict(Answer::StreamTooLong), too_large);
        assert_eq!(verdict(Answer::Nothing), Verdict::Clean);
    }

    #[test]
    fn an_openpgp_message_is_known_by_its_first_packet() {
        let messages: &[&[u8]] = &[
            b"-----BEGIN PGP MESSAGE-----\n",
            b"\xef\xbb\xbf \r\n-----BEGIN PGP MESSAGE-----",
            // PKESK 3 and 6 and SEIPD 2, new format; PKESK 3, old format.
            &[0xc1, 0x5e, 3, 0],
            &[0xc1, 0xc5, 0x10, 6, 0],
            &[0xd2, 0xff, 0, 1, 0, 0, 2, 9],
            &[0xd2, 0xe9, 2, 9],
            &[0x85, 1, 0x0c, 3, 0],
            &[0xc3, 0x0d, 4, 9],
        ];
        for message in messages {
            assert!(is_openpgp_message(message), "{message:?}");
        }
        let others: &[&[u8]] = &[
            b"",
            b"\xc1",
            b"%PDF-1.7",
            b"PK\x03\x04",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----",
            // A certificate, a signature, and text in Latin-1.
            &[0x99, 1, 0x0d, 4, 0],
            &[0xc2, 0x10, 4, 0],
            b"\xc9t\xe9 2026",
        ];
        for other in others {
            assert!(!is_openpgp_message(other), "{other:?}");
        }
    }
}
