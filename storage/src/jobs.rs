//! Leased jobs, which serve as outbox: a job is written in the same transaction as the act that asks
//! for it, and done later, at least once, by whichever worker leases it.
//!
//! Owns the table `jobs`. Must never hold a transaction open while a job runs, nor let a worker whose
//! lease was taken over settle the job: every lease has a fence, and every later word about the job
//! must carry it.
//!
//! A job's `due` is when it may be leased: its time to run while it waits, the end of its lease while
//! it is leased. A worker that dies therefore gives its job back by itself.

use crate::db::{Db, DbError, Dialect, Sql, Tx};
use crate::migrate::Migration;
use crate::value::Row;
use crate::{Args, args};
use pli_api::{JobId, Time};

/// Under this name [`MIGRATIONS`](Db::migrate_jobs) are recorded.
pub const JOBS_OWNER: &str = "jobs";

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "jobs",
    sql: "CREATE TABLE jobs (
        id UUID NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        payload TEXT NOT NULL,
        unique_key TEXT,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'leased', 'dead')),
        due BIGINT NOT NULL,
        attempt BIGINT NOT NULL,
        fence BIGINT NOT NULL,
        again BOOLEAN NOT NULL,
        last_error TEXT,
        last_failed BIGINT
    );
    CREATE INDEX jobs_due ON jobs (due, id) WHERE state <> 'dead';
    CREATE UNIQUE INDEX jobs_unique ON jobs (kind, unique_key) WHERE unique_key IS NOT NULL AND state <> 'dead';",
}];

/// Due whatever the clock says.
pub const AT_ONCE: Time = Time::from_micros(0);

/// A job to be written.
#[derive(Clone, Debug)]
pub struct NewJob<'a> {
    /// What kind of work: `owner.verb`.
    pub kind: &'a str,
    /// What the work needs to know: identifiers, never content. A JSON object.
    pub payload: serde_json::Value,
    /// Not before. [`AT_ONCE`] does not depend on a clock that may be put right later.
    pub run_at: Time,
    /// At most one living job of a kind has this key. Asked for again while it waits, it takes the
    /// new payload and the earlier time; asked for again while it runs, it runs once more.
    pub unique: Option<&'a str>,
}

/// A job leased to this worker.
#[derive(Clone, Debug)]
pub struct Job {
    /// Identifier.
    pub id: JobId,
    /// What kind of work.
    pub kind: String,
    /// What the work needs to know.
    pub payload: serde_json::Value,
    /// 1 at the first lease. A job that kills its worker comes back with a greater number: refuse it
    /// from some number on with [`Db::fail`].
    pub attempt: i64,
    /// Proof that the lease is ours.
    pub fence: i64,
    /// When the lease ends.
    pub until: Time,
}

impl Job {
    /// When to try again after a failure: 5 s, 10 s, 20 s, … at most an hour, spread by up to a
    /// quarter so that jobs that failed together do not come back together.
    #[must_use]
    pub fn retry_at(&self, now: Time) -> Time {
        let doublings = u32::try_from(self.attempt.saturating_sub(1).clamp(0, 20)).unwrap_or(0);
        let seconds = 5i64.saturating_mul(1 << doublings).min(3600);
        // The end of a version 7 identifier is random.
        let spread = i64::from(self.id.0.as_bytes().last().copied().unwrap_or(0));
        let quarter = seconds.saturating_mul(1_000_000) / 4;
        let micros = seconds.saturating_mul(1_000_000).saturating_add(quarter * spread / 255);
        Time::from_micros(now.micros().saturating_add(micros))
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for its time or for a worker.
    Waiting,
    /// A worker has it, or died with it.
    Leased,
    /// Given up: the operator must look at it.
    Dead,
}

impl JobState {
    /// The word in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Leased => "leased",
            Self::Dead => "dead",
        }
    }

    fn parse(word: &str) -> Result<Self, DbError> {
        match word {
            "waiting" => Ok(Self::Waiting),
            "leased" => Ok(Self::Leased),
            "dead" => Ok(Self::Dead),
            other => Err(DbError::other(format!("unknown state of a job: {other}"))),
        }
    }
}

/// What the operator sees of a job.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Identifier.
    pub id: JobId,
    /// What kind of work.
    pub kind: String,
    /// What the work needs to know.
    pub payload: serde_json::Value,
    /// At most one living job of the kind has it.
    pub unique: Option<String>,
    /// Where it stands.
    pub state: JobState,
    /// When it may be leased (next).
    pub due: Time,
    /// Leases so far since it was written or put back.
    pub attempt: i64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When.
    pub last_failed: Option<Time>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct JobFilter<'a> {
    /// Of this kind only.
    pub kind: Option<&'a str>,
    /// In this state only.
    pub state: Option<JobState>,
    /// After this one, in the order of identifiers.
    pub after: Option<JobId>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// How many jobs of a kind are in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCount {
    /// What kind of work.
    pub kind: String,
    /// Where they stand.
    pub state: JobState,
    /// How many.
    pub count: u64,
    /// The earliest [`JobRow::due`] among them.
    pub earliest: Time,
}

const COLUMNS: &str = "id, kind, payload, unique_key, state, due, attempt, last_error, last_failed";

impl Tx {
    /// Writes a job, to be done once this transaction is committed. Gives whether it is a new one
    /// (see [`NewJob::unique`]).
    ///
    /// # Errors
    /// Any [`DbError`]; [`DbError::Other`] when the payload is not a JSON object.
    pub async fn enqueue(&mut self, job: NewJob<'_>) -> Result<bool, DbError> {
        if !job.payload.is_object() {
            return Err(DbError::other("the payload of a job must be a JSON object"));
        }
        let id = JobId::new();
        let row = self
            .one(
                "INSERT INTO jobs (id, kind, payload, unique_key, state, due, attempt, fence, again)
                 VALUES ($1, $2, $3, $4, 'waiting', $5, 0, 0, FALSE)
                 ON CONFLICT (kind, unique_key) WHERE unique_key IS NOT NULL AND state <> 'dead'
                 DO UPDATE SET payload = excluded.payload,
                     again = (jobs.state = 'leased'),
                     due = CASE WHEN jobs.state = 'waiting' AND excluded.due < jobs.due THEN excluded.due ELSE jobs.due END
                 RETURNING id",
                args![id, job.kind, job.payload.to_string(), job.unique, job.run_at],
            )
            .await?;
        Ok(row.get::<JobId>("id")? == id)
    }

    /// The job is done: in this transaction, so that its effect and its end are one. Gives whether
    /// the lease was still ours; when not, another worker has the job and this transaction must be
    /// given up.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn complete(&mut self, job: &Job) -> Result<bool, DbError> {
        let gone = self
            .execute(
                "DELETE FROM jobs WHERE id = $1 AND fence = $2 AND state = 'leased' AND again = FALSE",
                args![job.id, job.fence],
            )
            .await?;
        if gone == 1 {
            return Ok(true);
        }
        // Asked for again while it ran: due at once (0), from the first attempt.
        let again = self
            .execute(
                "UPDATE jobs SET state = 'waiting', again = FALSE, attempt = 0, due = 0
                 WHERE id = $1 AND fence = $2 AND state = 'leased' AND again = TRUE",
                args![job.id, job.fence],
            )
            .await?;
        Ok(again == 1)
    }
}

impl Db {
    /// Makes or updates the table of jobs.
    ///
    /// # Errors
    /// As [`Db::migrate`].
    pub async fn migrate_jobs(&self) -> Result<(), crate::MigrateError> {
        self.migrate(JOBS_OWNER, MIGRATIONS).await
    }

    /// Leases the job of these kinds that has been due longest, for `lease_micros`. `None` when
    /// nothing is due.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn lease(&self, kinds: &[&str], now: Time, lease_micros: i64) -> Result<Option<Job>, DbError> {
        if kinds.is_empty() {
            return Ok(None);
        }
        let mut due = args![now];
        let list = placeholders(kinds, &mut due);
        // A look without the writer first: an idle worker must not keep SQLite's only writer busy.
        let look = Sql::assembled(format!(
            "SELECT id FROM jobs WHERE state <> 'dead' AND due <= $1 AND kind IN ({list}) LIMIT 1"
        ));
        if self.optional(look, due).await?.is_none() {
            return Ok(None);
        }
        let until = Time::from_micros(now.micros().saturating_add(lease_micros));
        let mut with = args![now, until];
        let list = placeholders(kinds, &mut with);
        let skip = match self.dialect() {
            Dialect::Sqlite => "",
            Dialect::Postgres => "FOR UPDATE SKIP LOCKED",
        };
        let take = Sql::assembled(format!(
            "UPDATE jobs SET state = 'leased', due = $2, attempt = attempt + 1, fence = fence + 1
             WHERE id = (SELECT id FROM jobs WHERE state <> 'dead' AND due <= $1 AND kind IN ({list})
                         ORDER BY due, id LIMIT 1 {skip})
             RETURNING id, kind, payload, attempt, fence"
        ));
        let mut tx = self.write().await?;
        let Some(row) = tx.optional(take, with).await? else {
            return Ok(None);
        };
        let job = Job {
            id: row.get("id")?,
            kind: row.get("kind")?,
            payload: json(&row.get::<String>("payload")?)?,
            attempt: row.get("attempt")?,
            fence: row.get("fence")?,
            until,
        };
        tx.commit().await?;
        Ok(Some(job))
    }

    /// Makes the lease last until `lease_micros` from now. Gives whether it was still ours.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn extend(&self, job: &Job, now: Time, lease_micros: i64) -> Result<bool, DbError> {
        let until = Time::from_micros(now.micros().saturating_add(lease_micros));
        self.settle(
            "UPDATE jobs SET due = $3 WHERE id = $1 AND fence = $2 AND state = 'leased'",
            args![job.id, job.fence, until],
        )
        .await
    }

    /// The job failed: it comes back at `retry_at` (see [`Job::retry_at`]), or, with `None`, is dead
    /// until the operator puts it back. Gives whether the lease was still ours.
    ///
    /// `error` is shown to the operator: no personal data.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn fail(
        &self,
        job: &Job,
        now: Time,
        error: &str,
        retry_at: Option<Time>,
    ) -> Result<bool, DbError> {
        let error: String = error.chars().filter(|c| *c != '\0').take(2000).collect();
        let state = if retry_at.is_some() { JobState::Waiting } else { JobState::Dead };
        self.settle(
            // Asked for again while it ran: what is asked anew starts anew, and cannot be dead yet.
            "UPDATE jobs SET state = CASE WHEN again THEN 'waiting' ELSE $3 END,
                 attempt = CASE WHEN again THEN 0 ELSE attempt END,
                 due = $4, again = FALSE, last_error = $5, last_failed = $6
             WHERE id = $1 AND fence = $2 AND state = 'leased'",
            args![job.id, job.fence, state.as_str(), retry_at.unwrap_or(now), error, now],
        )
        .await
    }

    /// Gives a job back untouched, as when the worker is asked to stop: due now, the attempt not
    /// counted. Gives whether the lease was still ours.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn give_back(&self, job: &Job, now: Time) -> Result<bool, DbError> {
        self.settle(
            "UPDATE jobs SET state = 'waiting', due = $3, again = FALSE, attempt = attempt - 1
             WHERE id = $1 AND fence = $2 AND state = 'leased'",
            args![job.id, job.fence, now],
        )
        .await
    }

    /// Jobs for the operator, in the order in which they were written.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn jobs(&self, filter: JobFilter<'_>) -> Result<Vec<JobRow>, DbError> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let rows = self
            .rows(
                Sql::assembled(format!(
                    "SELECT {COLUMNS} FROM jobs
                     WHERE ($1 = '' OR kind = $1) AND ($2 = '' OR state = $2) AND id > $3
                     ORDER BY id LIMIT $4"
                )),
                args![
                    filter.kind.unwrap_or(""),
                    filter.state.map_or("", JobState::as_str),
                    filter.after.map_or(uuid::Uuid::nil(), |id| id.0),
                    limit
                ],
            )
            .await?;
        rows.iter().map(job_row).collect()
    }

    /// One job for the operator.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn job(&self, id: JobId) -> Result<Option<JobRow>, DbError> {
        let row = self
            .optional(Sql::assembled(format!("SELECT {COLUMNS} FROM jobs WHERE id = $1")), args![id])
            .await?;
        row.as_ref().map(job_row).transpose()
    }

    /// How many jobs there are of each kind in each state.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn job_counts(&self) -> Result<Vec<JobCount>, DbError> {
        self.rows(
            "SELECT kind, state, COUNT(*) AS count, MIN(due) AS earliest FROM jobs
             GROUP BY kind, state ORDER BY kind, state",
            args![],
        )
        .await?
        .iter()
        .map(|row| {
            Ok(JobCount {
                kind: row.get("kind")?,
                state: JobState::parse(&row.get::<String>("state")?)?,
                count: row.get("count")?,
                earliest: row.get("earliest")?,
            })
        })
        .collect()
    }

    /// Puts a dead job back, due now, from the first attempt. Gives whether there was such a job.
    ///
    /// # Errors
    /// [`DbError::Conflict`] when a living job has its unique key: it does the same work.
    pub async fn requeue(&self, id: JobId, now: Time) -> Result<bool, DbError> {
        self.settle(
            "UPDATE jobs SET state = 'waiting', due = $2, attempt = 0 WHERE id = $1 AND state = 'dead'",
            args![id, now],
        )
        .await
    }

    /// Makes due the jobs whose lease, or wait after a failure, ends later than `longest` from now: longer than
    /// either can last, so that the clock must have been put back since. Gives how many.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn mend_due(&self, now: Time, longest_micros: i64) -> Result<u64, DbError> {
        let last = Time::from_micros(now.micros().saturating_add(longest_micros));
        let late = "SELECT 1 AS late FROM jobs WHERE state <> 'dead' AND attempt > 0 AND due > $1 LIMIT 1";
        if self.optional(late, args![last]).await?.is_none() {
            return Ok(0);
        }
        let mut tx = self.write().await?;
        let mended = tx
            .execute(
                "UPDATE jobs SET due = $2 WHERE state <> 'dead' AND attempt > 0 AND due > $1",
                args![last, now],
            )
            .await?;
        tx.commit().await?;
        Ok(mended)
    }

    async fn settle(&self, sql: &'static str, args: Args) -> Result<bool, DbError> {
        let mut tx = self.write().await?;
        let changed = tx.execute(sql, args).await?;
        tx.commit().await?;
        Ok(changed == 1)
    }
}

/// `$n, $n+1, …` for a list put at the end of the arguments.
fn placeholders(kinds: &[&str], args: &mut Args) -> String {
    let mut list = Vec::with_capacity(kinds.len());
    for kind in kinds {
        args.push(*kind);
        list.push(format!("${}", args.len()));
    }
    list.join(", ")
}

fn json(text: &str) -> Result<serde_json::Value, DbError> {
    serde_json::from_str(text).map_err(|_| DbError::other("the payload of a job is not JSON"))
}

fn job_row(row: &Row) -> Result<JobRow, DbError> {
    Ok(JobRow {
        id: row.get("id")?,
        kind: row.get("kind")?,
        payload: json(&row.get::<String>("payload")?)?,
        unique: row.get("unique_key")?,
        state: JobState::parse(&row.get::<String>("state")?)?,
        due: row.get("due")?,
        attempt: row.get("attempt")?,
        last_error: row.get("last_error")?,
        last_failed: row.get("last_failed")?,
    })
}
