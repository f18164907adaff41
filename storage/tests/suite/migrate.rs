//! Migrations, on both databases.

use crate::{Fresh, on_both};
use pli_storage::{Db, DbOptions, MigrateError, Migration, args};

on_both! {
    applied_once_and_in_order
    nodes_that_start_together
    an_edited_migration_is_refused
    a_newer_database_is_refused
    a_passed_over_migration_is_refused
    a_failing_migration_changes_nothing
    lists_out_of_order_are_refused
}

const FIRST: Migration = Migration {
    version: 1,
    name: "things",
    sql: "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY); INSERT INTO things (id) VALUES (1);",
};
const SECOND: Migration = Migration {
    version: 2,
    name: "names",
    sql: "ALTER TABLE things ADD COLUMN name TEXT; UPDATE things SET name = 'x';",
};

async fn names(db: &Db) -> i64 {
    let row = db.optional("SELECT COUNT(name) AS n FROM things", args![]).await.unwrap().unwrap();
    row.get("n").unwrap()
}

async fn applied_once_and_in_order(f: Fresh) {
    f.db.migrate("hub", &[FIRST]).await.unwrap();
    f.db.migrate("hub", &[FIRST]).await.unwrap();
    f.db.migrate("hub", &[FIRST, SECOND]).await.unwrap();
    f.db.migrate("hub", &[FIRST, SECOND]).await.unwrap();
    assert_eq!(names(&f.db).await, 1);
    // Another owner counts for itself.
    let other = Migration { version: 1, name: "others", sql: "CREATE TABLE others (id BIGINT)" };
    f.db.migrate("referral", &[other]).await.unwrap();
    f.db.migrate_jobs().await.unwrap();
    f.db.migrate_jobs().await.unwrap();
}

async fn nodes_that_start_together(f: Fresh) {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let url = f.url.clone();
            tokio::spawn(async move {
                let node =
                    Db::open(&url, DbOptions { max_connections: 2, ..DbOptions::default() }).await.unwrap();
                node.migrate_jobs().await.unwrap();
                node.migrate("hub", &[FIRST, SECOND]).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(names(&f.db).await, 1);
}

async fn an_edited_migration_is_refused(f: Fresh) {
    f.db.migrate("hub", &[FIRST]).await.unwrap();
    let edited = Migration { sql: "CREATE TABLE things (id BIGINT)", ..FIRST };
    let e = f.db.migrate("hub", &[edited, SECOND]).await.unwrap_err();
    assert!(matches!(e, MigrateError::Edited { owner: "hub", version: 1 }), "{e}");
    f.db.migrate("hub", &[FIRST, SECOND]).await.unwrap();
}

async fn a_newer_database_is_refused(f: Fresh) {
    f.db.migrate("hub", &[FIRST, SECOND]).await.unwrap();
    let e = f.db.migrate("hub", &[FIRST]).await.unwrap_err();
    assert!(matches!(e, MigrateError::Newer { owner: "hub", version: 2 }), "{e}");
}

async fn a_passed_over_migration_is_refused(f: Fresh) {
    let third = Migration { version: 3, name: "more", sql: "CREATE TABLE more (id BIGINT)" };
    f.db.migrate("hub", &[FIRST, third]).await.unwrap();
    let e = f.db.migrate("hub", &[FIRST, SECOND, third]).await.unwrap_err();
    assert!(matches!(e, MigrateError::PassedOver { owner: "hub", version: 2 }), "{e}");
}

async fn a_failing_migration_changes_nothing(f: Fresh) {
    let bad = Migration {
        version: 2,
        name: "bad",
        sql: "CREATE TABLE more (id BIGINT); INSERT INTO nowhere VALUES (1);",
    };
    let e = f.db.migrate("hub", &[FIRST, bad]).await.unwrap_err();
    assert!(matches!(e, MigrateError::Failed { owner: "hub", version: 2, .. }), "{e}");
    // Not even the first, nor the table that records them.
    f.db.migrate("hub", &[FIRST, SECOND]).await.unwrap();
    assert_eq!(names(&f.db).await, 1);
}

async fn lists_out_of_order_are_refused(f: Fresh) {
    for list in [vec![SECOND, FIRST], vec![FIRST, FIRST], vec![Migration { version: 0, ..FIRST }]] {
        assert!(matches!(f.db.migrate("hub", &list).await, Err(MigrateError::Order { .. })));
    }
    for owner in ["", "Hub", "1hub", "hub-x", "hub; DROP TABLE things"] {
        assert!(matches!(f.db.migrate(owner, &[FIRST]).await, Err(MigrateError::Owner(_))));
    }
}
