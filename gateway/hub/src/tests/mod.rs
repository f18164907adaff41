//! The behaviour of the hub: each case on SQLite and on PostgreSQL, with real stores.
//!
//! Run under `tests/env/with.sh postgres --`; without PostgreSQL its half of the tests fails and says so.

mod access;
mod admin;
mod antivirus;
mod backup;
mod concatenation;
mod deposits;
mod downloads;
mod faults;
mod people;
mod retention;
mod secrecy;
mod uploads;
