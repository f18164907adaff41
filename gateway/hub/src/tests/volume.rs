//! The lists of a box of 10,000 messages in a base of 1,000,000: plans and percentiles, on both databases.
//!
//! Not part of the suite: it fills a database. Run it by itself, in release, on a quiet machine:
//! `tests/env/with.sh postgres -- cargo test --release -p pli-hub -- --ignored --nocapture volume`.
//! Times are printed and never asserted; that no list walks a whole table is.

use super::messages::own_box;
use crate::inbox::{Cursor, parts, statement};
use crate::search::Search;
use crate::testing::*;
use pli_api::Folder;
use pli_storage::{Args, Dialect, Sql, args};
use std::time::{Duration, Instant};

/// Messages in the base, and in the box that is read.
const MESSAGES: i64 = 1_000_000;
const IN_BOX: i64 = 10_000;
/// Other boxes.
const BOXES: i64 = 2_000;
/// Requests of each kind.
const REQUESTS: usize = 1000;

/// Statements that fill the base, with `UUID(x)` for the identifier made of a number.
fn filling(dialect: Dialect) -> Vec<String> {
    // The sender's, the reader's, and one for each number; messages and threads in the order of time, as
    // identifiers of version 7 are.
    let uuid = |prefix: &str, number: &str| match dialect {
        Dialect::Sqlite => format!("unhex('{prefix}' || printf('%030x', {number}))"),
        Dialect::Postgres => format!("CAST('{prefix}' || lpad(to_hex({number}), 30, '0') AS uuid)"),
    };
    let numbers = |most: i64| {
        format!(
            "WITH RECURSIVE n (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {most})"
        )
    };
    let (boxes, one_in) = (uuid("01", "i"), MESSAGES / IN_BOX);
    let other = uuid("01", &format!("(i % {BOXES}) + 1"));
    let another = uuid("01", &format!("((i * 7) % {BOXES}) + 1"));
    let (message, thread) = (uuid("02", "i"), uuid("03", "i"));
    let text = "CASE i % 3 WHEN 0 THEN 'expertise judiciaire du bâtiment' WHEN 1 THEN 'réunion contradictoire' ELSE 'convocation' END";
    let mut sql = vec![
        format!(
            "{} INSERT INTO boxes (id, kind, organisation, address, name, function, speciality, folded, created)
             SELECT {boxes}, 'service', $1, 'boite' || i || '@volume.example', 'Boîte ' || i, '', '', 'boite ' || i, 0
             FROM n WHERE $2 IS NOT NULL AND $3 IS NOT NULL",
            numbers(BOXES)
        ),
        format!(
            "{} INSERT INTO threads (id, subject, created, last) SELECT {thread}, 'Objet ' || i, i, i
             FROM n WHERE $1 IS NOT NULL AND $2 IS NOT NULL AND $3 IS NOT NULL",
            numbers(MESSAGES)
        ),
        format!(
            "{} INSERT INTO messages (id, thread, kind, state, sender, author, subject, body, folded, version, created, sent)
             SELECT {message}, {thread}, 'correspondence', 'sent', CASE WHEN i % {one_in} = 1 THEN $3 ELSE {another} END, $2,
             'Objet ' || i, {text}, {text}, 1, i * 1000000, i * 1000000 FROM n WHERE $1 IS NOT NULL",
            numbers(MESSAGES)
        ),
    ];
    // To the reader one in a hundred, from the reader as many; read but for one in fifty, archived one in ten.
    for (to, role, read, archived) in [
        (
            format!("CASE WHEN i % {one_in} = 0 THEN $3 ELSE {other} END"),
            "to",
            "CASE WHEN i % 5000 <> 0 THEN i END",
            "CASE WHEN i % 1000 = 300 THEN i END",
        ),
        (format!("CASE WHEN i % {one_in} = 1 THEN $3 ELSE {another} END"), "sender", "NULL", "NULL"),
    ] {
        sql.push(format!(
            "{} INSERT INTO deliveries (box, message, thread, at, role, read, archived)
             SELECT {to}, {message}, {thread}, i * 1000000, '{role}', {read}, {archived} FROM n
             WHERE $1 IS NOT NULL AND $2 IS NOT NULL ON CONFLICT (box, message) DO NOTHING",
            numbers(MESSAGES)
        ));
    }
    // A word of every message, one of each third, one of a thousandth, one of its own.
    let words = [
        ("'objet'", "1 = 1"),
        ("CASE i % 3 WHEN 0 THEN 'expertis' WHEN 1 THEN 'reunion' ELSE 'convoc' END", "1 = 1"),
        ("'rare'", "i % 100000 = 0"),
        ("'n' || i", "1 = 1"),
    ];
    for (word, condition) in words {
        sql.push(format!(
            "{} INSERT INTO message_words (word, message) SELECT {word}, {message} FROM n
             WHERE {condition} AND $1 IS NOT NULL AND $2 IS NOT NULL AND $3 IS NOT NULL",
            numbers(MESSAGES)
        ));
    }
    sql
}

async fn fill(w: &World, dialect: Dialect) {
    let begun = Instant::now();
    for sql in filling(dialect) {
        let mut tx = w.hub.db().write().await.unwrap();
        let values = args![w.recipient.organisation.0, w.recipient.id.0, w.recipient.id.0];
        tx.execute(Sql::assembled(sql), values).await.unwrap();
        tx.commit().await.unwrap();
    }
    if dialect == Dialect::Postgres {
        // What its own housekeeping does within minutes. SQLite is read without statistics, as it runs.
        let mut tx = w.hub.db().write().await.unwrap();
        for table in ["ANALYZE deliveries", "ANALYZE messages", "ANALYZE message_words", "ANALYZE boxes"] {
            tx.execute(table, args![]).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
    println!("filled in {:?}", begun.elapsed());
}

async fn plan(w: &World, dialect: Dialect, sql: &str, values: Args) -> String {
    let (explain, column) = match dialect {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
        Dialect::Postgres => ("EXPLAIN ", "QUERY PLAN"),
    };
    let rows = w.hub.db().rows(Sql::assembled(format!("{explain}{sql}")), values).await.unwrap();
    rows.iter().map(|row| row.get::<String>(column).unwrap()).collect::<Vec<_>>().join("\n")
}

async fn measure(dialect: Dialect) {
    let mut ground = Ground::on(dialect);
    ground.db.statement_timeout = Duration::from_secs(1800);
    let w = ground.build().await;
    fill(&w, dialect).await;
    let of = own_box(&w.recipient);
    let caller = crate::Caller {
        account: w.recipient.id,
        organisation: w.recipient.organisation,
        session: None,
        acting: None,
    };
    let middle =
        Cursor { at: MESSAGES / 2 * 1_000_000, message: uuid::Uuid::max(), in_box: uuid::Uuid::max() };
    for (name, folder, query, walked) in [
        ("received", Folder::Received, "", "deliveries_received"),
        ("unread", Folder::Received, "est:nonlu", "deliveries_unread"),
        ("sent", Folder::Sent, "", "deliveries_sent"),
        ("archived", Folder::Archived, "", "deliveries_archived"),
        ("all", Folder::All, "", "deliveries_"),
        ("search, a word of a third", Folder::All, "expertise", ""),
        ("search, a rare word", Folder::All, "rare", ""),
        ("search, a word of nowhere", Folder::All, "absent", ""),
        ("search, two words", Folder::All, "objet convocation", ""),
        ("search, a sender", Folder::All, "de:boite1999", ""),
        ("search, a phrase", Folder::All, "\"judiciaire du bâtiment\" expertise", ""),
    ] {
        let search = Search::of(query).unwrap();
        println!("\n== {name} ({dialect:?})");
        for part in parts(folder, search.asks_for(pli_api::search::Is::Unread)) {
            let (sql, values) = statement(&caller, w.now(), of, part, &search, Cursor::START, 51);
            let plan = plan(&w, dialect, &sql, values).await;
            println!("{plan}");
            let whole = [
                "SCAN deliveries",
                "SCAN m\n",
                "Seq Scan on deliveries",
                "Seq Scan on messages",
                "Seq Scan on message_words",
            ];
            assert!(!whole.iter().any(|walk| plan.contains(walk)), "{name}: a whole table is walked");
            assert!(plan.contains(walked), "{name}: not by {walked}");
        }
        let folder = folder.as_str();
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut times = Vec::new();
        for n in 0..REQUESTS {
            let after = if n % 2 == 0 { String::new() } else { format!("&after={middle}") };
            let ask = ask("GET", format!("/api/v1/inbox?folder={folder}&q={query}{after}")).by(&w.recipient);
            let begun = Instant::now();
            let reply = w.call(ask).await;
            times.push(begun.elapsed());
            reply.expect(200);
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)];
        println!("p50 {:?}  p90 {:?}  p99 {:?}  most {:?}", at(500), at(900), at(990), at(1000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "fills a database with a million messages"]
async fn sqlite() {
    measure(Dialect::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "fills a database with a million messages"]
async fn postgres() {
    measure(Dialect::Postgres).await;
}
