//! PostgreSQL that stops, hangs, refuses: sorted as promised, and recovered from by itself.

use crate::proxy::Proxy;
use pli_storage::{ConflictKind, Db, DbError, DbOptions, args, testing};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A cluster of this test's own, because it is stopped.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The user postgres passes through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let cluster = Self { folder };
        cluster.script(&["start"]);
        cluster
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("postgres")
    }

    pub(crate) fn script(&self, line: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/env/postgres.sh");
        let (action, rest) = line.split_first().unwrap();
        let out = Command::new(script).arg(action).arg(self.path()).args(rest).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script(&["stop", "immediate"]);
    }
}

fn options() -> DbOptions {
    DbOptions {
        max_connections: 6,
        acquire_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_secs(10),
    }
}

async fn table(db: &Db) {
    let mut tx = db.write().await.unwrap();
    tx.execute("CREATE TABLE t (a BIGINT NOT NULL PRIMARY KEY)", args![]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn add(db: &Db, a: i64) -> Result<(), DbError> {
    let mut tx = db.write().await?;
    tx.execute("INSERT INTO t (a) VALUES ($1)", args![a]).await?;
    tx.commit().await
}

/// So that every connection of the pool is open.
async fn fill(db: &Db) {
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(db.read().await.unwrap());
    }
}

fn unavailable<T: std::fmt::Debug>(done: Result<T, DbError>) {
    assert!(matches!(done, Err(DbError::Unavailable(_))), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_and_comes_back() {
    let cluster = Cluster::start();
    let url = testing::postgres_on(&cluster.script(&["url"])).await.unwrap();
    let db = Db::open(&url, options()).await.unwrap();
    table(&db).await;
    for (round, mode) in ["immediate", "fast"].into_iter().enumerate() {
        let base = i64::try_from(round).unwrap() * 10;
        add(&db, base).await.unwrap();
        fill(&db).await;
        let mut tx = db.write().await.unwrap();
        tx.execute("INSERT INTO t (a) VALUES ($1)", args![base + 1]).await.unwrap();
        cluster.script(&["stop", mode]);
        // In the middle of a transaction, at its start, and for a single statement.
        unavailable(tx.execute("INSERT INTO t (a) VALUES ($1)", args![base + 2]).await);
        unavailable(tx.commit().await);
        unavailable(db.write().await);
        unavailable(db.read().await);
        unavailable(db.ping().await);
        cluster.script(&["start"]);
        // The first calls after it succeed, though the pool was full of dead connections.
        db.ping().await.unwrap();
        add(&db, base + 3).await.unwrap();
        let mut tx = db.read().await.unwrap();
        let row = tx.one("SELECT COUNT(*) AS n FROM t WHERE a >= $1", args![base]).await.unwrap();
        assert_eq!(row.get::<i64>("n").unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_unseen() {
    let cluster = Cluster::start();
    let url = testing::postgres_on(&cluster.script(&["url"])).await.unwrap();
    let db = Db::open(&url, options()).await.unwrap();
    table(&db).await;
    for n in 0..3i64 {
        fill(&db).await;
        cluster.script(&["stop", "immediate"]);
        cluster.script(&["start"]);
        // Nobody has noticed anything: the first call finds only dead connections.
        match n {
            0 => add(&db, n).await.unwrap(),
            1 => db.ping().await.unwrap(),
            _ => db.read().await.map(drop).unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_longer_answers() {
    let url = testing::postgres().await.unwrap();
    let (head, name) = url.rsplit_once('/').unwrap();
    let (head, port) = head.rsplit_once(':').unwrap();
    let proxy = Proxy::to(([127, 0, 0, 1], port.parse().unwrap()).into()).await;
    let through = format!("{head}:{}/{name}", proxy.address.port());
    let options = DbOptions { statement_timeout: Duration::from_millis(500), ..options() };
    let db = Db::open(&through, options).await.unwrap();
    table(&db).await;
    let mut tx = db.write().await.unwrap();
    tx.execute("INSERT INTO t (a) VALUES (1)", args![]).await.unwrap();
    proxy.hold(true);
    unavailable(tx.execute("INSERT INTO t (a) VALUES (2)", args![]).await);
    drop(tx);
    unavailable(db.write().await);
    unavailable(db.ping().await);
    proxy.hold(false);
    add(&db, 3).await.unwrap();
    let rows = db.rows("SELECT a FROM t", args![]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long() {
    let options = DbOptions { statement_timeout: Duration::from_millis(200), ..options() };
    let f = crate::postgres_with(options).await;
    table(&f.db).await;
    let mut tx = f.db.write().await.unwrap();
    let e = tx.rows("SELECT pg_sleep(60)", args![]).await.unwrap_err();
    assert!(matches!(&e, DbError::Unavailable(text) if text.starts_with("57014")), "{e}");
    drop(tx);
    add(&f.db, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_left() {
    let options = DbOptions { max_connections: 1, acquire_timeout: Duration::from_millis(200), ..options() };
    let f = crate::postgres_with(options).await;
    let held = f.db.write().await.unwrap();
    unavailable(f.db.write().await);
    drop(held);
    f.db.write().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_ends_with_one_winner() {
    let f = crate::postgres().await;
    table(&f.db).await;
    add(&f.db, 1).await.unwrap();
    add(&f.db, 2).await.unwrap();
    let touch = "UPDATE t SET a = a WHERE a = $1";
    let mut one = f.db.write().await.unwrap();
    let mut two = f.db.write().await.unwrap();
    one.execute(touch, args![1]).await.unwrap();
    two.execute(touch, args![2]).await.unwrap();
    let (a, b) = tokio::join!(
        async {
            one.execute(touch, args![2]).await?;
            one.commit().await
        },
        async {
            two.execute(touch, args![1]).await?;
            two.commit().await
        }
    );
    assert!(a.is_ok() != b.is_ok());
    unavailable(if a.is_err() { a } else { b });
}

/// The server itself raises each code; what we call it is the promise of `DbError`.
#[tokio::test(flavor = "multi_thread")]
async fn codes_are_sorted() {
    let f = crate::postgres().await;
    for (code, sorted) in [
        ("23505", "unique"),
        ("23503", "foreign key"),
        ("23502", "conflict"),
        ("23514", "conflict"),
        ("53100", "full"),
        ("53200", "unavailable"),
        ("53300", "unavailable"),
        ("40001", "unavailable"),
        ("40P01", "unavailable"),
        ("57014", "unavailable"),
        ("57P01", "unavailable"),
        ("57P03", "unavailable"),
        ("08006", "unavailable"),
        ("25006", "unavailable"),
        ("55P03", "unavailable"),
        ("58030", "unavailable"),
        ("22P02", "other"),
        ("42601", "other"),
    ] {
        let sql = format!("DO $$ BEGIN RAISE EXCEPTION 'Mme Untel' USING ERRCODE = '{code}'; END $$");
        let mut tx = f.db.write().await.unwrap();
        let e = tx.execute(pli_storage::Sql::assembled(sql), args![]).await.unwrap_err();
        let is = match &e {
            DbError::Conflict { kind: ConflictKind::Unique, .. } => "unique",
            DbError::Conflict { kind: ConflictKind::ForeignKey, .. } => "foreign key",
            DbError::Conflict { .. } => "conflict",
            DbError::Full(_) => "full",
            DbError::Unavailable(_) => "unavailable",
            DbError::Other(_) => "other",
        };
        assert_eq!(is, sorted, "{code}");
        if code.starts_with("22") || code.starts_with("23") {
            assert!(!format!("{e} {e:?}").contains("Untel"), "{e}");
        }
    }
    // And the connections are in order after all of it.
    table(&f.db).await;
    add(&f.db, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_another_node_has_made_stale() {
    let f = crate::postgres_with(DbOptions { max_connections: 1, ..options() }).await;
    table(&f.db).await;
    add(&f.db, 1).await.unwrap();
    let all = "SELECT * FROM t";
    f.db.rows(all, args![]).await.unwrap();
    let other = Db::open(&f.url, options()).await.unwrap();
    let mut tx = other.write().await.unwrap();
    tx.execute("ALTER TABLE t ADD COLUMN b BIGINT", args![]).await.unwrap();
    tx.commit().await.unwrap();
    // Retried on a fresh connection, within the call.
    let rows = f.db.rows(all, args![]).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn addresses() {
    for bad in ["postgres://[", "postgres://u:secret@localhost:notaport/x"] {
        let e = Db::open(bad, options()).await.unwrap_err();
        assert!(matches!(e, DbError::Other(_)), "{e}");
        assert!(!format!("{e} {e:?}").contains("secret"));
    }
    // Nobody listens on port 1.
    unavailable(Db::open("postgres://pli:secret@127.0.0.1:1/x", options()).await);
    let server = testing::postgres().await.unwrap();
    let (head, _) = server.rsplit_once('/').unwrap();
    let e = Db::open(&format!("{head}/absent"), options()).await.unwrap_err();
    assert!(matches!(e, DbError::Other(_)), "{e}");
}

#[tokio::test]
async fn a_database_that_is_not_utf8() {
    let server = testing::postgres().await.unwrap();
    let (head, name) = server.rsplit_once('/').unwrap();
    let db = Db::open(&server, options()).await.unwrap();
    let sql = format!("CREATE DATABASE {name}_latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    db.rows(pli_storage::Sql::assembled(sql), args![]).await.unwrap();
    let e = Db::open(&format!("{head}/{name}_latin"), options()).await.unwrap_err();
    assert!(matches!(&e, DbError::Other(text) if text.contains("LATIN1")), "{e}");
}
