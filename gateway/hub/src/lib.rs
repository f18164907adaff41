//! The exchange hub: people, deposits, uploads, downloads, journal, and the jobs behind them.
//!
//! Owns the exchange's tables, its routes and its jobs. Must never write plaintext of a document
//! anywhere but to the recipient's connection, hold a transaction open while bytes move, or load a
//! row without its caller.
#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test stops at the first surprise"))]
#![deny(missing_docs)]

mod access;
pub mod admin;
pub mod antivirus;
pub mod audit;
pub mod backup;
mod blocks;
mod boxes;
mod checksum;
mod clamd;
mod content;
mod delegations;
mod deposits;
mod directory;
mod documents;
mod download;
mod etag;
pub mod evidence;
mod exhibits;
pub mod expert_list;
pub mod experts;
mod export;
mod fault;
mod holds;
mod inbox;
mod invitations;
mod jobs;
mod journal;
mod keys;
mod labels;
mod log;
mod mail;
mod members;
mod messages;
mod notices;
pub mod organisations;
mod people;
mod pieces;
mod procedures;
pub mod receipts;
mod receive;
mod recipients;
mod references;
mod retention;
pub mod roles;
mod search;
mod sending;
pub mod services;
mod signature;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod texts;
mod threads;
mod uploads;
mod webhooks;
mod withdrawal;
mod zip;

pub use access::{Access, Caller, RouteFacts, routes};
pub use antivirus::AntivirusOptions;
pub use clamd::ClamdAddress;
pub use fault::{Fault, Result, problem_response};
pub use keys::KeySource;
pub use mail::{Mail, MailError, MailOptions, MailTls};
pub use webhooks::{WebhookOptions, Webhooks};

use blocks::BlockPool;
use pli_api::{Time, UploadId};
use pli_storage::{Blobs, Db, Migration};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The migrations of the hub's tables; owner `hub`.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "exchange", sql: include_str!("../migrations/1_exchange.sql") },
    Migration { version: 2, name: "people", sql: include_str!("../migrations/2_people.sql") },
    Migration { version: 3, name: "procedures", sql: include_str!("../migrations/3_procedures.sql") },
    Migration { version: 4, name: "messages", sql: include_str!("../migrations/4_messages.sql") },
    Migration { version: 5, name: "notices", sql: include_str!("../migrations/5_notices.sql") },
    Migration { version: 6, name: "journal", sql: include_str!("../migrations/6_journal.sql") },
    Migration { version: 7, name: "antivirus", sql: include_str!("../migrations/7_antivirus.sql") },
    Migration { version: 8, name: "backup", sql: include_str!("../migrations/8_backup.sql") },
];

/// The owner of [`MIGRATIONS`].
pub const OWNER: &str = "hub";

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The largest document, in bytes.
    pub max_size: u64,
    /// Content bytes of a full segment: 4 to 64 MiB.
    pub segment_size: usize,
    /// What all uploads together may hold in memory, in bytes.
    pub transfer_memory: usize,
    /// What one upload may hold in memory, in bytes.
    pub upload_memory: usize,
    /// The most unfinished uploads of one account.
    pub pending_uploads: u32,
    /// Seconds after which an upload that does not advance ends.
    pub upload_expiry: i64,
    /// The bounds of retention, in days, and what is taken when the sender says nothing.
    pub retention_days: (u32, u32, u32),
    /// Days before the end of a deposit at which who has not read is reminded.
    pub reminder_days: u32,
    /// Seconds that a session lives.
    pub session_seconds: i64,
    /// The antivirus; without one, every document counts as not analysed and is released as such.
    pub antivirus: Option<AntivirusOptions>,
    /// What evidence is made with; without it events wait for their place in the log, and there are no receipts.
    pub evidence: Option<evidence::Evidence>,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            max_size: 1 << 40,
            segment_size: 16 << 20,
            transfer_memory: 512 << 20,
            upload_memory: 48 << 20,
            pending_uploads: 1000,
            upload_expiry: 7 * 86_400,
            retention_days: (1, 30, 30),
            reminder_days: 3,
            session_seconds: 12 * 3600,
            antivirus: None,
            evidence: None,
        }
    }
}

/// Where the present instant comes from, so that tests can move it.
#[derive(Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that stands until it is moved; microseconds since the epoch.
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Time {
        match self {
            Self::System => Time::from(system_now()),
            Self::Set(micros) => Time::from_micros(micros.load(Ordering::SeqCst)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn system_now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// The handle to everything the exchange needs; a clone is cheap.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    blobs: Blobs,
    keys: KeySource,
    options: HubOptions,
    clock: Clock,
    antivirus: Option<antivirus::Antivirus>,
    blocks: BlockPool,
    /// The writer that each upload has in this process, so that a newer one ends it at once.
    writers: Mutex<HashMap<UploadId, Registered>>,
    stop: CancellationToken,
    running: tokio_util::task::TaskTracker,
    /// Rung when a job was enqueued here, so that it does not wait for the next look.
    bell: Notify,
    /// Argon2 takes memory by design; this bounds how much at a time.
    hashing: Arc<Semaphore>,
    /// Set before the hub is used, where the operator configured it.
    mail: OnceLock<Mail>,
    webhooks: OnceLock<Webhooks>,
    log: log::Sequencer,
    /// Requests to come back that are looked into after their answer; this bounds how many at a time.
    returning: Arc<Semaphore>,
}

impl Hub {
    /// A hub on a migrated database.
    #[must_use]
    pub fn new(db: Db, blobs: Blobs, keys: KeySource, mut options: HubOptions, clock: Clock) -> Self {
        options.segment_size = options.segment_size.clamp(1, pli_seal::SEGMENT_MAX);
        let blocks = BlockPool::new(options.transfer_memory);
        let antivirus = options.antivirus.clone().map(antivirus::Antivirus::new);
        Self {
            inner: Arc::new(Inner {
                db,
                blobs,
                keys,
                options,
                clock,
                antivirus,
                blocks,
                writers: Mutex::default(),
                stop: CancellationToken::new(),
                running: tokio_util::task::TaskTracker::new(),
                bell: Notify::new(),
                hashing: Arc::new(Semaphore::new(2)),
                mail: OnceLock::new(),
                webhooks: OnceLock::new(),
                log: log::Sequencer::default(),
                returning: Arc::new(Semaphore::new(16)),
            }),
        }
    }

    /// The same hub with a way to a mail server. Without one, notices are in the portal only.
    #[must_use]
    pub fn with_mail(self, mail: Mail) -> Self {
        if self.inner.mail.set(mail).is_err() {
            tracing::warn!("a mail server was given twice: the first stays");
        }
        self
    }

    /// The same hub with another way to webhooks than the public network and the machine's authorities.
    #[must_use]
    pub fn with_webhooks(self, webhooks: Webhooks) -> Self {
        if self.inner.webhooks.set(webhooks).is_err() {
            tracing::warn!("a way to webhooks was given twice: the first stays");
        }
        self
    }

    pub(crate) fn mail(&self) -> Option<&Mail> {
        self.inner.mail.get()
    }

    pub(crate) fn webhooks(&self) -> Result<&Webhooks> {
        if let Some(webhooks) = self.inner.webhooks.get() {
            return Ok(webhooks);
        }
        let usual = Webhooks::open(&WebhookOptions::default()).map_err(Fault::internal)?;
        Ok(self.inner.webhooks.get_or_init(|| usual))
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Time {
        self.inner.clock.now()
    }

    /// Limits and sizes.
    #[must_use]
    pub fn options(&self) -> &HubOptions {
        &self.inner.options
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    pub(crate) fn antivirus(&self) -> Option<&antivirus::Antivirus> {
        self.inner.antivirus.as_ref()
    }

    /// The hub's certificates.
    #[must_use]
    pub fn keys(&self) -> &KeySource {
        &self.inner.keys
    }

    /// Every route of the exchange, each behind the access that [`routes`] says.
    pub fn router(&self) -> axum::Router {
        access::router(self.clone())
    }

    /// Asks running uploads to reach a durable offset and end; new ones are refused with 503.
    pub fn stop_transfers(&self) {
        self.inner.stop.cancel();
    }

    /// Ends when no upload is being received and no download is being sent.
    pub async fn transfers_ended(&self) {
        self.inner.running.close();
        self.inner.running.wait().await;
    }

    /// How many transfers are under way in this process.
    #[must_use]
    pub fn running_transfers(&self) -> usize {
        self.inner.running.len()
    }

    /// Whether database and store answer.
    ///
    /// # Errors
    /// What does not answer.
    pub async fn ready(&self) -> Result<()> {
        self.inner.db.ping().await?;
        self.inner.blobs.probe().await?;
        Ok(())
    }

    /// Runs jobs until `stop`; any number of processes may.
    pub async fn run_jobs(&self, stop: CancellationToken) {
        jobs::run(self.clone(), stop).await;
    }

    /// Runs every job that is due, and those that they enqueue, and returns when none is left.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn run_due_jobs(&self) -> Result<()> {
        jobs::run_due(self).await
    }

    /// Registers this process's writer of an upload and ends the one before it. Two that took the upload
    /// one after the other may come here the other way round: the greater fence stays.
    fn take_writer(&self, upload: UploadId, fence: i64) -> Writer {
        let token = self.inner.stop.child_token();
        let (retired, gone) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        if let Ok(mut writers) = self.inner.writers.lock() {
            match writers.get(&upload) {
                Some(newer) if newer.fence > fence => token.cancel(),
                _ => {
                    let registered = Registered {
                        fence,
                        token: token.clone(),
                        retired: Arc::clone(&retired),
                        gone: gone.clone(),
                    };
                    if let Some(older) = writers.insert(upload, registered) {
                        older.token.cancel();
                    }
                }
            }
        }
        Writer { hub: self.clone(), upload, fence, token, retired, _gone: gone.drop_guard() }
    }

    /// Ends this process's writer of an upload, if it has one.
    fn end_writer(&self, upload: UploadId) {
        if let Ok(mut writers) = self.inner.writers.lock()
            && let Some(writer) = writers.remove(&upload)
        {
            writer.token.cancel();
        }
    }

    /// Ends this process's writer of an upload, if it has one, once what it has received is durable.
    async fn retire_writer(&self, upload: UploadId) {
        let gone = self.inner.writers.lock().ok().and_then(|writers| {
            let writer = writers.get(&upload)?;
            writer.retired.store(true, Ordering::SeqCst);
            writer.token.cancel();
            Some(writer.gone.clone())
        });
        if let Some(gone) = gone {
            // A store that takes longer loses this writer's last segments, which nobody was told of.
            let _ = tokio::time::timeout(RETIRING, gone.cancelled()).await;
        }
    }

    fn stopping(&self) -> bool {
        self.inner.stop.is_cancelled()
    }
}

/// How long a writer that is retired may take to make durable what it has received.
const RETIRING: Duration = Duration::from_secs(10);

/// A writer of this process, as others reach it.
struct Registered {
    fence: i64,
    token: CancellationToken,
    retired: Arc<AtomicBool>,
    gone: CancellationToken,
}

/// The right to write an upload, until a newer writer takes it.
struct Writer {
    hub: Hub,
    upload: UploadId,
    fence: i64,
    token: CancellationToken,
    /// Set when it ends because its owner resumes: what it has received is kept.
    retired: Arc<AtomicBool>,
    _gone: DropGuard,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Ok(mut writers) = self.hub.inner.writers.lock()
            && writers.get(&self.upload).is_some_and(|writer| writer.fence == self.fence)
        {
            writers.remove(&self.upload);
        }
    }
}

/// 32 random bytes, from the operating system.
fn random32() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Fault::internal(e.to_string()))?;
    Ok(bytes)
}
