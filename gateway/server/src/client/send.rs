//! `pli send`: files and folders to recipients, as one deposit.
//!
//! The draft on the server is the only memory of a transfer: it is found again by a reference made
//! of what is sent to whom, so that the same command run again goes on, whatever happened before.
//! The deposit is sent only when the server's SHA-256 of every document is the one of the file.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use pli_api::{
    Deposit, DepositBox, DepositId, DepositState, Document, DocumentId, DocumentState, Limits, NewDeposit,
    ProblemCode, UploadId,
};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{Api, Created, NewUpload, metadata};
use super::digest::SharedDigest;
use super::files::{self, Found, Source};
use super::patience::Patience;
use super::plan::{self, Known, Plan, Step};
use super::progress::Progress;
use super::settings::{ConnectionArgs, Settings};
use super::upload::{self, Delivery};
use super::{Failure, Run, conclude, format, print, texts, to_json};

/// How many files are hashed beside their transfer at a time.
const HASHING: usize = 2;
/// How far back a deposit that was already sent is looked for.
const SENT_PAGES: usize = 10;
const SENT_PAGE: usize = 100;
/// The slowest that a server may be thought to check what it received, in bytes a second.
const CHECKING_SPEED: u64 = 20_000_000;

/// Arguments of `pli send`.
#[derive(Debug, Args)]
#[command(about = texts::SEND_ABOUT, after_help = texts::EXIT_CODES)]
pub(crate) struct SendArgs {
    #[arg(required = true, value_name = "FICHIER|DOSSIER", help = texts::SEND_PATHS)]
    paths: Vec<PathBuf>,
    #[arg(long, required = true, value_name = "ADRESSE", help = texts::SEND_TO)]
    to: Vec<String>,
    #[arg(long, value_name = "TEXTE", help = texts::SEND_SUBJECT)]
    subject: Option<String>,
    #[arg(long, value_name = "JOURS", help = texts::SEND_DAYS)]
    retention_days: Option<u32>,
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64), help = texts::STREAMS)]
    streams: u16,
    #[arg(long, value_name = "DURÉE", default_value = "15min", value_parser = format::parse_duration, help = texts::GIVE_UP)]
    give_up: Duration,
    #[arg(long, help = texts::SEND_AGAIN)]
    again: bool,
    #[arg(long, help = texts::SEND_RESTART)]
    restart: bool,
    #[arg(long, help = texts::JSON)]
    json: bool,
    #[arg(long, short, help = texts::QUIET)]
    quiet: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `pli send`; the exit codes are those of the module above.
pub(crate) async fn send(args: SendArgs) -> ExitCode {
    let stop = CancellationToken::new();
    conclude(stop.clone(), true, run(args, stop)).await
}

async fn run(args: SendArgs, stop: CancellationToken) -> Result<(), Failure> {
    let settings = Settings::load(&args.connection).map_err(Failure::Usage)?;
    let streams = usize::from(args.streams);
    let api = Api::new(&settings, streams).map_err(Failure::Usage)?;
    let run = Arc::new(Run { api, progress: Progress::new(args.quiet), stop, give_up: args.give_up });

    let paths = args.paths.clone();
    let Found { sources, skipped } =
        run.unless_stopped(tokio::task::spawn_blocking(move || files::find(&paths))).await???;
    skipped.iter().for_each(|text| run.progress.warn(text));

    let me = run.insist(|| run.api.me()).await?;
    check_limits(&args, &sources, &me.limits)?;

    let wish = wish(&args, &sources);
    let to = wish.recipients.join(", ");
    let total = sources.iter().map(|s| s.size).sum();
    run.progress.say(&texts::sending(sources.len(), total, &to));
    let draft = match draft(&run, &args, &wish, &sources).await? {
        Draft::Open(deposit) => deposit,
        Draft::AlreadySent(deposit) => {
            run.progress.say(&texts::already_sent(&format::date(deposit.sent.unwrap_or(deposit.created))));
            return report(&args, &deposit, &skipped, true);
        }
    };
    let documents = run.insist(|| run.api.deposit(draft.id)).await?.documents.unwrap_or_default();
    let uploads = run.insist(|| run.api.uploads(draft.id)).await?;
    let plan = plan::plan(&sources, &documents, &uploads, streams)?;
    let needed = sources.iter().map(|s| s.size).sum::<u64>().saturating_sub(plan.reserved);
    let left = me.limits.quota.saturating_sub(me.limits.used);
    if needed > left {
        if documents.is_empty() && uploads.is_empty() {
            discard(&run, draft.id).await;
        }
        return Err(Failure::Limit(texts::over_quota(needed, left)));
    }
    run.progress.say(&match plan.present {
        0 => texts::created(&draft.id.to_string()),
        there => texts::resumed(&draft.id.to_string(), there),
    });

    let display = run.progress.display();
    let transfer = Transfer::new(run.clone(), draft.id, sources, plan);
    let outcome = transfer.run(streams).await;
    if let Err(Failure::Changed(_)) = &outcome {
        // Nobody will ask for this draft again: its reference held the file as it was.
        discard(&run, draft.id).await;
    }
    let digests = outcome?;
    run.progress.next_phase(texts::CHECKING);
    transfer.check(&digests).await?;
    let deposit = send_it(&run, draft.id).await?;
    drop(display);
    run.progress.say(&texts::sent(&to));
    report(&args, &deposit, &skipped, false)
}

/// Before anything is sent: what the server would refuse at the end.
fn check_limits(args: &SendArgs, sources: &[Source], limits: &Limits) -> Result<(), Failure> {
    let larger = files::larger_than(sources, limits.max_size);
    if !larger.is_empty() {
        return Err(Failure::Limit(texts::too_large(&larger, limits.max_size)));
    }
    let (min, max) = (limits.retention_days_min, limits.retention_days_max);
    match args.retention_days {
        Some(days) if !(min..=max).contains(&days) => {
            Err(Failure::Limit(texts::bad_retention(days, min, max)))
        }
        _ => Ok(()),
    }
}

/// The deposit as it is asked for, the same whatever the order of the recipients.
fn wish(args: &SendArgs, sources: &[Source]) -> NewDeposit {
    let mut recipients: Vec<String> = args.to.iter().map(|a| a.trim().to_lowercase()).collect();
    recipients.sort();
    recipients.dedup();
    let subject = args.subject.clone().unwrap_or_else(|| {
        let first = sources.first().map(|s| s.name.split('/').next().unwrap_or_default()).unwrap_or_default();
        texts::default_subject(first, args.paths.len().saturating_sub(1))
    });
    let reference = Some(files::reference(&recipients, &subject, args.retention_days, sources));
    NewDeposit { recipients, subject, retention_days: args.retention_days, reference }
}

enum Draft {
    Open(Deposit),
    AlreadySent(Deposit),
}

/// The draft to fill, unless the same was sent before (the client may have died before it could say so).
async fn draft(run: &Run, args: &SendArgs, wish: &NewDeposit, sources: &[Source]) -> Result<Draft, Failure> {
    let (mut deposit, mut made) = run.insist(|| run.api.create_deposit(wish)).await?;
    if args.restart && !made {
        discard(run, deposit.id).await;
        (deposit, made) = run.insist(|| run.api.create_deposit(wish)).await?;
    }
    if args.again || !made {
        return Ok(Draft::Open(deposit));
    }
    let Some(sent) = sent_before(run, wish).await? else { return Ok(Draft::Open(deposit)) };
    discard(run, deposit.id).await;
    let sent = run.insist(|| run.api.deposit(sent)).await?;
    let documents = sent.documents.as_deref().unwrap_or_default();
    let there: HashMap<&str, Option<u64>> = documents.iter().map(|d| (d.name.as_str(), d.size)).collect();
    let same = documents.len() == sources.len()
        && sources.iter().all(|s| there.get(s.name.as_str()) == Some(&Some(s.size)));
    if same {
        Ok(Draft::AlreadySent(sent))
    } else {
        Err(Failure::Refused(texts::already_sent_differs(&sent.id.to_string())))
    }
}

async fn sent_before(run: &Run, wish: &NewDeposit) -> Result<Option<DepositId>, Failure> {
    let mut after: Option<String> = None;
    for _ in 0..SENT_PAGES {
        let page = run.insist(|| run.api.deposits(DepositBox::Sent, after.as_deref(), SENT_PAGE)).await?;
        let same = |d: &&Deposit| d.reference == wish.reference && d.state != DepositState::Expired;
        if let Some(deposit) = page.items.iter().find(same) {
            return Ok(Some(deposit.id));
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(None)
}

/// Deletes a draft with its uploads; parts that are not joined yet do not go with it by themselves.
/// Tidying that must not hide the failure it follows: what is left expires by itself.
async fn discard(run: &Run, draft: DepositId) {
    for upload in run.api.uploads(draft).await.unwrap_or_default() {
        let _ = run.api.terminate(upload.id).await;
    }
    let _ = run.api.delete_deposit(draft).await;
}

/// One piece for a stream to deliver.
struct Job {
    source: usize,
    start: u64,
    length: u64,
    part: Option<(usize, usize)>,
    known: Option<Known>,
}

/// A file on its way: its parts as they arrive, its document when the server has named it.
#[derive(Default)]
struct Filling {
    parts: Mutex<Vec<Option<UploadId>>>,
    missing: AtomicUsize,
    document: Mutex<Option<DocumentId>>,
    digest: SharedDigest,
}

struct Transfer {
    run: Arc<Run>,
    deposit: DepositId,
    sources: Vec<Source>,
    filling: Vec<Filling>,
    jobs: Mutex<VecDeque<Job>>,
    /// Files whose digest is not made while they are sent.
    apart: Vec<usize>,
    stale: Vec<UploadId>,
}

impl Transfer {
    fn new(run: Arc<Run>, deposit: DepositId, sources: Vec<Source>, plan: Plan) -> Arc<Self> {
        let mut jobs = VecDeque::new();
        let mut filling = Vec::with_capacity(sources.len());
        let mut apart = Vec::new();
        run.progress.start(texts::SENDING, sources.iter().map(|s| s.size).sum(), sources.len());
        for (source, step) in plan.steps.into_iter().enumerate() {
            let size = sources.get(source).map_or(0, |s| s.size);
            let mut this = Filling::default();
            match step {
                Step::Present(document) => {
                    this.document = Mutex::new(Some(document));
                    run.progress.piece().stands_at(size);
                    run.progress.file_done();
                    apart.push(source);
                }
                Step::Whole(known) => {
                    // From the start, the content is hashed as it goes; else it is read beside.
                    if known.is_some_and(|k| k.offset > 0) {
                        apart.push(source);
                    }
                    jobs.push_back(Job { source, start: 0, length: size, part: None, known });
                }
                Step::Parts(parts) => {
                    let of = parts.len();
                    this.parts = Mutex::new(vec![None; of]);
                    this.missing = AtomicUsize::new(of);
                    apart.push(source);
                    jobs.extend(parts.into_iter().enumerate().map(|(i, p)| Job {
                        source,
                        start: p.start,
                        length: p.length,
                        part: Some((i + 1, of)),
                        known: p.known,
                    }));
                }
            }
            filling.push(this);
        }
        Arc::new(Self { run, deposit, sources, filling, jobs: Mutex::new(jobs), apart, stale: plan.stale })
    }

    /// Delivers everything and gives the SHA-256 of each file.
    async fn run(self: &Arc<Self>, streams: usize) -> Result<Vec<String>, Failure> {
        for upload in &self.stale {
            // Gone already is all that was wanted, and what is left expires by itself.
            if let Err(Failure::Interrupted) = self.run.insist(|| self.run.api.terminate(*upload)).await {
                return Err(Failure::Interrupted);
            }
        }
        let mut work = JoinSet::new();
        for stream in 0..streams {
            let this = self.clone();
            work.spawn(async move { this.stream(stream).await });
        }
        let hashing = Arc::new(Semaphore::new(HASHING));
        for source in self.apart.clone() {
            let (this, hashing) = (self.clone(), hashing.clone());
            work.spawn(async move {
                let _turn = hashing.acquire().await;
                this.hash(source).await
            });
        }
        let mut first: Option<Failure> = None;
        let mut digests: HashMap<usize, String> = HashMap::new();
        while let Some(done) = work.join_next().await {
            match done.map_err(Failure::from).and_then(|outcome| outcome) {
                Ok(done) => digests.extend(done),
                Err(failure) => {
                    // The others stop too; what they say then is not the cause.
                    self.run.stop.cancel();
                    if first.as_ref().is_none_or(|f| *f == Failure::Interrupted) {
                        first = Some(failure);
                    }
                }
            }
        }
        match first {
            Some(failure) => Err(failure),
            None => Ok((0..self.sources.len()).map(|i| digests.remove(&i).unwrap_or_default()).collect()),
        }
    }

    async fn hash(&self, index: usize) -> Result<Vec<(usize, String)>, Failure> {
        let (Some(source), Some(_)) = (self.sources.get(index), self.filling.get(index)) else {
            return Ok(Vec::new());
        };
        // A digest of its own: the one beside the content would be held back by the network.
        Ok(vec![(index, upload::digest(&self.run, source, SharedDigest::default()).await?)])
    }

    /// One stream takes one piece after the other, and gives the digests of the files it sent whole.
    async fn stream(&self, stream: usize) -> Result<Vec<(usize, String)>, Failure> {
        let client = self.run.api.stream(stream);
        let mut digests = Vec::new();
        loop {
            let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(job) = next else { return Ok(digests) };
            let index = job.source;
            let (Some(source), Some(filling)) = (self.sources.get(index), self.filling.get(index)) else {
                continue;
            };
            let beside = job.part.is_none() && job.known.is_none_or(|k| k.offset == 0);
            let delivery = Delivery {
                run: &self.run,
                client,
                deposit: self.deposit,
                source,
                start: job.start,
                length: job.length,
                part: job.part,
                digest: beside.then(|| filling.digest.clone()),
            };
            let delivered = delivery.deliver(job.known).await?;
            if delivered.document.is_some() {
                *filling.document.lock().unwrap_or_else(PoisonError::into_inner) = delivered.document;
            }
            if job.part.is_none() {
                self.run.progress.file_done();
            }
            if beside {
                digests.push((index, upload::digest(&self.run, source, filling.digest.clone()).await?));
            }
            if let Some((number, _)) = job.part {
                self.part_done(source, filling, number, delivered.upload).await?;
            }
        }
    }

    async fn part_done(
        &self,
        source: &Source,
        filling: &Filling,
        number: usize,
        upload: Option<UploadId>,
    ) -> Result<(), Failure> {
        if let Some(place) = filling.parts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(number - 1)
        {
            *place = upload;
        }
        if filling.missing.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let parts: Vec<UploadId> =
            filling.parts.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().copied().collect();
        let document = self.join(source, parts).await?;
        self.run.progress.file_done();
        *filling.document.lock().unwrap_or_else(PoisonError::into_inner) = document;
        Ok(())
    }

    /// Makes one document of the parts. When the answer is lost, the document may be there all the same.
    async fn join(&self, source: &Source, parts: Vec<UploadId>) -> Result<Option<DocumentId>, Failure> {
        let modified = source.modified.to_string();
        let deposit = self.deposit.to_string();
        let metadata = metadata([
            ("filename", source.name.as_str()),
            ("filetype", files::media_type(&source.name)),
            ("deposit", &deposit),
            (plan::MODIFIED, &modified),
        ]);
        let new = NewUpload::Final { parts };
        let api = &self.run.api;
        let mut patience = Patience::new(self.run.give_up);
        loop {
            let outcome =
                self.run.unless_stopped(api.create_upload(api.control(), &new, &metadata, None)).await?;
            let error = match outcome {
                Ok(Created { document, .. }) => return Ok(document),
                Err(error) => error,
            };
            let used = error.is(ProblemCode::PartUsed);
            if !used {
                self.run.bear(&mut patience, error).await?;
            }
            let documents =
                self.run.insist(|| api.deposit(self.deposit)).await?.documents.unwrap_or_default();
            if let Some(document) = documents.iter().find(|d| d.name == source.name) {
                return Ok(Some(document.id));
            }
            if used {
                return Err(Failure::Refused(texts::missing_document(&source.name)));
            }
        }
    }

    /// Waits until the server has made the digest of every document, and compares.
    async fn check(&self, digests: &[String]) -> Result<(), Failure> {
        let run = &self.run;
        let mut waiting: Vec<usize> = (0..self.sources.len()).collect();
        let total: u64 = self.sources.iter().map(|s| s.size).sum();
        let patience = self.run.give_up + Duration::from_secs(total / CHECKING_SPEED);
        let mut since = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let documents = match waiting.as_slice() {
                // One call for the last one, without the list of all others.
                [one] if self.document_of(*one).is_some() && self.sources.len() > 1 => {
                    let Some(id) = self.document_of(*one) else { continue };
                    vec![run.insist(|| run.api.document(id)).await?]
                }
                _ => run.insist(|| run.api.deposit(self.deposit)).await?.documents.unwrap_or_default(),
            };
            let by_id: HashMap<DocumentId, &Document> = documents.iter().map(|d| (d.id, d)).collect();
            let by_name: HashMap<&str, &Document> = documents.iter().map(|d| (d.name.as_str(), d)).collect();
            let before = waiting.len();
            let mut still = Vec::new();
            for index in waiting {
                let (Some(source), Some(ours)) = (self.sources.get(index), digests.get(index)) else {
                    continue;
                };
                let document = match self.document_of(index) {
                    Some(id) => by_id.get(&id),
                    None => by_name.get(source.name.as_str()),
                };
                let Some(document) = document else {
                    return Err(Failure::Refused(texts::missing_document(&source.name)));
                };
                if compare(source, ours, document)? { run.progress.file_done() } else { still.push(index) }
            }
            waiting = still;
            let Some(first) = waiting.first().and_then(|i| self.sources.get(*i)) else { return Ok(()) };
            if waiting.len() < before {
                since = Instant::now();
            } else if since.elapsed() > patience {
                return Err(Failure::Unreachable(texts::never_finished(&first.name)));
            }
            run.unless_stopped(tokio::time::sleep(pause)).await?;
            pause = (pause * 3 / 2).min(Duration::from_secs(5));
        }
    }

    fn document_of(&self, index: usize) -> Option<DocumentId> {
        self.filling.get(index).and_then(|f| *f.document.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether the document is finished and equal to the file.
///
/// # Errors
/// When it is finished and not equal, or can never be.
fn compare(source: &Source, ours: &str, document: &Document) -> Result<bool, Failure> {
    match (document.state, &document.sha256) {
        (DocumentState::Damaged | DocumentState::Erased, _) => {
            Err(Failure::Digest(texts::damaged_draft(&source.name)))
        }
        (DocumentState::Receiving | DocumentState::Finishing, _) | (DocumentState::Available, None) => {
            Ok(false)
        }
        (DocumentState::Available, Some(theirs)) => {
            if document.size.is_some_and(|size| size != source.size) {
                let size = document.size.unwrap_or_default();
                return Err(Failure::Digest(texts::size_differs(&source.name, source.size, size)));
            }
            if ours.is_empty() || !theirs.eq_ignore_ascii_case(ours) {
                return Err(Failure::Digest(texts::digest_differs(&source.name, ours, theirs)));
            }
            Ok(true)
        }
    }
}

/// Sends the deposit; a lost answer is asked for again by looking at what it became.
async fn send_it(run: &Run, id: DepositId) -> Result<Deposit, Failure> {
    let mut patience = Patience::new(run.give_up);
    loop {
        match run.unless_stopped(run.api.send_deposit(id)).await? {
            Ok(_) => return run.insist(|| run.api.deposit(id)).await,
            Err(error) if error.is(ProblemCode::DepositSent) => {
                return run.insist(|| run.api.deposit(id)).await;
            }
            Err(error) => run.bear(&mut patience, error).await?,
        }
    }
}

/// What scripts read.
#[derive(Serialize)]
struct Report<'a> {
    deposit: DepositId,
    state: DepositState,
    subject: &'a str,
    recipients: Vec<&'a str>,
    already_sent: bool,
    documents: Vec<Line<'a>>,
    skipped: &'a [String],
}

#[derive(Serialize)]
struct Line<'a> {
    id: DocumentId,
    name: &'a str,
    size: Option<u64>,
    sha256: &'a str,
}

/// One line a document in the format of `sha256sum`, then the deposit's identifier alone on the last
/// line; or one line of JSON.
fn report(args: &SendArgs, deposit: &Deposit, skipped: &[String], already_sent: bool) -> Result<(), Failure> {
    let mut documents: Vec<&Document> = deposit.documents.iter().flatten().collect();
    documents.sort_by(|a, b| a.name.cmp(&b.name));
    let digest = |d: &&Document| d.sha256.clone().unwrap_or_default();
    if args.json {
        let digests: Vec<String> = documents.iter().map(digest).collect();
        let lines = documents.iter().zip(&digests).map(|(d, sha256)| Line {
            id: d.id,
            name: &d.name,
            size: d.size,
            sha256,
        });
        return print(&to_json(&Report {
            deposit: deposit.id,
            state: deposit.state,
            subject: &deposit.subject,
            recipients: deposit.recipients.iter().map(|r| r.address.as_str()).collect(),
            already_sent,
            documents: lines.collect(),
            skipped,
        })?);
    }
    let mut text: Vec<String> = documents.iter().map(|d| format::digest_line(&digest(d), &d.name)).collect();
    text.push(deposit.id.to_string());
    print(&text.join("\n"))
}
