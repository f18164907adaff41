//! What ends by itself, and what stays of it.

use crate::testing::*;
use pli_storage::{Class, args};
use serde_json::json;

on_both! {
    async fn a_deposit_at_its_end(dialect) {
        let w = Ground::on(dialect).folder().build().await;
        let content = noise(1, 2 * SEGMENT + 3);
        let (deposit, documents) = w.available(&[("a.pdf", &content), ("vide", b"")]).await;
        let (_, kept) = w.available(&[("b.pdf", &content)]).await;
        w.change("UPDATE deposits SET expires = expires + 1 WHERE id <> $1", args![deposit.0]).await;
        let pieces = w.pieces(documents[0]).await;
        assert_eq!(w.used().await, 2 * content.len() as i64);
        w.pass(30 * DAY);
        w.jobs().await;

        // The keys are gone from every row, and with them everything they opened.
        let row = |sql, id: pli_api::DocumentId| w.rows(sql, args![id.0]);
        for document in &documents {
            let sql = "SELECT wrapped_key, wrapped_for, digest, digest_before, metadata, state FROM uploads WHERE document = $1";
            for upload in row(sql, *document).await {
                for column in ["wrapped_key", "digest", "digest_before"] {
                    assert_eq!(upload.get::<Option<Vec<u8>>>(column).unwrap(), None, "{column}");
                }
                assert_eq!(upload.get::<Option<String>>("wrapped_for").unwrap(), None);
                assert_eq!(upload.get::<String>("metadata").unwrap(), "");
                assert_eq!(upload.get::<String>("state").unwrap(), "ended");
            }
            let sql = "SELECT state, sha256, size, manifest, wrapped_for FROM documents WHERE id = $1";
            let row = row(sql, *document).await.pop().unwrap();
            assert_eq!(row.get::<String>("state").unwrap(), "erased");
            assert_eq!(row.get::<Option<String>>("manifest").unwrap(), None);
            assert_eq!(row.get::<Option<String>>("wrapped_for").unwrap(), None);
            assert_eq!(w.document(*document).await["sha256"].as_str().unwrap().len(), 64, "the digest stays, as evidence");
        }
        for piece in &pieces {
            assert_eq!(w.blobs.head(piece).await.unwrap(), None);
        }
        assert_eq!((w.objects(Class::Segment).await.len(), w.objects(Class::Manifest).await.len()), (3, 1), "the other's");
        assert_eq!(w.used().await, content.len() as i64);
        let told: Vec<_> = w.journal().await.into_iter().filter(|t| t.kind.starts_with("document.erased") || t.kind == "deposit.expired").collect();
        assert_eq!(told.len(), 3);
        assert_eq!(told[0].document, Some(documents[0]));
        assert_eq!((told[2].kind.as_str(), told[2].deposit, told[2].actor), ("deposit.expired", Some(deposit), None));
        w.holds(kept[0], &content).await;
        // Once.
        w.jobs().await;
        assert_eq!(w.told("deposit.expired").await.len(), 1);
        w.pass(1);
        w.jobs().await;
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
        w.is_sound().await;
    }

    async fn the_senders_choice_of_days(dialect) {
        let w = World::on(dialect).await;
        let body = json!({ "recipients": [w.recipient.address], "retention_days": 2 });
        let made = w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(201).json();
        let deposit = made["id"].as_str().unwrap().parse().unwrap();
        w.upload(deposit, "a", b"abc").await;
        // Counted from its availability, not from its draft.
        w.pass(5 * DAY);
        w.send(deposit).await.expect(202);
        w.jobs().await;
        w.pass(2 * DAY - 1);
        w.jobs().await;
        assert_eq!(w.deposit(&w.recipient, deposit).await.expect(200).json()["state"], "available");
        w.pass(1);
        w.jobs().await;
        assert_eq!(w.deposit(&w.sender, deposit).await.expect(200).json()["state"], "expired");
        w.store_is_empty().await;
    }

    async fn a_forgotten_draft(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let content = noise(2, SEGMENT + 5);
        w.upload(deposit, "a", &content).await;
        w.jobs().await;
        w.pass(29 * DAY);
        let young = w.draft().await;
        w.upload(young, "b", b"abc").await;
        let half = w.begin(deposit, "c", Some(10)).await;
        w.patch(half.id, 0, b"abc").await.expect(204);
        w.jobs().await;
        w.deposit(&w.sender, deposit).await.expect(200);
        w.pass(DAY);
        w.jobs().await;
        w.deposit(&w.sender, deposit).await.problem(404, "not-found");
        w.deposit(&w.sender, young).await.expect(200);
        w.call(tus("HEAD", format!("/api/v1/uploads/{}", half.id)).by(&w.sender)).await.expect(410);
        let told = w.told("deposit.forgotten").await;
        assert_eq!((told.len(), told[0].deposit, told[0].actor), (1, Some(deposit), None));
        assert_eq!(w.used().await, 3);
        assert_eq!(w.objects(Class::Segment).await.len(), 1);
        w.is_sound().await;
    }

    /// Nobody looks at a draft that was sent: it stays until its own end.
    async fn a_sent_deposit_is_no_draft(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        w.upload(deposit, "a", b"abc").await;
        w.pass(29 * DAY);
        w.send(deposit).await.expect(202);
        w.jobs().await;
        w.pass(2 * DAY);
        w.jobs().await;
        assert_eq!(w.deposit(&w.recipient, deposit).await.expect(200).json()["state"], "available");
    }

    async fn rows_of_what_ended_long_ago(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let up = w.begin(deposit, "a", Some(3)).await;
        let (_, documents) = w.available(&[("b", b"abc")]).await;
        let path = format!("/api/v1/uploads/{}", up.id);
        w.call(tus("DELETE", &path).by(&w.sender)).await.expect(204);
        w.pass(36 * DAY);
        w.jobs().await;
        w.call(tus("HEAD", &path).by(&w.sender)).await.expect(410);
        w.pass(DAY);
        w.jobs().await;
        w.call(tus("HEAD", &path).by(&w.sender)).await.expect(404);
        // What belongs to a document that is kept as evidence stays with it.
        assert_eq!(w.document(documents[0]).await["state"], "erased");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM document_parts", args![]).await, 1);
    }

    /// Several processes sweep at once: each thing ends once.
    async fn swept_by_several(dialect) {
        let w = World::on(dialect).await;
        let node = w.node().await;
        let mut deposits = Vec::new();
        for n in 0..6 {
            deposits.push(w.available(&[("a", &noise(n, 500))]).await.0);
            let draft = w.draft().await;
            let half = w.begin(draft, "b", Some(10)).await;
            w.patch(half.id, 0, b"abc").await.expect(204);
        }
        w.pass(31 * DAY);
        let all: Vec<_> = [w.hub.clone(), node.clone(), w.hub.clone(), node].into_iter()
            .map(|hub| tokio::spawn(async move { hub.run_due_jobs().await })).collect();
        for one in all {
            one.await.unwrap().unwrap();
        }
        w.jobs().await;
        assert_eq!(w.told("deposit.expired").await.len(), 6);
        assert_eq!(w.told("document.erased").await.len(), 6);
        assert_eq!(w.told("upload.expired").await.len(), 6);
        assert_eq!(w.told("deposit.forgotten").await.len(), 6);
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
        w.is_sound().await;
    }

    /// Expiry and rotation at the same moment: no manifest stays behind with its wrapped key.
    async fn erased_while_the_keys_are_rotated(dialect) {
        for round in 0..6_u64 {
            let w = World::on(dialect).await;
            for n in 0..4 {
                w.available(&[("a", &noise(n, 500 + round as usize)), ("b", b"b")]).await;
            }
            let rotating = w.node_with(crate::KeySource::new(|| Ok(rotated().both.clone())).unwrap(), &w.url).await;
            w.pass(31 * DAY);
            let hub = w.hub.clone();
            let sweeping = tokio::spawn(async move { hub.run_due_jobs().await.unwrap() });
            let rotated = crate::admin::rotate_keys(&rotating).await.unwrap();
            assert!(rotated.refused.is_empty(), "{rotated:?}");
            sweeping.await.unwrap();
            w.jobs().await;
            w.store_is_empty().await;
        }
    }

    /// One thing that cannot be ended does not keep the others.
    async fn a_stubborn_row(dialect) {
        let w = World::on(dialect).await;
        let (first, documents) = w.available(&[("a", b"abc")]).await;
        let (second, _) = w.available(&[("b", b"abc")]).await;
        // An object's key that no store takes: the deletion of the first cannot even be written down.
        let sql = "UPDATE documents SET manifest = 'rien', wrapped_for = 'x' WHERE id = $1";
        w.change(sql, args![documents[0].0]).await;
        let draft = w.draft().await;
        w.pass(31 * DAY);
        w.jobs().await;
        for deposit in [first, second] {
            assert_eq!(w.deposit(&w.sender, deposit).await.expect(200).json()["state"], "expired");
        }
        w.deposit(&w.sender, draft).await.problem(404, "not-found");
        let jobs = w.hub.db().jobs(Default::default()).await.unwrap();
        assert_eq!(jobs.len(), 1, "the operator sees the one that failed");
        assert!(jobs[0].last_error.is_some());
    }
}
