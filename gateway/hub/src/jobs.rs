//! The hub's jobs: which kinds there are, who runs them, and what a failure means.
//!
//! A job is done at least once, by any process; each is idempotent. A passing failure is tried again
//! without end, another one a number of times, then it is dead and the operator sees it.

use crate::fault::{Fault, Result};
use crate::log::Pace;
use crate::retention::ClockWatch;
use crate::{Hub, antivirus, backup, documents, invitations, log, notices, receipts, retention, webhooks};
use pli_storage::{AT_ONCE, DbError, Job, JobFilter, JobState, NewJob, ObjectKey, Tx};
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const DELETE: &str = "objects.delete";
const KINDS: &[&str] = &[
    documents::FINISH,
    DELETE,
    antivirus::SCAN,
    notices::DISPATCH,
    notices::MAIL,
    notices::DIGEST,
    webhooks::DELIVER,
    invitations::SEND,
    log::TIMESTAMP,
    receipts::MAKE,
];
/// Kinds whose jobs wait for others for minutes: half of the workers leave them alone.
const SLOW: &[&str] = &[antivirus::SCAN];

/// How long a lease lasts unless it is extended, in microseconds.
const LEASE: i64 = 60_000_000;
/// Jobs run side by side in one process.
const WORKERS: usize = 4;
/// Attempts after which a job that fails for no passing reason is dead.
const ATTEMPTS: i64 = 10;
/// How long a worker that heard no bell waits before it looks.
const LOOK: Duration = Duration::from_secs(2);
/// Longer than a lease or the wait after a failure can be, in microseconds.
const LONGEST: i64 = 2 * 3600 * 1_000_000;
/// How often what has expired is looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Seconds after which a deletion looks again whether a backup is still being made.
const AFTER_BACKUP: i64 = 60;
/// Objects deleted by one job.
const BATCH: usize = 500;

/// Deletes objects once this transaction is committed.
pub(crate) async fn delete_objects(tx: &mut Tx, objects: &[&str]) -> Result<(), DbError> {
    for batch in objects.chunks(BATCH) {
        let payload = serde_json::json!({ "objects": batch });
        tx.enqueue(NewJob { kind: DELETE, payload, run_at: AT_ONCE, unique: None }).await?;
    }
    Ok(())
}

/// What the jobs that wait or run are to delete: what a dead job leaves behind, nobody deletes. Memory: about 100 bytes an object.
pub(crate) async fn objects_to_delete(hub: &Hub) -> Result<HashSet<String>> {
    let mut objects = HashSet::new();
    let mut after = None;
    loop {
        let page = hub.db().jobs(JobFilter { kind: Some(DELETE), after, ..JobFilter::default() }).await?;
        let Some(last) = page.last() else { return Ok(objects) };
        after = Some(last.id);
        for job in page.iter().filter(|job| job.state != JobState::Dead) {
            objects.extend(objects_of(&job.payload)?);
        }
    }
}

fn objects_of(payload: &serde_json::Value) -> Result<Vec<String>> {
    serde_json::from_value(payload["objects"].clone()).map_err(Fault::internal)
}

/// Ends a job that has nothing to do.
pub(crate) async fn complete_alone(hub: &Hub, job: &Job) -> Result<()> {
    let mut tx = hub.db().write().await?;
    if tx.complete(job).await? {
        tx.commit().await?;
    }
    Ok(())
}

pub(crate) async fn run(hub: Hub, stop: CancellationToken) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..WORKERS {
        let kinds = if number < WORKERS / 2 { KINDS.to_vec() } else { quick() };
        tasks.spawn(worker(hub.clone(), stop.clone(), kinds));
    }
    tasks.spawn(log::run(hub.clone(), stop.clone()));
    tasks.spawn(sweeper(hub, stop));
    while tasks.join_next().await.is_some() {}
}

fn quick() -> Vec<&'static str> {
    KINDS.iter().copied().filter(|kind| !SLOW.contains(kind)).collect()
}

async fn worker(hub: Hub, stop: CancellationToken, kinds: Vec<&'static str>) {
    while !stop.is_cancelled() {
        // Registered before the look, so that a bell between the look and the wait is heard.
        let bell = hub.inner.bell.notified();
        match run_one(&hub, &stop, &kinds).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(fault) => tracing::warn!(error = %fault, "no job could be leased"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = bell => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn sweeper(hub: Hub, stop: CancellationToken) {
    let mut watch = ClockWatch::new(Instant::now(), hub.now());
    while !stop.is_cancelled() {
        match hub.db().mend_due(hub.now(), LONGEST).await {
            Ok(0) => {}
            Ok(mended) => {
                tracing::warn!(mended, "jobs were waiting for a time that the clock no longer reaches soon")
            }
            Err(error) => tracing::warn!(%error, "jobs could not be looked through"),
        }
        if let Err(error) = gauges(&hub).await {
            tracing::warn!(%error, "jobs could not be counted");
        }
        if !watch.is_believed(Instant::now(), hub.now()) {
            tracing::error!("the clock jumped: nothing expires until it has held still for an hour");
        } else if let Err(fault) = retention::sweep(&hub).await {
            tracing::warn!(error = %fault, "what has expired could not be swept");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(SWEEP) => {}
        }
    }
}

/// Jobs by kind and state. Those of kinds that this program does not know count too: nobody does them.
async fn gauges(hub: &Hub) -> Result<(), DbError> {
    let counts = hub.db().job_counts().await?;
    for state in [JobState::Waiting, JobState::Leased, JobState::Dead] {
        for known in KINDS.iter().chain(&["unknown"]) {
            let of =
                |count: &&pli_storage::JobCount| count.state == state && kind_word(&count.kind) == *known;
            let count: u64 = counts.iter().filter(of).map(|count| count.count).sum();
            metrics::gauge!("pli_jobs", "kind" => *known, "state" => state.as_str()).set(count as f64);
        }
    }
    Ok(())
}

pub(crate) async fn run_due(hub: &Hub) -> Result<()> {
    retention::sweep(hub).await?;
    let never = CancellationToken::new();
    loop {
        while run_one(hub, &never, KINDS).await? {}
        // What the jobs did is logged, and what was logged may ask for receipts.
        if !log::append(hub, Pace::Now).await? {
            return Ok(());
        }
    }
}

async fn run_one(hub: &Hub, stop: &CancellationToken, kinds: &[&str]) -> Result<bool> {
    let Some(job) = hub.db().lease(kinds, hub.now(), LEASE).await? else { return Ok(false) };
    // A task of its own: a panic in a job is that job's failure.
    let mut work = tokio::spawn(perform(hub.clone(), job.clone()));
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome.map_err(Fault::from).and_then(|done| done),
            () = tokio::time::sleep(Duration::from_secs(20)) => {
                if !hub.db().extend(&job, hub.now(), LEASE).await.unwrap_or(true) {
                    work.abort();
                }
            }
            () = stop.cancelled() => {
                work.abort();
                let _ = (&mut work).await;
                hub.db().give_back(&job, hub.now()).await?;
                return Ok(false);
            }
        }
    };
    match outcome {
        Ok(()) => metrics::counter!("pli_jobs_done_total", "kind" => kind(&job)).increment(1),
        Err(fault) => {
            metrics::counter!("pli_jobs_failed_total", "kind" => kind(&job)).increment(1);
            let now = hub.now();
            let again = fault.is_passing() || job.attempt < ATTEMPTS;
            tracing::warn!(job = %job.id, kind = job.kind, attempt = job.attempt, again, error = %fault, "job failed");
            hub.db().fail(&job, now, &fault.to_string(), again.then(|| job.retry_at(now))).await?;
        }
    }
    Ok(true)
}

fn kind(job: &Job) -> &'static str {
    kind_word(&job.kind)
}

fn kind_word(word: &str) -> &'static str {
    KINDS.iter().find(|kind| **kind == word).copied().unwrap_or("unknown")
}

async fn perform(hub: Hub, job: Job) -> Result<()> {
    match job.kind.as_str() {
        documents::FINISH => documents::finish(&hub, &job).await,
        DELETE => delete(&hub, &job).await,
        antivirus::SCAN => antivirus::scan(&hub, &job).await,
        notices::DISPATCH => notices::dispatch(&hub, &job).await,
        notices::MAIL => notices::mail(&hub, &job).await,
        notices::DIGEST => notices::digest(&hub, &job).await,
        webhooks::DELIVER => webhooks::deliver(&hub, &job).await,
        invitations::SEND => invitations::send(&hub, &job).await,
        log::TIMESTAMP => log::timestamp(&hub, &job).await,
        receipts::MAKE => receipts::make(&hub, &job).await,
        other => Err(Fault::internal(format!("unknown kind of job {other:?}"))),
    }
}

async fn delete(hub: &Hub, job: &Job) -> Result<()> {
    let now = hub.now();
    if backup::is_under_way(hub.db(), now).await? {
        hub.db().fail(job, now, "a backup is being made", Some(now.plus_seconds(AFTER_BACKUP))).await?;
        return Ok(());
    }
    for object in &objects_of(&job.payload)? {
        hub.blobs().delete(&object.parse::<ObjectKey>().map_err(Fault::internal)?).await?;
    }
    complete_alone(hub, job).await
}
