//! What the operator does: rotation of the keys, recovery without a database, inspection; and the jobs.

use crate::admin::{self, CheckOptions, Findings, Rotation};
use crate::testing::*;
use crate::{KeySource, documents};
use bytes::Bytes;
use pli_api::{DepositId, DocumentId, ProblemCode, Time, UploadId};
use pli_seal::{DocumentKey, KeyRing, Manifest, SealError};
use pli_storage::{Blobs, Class, Dialect, Job, ObjectEntry, ObjectKey, args};
use serde_json::json;
use std::sync::{Arc, Mutex};

/// A deposit with a document of one part, one of several, and an empty one.
struct Kept {
    deposit: DepositId,
    documents: Vec<(DocumentId, Vec<u8>)>,
}

async fn kept(w: &World) -> Kept {
    let deposit = w.draft().await;
    let whole = noise(1, 2 * SEGMENT + 77);
    let mut documents = vec![
        (w.upload(deposit, "a.pdf", &whole).await, whole),
        (w.upload(deposit, "vide", b"").await, Vec::new()),
    ];
    let content = noise(2, 3 * SEGMENT);
    let mut parts = Vec::new();
    for piece in [&content[..SEGMENT + 5], &[], &content[SEGMENT + 5..SEGMENT + 6], &content[SEGMENT + 6..]] {
        let begun = w.begin_part(piece.len()).await;
        if !piece.is_empty() {
            w.patch(begun.id, 0, piece).await.expect(204);
        }
        parts.push(begun.id.to_string());
    }
    let given = metadata(&[("filename", "dossier/grand.bin"), ("deposit", &deposit.to_string())]);
    let ask = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
    let ask = ask.header("upload-concat", format!("final;{}", parts.join(" "))).by(&w.sender);
    documents.push((w.call(ask).await.expect(201).begun().document.unwrap(), content));
    w.send(deposit).await.expect(202);
    w.jobs().await;
    for (document, content) in &documents {
        w.holds(*document, content).await;
    }
    Kept { deposit, documents }
}

/// Keys as they lie on a disk, and a source that reads them there.
fn on_disk(ring: &KeyRing) -> (Arc<Mutex<KeyRing>>, KeySource) {
    let disk = Arc::new(Mutex::new(ring.clone()));
    let read = disk.clone();
    let source = KeySource::new(move || Ok(read.lock().unwrap().clone())).unwrap();
    (disk, source)
}

async fn entries(w: &World, class: Class) -> Vec<ObjectEntry> {
    w.blobs.list(class, None, 10_000).await.unwrap()
}

async fn check(w: &World, deep: bool, remove_orphans_after: Option<i64>) -> Findings {
    admin::check(&w.hub, CheckOptions { deep, remove_orphans_after }).await.unwrap()
}

/// The one job that waits.
async fn lease(w: &World) -> Job {
    w.hub.db().lease(&[documents::FINISH], w.now(), 60_000_000).await.unwrap().unwrap()
}

async fn recovered(blobs: &Blobs, ring: &KeyRing) -> (Vec<(Manifest, Vec<u8>)>, Vec<String>) {
    let (documents, refused) = admin::recoverable(blobs, ring).await.unwrap();
    let mut all = Vec::new();
    for document in documents {
        let mut bytes = Vec::new();
        let take = |piece: &[u8]| -> Result<(), std::io::Error> {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        document.read(take).await.unwrap();
        all.push((document.manifest, bytes));
    }
    (all, refused)
}

async fn on_folder(dialect: Dialect, keys: KeySource) -> World {
    let mut ground = Ground::on(dialect).folder();
    ground.keys = Some(keys);
    ground.build().await
}

on_both! {
    async fn rotation(dialect) {
        let (disk, source) = on_disk(ring());
        let w = on_folder(dialect, source).await;
        let kept = kept(&w).await;
        let draft = w.draft().await;
        let content = noise(3, 2 * SEGMENT);
        let half = w.begin(draft, "moitié", Some(content.len())).await;
        w.patch(half.id, 0, &content[..SEGMENT + 10]).await.expect(204);
        let segments = entries(&w, Class::Segment).await;
        let manifests = entries(&w, Class::Manifest).await;

        // Another process rotates; the hub goes on with the ring that it has read before.
        *disk.lock().unwrap() = rotated().both.clone();
        let operator = w.node_with(KeySource::new(|| Ok(rotated().both.clone())).unwrap(), &w.url).await;
        let done = admin::rotate_keys(&operator).await.unwrap();
        // Two documents of one part, one of four, one half.
        assert_eq!(done, Rotation { keys: 7, manifests: 3, refused: vec![] });
        let event = w.told("keys.rotated").await.pop().unwrap();
        let new = rotated().new.current().fingerprint();
        assert_eq!(event.detail, json!({ "to": new, "keys": 7, "manifests": 3, "refused": 0 }));
        w.jobs().await;
        assert_eq!(entries(&w, Class::Segment).await, segments, "no segment was written: same keys, lengths and times");
        let rewritten = entries(&w, Class::Manifest).await;
        assert_eq!(rewritten.len(), 3);
        assert!(rewritten.iter().all(|entry| manifests.iter().all(|old| old.key != entry.key)));

        for row in w.rows("SELECT wrapped_key, wrapped_for FROM uploads WHERE wrapped_key IS NOT NULL", args![]).await {
            let wrapped = row.get::<Vec<u8>>("wrapped_key").unwrap();
            assert!(matches!(DocumentKey::unwrap(&wrapped, ring()), Err(SealError::NotOurs)));
            DocumentKey::unwrap(&wrapped, &rotated().new).unwrap();
            assert_eq!(row.get::<String>("wrapped_for").unwrap(), new);
        }
        for entry in &rewritten {
            let bytes = w.blobs.read(&entry.key, 1 << 20).await.unwrap();
            assert!(matches!(Manifest::open(&bytes, ring()), Err(SealError::NotOurs)));
            Manifest::open(&bytes, &rotated().both).unwrap();
        }

        // The running hub learns it when it first meets such a wrap.
        assert_eq!(w.hub.keys().current(), ring().current().fingerprint());
        for (document, content) in &kept.documents {
            w.holds(*document, content).await;
        }
        assert_eq!(w.hub.keys().current(), new);
        w.patch(half.id, SEGMENT + 10, &content[SEGMENT + 10..]).await.expect(204);
        w.jobs().await;
        w.holds(half.document.unwrap(), &content).await;

        let again = admin::rotate_keys(&operator).await.unwrap();
        assert_eq!(again, Rotation::default());
        assert_eq!(entries(&w, Class::Segment).await.len(), segments.len(), "the tail became a whole segment");
        w.is_sound().await;
    }

    /// A process that has not learnt the rotation yet makes documents for the old certificate: the next
    /// run finds those alone, and they open meanwhile.
    async fn rotation_catches_up(dialect) {
        let w = on_folder(dialect, KeySource::new(|| Ok(ring().clone())).unwrap()).await;
        let both = || KeySource::new(|| Ok(rotated().both.clone())).unwrap();
        let operator = w.node_with(both(), &w.url).await;
        assert_eq!(admin::rotate_keys(&operator).await.unwrap(), Rotation::default());
        let (_, documents) = w.available(&[("a", b"abc")]).await;
        let reply = call(&operator, content_of(documents[0]).by(&w.recipient)).await.expect(200);
        assert_eq!(reply.body, &b"abc"[..]);
        assert_eq!(admin::rotate_keys(&operator).await.unwrap(), Rotation { keys: 1, manifests: 1, refused: vec![] });
        assert_eq!(admin::rotate_keys(&operator).await.unwrap(), Rotation::default());
        // A hub whose ring never holds the new key does not open it, and does not call it damaged.
        w.download(&w.sender, documents[0]).await.problem(500, "internal");
        assert!(w.told("segment.damaged").await.is_empty());
    }

    async fn rotation_tells_what_it_cannot_open(dialect) {
        let w = on_folder(dialect, KeySource::new(|| Ok(ring().clone())).unwrap()).await;
        let kept = kept(&w).await;
        let (document, _) = &kept.documents[0];
        let sql = "UPDATE uploads SET wrapped_key = $2 WHERE document = $1";
        assert_eq!(w.change(sql, args![document.0, b"rien"]).await, 1);
        let row = &w.rows("SELECT manifest FROM documents WHERE id = $1", args![kept.documents[1].0.0]).await[0];
        let manifest: ObjectKey = row.get::<String>("manifest").unwrap().parse().unwrap();
        w.blobs.delete(&manifest).await.unwrap();
        let operator = w.node_with(KeySource::new(|| Ok(rotated().both.clone())).unwrap(), &w.url).await;
        let done = admin::rotate_keys(&operator).await.unwrap();
        assert_eq!((done.keys, done.manifests, done.refused.len()), (5, 2, 2), "{done:?}");
        assert!(done.refused[0].starts_with("upload ") && done.refused[1].contains(&kept.documents[1].0.to_string()));
        let again = admin::rotate_keys(&operator).await.unwrap();
        assert_eq!((again.keys, again.manifests, again.refused), (0, 0, done.refused));
    }

    async fn recovery_from_the_store_alone(dialect) {
        let w = on_folder(dialect, KeySource::new(|| Ok(ring().clone())).unwrap()).await;
        let kept = kept(&w).await;
        // What was never sealed, or was erased, cannot come back.
        let draft = w.draft().await;
        w.upload(draft, "brouillon", b"pas fini").await;
        let (gone, _) = w.available(&[("effacé", b"abc")]).await;
        w.change("UPDATE deposits SET expires = $2 WHERE id = $1", args![gone.0, Time::from_micros(0)]).await;
        crate::retention::sweep(&w.hub).await.unwrap();
        w.hub.run_due_jobs().await.unwrap();
        let other = w.draft().await;
        w.call(ask("DELETE", format!("/api/v1/deposits/{draft}")).by(&w.sender)).await.expect(204);
        w.call(ask("DELETE", format!("/api/v1/deposits/{other}")).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.blobs.put(&ObjectKey::random(Class::Manifest).unwrap(), vec![Bytes::from_static(b"autre chose")]).await.unwrap();

        let store = Blobs::folder(w.dir.path().join("store")).unwrap();
        let (documents, refused) = recovered(&store, ring()).await;
        assert_eq!(refused.len(), 1);
        assert_eq!(documents.len(), 3);
        for (document, content) in &kept.documents {
            let (manifest, bytes) = documents.iter().find(|(m, _)| m.document == document.to_string()).unwrap();
            assert!(bytes == content);
            assert_eq!(manifest.deposit, kept.deposit.to_string());
            assert_eq!(manifest.size, content.len() as u64);
            assert_eq!(manifest.sha256, hex::encode(sha256(content)));
        }
        let names: Vec<_> = documents.iter().map(|(m, _)| m.name.as_str()).collect();
        assert_eq!(names, ["a.pdf", "vide", "dossier/grand.bin"]);
        assert_eq!(documents[0].0.media_type, "application/pdf");

        // After a rotation: the same; and the new keys are needed.
        let operator = w.node_with(KeySource::new(|| Ok(rotated().both.clone())).unwrap(), &w.url).await;
        admin::rotate_keys(&operator).await.unwrap();
        let (twice, _) = recovered(&store, &rotated().both).await;
        assert_eq!(twice.len(), 3, "old and new heads of one document are one document");
        w.jobs().await;
        let (after, _) = recovered(&store, &rotated().both).await;
        assert!(after == documents);
        let (none, refused) = recovered(&store, ring()).await;
        assert_eq!((none.len(), refused.len()), (0, 4));

        // Damage is told, not passed on as content.
        let piece = w.pieces(kept.documents[0].0).await[1].clone();
        let mut bytes = w.blobs.read(&piece, 1 << 30).await.unwrap();
        bytes[5000] ^= 1;
        w.blobs.put(&piece, vec![bytes.into()]).await.unwrap();
        let (documents, _) = admin::recoverable(&store, &rotated().both).await.unwrap();
        let damaged = documents.iter().find(|d| d.manifest.name == "a.pdf").unwrap();
        let mut taken = Vec::new();
        let read = damaged.read(|piece| -> Result<(), std::io::Error> { taken.extend_from_slice(piece); Ok(()) }).await;
        assert_eq!(read.unwrap_err().code(), ProblemCode::Damaged);
        assert!(kept.documents[0].1.starts_with(&taken));
    }

    async fn orphans(dialect) {
        let w = Ground::on(dialect).folder().build().await;
        let kept = kept(&w).await;
        let draft = w.draft().await;
        let half = w.begin(draft, "moitié", Some(10)).await;
        w.patch(half.id, 0, b"abc").await.expect(204);
        let found = check(&w, true, None).await;
        assert!(found.is_clean(), "{found:?}");
        assert_eq!(found.objects, 8 + 1 + 3, "segments and manifests");
        let orphans = [ObjectKey::random(Class::Segment).unwrap(), ObjectKey::random(Class::Manifest).unwrap()];
        for orphan in &orphans {
            w.blobs.put(orphan, vec![Bytes::from_static(b"sans maitre")]).await.unwrap();
        }
        let mut names: Vec<_> = orphans.iter().map(ToString::to_string).collect();
        names.sort();
        let found = check(&w, false, None).await;
        // Young ones are told and stay: an upload may be about to name them.
        assert_eq!((&found.recent, found.orphans.len()), (&names, 0));
        assert!(found.is_clean());
        assert_eq!(check(&w, false, Some(DAY)).await.removed, 0);
        let refused = admin::check(&w.hub, CheckOptions { deep: false, remove_orphans_after: Some(DAY - 1) }).await;
        assert_eq!(refused.unwrap_err().code(), ProblemCode::Invalid);
        w.pass(2 * DAY);
        let unfinished = w.dir.path().join("store/unfinished/0123456789abcdef");
        std::fs::write(&unfinished, b"tue au milieu").unwrap();
        let found = check(&w, false, None).await;
        assert_eq!((&found.orphans, found.recent.len()), (&names, 0));
        assert!(!found.is_clean(), "what is a day old and named by nothing is amiss");
        // Unless a job is about to delete it; a job that was given up will not.
        let mut tx = w.hub.db().write().await.unwrap();
        crate::jobs::delete_objects(&mut tx, &[names[0].as_str()]).await.unwrap();
        tx.commit().await.unwrap();
        let found = check(&w, false, None).await;
        assert_eq!((found.leaving, &found.orphans[..]), (1, &names[1..]));
        w.change("UPDATE jobs SET state = 'dead' WHERE kind = 'objects.delete'", args![]).await;
        let found = check(&w, false, None).await;
        assert_eq!((found.leaving, &found.orphans), (0, &names));
        w.change("DELETE FROM jobs WHERE kind = 'objects.delete'", args![]).await;
        let found = check(&w, false, Some(DAY)).await;
        assert_eq!((&found.orphans, found.removed), (&names, 2));
        assert!(found.is_clean());
        assert!(!unfinished.exists());
        let found = check(&w, true, Some(DAY)).await;
        assert_eq!((found.orphans.len(), found.removed), (0, 0));
        for (document, content) in &kept.documents {
            w.holds(*document, content).await;
        }
        w.is_sound().await;
    }

    async fn accounts_that_do_not_add_up(dialect) {
        let w = World::on(dialect).await;
        kept(&w).await;
        w.change("UPDATE organisations SET used = used + 1 WHERE id = $1", args![w.sender.organisation.0]).await;
        let found = check(&w, false, None).await;
        assert_eq!(found.quotas, [w.sender.organisation.to_string()]);
        assert!(!found.is_clean());
    }

    /// Checked while uploads, downloads and jobs go on: nothing of theirs is called amiss.
    async fn checked_under_way(dialect) {
        let w = World::on(dialect).await;
        let kept = kept(&w).await;
        let deposit = w.draft().await;
        let busy: Vec<_> = (0..3_u64).map(|n| {
            let (hub, sender) = (w.hub.clone(), w.sender.clone());
            tokio::spawn(async move {
                for round in 0..4 {
                    let content = noise(n * 10 + round, SEGMENT + 9000);
                    let reply = call(&hub, creation(deposit, "x", Some(content.len())).by(&sender)).await;
                    let id = reply.expect(201).begun().id;
                    for (at, piece) in content.chunks(100_000).enumerate() {
                        call(&hub, append(id, at * 100_000).octets(piece).by(&sender)).await.expect(204);
                    }
                    hub.run_due_jobs().await.unwrap();
                    call(&hub, tus("DELETE", format!("/api/v1/uploads/{id}")).by(&sender)).await.expect(204);
                }
            })
        }).collect();
        while busy.iter().any(|one| !one.is_finished()) {
            let found = check(&w, true, None).await;
            assert_eq!((&found.missing, &found.wrong_length, &found.damaged, &found.quotas),
                (&vec![], &vec![], &vec![], &vec![]), "{found:?}");
        }
        for one in busy {
            one.await.unwrap();
        }
        assert!(w.told("segment.damaged").await.is_empty());
        for (document, content) in &kept.documents {
            w.holds(*document, content).await;
        }
        w.is_sound().await;
    }

    // Jobs.

    /// The process dies between the manifest and the commit; or its lease was taken over meanwhile.
    async fn finishing_twice(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let content = noise(5, SEGMENT + 1);
        let document = w.upload(deposit, "a", &content).await;
        let stale = lease(&w).await;
        // Its lease ends, another worker takes the job.
        w.pass(61);
        let fresh = lease(&w).await;
        assert_eq!((stale.id, fresh.fence), (fresh.id, stale.fence + 1));
        documents::finish(&w.hub, &stale).await.unwrap();
        assert_eq!(w.document(document).await["state"], "finishing", "the late one changes nothing");
        assert_eq!(w.objects(Class::Manifest).await, [], "and leaves nothing");
        documents::finish(&w.hub, &fresh).await.unwrap();
        w.holds(document, &content).await;
        // Late again, after the fact.
        documents::finish(&w.hub, &stale).await.unwrap();
        documents::finish(&w.hub, &fresh).await.unwrap();
        assert_eq!(w.objects(Class::Manifest).await.len(), 1);
        assert_eq!(w.told("document.sealed").await.len(), 1);
        w.holds(document, &content).await;
        w.is_sound().await;
    }

    /// Killed after its manifest was stored: the manifest is an orphan, the document is finished later.
    async fn killed_after_the_manifest(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let document = w.upload(deposit, "a", b"abc").await;
        lease(&w).await;
        w.blobs.put(&ObjectKey::random(Class::Manifest).unwrap(), vec![Bytes::from_static(b"d'un mort")]).await.unwrap();
        w.pass(61);
        w.jobs().await;
        w.holds(document, b"abc").await;
        w.pass(2 * DAY);
        let found = check(&w, true, Some(DAY)).await;
        assert_eq!((found.removed, found.is_clean()), (1, true));
        w.holds(document, b"abc").await;
    }

    async fn removed_before_it_is_finished(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        w.upload(deposit, "a", b"abc").await;
        let job = lease(&w).await;
        w.call(ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender)).await.expect(204);
        documents::finish(&w.hub, &job).await.unwrap();
        w.jobs().await;
        w.store_is_empty().await;
        assert!(w.hub.db().jobs(Default::default()).await.unwrap().is_empty());
    }

    /// A concatenation is read back when it is finished; what does not open is tried again, then told.
    async fn damaged_before_it_is_finished(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let parts = [w.begin_part(3).await.id, w.begin_part(3).await.id];
        for id in parts {
            w.patch(id, 0, b"abc").await.expect(204);
        }
        let given = metadata(&[("filename", "x"), ("deposit", &deposit.to_string())]);
        let joined = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
        let joined = joined.header("upload-concat", format!("final;{} {}", parts[0], parts[1]));
        let document = w.call(joined.by(&w.sender)).await.expect(201).begun().document.unwrap();
        let piece = w.pieces(document).await[1].clone();
        let good = w.blobs.read(&piece, 1000).await.unwrap();
        let mut bad = good.clone();
        bad[60] ^= 1;
        w.blobs.put(&piece, vec![bad.into()]).await.unwrap();
        w.jobs().await;
        assert_eq!(w.document(document).await["state"], "finishing");
        assert_eq!(w.told("segment.damaged").await.len(), 1);
        w.pass(60);
        w.jobs().await;
        assert_eq!(w.document(document).await["state"], "finishing");
        w.pass(60);
        w.jobs().await;
        assert_eq!(w.document(document).await["state"], "damaged");
        assert_eq!(w.told("document.damaged").await.len(), 1);
        assert!(w.hub.db().jobs(Default::default()).await.unwrap().is_empty());
        w.download(&w.sender, document).await.problem(500, "damaged");
        w.send(deposit).await.problem(500, "damaged");
        // Taken out, the rest can be sent.
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", parts[0])).by(&w.sender)).await.expect(204);
        w.upload(deposit, "y", b"abc").await;
        w.send(deposit).await.expect(202);
        w.is_sound().await;
    }

    /// What stands in the store is judged, not what runs beside it: a lost digest is made anew.
    async fn a_digest_that_was_lost(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let content = noise(6, SEGMENT + 5);
        let mut documents = Vec::new();
        for (n, digest) in [None, Some(b"rien".to_vec()), Some(vec![0; 200])].into_iter().enumerate() {
            let document = w.upload(deposit, &n.to_string(), &content).await;
            w.change("UPDATE uploads SET digest = $2 WHERE document = $1", args![document.0, digest]).await;
            documents.push(document);
        }
        // Another's, of other content and the same length.
        let other = w.upload(deposit, "autre", &noise(7, SEGMENT + 5)).await;
        let document = w.upload(deposit, "3", &content).await;
        let sql = "UPDATE uploads SET digest = (SELECT digest FROM uploads WHERE document = $2) WHERE document = $1";
        w.change(sql, args![document.0, other.0]).await;
        documents.push(document);
        // Lost half-way, with a tail and without: the rest is still taken.
        for (n, half) in [(4, SEGMENT), (5, 100)] {
            let up = w.begin(deposit, &n.to_string(), Some(content.len())).await;
            w.patch(up.id, 0, &content[..half]).await.expect(204);
            let sql = "UPDATE uploads SET digest = $2, digest_before = $2 WHERE id = $1";
            w.change(sql, args![up.id.0, [0; 200]]).await;
            w.patch(up.id, half, &content[half..]).await.expect(204);
            documents.push(up.document.unwrap());
        }
        w.jobs().await;
        for document in documents {
            let told = w.document(document).await;
            assert_eq!((&told["state"], &told["sha256"]), (&json!("available"), &json!(hex::encode(sha256(&content)))));
        }
    }

    /// A request with a checksum that lasts longer than an object may wait for its name.
    async fn objects_that_waited_too_long(dialect) {
        use base64::Engine as _;
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let content = noise(8, 2 * SEGMENT);
        let up = w.begin(deposit, "a", Some(content.len())).await;
        let (feed, body) = Feed::new();
        let sum = base64::engine::general_purpose::STANDARD.encode(sha256(&content));
        let ask = append(up.id, 0).header("upload-checksum", format!("sha256 {sum}")).body(body).by(&w.sender);
        let hub = w.hub.clone();
        let running = tokio::spawn(async move { call(&hub, ask).await });
        assert!(feed.give(&content[..SEGMENT + 1]).await);
        until("the first segment to be stored", || async { w.objects(Class::Segment).await.len() == 1 }).await;
        w.pass(13 * 3600);
        assert!(feed.give(&content[SEGMENT + 1..]).await);
        drop(feed);
        running.await.unwrap().problem(413, "too-large");
        assert_eq!(w.offset(up.id).await, 0);
        w.store_is_empty().await;
        w.patch(up.id, 0, &content).await.expect(204);
        w.jobs().await;
        w.holds(up.document.unwrap(), &content).await;
        w.is_sound().await;
    }

    /// The workers themselves, as a process runs them: nobody asks for the jobs.
    async fn workers(dialect) {
        let w = World::on(dialect).await;
        let stop = tokio_util::sync::CancellationToken::new();
        let hub = w.hub.clone();
        let token = stop.clone();
        let running = tokio::spawn(async move { hub.run_jobs(token).await });
        let deposit = w.draft().await;
        let mut documents = Vec::new();
        for n in 0..10_u64 {
            let content = noise(n, 1000 + n as usize);
            documents.push((w.upload(deposit, &n.to_string(), &content).await, content));
        }
        w.send(deposit).await.expect(202);
        until("the deposit to be available", || async { w.deposit(&w.recipient, deposit).await.status == 200 }).await;
        for (document, content) in &documents {
            w.holds(*document, content).await;
        }
        stop.cancel();
        running.await.unwrap();
        let late = w.draft().await;
        let document = w.upload(late, "a", b"abc").await;
        assert_eq!(w.document(document).await["state"], "finishing");
        w.is_sound().await;
    }

    /// Asked to stop in the middle of a job, a worker gives it back: it is done at once by the next.
    async fn workers_that_stop(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        for round in 0..10_u64 {
            let document = w.upload(deposit, &round.to_string(), &noise(round, 3 * SEGMENT)).await;
            let stop = tokio_util::sync::CancellationToken::new();
            let (hub, token) = (w.hub.clone(), stop.clone());
            let running = tokio::spawn(async move { hub.run_jobs(token).await });
            for _ in 0..round * 3 {
                tokio::task::yield_now().await;
            }
            stop.cancel();
            running.await.unwrap();
            // No clock has moved: what was leased is due again.
            w.jobs().await;
            assert_eq!(w.document(document).await["state"], "available");
        }
        let row = &w.rows("SELECT upload FROM document_parts LIMIT 1", args![]).await[0];
        assert!(!w.stored(UploadId(row.get("upload").unwrap())).await.is_empty());
        // A manifest that was stored by a job that was then given up is an orphan at most.
        let found = check(&w, true, None).await;
        assert_eq!((found.missing.len(), found.damaged.len()), (0, 0));
    }
}
