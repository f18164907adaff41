//! A database saved and restored, on both databases.

use crate::{Fresh, on_both};
use pli_storage::{Db, DbError, DbOptions, Dialect, args, snapshot, testing};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

on_both! {
    a_copy_is_one_state_while_others_write
    nothing_is_written_over
    half_a_copy_fills_nothing
}

/// Two tables that every transaction changes together.
async fn accounts(db: &Db) {
    let mut tx = db.write().await.unwrap();
    for sql in [
        "CREATE TABLE here (id BIGINT NOT NULL PRIMARY KEY, b BYTEA NOT NULL)",
        "CREATE TABLE there (id BIGINT NOT NULL PRIMARY KEY, b BYTEA NOT NULL)",
    ] {
        tx.execute(sql, args![]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn put(db: &Db, id: i64) {
    let bytes = vec![u8::try_from(id % 251).unwrap(); 2000];
    let mut tx = db.write().await.unwrap();
    tx.execute("INSERT INTO here (id, b) VALUES ($1, $2)", args![id, bytes.clone()]).await.unwrap();
    tx.execute("INSERT INTO there (id, b) VALUES ($1, $2)", args![id, bytes]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn rows(db: &Db, sql: &'static str) -> Vec<(i64, Vec<u8>)> {
    let rows = db.rows(sql, args![]).await.unwrap();
    rows.iter().map(|row| (row.get("id").unwrap(), row.get("b").unwrap())).collect()
}

/// The address of an empty database of the same kind.
async fn empty(db: &Db, folder: &Path) -> String {
    match db.dialect() {
        Dialect::Sqlite => format!("sqlite:{}", folder.join("restored.db").display()),
        Dialect::Postgres => testing::postgres().await.unwrap(),
    }
}

async fn a_copy_is_one_state_while_others_write(f: Fresh) {
    accounts(&f.db).await;
    for id in 0..200 {
        put(&f.db, id).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (db, stop) = (f.db.clone(), stop.clone());
        async move {
            let mut id = 1000;
            while !stop.load(Ordering::SeqCst) {
                put(&db, id).await;
                id += 1;
            }
            id - 1000
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    for n in 0..3 {
        let file = folder.path().join(n.to_string());
        f.db.save(&file).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        copies.push(file);
    }
    stop.store(true, Ordering::SeqCst);
    let written = writing.await.unwrap();

    let url = empty(&f.db, folder.path()).await;
    snapshot::restore(&url, copies.last().unwrap()).await.unwrap();
    let restored = Db::open(&url, DbOptions::default()).await.unwrap();
    let here = rows(&restored, "SELECT id, b FROM here ORDER BY id").await;
    assert_eq!(here, rows(&restored, "SELECT id, b FROM there ORDER BY id").await);
    assert!(here.len() >= 200 && here.len() <= 200 + usize::try_from(written).unwrap(), "{}", here.len());
    let source = rows(&f.db, "SELECT id, b FROM here ORDER BY id").await;
    assert_eq!(here, source[..here.len()], "what was there at one instant");
    // It is a database like any other.
    put(&restored, 1 << 40).await;
    restored.close().await;
}

async fn nothing_is_written_over(f: Fresh) {
    accounts(&f.db).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    f.db.save(&file).await.unwrap();
    assert!(matches!(f.db.save(&file).await, Err(DbError::Other(_))));
    put(&f.db, 1).await;
    assert!(snapshot::require_empty(&f.url).await.is_err());
    assert!(matches!(snapshot::restore(&f.url, &file).await, Err(DbError::Other(_))));
    assert_eq!(rows(&f.db, "SELECT id, b FROM here").await.len(), 1);
}

async fn half_a_copy_fills_nothing(f: Fresh) {
    accounts(&f.db).await;
    for id in 0..100 {
        put(&f.db, id).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    f.db.save(&file).await.unwrap();
    let url = empty(&f.db, folder.path()).await;
    if f.db.dialect() == Dialect::Postgres {
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() * 2 / 3]).unwrap();
        assert!(snapshot::restore(&url, &file).await.is_err());
    } else {
        // SQLite's file says nothing of its end: whoever keeps it keeps its digest. What cannot be read is told.
        assert!(snapshot::restore(&url, &folder.path().join("none")).await.is_err());
    }
    snapshot::require_empty(&url).await.unwrap();
}
