//! The same behaviour on every backend, each a real one: SQLite and PostgreSQL, folder, S3 and memory.
//! Run under `tests/env/with.sh postgres s3 --`; without a service its tests fail and say so.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod blobs;
mod child;
mod db;
mod folder;
mod garage;
mod jobs;
mod migrate;
mod outage;
mod proxy;
mod s3;
mod snapshot;
mod sqlite;
mod tls;

use pli_api::Time;
use pli_storage::{Db, DbOptions, testing};

/// A database and what must live as long as it.
struct Fresh {
    db: Db,
    url: String,
    _folder: Option<tempfile::TempDir>,
}

async fn sqlite() -> Fresh {
    sqlite_with(DbOptions::default()).await
}

async fn sqlite_with(options: DbOptions) -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("pli.db").display());
    Fresh { db: Db::open(&url, options).await.unwrap(), url, _folder: Some(folder) }
}

async fn postgres() -> Fresh {
    postgres_with(DbOptions::default()).await
}

async fn postgres_with(options: DbOptions) -> Fresh {
    let url = testing::postgres().await.unwrap();
    Fresh { db: Db::open(&url, options).await.unwrap(), url, _folder: None }
}

/// Seconds on the clock of a test.
fn at(seconds: i64) -> Time {
    Time::from_micros(1_790_000_000_000_000 + seconds * 1_000_000)
}

/// The clock of this machine, by which a store dates its objects.
#[expect(clippy::disallowed_methods, reason = "compared with times that a store gives")]
fn clock() -> Time {
    Time::from(std::time::SystemTime::now())
}

const SECOND: i64 = 1_000_000;

/// Runs each case on both databases, as tests of their own.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                super::$case(crate::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                super::$case(crate::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both;
