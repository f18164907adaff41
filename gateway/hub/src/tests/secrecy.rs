//! What must be nowhere but in its reader's hands: content, secrets, and what tells of persons and cases.

use crate::admin;
use crate::testing::*;
use pli_storage::{Dialect, args};
use serde_json::json;
use std::sync::{Arc, Mutex};
use tracing_subscriber::layer::SubscriberExt as _;
use zeroize::Zeroizing;

on_both! {
    /// Nothing that could be read is left anywhere but in the recipient's hands.
    async fn nothing_in_the_clear(dialect) {
        let w = Ground::on(dialect).folder().build().await;
        let deposit = w.draft().await;
        let canary = b"CANARI-7f3a9c: le temoin s'appelle Martin";
        let content: Vec<u8> = canary.iter().copied().cycle().take(SEGMENT + 5000).collect();
        let up = w.begin(deposit, "a", Some(content.len())).await;
        // 45 bytes into a hash's block: what a running digest holds back would show.
        w.patch(up.id, 0, &content[..109]).await.expect(204);
        w.call(append(up.id, 109).body(cut_after(&content[109..SEGMENT + 2], 1000)).by(&w.sender)).await.expect(400);
        w.patch(up.id, SEGMENT + 2, &content[SEGMENT + 2..]).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        let mut folders = vec![w.dir.path().to_owned()];
        let mut looked_at = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                looked_at += bytes.len();
                assert!(!bytes.windows(16).any(|seen| seen == &canary[..16]), "{}", path.display());
            }
        }
        assert!(looked_at > SEGMENT);
        let sql = "SELECT digest, digest_before, wrapped_key FROM uploads";
        for row in w.rows(sql, args![]).await {
            for column in ["digest", "digest_before", "wrapped_key"] {
                let bytes = row.get::<Vec<u8>>(column).unwrap();
                assert!(!bytes.windows(8).any(|seen| canary.windows(8).any(|c| c == seen)));
            }
        }
        for told in w.journal().await {
            let text = told.detail.to_string();
            assert!(!text.contains("pdf") && !text.contains('@') && !text.contains("Martin"), "{text}");
        }
    }
}

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A day of the hub, with its mishaps: what is logged and what is journalled names no person, no file, no
/// case, and no secret.
async fn a_day(dialect: Dialect) {
    let logged = Logged::default();
    let writer = logged.clone();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let subscriber =
        tracing_subscriber::registry().with(tracing_subscriber::filter::LevelFilter::TRACE).with(layer);
    let _guard = tracing::subscriber::set_default(subscriber);

    let w = World::on(dialect).await;
    let password = Some(Zeroizing::new(PASSWORD.to_owned()));
    let organisation = w.sender.organisation.to_string();
    admin::add_account(&w.hub, &organisation, "juge.dupond@cabinet.example", "Mme Dupond", password)
        .await
        .unwrap();
    let sign_in = |password: &str| {
        let body = json!({ "address": "juge.dupond@cabinet.example", "password": password });
        ask("POST", "/api/v1/session").json(&body)
    };
    w.call(sign_in(PASSWORD)).await.expect(201);
    w.call(sign_in("autremotdepasse")).await.expect(401);
    admin::add_account(&w.hub, &organisation, "juge.dupond@cabinet.example", "Mme Dupond", None)
        .await
        .unwrap_err();
    let body = json!({ "recipients": [w.recipient.address, "temoin.secret@nulle.example"], "subject": "affaire Durand" });
    w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(422);
    let body =
        json!({ "recipients": [w.recipient.address], "subject": "affaire Durand", "reference": "refdurand" });
    let made = w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(201).json();
    let deposit = made["id"].as_str().unwrap().parse().unwrap();
    let content = "le contenu de la plainte ".repeat(20_000).into_bytes();
    let up = w.begin(deposit, "plainte-durand.pdf", Some(content.len())).await;
    w.call(append(up.id, 0).body(cut_after(&content[..3000], 1000)).by(&w.sender)).await.expect(400);
    w.patch(up.id, 17, b"x").await.expect(409);
    w.patch(up.id, 3000, &content[3000..]).await.expect(204);
    w.jobs().await;
    w.send(deposit).await.expect(202);
    w.jobs().await;
    let document = up.document.unwrap();
    w.download(&w.recipient, document).await.expect(200);
    w.download(&w.stranger, document).await.expect(404);
    w.call(ask("GET", format!("/api/v1/deposits/{deposit}/zip")).by(&w.recipient)).await.expect(200);
    w.blobs.delete(&w.pieces(document).await[0]).await.unwrap();
    w.download(&w.recipient, document).await.problem(500, "damaged");
    w.call(ask("GET", "/api/v1/me").token("pli_jetonvole")).await.expect(401);
    w.pass(31 * DAY);
    w.jobs().await;
    w.rows("SELECT 1 AS n", args![]).await;

    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let events: String = w.journal().await.iter().map(|told| told.detail.to_string()).collect();
    assert!(text.contains("segment damaged"), "the log was listened to");
    let secrets = [
        &w.sender.token,
        &w.recipient.token,
        PASSWORD,
        "autremotdepasse",
        "jetonvole",
        "dupond",
        "Dupond",
        "durand",
        "Durand",
        "temoin",
        "@",
        "plainte",
        "Cabinet d'instruction",
        "Greffe",
        ".example",
    ];
    for secret in secrets {
        for (what, said) in [("logged", &text), ("journalled", &events)] {
            if let Some(at) = said.find(secret) {
                let from = said[..at].rfind('\n').map_or(0, |n| n + 1);
                let line: String = said[from..].chars().take(400).collect();
                panic!("{secret} is {what}: {line}");
            }
        }
    }
}

// On one thread, because the log is listened to on one.

#[tokio::test]
async fn a_day_on_sqlite() {
    a_day(Dialect::Sqlite).await;
}

#[tokio::test]
async fn a_day_on_postgres() {
    a_day(Dialect::Postgres).await;
}
