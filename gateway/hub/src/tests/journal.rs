//! The log over the events: each has its place, and what is changed by hand is named.

use crate::audit::{self, How};
use crate::evidence::TimestampAuthority;
use crate::log::{self, Pace};
use crate::receipts::{self, ReceiptTrust};
use crate::testing::*;
use pli_api::EventId;
use pli_journal::{Checkpoint, Frontier, Hash, Proof, TlogProof, VerifierKey, verify_consistency};
use pli_signature::{Certificate, TimestampToken};
use pli_storage::{Dialect, JobFilter, args};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn keys() -> Vec<VerifierKey> {
    evidence().verifier_keys()
}

async fn head(w: &World) -> (i64, i64) {
    let row = w.rows("SELECT size, signed FROM journal_head", args![]).await.pop().unwrap();
    (row.get("size").unwrap(), row.get("signed").unwrap())
}

/// A world whose log has several checkpoints and more than one tile.
async fn long(dialect: Dialect) -> World {
    let w = World::on(dialect).await;
    w.available(&[("a.pdf", b"abc")]).await;
    many(&w, 300).await;
    w.jobs().await;
    many(&w, 10).await;
    w.jobs().await;
    w
}

/// Events of no act, as they would be written.
async fn many(w: &World, count: usize) {
    let mut tx = w.hub.db().write().await.unwrap();
    for n in 0..count {
        let event = crate::journal::Event::new("session.opened").by(w.sender.id);
        event.detail(serde_json::json!({ "n": n })).write(&mut tx, w.now()).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn verdict(w: &World, witnesses: &[Vec<u8>]) -> Result<audit::Audited, audit::Tampered> {
    audit::verify(&w.hub, witnesses).await.unwrap()
}

async fn wrong(w: &World, how: How, place: u64) -> audit::Tampered {
    let tampered = verdict(w, &[]).await.unwrap_err();
    assert_eq!((tampered.how, tampered.place), (how, place), "{tampered}");
    tampered
}

/// `openssl ts` behind HTTP: its address, and the certificate that it signs with.
fn timestamp_authority(folder: &std::path::Path) -> (String, Vec<Certificate>) {
    let openssl = |folder: &std::path::Path, words: &[&str]| {
        let output = Command::new("openssl").current_dir(folder).args(words).output().unwrap();
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(
        folder,
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "key.pem",
            "-out",
            "own.pem",
            "-days",
            "30",
            "-subj",
            "/CN=Horodatage de test",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "keyUsage=critical,digitalSignature",
            "-addext",
            "extendedKeyUsage=critical,timeStamping",
        ],
    );
    std::fs::write(folder.join("serial"), "01\n").unwrap();
    let config = "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\nsigner_cert = own.pem\nsigner_key = key.pem\n\
                  signer_digest = sha256\ndefault_policy = 1.2.3.4.1\ndigests = sha256\n";
    std::fs::write(folder.join("openssl.cnf"), config).unwrap();
    let anchors = Certificate::from_pem(&std::fs::read_to_string(folder.join("own.pem")).unwrap()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        // As long as the process; each answer ends its connection.
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while connection.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(said) = lower.strip_prefix("content-length:") {
                    length = said.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut request = vec![0; length];
            connection.read_exact(&mut request).unwrap();
            std::fs::write(folder.join("request"), request).unwrap();
            openssl(
                &folder,
                &["ts", "-reply", "-config", "openssl.cnf", "-queryfile", "request", "-out", "answer"],
            );
            let answer = std::fs::read(folder.join("answer")).unwrap();
            let head =
                "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nConnection: close\r\n";
            let connection = connection.get_mut();
            write!(connection, "{head}Content-Length: {}\r\n\r\n", answer.len()).unwrap();
            connection.write_all(&answer).unwrap();
        }
    });
    (address, anchors)
}

on_both! {
    async fn checkpoints_and_receipts_are_timestamped(dialect) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (url, anchors) = timestamp_authority(folder.path());
        let evidence = evidence_with(Some(TimestampAuthority::new(url, anchors.clone(), 600).unwrap()));
        let w = Ground::on(dialect).options(|options| options.evidence = Some(evidence)).build().await;
        let (deposit, _) = w.available(&[("a.pdf", b"abc")]).await;
        let sql = "SELECT note, token FROM journal_checkpoints WHERE token IS NOT NULL";
        let stamped = w.rows(sql, args![]).await;
        assert_eq!(stamped.len(), 1, "not every one");
        let (note, token) = (stamped[0].get::<String>("note").unwrap(), stamped[0].get::<Vec<u8>>("token").unwrap());
        TimestampToken::verify(&token, note.as_bytes(), &anchors).unwrap();
        TimestampToken::verify(&token, b"autre chose", &anchors).unwrap_err();
        w.pass(600);
        many(&w, 1).await;
        w.jobs().await;
        assert_eq!(w.rows(sql, args![]).await.len(), 2);

        let trust = ReceiptTrust {
            seals: Certificate::from_pem(&development().authority).unwrap(),
            timestamps: anchors,
            journal: keys(),
        };
        for row in w.rows("SELECT pdf FROM receipts WHERE deposit = $1", args![deposit.0]).await {
            let pdf = row.get::<Vec<u8>>("pdf").unwrap();
            assert!(receipts::check(&pdf, &trust).unwrap().timestamp.is_some());
            let untold = ReceiptTrust { timestamps: Vec::new(), ..trust.clone() };
            receipts::check(&pdf, &untold).unwrap_err();
        }
    }

    async fn every_act_has_its_event_and_every_event_its_place(dialect) {
        let w = World::on(dialect).await;
        let (_, documents) = w.available(&[("a.pdf", b"abc")]).await;
        w.download(&w.recipient, documents[0]).await.expect(200);
        until("the end of the download", || async { w.told("download.completed").await.len() == 1 }).await;
        w.jobs().await;
        let events = w.number("SELECT COUNT(*) AS n FROM events", args![]).await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM events WHERE seq IS NULL", args![]).await, 0);
        assert_eq!(w.number("SELECT MAX(seq) + 1 AS n FROM events", args![]).await, events);
        for kind in ["deposit.drafted", "document.received", "document.sealed", "deposit.sent", "deposit.available", "download.begun", "download.completed", "receipt.issued"] {
            assert!(!w.told(kind).await.is_empty(), "{kind}");
        }
        assert_eq!(head(&w).await, (events, events));
        // Nothing new, nothing signed.
        let signed = w.number("SELECT COUNT(*) AS n FROM journal_checkpoints", args![]).await;
        w.pass(10);
        w.jobs().await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM journal_checkpoints", args![]).await, signed);
        let audited = verdict(&w, &[]).await.unwrap();
        assert_eq!((audited.events as i64, audited.covered as i64, audited.checkpoints as i64, audited.waiting), (events, events, signed, 0));
    }

    async fn a_third_party_rebuilds_the_tree_from_the_export(dialect) {
        let w = long(dialect).await;
        let (mut events, mut checkpoints) = (Vec::new(), Vec::new());
        let (count, signed) = audit::export(&w.hub, &mut events, &mut checkpoints).await.unwrap();
        let mut tree = Frontier::new();
        let mut heads = vec![tree.head()];
        for (place, line) in std::str::from_utf8(&events).unwrap().lines().enumerate() {
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(read["seq"], place);
            tree.push(Hash::leaf(line.as_bytes())).unwrap();
            heads.push(tree.head());
        }
        assert_eq!(count, tree.size());
        let lines: Vec<serde_json::Value> = std::str::from_utf8(&checkpoints).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len() as u64, signed);
        assert!(signed >= 3);
        for line in lines {
            let (checkpoint, _) = Checkpoint::open(line["note"].as_str().unwrap().as_bytes(), "pli.example/journal", &keys()).unwrap();
            assert_eq!(checkpoint.head(), heads[line["size"].as_u64().unwrap() as usize]);
        }
    }

    async fn a_row_changed_by_hand_is_named(dialect) {
        let w = long(dialect).await;
        verdict(&w, &[]).await.unwrap();
        let columns = ["at = at + 1", "kind = 'session.closed'", "actor = NULL", "on_behalf = actor", "deposit = id", "document = id", "procedure = id", "message = id", "detail = '{}'", "id = deposit"];
        for (n, change) in columns.iter().enumerate() {
            let w = long(dialect).await;
            let victim = if change.starts_with("id") {
                let row = w.rows("SELECT seq FROM events WHERE kind = 'deposit.sent'", args![]).await.pop().unwrap();
                row.get::<i64>("seq").unwrap()
            } else {
                150 + n as i64
            };
            let mut tx = w.hub.db().write().await.unwrap();
            let sql = pli_storage::Sql::assembled(format!("UPDATE events SET {change} WHERE seq = $1"));
            assert_eq!(tx.execute(sql, args![victim]).await.unwrap(), 1);
            tx.commit().await.unwrap();
            wrong(&w, How::Edited, victim as u64).await;
            if n == 1 {
                // A later one does not hide it, nor does one under the next checkpoint.
                w.change("DELETE FROM events WHERE seq = $1", args![victim + 1]).await;
                w.change("DELETE FROM events WHERE seq > $1", args![300]).await;
                wrong(&w, How::Edited, victim as u64).await;
            }
        }
    }

    async fn a_row_taken_out_is_named(dialect) {
        let w = long(dialect).await;
        let (size, _) = head(&w).await;
        for place in [size - 1, 200, 0] {
            w.change("DELETE FROM events WHERE seq = $1", args![place]).await;
            wrong(&w, How::Deleted, place as u64).await;
        }
    }

    async fn a_row_taken_out_with_the_others_moved_up_is_named(dialect) {
        let w = long(dialect).await;
        w.change("DELETE FROM events WHERE seq = 100", args![]).await;
        w.change("UPDATE events SET seq = -seq WHERE seq > 100", args![]).await;
        w.change("UPDATE events SET seq = -seq - 1 WHERE seq < 0", args![]).await;
        let tampered = wrong(&w, How::Reordered, 100).await;
        assert!(tampered.to_string().contains("101"), "{tampered}");
    }

    async fn two_rows_that_changed_places_are_named(dialect) {
        let w = long(dialect).await;
        for (from, to) in [(50, -1), (60, 50), (-1, 60)] {
            w.change("UPDATE events SET seq = $2 WHERE seq = $1", args![from, to]).await;
        }
        let tampered = wrong(&w, How::Reordered, 50).await;
        assert!(tampered.to_string().contains("60"), "{tampered}");
    }

    async fn a_row_with_a_place_of_its_own_making_is_named(dialect) {
        let w = long(dialect).await;
        let (size, _) = head(&w).await;
        many(&w, 1).await;
        w.change("UPDATE events SET seq = $1 WHERE seq IS NULL", args![size + 5]).await;
        wrong(&w, How::Added, size as u64 + 5).await;
    }

    async fn a_changed_row_with_its_hash_made_anew_is_found_all_the_same(dialect) {
        let w = long(dialect).await;
        w.change("UPDATE events SET at = at + 1 WHERE seq = 5", args![]).await;
        let row = w.rows("SELECT seq, id, at, kind, actor, on_behalf, deposit, document, procedure, message, detail FROM events WHERE seq = 5", args![]).await.pop().unwrap();
        let hash = Hash::leaf(log::Leaf::of(&row).unwrap().text().as_bytes());
        let mut tile: Vec<u8> = w.rows("SELECT hashes FROM journal_tiles WHERE level = 0 AND idx = 0", args![]).await[0].get("hashes").unwrap();
        tile[5 * 32..6 * 32].copy_from_slice(hash.as_bytes());
        w.change("UPDATE journal_tiles SET hashes = $1 WHERE level = 0 AND idx = 0", args![tile]).await;
        let tampered = verdict(&w, &[]).await.unwrap_err();
        // Rows and hashes agree with each other and with no checkpoint.
        assert_eq!(tampered.how, How::RolledBack);
        assert!(tampered.place <= 5);
    }

    async fn derived_tables_changed_by_hand_are_named(dialect) {
        let w = long(dialect).await;
        let tile: Vec<u8> = w.rows("SELECT hashes FROM journal_tiles WHERE level = 0 AND idx = 0", args![]).await[0].get("hashes").unwrap();
        let mut bad = tile.clone();
        bad[32 * 7] ^= 1;
        w.change("UPDATE journal_tiles SET hashes = $1 WHERE level = 0 AND idx = 0", args![bad]).await;
        wrong(&w, How::Derived, 7).await;
        w.change("UPDATE journal_tiles SET hashes = $1 WHERE level = 0 AND idx = 0", args![tile]).await;
        verdict(&w, &[]).await.unwrap();
        w.change("UPDATE journal_tiles SET hashes = $1 WHERE level = 1 AND idx = 0", args![vec![0_u8; 32]]).await;
        assert_eq!(verdict(&w, &[]).await.unwrap_err().how, How::Derived);
        // The hub refuses to build on it.
        many(&w, 1).await;
        log::append(&w.hub, Pace::Now).await.unwrap_err();
    }

    async fn a_checkpoint_changed_by_hand_is_named(dialect) {
        let w = long(dialect).await;
        let (size, _) = head(&w).await;
        w.change("UPDATE journal_checkpoints SET note = REPLACE(note, 'pli.example', 'pli.exemple') WHERE size = $1", args![size]).await;
        wrong(&w, How::Checkpoint, size as u64).await;
        many(&w, 1).await;
        log::append(&w.hub, Pace::Now).await.unwrap_err();
    }

    async fn a_log_set_back_shows_against_a_witness_only(dialect) {
        let w = long(dialect).await;
        let witness = audit::checkpoint(&w.hub).await.unwrap().into_bytes();
        let (size, _) = head(&w).await;
        verdict(&w, std::slice::from_ref(&witness)).await.unwrap();
        // To the state of an earlier backup: the log ends before.
        let earlier = w.number("SELECT MAX(size) AS n FROM journal_checkpoints WHERE size < $1", args![size]).await;
        let note = w.rows("SELECT note FROM journal_checkpoints WHERE size = $1", args![earlier]).await[0].get::<String>("note").unwrap();
        let (checkpoint, _) = Checkpoint::open(note.as_bytes(), "pli.example/journal", &keys()).unwrap();
        let mut tx = w.hub.db().write().await.unwrap();
        tx.execute("DELETE FROM events WHERE seq >= $1 OR seq IS NULL", args![earlier]).await.unwrap();
        tx.execute("DELETE FROM journal_checkpoints WHERE size > $1", args![earlier]).await.unwrap();
        // The partial tiles of then.
        for (level, left) in [(0, earlier), (1, earlier / 256)] {
            tx.execute("DELETE FROM journal_tiles WHERE level = $1 AND idx > $2", args![level, left / 256]).await.unwrap();
            let row = tx.optional("SELECT hashes FROM journal_tiles WHERE level = $1 AND idx = $2", args![level, left / 256]).await.unwrap();
            if let Some(mut tile) = row.map(|row| row.get::<Vec<u8>>("hashes").unwrap()) {
                tile.truncate((left % 256) as usize * 32);
                let sql = if tile.is_empty() { "DELETE FROM journal_tiles WHERE level = $1 AND idx = $2 AND $3 IS NOT NULL" } else { "UPDATE journal_tiles SET hashes = $3 WHERE level = $1 AND idx = $2" };
                tx.execute(sql, args![level, left / 256, tile]).await.unwrap();
            }
        }
        tx.execute("UPDATE journal_head SET size = $1, signed = $1, root = $2", args![earlier, hex::encode(checkpoint.head().root.as_bytes())]).await.unwrap();
        tx.commit().await.unwrap();
        verdict(&w, &[]).await.unwrap();
        let tampered = verdict(&w, std::slice::from_ref(&witness)).await.unwrap_err();
        assert_eq!((tampered.how, tampered.place), (How::RolledBack, earlier as u64), "{tampered}");
        // The process that signed more knows it, and signs nothing; another does not.
        many(&w, 400).await;
        log::append(&w.hub, Pace::Now).await.unwrap_err();
        let node = w.node().await;
        log::append(&node, Pace::Now).await.unwrap();
        verdict(&w, &[]).await.unwrap();
        let tampered = verdict(&w, &[witness]).await.unwrap_err();
        assert_eq!((tampered.how, tampered.place), (How::RolledBack, earlier as u64), "{tampered}");
    }

    async fn a_witness_of_another_log_is_refused(dialect) {
        let w = long(dialect).await;
        let seed = zeroize::Zeroizing::new([9; 32]);
        let key = pli_journal::SigningKey::from_seed("pli.example/journal", &seed).unwrap();
        let head = pli_journal::TreeHead::empty();
        let note = Checkpoint::new("pli.example/journal", head).unwrap().sign(&key).unwrap().to_string();
        audit::verify(&w.hub, &[note.into_bytes()]).await.unwrap_err();
        audit::verify(&w.hub, &[b"rien".to_vec()]).await.unwrap_err();
    }

    /// Whatever the second finds half done or done, nothing is given two places and no head contradicts another.
    async fn two_sequencers_at_once_break_nothing(dialect) {
        let w = World::on(dialect).await;
        let nodes = [w.node().await, w.node().await, w.hub.clone()];
        let signed = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            many(&w, 40).await;
            let mut tasks = tokio::task::JoinSet::new();
            for node in nodes.clone() {
                let signed = signed.clone();
                tasks.spawn(async move {
                    if log::append(&node, Pace::Now).await.unwrap() {
                        signed.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
        }
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM journal_checkpoints", args![]).await as usize, signed.load(Ordering::SeqCst));
        let audited = verdict(&w, &[]).await.unwrap();
        assert_eq!(audited.events as i64, w.number("SELECT COUNT(*) AS n FROM events", args![]).await);
    }

    /// One at a time, one checkpoint a second, and whoever dies is followed.
    async fn the_lease_passes_when_its_holder_is_gone(dialect) {
        let w = World::on(dialect).await;
        let other = w.node().await;
        many(&w, 1).await;
        assert!(log::append(&w.hub, Pace::Shared).await.unwrap());
        many(&w, 1).await;
        assert!(!log::append(&w.hub, Pace::Shared).await.unwrap(), "within the second");
        w.pass(1);
        assert!(!log::append(&other, Pace::Shared).await.unwrap(), "another has the work");
        assert!(log::append(&w.hub, Pace::Shared).await.unwrap());
        many(&w, 1).await;
        w.pass(6);
        assert!(log::append(&other, Pace::Shared).await.unwrap());
        many(&w, 1).await;
        w.pass(-DAY);
        assert!(log::append(&w.hub, Pace::Shared).await.unwrap(), "a clock that went back holds nothing up");
        verdict(&w, &[]).await.unwrap();
    }

    /// Between the transaction of the places and that of the checkpoint, and before either.
    async fn a_crash_between_steps_is_taken_up(dialect) {
        let w = World::on(dialect).await;
        // More than one transaction takes: the process ends after the first.
        many(&w, 1500).await;
        w.jobs().await;
        let (size, _) = head(&w).await;
        let mut tx = w.hub.db().write().await.unwrap();
        tx.execute("UPDATE journal_head SET signed = 0", args![]).await.unwrap();
        tx.execute("DELETE FROM journal_checkpoints", args![]).await.unwrap();
        tx.commit().await.unwrap();
        let node = w.node().await;
        assert!(log::append(&node, Pace::Now).await.unwrap(), "places without a checkpoint are signed");
        assert_eq!(head(&w).await, (size, size));
        // A round that is dropped in the middle leaves nothing.
        many(&w, 50).await;
        for polls in 1..60 {
            let round = log::append(&node, Pace::Now);
            tokio::pin!(round);
            for _ in 0..polls {
                tokio::select! {
                    biased;
                    _ = &mut round => break,
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        log::append(&node, Pace::Now).await.unwrap();
        let audited = verdict(&w, &[]).await.unwrap();
        assert_eq!(audited.covered as i64, size + 50);
    }

    async fn proofs_over_the_api_hold(dialect) {
        let w = long(dialect).await;
        let get = |path: String| w.call(ask("GET", path).by(&w.sender));
        let checkpoint = get("/api/v1/journal/checkpoint".into()).await.expect(200).json();
        let (last, _) = Checkpoint::open(checkpoint["note"].as_str().unwrap().as_bytes(), "pli.example/journal", &keys()).unwrap();
        assert_eq!((checkpoint["size"].as_u64().unwrap(), checkpoint["root"].as_str().unwrap()), (last.head().size, hex::encode(last.head().root.as_bytes()).as_str()));
        let row = w.rows("SELECT id, seq FROM events WHERE kind = 'deposit.available'", args![]).await.pop().unwrap();
        let id = EventId(row.get("id").unwrap());
        let proof = get(format!("/api/v1/journal/proof/inclusion?event={id}")).await.expect(200).json();
        let leaf = proof["leaf"].as_str().unwrap();
        let held = TlogProof::parse(proof["proof"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(held.index as i64, row.get::<i64>("seq").unwrap());
        held.verify(&Hash::leaf(leaf.as_bytes()), "pli.example/journal", &keys()).unwrap();
        let read: serde_json::Value = serde_json::from_str(leaf).unwrap();
        assert_eq!((read["id"].as_str().unwrap(), read["kind"].as_str().unwrap()), (id.to_string().as_str(), "deposit.available"));

        let first = w.number("SELECT MIN(size) AS n FROM journal_checkpoints", args![]).await;
        let between = get(format!("/api/v1/journal/proof/consistency?from={first}")).await.expect(200).json();
        let hash = |text: &serde_json::Value| {
            use base64::Engine as _;
            Hash::from_bytes(base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap().try_into().unwrap())
        };
        let proof = Proof::new(between["hashes"].as_array().unwrap().iter().map(hash).collect()).unwrap();
        let open = |name: &str| Checkpoint::open(between[name]["note"].as_str().unwrap().as_bytes(), "pli.example/journal", &keys()).unwrap().0.head();
        verify_consistency(&open("from"), &open("to"), &proof).unwrap();
        get(format!("/api/v1/journal/proof/consistency?from={}&to={first}", last.head().size)).await.problem(422, "invalid");
        get("/api/v1/journal/proof/consistency?from=999999".into()).await.problem(404, "not-found");
        // Written, and not yet in its place.
        many(&w, 1).await;
        let row = w.rows("SELECT id FROM events WHERE seq IS NULL", args![]).await.pop().unwrap();
        get(format!("/api/v1/journal/proof/inclusion?event={}", row.get::<uuid::Uuid>("id").unwrap())).await.problem(409, "conflict");
    }

    /// A timestamp authority that is down holds nothing up; what it says is checked before it is kept.
    async fn checkpoints_without_their_authority(dialect) {
        // The program does this once.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = TimestampAuthority::new("http://127.0.0.1:9/".into(), vec![evidence().seal.certificate().clone()], 600).unwrap();
        let evidence = evidence_with(Some(authority));
        let w = Ground::on(dialect).options(|options| options.evidence = Some(evidence)).build().await;
        let (deposit, _) = w.available(&[("a.pdf", b"abc")]).await;
        let waiting = w.hub.db().jobs(JobFilter { kind: Some(log::TIMESTAMP), ..JobFilter::default() }).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert!(waiting[0].last_error.is_some());
        let receipts = w.call(ask("GET", format!("/api/v1/receipts?deposit={deposit}")).by(&w.sender)).await.expect(200).json();
        assert_eq!(receipts["items"].as_array().unwrap().len(), 2, "sealed without a timestamp");
        verdict(&w, &[]).await.unwrap();
    }

    /// Rows leave at the end of their retention; the log still proves all others, and says what has left.
    async fn events_leave_at_the_end_of_their_retention(dialect) {
        let mut w = World::on(dialect).await;
        let (_, documents) = w.available(&[("a.pdf", b"abc")]).await;
        w.pass(31 * DAY);
        w.jobs().await;
        let before = w.number("SELECT COUNT(*) AS n FROM events", args![]).await;
        w.pass(7 * 366 * DAY);
        for who in [&mut w.sender, &mut w.recipient] {
            let new = pli_api::NewToken { name: "suite".into(), days: 366 };
            who.token = crate::admin::add_token(&w.hub, &who.address, &new).await.unwrap().token;
        }
        let (_, living) = w.available(&[("b.pdf", b"abc")]).await;
        w.jobs().await;
        assert_eq!(w.rows("SELECT id FROM events WHERE document = $1", args![documents[0].0]).await.len(), 0);
        assert!(!w.rows("SELECT id FROM events WHERE document = $1", args![living[0].0]).await.is_empty());
        let audited = verdict(&w, &[]).await.unwrap();
        assert_eq!(audited.removed as i64, before);
        assert_eq!(w.told(log::PRUNED).await.len(), 1);
        // Not without the event that says so.
        w.change("UPDATE journal_head SET pruned = pruned + 1", args![]).await;
        verdict(&w, &[]).await.unwrap_err();
    }
}
