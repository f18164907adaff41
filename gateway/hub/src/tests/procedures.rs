//! Procedures: opening, editing, members, pieces, exhibits, search, and the plans of its queries.

use crate::procedures::{ProcedureFilter, page_of_box};
use crate::roles;
use crate::testing::*;
use pli_api::{DocumentId, MemberRole, ProcedureState, ReferenceKind, Role};
use pli_storage::{Dialect, Sql, args};
use serde_json::{Value, json};

/// The world with a magistrate, who is the sender of deposits.
async fn world(dialect: Dialect) -> World {
    let w = World::on(dialect).await;
    grant(&w, &w.sender, Role::Magistrate).await;
    w
}

async fn grant(w: &World, who: &Who, role: Role) {
    let mut tx = w.hub.db().write().await.unwrap();
    roles::grant(&mut tx, w.now(), who.id, who.organisation, role).await.unwrap();
    tx.commit().await.unwrap();
}

async fn colleague(w: &World, name: &str) -> Who {
    account(&w.hub, w.sender.organisation, &format!("{name}@cabinet.example"), name).await
}

fn post(path: impl AsRef<str>, body: Value) -> Ask {
    ask("POST", path).json(&body)
}

/// A change of what the caller has just read.
fn edit(path: impl AsRef<str>, version: &Value, body: Value) -> Ask {
    ask("PATCH", path).header("if-match", format!("\"{version}\"")).json(&body)
}

async fn open(w: &World, body: Value) -> Value {
    w.call(post("/api/v1/procedures", body).by(&w.sender)).await.expect(201).json()
}

/// A procedure of the sender's.
async fn procedure(w: &World) -> String {
    path(&open(w, json!({ "title": "Affaire des essais" })).await)
}

fn path(procedure: &Value) -> String {
    format!("/api/v1/procedures/{}", procedure["id"].as_str().unwrap())
}

async fn admit(w: &World, procedure: &str, who: &Who, role: &str, restricted: bool) -> Value {
    let body = json!({ "address": who.address, "role": role, "restricted": restricted });
    w.call(post(format!("{procedure}/members"), body).by(&w.sender)).await.expect(201).json()
}

async fn file(w: &World, procedure: &str, who: &Who, document: DocumentId, body: Value) -> Reply {
    let mut body = body;
    body["document"] = json!(document);
    w.call(post(format!("{procedure}/pieces"), body).by(who)).await
}

async fn listed(w: &World, who: &Who, path: impl AsRef<str>) -> Vec<Value> {
    w.call(ask("GET", path).by(who)).await.expect(200).json()["items"].as_array().unwrap().clone()
}

fn each<'a>(items: &'a [Value], field: &str) -> Vec<&'a str> {
    items.iter().map(|item| item[field].as_str().unwrap()).collect()
}

on_both! {
    async fn opened_by_who_may(dialect) {
        let w = World::on(dialect).await;
        let body = json!({ "title": "  Affaire d'Été, « X » contre <b>Y</b> ", "references": [
            { "kind": "parquet", "value": " 23 082 000 064" }, { "kind": "idj", "value": "2301062620Y" },
            { "kind": "other", "value": "dossier n° 7/Z" },
        ] });
        let new = || post("/api/v1/procedures", body.clone());
        for who in [&w.sender, &w.recipient, &w.stranger] {
            w.call(new().by(who)).await.problem(403, "forbidden");
        }
        for role in [Role::Manager, Role::Auditor, Role::Agent] {
            grant(&w, &w.sender, role).await;
            w.call(new().by(&w.sender)).await.problem(403, "forbidden");
        }
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM procedures", args![]).await, 0);
        grant(&w, &w.sender, Role::Registrar).await;
        let reply = w.call(new().by(&w.sender)).await.expect(201);
        let made = reply.json();
        assert_eq!(reply.header("location"), Some(path(&made).as_str()));
        assert_eq!(reply.header("etag"), Some("\"1\""));
        assert_eq!(made["title"], "Affaire d'Été, « X » contre <b>Y</b>");
        // As typed, spaces and all; a wrong letter is said and kept.
        assert_eq!(made["references"], json!([
            { "kind": "parquet", "value": "23 082 000 064" }, { "kind": "idj", "value": "2301062620Y" },
            { "kind": "other", "value": "dossier n° 7/Z" },
        ]));
        assert_eq!(made["warnings"].as_array().unwrap().len(), 1);
        assert_eq!(made["warnings"][0]["field"], "references[1].value");
        assert_eq!((&made["state"], &made["role"], &made["restricted"]), (&json!("open"), &json!("manager"), &json!(true)));
        assert_eq!(made["opened_by"], json!({ "address": w.sender.address, "name": "Greffe" }));
        assert_eq!(made["organisation"], w.sender.organisation.to_string());
        assert_eq!(w.call(ask("GET", path(&made)).by(&w.sender)).await.expect(200).json(), made);
        // The journal holds no title and no reference.
        let told = w.told("procedure.opened").await;
        assert_eq!((told.len(), told[0].actor), (1, Some(w.sender.id)));
        assert_eq!(told[0].detail, json!({ "organisation": w.sender.organisation }));
        let sql = "SELECT COUNT(*) AS n FROM events WHERE procedure IS NOT NULL";
        assert_eq!(w.number(sql, args![]).await, 1);
        // Another one of the same reference: said to who sees both.
        let again = open(&w, json!({ "title": "Bis", "references": [{ "kind": "parquet", "value": "23082000064" }] })).await;
        assert_eq!(again["warnings"], json!([{ "field": "references[0].value", "message": "Un autre dossier porte déjà cette référence." }]));
        let other = account(&w.hub, w.sender.organisation, "juge@cabinet.example", "Juge").await;
        grant(&w, &other, Role::Magistrate).await;
        let body = json!({ "title": "Ter", "references": [{ "kind": "parquet", "value": "23082000064" }] });
        let third = w.call(post("/api/v1/procedures", body).by(&other)).await.expect(201).json();
        assert_eq!(third["warnings"], json!([]), "what they may not see does not exist");
    }

    async fn what_is_not_taken(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        let reference = |value: &str| json!({ "title": "x", "references": [{ "kind": "other", "value": value }] });
        let many: Vec<_> = (0..21).map(|n| json!({ "kind": "other", "value": format!("r{n}") })).collect();
        for body in [
            json!({ "title": "" }), json!({ "title": "x".repeat(301) }), json!({ "title": "a\nb" }), json!({ "title": "a\u{202e}b" }),
            json!({ "title": "a\0b" }), reference(""), reference("—"), reference("a\tb"), reference(&"x".repeat(81)),
            json!({ "title": "x", "references": many }),
            json!({ "title": "x", "references": [{ "kind": "rg", "value": "23/1" }, { "kind": "rg", "value": "23-1" }] }),
        ] {
            w.call(post("/api/v1/procedures", body.clone()).by(&w.sender)).await.problem(422, "invalid");
            let reply = w.call(edit(&one, &json!(1), body).by(&w.sender)).await.problem(422, "invalid");
            assert!(reply.json()["detail"].as_str().unwrap().contains(char::is_whitespace), "a sentence");
        }
        for body in [json!({}), json!({ "title": "x", "autre": 1 }), json!({ "title": "x", "references": [{ "kind": "x", "value": "1" }] })] {
            assert!(w.call(post("/api/v1/procedures", body).by(&w.sender)).await.status.is_client_error());
        }
        for body in [json!({ "number": "", "label": "x", "place": "y" }), json!({ "number": "…", "label": "x", "place": "y" }),
            json!({ "number": "1", "label": "", "place": "y" }), json!({ "number": "1", "label": "x", "place": "y".repeat(301) }),
            json!({ "number": "1", "label": "x", "place": "y", "at": w.now().plus_seconds(1) })] {
            w.call(post(format!("{one}/exhibits"), body).by(&w.sender)).await.problem(422, "invalid");
        }
        for body in [json!({ "address": "pas une adresse", "role": "reader" }), json!({ "address": w.recipient.address, "role": "reader", "ends": w.now() }),
            json!({ "address": w.recipient.address, "role": "depositor", "restricted": true })] {
            w.call(post(format!("{one}/members"), body).by(&w.sender)).await.problem(422, "invalid");
        }
        let unknown = json!({ "address": "inconnue@nulle.example", "role": "reader" });
        w.call(post(format!("{one}/members"), unknown).by(&w.sender)).await.problem(422, "unknown-recipient");
        for query in ["limit=x", "role=chef", "autre=1", "after=7"] {
            assert_eq!(w.call(ask("GET", format!("/api/v1/procedures?{query}")).by(&w.sender)).await.status, 400, "{query}");
        }
        assert_eq!(w.call(ask("GET", &one).by(&w.sender)).await.expect(200).json()["version"], 1, "nothing was done");
        assert_eq!(w.number("SELECT COUNT(*) AS n FROM procedures", args![]).await, 1);
    }

    async fn two_people_editing_at_once(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        let other = colleague(&w, "juge").await;
        admit(&w, &one, &other, "manager", true).await;
        w.call(ask("PATCH", &one).json(&json!({ "title": "Sans version" })).by(&w.sender)).await.problem(428, "precondition-required");
        for round in 1..6 {
            let both = [(&w.sender, "Un"), (&other, "Deux")].map(|(who, title)| {
                let (hub, ask) = (w.hub.clone(), edit(&one, &json!(round), json!({ "title": title })).by(who));
                tokio::spawn(async move { call(&hub, ask).await })
            });
            let mut statuses = Vec::new();
            for one in both {
                statuses.push(one.await.unwrap().status.as_u16());
            }
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 412]);
        }
        assert_eq!(w.told("procedure.changed").await.len(), 5);
        let reply = w.call(edit(&one, &json!(1), json!({ "title": "Trop tard" })).by(&w.sender)).await.problem(412, "precondition-failed");
        assert!(reply.json()["detail"].as_str().unwrap().contains("relisez"));
        // References are replaced as a whole, and a change of nothing changes nothing.
        let references = json!({ "references": [{ "kind": "instruction", "value": "JI CABJI2 23000009" }] });
        let changed = w.call(edit(&one, &json!(6), references.clone()).by(&w.sender)).await.expect(200);
        assert_eq!((changed.header("etag"), &changed.json()["references"]), (Some("\"7\""), &references["references"]));
        let same = w.call(edit(&one, &json!(7), json!({})).by(&w.sender)).await.expect(200);
        assert_eq!(same.header("etag"), Some("\"7\""));
        assert_eq!(w.told("procedure.changed").await.last().unwrap().detail, json!({ "fields": ["references"] }));
    }

    async fn closed_and_reopened(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        let turn = async |verb: &str| w.call(ask("POST", format!("{one}/{verb}")).by(&w.sender)).await;
        turn("reopen").await.problem(409, "conflict");
        let closed = turn("close").await.expect(200).json();
        assert_eq!((&closed["state"], &closed["closed"]), (&json!("closed"), &json!(w.now().to_string())));
        turn("close").await.problem(409, "conflict");
        w.call(edit(&one, &closed["version"], json!({ "title": "x" })).by(&w.sender)).await.problem(409, "conflict");
        // Members are still the managers' affair.
        let member = admit(&w, &one, &w.recipient, "contributor", false).await;
        let opened = turn("reopen").await.expect(200).json();
        assert_eq!((&opened["state"], &opened["closed"]), (&json!("open"), &Value::Null));
        let stale = ask("POST", format!("{one}/close")).header("if-match", "\"1\"").by(&w.sender);
        w.call(stale).await.problem(412, "precondition-failed");
        assert_eq!(w.kinds("procedure.").await, ["procedure.opened", "procedure.closed", "procedure.member_added", "procedure.reopened"]);
        assert_eq!(w.told("procedure.member_added").await[0].detail["box"], member["box"]);
    }

    async fn the_life_of_a_member(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        let members = format!("{one}/members");
        let sees = async |who: &Who| w.call(ask("GET", &one).by(who)).await.status.as_u16();
        assert_eq!(sees(&w.recipient).await, 404);
        let member = admit(&w, &one, &w.recipient, "reader", false).await;
        assert_eq!((&member["name"], &member["organisation"], &member["kind"]), (&json!("Expert"), &json!("Experts"), &json!("person")));
        assert_eq!(sees(&w.recipient).await, 200);
        let body = json!({ "address": w.recipient.address.to_uppercase(), "role": "manager" });
        w.call(post(&members, body).by(&w.sender)).await.problem(409, "conflict");
        let its = format!("{members}/{}", w.recipient.id);
        w.call(ask("PATCH", &its).json(&json!({ "role": "contributor" })).by(&w.sender)).await.problem(428, "precondition-required");
        // An end, which comes.
        let ends = w.now().plus_seconds(60);
        let changed = w.call(edit(&its, &json!(1), json!({ "role": "contributor", "ends": ends })).by(&w.sender)).await.expect(200).json();
        assert_eq!((&changed["role"], &changed["ends"], &changed["version"]), (&json!("contributor"), &json!(ends), &json!(2)));
        w.call(edit(&its, &json!(1), json!({ "role": "reader" })).by(&w.sender)).await.problem(412, "precondition-failed");
        let kept = w.call(edit(&its, &json!(2), json!({ "restricted": true })).by(&w.sender)).await.expect(200).json();
        assert_eq!((&kept["ends"], &kept["restricted"]), (&json!(ends), &json!(true)), "what was not said stays");
        w.call(edit(&its, &json!(3), json!({ "role": "depositor" })).by(&w.sender)).await.problem(422, "invalid");
        w.pass(59);
        assert_eq!(sees(&w.recipient).await, 200);
        w.pass(1);
        assert_eq!(sees(&w.recipient).await, 404);
        assert!(listed(&w, &w.recipient, "/api/v1/procedures").await.is_empty());
        assert_eq!(each(&listed(&w, &w.sender, &members).await, "name"), ["Greffe"]);
        w.call(edit(&its, &json!(3), json!({ "ends": null })).by(&w.sender)).await.problem(404, "not-found");
        // Made anew: nothing of what it was comes back.
        let again = admit(&w, &one, &w.recipient, "reader", false).await;
        assert_eq!((&again["restricted"], &again["ends"], &again["version"]), (&json!(false), &Value::Null, &json!(4)));
        assert_eq!(sees(&w.recipient).await, 200);
        w.call(ask("DELETE", &its).header("if-match", "\"3\"").by(&w.sender)).await.problem(412, "precondition-failed");
        w.call(ask("DELETE", &its).by(&w.sender)).await.expect(204);
        w.call(ask("DELETE", &its).by(&w.sender)).await.problem(404, "not-found");
        assert_eq!(sees(&w.recipient).await, 404);
        let kinds = w.kinds("procedure.member").await;
        assert_eq!(kinds, ["procedure.member_added", "procedure.member_changed", "procedure.member_changed", "procedure.member_added", "procedure.member_removed"]);
        let told = w.told("procedure.member_removed").await;
        assert_eq!(told[0].detail, json!({ "box": w.recipient.id, "role": "reader", "restricted": false, "ends": null }));
    }

    async fn a_manager_of_the_opener_stays(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        let its = |who: &Who| format!("{one}/members/{}", who.id);
        // A manager of another organisation, one who will end, one who does not see everything: none of them is enough.
        admit(&w, &one, &w.recipient, "manager", true).await;
        let passing = colleague(&w, "remplacante").await;
        let body = json!({ "address": passing.address, "role": "manager", "restricted": true, "ends": w.now().plus_seconds(DAY) });
        w.call(post(format!("{one}/members"), body).by(&w.sender)).await.expect(201);
        let partial = colleague(&w, "greffiere").await;
        admit(&w, &one, &partial, "manager", false).await;
        for change in [json!({ "role": "contributor" }), json!({ "restricted": false }), json!({ "ends": w.now().plus_seconds(DAY) })] {
            w.call(edit(its(&w.sender), &json!(1), change).by(&w.sender)).await.problem(409, "conflict");
        }
        w.call(ask("DELETE", its(&w.sender)).by(&w.recipient)).await.problem(409, "conflict");
        // Who does not see restricted pieces cannot let anybody see them, themselves neither.
        w.call(edit(its(&partial), &json!(1), json!({ "restricted": true })).by(&partial)).await.problem(403, "forbidden");
        let body = json!({ "address": w.stranger.address, "role": "reader", "restricted": true });
        w.call(post(format!("{one}/members"), body).by(&partial)).await.problem(403, "forbidden");
        // A service without members is nobody.
        let service = service(&w, &[]).await;
        admit(&w, &one, &service, "manager", true).await;
        w.call(ask("DELETE", its(&w.sender)).by(&w.sender)).await.problem(409, "conflict");
        w.call(edit(its(&partial), &json!(1), json!({ "restricted": true })).by(&w.sender)).await.expect(200);
        w.call(ask("DELETE", its(&w.sender)).by(&w.sender)).await.expect(204);
        w.call(ask("GET", &one).by(&w.sender)).await.problem(404, "not-found");
    }

    /// Two managers who remove each other at the same moment: one of them stays.
    async fn the_last_two_managers_at_once(dialect) {
        let w = world(dialect).await;
        let other = colleague(&w, "juge").await;
        for _ in 0..5 {
            let one = procedure(&w).await;
            admit(&w, &one, &other, "manager", true).await;
            let both = [(&w.sender, &other), (&other, &w.sender)].map(|(by, whom)| {
                let (hub, ask) = (w.hub.clone(), ask("DELETE", format!("{one}/members/{}", whom.id)).by(by));
                tokio::spawn(async move { call(&hub, ask).await })
            });
            let mut statuses = Vec::new();
            for one in both {
                statuses.push(one.await.unwrap().status.as_u16());
            }
            statuses.sort_unstable();
            assert_eq!(statuses, [204, 404], "who was removed removes nobody");
        }
    }

    async fn a_service_is_a_member(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        let (inside, outside) = (colleague(&w, "dedans").await, colleague(&w, "dehors").await);
        let greffe = service(&w, &[&inside]).await;
        admit(&w, &one, &greffe, "depositor", false).await;
        let (_, documents) = w.available(&[("a", b"abc"), ("b", b"b")]).await;
        w.change("INSERT INTO recipients (deposit, box, added) SELECT deposit, $2, $3 FROM documents WHERE id = $1",
            args![documents[0].0, greffe.id.0, w.now()]).await;
        // In the name of the service: each of its members sees what it filed, also one who comes later.
        let piece = file(&w, &one, &inside, documents[0], json!({ "title": "Plainte" })).await.expect(201).json();
        assert_eq!(piece["filed_by"]["name"], "Greffe commun");
        assert_eq!(w.told("piece.filed").await[0].actor, Some(inside.id));
        w.call(ask("GET", &one).by(&outside)).await.problem(404, "not-found");
        w.change("INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)", args![greffe.id.0, outside.id.0, w.now()]).await;
        assert_eq!(listed(&w, &outside, format!("{one}/pieces")).await.len(), 1);
        // Their own membership beside it: the rights of both.
        admit(&w, &one, &inside, "reader", false).await;
        file(&w, &one, &w.sender, documents[1], json!({ "title": "Autre" })).await.expect(201);
        let seen = w.call(ask("GET", &one).by(&inside)).await.expect(200).json();
        assert_eq!(seen["role"], "reader");
        assert_eq!(listed(&w, &inside, format!("{one}/pieces")).await.len(), 2);
        assert_eq!(listed(&w, &outside, format!("{one}/pieces")).await.len(), 1);
        assert_eq!(listed(&w, &inside, "/api/v1/procedures").await.len(), 1, "once, whatever the boxes");
        w.change("DELETE FROM service_members WHERE account = $1", args![outside.id.0]).await;
        w.call(ask("GET", &one).by(&outside)).await.problem(404, "not-found");
    }

    async fn pieces_are_filed_changed_and_withdrawn(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        admit(&w, &one, &w.recipient, "contributor", false).await;
        let (deposit, documents) = w.available(&[("pv/audition.pdf", b"abc"), ("b.pdf", b"b"), ("c.pdf", b"c")]).await;
        let reply = file(&w, &one, &w.recipient, documents[0], json!({ "title": "Audition", "cote": "D 27" })).await.expect(201);
        let piece = reply.json();
        let its = format!("{one}/pieces/{}", piece["id"].as_str().unwrap());
        assert_eq!((reply.header("location"), reply.header("etag")), (Some(its.as_str()), Some("\"1\"")));
        assert_eq!((&piece["state"], &piece["cote"], &piece["restricted"]), (&json!("filed"), &json!("D 27"), &json!(false)));
        assert_eq!(piece["document"]["sha256"], hex::encode(sha256(b"abc")));
        assert_eq!(piece["expires"], w.now().plus_seconds(30 * DAY).to_string());
        // The sender of the deposit has it in their trail.
        let told = w.told("piece.filed").await;
        assert_eq!((told[0].actor, told[0].deposit, told[0].document), (Some(w.recipient.id), Some(deposit), Some(documents[0])));
        assert_eq!(told[0].detail["sha256"], piece["document"]["sha256"]);
        // Once, and a cote once, however it is typed.
        file(&w, &one, &w.sender, documents[0], json!({ "title": "Encore" })).await.problem(409, "conflict");
        file(&w, &one, &w.sender, documents[1], json!({ "title": "B", "cote": "d27" })).await.problem(409, "conflict");
        let second = file(&w, &one, &w.sender, documents[1], json!({ "title": "B", "restricted": true })).await.expect(201).json();
        let second = format!("{one}/pieces/{}", second["id"].as_str().unwrap());
        w.call(edit(&second, &json!(1), json!({ "cote": "D-27" })).by(&w.sender)).await.problem(409, "conflict");
        w.call(edit(&second, &json!(1), json!({ "cote": "D28", "title": "Écoute" })).by(&w.sender)).await.expect(200);
        w.call(edit(&second, &json!(1), json!({ "cote": "D29" })).by(&w.sender)).await.problem(412, "precondition-failed");
        w.call(ask("PATCH", &second).json(&json!({ "cote": "D29" })).by(&w.sender)).await.problem(428, "precondition-required");
        assert_eq!(each(&listed(&w, &w.sender, format!("{one}/pieces")).await, "cote"), ["D 27", "D28"]);
        assert_eq!(each(&listed(&w, &w.sender, format!("{one}/pieces?cote=d.28")).await, "title"), ["Écoute"]);
        assert_eq!(each(&listed(&w, &w.recipient, format!("{one}/pieces")).await, "cote"), ["D 27"], "not the restricted one");
        // The contributor may not restrict; the manager may, and then the one who filed it sees it no more.
        w.call(edit(&its, &json!(1), json!({ "restricted": true })).by(&w.recipient)).await.problem(403, "forbidden");
        w.call(edit(&its, &json!(1), json!({ "restricted": true })).by(&w.sender)).await.expect(200);
        w.call(ask("GET", &its).by(&w.recipient)).await.problem(404, "not-found");
        w.call(edit(&its, &json!(2), json!({ "restricted": false })).by(&w.sender)).await.expect(200);
        // Withdrawn: it stays, with its motive, and gives nothing any more.
        w.call(post(format!("{its}/withdraw"), json!({ "motive": " " })).by(&w.sender)).await.problem(422, "invalid");
        let gone = w.call(post(format!("{its}/withdraw"), json!({ "motive": "Acte annulé" })).by(&w.recipient)).await.expect(200).json();
        assert_eq!((&gone["state"], &gone["motive"], &gone["withdrawn_by"]["name"]), (&json!("withdrawn"), &json!("Acte annulé"), &json!("Expert")));
        w.call(post(format!("{its}/withdraw"), json!({ "motive": "Encore" })).by(&w.sender)).await.problem(409, "conflict");
        w.call(edit(&its, &gone["version"], json!({ "title": "x" })).by(&w.sender)).await.problem(409, "conflict");
        w.call(ask("DELETE", &its).by(&w.sender)).await.problem(405, "method-not-allowed");
        assert_eq!(each(&listed(&w, &w.recipient, format!("{one}/pieces")).await, "state"), ["withdrawn"]);
        let told = w.told("piece.withdrawn").await;
        assert_eq!((told[0].actor, told[0].detail.as_object().unwrap().len()), (Some(w.recipient.id), 1), "no motive in the journal");
        // Its cote and its document may be filed anew.
        file(&w, &one, &w.sender, documents[0], json!({ "title": "Audition", "cote": "D27" })).await.expect(201);
        let page = w.call(ask("GET", format!("{one}/pieces?limit=2")).by(&w.sender)).await.expect(200).json();
        let next = listed(&w, &w.sender, format!("{one}/pieces?limit=2&after={}", page["next"].as_str().unwrap())).await;
        assert_eq!((page["items"].as_array().unwrap().len(), each(&next, "state")), (2, vec!["filed"]));
    }

    async fn only_what_the_filer_may_read_and_is_available(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        admit(&w, &one, &w.recipient, "contributor", false).await;
        admit(&w, &one, &w.stranger, "contributor", false).await;
        let draft = w.draft().await;
        let document = w.upload(draft, "a", b"abc").await;
        let with = json!({ "title": "A" });
        w.jobs().await;
        file(&w, &one, &w.sender, document, with.clone()).await.problem(409, "not-ready");
        file(&w, &one, &w.recipient, document, with.clone()).await.problem(404, "not-found");
        w.send(draft).await.expect(202);
        file(&w, &one, &w.stranger, document, with.clone()).await.problem(404, "not-found");
        file(&w, &one, &w.recipient, DocumentId::new(), with.clone()).await.problem(404, "not-found");
        file(&w, &one, &w.recipient, document, with.clone()).await.expect(201);
        // To read it as a piece is not to have it: it is filed elsewhere by who was sent it.
        assert_eq!(w.download(&w.stranger, document).await.expect(200).body, &b"abc"[..]);
        let two = procedure(&w).await;
        admit(&w, &two, &w.stranger, "contributor", false).await;
        file(&w, &two, &w.stranger, document, with.clone()).await.problem(404, "not-found");
        // The organisation takes away the right to write, and with it everything but reading.
        w.change("DELETE FROM roles WHERE account = $1", args![w.recipient.id.0]).await;
        let again = file(&w, &one, &w.recipient, document, with.clone()).await;
        again.problem(403, "forbidden");
        w.call(ask("GET", &one).by(&w.recipient)).await.expect(200);
        w.pass(30 * DAY);
        file(&w, &two, &w.sender, document, with.clone()).await.problem(409, "not-ready");
        w.jobs().await;
        file(&w, &two, &w.sender, document, with).await.problem(410, "gone");
    }

    /// The retention that the sender chose is the document's, whatever it was filed in: no copy outlives it.
    async fn a_piece_ends_with_its_deposit(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        admit(&w, &one, &w.stranger, "reader", false).await;
        let (_, documents) = w.available(&[("a.pdf", b"abc")]).await;
        file(&w, &one, &w.sender, documents[0], json!({ "title": "A", "cote": "D1" })).await.expect(201);
        let state = async || each(&listed(&w, &w.stranger, format!("{one}/pieces")).await, "state")[0].to_owned();
        w.pass(30 * DAY - 1);
        assert_eq!(state().await, "filed");
        w.download(&w.stranger, documents[0]).await.expect(200);
        w.pass(1);
        assert_eq!(state().await, "expired", "before anything was swept");
        w.download(&w.stranger, documents[0]).await.problem(404, "not-found");
        w.jobs().await;
        assert_eq!(state().await, "erased");
        w.download(&w.stranger, documents[0]).await.problem(404, "not-found");
        w.store_is_empty().await;
        // What the register keeps: the cote, the title, the digest.
        let piece = listed(&w, &w.stranger, format!("{one}/pieces")).await.remove(0);
        assert_eq!((&piece["cote"], &piece["document"]["state"]), (&json!("D1"), &json!("erased")));
        assert_eq!(piece["document"]["sha256"], hex::encode(sha256(b"abc")));
        let its = format!("{one}/pieces/{}/withdraw", piece["id"].as_str().unwrap());
        let gone = w.call(post(its, json!({ "motive": "Annulée" })).by(&w.sender)).await.expect(200).json();
        assert_eq!((&gone["state"], &gone["document"]["state"]), (&json!("withdrawn"), &json!("erased")));
    }

    async fn a_depositor_adds_and_lists_nothing_else(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        admit(&w, &one, &w.recipient, "depositor", false).await;
        admit(&w, &one, &w.stranger, "depositor", false).await;
        let (_, documents) = w.available(&[("a", b"a"), ("b", b"b")]).await;
        file(&w, &one, &w.sender, documents[1], json!({ "title": "Du cabinet" })).await.expect(201);
        file(&w, &one, &w.recipient, documents[0], json!({ "title": "A", "cote": "D1" })).await.problem(403, "forbidden");
        file(&w, &one, &w.recipient, documents[0], json!({ "title": "A", "restricted": true })).await.problem(403, "forbidden");
        let mine = file(&w, &one, &w.recipient, documents[0], json!({ "title": "Du déposant" })).await.expect(201).json();
        assert_eq!(each(&listed(&w, &w.recipient, format!("{one}/pieces")).await, "title"), ["Du déposant"]);
        assert_eq!(listed(&w, &w.stranger, format!("{one}/pieces")).await.len(), 0, "another depositor's is not theirs");
        for hidden in ["members", "exhibits"] {
            w.call(ask("GET", format!("{one}/{hidden}")).by(&w.recipient)).await.problem(403, "forbidden");
        }
        // They know the name of what they deposit into, to choose the right one.
        assert_eq!(each(&listed(&w, &w.recipient, "/api/v1/procedures?role=depositor").await, "title"), ["Affaire des essais"]);
        let its = format!("{one}/pieces/{}", mine["id"].as_str().unwrap());
        w.call(edit(&its, &json!(1), json!({ "title": "x" })).by(&w.recipient)).await.problem(403, "forbidden");
        w.call(post(format!("{its}/withdraw"), json!({ "motive": "x" })).by(&w.recipient)).await.problem(403, "forbidden");
    }

    async fn exhibits_move_as_the_law_lets_them(dialect) {
        let w = world(dialect).await;
        let one = procedure(&w).await;
        admit(&w, &one, &w.recipient, "contributor", false).await;
        let exhibits = format!("{one}/exhibits");
        let seized = w.now().plus_seconds(-3600);
        let body = json!({ "number": "Scellé n° 1/A", "label": "Couteau", "place": "Greffe, armoire 3", "at": seized });
        let made = w.call(post(&exhibits, body).by(&w.sender)).await.expect(201).json();
        let its = format!("{exhibits}/{}", made["id"].as_str().unwrap());
        let rival = json!({ "number": "SCELLÉ N°1 A", "label": "Autre", "place": "x" });
        w.call(post(&exhibits, rival.clone()).by(&w.recipient)).await.problem(409, "conflict");
        let elsewhere = procedure(&w).await;
        w.call(post(format!("{elsewhere}/exhibits"), rival).by(&w.sender)).await.expect(201);
        let moves = async |who: &Who, body: Value| w.call(post(format!("{its}/movements"), body).by(who)).await;
        moves(&w.sender, json!({ "state": "placed", "place": "y" })).await.problem(409, "conflict");
        moves(&w.recipient, json!({ "state": "returned", "place": "y" })).await.problem(403, "forbidden");
        moves(&w.sender, json!({ "state": "at_expert", "place": "y", "at": seized.plus_seconds(-1) })).await.problem(422, "invalid");
        moves(&w.sender, json!({ "state": "at_expert", "place": "y", "at": w.now().plus_seconds(1) })).await.problem(422, "invalid");
        w.pass(60);
        let sent = moves(&w.sender, json!({ "state": "at_expert", "place": "Laboratoire", "note": "Remis en main propre" })).await;
        assert_eq!(sent.expect(201).json()["place"], "Laboratoire");
        moves(&w.sender, json!({ "state": "returned", "place": "y" })).await.problem(409, "conflict");
        let stale = post(format!("{its}/movements"), json!({ "state": "placed", "place": "y" })).header("if-match", "\"1\"");
        w.call(stale.by(&w.sender)).await.problem(412, "precondition-failed");
        moves(&w.recipient, json!({ "state": "placed", "place": "Greffe" })).await.expect(201);
        w.call(edit(&its, &json!(3), json!({ "label": "Couteau de cuisine" })).by(&w.recipient)).await.expect(200);
        // What becomes of it may be said when the procedure is closed.
        w.call(ask("POST", format!("{one}/close")).by(&w.sender)).await.expect(200);
        moves(&w.sender, json!({ "state": "at_expert", "place": "y" })).await.problem(409, "conflict");
        let end = moves(&w.sender, json!({ "state": "returned", "place": "À son propriétaire" })).await.expect(201).json();
        for state in ["placed", "at_expert", "returned", "destroyed"] {
            assert_eq!(moves(&w.sender, json!({ "state": state, "place": "y" })).await.status, 409);
        }
        let shown = w.call(ask("GET", &its).by(&w.recipient)).await.expect(200).json();
        assert_eq!(shown, end);
        assert_eq!((&shown["label"], &shown["version"], &shown["number"]), (&json!("Couteau de cuisine"), &json!(5), &json!("Scellé n° 1/A")));
        let movements = shown["movements"].as_array().unwrap();
        assert_eq!(each(movements, "state"), ["placed", "at_expert", "placed", "returned"]);
        assert_eq!(movements[0]["at"], seized.to_string());
        assert_eq!(movements[1]["note"], "Remis en main propre");
        assert_eq!((&movements[2]["by"]["name"], &movements[2]["told"]), (&json!("Expert"), &json!(w.now().to_string())));
        let kinds = w.kinds("exhibit.").await;
        assert_eq!(kinds, ["exhibit.placed", "exhibit.placed", "exhibit.entrusted", "exhibit.placed", "exhibit.changed", "exhibit.returned"]);
        assert_eq!(w.told("exhibit.entrusted").await[0].detail.as_object().unwrap().keys().collect::<Vec<_>>(), ["at", "exhibit"]);
        assert_eq!(listed(&w, &w.recipient, format!("{exhibits}?state=returned&number=scelle+n+1+a")).await.len(), 1);
        assert_eq!(listed(&w, &w.recipient, format!("{exhibits}?state=placed")).await.len(), 0);
    }

    async fn found_by_reference_title_and_role(dialect) {
        let w = world(dialect).await;
        let new = async |title: &str, kind: &str, value: &str| {
            open(&w, json!({ "title": title, "references": [{ "kind": kind, "value": value }] })).await
        };
        new("Escroquerie à l'Œuvre", "parquet", "23 082 000 064").await;
        new("Vol de scellés", "other", "Y 19-19.463").await;
        let third = new("Été 100%_meurtrier", "idj", "2308200006X").await;
        admit(&w, &path(&third), &w.recipient, "contributor", false).await;
        w.call(ask("POST", format!("{}/close", path(&third))).by(&w.sender)).await.expect(200);
        let found = async |who: &Who, query: &str| {
            let items = listed(&w, who, format!("/api/v1/procedures?{query}")).await;
            items.iter().map(|item| item["title"].as_str().unwrap().chars().take(3).collect::<String>()).collect::<Vec<_>>()
        };
        for (query, expected) in [
            ("", vec!["Été", "Vol", "Esc"]),
            ("reference=2308200006", vec!["Été", "Esc"]),
            ("reference=23%20082-000.064", vec!["Esc"]),
            ("reference=y1919", vec!["Vol"]),
            ("reference=2308200006&kind=idj", vec!["Été"]),
            ("kind=other", vec!["Vol"]),
            ("reference=19463", vec![]),
            ("title=OEUVRE", vec!["Esc"]),
            ("title=ete+100", vec!["Été"]),
            ("title=%25", vec!["Été", "Vol", "Esc"]),
            ("title=_", vec!["Été", "Vol", "Esc"]),
            ("title=100_m", vec!["Été"]),
            ("title=e_c", vec![]),
            ("state=closed", vec!["Été"]),
            ("state=open&title=vol", vec!["Vol"]),
            ("role=manager", vec!["Été", "Vol", "Esc"]),
            ("role=reader", vec![]),
            ("limit=1", vec!["Été"]),
        ] {
            assert_eq!(found(&w.sender, query).await, expected, "{query}");
        }
        assert_eq!(found(&w.recipient, "").await, ["Été"]);
        assert_eq!(found(&w.recipient, "role=contributor&reference=23&kind=idj&title=ete&state=closed").await, ["Été"]);
        assert_eq!(found(&w.recipient, "role=manager").await, [""; 0]);
        assert_eq!(found(&w.stranger, "reference=23").await, [""; 0]);
    }

    async fn pages_over_several_boxes(dialect) {
        let w = world(dialect).await;
        let greffe = service(&w, &[&w.sender]).await;
        let mut made = Vec::new();
        for n in 0..7 {
            let one = open(&w, json!({ "title": format!("Dossier {n}") })).await;
            if n % 2 == 0 {
                admit(&w, &path(&one), &greffe, "manager", true).await;
            }
            if n % 4 == 0 {
                w.call(ask("DELETE", format!("{}/members/{}", path(&one), w.sender.id)).by(&w.sender)).await.expect(204);
            }
            made.push(one["id"].clone());
        }
        made.reverse();
        let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
        loop {
            let page = w.call(ask("GET", format!("/api/v1/procedures?{query}")).by(&w.sender)).await.expect(200).json();
            assert!(page["items"][0].get("warnings").is_none());
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
            match page["next"].as_str() {
                Some(next) => query = format!("limit=3&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen, made, "the newest first, each once");
        let members = format!("/api/v1/procedures/{}/members", made[4].as_str().unwrap());
        let first = w.call(ask("GET", format!("{members}?limit=1")).by(&w.sender)).await.expect(200).json();
        let rest = listed(&w, &w.sender, format!("{members}?limit=1&after={}", first["next"].as_str().unwrap())).await;
        assert_eq!((first["items"].as_array().unwrap().len(), rest.len()), (1, 1));
        assert_ne!(first["items"][0]["box"], rest[0]["box"]);
    }

    /// With many procedures of others in the base: every query of a list walks an index from the caller's box or the
    /// procedure, and none reads a whole table.
    async fn no_list_grows_with_the_table(dialect) {
        let w = world(dialect).await;
        procedure(&w).await;
        fill(&w, dialect).await;
        let all = ProcedureFilter {
            reference: Some("23".into()),
            kind: Some(ReferenceKind::Parquet),
            title: Some("vol".into()),
            role: Some(MemberRole::Manager),
            state: Some(ProcedureState::Open),
            ..ProcedureFilter::default()
        };
        let bare = args![w.sender.id.0, uuid::Uuid::max(), w.now(), None::<uuid::Uuid>, 51_i64];
        let mut narrowed = bare.clone();
        for word in ["manager", "open", "vol", "23", "parquet"] {
            narrowed.push(word);
        }
        let one = args![w.sender.id.0, w.sender.id.0, w.now(), uuid::Uuid::nil(), 51_i64];
        for (query, args) in [
            (page_of_box(&ProcedureFilter::default()), bare),
            (page_of_box(&all), narrowed),
            ([crate::pieces::PIECES, " AND i.id > $4 ORDER BY i.id LIMIT $5"].concat(), one),
        ] {
            let plan = plan(&w, dialect, &query, args).await;
            // PostgreSQL reads a table of one page whole, and rightly: those that were filled are meant.
            let filled = ["procedures", "procedure_members", "procedure_references", "pieces", "documents"];
            let whole = |line: &&String| match dialect {
                Dialect::Sqlite => line.starts_with("SCAN"),
                Dialect::Postgres => {
                    filled.iter().any(|table| line.contains(&format!("Seq Scan on {table} ")))
                }
            };
            assert_eq!(plan.iter().find(whole), None, "{query}\n{}", plan.join("\n"));
            assert!(plan.iter().any(|line| line.contains("procedure_members_box") || line.contains("pieces_procedure")), "{}", plan.join("\n"));
        }
    }
}

/// A service of the sender's organisation, with these members.
async fn service(w: &World, members: &[&Who]) -> Who {
    let id = pli_api::ServiceId::new();
    let new = crate::boxes::NewBox {
        id: id.into(),
        kind: pli_api::BoxKind::Service,
        organisation: w.sender.organisation,
        address: "greffe-commun@cabinet.example",
        name: "Greffe commun",
        function: "",
        speciality: "",
    };
    let mut tx = w.hub.db().write().await.unwrap();
    crate::boxes::insert(&mut tx, w.now(), &new).await.unwrap();
    for member in members {
        let sql = "INSERT INTO service_members (service, account, added) VALUES ($1, $2, $3)";
        tx.execute(sql, args![id.0, member.id.0, w.now()]).await.unwrap();
    }
    tx.commit().await.unwrap();
    Who {
        id: pli_api::AccountId(id.0),
        address: new.address.to_owned(),
        organisation: w.sender.organisation,
        token: String::new(),
    }
}

/// Twenty thousand procedures of the stranger's, each with a reference and a piece.
async fn fill(w: &World, dialect: Dialect) {
    let deposit = w.draft().await;
    let id = match dialect {
        Dialect::Sqlite => "randomblob(16)",
        Dialect::Postgres => "gen_random_uuid()",
    };
    let many = format!(
        "INSERT INTO procedures (id, organisation, title, folded, state, version, created, opened_by)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT {id}, $1, 'Vol', 'vol', 'open', 1, $2, $3 FROM n"
    );
    let mut tx = w.hub.db().write().await.unwrap();
    let values = args![w.stranger.organisation.0, w.now(), w.stranger.id.0];
    tx.execute(Sql::assembled(many), values).await.unwrap();
    tx.execute(
        "INSERT INTO procedure_members (procedure, box, role, restricted, version, added, added_by)
         SELECT id, $1, 'manager', $2, 1, created, $1 FROM procedures WHERE opened_by = $1",
        args![w.stranger.id.0, true],
    )
    .await
    .unwrap();
    tx.execute(
        "INSERT INTO procedure_references (procedure, kind, value, folded, idx)
         SELECT id, 'parquet', '23082000064', '23082000064', 0 FROM procedures",
        args![],
    )
    .await
    .unwrap();
    let many = format!(
        "INSERT INTO documents (id, deposit, name, media_type, state, created)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT {id}, $1, 'a', 'b', 'available', $2 FROM n"
    );
    tx.execute(Sql::assembled(many), args![deposit.0, w.now()]).await.unwrap();
    let many = format!(
        "INSERT INTO pieces (id, procedure, document, title, restricted, version, filed, filed_by)
         SELECT {id}, c.id, d.id, 'Pièce', $1, 1, $2, $3
         FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM procedures) c
         JOIN (SELECT id, row_number() OVER (ORDER BY id) AS n FROM documents) d ON d.n = c.n"
    );
    tx.execute(Sql::assembled(many), args![false, w.now(), w.stranger.id.0]).await.unwrap();
    tx.execute("ANALYZE", args![]).await.unwrap();
    tx.commit().await.unwrap();
}

/// The lines of a query's plan.
async fn plan(w: &World, dialect: Dialect, query: &str, args: pli_storage::Args) -> Vec<String> {
    let (explain, column) = match dialect {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN ", "detail"),
        Dialect::Postgres => ("EXPLAIN ", "QUERY PLAN"),
    };
    let rows = w.hub.db().rows(Sql::assembled([explain, query].concat()), args).await.unwrap();
    rows.iter().map(|row| row.get::<String>(column).unwrap()).collect()
}
