//! Leased jobs, on both databases.

use crate::{Fresh, SECOND, at, on_both};
use pli_api::{JobId, Time};
use pli_storage::{AT_ONCE, Db, Job, JobFilter, JobState, NewJob};
use serde_json::json;
use std::collections::HashMap;

on_both! {
    workers_lease_each_job_once
    an_expired_lease_is_taken_over
    a_lease_can_be_extended
    a_job_is_written_with_its_act
    a_job_ends_with_its_effect
    due_first_and_by_kind
    failures_back_off_and_die
    a_unique_job_is_one
    a_unique_job_asked_for_while_it_runs_runs_again
    a_unique_job_that_dies_after_being_asked_for_again
    a_dead_job_frees_its_key
    given_back_untouched
    a_clock_that_was_put_back
    the_operator_sees_pages_and_counts
    strange_texts
}

fn new(kind: &str, run_at: Time) -> NewJob<'_> {
    NewJob { kind, payload: json!({}), run_at, unique: None }
}

async fn enqueue(db: &Db, job: NewJob<'_>) -> bool {
    let mut tx = db.write().await.unwrap();
    let new = tx.enqueue(job).await.unwrap();
    tx.commit().await.unwrap();
    new
}

async fn lease(db: &Db, now: Time) -> Option<Job> {
    db.lease(&["mail", "scan"], now, 60 * SECOND).await.unwrap()
}

async fn complete(db: &Db, job: &Job) -> bool {
    let mut tx = db.write().await.unwrap();
    let ours = tx.complete(job).await.unwrap();
    tx.commit().await.unwrap();
    ours
}

async fn state(db: &Db, id: JobId) -> Option<JobState> {
    db.job(id).await.unwrap().map(|j| j.state)
}

async fn ready(f: &Fresh) {
    f.db.migrate_jobs().await.unwrap();
}

/// A clock ten years ahead while jobs are leased and fail; then it is right again.
async fn a_clock_that_was_put_back(f: Fresh) {
    ready(&f).await;
    let ahead = 10 * 365 * 86_400;
    for kind in ["mail", "scan"] {
        enqueue(&f.db, new(kind, AT_ONCE)).await;
    }
    enqueue(&f.db, new("mail", at(86_400))).await;
    let failed = lease(&f.db, at(ahead)).await.unwrap();
    f.db.fail(&failed, at(ahead), "away", Some(at(ahead + 5))).await.unwrap();
    let abandoned = lease(&f.db, at(ahead)).await.unwrap();
    assert!(lease(&f.db, at(1)).await.is_none(), "both wait for a time ten years ahead");
    assert_eq!(f.db.mend_due(at(1), 7200 * SECOND).await.unwrap(), 2);
    assert_eq!(f.db.mend_due(at(1), 7200 * SECOND).await.unwrap(), 0);
    let again = [lease(&f.db, at(1)).await.unwrap().id, lease(&f.db, at(1)).await.unwrap().id];
    assert!(again.contains(&failed.id) && again.contains(&abandoned.id));
    assert!(lease(&f.db, at(1)).await.is_none(), "what was asked for tomorrow stays there");
    // New work does not wait for a clock at all.
    enqueue(&f.db, new("mail", AT_ONCE)).await;
    assert!(lease(&f.db, at(-ahead)).await.is_some());
}

async fn workers_lease_each_job_once(f: Fresh) {
    ready(&f).await;
    let mut tx = f.db.write().await.unwrap();
    for n in 0..251 {
        tx.enqueue(NewJob { kind: "mail", payload: json!({ "n": n }), run_at: at(0), unique: None })
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    let workers: Vec<_> = (0..32)
        .map(|_| {
            let db = f.db.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                while let Some(job) = lease(&db, at(1)).await {
                    done.push(job.payload["n"].as_i64().unwrap());
                    assert!(complete(&db, &job).await);
                }
                done
            })
        })
        .collect();
    let mut times: HashMap<i64, u32> = HashMap::new();
    for worker in workers {
        for n in worker.await.unwrap() {
            *times.entry(n).or_default() += 1;
        }
    }
    // A worker that meets only rows held by others may stop early on PostgreSQL; none is lost.
    while let Some(job) = lease(&f.db, at(1)).await {
        *times.entry(job.payload["n"].as_i64().unwrap()).or_default() += 1;
        assert!(complete(&f.db, &job).await);
    }
    assert_eq!(times.len(), 251);
    assert!(times.values().all(|n| *n == 1));
    assert!(f.db.job_counts().await.unwrap().is_empty());
}

async fn an_expired_lease_is_taken_over(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, new("mail", at(0))).await;
    let first = lease(&f.db, at(0)).await.unwrap();
    assert_eq!((first.attempt, first.until), (1, at(60)));
    assert!(lease(&f.db, at(59)).await.is_none());
    let second = lease(&f.db, at(60)).await.unwrap();
    assert_eq!((second.id, second.attempt), (first.id, 2));
    assert!(second.fence > first.fence);
    // Whatever the first says now is refused.
    assert!(!complete(&f.db, &first).await);
    assert!(!f.db.extend(&first, at(61), 60 * SECOND).await.unwrap());
    assert!(!f.db.fail(&first, at(61), "late", None).await.unwrap());
    assert!(!f.db.give_back(&first, at(61)).await.unwrap());
    assert_eq!(state(&f.db, first.id).await, Some(JobState::Leased));
    assert!(complete(&f.db, &second).await);
    assert!(!complete(&f.db, &second).await);
    assert_eq!(state(&f.db, first.id).await, None);
}

async fn a_lease_can_be_extended(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, new("mail", at(0))).await;
    let job = lease(&f.db, at(0)).await.unwrap();
    assert!(f.db.extend(&job, at(50), 60 * SECOND).await.unwrap());
    assert!(lease(&f.db, at(100)).await.is_none());
    // Past its end but taken by nobody: still ours.
    assert!(complete(&f.db, &job).await);
}

async fn a_job_is_written_with_its_act(f: Fresh) {
    ready(&f).await;
    let mut tx = f.db.write().await.unwrap();
    assert!(tx.enqueue(new("mail", at(0))).await.unwrap());
    drop(tx);
    assert!(lease(&f.db, at(1)).await.is_none());
}

async fn a_job_ends_with_its_effect(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, new("mail", at(0))).await;
    let job = lease(&f.db, at(0)).await.unwrap();
    let mut tx = f.db.write().await.unwrap();
    assert!(tx.complete(&job).await.unwrap());
    tx.enqueue(new("scan", at(0))).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(state(&f.db, job.id).await, Some(JobState::Leased));
    assert!(complete(&f.db, &job).await);
    assert!(lease(&f.db, at(1)).await.is_none());
}

async fn due_first_and_by_kind(f: Fresh) {
    ready(&f).await;
    for (kind, due) in [("scan", 30), ("mail", 10), ("other", 5), ("mail", 20)] {
        enqueue(&f.db, new(kind, at(due))).await;
    }
    assert!(lease(&f.db, at(9)).await.is_none());
    let mut seen = Vec::new();
    while let Some(job) = lease(&f.db, at(40)).await {
        seen.push(job.kind);
    }
    assert_eq!(seen, ["mail", "mail", "scan"]);
    assert!(f.db.lease(&[], at(40), SECOND).await.unwrap().is_none());
    assert_eq!(f.db.lease(&["other"], at(40), SECOND).await.unwrap().unwrap().kind, "other");
}

async fn failures_back_off_and_die(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, new("mail", at(0))).await;
    let mut now = at(0);
    let mut last = 0;
    for attempt in 1..=12 {
        let job = lease(&f.db, now).await.unwrap();
        assert_eq!(job.attempt, attempt);
        let retry = job.retry_at(now);
        let wait = retry.micros() - now.micros();
        assert!(wait >= last && (5 * SECOND..=4500 * SECOND).contains(&wait), "{wait}");
        last = if attempt < 10 { wait } else { 0 };
        assert!(f.db.fail(&job, now, "refused\0 by the server", Some(retry)).await.unwrap());
        assert!(lease(&f.db, Time::from_micros(retry.micros() - 1)).await.is_none());
        now = retry;
    }
    let job = lease(&f.db, now).await.unwrap();
    assert!(f.db.fail(&job, now, "no such address", None).await.unwrap());
    assert!(lease(&f.db, now.plus_seconds(1_000_000)).await.is_none());
    let row = f.db.job(job.id).await.unwrap().unwrap();
    assert_eq!(row.state, JobState::Dead);
    assert_eq!(row.last_error.as_deref(), Some("no such address"));
    assert_eq!(row.last_failed, Some(now));
    // The operator puts it back.
    assert!(f.db.requeue(job.id, now).await.unwrap());
    assert!(!f.db.requeue(job.id, now).await.unwrap());
    let again = lease(&f.db, now).await.unwrap();
    assert_eq!((again.id, again.attempt), (job.id, 1));
    assert!(again.fence > job.fence);
}

fn unique(n: i64, run_at: Time) -> NewJob<'static> {
    NewJob { kind: "scan", payload: json!({ "n": n }), run_at, unique: Some("document 1") }
}

async fn a_unique_job_is_one(f: Fresh) {
    ready(&f).await;
    assert!(enqueue(&f.db, unique(1, at(100))).await);
    assert!(!enqueue(&f.db, unique(2, at(50))).await);
    assert!(!enqueue(&f.db, unique(3, at(70))).await);
    // Another kind may have the same key.
    assert!(enqueue(&f.db, NewJob { kind: "mail", ..unique(9, at(500)) }).await);
    assert!(lease(&f.db, at(49)).await.is_none());
    let job = lease(&f.db, at(50)).await.unwrap();
    assert_eq!(job.payload, json!({ "n": 3 }));
    assert!(complete(&f.db, &job).await);
    assert!(lease(&f.db, at(400)).await.is_none());
    assert!(enqueue(&f.db, unique(4, at(400))).await);
}

async fn a_unique_job_asked_for_while_it_runs_runs_again(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, unique(1, at(0))).await;
    let job = lease(&f.db, at(0)).await.unwrap();
    // What the running job has read may be older than what asks now.
    assert!(!enqueue(&f.db, unique(2, at(1))).await);
    assert!(!enqueue(&f.db, unique(3, at(2))).await);
    assert!(lease(&f.db, at(3)).await.is_none(), "never two at once");
    assert!(complete(&f.db, &job).await);
    let again = lease(&f.db, at(3)).await.unwrap();
    assert_eq!((again.payload.clone(), again.attempt), (json!({ "n": 3 }), 1));
    assert!(!complete(&f.db, &job).await);
    assert!(complete(&f.db, &again).await);
    assert!(lease(&f.db, at(3)).await.is_none());
}

async fn a_unique_job_that_dies_after_being_asked_for_again(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, unique(1, at(0))).await;
    let job = lease(&f.db, at(0)).await.unwrap();
    enqueue(&f.db, unique(2, at(1))).await;
    assert!(f.db.fail(&job, at(2), "cannot", None).await.unwrap());
    let again = lease(&f.db, at(2)).await.unwrap();
    assert_eq!((again.payload.clone(), again.attempt), (json!({ "n": 2 }), 1));
    assert!(f.db.fail(&again, at(3), "cannot", None).await.unwrap());
    assert_eq!(state(&f.db, job.id).await, Some(JobState::Dead));
}

async fn a_dead_job_frees_its_key(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, unique(1, at(0))).await;
    let job = lease(&f.db, at(0)).await.unwrap();
    f.db.fail(&job, at(0), "no", None).await.unwrap();
    assert!(enqueue(&f.db, unique(2, at(1))).await);
    // Two living jobs with one key are refused, also to the operator.
    assert!(f.db.requeue(job.id, at(2)).await.unwrap_err().is_duplicate());
    let second = lease(&f.db, at(2)).await.unwrap();
    assert!(complete(&f.db, &second).await);
    assert!(f.db.requeue(job.id, at(2)).await.unwrap());
}

async fn given_back_untouched(f: Fresh) {
    ready(&f).await;
    enqueue(&f.db, new("mail", at(0))).await;
    let job = lease(&f.db, at(0)).await.unwrap();
    assert!(f.db.give_back(&job, at(1)).await.unwrap());
    let again = lease(&f.db, at(1)).await.unwrap();
    assert_eq!((again.id, again.attempt), (job.id, 1));
    assert!(!complete(&f.db, &job).await);
}

async fn the_operator_sees_pages_and_counts(f: Fresh) {
    ready(&f).await;
    for n in 0..25 {
        enqueue(&f.db, new(if n % 5 == 0 { "mail" } else { "scan" }, at(n))).await;
    }
    let job = lease(&f.db, at(0)).await.unwrap();
    f.db.fail(&job, at(0), "no", None).await.unwrap();
    let leased = lease(&f.db, at(1)).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = f.db.jobs(JobFilter { after, limit: 10, ..JobFilter::default() }).await.unwrap();
        after = page.last().map(|j| j.id);
        let last = page.len() < 10;
        seen.extend(page.into_iter().map(|j| j.id));
        if last {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(seen.is_sorted() && seen.windows(2).all(|w| w[0] != w[1]));
    let mail = f.db.jobs(JobFilter { kind: Some("mail"), ..JobFilter::default() }).await.unwrap();
    assert_eq!(mail.len(), 5);
    let dead = f.db.jobs(JobFilter { state: Some(JobState::Dead), ..JobFilter::default() }).await.unwrap();
    assert_eq!(dead.iter().map(|j| j.id).collect::<Vec<_>>(), [job.id]);
    let counts: Vec<_> = f.db.job_counts().await.unwrap();
    let counts: Vec<_> = counts.iter().map(|c| (c.kind.as_str(), c.state, c.count)).collect();
    assert_eq!(leased.kind, "scan");
    assert_eq!(
        counts,
        [
            ("mail", JobState::Dead, 1),
            ("mail", JobState::Waiting, 4),
            ("scan", JobState::Leased, 1),
            ("scan", JobState::Waiting, 19)
        ]
    );
}

async fn strange_texts(f: Fresh) {
    ready(&f).await;
    let payload = json!({ "é\"'": ["\u{1f512}", null, 1.5, { "$1": "%" }] });
    enqueue(&f.db, NewJob { kind: "mail", payload: payload.clone(), run_at: at(0), unique: Some("'; --") })
        .await;
    assert_eq!(lease(&f.db, at(0)).await.unwrap().payload, payload);
    let mut tx = f.db.write().await.unwrap();
    assert!(tx.enqueue(NewJob { payload: json!([]), ..new("mail", at(0)) }).await.is_err());
}
