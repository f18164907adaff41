//! Migrations: each owner (the hub, a connector, this crate) brings its own, kept in its own table
//! `OWNER_migrations`.
//!
//! Owns their order and their check. Must never apply a migration twice, run beside another node
//! that migrates, or go on when what was applied is not what this program knows.

use crate::args;
use crate::db::{Db, DbError, Sql};
use sha2::{Digest, Sha256};

/// One step of an owner's schema. Once released it never changes: a correction is a new step.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its place, from 1 upwards.
    pub version: i64,
    /// What it does, in a few words.
    pub name: &'static str,
    /// Statements separated by semicolons, the same text for both databases.
    pub sql: &'static str,
}

/// Why the schema could not be brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The owner's name is not `[a-z][a-z0-9_]*`.
    #[error("migrations: {0:?} cannot be an owner's name")]
    Owner(&'static str),
    /// The list is not in the order of its versions, or not from 1 upwards.
    #[error("migrations of {owner}: version {version} is out of order")]
    Order {
        /// Whose.
        owner: &'static str,
        /// The version in the wrong place.
        version: i64,
    },
    /// A migration was applied with another text.
    #[error("migrations of {owner}: version {version} was applied with another text")]
    Edited {
        /// Whose.
        owner: &'static str,
        /// Which.
        version: i64,
    },
    /// The database was migrated by a newer program.
    #[error("migrations of {owner}: the database has version {version}, which this program does not know")]
    Newer {
        /// Whose.
        owner: &'static str,
        /// The version found.
        version: i64,
    },
    /// A migration is listed before one that was applied, but was not applied itself.
    #[error("migrations of {owner}: version {version} was passed over")]
    PassedOver {
        /// Whose.
        owner: &'static str,
        /// Which.
        version: i64,
    },
    /// The database refused.
    #[error("migrations of {owner}, version {version}")]
    Failed {
        /// Whose.
        owner: &'static str,
        /// Which.
        version: i64,
        /// Why.
        #[source]
        source: DbError,
    },
    /// The database, outside any one migration.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Db {
    /// Applies what is missing of an owner's migrations, all of it in one transaction. Nodes that
    /// start together wait for each other.
    ///
    /// # Errors
    /// [`MigrateError`]; nothing was changed then.
    pub async fn migrate(&self, owner: &'static str, migrations: &[Migration]) -> Result<(), MigrateError> {
        let named = owner.starts_with(|c: char| c.is_ascii_lowercase())
            && owner.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !named {
            return Err(MigrateError::Owner(owner));
        }
        let mut last = 0;
        for m in migrations {
            if m.version <= last {
                return Err(MigrateError::Order { owner, version: m.version });
            }
            last = m.version;
        }
        let mut tx = self.write_unhurried().await?;
        tx.lock("pli migrations").await?;
        tx.execute(
            Sql::assembled(format!(
                "CREATE TABLE IF NOT EXISTS {owner}_migrations (version BIGINT NOT NULL PRIMARY KEY, \
                 name TEXT NOT NULL, checksum BYTEA NOT NULL)"
            )),
            args![],
        )
        .await?;
        let rows = tx
            .rows(
                Sql::assembled(format!("SELECT version, checksum FROM {owner}_migrations ORDER BY version")),
                args![],
            )
            .await?;
        let mut applied = std::collections::BTreeMap::new();
        for row in rows {
            applied.insert(row.get::<i64>("version")?, row.get::<Vec<u8>>("checksum")?);
        }
        let newest = applied.keys().next_back().copied().unwrap_or(0);
        for m in migrations {
            let checksum = Sha256::digest(m.sql.as_bytes());
            match applied.remove(&m.version) {
                Some(was) if was == checksum.as_slice() => continue,
                Some(_) => return Err(MigrateError::Edited { owner, version: m.version }),
                None if m.version < newest => {
                    return Err(MigrateError::PassedOver { owner, version: m.version });
                }
                None => {}
            }
            let failed = |source| MigrateError::Failed { owner, version: m.version, source };
            tx.raw(sqlx::SqlStr::from_static(m.sql)).await.map_err(failed)?;
            tx.execute(
                Sql::assembled(format!(
                    "INSERT INTO {owner}_migrations (version, name, checksum) VALUES ($1, $2, $3)"
                )),
                args![m.version, m.name, checksum.as_slice()],
            )
            .await
            .map_err(failed)?;
            tracing::info!(owner, version = m.version, name = m.name, "migration applied");
        }
        if let Some(version) = applied.keys().next_back().copied() {
            return Err(MigrateError::Newer { owner, version });
        }
        tx.commit().await?;
        Ok(())
    }
}
