//! The database: SQLite or PostgreSQL behind one pair of types, [`Db`] and [`Tx`].
//!
//! Owns connections, transactions and the sorting of errors. Must never put a connection that was
//! interrupted in the middle of something back to use, say that a commit was done when a statement
//! of it had failed, or let a value of a row into an error's text.
//!
//! What holds on both databases:
//! - A [`Db::read`] sees one state of the database from its first statement to its last.
//! - A [`Db::write`] is alone on SQLite; on PostgreSQL it runs at READ COMMITTED, so that a decision
//!   taken from rows read before must be written by compare-and-set (`UPDATE … WHERE state = $2`) or
//!   taken under [`Tx::lock`].
//! - After a statement of a transaction has failed, nothing of it can be committed. What may collide
//!   is written with `ON CONFLICT`.
//! - A transaction dropped without [`Tx::commit`] changes nothing.

use crate::value::{Args, Row, RowOf};
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, PgPool, Postgres, SqlSafeStr, SqlStr, Sqlite, SqlitePool};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the database did not do what was asked. No text holds a value of a row.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be reached, is overloaded, or chose this transaction to end a deadlock: the same
    /// transaction may succeed later. After a failed *commit* it is unknown whether it was done.
    ///
    /// Connection failures, pool and statement time-outs, SQLSTATE classes 08, 53 (but 53100), 58,
    /// and 57P0x, 57014, 40xxx, 55P03, 25006, 25P03; `SQLITE_BUSY`, `_LOCKED`, `_IOERR`, `_CANTOPEN`.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// A constraint refuses the data: the same transaction would be refused again. SQLSTATE class
    /// 23, `SQLITE_CONSTRAINT`.
    #[error("refused by a constraint of the database: {detail}")]
    Conflict {
        /// Which kind of constraint.
        kind: ConflictKind,
        /// Table, column or constraint named by the database.
        detail: String,
    },
    /// The database's disk is full. SQLSTATE 53100, `SQLITE_FULL`.
    #[error("no room left for the database: {0}")]
    Full(String),
    /// Anything else: a fault in the program, in the schema or in the configuration.
    #[error("database: {0}")]
    Other(String),
}

/// The kind of constraint behind a [`DbError::Conflict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictKind {
    /// A primary key or a unique index.
    Unique,
    /// A foreign key.
    ForeignKey,
    /// NOT NULL, CHECK and the rest.
    Other,
}

impl DbError {
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// Whether a unique index or primary key refused.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Conflict { kind: ConflictKind::Unique, .. })
    }
}

/// The text of a statement. A literal converts by itself; a text put together at run time must say
/// so, because no value from outside may be part of it.
#[derive(Clone, Debug)]
pub struct Sql(SqlStr);

impl Sql {
    /// A text put together from literals and placeholders only.
    #[must_use]
    pub fn assembled(text: String) -> Self {
        Self(AssertSqlSafe(text).into_sql_str())
    }
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self(SqlStr::from_static(text))
    }
}

/// Which database is behind a [`Db`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite, a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// How a [`Db`] behaves.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// Most connections to PostgreSQL, or most readers of SQLite (which has one writer besides).
    pub max_connections: u32,
    /// How long to wait for a connection, the opening of one included; on SQLite also for the turn
    /// to write. Then [`DbError::Unavailable`].
    pub acquire_timeout: Duration,
    /// How long a statement may run. PostgreSQL is told too, so that it stops its work.
    pub statement_timeout: Duration,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

/// A database. Clones share their connections.
#[derive(Clone)]
pub struct Db {
    pub(crate) pools: Pools,
    options: DbOptions,
}

#[derive(Clone)]
pub(crate) enum Pools {
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres(PgPool),
}

impl std::fmt::Debug for Db {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dialect", &self.dialect()).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens `sqlite:/path/to/file` (made when absent, mode 0600) or `postgres://…`.
    ///
    /// A PostgreSQL that is not on this machine is reached with `sslmode=verify-full` unless the
    /// address says another mode; `sslrootcert` names an authority to be trusted besides the public ones.
    ///
    /// # Errors
    /// [`DbError::Other`] for an address that makes no sense or a database that is not UTF-8;
    /// [`DbError::Unavailable`] when it cannot be reached.
    pub async fn open(url: &str, options: DbOptions) -> Result<Self, DbError> {
        let pools = match url.split_once(':') {
            Some(("sqlite", rest)) => open_sqlite(rest, &options).await?,
            Some(("postgres" | "postgresql", _)) => Pools::Postgres(open_postgres(url, &options).await?),
            _ => return Err(DbError::other("the address starts neither with sqlite: nor with postgres:")),
        };
        let db = Self { pools, options };
        db.check_server().await?;
        Ok(db)
    }

    /// Which database this is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self.pools {
            Pools::Sqlite { .. } => Dialect::Sqlite,
            Pools::Postgres(_) => Dialect::Postgres,
        }
    }

    /// A transaction that writes. Keep it short: on SQLite there is one at a time.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when no connection is had within [`DbOptions::acquire_timeout`].
    pub async fn write(&self) -> Result<Tx, DbError> {
        self.begin(true).await
    }

    /// A transaction that reads one state of the database. A statement that writes fails in it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn read(&self) -> Result<Tx, DbError> {
        self.begin(false).await
    }

    /// One reading statement by itself, at most one row: one round trip where [`Self::read`] costs three.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn optional(&self, sql: impl Into<Sql>, args: Args) -> Result<Option<Row>, DbError> {
        let sql = sql.into();
        let mut tx = self.acquire(false).await?;
        match tx.optional(sql.clone(), args.clone()).await {
            // The connection had died while it waited in the pool.
            Err(DbError::Unavailable(_)) if tx.state == State::Broken => {
                drop(tx);
                self.read().await?.optional(sql, args).await
            }
            done => done,
        }
    }

    /// One reading statement by itself, all rows.
    ///
    /// # Errors
    /// Any [`DbError`].
    pub async fn rows(&self, sql: impl Into<Sql>, args: Args) -> Result<Vec<Row>, DbError> {
        let sql = sql.into();
        let mut tx = self.acquire(false).await?;
        match tx.rows(sql.clone(), args.clone()).await {
            Err(DbError::Unavailable(_)) if tx.state == State::Broken => {
                drop(tx);
                self.read().await?.rows(sql, args).await
            }
            done => done,
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), DbError> {
        self.optional("SELECT 1 AS one", Args::default()).await.map(drop)
    }

    /// Closes every connection, after the transactions under way have ended.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    async fn begin(&self, write: bool) -> Result<Tx, DbError> {
        let text = match (self.dialect(), write) {
            (Dialect::Sqlite, true) => "BEGIN IMMEDIATE",
            (Dialect::Sqlite, false) => "BEGIN",
            (Dialect::Postgres, true) => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            (Dialect::Postgres, false) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        // After an outage every pooled connection is dead: each is found out by its BEGIN, which has
        // changed nothing, and the next is tried.
        let attempts = async {
            let mut left = self.options.max_connections;
            loop {
                let mut tx = self.acquire(write).await?;
                tx.in_transaction = true;
                match tx.raw(SqlStr::from_static(text)).await {
                    Ok(()) => return Ok(tx),
                    Err(_) if tx.state == State::Broken && left > 0 => left -= 1,
                    Err(e) => return Err(e),
                }
            }
        };
        let limit = self.options.acquire_timeout.saturating_mul(2);
        match tokio::time::timeout(limit, attempts).await {
            Ok(tx) => tx,
            Err(_) => Err(DbError::Unavailable("no transaction could be started in time".to_owned())),
        }
    }

    /// A connection outside a transaction.
    async fn acquire(&self, write: bool) -> Result<Tx, DbError> {
        let held = match &self.pools {
            Pools::Sqlite { writer, .. } if write => writer.acquire().await.map(Held::Sqlite),
            Pools::Sqlite { readers, .. } => readers.acquire().await.map(Held::Sqlite),
            Pools::Postgres(pool) => pool.acquire().await.map(Held::Postgres),
        };
        Ok(Tx {
            held: held.map_err(|e| sort(&e).0)?,
            state: State::Open,
            in_transaction: false,
            // PostgreSQL stops the statement first; this is for a server that no longer answers.
            limit: Some(self.options.statement_timeout.saturating_add(Duration::from_secs(2))),
        })
    }

    /// A transaction without a limit of time, for migrations.
    pub(crate) async fn write_unhurried(&self) -> Result<Tx, DbError> {
        let mut tx = self.write().await?;
        tx.limit = None;
        if self.dialect() == Dialect::Postgres {
            tx.raw(SqlStr::from_static("SET LOCAL statement_timeout = 0")).await?;
        }
        Ok(tx)
    }

    async fn check_server(&self) -> Result<(), DbError> {
        if self.dialect() == Dialect::Sqlite {
            return self.ping().await;
        }
        for (setting, sql) in [
            ("server_encoding", "SELECT current_setting('server_encoding') AS value"),
            ("fsync", "SELECT current_setting('fsync') AS value"),
            ("synchronous_commit", "SELECT current_setting('synchronous_commit') AS value"),
        ] {
            let row = self.optional(sql, Args::default()).await?;
            let value: String = row.ok_or_else(no_row)?.get("value")?;
            match (setting, value.as_str()) {
                ("server_encoding", "UTF8") => {}
                ("server_encoding", other) => {
                    return Err(DbError::other(format!(
                        "the database's encoding is {other}: it must be UTF8"
                    )));
                }
                (_, "off") => {
                    tracing::warn!(
                        setting,
                        "PostgreSQL setting is off: a commit does not survive a power cut"
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn no_row() -> DbError {
    DbError::other("no row where one was expected")
}

/// The file of an address that begins with `sqlite:`.
pub(crate) fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    Some(PathBuf::from(rest.strip_prefix("//").unwrap_or(rest)))
}

async fn open_sqlite(rest: &str, options: &DbOptions) -> Result<Pools, DbError> {
    let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
    if path.as_os_str().is_empty() || rest.contains(":memory:") {
        return Err(DbError::other("SQLite needs the path of a file"));
    }
    create_file(&path).map_err(|e| {
        let text = format!("database file: {e}");
        match e.kind() {
            std::io::ErrorKind::StorageFull => DbError::Full(text),
            _ => DbError::Other(text),
        }
    })?;
    let common = SqliteConnectOptions::new()
        .filename(&path)
        .foreign_keys(true)
        .busy_timeout(options.acquire_timeout)
        .statement_cache_capacity(300)
        // Sorting spills to memory, never to a file beside the database.
        .pragma("temp_store", "MEMORY");
    let writer = common
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        // FULL syncs the log at every commit: a commit survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        // A deleted row is overwritten: a wrapped key that was erased is gone from the file.
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", "67108864");
    let readers = common.read_only(true);
    let pool = |most: u32| {
        PoolOptions::<Sqlite>::new()
            .max_connections(most)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    // The writer first: it makes the log that the readers need.
    let writer = pool(1).connect_with(writer).await.map_err(|e| sort(&e).0)?;
    let readers = pool(options.max_connections.max(1)).connect_lazy_with(readers);
    Ok(Pools::Sqlite { writer, readers })
}

/// The file with mode 0600, which SQLite then gives to its log too; durable before it is used.
fn create_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all()?,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) => return Err(e),
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    std::fs::File::open(folder)?.sync_all()
}

async fn open_postgres(url: &str, options: &DbOptions) -> Result<PgPool, DbError> {
    let to = postgres_options(url, options)?;
    PoolOptions::<Postgres>::new()
        .max_connections(options.max_connections.max(1))
        .acquire_timeout(options.acquire_timeout)
        // A dead connection is found out by its BEGIN (see `begin`), without a round trip more.
        .test_before_acquire(false)
        .connect_with(to)
        .await
        .map_err(|e| sort(&e).0)
}

pub(crate) fn postgres_options(url: &str, options: &DbOptions) -> Result<PgConnectOptions, DbError> {
    // The driver's own text may repeat the address, and with it a password.
    let mut to: PgConnectOptions =
        url.parse().map_err(|_| DbError::other("the postgres: address cannot be read"))?;
    let host = to.get_host().trim_matches(['[', ']']);
    let local = to.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let said =
        url.contains("sslmode=") || url.contains("ssl-mode=") || std::env::var_os("PGSSLMODE").is_some();
    if !local && !said {
        to = to.ssl_mode(PgSslMode::VerifyFull);
    }
    if !local && !matches!(to.get_ssl_mode(), PgSslMode::VerifyFull | PgSslMode::VerifyCa) {
        tracing::warn!("PostgreSQL on another machine is reached without checking its certificate");
    }
    let statement = options.statement_timeout.as_millis().to_string();
    let idle = options.statement_timeout.saturating_mul(2).as_millis().to_string();
    Ok(to.application_name("pli").statement_cache_capacity(300).options([
        ("statement_timeout", statement.as_str()),
        // A process that was stopped in the middle must not keep its row locks for ever.
        ("idle_in_transaction_session_timeout", idle.as_str()),
    ]))
}

/// A transaction. Dropped without [`Tx::commit`], it changes nothing.
pub struct Tx {
    held: Held,
    state: State,
    in_transaction: bool,
    /// Most time a statement may take.
    limit: Option<Duration>,
}

enum Held {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    /// Given back.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ready for a statement.
    Open,
    /// A statement is under way, or was when its future was dropped.
    Busy,
    /// A statement was refused: only a rollback is left.
    Failed,
    /// The connection is of no more use.
    Broken,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tx").field("state", &self.state).finish_non_exhaustive()
    }
}

/// Runs one query method on whichever connection is held.
macro_rules! run {
    ($tx:ident, $sql:ident, $args:ident, $method:ident, $sqlite:expr, $postgres:expr) => {{
        let sql = $sql.into().0;
        $tx.ready()?;
        // Left in place when this future is dropped half-way.
        $tx.state = State::Busy;
        let limit = $tx.limit;
        let done = match &mut $tx.held {
            Held::Sqlite(c) => match $args.for_sqlite() {
                Ok(args) => within(limit, sqlx::query_with::<Sqlite, _>(sql, args).$method(&mut **c))
                    .await
                    .map($sqlite)
                    .map_err(|e| sort(&e)),
                Err(e) => Err((e, State::Failed)),
            },
            Held::Postgres(c) => match $args.for_postgres() {
                Ok(args) => within(limit, sqlx::query_with::<Postgres, _>(sql, args).$method(&mut **c))
                    .await
                    .map($postgres)
                    .map_err(|e| sort(&e)),
                Err(e) => Err((e, State::Failed)),
            },
            Held::Gone => Err((over(), State::Broken)),
        };
        $tx.settle(done)
    }};
}

impl Tx {
    /// Runs a statement; gives the number of rows it changed.
    ///
    /// # Errors
    /// Any [`DbError`]; the transaction can then only be given up.
    pub async fn execute(&mut self, sql: impl Into<Sql>, args: Args) -> Result<u64, DbError> {
        run!(self, sql, args, execute, |d| d.rows_affected(), |d| d.rows_affected())
    }

    /// Runs a statement; gives all rows of its answer.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn rows(&mut self, sql: impl Into<Sql>, args: Args) -> Result<Vec<Row>, DbError> {
        run!(
            self,
            sql,
            args,
            fetch_all,
            |rows| rows.into_iter().map(|r| Row(RowOf::Sqlite(r))).collect(),
            |rows| rows.into_iter().map(|r| Row(RowOf::Postgres(r))).collect()
        )
    }

    /// Runs a statement; gives the first row of its answer, if any.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn optional(&mut self, sql: impl Into<Sql>, args: Args) -> Result<Option<Row>, DbError> {
        run!(self, sql, args, fetch_optional, |row| row.map(|r| Row(RowOf::Sqlite(r))), |row| row
            .map(|r| Row(RowOf::Postgres(r))))
    }

    /// Runs a statement; gives the first row of its answer.
    ///
    /// # Errors
    /// As [`Self::execute`]; [`DbError::Other`] when there is no row.
    pub async fn one(&mut self, sql: impl Into<Sql>, args: Args) -> Result<Row, DbError> {
        self.optional(sql, args).await?.ok_or_else(no_row)
    }

    /// Waits until no other transaction holds the lock of this name, then holds it to the end. On
    /// SQLite a writing transaction is alone already. For decisions that are taken from a sum over
    /// several rows, such as a quota.
    ///
    /// # Errors
    /// As [`Self::execute`].
    pub async fn lock(&mut self, name: &str) -> Result<(), DbError> {
        if matches!(self.held, Held::Postgres(_)) {
            use sha2::Digest;
            let digest = sha2::Sha256::digest(name.as_bytes());
            let mut first = [0; 8];
            first.copy_from_slice(digest.get(..8).unwrap_or(&[0; 8]));
            self.rows("SELECT pg_advisory_xact_lock($1)", crate::args![i64::from_be_bytes(first)]).await?;
        }
        Ok(())
    }

    /// Makes everything durable, or nothing.
    ///
    /// # Errors
    /// [`DbError::Other`] when a statement had failed before: nothing was done. After
    /// [`DbError::Unavailable`] it is unknown whether it was done. Otherwise nothing was done.
    pub async fn commit(mut self) -> Result<(), DbError> {
        self.raw(SqlStr::from_static("COMMIT")).await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Gives up everything. The same as dropping, but waits until it is done.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] when the connection is lost; nothing is changed then either.
    pub async fn rollback(mut self) -> Result<(), DbError> {
        if self.state == State::Failed {
            self.state = State::Open;
        }
        self.raw(SqlStr::from_static("ROLLBACK")).await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Statements without arguments, several at once.
    pub(crate) async fn raw(&mut self, sql: SqlStr) -> Result<(), DbError> {
        self.ready()?;
        self.state = State::Busy;
        let limit = self.limit;
        let done = match &mut self.held {
            Held::Sqlite(c) => {
                within(limit, sqlx::raw_sql(sql).execute(&mut **c)).await.map(drop).map_err(|e| sort(&e))
            }
            Held::Postgres(c) => {
                within(limit, sqlx::raw_sql(sql).execute(&mut **c)).await.map(drop).map_err(|e| sort(&e))
            }
            Held::Gone => Err((over(), State::Broken)),
        };
        self.settle(done)
    }

    fn ready(&self) -> Result<(), DbError> {
        match self.state {
            State::Open => Ok(()),
            State::Failed => {
                Err(DbError::other("a statement of this transaction failed before: only a rollback is left"))
            }
            State::Busy | State::Broken => Err(over()),
        }
    }

    fn settle<T>(&mut self, done: Result<T, (DbError, State)>) -> Result<T, DbError> {
        match done {
            Ok(value) => {
                self.state = State::Open;
                Ok(value)
            }
            Err((error, state)) => {
                self.state = state;
                Err(error)
            }
        }
    }
}

fn over() -> DbError {
    DbError::Unavailable("the connection of this transaction is lost".to_owned())
}

impl Drop for Tx {
    fn drop(&mut self) {
        let mut held = std::mem::replace(&mut self.held, Held::Gone);
        match self.state {
            // The driver may have written half a message: nothing can be said on this connection.
            State::Busy | State::Broken => held.close(),
            State::Open | State::Failed if !self.in_transaction => {}
            State::Open | State::Failed => match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    runtime.spawn(async move {
                        if !held.roll_back().await {
                            held.close();
                        }
                    });
                }
                Err(_) => held.close(),
            },
        }
    }
}

impl Held {
    /// Closes the connection instead of giving it back; the database then gives up its transaction.
    fn close(&mut self) {
        match self {
            Self::Sqlite(c) => c.close_on_drop(),
            Self::Postgres(c) => c.close_on_drop(),
            Self::Gone => {}
        }
    }

    /// Whether the connection is outside any transaction now. SQLite refuses when it has given up the
    /// transaction by itself (disk full): the connection is then closed, to be certain.
    async fn roll_back(&mut self) -> bool {
        let sql = SqlStr::from_static("ROLLBACK");
        let limit = Some(Duration::from_secs(5));
        match self {
            Self::Sqlite(c) => within(limit, sqlx::raw_sql(sql).execute(&mut **c)).await.is_ok(),
            Self::Postgres(c) => within(limit, sqlx::raw_sql(sql).execute(&mut **c)).await.is_ok(),
            Self::Gone => true,
        }
    }
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match limit {
        None => work.await,
        Some(limit) => match tokio::time::timeout(limit, work).await {
            Ok(done) => done,
            Err(_) => Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))),
        },
    }
}

/// What an error of the driver is, outside a transaction.
pub(crate) fn sorted(error: &sqlx::Error) -> DbError {
    sort(error).0
}

/// Sorts a driver's error, and says what is left of its connection.
fn sort(error: &sqlx::Error) -> (DbError, State) {
    use sqlx::Error as E;
    match error {
        E::Database(e) => match e.try_downcast_ref::<PgDatabaseError>() {
            Some(e) => sort_postgres(e),
            None => sort_sqlite(e.as_ref()),
        },
        E::Io(e) => (DbError::Unavailable(format!("connection: {}", e.kind())), State::Broken),
        E::Tls(e) => (DbError::Unavailable(format!("TLS: {e}")), State::Broken),
        E::Protocol(_) => (DbError::Unavailable("protocol error".to_owned()), State::Broken),
        E::PoolTimedOut => (DbError::Unavailable("no connection in time".to_owned()), State::Broken),
        E::PoolClosed => (DbError::Unavailable("closed".to_owned()), State::Broken),
        E::WorkerCrashed => (DbError::Unavailable("SQLite thread ended".to_owned()), State::Broken),
        // Decoding, columns, arguments: the text may quote a value, so it is left out.
        E::ColumnNotFound(name) => (DbError::Other(format!("no column {name}")), State::Failed),
        E::Configuration(_) => (DbError::other("configuration of the connection"), State::Broken),
        _ => (DbError::other("unexpected answer of the driver"), State::Broken),
    }
}

fn sort_postgres(e: &PgDatabaseError) -> (DbError, State) {
    let code = e.code();
    let class = code.get(..2).unwrap_or("");
    let text = || format!("{code} {}", e.message());
    match (class, code) {
        ("23", _) => {
            let kind = match code {
                "23505" => ConflictKind::Unique,
                "23503" => ConflictKind::ForeignKey,
                _ => ConflictKind::Other,
            };
            let named = e.constraint().or(e.column()).or(e.table()).unwrap_or("unnamed");
            (DbError::Conflict { kind, detail: format!("{code} {named}") }, State::Failed)
        }
        (_, "53100") => (DbError::Full(text()), State::Failed),
        // The server has ended, or is about to end, this connection.
        ("08", _) | (_, "57P01" | "57P02" | "57P03" | "57P05" | "25P03") => {
            (DbError::Unavailable(text()), State::Broken)
        }
        ("40" | "53" | "58", _) | (_, "57014" | "55P03" | "25006") => {
            (DbError::Unavailable(text()), State::Failed)
        }
        // A statement prepared before another node's migration: a new connection prepares it anew.
        (_, "0A000") if e.message().contains("cached plan") => (DbError::Unavailable(text()), State::Broken),
        // Class 22 (data exceptions) quotes the data.
        ("22", _) => (DbError::Other(format!("{code} data exception")), State::Failed),
        _ => (DbError::Other(text()), State::Failed),
    }
}

fn sort_sqlite(e: &dyn sqlx::error::DatabaseError) -> (DbError, State) {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const IOERR: u32 = 10;
    const FULL: u32 = 13;
    const CANTOPEN: u32 = 14;
    const CONSTRAINT: u32 = 19;
    const IOERR_SHMSIZE: u32 = 10 | (19 << 8);
    let extended: u32 = e.code().and_then(|c| c.parse().ok()).unwrap_or(0);
    let text = || format!("SQLite {extended}: {}", e.message());
    let error = match extended & 0xff {
        CONSTRAINT => {
            let kind = match e.kind() {
                sqlx::error::ErrorKind::UniqueViolation => ConflictKind::Unique,
                sqlx::error::ErrorKind::ForeignKeyViolation => ConflictKind::ForeignKey,
                _ => ConflictKind::Other,
            };
            DbError::Conflict { kind, detail: text() }
        }
        FULL => DbError::Full(text()),
        // The shared index of the log could not grow.
        IOERR if extended == IOERR_SHMSIZE => DbError::Full(text()),
        BUSY | LOCKED | IOERR | CANTOPEN => DbError::Unavailable(text()),
        _ => DbError::Other(text()),
    };
    (error, State::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_checked_unless_told_otherwise() {
        let mode = |url: &str| match postgres_options(url, &DbOptions::default()) {
            Ok(to) => to.get_ssl_mode(),
            Err(e) => unreachable!("{e}"),
        };
        for remote in
            ["postgres://pli@db.example/pli", "postgresql://192.0.2.7/pli", "postgres://[2001:db8::1]/pli"]
        {
            assert!(matches!(mode(remote), PgSslMode::VerifyFull), "{remote}");
        }
        assert!(matches!(mode("postgres://db.example/pli?sslmode=disable"), PgSslMode::Disable));
        for local in [
            "postgres://localhost/pli",
            "postgres://127.0.0.1:5433/pli",
            "postgres://[::1]/pli",
            "postgres:///pli?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/pli",
        ] {
            assert!(matches!(mode(local), PgSslMode::Prefer), "{local}");
        }
    }
}
