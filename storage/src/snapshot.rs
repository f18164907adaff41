//! A database as a file: written while others go on writing, and read back into an empty one.
//!
//! Owns the choice of means: `VACUUM INTO` for SQLite, the programs `pg_dump` and `pg_restore` for PostgreSQL.
//! Must never put a password into an argument, or write over a database that holds something.

use crate::args;
use crate::db::{Db, DbError, DbOptions, Dialect, Pools, postgres_options, sorted, sqlite_path};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian and its kin keep the public authorities, for a libpq that is not told of any.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

impl Db {
    /// Writes what the database holds at one instant to a new file (mode 0600), durably. Reads and writes go on
    /// meanwhile. SQLite: a database of its own, without what was deleted; PostgreSQL: the custom format of
    /// `pg_dump`, which must not be older than the server.
    ///
    /// # Errors
    /// [`DbError::Full`]; [`DbError::Other`] when the file exists or `pg_dump` is not there or refuses.
    pub async fn save(&self, to: &Path) -> Result<(), DbError> {
        let file = new_file(to).map_err(|e| of_file(&e))?;
        match &self.pools {
            Pools::Sqlite { readers, .. } => {
                // On a connection of its own: it may take long, and the pool's have a limit of time.
                let options = readers.connect_options();
                let mut connection = options.connect().await.map_err(|e| sorted(&e))?;
                let to = to.to_str().ok_or_else(|| DbError::other("the path of the copy is not UTF-8"))?;
                let copied = sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await;
                copied.map_err(|e| sorted(&e))?;
                connection.close().await.map_err(|e| sorted(&e))?;
            }
            Pools::Postgres(pool) => {
                let mut dump = Command::new("pg_dump");
                dump.args(["--format=custom", "--no-owner", "--no-privileges"]);
                reach(&mut dump, &pool.connect_options());
                dump.stdout(file.try_clone().map_err(|e| of_file(&e))?);
                blocking(move || run(&mut dump)).await?;
            }
        }
        blocking(move || file.sync_all().map_err(|e| of_file(&e))).await
    }
}

/// Fills the database at `url` from a file that [`Db::save`] wrote of one of the same kind. All of it or nothing.
///
/// # Errors
/// [`DbError::Other`] when the database holds something, the file is not whole, or `pg_restore` is not there;
/// [`DbError::Full`], [`DbError::Unavailable`].
pub async fn restore(url: &str, from: &Path) -> Result<(), DbError> {
    if let Some(path) = sqlite_path(url) {
        require_empty(url).await?;
        let from = from.to_owned();
        return blocking(move || copy(&from, &path).map_err(|e| of_file(&e))).await;
    }
    let options = postgres_options(url, &DbOptions::default())?;
    require_empty(url).await?;
    let mut program = Command::new("pg_restore");
    program.args(["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]);
    let mut database = OsString::from("--dbname=");
    database.push(options.get_database().unwrap_or(options.get_username()));
    program.arg(database);
    program.arg(from);
    reach(&mut program, &options);
    program.stdout(Stdio::null());
    blocking(move || run(&mut program)).await
}

/// Refuses a database that holds anything.
///
/// # Errors
/// [`DbError::Other`] when it does; [`DbError::Unavailable`] when that cannot be known.
pub async fn require_empty(url: &str) -> Result<(), DbError> {
    let not_empty = || DbError::other("the database is not empty");
    if let Some(path) = sqlite_path(url) {
        for suffix in ["", "-wal"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            match std::fs::metadata(PathBuf::from(name)) {
                Ok(meta) if meta.len() > 0 => return Err(not_empty()),
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(of_file(&e)),
                _ => {}
            }
        }
        return Ok(());
    }
    let db = Db::open(url, DbOptions { max_connections: 1, ..DbOptions::default() }).await?;
    debug_assert_eq!(db.dialect(), Dialect::Postgres);
    let sql = "SELECT COUNT(*) AS n FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
               WHERE s.nspname <> 'information_schema' AND s.nspname NOT LIKE 'pg\\_%'";
    let row = db.optional(sql, args![]).await?;
    db.close().await;
    match row.map(|row| row.get::<i64>("n")).transpose()? {
        Some(0) => Ok(()),
        _ => Err(not_empty()),
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Under another name until it is whole.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut unfinished = to.as_os_str().to_owned();
    unfinished.push(".restoring");
    let unfinished = PathBuf::from(unfinished);
    match std::fs::remove_file(&unfinished) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = new_file(&unfinished)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Tells a program of PostgreSQL where the server is. By its environment: arguments are seen by everyone.
fn reach(program: &mut Command, options: &PgConnectOptions) {
    let url = options.to_url_lossy();
    match options.get_socket() {
        Some(socket) => program.env("PGHOST", socket),
        None => program.env("PGHOST", options.get_host().trim_matches(['[', ']'])),
    };
    program.env("PGPORT", options.get_port().to_string());
    program.env("PGUSER", options.get_username());
    program.env("PGDATABASE", options.get_database().unwrap_or(options.get_username()));
    program.env("PGAPPNAME", "pli").env("PGCONNECT_TIMEOUT", "10").env_remove("PGOPTIONS");
    if let Some(password) = url.password() {
        use std::os::unix::ffi::OsStringExt as _;
        program.env("PGPASSWORD", OsString::from_vec(percent_decoded(password)));
    }
    let mut verifies = false;
    for (name, value) in url.query_pairs() {
        let variable = match &*name {
            "sslmode" => {
                verifies = value.starts_with("verify-");
                "PGSSLMODE"
            }
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        program.env(variable, &*value);
    }
    let told = program.get_envs().any(|(name, _)| name == "PGSSLROOTCERT");
    if verifies && !told && std::env::var_os("PGSSLROOTCERT").is_none() && Path::new(AUTHORITIES).exists() {
        program.env("PGSSLROOTCERT", AUTHORITIES);
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let decoded = (byte == b'%').then(|| after.get(..2).and_then(|two| hex::decode(two).ok())).flatten();
        match decoded {
            Some(decoded) => {
                out.extend(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

fn run(program: &mut Command) -> Result<(), DbError> {
    let name = program.get_program().to_string_lossy().into_owned();
    let started = program.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let child = started.map_err(|e| match e.kind() {
        ErrorKind::NotFound => DbError::other(format!("{name} is not installed")),
        kind => DbError::other(format!("{name}: {kind}")),
    })?;
    let ended = child.wait_with_output().map_err(|e| of_file(&e))?;
    if ended.status.success() {
        return Ok(());
    }
    let said: String =
        String::from_utf8_lossy(&ended.stderr).lines().next().unwrap_or_default().chars().take(300).collect();
    let text = format!("{name} ended with {}: {said}", ended.status);
    if said.contains("No space left") { Err(DbError::Full(text)) } else { Err(DbError::Other(text)) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DbError> + Send + 'static,
) -> Result<T, DbError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| DbError::Unavailable("the work on a copy was interrupted".to_owned()))?
}

fn of_file(e: &io::Error) -> DbError {
    let text = format!("copy of the database: {}", e.kind());
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DbError::Full(text),
        _ => DbError::Other(text),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_back_as_it_was() {
        assert_eq!(percent_decoded("p%40ss%2Fw%C3%A9%"), "p@ss/wé%".as_bytes());
        assert_eq!(percent_decoded("a%zz%4"), b"a%zz%4");
    }

    #[test]
    fn no_password_is_an_argument() {
        let options: PgConnectOptions =
            "postgres://pli:s%40cret@db.example:5433/pli?sslmode=verify-full".parse().unwrap();
        let mut program = Command::new("pg_dump");
        reach(&mut program, &options);
        assert_eq!(program.get_args().count(), 0);
        let told = |name: &str| {
            program
                .get_envs()
                .find(|(n, _)| *n == name)
                .and_then(|(_, value)| value?.to_str().map(str::to_owned))
        };
        assert_eq!(told("PGPASSWORD").as_deref(), Some("s@cret"));
        assert_eq!(told("PGHOST").as_deref(), Some("db.example"));
        assert_eq!(told("PGPORT").as_deref(), Some("5433"));
        assert_eq!(told("PGDATABASE").as_deref(), Some("pli"));
        assert_eq!(told("PGSSLMODE").as_deref(), Some("verify-full"));
    }
}
