//! What `Db` and `Tx` promise, on both databases.

use crate::{Fresh, on_both};
use pli_api::{DepositId, Time};
use pli_storage::{ConflictKind, Db, DbError, Dialect, Value, args};
use uuid::Uuid;

on_both! {
    values_come_back
    values_out_of_range_are_refused
    wrong_columns_are_refused
    one_statement_runs_many_times
    a_reader_sees_one_state
    a_reader_cannot_write
    a_dropped_transaction_changes_nothing
    a_failed_statement_ends_the_transaction
    conflicts_are_told_apart
    a_deferred_constraint_refuses_the_commit
    an_interrupted_statement_leaves_nothing
    interruptions_at_any_point
    locks_make_sums_safe
    compare_and_set_has_one_winner
    readers_beside_a_writer
    closing_ends_everything
}

async fn people(db: &Db) {
    let mut tx = db.write().await.unwrap();
    tx.execute("CREATE TABLE people (id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE)", args![])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn add(db: &Db, id: i64, name: &str) -> Result<(), DbError> {
    let mut tx = db.write().await?;
    tx.execute("INSERT INTO people (id, name) VALUES ($1, $2)", args![id, name]).await?;
    tx.commit().await
}

async fn count(db: &Db) -> i64 {
    let row = db.optional("SELECT COUNT(*) AS n FROM people", args![]).await.unwrap();
    row.unwrap().get("n").unwrap()
}

async fn values_come_back(f: Fresh) {
    let mut tx = f.db.write().await.unwrap();
    tx.execute(
        "CREATE TABLE kept (n BIGINT, u UUID, t TEXT, b BYTEA, f BOOLEAN, at BIGINT, d UUID, k BYTEA)",
        args![],
    )
    .await
    .unwrap();
    let id = DepositId::new();
    let rows: Vec<Vec<Value>> = vec![
        vec![
            i64::MIN.into(),
            Uuid::nil().into(),
            "".into(),
            Vec::<u8>::new().into(),
            false.into(),
            Time::from_micros(-1).into(),
            id.into(),
            [7u8; 32].into(),
        ],
        vec![
            i64::MAX.into(),
            Uuid::max().into(),
            "É 東京 \u{1f512} '\"\\ $1 %".into(),
            vec![0u8, 255, 0].into(),
            true.into(),
            Time::from_micros(1_795_300_123_456_789).into(),
            Some(id).into(),
            Some([0u8; 32]).into(),
        ],
        vec![
            None::<i64>.into(),
            None::<Uuid>.into(),
            None::<String>.into(),
            None::<Vec<u8>>.into(),
            None::<bool>.into(),
            None::<Time>.into(),
            None::<DepositId>.into(),
            None::<[u8; 32]>.into(),
        ],
        vec![
            5u64.into(),
            Uuid::now_v7().into(),
            "x".repeat(100_000).into(),
            vec![42u8; 300_000].into(),
            true.into(),
            Time::from_micros(0).into(),
            id.into(),
            [1u8; 32].into(),
        ],
    ];
    for row in &rows {
        tx.execute(
            "INSERT INTO kept (n, u, t, b, f, at, d, k) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            row.clone().into(),
        )
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    let got = f.db.rows("SELECT n, u, t, b, f, at, d, k FROM kept", args![]).await.unwrap();
    assert_eq!(got.len(), rows.len());
    for (row, was) in got.iter().zip(&rows) {
        let is: Vec<Value> = vec![
            row.get::<Option<i64>>("n").unwrap().into(),
            row.get::<Option<Uuid>>("u").unwrap().into(),
            row.get::<Option<String>>("t").unwrap().into(),
            row.get::<Option<Vec<u8>>>("b").unwrap().into(),
            row.get::<Option<bool>>("f").unwrap().into(),
            row.get::<Option<Time>>("at").unwrap().into(),
            row.get::<Option<DepositId>>("d").unwrap().into(),
            row.get::<Option<[u8; 32]>>("k").unwrap().into(),
        ];
        assert_eq!(&is, was);
    }
    // What a comparison or a literal gives, which differs in width between the databases.
    let row = f
        .db
        .optional("SELECT 1 AS one, COUNT(*) AS n, EXISTS (SELECT 1 FROM kept) AS some FROM kept", args![])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.get::<i64>("one").unwrap(), 1);
    assert_eq!(row.get::<u64>("n").unwrap(), 4);
    assert!(row.get::<bool>("some").unwrap());
    // Identifiers made in sequence lie in sequence, and compare as octets.
    let row =
        f.db.optional("SELECT n FROM kept WHERE u > $1 ORDER BY u DESC LIMIT 1", args![Uuid::nil()]).await;
    assert_eq!(row.unwrap().unwrap().get::<i64>("n").unwrap(), i64::MAX);
}

async fn values_out_of_range_are_refused(f: Fresh) {
    people(&f.db).await;
    for bad in [Value::from(u64::MAX), Value::from("a\0b")] {
        let mut tx = f.db.write().await.unwrap();
        let e = tx.optional("SELECT id FROM people WHERE name = $1", vec![bad].into()).await.unwrap_err();
        assert!(matches!(e, DbError::Other(_)), "{e}");
    }
    add(&f.db, -1, "minus").await.unwrap();
    let row = f.db.optional("SELECT id FROM people", args![]).await.unwrap().unwrap();
    assert!(row.get::<u64>("id").is_err());
}

async fn wrong_columns_are_refused(f: Fresh) {
    people(&f.db).await;
    add(&f.db, 1, "a").await.unwrap();
    let row = f.db.optional("SELECT id, name, NULL AS empty FROM people", args![]).await.unwrap().unwrap();
    assert!(row.get::<i64>("absent").is_err());
    assert!(row.get::<i64>("name").is_err());
    assert!(row.get::<bool>("name").is_err());
    assert!(row.get::<Uuid>("id").is_err());
    assert!(row.get::<String>("empty").is_err());
    assert_eq!(row.get::<Option<String>>("empty").unwrap(), None);
    // Nothing of a value is in what may be logged.
    assert!(!format!("{row:?}").contains("\"a\""));
    let mut tx = f.db.read().await.unwrap();
    assert!(tx.one("SELECT id FROM people WHERE id = 99", args![]).await.is_err());
    assert!(tx.optional("SELECT id FROM people WHERE id = 99", args![]).await.unwrap().is_none());
}

async fn one_statement_runs_many_times(f: Fresh) {
    people(&f.db).await;
    let mut tx = f.db.write().await.unwrap();
    for id in 0..500i64 {
        let done = tx
            .execute("INSERT INTO people (id, name) VALUES ($1, $2)", args![id, format!("p{id}")])
            .await
            .unwrap();
        assert_eq!(done, 1);
    }
    assert_eq!(tx.execute("UPDATE people SET name = name WHERE id >= $1", args![400]).await.unwrap(), 100);
    tx.commit().await.unwrap();
    assert_eq!(count(&f.db).await, 500);
}

async fn a_reader_sees_one_state(f: Fresh) {
    people(&f.db).await;
    add(&f.db, 1, "a").await.unwrap();
    let mut reader = f.db.read().await.unwrap();
    let n = |row: pli_storage::Row| row.get::<i64>("n").unwrap();
    assert_eq!(n(reader.one("SELECT COUNT(*) AS n FROM people", args![]).await.unwrap()), 1);
    add(&f.db, 2, "b").await.unwrap();
    assert_eq!(n(reader.one("SELECT COUNT(*) AS n FROM people", args![]).await.unwrap()), 1);
    drop(reader);
    let mut reader = f.db.read().await.unwrap();
    assert_eq!(n(reader.one("SELECT COUNT(*) AS n FROM people", args![]).await.unwrap()), 2);
    reader.commit().await.unwrap();
}

async fn a_reader_cannot_write(f: Fresh) {
    people(&f.db).await;
    let mut reader = f.db.read().await.unwrap();
    assert!(reader.execute("INSERT INTO people (id, name) VALUES (1, 'a')", args![]).await.is_err());
    assert!(reader.commit().await.is_err());
    assert_eq!(count(&f.db).await, 0);
}

async fn a_dropped_transaction_changes_nothing(f: Fresh) {
    people(&f.db).await;
    for _ in 0..50 {
        let mut tx = f.db.write().await.unwrap();
        tx.execute("INSERT INTO people (id, name) VALUES (1, 'a')", args![]).await.unwrap();
    }
    let mut tx = f.db.write().await.unwrap();
    tx.execute("INSERT INTO people (id, name) VALUES (1, 'a')", args![]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(count(&f.db).await, 0);
    add(&f.db, 1, "a").await.unwrap();
}

async fn a_failed_statement_ends_the_transaction(f: Fresh) {
    people(&f.db).await;
    add(&f.db, 1, "a").await.unwrap();
    let mut tx = f.db.write().await.unwrap();
    tx.execute("INSERT INTO people (id, name) VALUES (2, 'b')", args![]).await.unwrap();
    assert!(
        tx.execute("INSERT INTO people (id, name) VALUES (1, 'c')", args![])
            .await
            .unwrap_err()
            .is_duplicate()
    );
    // PostgreSQL would answer this COMMIT with a rollback and no error.
    assert!(tx.execute("INSERT INTO people (id, name) VALUES (3, 'd')", args![]).await.is_err());
    assert!(matches!(tx.commit().await, Err(DbError::Other(_))));
    assert_eq!(count(&f.db).await, 1);
    let mut tx = f.db.write().await.unwrap();
    assert!(tx.execute("INSERT INTO nowhere (id) VALUES (1)", args![]).await.is_err());
    tx.rollback().await.unwrap();
    add(&f.db, 2, "b").await.unwrap();
}

async fn conflicts_are_told_apart(f: Fresh) {
    people(&f.db).await;
    add(&f.db, 1, "a").await.unwrap();
    let mut tx = f.db.write().await.unwrap();
    tx.execute(
        "CREATE TABLE pets (id BIGINT NOT NULL PRIMARY KEY, owner BIGINT NOT NULL REFERENCES people (id), \
         legs BIGINT NOT NULL CHECK (legs >= 0))",
        args![],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let cases = [
        ("INSERT INTO people (id, name) VALUES (1, 'b')", ConflictKind::Unique),
        ("INSERT INTO people (id, name) VALUES (2, 'a')", ConflictKind::Unique),
        ("INSERT INTO people (id, name) VALUES (2, NULL)", ConflictKind::Other),
        ("INSERT INTO pets (id, owner, legs) VALUES (1, 99, 4)", ConflictKind::ForeignKey),
        ("INSERT INTO pets (id, owner, legs) VALUES (1, 1, -1)", ConflictKind::Other),
    ];
    for (sql, kind) in cases {
        let mut tx = f.db.write().await.unwrap();
        match tx.execute(sql, args![]).await {
            Err(DbError::Conflict { kind: is, detail }) => {
                assert_eq!(is, kind, "{sql}");
                assert!(!detail.contains("(99)") && !detail.contains("'a'"), "{detail}");
            }
            other => unreachable!("{sql}: {other:?}"),
        }
    }
    // What may collide is written so, and the transaction goes on.
    let mut tx = f.db.write().await.unwrap();
    let sql = "INSERT INTO people (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    assert_eq!(tx.execute(sql, args![1, "z"]).await.unwrap(), 0);
    assert_eq!(tx.execute(sql, args![2, "z"]).await.unwrap(), 1);
    tx.commit().await.unwrap();
}

async fn a_deferred_constraint_refuses_the_commit(f: Fresh) {
    people(&f.db).await;
    let mut tx = f.db.write().await.unwrap();
    tx.execute(
        "CREATE TABLE pets (owner BIGINT NOT NULL REFERENCES people (id) DEFERRABLE INITIALLY DEFERRED)",
        args![],
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let mut tx = f.db.write().await.unwrap();
    tx.execute("INSERT INTO people (id, name) VALUES (5, 'e')", args![]).await.unwrap();
    tx.execute("INSERT INTO pets (owner) VALUES (6)", args![]).await.unwrap();
    let e = tx.commit().await.unwrap_err();
    assert!(matches!(e, DbError::Conflict { kind: ConflictKind::ForeignKey, .. }), "{e}");
    assert_eq!(count(&f.db).await, 0);
    add(&f.db, 5, "e").await.unwrap();
}

/// A statement that takes a while on either database.
fn slow(db: &Db) -> &'static str {
    match db.dialect() {
        Dialect::Sqlite => {
            "INSERT INTO people (id, name) WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c \
             WHERE i < 3000000) SELECT 1000 + MAX(i), 'slow' FROM c"
        }
        Dialect::Postgres => "INSERT INTO people (id, name) SELECT 1000, 'slow' FROM pg_sleep(1)",
    }
}

async fn an_interrupted_statement_leaves_nothing(f: Fresh) {
    people(&f.db).await;
    let db = f.db.clone();
    let (started, start) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let mut tx = db.write().await.unwrap();
        tx.execute("INSERT INTO people (id, name) VALUES (1, 'before')", args![]).await.unwrap();
        started.send(()).unwrap();
        tx.execute(slow(&db), args![]).await.unwrap();
        tx.commit().await.unwrap();
    });
    start.await.unwrap();
    // Into the slow statement, wherever it is.
    tokio::task::yield_now().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // The writer is free again, and nothing of the interrupted transaction is there.
    add(&f.db, 2, "after").await.unwrap();
    assert_eq!(count(&f.db).await, 1);
}

async fn interruptions_at_any_point(f: Fresh) {
    people(&f.db).await;
    let mut finished = 0;
    for round in 0..150i64 {
        let db = f.db.clone();
        let task = tokio::spawn(async move {
            let mut tx = db.write().await?;
            for half in 0..2 {
                let id = round * 2 + half;
                tx.execute("INSERT INTO people (id, name) VALUES ($1, $2)", args![id, format!("p{id}")])
                    .await?;
            }
            tx.commit().await
        });
        // A different point in each round: before BEGIN, in a statement, in COMMIT, after it.
        tokio::time::sleep(std::time::Duration::from_micros(u64::try_from(round).unwrap() * 20)).await;
        task.abort();
        match task.await {
            Ok(done) => {
                done.unwrap();
                finished += 1;
            }
            Err(e) => assert!(e.is_cancelled()),
        }
    }
    // Behind this one nothing is under way any more.
    add(&f.db, -1, "still works").await.unwrap();
    // Whole transactions only; every one that was told to be done is there. An interrupted COMMIT may
    // have been done.
    let n = count(&f.db).await - 1;
    assert_eq!(n % 2, 0);
    assert!(n >= finished * 2, "{n} rows, {finished} done");
}

async fn locks_make_sums_safe(f: Fresh) {
    people(&f.db).await;
    // A quota of 20 rows, decided from a count, asked for by 60 at once.
    let tasks: Vec<_> = (0..60i64)
        .map(|id| {
            let db = f.db.clone();
            tokio::spawn(async move {
                let mut tx = db.write().await.unwrap();
                tx.lock("quota of somebody").await.unwrap();
                let row = tx.one("SELECT COUNT(*) AS n FROM people", args![]).await.unwrap();
                if row.get::<i64>("n").unwrap() < 20 {
                    tx.execute("INSERT INTO people (id, name) VALUES ($1, $2)", args![id, format!("p{id}")])
                        .await
                        .unwrap();
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(count(&f.db).await, 20);
}

async fn compare_and_set_has_one_winner(f: Fresh) {
    people(&f.db).await;
    add(&f.db, 1, "draft").await.unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let db = f.db.clone();
            tokio::spawn(async move {
                let mut tx = db.write().await.unwrap();
                let changed = tx
                    .execute(
                        "UPDATE people SET name = $1 WHERE id = 1 AND name = 'draft'",
                        args![format!("sent {n}")],
                    )
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
                changed
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += task.await.unwrap();
    }
    assert_eq!(winners, 1);
}

async fn readers_beside_a_writer(f: Fresh) {
    people(&f.db).await;
    let mut tx = f.db.write().await.unwrap();
    tx.execute("INSERT INTO people (id, name) VALUES (1, 'a')", args![]).await.unwrap();
    // More readers than connections, while the writer is in the middle: nobody waits for it.
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let db = f.db.clone();
            tokio::spawn(async move {
                let mut reader = db.read().await.unwrap();
                reader
                    .one("SELECT COUNT(*) AS n FROM people", args![])
                    .await
                    .unwrap()
                    .get::<i64>("n")
                    .unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 0);
    }
    tx.commit().await.unwrap();
    assert_eq!(count(&f.db).await, 1);
}

async fn closing_ends_everything(f: Fresh) {
    people(&f.db).await;
    f.db.close().await;
    assert!(matches!(f.db.write().await, Err(DbError::Unavailable(_))));
    assert!(matches!(f.db.ping().await, Err(DbError::Unavailable(_))));
    let again = Db::open(&f.url, pli_storage::DbOptions::default()).await.unwrap();
    assert_eq!(count(&again).await, 0);
}
