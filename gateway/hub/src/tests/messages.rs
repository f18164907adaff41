//! Messages: drafts, sending, answers, what passes on, who sees what and until when.

use crate::testing::*;
use crate::{Hub, admin};
use http::StatusCode;
use pli_api::{BoxId, BoxKind, DepositId, DocumentId, OrganisationId, OrganisationKind, Role};
use pli_storage::args;
use serde_json::{Value, json};
use uuid::Uuid;

/// A service of an organisation, with these members.
pub(super) async fn service(
    hub: &Hub,
    organisation: OrganisationId,
    address: &str,
    name: &str,
    members: &[&Who],
) -> BoxId {
    let id = BoxId::new();
    let new = crate::boxes::NewBox {
        id,
        kind: BoxKind::Service,
        organisation,
        address,
        name,
        function: "",
        speciality: "",
    };
    let mut tx = hub.db().write().await.unwrap();
    crate::boxes::insert(&mut tx, hub.now(), &new).await.unwrap();
    for who in members {
        let sql = "INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)";
        tx.execute(sql, args![id.0, who.id.0, hub.now()]).await.unwrap();
    }
    tx.commit().await.unwrap();
    id
}

/// A procedure of the sender's organisation with its members.
pub(super) async fn procedure(w: &World, title: &str, reference: &str, members: &[(BoxId, &str)]) -> Uuid {
    let id = Uuid::now_v7();
    let mut tx = w.hub.db().write().await.unwrap();
    let sql = "INSERT INTO procedures (id, organisation, title, folded, state, version, created, opened_by)
               VALUES ($1, $2, $3, $4, 'open', 1, $5, $6)";
    let values =
        args![id, w.sender.organisation.0, title, crate::boxes::folded(title), w.now(), w.sender.id.0];
    tx.execute(sql, values).await.unwrap();
    let sql = "INSERT INTO procedure_references (procedure, kind, value, folded, idx) VALUES ($1, 'parquet', $2, $3, 0)";
    let folded = crate::boxes::folded(reference).replace(' ', "");
    tx.execute(sql, args![id, reference, folded]).await.unwrap();
    for (member, role) in members {
        let sql = "INSERT INTO procedure_members (procedure, box, role, restricted, version, added, added_by)
                   VALUES ($1, $2, $3, $4, 1, $5, $6)";
        tx.execute(sql, args![id, member.0, *role, false, w.now(), w.sender.id.0]).await.unwrap();
    }
    tx.commit().await.unwrap();
    id
}

pub(super) fn own_box(who: &Who) -> BoxId {
    BoxId(who.id.0)
}

/// A draft of someone's.
pub(super) async fn write(w: &World, who: &Who, new: Value) -> Value {
    w.call(ask("POST", "/api/v1/messages").by(who).json(&new)).await.expect(201).json()
}

pub(super) fn path(message: &Value) -> String {
    format!("/api/v1/messages/{}", message["id"].as_str().unwrap())
}

fn tag(message: &Value) -> String {
    format!("\"{}\"", message["version"])
}

pub(super) fn sending(who: &Who, message: &Value) -> Ask {
    ask("POST", path(message) + "/send").by(who).header("if-match", tag(message))
}

/// Written and sent.
pub(super) async fn sent(w: &World, who: &Who, new: Value) -> Value {
    let draft = write(w, who, new).await;
    w.call(sending(who, &draft)).await.expect(200).json()
}

pub(super) fn to(who: &Who, subject: &str, body: &str) -> Value {
    json!({ "to": [who.address], "subject": subject, "body": body })
}

async fn show(w: &World, who: &Who, message: &Value) -> Reply {
    w.call(ask("GET", path(message)).by(who)).await
}

pub(super) async fn list(w: &World, who: &Who, query: &str) -> Vec<Value> {
    let page = w.call(ask("GET", format!("/api/v1/inbox{query}")).by(who)).await.expect(200).json();
    page["items"].as_array().unwrap().clone()
}

pub(super) async fn subjects(w: &World, who: &Who, query: &str) -> Vec<String> {
    list(w, who, query).await.iter().map(|item| item["subject"].as_str().unwrap().to_owned()).collect()
}

fn edit(who: &Who, message: &Value, text: Value) -> Ask {
    ask("PUT", path(message)).by(who).header("if-match", tag(message)).json(&text)
}

/// A draft with a document in it, not sent yet.
async fn with_document(w: &World, new: Value, name: &str, content: &[u8]) -> (Value, DocumentId) {
    let draft = write(w, &w.sender, new).await;
    let open = ask("POST", path(&draft) + "/deposit").by(&w.sender).json(&json!({ "retention_days": 5 }));
    let opened = w.call(open).await.expect(201).json();
    let deposit: DepositId = opened["deposit"]["id"].as_str().unwrap().parse().unwrap();
    let document = w.upload(deposit, name, content).await;
    w.jobs().await;
    (opened, document)
}

fn about(events: Vec<Told>, kind: &str) -> Vec<Value> {
    events.into_iter().filter(|told| told.kind == kind).map(|told| told.detail).collect()
}

on_both! {
    async fn a_message_from_draft_to_answer(dialect) {
        let w = World::on(dialect).await;
        let markup = "<b>Bonjour</b> & <script>alert(1)</script>\nVoir l'annexe.";
        let draft = write(&w, &w.sender, to(&w.recipient, "  Mission <i>24/1234</i> ", markup)).await;
        assert_eq!(draft["state"], "draft");
        assert_eq!(draft["kind"], "correspondence");
        assert_eq!(draft["subject"], "Mission <i>24/1234</i>");
        assert_eq!(draft["body"], markup, "a text is text: nothing is taken out and nothing is escaped");
        assert_eq!(draft["recipients"][0]["address"], w.recipient.address);
        // Nobody else sees a draft.
        show(&w, &w.recipient, &draft).await.problem(404, "not-found");
        assert!(list(&w, &w.recipient, "").await.is_empty());
        let drafts = w.call(ask("GET", "/api/v1/messages").by(&w.sender)).await.expect(200).json();
        assert_eq!(drafts["items"].as_array().unwrap().len(), 1);

        let message = w.call(sending(&w.sender, &draft)).await.expect(200).json();
        assert_eq!((message["state"].as_str(), message["body"].as_str()), (Some("sent"), Some(markup)));
        let got = show(&w, &w.recipient, &message).await.expect(200);
        assert_eq!(got.header("content-type"), Some("application/json"));
        let got = got.json();
        assert_eq!(got["body"], markup);
        assert_eq!(got["boxes"][0]["role"], "to");
        assert_eq!(got["boxes"][0]["read"], Value::Null, "a GET reads nothing");
        show(&w, &w.stranger, &message).await.problem(404, "not-found");
        let drafts = w.call(ask("GET", "/api/v1/messages").by(&w.sender)).await.expect(200).json();
        assert_eq!(drafts["items"], json!([]));

        // Sent, it takes no change.
        w.call(sending(&w.sender, &message)).await.problem(409, "message-sent");
        w.call(edit(&w.sender, &message, to(&w.recipient, "x", "y"))).await.problem(409, "message-sent");
        w.call(ask("DELETE", path(&message)).by(&w.sender)).await.problem(409, "message-sent");
        w.call(ask("POST", path(&message) + "/deposit").by(&w.sender).json(&json!({}))).await.problem(409, "message-sent");

        // Read, once for the journal; unread for the list until then.
        let boxes = async |who: &Who| w.call(ask("GET", "/api/v1/inbox/boxes").by(who)).await.expect(200).json();
        assert_eq!(boxes(&w.recipient).await[0]["unread"], 1);
        for _ in 0..2 {
            w.call(ask("POST", path(&message) + "/read").by(&w.recipient)).await.expect(204);
        }
        assert_eq!(boxes(&w.recipient).await[0]["unread"], 0);
        assert_eq!(about(w.journal().await, "message.read").len(), 1);
        let told = show(&w, &w.sender, &message).await.json();
        assert!(told["recipients"][0]["read"].is_string());
        let got = show(&w, &w.recipient, &message).await.json();
        assert_eq!(got["recipients"][0]["read"], Value::Null, "who has read is the sender's to know");
        assert_eq!(got["boxes"][0]["read_by_me"], true);

        // An answer goes to whoever wrote, in the thread.
        let answer = sent(&w, &w.recipient, json!({ "reply_to": message["id"], "subject": "Re : mission", "body": "Reçu." })).await;
        assert_eq!(answer["recipients"][0]["address"], w.sender.address);
        assert_eq!(answer["thread"], message["thread"]);
        let thread = format!("/api/v1/threads/{}", message["thread"].as_str().unwrap());
        for who in [&w.sender, &w.recipient] {
            let seen = w.call(ask("GET", &thread).by(who)).await.expect(200).json();
            assert_eq!(seen["messages"].as_array().unwrap().len(), 2);
            assert_eq!(seen["messages"][0]["id"], message["id"]);
        }
        w.call(ask("GET", &thread).by(&w.stranger)).await.problem(404, "not-found");
        let first = w.call(ask("GET", format!("{thread}?limit=1")).by(&w.sender)).await.expect(200).json();
        let second = format!("{thread}?limit=1&after={}", first["next"].as_str().unwrap());
        let second = w.call(ask("GET", second).by(&w.sender)).await.expect(200).json();
        assert_eq!((&second["messages"][0]["id"], &second["next"]), (&answer["id"], &Value::Null));
        // An answer to a part of those who read it, beside the thread of the others.
        let aside = sent(&w, &w.recipient, json!({ "reply_to": message["id"], "to": [w.stranger.address], "subject": "a" })).await;
        let seen = w.call(ask("GET", &thread).by(&w.stranger)).await.expect(200).json();
        assert_eq!(seen["messages"].as_array().unwrap().len(), 1, "only what was sent to it");
        assert_eq!(seen["messages"][0]["id"], aside["id"]);

        // The journal tells the digest and no word of it.
        let event = &about(w.journal().await, "message.sent")[0];
        assert_eq!(event["sha256"], hex::encode(sha256(format!("Mission <i>24/1234</i>\n{markup}").as_bytes())));
        assert!(!event.to_string().contains("Mission") && !event.to_string().contains('@'));
        w.is_sound().await;
    }

    async fn fields_out_of_bounds(dialect) {
        let w = World::on(dialect).await;
        let post = |body: Value| ask("POST", "/api/v1/messages").by(&w.sender).json(&body);
        let long = "é".repeat(301);
        for (body, said) in [
            (json!({ "subject": long }), "Objet :"),
            (json!({ "subject": "a\nb" }), "Objet :"),
            (json!({ "subject": "a\u{202e}b" }), "Objet :"),
            (json!({ "body": "a\u{0}" }), "Texte :"),
            (json!({ "body": "é".repeat(100_001) }), "Texte :"),
            (json!({ "to": ["pas une adresse"] }), "Adresse"),
            (json!({ "to": vec![w.recipient.address.clone(); 101] }), "Destinataires :"),
            (json!({ "from": w.recipient.address }), "Expéditeur :"),
            (json!({ "reply_to": Uuid::now_v7() }), "boîte"),
            (json!({ "forwarded_documents": [Uuid::now_v7()] }), "Documents transmis :"),
        ] {
            let reply = w.call(post(body)).await.problem(422, "invalid");
            assert!(reply.json()["detail"].as_str().unwrap().contains(said), "{said}: {}", reply.json());
        }
        let unknown = w.call(post(json!({ "to": ["inconnu@nulle.example"] }))).await.problem(422, "unknown-recipient");
        assert_eq!(unknown.json()["detail"], "Pas de boîte pour inconnu@nulle.example.");
        assert_eq!(w.call(post(json!({ "html": "x" }))).await.status, StatusCode::UNPROCESSABLE_ENTITY);
        w.call(post(json!({ "procedure": Uuid::now_v7() }))).await.problem(404, "not-found");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM messages", args![]).await, 0);

        // What a draft may still lack, and a message may not.
        let draft = write(&w, &w.sender, json!({ "to": [w.recipient.address.to_uppercase()], "body": "x" })).await;
        let reply = w.call(sending(&w.sender, &draft)).await.problem(422, "invalid");
        assert!(reply.json()["detail"].as_str().unwrap().starts_with("Objet :"));
        let draft = write(&w, &w.sender, json!({ "copy": [w.recipient.address], "subject": "x" })).await;
        let reply = w.call(sending(&w.sender, &draft)).await.problem(422, "invalid");
        assert!(reply.json()["detail"].as_str().unwrap().starts_with("Destinataires :"));
        // Whoever left since it was written.
        let draft = write(&w, &w.sender, to(&w.recipient, "x", "y")).await;
        w.change("UPDATE boxes SET closed = 1 WHERE id = $1", args![w.recipient.id.0]).await;
        w.call(sending(&w.sender, &draft)).await.problem(422, "unknown-recipient");
        w.change("UPDATE boxes SET closed = NULL WHERE id = $1", args![w.recipient.id.0]).await;
        w.change("UPDATE accounts SET opted_out = 1 WHERE id = $1", args![w.recipient.id.0]).await;
        w.call(sending(&w.sender, &draft)).await.problem(422, "unknown-recipient");
        w.call(post(json!({ "to": [w.recipient.address] }))).await.problem(422, "unknown-recipient");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM deliveries", args![]).await, 0, "nothing half sent");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM threads", args![]).await, 0);
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM message_words", args![]).await, 0);
        // No right to write, no message.
        w.change("UPDATE roles SET role = 'auditor' WHERE account = $1", args![w.sender.id.0]).await;
        w.call(post(json!({}))).await.problem(403, "forbidden");
    }

    async fn two_people_edit_one_draft(dialect) {
        let w = World::on(dialect).await;
        let colleague = account(&w.hub, w.sender.organisation, "collegue@cabinet.example", "Collègue").await;
        service(&w.hub, w.sender.organisation, "cabinet@cabinet.example", "Cabinet", &[&w.sender, &colleague]).await;
        let new = json!({ "from": "cabinet@cabinet.example", "to": [w.recipient.address], "subject": "a", "body": "un" });
        let draft = write(&w, &w.sender, new).await;
        let seen = show(&w, &colleague, &draft).await.expect(200);
        assert_eq!(seen.header("etag"), Some("\"1\""));
        let text = |body: &str| json!({ "to": [w.recipient.address], "subject": "a", "body": body });
        w.call(ask("PUT", path(&draft)).by(&w.sender).json(&text("sans version"))).await.problem(428, "precondition-required");
        let second = w.call(edit(&colleague, &draft, text("deux"))).await.expect(200).json();
        assert_eq!(second["version"], 2);
        w.call(edit(&w.sender, &draft, text("trois"))).await.problem(412, "precondition-failed");
        // Nor is what one has not seen sent.
        w.call(sending(&w.sender, &draft)).await.problem(412, "precondition-failed");
        assert_eq!(show(&w, &w.sender, &draft).await.json()["body"], "deux");

        // All at once: one of them wins.
        let race: Vec<_> = (0..6).map(|n| {
            let (hub, ask) = (w.hub.clone(), edit(if n % 2 == 0 { &w.sender } else { &colleague }, &second, text(&format!("course {n}"))));
            tokio::spawn(async move { call(&hub, ask).await.status.as_u16() })
        }).collect();
        let mut won = 0;
        for one in race {
            match one.await.unwrap() {
                200 => won += 1,
                412 => {}
                other => panic!("{other}"),
            }
        }
        assert_eq!(won, 1);
        let third = show(&w, &w.sender, &draft).await.json();
        let race: Vec<_> = [&w.sender, &colleague].into_iter().map(|who| {
            let (hub, ask) = (w.hub.clone(), sending(who, &third));
            tokio::spawn(async move { call(&hub, ask).await.status.as_u16() })
        }).collect();
        let mut statuses = Vec::new();
        for one in race {
            statuses.push(one.await.unwrap());
        }
        statuses.sort_unstable();
        assert!(matches!(statuses.as_slice(), [200, 409 | 412]), "{statuses:?}");
        assert_eq!(about(w.journal().await, "message.sent").len(), 1);
        assert_eq!(list(&w, &w.recipient, "").await.len(), 1);
    }

    async fn a_shared_box_and_who_opened_it(dialect) {
        let w = World::on(dialect).await;
        let (one, two) = (
            account(&w.hub, w.recipient.organisation, "un@experts.example", "Une").await,
            account(&w.hub, w.recipient.organisation, "deux@experts.example", "Deux").await,
        );
        let shared = service(&w.hub, w.recipient.organisation, "accueil@experts.example", "Accueil", &[&one, &two]).await;
        let message = sent(&w, &w.sender, json!({ "to": ["accueil@experts.example"], "copy": [one.address], "subject": "sujet" })).await;
        assert_eq!(list(&w, &one, "").await.len(), 2, "in one's own box and in the service's");
        assert_eq!(subjects(&w, &one, "?box=accueil%40experts.example").await, ["sujet"]);
        w.call(ask("GET", "/api/v1/inbox?box=un%40experts.example").by(&two)).await.problem(422, "invalid");
        w.call(ask("POST", path(&message) + "/read?box=accueil%40experts.example").by(&two)).await.expect(204);
        let seen = show(&w, &one, &message).await.json();
        let shared_box = seen["boxes"].as_array().unwrap().iter().find(|b| b["address"] == "accueil@experts.example").cloned().unwrap();
        assert_eq!((&shared_box["read_by"]["name"], &shared_box["read_by_me"]), (&json!("Deux"), &json!(false)));
        assert_eq!(seen["boxes"][0]["read"], Value::Null, "one's own box is another");
        w.call(ask("POST", path(&message) + "/read").by(&one)).await.expect(204);
        // Each person and box once: two in the service, one in the own box.
        assert_eq!(about(w.journal().await, "message.read").len(), 3);
        assert_eq!(show(&w, &one, &message).await.json()["boxes"][1]["read_by"]["name"], "Deux", "the first stays");

        // An answer in the name of the service, by a person.
        let answer = sent(&w, &two, json!({ "reply_to": message["id"], "subject": "Re" })).await;
        assert_eq!((&answer["sender"]["name"], &answer["author"]["name"]), (&json!("Accueil"), &json!("Deux")));

        // Whoever leaves the service sees nothing of it any more.
        let draft = write(&w, &two, json!({ "from": "accueil@experts.example", "subject": "brouillon" })).await;
        w.change("DELETE FROM service_members WHERE service = $1 AND account = $2", args![shared.0, two.id.0]).await;
        for thing in [&message, &answer, &draft] {
            show(&w, &two, thing).await.problem(404, "not-found");
        }
        w.call(edit(&two, &draft, json!({ "subject": "x" }))).await.problem(404, "not-found");
        w.call(sending(&two, &draft)).await.problem(404, "not-found");
        assert!(list(&w, &two, "?folder=all").await.is_empty());
        assert!(list(&w, &two, "?q=sujet").await.is_empty());
        w.call(ask("GET", format!("/api/v1/threads/{}", message["thread"].as_str().unwrap())).by(&two)).await.problem(404, "not-found");
        w.call(ask("POST", path(&message) + "/read").by(&two)).await.problem(404, "not-found");
        show(&w, &one, &draft).await.expect(200);
    }

    async fn documents_go_with_their_message(dialect) {
        let w = World::on(dialect).await;
        let (draft, document) = with_document(&w, to(&w.recipient, "Avec pièce", "x"), "annexe.pdf", b"contenu").await;
        let deposit: DepositId = draft["deposit"]["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(draft["deposit"]["retention_days"], 5);
        assert_eq!(draft["version"], 1, "whoever writes the text meanwhile loses nothing");
        // The message sends it, and nothing else does.
        w.send(deposit).await.problem(409, "conflict");
        w.call(ask("DELETE", format!("/api/v1/deposits/{deposit}")).by(&w.sender)).await.problem(409, "conflict");
        let again = ask("POST", path(&draft) + "/deposit").by(&w.sender).json(&json!({ "retention_days": 3 }));
        let again = w.call(again).await.expect(200).json();
        assert_eq!((&again["deposit"]["id"], &again["deposit"]["retention_days"]), (&draft["deposit"]["id"], &json!(3)));
        let beyond = ask("POST", path(&draft) + "/deposit").by(&w.sender).json(&json!({ "retention_days": 31 }));
        w.call(beyond).await.problem(422, "invalid");
        w.change("UPDATE organisations SET retention_max = 60 WHERE id = $1", args![w.sender.organisation.0]).await;
        let beyond = ask("POST", path(&draft) + "/deposit").by(&w.sender).json(&json!({ "retention_days": 60 }));
        w.call(beyond).await.expect(200);
        w.download(&w.recipient, document).await.problem(404, "not-found");

        // While it is still being received, nothing is sent.
        let begun = w.begin(deposit, "suite.pdf", Some(3)).await;
        w.call(sending(&w.sender, &draft)).await.problem(409, "deposit-incomplete");
        assert_eq!(show(&w, &w.sender, &draft).await.json()["state"], "draft");
        w.patch(begun.id, 0, b"abc").await.expect(204);
        let message = w.call(sending(&w.sender, &draft)).await.expect(200).json();
        w.jobs().await;
        let seen = show(&w, &w.recipient, &message).await.expect(200).json();
        assert_eq!((&seen["deposit"]["state"], seen["deposit"]["documents"].as_array().unwrap().len()), (&json!("available"), 2));
        assert_eq!(&w.download(&w.recipient, document).await.expect(200).body[..], b"contenu");
        w.download(&w.stranger, document).await.problem(404, "not-found");
        assert_eq!(list(&w, &w.recipient, "").await[0]["documents"], true);
        let event = &about(w.journal().await, "message.sent")[0];
        assert_eq!(event["documents"][0]["sha256"], hex::encode(sha256(b"contenu")));

        // The trail is the sender's.
        let trail = |who: &Who| ask("GET", path(&message) + "/trail?limit=500").by(who);
        w.call(trail(&w.recipient)).await.problem(403, "forbidden");
        w.call(trail(&w.stranger)).await.problem(404, "not-found");
        w.pass(61 * DAY);
        w.jobs().await;
        let events = w.call(trail(&w.sender)).await.expect(200).json();
        let kinds: Vec<_> = events["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
        for kind in ["message.drafted", "message.sent", "deposit.sent", "deposit.available", "download.begun",
            "download.completed", "deposit.expired", "document.erased"] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
        let begun = events["items"].as_array().unwrap().iter().find(|e| e["kind"] == "download.begun").unwrap();
        assert_eq!((&begun["actor"]["name"], &begun["document"]), (&json!("Expert"), &json!(document)));
        // In pages, each event once.
        let (mut after, mut paged) = (String::new(), Vec::new());
        loop {
            let page = w.call(ask("GET", format!("{}/trail?limit=2{after}", path(&message))).by(&w.sender)).await.expect(200).json();
            paged.extend(page["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(paged, kinds);
        // Expired: the message says what there was; nothing gives it.
        let seen = show(&w, &w.recipient, &message).await.expect(200).json();
        assert_eq!(seen["deposit"]["state"], "expired");
        assert_eq!(w.download(&w.recipient, document).await.status, 404);
        w.is_sound().await;
    }

    async fn drafts_leave_nothing_behind(dialect) {
        let w = World::on(dialect).await;
        let (draft, _) = with_document(&w, to(&w.recipient, "x", "y"), "a.pdf", &noise(1, 1000)).await;
        assert!(w.used().await > 0);
        w.call(ask("DELETE", path(&draft)).by(&w.recipient)).await.problem(404, "not-found");
        w.call(ask("DELETE", path(&draft)).by(&w.sender)).await.expect(204);
        show(&w, &w.sender, &draft).await.problem(404, "not-found");
        w.jobs().await;
        w.store_is_empty().await;
        assert_eq!(w.used().await, 0);
        // A deposit that nobody filled is not sent with the message; one that was forgotten leaves the draft.
        let draft = write(&w, &w.sender, to(&w.recipient, "x", "y")).await;
        w.call(ask("POST", path(&draft) + "/deposit").by(&w.sender).json(&json!({}))).await.expect(201);
        let message = w.call(sending(&w.sender, &draft)).await.expect(200).json();
        assert!(message.get("deposit").is_none());
        let (draft, _) = with_document(&w, to(&w.recipient, "x", "y"), "a.pdf", b"abc").await;
        w.pass(31 * DAY);
        w.jobs().await;
        assert!(show(&w, &w.sender, &draft).await.expect(200).json().get("deposit").is_none());
        w.is_sound().await;
    }

    async fn recipients_come_and_go(dialect) {
        let w = World::on(dialect).await;
        let (draft, document) = with_document(&w, to(&w.recipient, "Avec pièce", "x"), "a.pdf", b"abc").await;
        let message = w.call(sending(&w.sender, &draft)).await.expect(200).json();
        w.jobs().await;
        let recipients = path(&message) + "/recipients";
        let one = |who: &Who| format!("{recipients}/{}", who.address.replace('@', "%40"));
        let add = |by: &Who, who: &Who| ask("POST", &recipients).by(by).json(&json!({ "address": who.address, "copy": true }));
        w.call(add(&w.recipient, &w.stranger)).await.problem(403, "forbidden");
        w.call(add(&w.stranger, &w.stranger)).await.problem(404, "not-found");
        w.call(add(&w.sender, &w.recipient)).await.problem(409, "conflict");
        w.call(add(&w.sender, &w.sender)).await.problem(409, "conflict");
        let told = w.call(add(&w.sender, &w.stranger)).await.expect(200).json();
        assert_eq!(told["recipients"].as_array().unwrap().len(), 2);
        assert_eq!(show(&w, &w.stranger, &message).await.expect(200).json()["boxes"][0]["role"], "copy");
        w.download(&w.stranger, document).await.expect(200);

        w.call(ask("DELETE", one(&w.recipient)).by(&w.stranger)).await.problem(403, "forbidden");
        let told = w.call(ask("DELETE", one(&w.recipient)).by(&w.sender)).await.expect(200).json();
        let withdrawn = told["recipients"].as_array().unwrap().iter().find(|r| r["address"] == w.recipient.address).cloned().unwrap();
        assert!(withdrawn["withdrawn"].is_string());
        w.call(ask("DELETE", one(&w.recipient)).by(&w.sender)).await.problem(404, "not-found");
        // For whoever was withdrawn it is not there.
        show(&w, &w.recipient, &message).await.problem(404, "not-found");
        w.download(&w.recipient, document).await.problem(404, "not-found");
        w.call(ask("POST", path(&message) + "/read").by(&w.recipient)).await.problem(404, "not-found");
        w.call(ask("GET", format!("/api/v1/threads/{}", message["thread"].as_str().unwrap())).by(&w.recipient)).await.problem(404, "not-found");
        for query in ["", "?folder=all", "?folder=archived", "?q=pi%C3%A8ce", "?q=est:nonlu"] {
            assert!(list(&w, &w.recipient, query).await.is_empty(), "{query}");
        }
        let reply = json!({ "reply_to": message["id"], "subject": "x" });
        w.call(ask("POST", "/api/v1/messages").by(&w.recipient).json(&reply)).await.problem(422, "invalid");
        // The others do not see them among the recipients.
        assert_eq!(show(&w, &w.stranger, &message).await.json()["recipients"].as_array().unwrap().len(), 1);
        // And back again.
        w.call(add(&w.sender, &w.recipient)).await.expect(200);
        w.download(&w.recipient, document).await.expect(200);
        let trail = w.call(ask("GET", path(&message) + "/trail").by(&w.sender)).await.expect(200).json();
        let moves: Vec<_> = trail["items"].as_array().unwrap().iter()
            .filter(|e| e["kind"].as_str().unwrap().starts_with("message.recipient_"))
            .map(|e| (e["kind"].as_str().unwrap(), e["box"]["address"].as_str().unwrap())).collect();
        assert_eq!(moves, [("message.recipient_added", w.stranger.address.as_str()),
            ("message.recipient_withdrawn", &w.recipient.address), ("message.recipient_added", &w.recipient.address)]);
        // Not of a draft.
        let draft = write(&w, &w.sender, to(&w.recipient, "x", "y")).await;
        let add = ask("POST", path(&draft) + "/recipients").by(&w.sender).json(&json!({ "address": w.stranger.address }));
        w.call(add).await.problem(409, "conflict");
    }

    async fn passing_on(dialect) {
        let w = World::on(dialect).await;
        let (draft, document) = with_document(&w, to(&w.recipient, "Secret", "texte d'origine"), "a.pdf", b"abc").await;
        let message = w.call(sending(&w.sender, &draft)).await.expect(200).json();
        w.jobs().await;
        let forward = |documents: Value| json!({ "forwards": message["id"], "to": [w.stranger.address], "subject": "Tr", "forwarded_documents": documents });
        // Only what one has.
        w.call(ask("POST", "/api/v1/messages").by(&w.stranger).json(&forward(json!([])))).await.problem(422, "invalid");
        let (_, other) = with_document(&w, to(&w.recipient, "Autre", "x"), "b.pdf", b"def").await;
        w.call(ask("POST", "/api/v1/messages").by(&w.recipient).json(&forward(json!([other])))).await.problem(422, "invalid");
        // Without its documents.
        let bare = sent(&w, &w.recipient, forward(json!([]))).await;
        let seen = show(&w, &w.stranger, &bare).await.expect(200).json();
        assert_eq!((&seen["forwarded"]["body"], &seen["forwarded"]["sender"]["address"]), (&json!("texte d'origine"), &json!(w.sender.address)));
        assert_eq!(seen["forwarded"]["documents"], json!([]));
        assert_ne!(seen["thread"], message["thread"]);
        show(&w, &w.stranger, &message).await.problem(404, "not-found");
        w.download(&w.stranger, document).await.problem(404, "not-found");
        // With them.
        let with = sent(&w, &w.recipient, forward(json!([document]))).await;
        assert_eq!(show(&w, &w.stranger, &with).await.json()["forwarded"]["documents"][0]["id"], json!(document));
        assert_eq!(&w.download(&w.stranger, document).await.expect(200).body[..], b"abc");
        // The deposit as a whole was not passed on, and nobody passes on what they have from second hand.
        w.call(ask("GET", format!("/api/v1/deposits/{}", message["deposit"]["id"].as_str().unwrap())).by(&w.stranger)).await.problem(404, "not-found");
        let chain = json!({ "forwards": with["id"], "to": [w.sender.address], "subject": "x", "forwarded_documents": [document] });
        w.call(ask("POST", "/api/v1/messages").by(&w.stranger).json(&chain)).await.problem(422, "invalid");
        // It lasts no longer than the right of whoever passed it on.
        let withdraw = format!("{}/recipients/{}", path(&message), w.recipient.address.replace('@', "%40"));
        w.call(ask("DELETE", withdraw).by(&w.sender)).await.expect(200);
        w.download(&w.stranger, document).await.problem(404, "not-found");
        let add = ask("POST", path(&message) + "/recipients").by(&w.sender).json(&json!({ "address": w.recipient.address }));
        w.call(add).await.expect(200);
        w.download(&w.stranger, document).await.expect(200);
        // And not past its expiry: neither reading nor sending.
        let late = write(&w, &w.recipient, forward(json!([document]))).await;
        w.pass(6 * DAY);
        w.download(&w.stranger, document).await.problem(404, "not-found");
        w.call(sending(&w.recipient, &late)).await.problem(422, "invalid");
    }

    async fn corrections(dialect) {
        let w = World::on(dialect).await;
        let message = sent(&w, &w.sender, to(&w.recipient, "Date", "le 3")).await;
        let fix = |id: &Value| json!({ "corrects": id, "subject": "Date (rectificatif)", "body": "le 4" });
        w.call(ask("POST", "/api/v1/messages").by(&w.recipient).json(&fix(&message["id"]))).await.problem(422, "invalid");
        w.call(ask("POST", "/api/v1/messages").by(&w.stranger).json(&fix(&message["id"]))).await.problem(422, "invalid");
        let mut other_kind = fix(&message["id"]);
        other_kind["kind"] = json!("notice");
        w.call(ask("POST", "/api/v1/messages").by(&w.sender).json(&other_kind)).await.problem(422, "invalid");
        let fixed = sent(&w, &w.sender, fix(&message["id"])).await;
        assert_eq!(fixed["recipients"][0]["address"], w.recipient.address, "it goes to whoever got the first");
        let seen = show(&w, &w.recipient, &message).await.expect(200).json();
        assert_eq!((&seen["body"], &seen["corrected_by"]), (&json!("le 3"), &json!([fixed["id"]])));
        assert_eq!(show(&w, &w.recipient, &fixed).await.json()["corrects"], message["id"]);
        assert_eq!(list(&w, &w.recipient, "").await[0]["correction"], true);
        assert_eq!(about(w.journal().await, "message.sent")[1]["corrects"], message["id"]);
        // Whoever does not have the correction does not hear of it.
        let copy = ask("POST", path(&message) + "/recipients").by(&w.sender).json(&json!({ "address": w.stranger.address }));
        w.call(copy).await.expect(200);
        assert!(show(&w, &w.stranger, &message).await.json().get("corrected_by").is_none());
    }

    async fn kinds_and_who_sends_them(dialect) {
        let w = World::on(dialect).await;
        let town = admin::add_organisation(&w.hub, OrganisationKind::Administration, "Mairie", 1 << 20).await.unwrap();
        let agent = account(&w.hub, town, "agent@mairie.example", "Agent").await;
        let new = |who: &Who, kind: &str, to: &Who| ask("POST", "/api/v1/messages").by(who)
            .json(&json!({ "kind": kind, "to": [to.address], "subject": kind }));
        for kind in ["mission", "notice"] {
            w.call(new(&w.sender, kind, &w.recipient)).await.expect(201);
            w.call(new(&w.stranger, kind, &w.recipient)).await.expect(201);
            for who in [&w.recipient, &agent] {
                w.call(new(who, kind, &w.sender)).await.problem(403, "forbidden");
            }
        }
        for who in [&w.sender, &w.stranger, &w.recipient, &agent] {
            w.call(new(who, "correspondence", &w.sender)).await.expect(201);
            w.call(new(who, "referral", &w.sender)).await.problem(403, "forbidden");
            for kind in ["draft_report", "final_report"] {
                w.call(new(who, kind, &w.sender)).await.problem(403, "forbidden");
            }
        }
        assert!(w.call(new(&w.sender, "autre", &w.recipient)).await.status.is_client_error());

        // A report answers the mission that its expert was given.
        let mission = sent(&w, &w.sender, json!({ "kind": "mission", "to": [w.recipient.address], "copy": [w.stranger.address], "subject": "M" })).await;
        let report = |to: &Value, kind: &str| json!({ "kind": kind, "reply_to": to["id"], "subject": kind });
        w.call(ask("POST", "/api/v1/messages").by(&w.stranger).json(&report(&mission, "final_report"))).await.problem(403, "forbidden");
        w.call(ask("POST", "/api/v1/messages").by(&w.sender).json(&report(&mission, "final_report"))).await.problem(403, "forbidden");
        let draft = sent(&w, &w.recipient, report(&mission, "draft_report")).await;
        let remark = sent(&w, &w.sender, json!({ "reply_to": draft["id"], "subject": "Dire" })).await;
        sent(&w, &w.recipient, report(&remark, "final_report")).await;
        let question = sent(&w, &w.sender, to(&w.recipient, "Question", "?")).await;
        w.call(ask("POST", "/api/v1/messages").by(&w.recipient).json(&report(&question, "final_report"))).await.problem(403, "forbidden");
        // Not for who is no expert any more, nor once the mission was withdrawn; asked again at the sending.
        let late = write(&w, &w.recipient, report(&mission, "final_report")).await;
        w.change("UPDATE roles SET role = 'agent' WHERE account = $1", args![w.recipient.id.0]).await;
        w.call(sending(&w.recipient, &late)).await.problem(403, "forbidden");
        w.change("UPDATE roles SET role = $2 WHERE account = $1", args![w.recipient.id.0, Role::Expert.as_str()]).await;
        w.call(ask("DELETE", format!("{}/recipients/{}", path(&mission), w.recipient.address.replace('@', "%40"))).by(&w.sender)).await.expect(200);
        w.call(sending(&w.recipient, &late)).await.problem(422, "invalid");
    }

    async fn in_a_procedure(dialect) {
        let w = World::on(dialect).await;
        let reader = account(&w.hub, w.sender.organisation, "lecteur@cabinet.example", "Lecteur").await;
        let depositor = account(&w.hub, w.recipient.organisation, "depot@experts.example", "Dépôt").await;
        let case = procedure(&w, "Affaire des halles", "24/1234", &[
            (own_box(&w.sender), "manager"), (own_box(&reader), "reader"), (own_box(&depositor), "depositor")]).await;
        let new = |who: &Who, to: &Who| ask("POST", "/api/v1/messages").by(who)
            .json(&json!({ "procedure": case, "to": [to.address], "subject": "x" }));
        w.call(new(&w.stranger, &w.sender)).await.problem(404, "not-found");
        w.call(new(&w.recipient, &w.sender)).await.problem(404, "not-found");
        w.call(new(&reader, &w.sender)).await.problem(403, "forbidden");
        w.call(new(&depositor, &w.sender)).await.expect(201);
        let message = sent(&w, &w.sender, json!({ "procedure": case, "to": [w.recipient.address], "copy": [reader.address], "subject": "Mission" })).await;
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM events WHERE kind = 'message.sent' AND procedure = $1", args![case]).await, 1);
        // Who was written to answers those who were; to anyone else it takes a right in the procedure.
        let answer = |to: &Who| json!({ "reply_to": message["id"], "to": [to.address], "subject": "Re" });
        let answered = sent(&w, &w.recipient, answer(&w.sender)).await;
        assert_eq!(answered["procedure"], json!(case), "it stays in its procedure");
        w.call(ask("POST", "/api/v1/messages").by(&w.recipient).json(&answer(&w.stranger))).await.problem(404, "not-found");
        w.call(ask("POST", "/api/v1/messages").by(&reader).json(&answer(&w.stranger))).await.problem(403, "forbidden");
        let other = procedure(&w, "Autre", "24/9", &[(own_box(&w.sender), "manager")]).await;
        let moved = json!({ "reply_to": message["id"], "procedure": other, "subject": "Re" });
        w.call(ask("POST", "/api/v1/messages").by(&w.sender).json(&moved)).await.problem(422, "invalid");
        // Passing on takes the right to write in it.
        let forward = json!({ "forwards": message["id"], "to": [w.stranger.address], "subject": "Tr" });
        w.call(ask("POST", "/api/v1/messages").by(&reader).json(&forward)).await.problem(403, "forbidden");
        w.call(ask("POST", "/api/v1/messages").by(&w.recipient).json(&forward)).await.problem(404, "not-found");
        let passed = sent(&w, &w.sender, forward).await;
        assert_eq!(passed["procedure"], json!(case));
        // A right that has ended since the draft was written.
        let late = w.call(new(&w.sender, &w.recipient)).await.expect(201).json();
        w.change("UPDATE procedure_members SET removed = $2 WHERE box = $1", args![w.sender.id.0, w.now()]).await;
        w.call(sending(&w.sender, &late)).await.problem(404, "not-found");
    }

    async fn a_delegate_and_the_end_of_it(dialect) {
        let w = World::on(dialect).await;
        let delegate = account(&w.hub, w.sender.organisation, "collegue@cabinet.example", "Collègue").await;
        let case = procedure(&w, "Affaire", "24/1234", &[(own_box(&w.sender), "manager")]).await;
        let (now, soon) = (w.now(), w.now().plus_seconds(3600));
        let whole = w.delegated(&w.sender, &delegate, None, now, soon).await;
        let limited = w.delegated(&w.sender, &delegate, Some(case), now, soon).await;
        let inside = sent(&w, &w.sender, json!({ "procedure": case, "to": [w.recipient.address], "subject": "dedans" })).await;
        let (draft, document) = with_document(&w, json!({ "procedure": case, "to": [w.recipient.address], "subject": "pièce" }), "a.pdf", b"abc").await;
        let outside = sent(&w, &w.sender, to(&w.recipient, "dehors", "x")).await;
        let (apart, other) = with_document(&w, to(&w.recipient, "pièce", "x"), "b.pdf", b"def").await;
        let by = |delegation: Uuid, ask: Ask| ask.by(&delegate).header("pli-delegation", delegation);

        // For one procedure: what is in it, and nothing else.
        w.call(by(limited, ask("GET", path(&inside)))).await.expect(200);
        w.call(by(limited, ask("GET", path(&draft)))).await.expect(200);
        w.call(by(limited, content_of(document))).await.expect(200);
        w.call(by(limited, content_of(other))).await.problem(404, "not-found");
        w.call(by(limited, ask("GET", format!("/api/v1/deposits/{}", apart["deposit"]["id"].as_str().unwrap())))).await.problem(404, "not-found");
        for gone in [&outside, &apart] {
            w.call(by(limited, ask("GET", path(gone)))).await.problem(404, "not-found");
            w.call(by(limited, ask("GET", path(gone) + "/trail"))).await.problem(404, "not-found");
            w.call(by(limited, ask("POST", path(gone) + "/read"))).await.problem(404, "not-found");
            w.call(by(limited, ask("PUT", path(gone) + "/archive"))).await.problem(404, "not-found");
        }
        w.call(by(limited, ask("GET", format!("/api/v1/threads/{}", outside["thread"].as_str().unwrap())))).await.problem(404, "not-found");
        let sent_items = w.call(by(limited, ask("GET", "/api/v1/inbox?folder=sent"))).await.expect(200).json();
        assert_eq!(sent_items["items"].as_array().unwrap().len(), 1);
        let drafts = w.call(by(limited, ask("GET", "/api/v1/messages"))).await.expect(200).json();
        assert_eq!(drafts["items"].as_array().unwrap().len(), 1);
        let text = json!({ "to": [w.recipient.address], "subject": "x" });
        w.call(by(limited, ask("POST", "/api/v1/messages").json(&text))).await.problem(403, "not-delegated");
        let mut within = text.clone();
        within["procedure"] = json!(case);
        w.call(by(limited, ask("POST", "/api/v1/messages").json(&within))).await.expect(201);
        // Nor out of it by an edit.
        let out = ask("PUT", path(&draft)).header("if-match", tag(&draft)).json(&text);
        w.call(by(limited, out)).await.problem(403, "not-delegated");

        // « X pour Y », on the message and in the journal.
        let written = w.call(by(whole, ask("POST", "/api/v1/messages").json(&text))).await.expect(201).json();
        let send = || ask("POST", path(&written) + "/send").header("if-match", tag(&written));
        let message = w.call(by(whole, send())).await.expect(200).json();
        let seen = show(&w, &w.recipient, &message).await.expect(200).json();
        assert_eq!((&seen["sender"]["name"], &seen["author"]["name"], &seen["on_behalf"]["name"]), (&json!("Greffe"), &json!("Collègue"), &json!("Greffe")));
        let row = w.rows("SELECT actor, on_behalf FROM events WHERE kind = 'message.sent' AND message = $1",
            args![message["id"].as_str().unwrap().parse::<Uuid>().unwrap()]).await.pop().unwrap();
        assert_eq!((row.get::<Uuid>("actor").unwrap(), row.get::<Uuid>("on_behalf").unwrap()), (delegate.id.0, w.sender.id.0));

        // It ends while a draft is being written: the draft stays, with whom it belongs to.
        let written = w.call(by(whole, ask("POST", "/api/v1/messages").json(&text))).await.expect(201).json();
        w.pass(3600);
        for delegation in [whole, limited] {
            w.call(by(delegation, ask("GET", path(&written)))).await.problem(403, "not-delegated");
            let send = ask("POST", path(&written) + "/send").header("if-match", tag(&written));
            w.call(by(delegation, send)).await.problem(403, "not-delegated");
        }
        show(&w, &delegate, &written).await.problem(404, "not-found");
        assert_eq!(show(&w, &w.sender, &written).await.expect(200).json()["state"], "draft");
    }

    async fn labels_and_archive(dialect) {
        let w = World::on(dialect).await;
        let colleague = account(&w.hub, w.recipient.organisation, "un@experts.example", "Une").await;
        service(&w.hub, w.recipient.organisation, "accueil@experts.example", "Accueil", &[&w.recipient, &colleague]).await;
        let message = sent(&w, &w.sender, json!({ "to": [w.recipient.address, "accueil@experts.example"], "subject": "s" })).await;
        let label = |who: &Who, body: Value| ask("POST", "/api/v1/labels").by(who).json(&body);
        let own = w.call(label(&w.recipient, json!({ "name": " À relire " }))).await.expect(201).json();
        assert_eq!((&own["name"], &own["box"]), (&json!("À relire"), &json!(w.recipient.address)));
        w.call(label(&w.recipient, json!({ "name": "a RELIRE" }))).await.problem(409, "conflict");
        w.call(label(&colleague, json!({ "name": "x", "box": w.recipient.address }))).await.problem(422, "invalid");
        for name in ["", "a\nb", "…", &"x".repeat(61)] {
            w.call(label(&w.recipient, json!({ "name": name }))).await.problem(422, "invalid");
        }
        let shared = w.call(label(&colleague, json!({ "name": "Urgent", "box": "accueil@experts.example" }))).await.expect(201).json();
        let on = |label: &Value| format!("{}/labels/{}", path(&message), label["id"].as_str().unwrap());
        w.call(ask("PUT", on(&own)).by(&colleague)).await.problem(404, "not-found");
        w.call(ask("PUT", on(&own)).by(&w.sender)).await.problem(404, "not-found");
        w.call(ask("PUT", on(&own)).by(&w.recipient)).await.expect(204);
        w.call(ask("PUT", on(&own)).by(&w.recipient)).await.expect(204);
        w.call(ask("PUT", on(&shared)).by(&colleague)).await.expect(204);
        // Each label in its box, and the sender sees none.
        let items = list(&w, &w.recipient, "").await;
        for item in &items {
            let expected = if item["box"]["name"] == "Accueil" { "Urgent" } else { "À relire" };
            assert_eq!(item["labels"].as_array().unwrap().len(), 1);
            assert_eq!(item["labels"][0]["name"], expected);
        }
        assert_eq!(list(&w, &colleague, "").await[0]["labels"].as_array().unwrap().len(), 1);
        assert_eq!(list(&w, &w.sender, "?folder=sent").await[0]["labels"], json!([]));
        assert_eq!(list(&w, &w.recipient, "?q=etiquette:%22a%20relire%22").await.len(), 1);
        assert_eq!(list(&w, &colleague, "?q=etiquette:%22a%20relire%22").await.len(), 0);
        let labels = w.call(ask("GET", "/api/v1/labels").by(&w.recipient)).await.expect(200).json();
        assert_eq!(labels.as_array().unwrap().len(), 2);
        let one = format!("/api/v1/labels/{}", shared["id"].as_str().unwrap());
        w.call(ask("PUT", &one).by(&w.sender).json(&json!({ "name": "x" }))).await.problem(404, "not-found");
        w.call(ask("PUT", &one).by(&w.recipient).json(&json!({ "name": "Très urgent" }))).await.expect(200);
        w.call(ask("DELETE", on(&shared)).by(&w.recipient)).await.expect(204);
        w.call(ask("DELETE", &one).by(&w.sender)).await.problem(404, "not-found");
        w.call(ask("DELETE", &one).by(&colleague)).await.expect(204);
        w.call(ask("DELETE", &one).by(&colleague)).await.problem(404, "not-found");

        // Put away in one box, in sight in the other.
        w.call(ask("PUT", path(&message) + "/archive?box=accueil%40experts.example").by(&colleague)).await.expect(204);
        assert!(list(&w, &colleague, "").await.is_empty());
        assert_eq!(list(&w, &colleague, "?folder=archived").await.len(), 1);
        assert_eq!(list(&w, &w.recipient, "").await.len(), 1);
        assert_eq!(list(&w, &w.recipient, "?q=est:archive").await.len(), 1);
        w.call(ask("DELETE", path(&message) + "/archive").by(&colleague)).await.expect(204);
        assert_eq!(list(&w, &colleague, "").await.len(), 1);
        w.call(ask("PUT", path(&message) + "/archive").by(&w.sender)).await.expect(204);
        assert!(list(&w, &w.sender, "?folder=sent").await.is_empty());
        w.call(ask("PUT", path(&message) + "/archive").by(&w.stranger)).await.problem(404, "not-found");
    }
}
