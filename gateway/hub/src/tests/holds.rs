//! Holds, recipients after sending, reminders, reports, and the bounds of retention.

use crate::admin;
use crate::testing::*;
use pli_api::DepositId;
use pli_storage::args;
use serde_json::{Value, json};

async fn role(w: &World, who: &Who, role: &str) {
    let sql = "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, $3, $4)";
    w.change(sql, args![who.id.0, who.organisation.0, role, w.now()]).await;
}

async fn hold(w: &World, who: &Who, deposit: DepositId) -> Reply {
    let body = json!({ "deposit": deposit, "motive": "Appel en cours" });
    w.call(ask("POST", "/api/v1/holds").by(who).json(&body)).await
}

async fn lift(w: &World, who: &Who, id: &Value) -> Reply {
    let path = format!("/api/v1/holds/{}/lift", id.as_str().unwrap());
    w.call(ask("POST", path).by(who).json(&json!({ "motive": "Arrêt rendu" }))).await
}

async fn recipients(w: &World, deposit: DepositId) -> Vec<Value> {
    let path = format!("/api/v1/deposits/{deposit}/recipients");
    w.call(ask("GET", path).by(&w.sender)).await.expect(200).json().as_array().unwrap().clone()
}

async fn add(w: &World, by: &Who, deposit: DepositId, address: &str) -> Reply {
    let path = format!("/api/v1/deposits/{deposit}/recipients");
    w.call(ask("POST", path).by(by).json(&json!({ "address": address }))).await
}

async fn withdraw(w: &World, by: &Who, deposit: DepositId, who: &Who) -> Reply {
    w.call(ask("DELETE", format!("/api/v1/deposits/{deposit}/recipients/{}", who.id)).by(by)).await
}

async fn kinds_of(w: &World, who: &Who) -> Vec<String> {
    let list = w.call(ask("GET", "/api/v1/notices").by(who)).await.expect(200).json();
    list["items"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect()
}

on_both! {
    async fn what_is_held_is_not_deleted(dialect) {
        let w = World::on(dialect).await;
        let magistrate = account(&w.hub, w.sender.organisation, "juge@cabinet.example", "Juge").await;
        role(&w, &magistrate, "magistrate").await;
        let (deposit, documents) = w.available(&[("a.pdf", b"abc")]).await;
        let (other, _) = w.available(&[("b.pdf", b"abc")]).await;
        hold(&w, &w.sender, deposit).await.problem(403, "forbidden");
        hold(&w, &w.stranger, deposit).await.problem(404, "not-found");
        let first = hold(&w, &magistrate, deposit).await.expect(201).json();
        let second = hold(&w, &magistrate, deposit).await.expect(201).json();
        assert_eq!((&first["placed_by"]["address"], &first["motive"]), (&json!("juge@cabinet.example"), &json!("Appel en cours")));
        w.pass(31 * DAY);
        w.jobs().await;
        // The other is gone; of this one the keys stay, and only its recipients' access ended.
        assert_eq!(w.deposit(&w.sender, other).await.expect(200).json()["state"], "expired");
        assert_eq!(w.deposit(&w.sender, deposit).await.expect(200).json()["state"], "available");
        w.deposit(&w.recipient, deposit).await.problem(404, "not-found");
        assert_eq!(w.stored_document(documents[0]).await, b"abc");
        // Every hold has to be lifted.
        lift(&w, &w.stranger, &first["id"]).await.problem(404, "not-found");
        lift(&w, &w.sender, &first["id"]).await.problem(404, "not-found");
        lift(&w, &magistrate, &first["id"]).await.expect(200);
        lift(&w, &magistrate, &first["id"]).await.problem(409, "conflict");
        w.jobs().await;
        assert_eq!(w.stored_document(documents[0]).await, b"abc");
        let lifted = lift(&w, &magistrate, &second["id"]).await.expect(200).json();
        assert_eq!((&lifted["lift_motive"], &lifted["lifted_by"]["name"]), (&json!("Arrêt rendu"), &json!("Juge")));
        w.jobs().await;
        assert_eq!(w.deposit(&w.sender, deposit).await.expect(200).json()["state"], "expired");
        w.store_is_empty().await;
        hold(&w, &magistrate, deposit).await.problem(409, "conflict");
        assert_eq!(w.kinds("hold.").await, ["hold.placed", "hold.placed", "hold.lifted", "hold.lifted"]);
        let told = w.told("hold.placed").await;
        assert_eq!((told[0].actor, told[0].deposit), (Some(magistrate.id), Some(deposit)));
        let list = |query: &str| w.call(ask("GET", format!("/api/v1/holds?{query}")).by(&magistrate));
        assert_eq!(list("").await.expect(200).json()["items"].as_array().unwrap().len(), 2);
        assert_eq!(list("standing=true").await.expect(200).json()["items"], json!([]));
        let of_deposit = list(&format!("deposit={deposit}&limit=1")).await.expect(200).json();
        assert_eq!((of_deposit["items"].as_array().unwrap().len(), &of_deposit["next"]), (1, &of_deposit["items"][0]["id"]));
        w.call(ask("GET", "/api/v1/holds").by(&w.sender)).await.problem(403, "forbidden");
        assert!(kinds_of(&w, &w.sender).await.contains(&"hold.placed".to_owned()));
    }

    /// A procedure holds what was sent in it and what was filed in it, and nothing else.
    async fn a_procedure_is_held(dialect) {
        let w = World::on(dialect).await;
        role(&w, &w.sender, "registrar").await;
        let (sent, in_message) = w.available(&[("a.pdf", b"abc")]).await;
        let (filed, in_piece) = w.available(&[("b.pdf", b"abc")]).await;
        let (other, _) = w.available(&[("c.pdf", b"abc")]).await;
        let (procedure, now) = (uuid::Uuid::now_v7(), w.now());
        let (office, account) = (w.sender.organisation.0, w.sender.id.0);
        let sql = "INSERT INTO procedures (id, organisation, title, folded, state, version, created, opened_by)
                   VALUES ($1, $2, 'Dossier', 'dossier', 'open', 0, $3, $4)";
        w.change(sql, args![procedure, office, now, account]).await;
        let sql = "INSERT INTO messages (id, procedure, kind, state, sender, author, subject, body, folded, deposit, version, created)
                   VALUES ($1, $2, 'mission', 'sent', $3, $3, '', '', '', $4, 0, $5)";
        w.change(sql, args![uuid::Uuid::now_v7(), procedure, account, sent.0, now]).await;
        let sql = "INSERT INTO pieces (id, procedure, document, title, restricted, version, filed, filed_by)
                   VALUES ($1, $2, $3, 'Pièce', FALSE, 0, $4, $5)";
        w.change(sql, args![uuid::Uuid::now_v7(), procedure, in_piece[0].0, now, account]).await;

        let body = json!({ "procedure": procedure, "motive": "Instruction en cours" });
        w.call(ask("POST", "/api/v1/holds").by(&w.stranger).json(&body)).await.problem(404, "not-found");
        let held = w.call(ask("POST", "/api/v1/holds").by(&w.sender).json(&body)).await.expect(201).json();
        assert_eq!((&held["procedure"], &held["deposit"]), (&json!(procedure), &Value::Null));
        w.pass(31 * DAY);
        w.jobs().await;
        let states = |id| { let w = &w; async move { w.deposit(&w.sender, id).await.expect(200).json()["state"].clone() } };
        assert_eq!((states(sent).await, states(filed).await, states(other).await), (json!("available"), json!("available"), json!("expired")));
        assert_eq!(w.stored_document(in_message[0]).await, b"abc");
        lift(&w, &w.sender, &held["id"]).await.expect(200);
        w.jobs().await;
        assert_eq!((states(sent).await, states(filed).await), (json!("expired"), json!("expired")));
        w.store_is_empty().await;
    }

    async fn a_hold_has_one_object_and_a_motive(dialect) {
        let w = World::on(dialect).await;
        role(&w, &w.sender, "registrar").await;
        let (deposit, _) = w.available(&[("a.pdf", b"abc")]).await;
        let draft = w.draft().await;
        let long = "x".repeat(2001);
        for (body, status) in [
            (json!({ "motive": "x" }), 422),
            (json!({ "deposit": deposit, "procedure": deposit, "motive": "x" }), 422),
            (json!({ "deposit": deposit, "motive": "  " }), 422),
            (json!({ "deposit": deposit, "motive": "a\u{0}b" }), 422),
            (json!({ "deposit": deposit, "motive": long }), 422),
            (json!({ "deposit": draft, "motive": "x" }), 404),
            (json!({ "deposit": DepositId::new(), "motive": "x" }), 404),
            (json!({ "procedure": DepositId::new(), "motive": "x" }), 404),
            (json!({ "deposit": deposit, "motive": "ligne\nligne" }), 201),
        ] {
            w.call(ask("POST", "/api/v1/holds").by(&w.sender).json(&body)).await.expect(status);
        }
    }

    /// More than one sweep's worth of held deposits does not keep the others.
    async fn held_deposits_do_not_stand_in_the_way(dialect) {
        let w = World::on(dialect).await;
        role(&w, &w.sender, "registrar").await;
        let (held, _) = w.available(&[("a", b"abc")]).await;
        hold(&w, &w.sender, held).await.expect(201);
        w.change("UPDATE deposits SET expires = expires - 1 WHERE id = $1", args![held.0]).await;
        let (other, _) = w.available(&[("b", b"abc")]).await;
        w.pass(31 * DAY);
        w.jobs().await;
        assert_eq!(w.deposit(&w.sender, other).await.expect(200).json()["state"], "expired");
        // Told of both, held or not.
        assert_eq!(w.told("deposit.unread").await.len(), 2);
    }

    async fn a_recipient_is_added_and_withdrawn(dialect) {
        let w = World::on(dialect).await;
        let (deposit, documents) = w.available(&[("a.pdf", b"abc")]).await;
        w.deposit(&w.stranger, deposit).await.problem(404, "not-found");
        add(&w, &w.recipient, deposit, &w.stranger.address).await.problem(404, "not-found");
        add(&w, &w.sender, deposit, "personne@nulle.example").await.problem(422, "unknown-recipient");
        add(&w, &w.sender, deposit, "pas une adresse").await.problem(422, "invalid");
        add(&w, &w.sender, deposit, &w.stranger.address).await.expect(201);
        add(&w, &w.sender, deposit, &w.stranger.address.to_uppercase()).await.expect(200);
        w.jobs().await;
        assert_eq!(kinds_of(&w, &w.stranger).await, ["deposit.available"]);
        assert_eq!(w.download(&w.stranger, documents[0]).await.expect(200).body, "abc");
        until("the download is written down", || async { !w.told("download.completed").await.is_empty() }).await;

        withdraw(&w, &w.stranger, deposit, &w.recipient).await.problem(404, "not-found");
        withdraw(&w, &w.sender, deposit, &w.stranger).await.expect(204);
        withdraw(&w, &w.sender, deposit, &w.stranger).await.problem(404, "not-found");
        w.deposit(&w.stranger, deposit).await.problem(404, "not-found");
        w.download(&w.stranger, documents[0]).await.problem(404, "not-found");
        let states = recipients(&w, deposit).await;
        let of = |who: &Who| states.iter().find(|s| s["address"] == json!(who.address)).unwrap().clone();
        assert!(of(&w.stranger)["read"].is_string() && of(&w.stranger)["withdrawn"].is_string());
        assert!(of(&w.recipient)["read"].is_null() && of(&w.recipient)["withdrawn"].is_null());
        // Back again.
        add(&w, &w.sender, deposit, &w.stranger.address).await.expect(201);
        w.deposit(&w.stranger, deposit).await.expect(200);
        assert_eq!(w.kinds("deposit.recipient").await, ["deposit.recipient_added", "deposit.recipient_withdrawn", "deposit.recipient_added"]);
        let path = format!("/api/v1/deposits/{deposit}/recipients");
        w.call(ask("GET", &path).by(&w.recipient)).await.problem(404, "not-found");

        w.pass(31 * DAY);
        add(&w, &w.sender, deposit, &w.stranger.address).await.problem(409, "conflict");
        w.jobs().await;
        withdraw(&w, &w.sender, deposit, &w.recipient).await.problem(409, "conflict");
        let draft = w.draft().await;
        withdraw(&w, &w.sender, draft, &w.recipient).await.problem(409, "conflict");
        add(&w, &w.sender, draft, &w.stranger.address).await.expect(201);
        withdraw(&w, &w.sender, draft, &w.recipient).await.expect(204);
    }

    /// Before the end, who has not read is reminded, once; at the end the sender hears of who has not.
    async fn reminder_and_report(dialect) {
        let w = World::on(dialect).await;
        let (deposit, documents) = w.available(&[("a.pdf", b"abc")]).await;
        add(&w, &w.sender, deposit, &w.stranger.address).await.expect(201);
        let third = account(&w.hub, w.stranger.organisation, "tiers@cour.example", "Tiers").await;
        add(&w, &w.sender, deposit, &third.address).await.expect(201);
        withdraw(&w, &w.sender, deposit, &third).await.expect(204);
        w.download(&w.recipient, documents[0]).await.expect(200);
        until("the download is written down", || async { !w.told("download.completed").await.is_empty() }).await;
        w.pass(27 * DAY - 1);
        w.jobs().await;
        assert!(!kinds_of(&w, &w.stranger).await.contains(&"deposit.expiring".to_owned()));
        w.pass(1);
        w.jobs().await;
        w.pass(DAY);
        w.jobs().await;
        assert_eq!(kinds_of(&w, &w.stranger).await, ["deposit.expiring", "deposit.available"]);
        assert_eq!(kinds_of(&w, &w.recipient).await, ["deposit.available"]);
        w.pass(2 * DAY);
        w.jobs().await;
        w.jobs().await;
        let told = w.told("deposit.unread").await;
        assert_eq!((told.len(), &told[0].detail), (1, &json!({ "unread": [w.stranger.id] })));
        assert_eq!(kinds_of(&w, &w.sender).await, ["deposit.unread", "deposit.downloaded"]);
        assert_eq!(kinds_of(&w, &w.stranger).await.len(), 2);
    }

    /// A short retention is not reminded of at its beginning; what everyone has read gives no report.
    async fn short_retention_and_nothing_to_report(dialect) {
        let w = World::on(dialect).await;
        let body = json!({ "recipients": [w.recipient.address], "retention_days": 2 });
        let made = w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(201).json();
        let deposit: DepositId = made["id"].as_str().unwrap().parse().unwrap();
        let document = w.upload(deposit, "a", b"abc").await;
        w.send(deposit).await.expect(202);
        w.jobs().await;
        w.pass(DAY - 1);
        w.jobs().await;
        assert_eq!(kinds_of(&w, &w.recipient).await, ["deposit.available"]);
        w.pass(1);
        w.jobs().await;
        assert_eq!(kinds_of(&w, &w.recipient).await, ["deposit.expiring", "deposit.available"]);
        for n in 1..=2 {
            w.download(&w.recipient, document).await.expect(200);
            until("the download is written down", || async { w.told("download.completed").await.len() == n }).await;
        }
        w.pass(DAY);
        w.jobs().await;
        assert_eq!(w.told("deposit.unread").await.len(), 0);
        // Told of the first download only.
        w.download(&w.sender, document).await;
        w.jobs().await;
        assert_eq!(kinds_of(&w, &w.sender).await, ["deposit.downloaded"]);
    }

    /// A service has read when one of its members has.
    async fn a_member_reads_for_the_service(dialect) {
        let w = World::on(dialect).await;
        let service = uuid::Uuid::now_v7();
        let sql = "INSERT INTO boxes (id, kind, organisation, address, name, function, speciality, folded, created)
                   VALUES ($1, 'service', $2, 'greffe@cour.example', 'Greffe', '', '', 'greffe', $3)";
        w.change(sql, args![service, w.stranger.organisation.0, w.now()]).await;
        let sql = "INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)";
        w.change(sql, args![service, w.stranger.id.0, w.now()]).await;
        let (deposit, documents) = w.available(&[("a.pdf", b"abc")]).await;
        add(&w, &w.sender, deposit, "greffe@cour.example").await.expect(201);
        w.download(&w.stranger, documents[0]).await.expect(200);
        until("the download is written down", || async { !w.told("download.completed").await.is_empty() }).await;
        let states = recipients(&w, deposit).await;
        let of = |id: String| states.iter().find(|s| s["box"] == json!(id)).unwrap().clone();
        assert!(of(service.to_string())["read"].is_string());
        assert!(of(w.recipient.id.to_string())["read"].is_null());
    }

    async fn retention_within_the_organisations_bounds(dialect) {
        let w = World::on(dialect).await;
        let draft = |days: Option<u32>| {
            let mut body = json!({ "recipients": [w.recipient.address] });
            if let Some(days) = days {
                body["retention_days"] = days.into();
            }
            w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body))
        };
        draft(Some(31)).await.problem(422, "invalid");
        let office = w.sender.organisation;
        admin::set_retention(&w.hub, office, Some(2), Some(90), Some(45)).await.unwrap();
        assert_eq!(draft(None).await.expect(201).json()["retention_days"], 45);
        assert_eq!(draft(Some(90)).await.expect(201).json()["retention_days"], 90);
        draft(Some(91)).await.problem(422, "invalid");
        draft(Some(1)).await.problem(422, "invalid");
        let limits = w.call(ask("GET", "/api/v1/me").by(&w.sender)).await.expect(200).json()["limits"].clone();
        assert_eq!((&limits["retention_days_min"], &limits["retention_days_max"]), (&json!(2), &json!(90)));
        for (least, most, usual) in [(Some(0), None, None), (Some(9), Some(8), None), (None, Some(8), Some(9)), (None, Some(9999), None)] {
            admin::set_retention(&w.hub, office, least, most, usual).await.unwrap_err();
        }
        // One bound alone; others keep the operator's.
        admin::set_retention(&w.hub, office, Some(40), None, None).await.unwrap();
        assert_eq!(draft(None).await.expect(201).json()["retention_days"], 40);
        admin::set_retention(&w.hub, office, None, None, None).await.unwrap();
        assert_eq!(draft(None).await.expect(201).json()["retention_days"], 30);
        let unknown = admin::set_retention(&w.hub, pli_api::OrganisationId::new(), None, None, None).await;
        assert_eq!(unknown.unwrap_err().code(), pli_api::ProblemCode::NotFound);
    }
}
