//! Documents put together from parts that were sent side by side.

use crate::testing::*;
use pli_api::{DepositId, UploadId};
use pli_storage::{Class, Dialect, args};
use serde_json::json;

fn concatenation(deposit: DepositId, parts: &[UploadId]) -> Ask {
    let list: Vec<_> = parts.iter().map(|id| format!("/api/v1/uploads/{id}")).collect();
    let given = metadata(&[("filename", "grand.bin"), ("deposit", &deposit.to_string())]);
    let ask = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
    ask.header("upload-concat", format!("final;{}", list.join(" ")))
}

async fn part(w: &World, content: &[u8]) -> UploadId {
    let begun = w.begin_part(content.len()).await;
    if !content.is_empty() {
        w.patch(begun.id, 0, content).await.expect(204);
    }
    begun.id
}

async fn nothing_came_of_it(w: &World, deposit: DepositId) {
    let documents = w.deposit(&w.sender, deposit).await.expect(200).json()["documents"].clone();
    assert_eq!(documents, json!([]));
    assert_eq!(w.number("SELECT COUNT(*) AS n FROM document_parts", args![]).await, 0);
    assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads WHERE kind = 'final'", args![]).await, 0);
    assert_eq!(w.number("SELECT COUNT(*) AS n FROM uploads WHERE document IS NOT NULL", args![]).await, 0);
}

async fn ground(dialect: Dialect) -> (World, DepositId) {
    let w = World::on(dialect).await;
    let deposit = w.draft().await;
    (w, deposit)
}

on_both! {
    async fn parts_side_by_side(dialect) {
        let (w, deposit) = ground(dialect).await;
        let content = noise(1, 5 * SEGMENT + 123);
        let cuts = [0, 2 * SEGMENT, 2 * SEGMENT, 2 * SEGMENT + 1, 4 * SEGMENT - 7, content.len()];
        let mut begun = Vec::new();
        for range in cuts.windows(2) {
            let bytes = content[range[0]..range[1]].to_vec();
            begun.push((w.begin_part(bytes.len()).await.id, bytes));
        }
        let running: Vec<_> = begun.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(id, bytes)| {
            let (hub, ask) = (w.hub.clone(), append(*id, 0).body(chunked(bytes, 30_000)).by(&w.sender));
            tokio::spawn(async move { call(&hub, ask).await })
        }).collect();
        for one in running {
            one.await.unwrap().expect(204);
        }
        let head = w.call(tus("HEAD", format!("/api/v1/uploads/{}", begun[0].0)).by(&w.sender)).await.expect(200);
        assert_eq!(head.header("upload-concat"), Some("partial"));

        let ids: Vec<_> = begun.iter().map(|(id, _)| *id).collect();
        let reply = w.call(concatenation(deposit, &ids).by(&w.sender)).await.expect(201);
        let made = reply.begun();
        let document = made.document.unwrap();
        assert_eq!(w.document(document).await["size"], content.len());
        w.jobs().await;
        w.holds(document, &content).await;
        assert_eq!(w.document(document).await["sha256"], hex::encode(sha256(&content)));
        // Over the edges between parts.
        for edge in &cuts[1..4] {
            let range = format!("bytes={}-{}", edge - 3, edge + 2);
            let reply = w.call(content_of(document).header("range", range).by(&w.sender)).await.expect(206);
            assert_eq!(reply.body, content[edge - 3..edge + 3]);
        }
        let head = w.call(tus("HEAD", format!("/api/v1/uploads/{}", made.id)).by(&w.sender)).await.expect(200);
        assert!(head.header("upload-concat").unwrap().starts_with("final;/api/v1/uploads/"));
        assert_eq!(head.header("upload-length"), Some(content.len().to_string().as_str()));
        assert_eq!(head.header("upload-offset"), Some(content.len().to_string().as_str()));
        // RFC: a concatenation takes no bytes.
        w.call(append(made.id, content.len()).octets(b"x").by(&w.sender)).await.problem(403, "forbidden");
        assert_eq!(w.used().await, content.len() as i64, "charged once");
        // Nothing of it is left to be finished.
        let list = w.call(ask("GET", "/api/v1/uploads").by(&w.sender)).await.expect(200).json();
        assert_eq!(list["items"], json!([]));
        w.send(deposit).await.expect(202);
        assert_eq!(w.download(&w.recipient, document).await.expect(200).body, content);
        w.is_sound().await;
    }

    async fn parts_may_be_named_by_any_address(dialect) {
        let (w, deposit) = ground(dialect).await;
        let (a, b) = (part(&w, b"abc").await, part(&w, b"def").await);
        let given = metadata(&[("filename", "x"), ("deposit", &deposit.to_string())]);
        let ask = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
        let ask = ask.header("upload-concat", format!("final;https://pli.example/api/v1/uploads/{b} {a}"));
        let document = w.call(ask.by(&w.sender)).await.expect(201).begun().document.unwrap();
        w.jobs().await;
        w.holds(document, b"defabc").await;
    }

    async fn parts_that_cannot_be(dialect) {
        let (w, deposit) = ground(dialect).await;
        let ready = part(&w, b"abc").await;
        let unfinished = w.begin_part(5).await.id;
        w.patch(unfinished, 0, b"ab").await.expect(204);
        let open = tus("POST", "/api/v1/uploads").header("upload-concat", "partial").header("upload-defer-length", 1);
        let open = w.call(open.by(&w.sender)).await.expect(201).begun().id;
        let whole = tus("POST", "/api/v1/uploads").header("upload-concat", "partial").header("upload-length", 3);
        let foreign = w.call(whole.by(&w.stranger)).await.expect(201).begun().id;
        w.call(append(foreign, 0).octets(b"xyz").by(&w.stranger)).await.expect(204);
        let ended = part(&w, b"abc").await;
        w.call(tus("DELETE", format!("/api/v1/uploads/{ended}")).by(&w.sender)).await.expect(204);

        let refused = async |parts: &[UploadId], status, code| {
            w.call(concatenation(deposit, parts).by(&w.sender)).await.problem(status, code);
            nothing_came_of_it(&w, deposit).await;
        };
        refused(&[ready, UploadId::new()], 404, "not-found").await;
        refused(&[ready, foreign], 404, "not-found").await;
        refused(&[ready, unfinished], 409, "conflict").await;
        refused(&[ready, open], 409, "conflict").await;
        refused(&[ready, ended], 410, "gone").await;
        refused(&[ready, ready], 400, "bad-metadata").await;
        let length = concatenation(deposit, &[ready]).header("upload-length", 3);
        w.call(length.by(&w.sender)).await.problem(400, "bad-metadata");
        // Another's deposit.
        w.call(concatenation(deposit, &[foreign]).by(&w.stranger)).await.problem(404, "not-found");
        nothing_came_of_it(&w, deposit).await;

        w.call(concatenation(deposit, &[ready]).by(&w.sender)).await.expect(201);
        // A part belongs to one document; a document by itself is no part.
        w.call(concatenation(deposit, &[ready]).by(&w.sender)).await.problem(409, "part-used");
        let itself = w.begin(deposit, "y", Some(0)).await.id;
        w.call(concatenation(deposit, &[itself]).by(&w.sender)).await.problem(404, "not-found");
        w.jobs().await;
        w.is_sound().await;
    }

    async fn one_part_for_two_documents_at_once(dialect) {
        let (w, deposit) = ground(dialect).await;
        let other = w.draft().await;
        for round in 0..5 {
            let shared = part(&w, format!("partagée {round}").as_bytes()).await;
            let both: Vec<_> = [deposit, other].into_iter().map(|deposit| {
                let (hub, ask) = (w.hub.clone(), concatenation(deposit, &[shared]).by(&w.sender));
                tokio::spawn(async move { call(&hub, ask).await.status.as_u16() })
            }).collect();
            let mut statuses = Vec::new();
            for one in both {
                statuses.push(one.await.unwrap());
            }
            statuses.sort_unstable();
            assert_eq!(statuses, [201, 409]);
        }
        w.is_sound().await;
    }

    /// A part is terminated while it is being concatenated: one of the two happens, never a half.
    async fn a_part_terminated_at_that_moment(dialect) {
        let (w, deposit) = ground(dialect).await;
        for round in 0..12_u64 {
            let content = noise(round, 2000);
            let (a, b) = (part(&w, &content).await, part(&w, &content).await);
            let (hub, ask) = (w.hub.clone(), concatenation(deposit, &[a, b]).by(&w.sender));
            let joined = tokio::spawn(async move { call(&hub, ask).await });
            let (hub, ask) = (w.hub.clone(), tus("DELETE", format!("/api/v1/uploads/{b}")).by(&w.sender));
            let ended = tokio::spawn(async move { call(&hub, ask).await });
            let (joined, ended) = (joined.await.unwrap(), ended.await.unwrap());
            assert!([201, 410].contains(&joined.status.as_u16()), "{joined:?}");
            assert!([204, 409].contains(&ended.status.as_u16()), "{ended:?}");
            assert!(joined.status == 201 || ended.status == 204);
            if joined.status == 201 && ended.status == 409 {
                w.jobs().await;
                w.holds(joined.begun().document.unwrap(), &[&content[..], &content[..]].concat()).await;
            }
        }
        w.is_sound().await;
    }

    async fn a_part_of_a_sent_document_stays(dialect) {
        let (w, deposit) = ground(dialect).await;
        let id = part(&w, b"abc").await;
        let document = w.call(concatenation(deposit, &[id]).by(&w.sender)).await.expect(201).begun().document.unwrap();
        w.send(deposit).await.expect(202);
        w.call(tus("DELETE", format!("/api/v1/uploads/{id}")).by(&w.sender)).await.problem(409, "deposit-sent");
        w.jobs().await;
        w.holds(document, b"abc").await;
    }

    async fn larger_than_the_limit_together(dialect) {
        let w = Ground::on(dialect).options(|o| o.max_size = 10).build().await;
        let deposit = w.draft().await;
        let parts = [part(&w, b"123456").await, part(&w, b"12345").await];
        w.call(concatenation(deposit, &parts).by(&w.sender)).await.problem(413, "too-large");
        nothing_came_of_it(&w, deposit).await;
        w.call(concatenation(deposit, &parts[..1]).by(&w.sender)).await.expect(201);
        w.is_sound().await;
    }

    async fn a_draft_goes_with_its_parts(dialect) {
        let (w, deposit) = ground(dialect).await;
        let content = noise(3, SEGMENT + 9);
        let parts = [part(&w, &content).await, part(&w, &content).await];
        w.call(concatenation(deposit, &parts).by(&w.sender)).await.expect(201);
        w.jobs().await;
        assert_eq!(w.objects(Class::Segment).await.len(), 4);
        w.call(ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender)).await.expect(204);
        w.jobs().await;
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
        w.is_sound().await;
    }

    async fn of_nothing(dialect) {
        let (w, deposit) = ground(dialect).await;
        let parts = [part(&w, b"").await, part(&w, b"").await];
        let document = w.call(concatenation(deposit, &parts).by(&w.sender)).await.expect(201).begun().document.unwrap();
        w.jobs().await;
        w.holds(document, b"").await;
        w.is_sound().await;
    }
}

/// The same in one certain order, which PostgreSQL's queue of locks allows to arrange: the termination has
/// looked at the part before the concatenation takes it, and acts after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_taken_between_a_look_and_its_end() {
    let (w, deposit) = ground(Dialect::Postgres).await;
    let (a, b) = (part(&w, b"abc").await, part(&w, b"def").await);
    let waiting = async || {
        let sql = "SELECT COUNT(*) AS n FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        w.number(sql, args![]).await
    };
    let mut tx = w.hub.db().write().await.unwrap();
    tx.execute("UPDATE uploads SET fence = fence + 1 WHERE id = $1", args![b.0]).await.unwrap();
    let (hub, ask) = (w.hub.clone(), concatenation(deposit, &[a, b]).by(&w.sender));
    let joined = tokio::spawn(async move { call(&hub, ask).await });
    until("the concatenation to wait", || async { waiting().await == 1 }).await;
    let (hub, ask) = (w.hub.clone(), tus("DELETE", format!("/api/v1/uploads/{b}")).by(&w.sender));
    let ended = tokio::spawn(async move { call(&hub, ask).await });
    until("the termination to wait", || async { waiting().await == 2 }).await;
    tx.rollback().await.unwrap();
    let document = joined.await.unwrap().expect(201).begun().document.unwrap();
    ended.await.unwrap().problem(409, "conflict");
    w.jobs().await;
    w.holds(document, b"abcdef").await;
    w.is_sound().await;
}
