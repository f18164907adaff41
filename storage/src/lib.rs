//! What Pli keeps: rows in a database, objects in a store.
//!
//! Owns every connection to the database (SQLite or PostgreSQL, one SQL text) and to the object
//! store (a folder, S3, or memory), the leased jobs that serve as outbox, and the application of
//! migrations. Must never know what a row or an object means, decrypt anything, or let a type of a
//! database driver or of an S3 client out of this crate.
#![deny(missing_docs)]

pub mod blobs;
mod db;
mod jobs;
mod migrate;
pub mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod value;

pub use blobs::{BlobError, BlobReader, Blobs, Class, ObjectEntry, ObjectKey, ObjectMeta, S3Options};
pub use db::{ConflictKind, Db, DbError, DbOptions, Dialect, Sql, Tx};
pub use jobs::{AT_ONCE, JOBS_OWNER, Job, JobCount, JobFilter, JobRow, JobState, NewJob};
pub use migrate::{MigrateError, Migration};
pub use value::{Args, FromRow, Row, Value};
