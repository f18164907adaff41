//! The numbers of the evidence log, on SQLite and, when `PLI_TEST_POSTGRES` is set, on PostgreSQL:
//!
//! - events a second appended with a durable commit each while a sequencer runs, beside a plain insert of the same
//!   row in the same run;
//! - an inclusion proof over ten million leaves, by the API;
//! - the audit of a million events.
//!
//! `tests/env/with.sh postgres -- cargo bench -p pli-hub --bench journal`, or with a number: so many events are
//! audited instead of a million.

use std::error::Error;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, StatusCode, header};
use pli_api::{NewToken, OrganisationKind, Time};
use pli_hub::evidence::{Evidence, EvidenceKeys};
use pli_hub::{Clock, Hub, HubOptions, KeySource, MIGRATIONS, OWNER, admin, audit};
use pli_journal::{Edge, Hash, SigningKey};
use pli_seal::{KeyRing, Passphrase};
use pli_signature::SealKey;
use pli_storage::{Args, Blobs, Db, DbOptions, Sql, args};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;
use zeroize::Zeroizing;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Events written one commit each.
const APPENDED: usize = 3000;
/// Leaves that a proof is made over.
const LEAVES: u64 = 10_000_000;
/// Proofs asked for.
const PROOFS: u64 = 200;
/// Events audited.
const AUDITED: usize = 1_000_000;

const INSERT: &str =
    "INSERT INTO events (id, at, kind, actor, on_behalf, deposit, document, procedure, message, detail)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

#[tokio::main]
async fn main() -> Outcome {
    let audited = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(AUDITED);
    let folder = tempfile::tempdir()?;
    for database in ["SQLite", "PostgreSQL"] {
        let mut urls = Vec::new();
        for part in ["append", "proof", "audit"] {
            match database {
                "SQLite" => urls.push(format!("sqlite:{}", folder.path().join(part).display())),
                _ if std::env::var_os("PLI_TEST_POSTGRES").is_some() => {
                    urls.push(pli_storage::testing::postgres().await?);
                }
                _ => {}
            }
        }
        let [append, proof, audit] = urls.as_slice() else {
            println!("{database}: not there, passed over");
            continue;
        };
        append_beside_insert(database, append).await?;
        prove(database, proof).await?;
        audit_all(database, audit, audited).await?;
    }
    Ok(())
}

async fn hub(url: &str) -> Outcome<Hub> {
    let db = Db::open(url, DbOptions::default()).await?;
    db.migrate_jobs().await?;
    db.migrate(OWNER, MIGRATIONS).await?;
    let passphrase = Passphrase::new("banc d'essai")?;
    let ring = KeyRing::open(&[KeyRing::generate("Pli, banc d'essai", &passphrase)?], &passphrase)?;
    let keys = KeySource::new(move || Ok(ring.clone())).map_err(|e| e.to_string())?;
    let seal = pli_signature::development_seal(Clock::System.now(), 30)?;
    let evidence = Evidence::new(EvidenceKeys {
        journal: SigningKey::from_seed("pli.example/journal", &Zeroizing::new([7; 32]))?,
        retired: Vec::new(),
        seal: SealKey::from_pem(&seal.certificates, &seal.key)?,
        issuer: "Banc d'essai".to_owned(),
        timestamps: None,
        register_years: 0,
    });
    let options = HubOptions { evidence: Some(evidence), ..HubOptions::default() };
    Ok(Hub::new(db, Blobs::memory(), keys, options, Clock::System))
}

/// An event as a download writes it.
fn event(now: Time) -> (Uuid, Uuid, Uuid, Uuid, Args) {
    let (id, actor, deposit, document) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let (none, detail) = (None::<Uuid>, r#"{"from":0,"bytes":1048576}"#);
    let row = args![id, now, "download.completed", actor, none, none, document, none, none, detail];
    (id, actor, deposit, document, row)
}

async fn write(hub: &Hub, count: usize) -> Outcome {
    for _ in 0..count {
        let mut tx = hub.db().write().await?;
        tx.execute(INSERT, event(hub.now()).4).await?;
        tx.commit().await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

/// Turn and turn about, so that what else the machine does touches both.
async fn append_beside_insert(database: &str, url: &str) -> Outcome {
    let hub = hub(url).await?;
    let (mut plain, mut logged) = (Duration::ZERO, Duration::ZERO);
    write(&hub, 200).await?;
    for _ in 0..3 {
        let start = Instant::now();
        write(&hub, APPENDED / 3).await?;
        plain += start.elapsed();
        // Those were plain: the log takes them now, outside of what is measured.
        audit::append(&hub).await?;

        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (hub, stop) = (hub.clone(), stop.clone());
            async move { hub.run_jobs(stop).await }
        });
        let start = Instant::now();
        write(&hub, APPENDED / 3).await?;
        // Until the last of them is under a checkpoint.
        audit::append(&hub).await?;
        logged += start.elapsed();
        stop.cancel();
        serving.await?;
    }
    let (plain, logged) = (rate(APPENDED, plain), rate(APPENDED, logged));
    println!("{database}: plain insert {plain:.0}/s, in the log {logged:.0}/s: {:.2} ×", logged / plain);
    hub.db().close().await;
    Ok(())
}

/// A tree of ten million leaves, of which a few have rows; its tiles are written as a sequencer would leave them.
async fn prove(database: &str, url: &str) -> Outcome {
    let hub = hub(url).await?;
    let organisation = admin::add_organisation(&hub, OrganisationKind::Office, "Banc", 1 << 30).await?;
    let named = organisation.to_string();
    let account = admin::add_account(&hub, &named, "banc@banc.example", "Banc", None).await?;
    let token =
        admin::add_token(&hub, "banc@banc.example", &NewToken { name: "banc".into(), days: 1 }).await?;
    let mut tx = hub.db().write().await?;
    tx.execute("DELETE FROM events", args![]).await?;
    let mut edge = Edge::empty();
    let mut asked = Vec::new();
    let mut place = 0;
    while place < LEAVES {
        let end = LEAVES.min(place + 65_536);
        let mut hashes = Vec::new();
        for place in place..end {
            if place % (LEAVES / PROOFS) != 0 {
                hashes.push(Hash::leaf(&place.to_be_bytes()));
                continue;
            }
            // A row, and its leaf in the documented form.
            let id = Uuid::now_v7();
            tx.execute(
                "INSERT INTO events (id, at, kind, actor, detail, seq) VALUES ($1, 1, 'session.opened', $2, '{}', $3)",
                args![id, account.0, place],
            )
            .await?;
            let leaf = format!(
                r#"{{"v":1,"seq":{place},"id":"{id}","at":1,"kind":"session.opened","actor":"{account}","on_behalf":null,"deposit":null,"document":null,"procedure":null,"message":null,"detail":{{}}}}"#
            );
            hashes.push(Hash::leaf(leaf.as_bytes()));
            asked.push(id);
        }
        for tile in edge.append(&hashes)?.tiles {
            tx.execute(
                "INSERT INTO journal_tiles (level, idx, hashes) VALUES ($1, $2, $3)
                 ON CONFLICT (level, idx) DO UPDATE SET hashes = excluded.hashes",
                args![i64::from(tile.id.level), tile.id.index, tile.bytes],
            )
            .await?;
        }
        place = end;
    }
    let head = edge.head();
    let root = hex::encode(head.root.as_bytes());
    tx.execute("UPDATE journal_head SET size = $1, root = $2", args![head.size, root]).await?;
    tx.commit().await?;
    audit::append(&hub).await?;

    let router = hub.router();
    let mut times = Vec::new();
    for id in asked {
        let request = Request::get(format!("/api/v1/journal/proof/inclusion?event={id}"))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.token))
            .body(Body::empty())?;
        let start = Instant::now();
        let response = router.clone().oneshot(request).await?;
        times.push(start.elapsed());
        if response.status() != StatusCode::OK {
            return Err(format!("no proof: {}", response.status()).into());
        }
    }
    times.sort_unstable();
    let at =
        |part: usize| times.get((times.len() * part / 100).min(times.len() - 1)).copied().unwrap_or_default();
    println!(
        "{database}: inclusion proof over {LEAVES} leaves by the API: median {:?}, p99 {:?}",
        at(50),
        at(99)
    );
    hub.db().close().await;
    Ok(())
}

async fn audit_all(database: &str, url: &str, count: usize) -> Outcome {
    let hub = hub(url).await?;
    let mut left = count;
    while left > 0 {
        let now = left.min(50);
        let mut values = Args::default();
        let mut rows = Vec::new();
        for _ in 0..now {
            let (id, actor, _, document, _) = event(hub.now());
            let first = values.len() + 1;
            values.push(id);
            values.push(hub.now());
            values.push(actor);
            values.push(document);
            rows.push(format!(
                r#"(${first}, ${}, 'download.completed', ${}, ${}, '{{"from":0,"bytes":1048576}}')"#,
                first + 1,
                first + 2,
                first + 3
            ));
        }
        // A million commits are not what is measured here.
        let sql =
            format!("INSERT INTO events (id, at, kind, actor, document, detail) VALUES {}", rows.join(", "));
        let mut tx = hub.db().write().await?;
        tx.execute(Sql::assembled(sql), values).await?;
        tx.commit().await?;
        left -= now;
    }
    let start = Instant::now();
    audit::append(&hub).await?;
    println!("{database}: {count} waiting events given their places in {:.1?}", start.elapsed());
    let start = Instant::now();
    let audited = audit::verify(&hub, &[]).await??;
    println!("{database}: {} events audited in {:.1?}", audited.events, start.elapsed());
    hub.db().close().await;
    Ok(())
}
