//! The behaviour of the hub: each case on SQLite and on PostgreSQL, with real stores.
//!
//! Run under `tests/env/with.sh postgres smtp --`; without PostgreSQL its half of the tests fails and says so, and
//! without the mail server those of `notices`.

mod access;
mod admin;
mod antivirus;
mod backup;
mod concatenation;
mod delegations;
mod deposits;
mod directory;
mod downloads;
mod experts;
mod faults;
mod holds;
mod journal;
mod message_access;
mod messages;
mod notices;
mod notices_access;
mod people;
mod procedures;
mod procedures_access;
mod receipts;
mod retention;
mod search;
mod secrecy;
mod standing;
mod uploads;
mod volume;
mod webhooks;
mod withdrawal;
