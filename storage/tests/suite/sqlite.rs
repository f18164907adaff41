//! What holds on SQLite alone: settings, durability, a full disk, a second process.

use crate::child;
use pli_storage::{Db, DbError, DbOptions, args};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

#[tokio::test]
async fn settings_that_matter() {
    let f = crate::sqlite().await;
    // Asked of the writer itself.
    let mut tx = f.db.write().await.unwrap();
    for (pragma, value) in [("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 1), ("temp_store", 2)]
    {
        let sql = pli_storage::Sql::assembled(format!("PRAGMA {pragma}"));
        let row = tx.one(sql, args![]).await.unwrap();
        assert_eq!(row.get::<i64>(pragma).unwrap(), value, "{pragma}");
    }
    let row = tx.one("PRAGMA journal_mode", args![]).await.unwrap();
    assert_eq!(row.get::<String>("journal_mode").unwrap(), "wal");
    tx.execute("CREATE TABLE t (a BIGINT)", args![]).await.unwrap();
    tx.commit().await.unwrap();
    f.db.ping().await.unwrap();
    let path = std::path::PathBuf::from(f.url.strip_prefix("sqlite:").unwrap());
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
}

#[tokio::test]
async fn addresses() {
    for bad in
        ["", "sqlite:", "sqlite::memory:", "mysql://localhost/x", "/tmp/x.db", "sqlite:/nowhere/at/all/x.db"]
    {
        assert!(matches!(Db::open(bad, DbOptions::default()).await, Err(DbError::Other(_))), "{bad}");
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("é %20.db").display());
    Db::open(&url, DbOptions::default()).await.unwrap();
    assert!(folder.path().join("é %20.db").is_file());
}

#[tokio::test]
async fn a_file_that_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pli.db");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let url = format!("sqlite:{}", path.display());
    assert!(matches!(Db::open(&url, DbOptions::default()).await, Err(DbError::Other(_))));
}

#[tokio::test]
async fn a_second_process_that_writes_is_waited_for_then_told() {
    let options = DbOptions { acquire_timeout: Duration::from_millis(300), ..DbOptions::default() };
    let f = crate::sqlite_with(options.clone()).await;
    let other = Db::open(&f.url, options).await.unwrap();
    let mut tx = other.write().await.unwrap();
    tx.execute("CREATE TABLE t (a BIGINT)", args![]).await.unwrap();
    assert!(matches!(f.db.write().await, Err(DbError::Unavailable(_))));
    tx.commit().await.unwrap();
    let mut tx = f.db.write().await.unwrap();
    tx.execute("INSERT INTO t (a) VALUES (1)", args![]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn the_writer_is_waited_for_then_told() {
    let options = DbOptions { acquire_timeout: Duration::from_millis(300), ..DbOptions::default() };
    let f = crate::sqlite_with(options).await;
    let tx = f.db.write().await.unwrap();
    assert!(matches!(f.db.write().await, Err(DbError::Unavailable(_))));
    drop(tx);
    f.db.write().await.unwrap();
}

#[tokio::test]
async fn no_room_in_the_file() {
    let f = crate::sqlite().await;
    let mut tx = f.db.write().await.unwrap();
    tx.execute("CREATE TABLE t (a BYTEA)", args![]).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = f.db.write().await.unwrap();
    tx.rows("PRAGMA max_page_count = 40", args![]).await.unwrap();
    let error = loop {
        if let Err(e) = tx.execute("INSERT INTO t (a) VALUES ($1)", args![[1u8; 10_000]]).await {
            break e;
        }
    };
    assert!(matches!(error, DbError::Full(_)), "{error}");
    // SQLite has ended the transaction by itself; the next one finds a writer that works.
    drop(tx);
    let mut tx = f.db.write().await.unwrap();
    let row = tx.one("SELECT COUNT(*) AS n FROM t", args![]).await.unwrap();
    assert_eq!(row.get::<i64>("n").unwrap(), 0);
    tx.execute("INSERT INTO t (a) VALUES ($1)", args![[1u8; 10]]).await.unwrap();
    tx.commit().await.unwrap();
}

/// The disk under the log is full for a while, told by the system to a real process.
#[test]
fn no_room_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let status = child::traced(
        // The 60th to the 90th write of the process find no room.
        &["-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC:when=60..90"],
        "sqlite::child_that_finds_no_room",
        folder.path(),
    )
    .status()
    .unwrap();
    assert!(status.success());
    let trace = std::fs::read_to_string(folder.path().join("trace")).unwrap();
    assert!(trace.contains("ENOSPC"));
}

#[tokio::test]
#[ignore = "run by no_room_on_the_disk"]
async fn child_that_finds_no_room() {
    let Some(folder) = child::folder() else { return };
    let url = format!("sqlite:{}", folder.join("pli.db").display());
    let db = Db::open(&url, DbOptions::default()).await.unwrap();
    let mut tx = db.write().await.unwrap();
    tx.execute("CREATE TABLE t (a BIGINT NOT NULL PRIMARY KEY)", args![]).await.unwrap();
    tx.commit().await.unwrap();
    let mut kept = Vec::new();
    let mut full = 0;
    for n in 0..200i64 {
        let done = async {
            let mut tx = db.write().await?;
            tx.execute("INSERT INTO t (a) VALUES ($1)", args![n]).await?;
            tx.commit().await
        };
        match done.await {
            Ok(()) => kept.push(n),
            Err(DbError::Full(_)) => full += 1,
            Err(e) => unreachable!("{e}"),
        }
    }
    assert!(full > 0, "the disk was never full");
    assert!(kept.contains(&199), "it did not recover");
    let rows = db.rows("SELECT a FROM t ORDER BY a", args![]).await.unwrap();
    let rows: Vec<i64> = rows.iter().map(|r| r.get("a").unwrap()).collect();
    assert_eq!(rows, kept);
}

/// A commit is on the disk before it returns: the log is synced after its last write.
#[test]
fn a_commit_is_synced_before_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let status = child::traced(
        &["-e", "trace=pwrite64,fdatasync,fsync,write"],
        "sqlite::child_that_commits",
        folder.path(),
    )
    .status()
    .unwrap();
    assert!(status.success());
    let trace = std::fs::read_to_string(folder.path().join("trace")).unwrap();
    let (mut unsynced, mut syncs, mut commits) = (false, 0, 0);
    for line in trace.lines() {
        if line.contains("pwrite64(") && line.contains("pli.db-wal>") {
            unsynced = true;
        } else if (line.contains("fdatasync(") || line.contains("fsync(")) && line.contains("pli.db-wal>") {
            unsynced = false;
            syncs += 1;
        } else if line.contains("committed ") {
            assert!(!unsynced, "told before it was synced:\n{trace}");
            commits += 1;
            assert!(syncs >= commits, "a commit without a sync:\n{trace}");
        }
    }
    assert_eq!(commits, 5);
}

#[tokio::test]
#[ignore = "run by a_commit_is_synced_before_it_returns"]
async fn child_that_commits() {
    let Some(folder) = child::folder() else { return };
    let url = format!("sqlite:{}", folder.join("pli.db").display());
    let db = Db::open(&url, DbOptions::default()).await.unwrap();
    let mut tx = db.write().await.unwrap();
    tx.execute("CREATE TABLE t (a BIGINT NOT NULL PRIMARY KEY)", args![]).await.unwrap();
    tx.commit().await.unwrap();
    let mut out = std::fs::File::create(folder.join("told")).unwrap();
    for n in 0..5i64 {
        let mut tx = db.write().await.unwrap();
        tx.execute("INSERT INTO t (a) VALUES ($1)", args![n]).await.unwrap();
        tx.commit().await.unwrap();
        out.write_all(format!("committed {n}\n").as_bytes()).unwrap();
    }
}

/// `kill -9` at any moment: what was told to be committed is there.
#[tokio::test]
async fn a_killed_process_loses_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = -1;
    for round in 0..5 {
        let mut child = child::command("sqlite::child_that_writes_until_killed", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed after another number of commits in each round, wherever it is then.
        let mut seen = 0;
        while seen < 3 + round * 7 {
            let line = lines.next().unwrap().unwrap();
            if let Some(n) = line.strip_prefix("committed ") {
                last = n.parse().unwrap();
                seen += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("committed ").and_then(|n| n.parse().ok()) {
                last = n;
            }
        }
        let url = format!("sqlite:{}", folder.path().join("pli.db").display());
        let db = Db::open(&url, DbOptions::default()).await.unwrap();
        let row = db.optional("SELECT COUNT(*) AS n, MAX(a) AS last FROM t", args![]).await.unwrap().unwrap();
        let (n, highest): (i64, i64) = (row.get("n").unwrap(), row.get("last").unwrap());
        assert!(highest >= last, "commit {last} was told, {highest} is the last there");
        assert_eq!(n, highest + 1);
        db.close().await;
    }
}

#[tokio::test]
#[ignore = "run by a_killed_process_loses_no_commit"]
async fn child_that_writes_until_killed() {
    let Some(folder) = child::folder() else { return };
    let url = format!("sqlite:{}", folder.join("pli.db").display());
    let db = Db::open(&url, DbOptions::default()).await.unwrap();
    let mut tx = db.write().await.unwrap();
    tx.execute("CREATE TABLE IF NOT EXISTS t (a BIGINT NOT NULL PRIMARY KEY)", args![]).await.unwrap();
    let row = tx.one("SELECT COUNT(*) AS n FROM t", args![]).await.unwrap();
    tx.commit().await.unwrap();
    for n in row.get::<i64>("n").unwrap().. {
        let mut tx = db.write().await.unwrap();
        tx.execute("INSERT INTO t (a) VALUES ($1)", args![n]).await.unwrap();
        tx.commit().await.unwrap();
        println!("committed {n}");
    }
}
