//! The access matrix of messages, threads and labels: every route, every kind of caller, a message at every stage.
//!
//! Written by hand; the test of the great matrix compares both with the routes that are served.

use super::messages::{own_box, procedure, sending, write};
use crate::Access;
use crate::testing::*;
use pli_storage::args;
use serde_json::json;
use uuid::Uuid;

/// Where the message stands.
const STAGES: [&str; 3] = ["draft", "sent", "withdrawn from its recipient"];

pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// The status at each stage. Everyone else gets what `stranger` says.
    sender: [u16; 3],
    recipient: [u16; 3],
    stranger: u16,
}

const fn lists(method: &'static str, path: &'static str, access: Access, status: u16) -> Row {
    Row { method, path, access, sender: [status; 3], recipient: [status; 3], stranger: status }
}

const fn on(method: &'static str, path: &'static str, sender: [u16; 3], recipient: [u16; 3]) -> Row {
    Row { method, path, access: Access::Scoped, sender, recipient, stranger: 404 }
}

pub(super) const MATRIX: &[Row] = &[
    lists("GET", "/api/v1/inbox", Access::Scoped, 200),
    lists("GET", "/api/v1/inbox/boxes", Access::Scoped, 200),
    lists("POST", "/api/v1/messages", Access::Scoped, 201),
    lists("GET", "/api/v1/messages", Access::Scoped, 200),
    on("GET", "/api/v1/messages/{id}", [200; 3], [404, 200, 404]),
    on("PUT", "/api/v1/messages/{id}", [200, 409, 409], [404, 409, 404]),
    on("DELETE", "/api/v1/messages/{id}", [204, 409, 409], [404, 409, 404]),
    on("POST", "/api/v1/messages/{id}/deposit", [201, 409, 409], [404, 409, 404]),
    on("POST", "/api/v1/messages/{id}/send", [200, 409, 409], [404, 409, 404]),
    on("POST", "/api/v1/messages/{id}/read", [404, 204, 204], [404, 204, 404]),
    on("PUT", "/api/v1/messages/{id}/archive", [404, 204, 204], [404, 204, 404]),
    on("DELETE", "/api/v1/messages/{id}/archive", [404, 204, 204], [404, 204, 404]),
    // A label of the sender's box.
    on("PUT", "/api/v1/messages/{id}/labels/{label}", [404, 204, 204], [404; 3]),
    on("DELETE", "/api/v1/messages/{id}/labels/{label}", [404, 204, 204], [404; 3]),
    on("POST", "/api/v1/messages/{id}/recipients", [409, 200, 200], [404, 403, 404]),
    on("DELETE", "/api/v1/messages/{id}/recipients/{address}", [409, 200, 404], [404, 403, 404]),
    on("GET", "/api/v1/messages/{id}/trail", [200; 3], [404, 403, 404]),
    on("GET", "/api/v1/threads/{id}", [404, 200, 200], [404, 200, 404]),
    lists("POST", "/api/v1/labels", Access::Delegable, 201),
    lists("GET", "/api/v1/labels", Access::Delegable, 200),
    Row { access: Access::Delegable, ..on("PUT", "/api/v1/labels/{id}", [200; 3], [404; 3]) },
    Row { access: Access::Delegable, ..on("DELETE", "/api/v1/labels/{id}", [204; 3], [404; 3]) },
];

/// One of each thing that a route may be about.
struct Objects {
    /// The procedure that the message is about.
    case: Uuid,
    message: String,
    thread: String,
    label: String,
}

impl Objects {
    async fn at(w: &World, case: Uuid, stage: usize) -> Self {
        let new = json!({ "to": [w.recipient.address], "subject": "s", "procedure": case });
        let mut message = write(w, &w.sender, new).await;
        if stage > 0 {
            message = w.call(sending(&w.sender, &message)).await.expect(200).json();
        }
        let id = message["id"].as_str().unwrap().to_owned();
        if stage > 1 {
            let one = format!("/api/v1/messages/{id}/recipients/{}", w.recipient.address.replace('@', "%40"));
            w.call(ask("DELETE", one).by(&w.sender)).await.expect(200);
        }
        let name = json!({ "name": format!("n{}", Uuid::now_v7()) });
        let label = w.call(ask("POST", "/api/v1/labels").by(&w.sender).json(&name)).await.expect(201).json();
        let thread = message["thread"].as_str().map_or(Uuid::now_v7().to_string(), str::to_owned);
        Self { case, message: id, thread, label: label["id"].as_str().unwrap().to_owned() }
    }

    fn unknown() -> Self {
        let id = || Uuid::now_v7().to_string();
        Self { case: Uuid::now_v7(), message: id(), thread: id(), label: id() }
    }

    /// A request that its route would grant to whoever may make it.
    fn ask(&self, w: &World, row: &Row) -> Ask {
        let id = match row.path {
            path if path.starts_with("/api/v1/messages") => &self.message,
            path if path.starts_with("/api/v1/threads") => &self.thread,
            _ => &self.label,
        };
        let path = row.path.replace("{id}", id).replace("{label}", &self.label);
        let path = path.replace("{address}", &w.recipient.address.replace('@', "%40"));
        let ask = ask(row.method, path);
        match (row.method, row.path) {
            ("POST", "/api/v1/messages") => ask.json(&json!({ "to": [w.recipient.address], "subject": "x" })),
            ("PUT", "/api/v1/messages/{id}") => {
                let text = json!({ "to": [w.recipient.address], "subject": "x", "procedure": self.case });
                ask.header("if-match", "\"1\"").json(&text)
            }
            ("POST", "/api/v1/messages/{id}/send") => ask.header("if-match", "\"1\""),
            ("POST", "/api/v1/messages/{id}/deposit") => ask.json(&json!({})),
            ("POST", "/api/v1/messages/{id}/recipients") => {
                ask.json(&json!({ "address": "tiers@experts.example" }))
            }
            ("POST", "/api/v1/labels") | ("PUT", "/api/v1/labels/{id}") => {
                ask.json(&json!({ "name": format!("n{}", Uuid::now_v7()) }))
            }
            _ => ask,
        }
    }
}

async fn ground(dialect: pli_storage::Dialect) -> (World, Who, Uuid) {
    let w = World::on(dialect).await;
    account(&w.hub, w.recipient.organisation, "tiers@experts.example", "Tiers").await;
    let colleague = account(&w.hub, w.sender.organisation, "collegue@cabinet.example", "Collègue").await;
    let case = procedure(&w, "Affaire", "24/1", &[(own_box(&w.sender), "manager")]).await;
    (w, colleague, case)
}

on_both! {
    async fn every_route_of_messages_and_every_caller(dialect) {
        let (w, colleague, case) = ground(dialect).await;
        for row in MATRIX {
            for (stage, name) in STAGES.iter().enumerate() {
                let objects = Objects::at(&w, case, stage).await;
                let unknown = Objects::unknown();
                let said = |who: &str| format!("{} {} ({name}) by {who}", row.method, row.path);
                for objects in [&objects, &unknown] {
                    w.call(objects.ask(&w, row)).await.problem(401, "sign-in-required");
                }
                // The sender last: theirs may change the objects.
                for (who, caller, expected) in [
                    ("stranger", &w.stranger, row.stranger),
                    ("colleague", &colleague, row.stranger),
                    ("recipient", &w.recipient, row.recipient[stage]),
                    ("sender", &w.sender, row.sender[stage]),
                ] {
                    let missing = w.call(unknown.ask(&w, row).by(caller)).await;
                    if row.path.contains("{id}") {
                        assert_eq!(missing.status, 404, "{} of nothing", said(who));
                    }
                    let reply = w.call(objects.ask(&w, row).by(caller)).await;
                    assert_eq!(reply.status, expected, "{} {:?}", said(who), reply.body);
                    if reply.status == 404 {
                        // Refusal and absence are not told apart.
                        assert_eq!((reply.body, reply.headers), (missing.body, missing.headers), "{}", said(who));
                    }
                }
            }
        }
    }

    /// A delegate may what their delegator may: everywhere, or in one procedure, or, for a route that knows no
    /// procedure, not with a delegation that is limited to one.
    async fn every_route_of_messages_and_every_delegate(dialect) {
        let (w, delegate, case) = ground(dialect).await;
        let (now, end) = (w.now(), w.now().plus_seconds(DAY));
        let whole = w.delegated(&w.sender, &delegate, None, now, end).await;
        let within = w.delegated(&w.sender, &delegate, Some(case), now, end).await;
        let elsewhere = w.delegated(&w.sender, &delegate, Some(Uuid::now_v7()), now, end).await;
        let past = w.delegated(&w.sender, &delegate, None, now.plus_seconds(-DAY), now).await;
        for row in MATRIX {
            for stage in [0, 1] {
                let said = format!("{} {} ({})", row.method, row.path, STAGES[stage]);
                let new = row.method == "POST" && row.path == "/api/v1/messages";
                for (delegation, expected) in [
                    (past, 403),
                    (elsewhere, match row.access {
                        Access::Scoped if row.path.contains("{id}") => 404,
                        Access::Scoped if !new => row.stranger,
                        _ => 403,
                    }),
                    (within, if row.access == Access::Scoped && !new { row.sender[stage] } else { 403 }),
                    (whole, row.sender[stage]),
                ] {
                    let objects = Objects::at(&w, case, stage).await;
                    let ask = objects.ask(&w, row).by(&delegate).header("pli-delegation", delegation);
                    let reply = w.call(ask).await;
                    assert_eq!(reply.status, expected, "{said} {:?}", reply.body);
                }
            }
        }
        w.change("UPDATE delegations SET revoked = $1", args![now]).await;
        let show = ask("GET", "/api/v1/inbox").by(&delegate).header("pli-delegation", whole);
        w.call(show).await.problem(403, "not-delegated");
    }
}
