//! The access matrix of procedures: every route, every role, every other kind of caller, open and closed.

use crate::Access;
use crate::roles;
use crate::testing::*;
use pli_api::{BoxId, DocumentId, ExhibitId, PieceId, ProcedureId, Role};
use pli_storage::args;
use serde_json::json;
use std::collections::BTreeSet;

/// Which piece a route is asked about: one that everybody reads, a restricted one, one that the depositor filed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Plain,
    Restricted,
    Deposited,
}
use Of::{Deposited, Plain, Restricted};

/// The statuses are those in an open and in a closed procedure.
struct Row {
    method: &'static str,
    path: &'static str,
    access: Access,
    of: Of,
    manager: [u16; 2],
    contributor: [u16; 2],
    reader: [u16; 2],
    depositor: [u16; 2],
    /// Who is no member, or no longer: of whatever organisation.
    others: u16,
}

const OK: [u16; 2] = [200; 2];
const NO: [u16; 2] = [403; 2];
const NOTHING: [u16; 2] = [404; 2];
/// While it is open.
const CHANGED: [u16; 2] = [200, 409];
const MADE: [u16; 2] = [201, 409];

const fn row(method: &'static str, path: &'static str, of: Of, by: [[u16; 2]; 4]) -> Row {
    let [manager, contributor, reader, depositor] = by;
    Row { method, path, access: Access::Scoped, of, manager, contributor, reader, depositor, others: 404 }
}

const ONE: &str = "/api/v1/procedures/{id}";
const MEMBERS: &str = "/api/v1/procedures/{id}/members";
const MEMBER: &str = "/api/v1/procedures/{id}/members/{box}";
const PIECES: &str = "/api/v1/procedures/{id}/pieces";
const PIECE: &str = "/api/v1/procedures/{id}/pieces/{piece}";
const WITHDRAW: &str = "/api/v1/procedures/{id}/pieces/{piece}/withdraw";
const EXHIBITS: &str = "/api/v1/procedures/{id}/exhibits";
const EXHIBIT: &str = "/api/v1/procedures/{id}/exhibits/{exhibit}";
const MOVEMENTS: &str = "/api/v1/procedures/{id}/exhibits/{exhibit}/movements";

const MATRIX: &[Row] = &[
    Row {
        access: Access::Delegable,
        others: 403,
        ..row("POST", "/api/v1/procedures", Plain, [[201; 2], NO, NO, NO])
    },
    Row { others: 200, ..row("GET", "/api/v1/procedures", Plain, [OK; 4]) },
    row("GET", ONE, Plain, [OK; 4]),
    row("PATCH", ONE, Plain, [CHANGED, NO, NO, NO]),
    row("POST", "/api/v1/procedures/{id}/close", Plain, [CHANGED, NO, NO, NO]),
    row("POST", "/api/v1/procedures/{id}/reopen", Plain, [[409, 200], NO, NO, NO]),
    row("GET", MEMBERS, Plain, [OK, OK, OK, NO]),
    row("POST", MEMBERS, Plain, [[201; 2], NO, NO, NO]),
    row("PATCH", MEMBER, Plain, [OK, NO, NO, NO]),
    row("DELETE", MEMBER, Plain, [[204; 2], NO, NO, NO]),
    row("GET", PIECES, Plain, [OK; 4]),
    row("POST", PIECES, Plain, [MADE, MADE, NO, MADE]),
    // A document that the filer restricts from the start.
    row("POST", PIECES, Restricted, [MADE, [403, 409], NO, [403, 409]]),
    row("GET", PIECE, Plain, [OK, OK, OK, NOTHING]),
    row("GET", PIECE, Restricted, [OK, NOTHING, NOTHING, NOTHING]),
    row("GET", PIECE, Deposited, [OK; 4]),
    row("PATCH", PIECE, Plain, [CHANGED, CHANGED, NO, NOTHING]),
    row("PATCH", PIECE, Restricted, [CHANGED, NOTHING, NOTHING, NOTHING]),
    row("PATCH", PIECE, Deposited, [CHANGED, CHANGED, NO, NO]),
    row("POST", WITHDRAW, Plain, [CHANGED, [403, 409], NO, NOTHING]),
    row("POST", WITHDRAW, Restricted, [CHANGED, NOTHING, NOTHING, NOTHING]),
    row("POST", WITHDRAW, Deposited, [CHANGED, [403, 409], NO, NO]),
    row("GET", EXHIBITS, Plain, [OK, OK, OK, NO]),
    row("POST", EXHIBITS, Plain, [MADE, MADE, NO, NO]),
    row("GET", EXHIBIT, Plain, [OK, OK, OK, NO]),
    row("PATCH", EXHIBIT, Plain, [CHANGED, CHANGED, NO, NO]),
    row("POST", MOVEMENTS, Plain, [MADE, MADE, NO, NO]),
    // To destroy it.
    row("POST", MOVEMENTS, Restricted, [[201; 2], NO, NO, NO]),
];

/// The routes of the matrix, each once, for the test of completeness.
pub(super) fn covered() -> BTreeSet<String> {
    MATRIX.iter().map(|row| format!("{} {} {:?}", row.method, row.path, row.access)).collect()
}

/// Who asks.
struct Cast {
    colleague: Who,
    reader: Who,
    depositor: Who,
    removed: Who,
    ended: Who,
    newcomer: Who,
    documents: Vec<DocumentId>,
}

impl Cast {
    async fn of(w: &World) -> Self {
        let office = w.sender.organisation;
        let mut tx = w.hub.db().write().await.unwrap();
        roles::grant(&mut tx, w.now(), w.sender.id, office, Role::Magistrate).await.unwrap();
        tx.commit().await.unwrap();
        let at = async |organisation, name: &str| {
            account(&w.hub, organisation, &format!("{name}@matrice.example"), name).await
        };
        let experts = w.recipient.organisation;
        let cast = Self {
            colleague: at(office, "collegue").await,
            reader: at(experts, "lecteur").await,
            depositor: at(w.stranger.organisation, "deposant").await,
            removed: at(experts, "retire").await,
            ended: at(experts, "termine").await,
            newcomer: at(office, "nouveau").await,
            documents: w.available(&[("a", b"a"), ("b", b"b"), ("c", b"c"), ("d", b"d")]).await.1,
        };
        let sql = "INSERT INTO recipients (deposit, box, added)
                   SELECT deposit, $2, $3 FROM documents WHERE id = $1";
        w.change(sql, args![cast.documents[0].0, cast.depositor.id.0, w.now()]).await;
        cast
    }
}

/// A procedure with one of each thing.
struct Objects {
    procedure: ProcedureId,
    pieces: [PieceId; 3],
    exhibit: ExhibitId,
    member: BoxId,
}

impl Objects {
    async fn in_state(w: &World, cast: &Cast, state: &str) -> Self {
        let (id, now) = (ProcedureId::new(), w.now());
        let pieces = [PieceId::new(), PieceId::new(), PieceId::new()];
        let exhibit = ExhibitId::new();
        let mut tx = w.hub.db().write().await.unwrap();
        tx.execute(
            "INSERT INTO procedures (id, organisation, title, folded, state, version, created, opened_by)
             VALUES ($1, $2, 'Dossier', 'dossier', $3, 1, $4, $5)",
            args![id.0, w.sender.organisation.0, state, now, w.sender.id.0],
        )
        .await
        .unwrap();
        let past = Some(now.plus_seconds(-1));
        for (who, role, restricted, ends, removed) in [
            (&w.sender, "manager", true, None, None),
            (&w.recipient, "contributor", false, None, None),
            (&cast.reader, "reader", false, Some(now.plus_seconds(3600)), None),
            (&cast.depositor, "depositor", false, None, None),
            (&cast.removed, "manager", true, None, past),
            (&cast.ended, "manager", true, past, None),
        ] {
            tx.execute(
                "INSERT INTO procedure_members
                    (procedure, box, role, restricted, version, added, added_by, ends, removed)
                 VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8)",
                args![id.0, who.id.0, role, restricted, now, w.sender.id.0, ends, removed],
            )
            .await
            .unwrap();
        }
        let filers = [&w.sender, &w.sender, &cast.depositor];
        for (place, (piece, filer)) in pieces.iter().zip(filers).enumerate() {
            tx.execute(
                "INSERT INTO pieces (id, procedure, document, title, restricted, version, filed, filed_by)
                 VALUES ($1, $2, $3, 'Pièce', $4, 1, $5, $6)",
                args![piece.0, id.0, cast.documents[place].0, place == 1, now, filer.id.0],
            )
            .await
            .unwrap();
        }
        tx.execute(
            "INSERT INTO exhibits
                (id, procedure, number, folded_number, label, state, place, version, created, created_by)
             VALUES ($1, $2, '1', '1', 'Couteau', 'placed', 'Greffe', 1, $3, $4)",
            args![exhibit.0, id.0, now, w.sender.id.0],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
        Self { procedure: id, pieces, exhibit, member: cast.reader.id.into() }
    }

    fn unknown() -> Self {
        Self {
            procedure: ProcedureId::new(),
            pieces: [PieceId::new(); 3],
            exhibit: ExhibitId::new(),
            member: BoxId::new(),
        }
    }

    /// A request that its route would grant to whoever may make it.
    fn ask(&self, cast: &Cast, row: &Row) -> Ask {
        let piece = self.pieces[row.of as usize];
        let path = row
            .path
            .replace("{id}", &self.procedure.to_string())
            .replace("{box}", &self.member.to_string())
            .replace("{piece}", &piece.to_string())
            .replace("{exhibit}", &self.exhibit.to_string());
        let asked = ask(row.method, path).header("if-match", "\"1\"");
        match (row.method, row.path) {
            ("POST", "/api/v1/procedures") => ask("POST", row.path).json(&json!({ "title": "Autre" })),
            ("PATCH", ONE) => asked.json(&json!({ "title": "Autre titre" })),
            ("POST", MEMBERS) => asked.json(&json!({ "address": cast.newcomer.address, "role": "manager" })),
            ("PATCH", MEMBER) => asked.json(&json!({ "role": "depositor", "ends": null })),
            ("POST", PIECES) => asked.json(&json!({
                "document": cast.documents[3], "title": "Rapport", "restricted": row.of == Restricted
            })),
            ("PATCH", PIECE) => asked.json(&json!({ "cote": "D1" })),
            ("POST", WITHDRAW) => asked.json(&json!({ "motive": "Versée par erreur" })),
            ("POST", EXHIBITS) => {
                asked.json(&json!({ "number": "2", "label": "Téléphone", "place": "Greffe" }))
            }
            ("PATCH", EXHIBIT) => asked.json(&json!({ "label": "Couteau de cuisine" })),
            ("POST", MOVEMENTS) => {
                let state = if row.of == Restricted { "destroyed" } else { "at_expert" };
                asked.json(&json!({ "state": state, "place": "Laboratoire" }))
            }
            _ => asked,
        }
    }
}

fn said(row: &Row, state: &str, who: &str) -> String {
    format!("{} {} of {:?} ({state}) by {who}", row.method, row.path, row.of)
}

on_both! {
    async fn every_route_and_every_member(dialect) {
        let w = World::on(dialect).await;
        let cast = Cast::of(&w).await;
        let unknown = Objects::unknown();
        for row in MATRIX {
            for (stage, state) in ["open", "closed"].into_iter().enumerate() {
                let objects = Objects::in_state(&w, &cast, state).await;
                // Theirs change nothing, so that one procedure serves them all.
                for (who, caller) in [
                    ("a colleague", &cast.colleague),
                    ("another organisation", &w.stranger),
                    ("who was removed", &cast.removed),
                    ("whose time has ended", &cast.ended),
                ] {
                    let reply = w.call(objects.ask(&cast, row).by(caller)).await;
                    assert_eq!(reply.status, row.others, "{}", said(row, state, who));
                    if row.others == 404 {
                        // Refusal and absence are not told apart.
                        let missing = w.call(unknown.ask(&cast, row).by(caller)).await;
                        assert_eq!((reply.body, reply.headers), (missing.body, missing.headers), "{}", said(row, state, who));
                    } else if row.method == "GET" {
                        assert_eq!(reply.json()["items"], json!([]), "{}", said(row, state, who));
                    }
                }
                assert_eq!(w.call(objects.ask(&cast, row)).await.status, 401);
                for (who, caller, expected) in [
                    ("a depositor", &cast.depositor, row.depositor),
                    ("a reader", &cast.reader, row.reader),
                    ("a contributor", &w.recipient, row.contributor),
                    ("a manager", &w.sender, row.manager),
                ] {
                    let objects = Objects::in_state(&w, &cast, state).await;
                    let reply = w.call(objects.ask(&cast, row).by(caller)).await;
                    assert_eq!(reply.status, expected[stage], "{} {:?}", said(row, state, who), reply.body);
                }
            }
        }
    }

    /// One procedure, and no other, by a delegation that is limited to it.
    async fn every_route_and_every_delegate(dialect) {
        let w = World::on(dialect).await;
        let cast = Cast::of(&w).await;
        let (now, until) = (w.now(), w.now().plus_seconds(DAY));
        let whole = w.delegated(&w.sender, &cast.colleague, None, now, until).await;
        let elsewhere = w.delegated(&w.sender, &cast.colleague, Some(ProcedureId::new().0), now, until).await;
        for row in MATRIX {
            let objects = Objects::in_state(&w, &cast, "open").await;
            let here = w.delegated(&w.sender, &cast.colleague, Some(objects.procedure.0), now, until).await;
            let acting = async |objects: &Objects, delegation: uuid::Uuid| {
                let ask = objects.ask(&cast, row).by(&cast.colleague).header("pli-delegation", delegation);
                w.call(ask).await
            };
            let reply = acting(&objects, elsewhere).await;
            let nowhere = match (row.method, row.path) {
                ("POST", "/api/v1/procedures") => 403,
                (_, "/api/v1/procedures") => 200,
                _ => 404,
            };
            assert_eq!(reply.status, nowhere, "{}", said(row, "open", "a delegate elsewhere"));
            if nowhere == 200 {
                assert_eq!(reply.json()["items"], json!([]), "the list of a delegate elsewhere");
            }
            let expected = match (row.method, row.path) {
                ("POST", "/api/v1/procedures") => 403,
                // The deposits of who gave it are outside of it.
                ("POST", PIECES) => 404,
                _ => row.manager[0],
            };
            let reply = acting(&objects, here).await;
            assert_eq!(reply.status, expected, "{} {:?}", said(row, "open", "a delegate here"), reply.body);
            if row.method == "GET" && row.path == "/api/v1/procedures" {
                let items = reply.json()["items"].as_array().unwrap().clone();
                assert_eq!(items.len(), 1);
                assert_eq!(items[0]["id"], objects.procedure.to_string());
            }
            let objects = Objects::in_state(&w, &cast, "open").await;
            let reply = acting(&objects, whole).await;
            assert_eq!(reply.status, row.manager[0], "{} {:?}", said(row, "open", "a delegate"), reply.body);
        }
        // « X pour Y »: each act says by whom and for whom.
        let sql = "SELECT DISTINCT actor, on_behalf FROM events WHERE procedure IS NOT NULL";
        for row in w.rows(sql, args![]).await {
            assert_eq!(row.get::<uuid::Uuid>("actor").unwrap(), cast.colleague.id.0);
            assert_eq!(row.get::<uuid::Uuid>("on_behalf").unwrap(), w.sender.id.0);
        }
    }

    /// Who downloads what, by the deposit or as a piece, and through which delegation.
    async fn every_document_and_every_reader(dialect) {
        let w = World::on(dialect).await;
        let cast = Cast::of(&w).await;
        // By the deposit, these two only.
        w.change("DELETE FROM recipients WHERE box = $1", args![cast.depositor.id.0]).await;
        let state = async |ask: Ask| w.call(ask).await.status.as_u16();
        let read = async |who: &Who, document: DocumentId| {
            let show = state(ask("GET", format!("/api/v1/documents/{document}")).by(who)).await;
            assert_eq!(show, state(content_of(document).by(who)).await, "{}", who.address);
            show
        };
        let objects = Objects::in_state(&w, &cast, "open").await;
        w.change("UPDATE recipients SET withdrawn = 1 WHERE box = $1", args![w.recipient.id.0]).await;
        let all: Vec<(&str, &Who)> = vec![
            ("manager", &w.sender), ("contributor", &w.recipient), ("reader", &cast.reader), ("depositor", &cast.depositor),
            ("colleague", &cast.colleague), ("removed", &cast.removed), ("ended", &cast.ended), ("stranger", &w.stranger),
        ];
        let seen = async |document: DocumentId| {
            let mut seen = Vec::new();
            for (who, caller) in &all {
                match read(caller, document).await {
                    200 => seen.push(*who),
                    status => assert_eq!(status, 404, "{who}"),
                }
            }
            seen
        };
        let [plain, secret, deposited, unfiled] = cast.documents[..] else { unreachable!() };
        assert_eq!(seen(plain).await, ["manager", "contributor", "reader"]);
        assert_eq!(seen(secret).await, ["manager"]);
        assert_eq!(seen(deposited).await, ["manager", "contributor", "reader", "depositor"]);
        assert_eq!(seen(unfiled).await, ["manager"], "its sender");
        // The secret is lifted for one member.
        w.change("UPDATE procedure_members SET restricted = $2 WHERE box = $1", args![cast.reader.id.0, true]).await;
        assert_eq!(seen(secret).await, ["manager", "reader"]);
        // By a delegation for this procedure, its pieces only: not what else its giver may read.
        let (now, until) = (w.now(), w.now().plus_seconds(DAY));
        let here = w.delegated(&w.sender, &cast.colleague, Some(objects.procedure.0), now, until).await;
        let elsewhere = w.delegated(&w.sender, &cast.colleague, Some(ProcedureId::new().0), now, until).await;
        let acting = async |document, delegation: uuid::Uuid| {
            state(content_of(document).by(&cast.colleague).header("pli-delegation", delegation)).await
        };
        assert_eq!((acting(plain, here).await, acting(secret, here).await, acting(unfiled, here).await), (200, 200, 404));
        assert_eq!((acting(plain, elsewhere).await, acting(unfiled, elsewhere).await), (404, 404));
        // The time of a membership passes.
        w.pass(3600);
        assert_eq!(seen(plain).await, ["manager", "contributor"]);
        // Withdrawn: nobody reads it here any more, and its sender as before.
        for (piece, document) in objects.pieces.into_iter().zip([plain, secret, deposited]) {
            w.change("UPDATE pieces SET withdrawn = $2 WHERE id = $1", args![piece.0, w.now()]).await;
            assert_eq!(seen(document).await, ["manager"]);
        }
        assert_eq!(acting(plain, here).await, 404);
    }
}
