//! Drafts, sending, and who sees what when.

use crate::testing::*;
use pli_api::{DepositId, UploadId};
use pli_storage::{Class, args};
use serde_json::{Value, json};

fn new(body: &Value) -> Ask {
    ask("POST", "/api/v1/deposits").json(body)
}

async fn listed(w: &World, who: &Who, query: &str) -> Value {
    w.call(ask("GET", format!("/api/v1/deposits?{query}")).by(who)).await.expect(200).json()
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

on_both! {
    async fn a_draft(dialect) {
        let w = World::on(dialect).await;
        let body = json!({ "recipients": [" Expert@Experts.EXAMPLE ", w.stranger.address, "expert@experts.example"],
            "subject": " Procédure n° 24/1234 ", "retention_days": 7, "reference": "cli-1" });
        let made = w.call(new(&body).by(&w.sender)).await.expect(201).json();
        assert_eq!(made["state"], "draft");
        assert_eq!(made["subject"], "Procédure n° 24/1234");
        assert_eq!(made["retention_days"], 7);
        assert_eq!(made["reference"], "cli-1");
        assert_eq!(made["sender"], json!({ "address": w.sender.address, "name": "Greffe" }));
        assert_eq!(made["recipients"], json!([
            { "address": w.stranger.address, "name": "Autre" }, { "address": w.recipient.address, "name": "Expert" }
        ]));
        assert_eq!(made["created"], w.now().to_string());
        for none in ["sent", "available", "expires"] {
            assert_eq!(made[none], Value::Null);
        }
        assert_eq!(made["documents"], json!([]));
        let id: DepositId = made["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(w.deposit(&w.sender, id).await.expect(200).json(), made);
        let told = w.told("deposit.drafted").await;
        assert_eq!((told[0].actor, told[0].deposit), (Some(w.sender.id), Some(id)));
        assert_eq!(told[0].detail, json!({}), "neither subject nor addresses");
    }

    async fn refused_drafts(dialect) {
        let w = World::on(dialect).await;
        let to = json!([w.recipient.address]);
        let many: Vec<_> = (0..101).map(|n| format!("x{n}@y.example")).collect();
        for (body, status, code) in [
            (json!({ "recipients": [] }), 422, "invalid"),
            (json!({ "recipients": many }), 422, "invalid"),
            (json!({ "recipients": ["pas une adresse"] }), 422, "invalid"),
            (json!({ "recipients": ["inconnue@nulle.example"] }), 422, "unknown-recipient"),
            (json!({ "recipients": [w.recipient.address, "inconnue@nulle.example"] }), 422, "unknown-recipient"),
            (json!({ "recipients": to, "retention_days": 0 }), 422, "invalid"),
            (json!({ "recipients": to, "retention_days": 31 }), 422, "invalid"),
            (json!({ "recipients": to, "subject": "a\u{0}b" }), 422, "invalid"),
            (json!({ "recipients": to, "subject": "x".repeat(301) }), 422, "invalid"),
            (json!({ "recipients": to, "reference": "x".repeat(201) }), 422, "invalid"),
        ] {
            w.call(new(&body).by(&w.sender)).await.problem(status, code);
        }
        let unknown = new(&json!({ "recipients": ["inconnue@nulle.example"] })).by(&w.sender);
        assert!(w.call(unknown).await.json()["detail"].as_str().unwrap().contains("inconnue@nulle.example"));
        for body in [json!({}), json!({ "recipients": to, "autre": 1 }), json!({ "recipients": "x" }), json!([1])] {
            assert!(w.call(new(&body).by(&w.sender)).await.status.is_client_error());
        }
        w.change("UPDATE boxes SET closed = 1 WHERE id = $1", args![w.recipient.id.0]).await;
        w.call(new(&json!({ "recipients": to })).by(&w.sender)).await.problem(422, "unknown-recipient");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM deposits", args![]).await, 0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM recipients", args![]).await, 0);
        assert!(w.kinds("deposit.").await.is_empty());
    }

    async fn the_reference_finds_the_draft_again(dialect) {
        let w = World::on(dialect).await;
        let body = json!({ "recipients": [w.recipient.address], "reference": "dossier-7" });
        let first = w.call(new(&body).by(&w.sender)).await.expect(201).json();
        let again = w.call(new(&body).by(&w.sender)).await.expect(200).json();
        assert_eq!(first, again);
        // One's own only; and a draft only.
        assert_ne!(w.call(new(&body).by(&w.stranger)).await.expect(201).json()["id"], first["id"]);
        let id: DepositId = first["id"].as_str().unwrap().parse().unwrap();
        w.upload(id, "a", b"abc").await;
        w.send(id).await.expect(202);
        let next = w.call(new(&body).by(&w.sender)).await.expect(201).json();
        assert_ne!(next["id"], first["id"]);
        // Without a reference, each is new.
        let bare = json!({ "recipients": [w.recipient.address] });
        let one = w.call(new(&bare).by(&w.sender)).await.expect(201).json();
        assert_ne!(w.call(new(&bare).by(&w.sender)).await.expect(201).json()["id"], one["id"]);
        // Another's reference is not told.
        w.jobs().await;
        let theirs = w.deposit(&w.recipient, id).await.expect(200).json();
        assert_eq!(theirs.get("reference"), None);
    }

    async fn one_reference_at_the_same_moment(dialect) {
        let w = World::on(dialect).await;
        for round in 0..5 {
            let body = json!({ "recipients": [w.recipient.address], "reference": format!("r{round}") });
            let all: Vec<_> = (0..6).map(|_| {
                let (hub, ask) = (w.hub.clone(), new(&body).by(&w.sender));
                tokio::spawn(async move { call(&hub, ask).await })
            }).collect();
            let (mut made, mut found) = (0, std::collections::BTreeSet::new());
            for one in all {
                let reply = one.await.unwrap();
                assert!([200, 201].contains(&reply.status.as_u16()), "{reply:?}");
                made += usize::from(reply.status == 201);
                found.insert(reply.json()["id"].as_str().unwrap().to_owned());
            }
            assert_eq!((made, found.len()), (1, 1));
        }
        assert_eq!(w.told("deposit.drafted").await.len(), 5);
    }

    async fn who_sees_it_when(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let document = w.upload(deposit, "a.pdf", b"abc").await;
        let sees = async |who: &Who| {
            let seen = w.deposit(who, deposit).await.status.as_u16();
            let document = w.call(ask("GET", format!("/api/v1/documents/{document}")).by(who)).await.status.as_u16();
            assert_eq!(seen, document);
            let of = |page: Value| ids(&page).contains(&deposit.to_string());
            let mut boxes = Vec::new();
            for which in ["draft", "sent", "received"] {
                if of(listed(&w, who, &format!("box={which}")).await) {
                    boxes.push(which);
                }
            }
            (seen, boxes)
        };
        assert_eq!(sees(&w.sender).await, (200, vec!["draft"]));
        assert_eq!(sees(&w.recipient).await, (404, vec![]));
        assert_eq!(sees(&w.stranger).await, (404, vec![]));
        let sent = w.send(deposit).await.expect(202).json();
        assert_eq!((&sent["state"], &sent["sent"]), (&json!("sent"), &json!(w.now().to_string())));
        assert_eq!(sees(&w.sender).await, (200, vec!["sent"]));
        assert_eq!(sees(&w.recipient).await, (404, vec![]), "not before its documents are sealed");
        w.pass(5);
        w.jobs().await;
        assert_eq!(sees(&w.sender).await, (200, vec!["sent"]));
        assert_eq!(sees(&w.recipient).await, (200, vec!["received"]));
        assert_eq!(sees(&w.stranger).await, (404, vec![]));
        let seen = w.deposit(&w.recipient, deposit).await.expect(200).json();
        assert_eq!(seen["available"], w.now().to_string());
        assert_eq!(seen["expires"], w.now().plus_seconds(30 * DAY).to_string());
        assert_eq!(seen["documents"][0]["sha256"], hex::encode(sha256(b"abc")));
        let told = w.told("deposit.sent").await;
        assert_eq!(told[0].detail, json!({ "documents": [{ "document": document, "size": 3, "sha256": null }] }));
        assert_eq!((told[0].actor, told[0].deposit), (Some(w.sender.id), Some(deposit)));
        assert_eq!(w.told("deposit.available").await[0].detail, json!({ "expires": seen["expires"] }));
        // Its last second, then the end, swept or not.
        w.pass(30 * DAY - 1);
        assert_eq!(sees(&w.recipient).await, (200, vec!["received"]));
        w.pass(1);
        assert_eq!(sees(&w.recipient).await, (404, vec![]));
        assert_eq!(sees(&w.sender).await, (200, vec!["sent"]));
        w.jobs().await;
        assert_eq!(sees(&w.recipient).await, (404, vec![]));
        assert_eq!(w.deposit(&w.sender, deposit).await.expect(200).json()["state"], "expired");
    }

    async fn sending(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        w.send(deposit).await.problem(409, "deposit-empty");
        let up = w.begin(deposit, "a", Some(5)).await;
        w.send(deposit).await.problem(409, "deposit-incomplete");
        w.patch(up.id, 0, b"abc").await.expect(204);
        w.send(deposit).await.problem(409, "deposit-incomplete");
        w.patch(up.id, 3, b"de").await.expect(204);
        assert_eq!(w.deposit(&w.sender, deposit).await.expect(200).json()["state"], "draft");
        w.send(deposit).await.expect(202);
        w.send(deposit).await.problem(409, "deposit-sent");
        // Nothing is added to it, taken from it, or undone.
        w.call(creation(deposit, "b", Some(3)).by(&w.sender)).await.problem(409, "deposit-sent");
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", up.id)).by(&w.sender)).await.problem(409, "deposit-sent");
        w.call(ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender)).await.problem(409, "deposit-sent");
        w.jobs().await;
        w.send(deposit).await.problem(409, "deposit-sent");
        let (part, given) = (w.begin_part(0).await.id, metadata(&[("filename", "x"), ("deposit", &deposit.to_string())]));
        let joined = tus("POST", "/api/v1/uploads").header("upload-metadata", given);
        let joined = joined.header("upload-concat", format!("final;{part}")).by(&w.sender);
        w.call(joined).await.problem(409, "deposit-sent");
        w.holds(up.document.unwrap(), b"abcde").await;
        assert_eq!(w.told("deposit.sent").await.len(), 1);
        assert_eq!(w.told("deposit.available").await.len(), 1);
        w.is_sound().await;
    }

    async fn documents_finished_before_it_is_sent(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let document = w.upload(deposit, "a", b"abc").await;
        w.jobs().await;
        assert!(w.told("deposit.available").await.is_empty(), "a draft is not released");
        let sent = w.send(deposit).await.expect(202).json();
        assert_eq!(sent["state"], "available", "nothing is left to wait for");
        let told = w.told("deposit.sent").await;
        assert_eq!(told[0].detail["documents"][0]["sha256"], hex::encode(sha256(b"abc")));
        assert_eq!(w.told("deposit.available").await.len(), 1);
        assert_eq!(w.download(&w.recipient, document).await.expect(200).body, &b"abc"[..]);
    }

    /// The last documents are finished, by several workers of two nodes, while the deposit is sent.
    async fn released_exactly_once(dialect) {
        let w = World::on(dialect).await;
        let node = w.node().await;
        for round in 0..8 {
            let deposit = w.draft().await;
            for n in 0..3 {
                w.upload(deposit, &n.to_string(), &noise(round, 100 + n)).await;
            }
            let mut running = Vec::new();
            for hub in [w.hub.clone(), node.clone(), w.hub.clone()] {
                running.push(tokio::spawn(async move { hub.run_due_jobs().await.unwrap() }));
            }
            w.send(deposit).await.expect(202);
            for one in running {
                one.await.unwrap();
            }
            w.jobs().await;
            assert_eq!(w.deposit(&w.recipient, deposit).await.expect(200).json()["state"], "available");
            let told: Vec<_> = w.journal().await.into_iter().filter(|t| t.deposit == Some(deposit)).collect();
            for (kind, times) in [("deposit.sent", 1), ("deposit.available", 1), ("document.sealed", 3)] {
                assert_eq!(told.iter().filter(|t| t.kind == kind).count(), times, "{kind}");
            }
        }
        w.is_sound().await;
    }

    async fn a_draft_discarded(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let content = noise(2, 2 * SEGMENT);
        w.upload(deposit, "fini", &content).await;
        w.jobs().await;
        w.upload(deposit, "reçu", &content).await;
        let half = w.begin(deposit, "moitié", Some(content.len())).await;
        w.patch(half.id, 0, &content[..SEGMENT + 4]).await.expect(204);
        let path = format!("/api/v1/deposits/{deposit}");
        for other in [&w.recipient, &w.stranger] {
            w.call(ask("DELETE", &path).by(other)).await.problem(404, "not-found");
        }
        w.call(ask("DELETE", &path).by(&w.sender)).await.expect(204);
        w.call(ask("DELETE", &path).by(&w.sender)).await.problem(404, "not-found");
        w.deposit(&w.sender, deposit).await.problem(404, "not-found");
        for table in ["SELECT COUNT(*) AS n FROM documents", "SELECT COUNT(*) AS n FROM document_parts",
            "SELECT COUNT(*) AS n FROM segments", "SELECT COUNT(*) AS n FROM recipients",
            "SELECT COUNT(*) AS n FROM uploads WHERE wrapped_key IS NOT NULL OR metadata <> ''"] {
            assert_eq!(w.number(table, args![]).await, 0, "{table}");
        }
        w.jobs().await;
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
        assert_eq!(w.told("deposit.discarded").await[0].actor, Some(w.sender.id));
        w.is_sound().await;
    }

    /// Discarded while its documents are received, finished and terminated, on two nodes.
    async fn a_draft_discarded_amid_everything(dialect) {
        let w = World::on(dialect).await;
        let node = w.node().await;
        for round in 0..6 {
            let deposit = w.draft().await;
            let content = noise(round, SEGMENT + 500);
            w.upload(deposit, "a", &content).await;
            let b = w.begin(deposit, "b", None).await;
            let c = w.begin(deposit, "c", Some(content.len())).await;
            w.patch(b.id, 0, b"abc").await.expect(204);
            let mut running = Vec::new();
            let hub = w.hub.clone();
            running.push(tokio::spawn(async move { hub.run_due_jobs().await.map(|()| 204).unwrap_or(503) }));
            for (hub, ask) in [
                (&node, append(b.id, 3).body(chunked(&content, 9000)).by(&w.sender)),
                (&w.hub, append(c.id, 0).octets(&content).by(&w.sender)),
                (&node, tus("DELETE", format!("/api/v1/uploads/{}", c.id)).by(&w.sender)),
                (&w.hub, ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender)),
            ] {
                let hub = hub.clone();
                running.push(tokio::spawn(async move { call(&hub, ask).await.status.as_u16() }));
            }
            let mut statuses = Vec::new();
            for one in running {
                statuses.push(one.await.unwrap());
            }
            assert_eq!(statuses[4], 204, "{statuses:?}");
            assert!(statuses[..4].iter().all(|s| [204, 404, 409, 410].contains(s)), "{statuses:?}");
            w.jobs().await;
            w.store_is_empty().await;
            assert_eq!(w.used().await, 0);
        }
        w.is_sound().await;
    }

    async fn pages(dialect) {
        let w = World::on(dialect).await;
        let mut made = Vec::new();
        for _ in 0..7 {
            made.push(w.draft().await.to_string());
        }
        made.reverse();
        let mut seen = Vec::new();
        let mut query = "box=draft&limit=3".to_owned();
        loop {
            let page = listed(&w, &w.sender, &query).await;
            assert!(page["items"][0].get("documents").is_none());
            seen.extend(ids(&page));
            match page["next"].as_str() {
                Some(next) => query = format!("box=draft&limit=3&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen, made, "the newest first, each once");
        for bad in ["", "box=tout", "box=draft&limit=x", "box=draft&after=7", "box=draft&autre=1"] {
            assert_eq!(w.call(ask("GET", format!("/api/v1/deposits?{bad}")).by(&w.sender)).await.status, 400, "{bad}");
        }
    }

    /// What the sealing of a document costs is done once, whoever is told of its last byte and how often.
    async fn finishing_is_asked_for_once(dialect) {
        let w = World::on(dialect).await;
        let deposit = w.draft().await;
        let document = w.upload(deposit, "a", b"abc").await;
        let jobs = w.hub.db().jobs(Default::default()).await.unwrap();
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].kind, "document.finish");
        assert_eq!(jobs[0].payload, json!({ "document": document }));
        w.jobs().await;
        assert!(w.hub.db().jobs(Default::default()).await.unwrap().is_empty());
        assert_eq!(w.objects(Class::Manifest).await.len(), 1);
        let row = &w.rows("SELECT upload FROM document_parts", args![]).await[0];
        assert!(w.segments(UploadId(row.get("upload").unwrap())).await.len() == 1);
    }
}
