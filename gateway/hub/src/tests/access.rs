//! The access matrix: every route, every kind of caller, objects at every stage.
//!
//! The table below is written by hand and compared with [`routes`](crate::routes): a route that is added
//! without a row here fails the test, and so does a row without a route.

use super::procedures_access;
use crate::admin;
use crate::testing::*;
use crate::{Access, routes};
use pli_api::{DepositId, DocumentId, NewToken, TokenId, UploadId};
use pli_storage::args;
use serde_json::json;
use std::collections::BTreeSet;

/// Where the deposit stands that the objects belong to.
const STAGES: [&str; 4] = ["draft", "sent", "available", "expired"];

/// The same at every stage.
const fn always(status: u16) -> [u16; 4] {
    [status; 4]
}

struct Row {
    method: &'static str,
    path: &'static str,
    access: Access,
    /// The status at each stage. For public routes, `sender` is everybody.
    sender: [u16; 4],
    recipient: [u16; 4],
    stranger: [u16; 4],
}

const NOBODY: [u16; 4] = always(404);

/// What concerns only the caller: the same for everyone who has an account.
const fn own(method: &'static str, path: &'static str, status: u16) -> Row {
    let all = always(status);
    Row { method, path, access: Access::Account, sender: all, recipient: all, stranger: all }
}

/// The same, open to a delegate whose delegation is not limited to one procedure.
const fn delegable(row: Row) -> Row {
    Row { access: Access::Delegable, ..row }
}

/// The same, also open to a delegate in one procedure, within it.
const fn scoped(row: Row) -> Row {
    Row { access: Access::Scoped, ..row }
}

const fn public(method: &'static str, path: &'static str, status: u16) -> Row {
    Row { access: Access::Public, ..own(method, path, status) }
}

/// What only the sender may do.
const fn senders(method: &'static str, path: &'static str, sender: [u16; 4]) -> Row {
    delegable(Row { method, path, access: Access::Account, sender, recipient: NOBODY, stranger: NOBODY })
}

/// What the recipient may do too once the deposit is available, and until it expires.
const fn shared(method: &'static str, path: &'static str, sender: [u16; 4]) -> Row {
    Row { recipient: [404, 404, 200, 404], ..senders(method, path, sender) }
}

const MATRIX: &[Row] = &[
    public("POST", "/api/v1/session", 401),
    own("DELETE", "/api/v1/session", 204),
    own("GET", "/api/v1/me", 200),
    // By session only.
    own("POST", "/api/v1/tokens", 403),
    own("GET", "/api/v1/tokens", 200),
    Row { access: Access::Account, ..senders("DELETE", "/api/v1/tokens/{id}", always(204)) },
    delegable(own("POST", "/api/v1/deposits", 201)),
    delegable(own("GET", "/api/v1/deposits", 200)),
    shared("GET", "/api/v1/deposits/{id}", always(200)),
    senders("DELETE", "/api/v1/deposits/{id}", [204, 409, 409, 409]),
    senders("POST", "/api/v1/deposits/{id}/send", [202, 409, 409, 409]),
    shared("GET", "/api/v1/deposits/{id}/zip", [200, 409, 200, 410]),
    scoped(shared("GET", "/api/v1/documents/{id}", always(200))),
    scoped(shared("GET", "/api/v1/documents/{id}/content", [200, 409, 200, 410])),
    public("OPTIONS", "/api/v1/uploads", 204),
    // Into the deposit.
    senders("POST", "/api/v1/uploads", [201, 409, 409, 409]),
    delegable(own("GET", "/api/v1/uploads", 200)),
    public("OPTIONS", "/api/v1/uploads/{id}", 204),
    senders("HEAD", "/api/v1/uploads/{id}", [200, 200, 200, 410]),
    senders("PATCH", "/api/v1/uploads/{id}", [204, 204, 204, 410]),
    senders("DELETE", "/api/v1/uploads/{id}", [204, 409, 409, 410]),
    senders("POST", "/api/v1/uploads/{id}", [200, 200, 200, 410]),
];

/// One of each thing that a route may be about.
struct Objects {
    deposit: DepositId,
    document: DocumentId,
    upload: UploadId,
    token: TokenId,
}

impl Objects {
    async fn at(w: &World, stage: &str) -> Self {
        let deposit = w.draft().await;
        let begun = w.begin(deposit, "a.pdf", Some(3)).await;
        w.patch(begun.id, 0, b"abc").await.expect(204);
        if stage != "sent" {
            w.jobs().await;
        }
        if stage != "draft" {
            w.send(deposit).await.expect(202);
        }
        if stage == "expired" {
            w.change("UPDATE deposits SET expires = $2 WHERE id = $1", args![deposit.0, w.now()]).await;
            w.jobs().await;
        }
        let token = admin::add_token(&w.hub, &w.sender.address, &NewToken { name: "x".into(), days: 1 })
            .await
            .unwrap();
        Self { deposit, document: begun.document.unwrap(), upload: begun.id, token: token.id }
    }

    fn unknown() -> Self {
        Self {
            deposit: DepositId::new(),
            document: DocumentId::new(),
            upload: UploadId::new(),
            token: TokenId::new(),
        }
    }

    /// A request that its route would grant to whoever may make it.
    fn ask(&self, w: &World, row: &Row) -> Ask {
        let id = match row.path {
            path if path.contains("/deposits/{id}") => self.deposit.to_string(),
            path if path.contains("/documents/{id}") => self.document.to_string(),
            path if path.contains("/uploads/{id}") => self.upload.to_string(),
            path if path.contains("/tokens/{id}") => self.token.to_string(),
            _ => String::new(),
        };
        let path = row.path.replace("{id}", &id);
        match (row.method, row.path) {
            ("POST", "/api/v1/session") => {
                ask("POST", path).json(&json!({ "address": "x@y.example", "password": "faux" }))
            }
            ("POST", "/api/v1/tokens") => ask("POST", path).json(&json!({ "name": "x", "days": 1 })),
            ("POST", "/api/v1/deposits") => {
                ask("POST", path).json(&json!({ "recipients": [w.recipient.address] }))
            }
            ("GET", "/api/v1/deposits") => ask("GET", path + "?box=sent"),
            ("POST", "/api/v1/uploads") => creation(self.deposit, "b.pdf", Some(3)),
            ("PATCH", _) => append(self.upload, 3).octets(b""),
            ("POST", "/api/v1/uploads/{id}") => tus("POST", path).header("x-http-method-override", "HEAD"),
            (method, path_of) if path_of.starts_with("/api/v1/uploads") => tus(method, path),
            (method, _) => ask(method, path),
        }
    }
}

#[test]
fn the_matrix_names_every_route() {
    let here = MATRIX.iter().map(|row| format!("{} {} {:?}", row.method, row.path, row.access));
    let rows: Vec<_> = here.chain(procedures_access::covered()).collect();
    let written: BTreeSet<_> = rows.iter().cloned().collect();
    let served: BTreeSet<_> =
        routes().iter().map(|row| format!("{} {} {:?}", row.method, row.path, row.access)).collect();
    assert_eq!(written, served);
    assert_eq!(rows.len(), routes().len(), "each route in one row of one matrix");
}

on_both! {
    async fn every_route_and_every_caller(dialect) {
        let w = Ground::on(dialect).options(|o| o.pending_uploads = 1000).build().await;
        let expired = admin::add_token(&w.hub, &w.sender.address, &NewToken { name: "y".into(), days: 1 }).await.unwrap();
        w.change("UPDATE access_tokens SET expires = $1 WHERE id = $2", args![w.now(), expired.id.0]).await;
        let strangers_token = format!("pli_{}", "A".repeat(43));
        for row in MATRIX {
            for (stage, name) in STAGES.iter().enumerate() {
                let objects = Objects::at(&w, name).await;
                let said = |who: &str| format!("{} {} ({name}) by {who}", row.method, row.path);
                let unknown = Objects::unknown();
                for (who, token) in [("nobody", None), ("a forger", Some(&strangers_token)), ("yesterday's token", Some(&expired.token))] {
                    for objects in [&objects, &unknown] {
                        let mut ask = objects.ask(&w, row);
                        if let Some(token) = token {
                            ask = ask.token(token);
                        }
                        let reply = w.call(ask).await;
                        let expected = if row.access == Access::Public { row.sender[stage] } else { 401 };
                        assert_eq!(reply.status, expected, "{}", said(who));
                        if row.access != Access::Public && row.method != "HEAD" {
                            assert_eq!(reply.json()["code"], "sign-in-required");
                            assert!(reply.header("www-authenticate").is_some());
                        }
                    }
                }
                // The sender last: theirs may change the objects.
                for (who, caller, expected) in [
                    ("stranger", &w.stranger, row.stranger),
                    ("recipient", &w.recipient, row.recipient),
                    ("sender", &w.sender, row.sender),
                ] {
                    let missing = w.call(unknown.ask(&w, row).by(caller)).await;
                    let about_something = row.path.contains("{id}") || row.path == "/api/v1/uploads" && row.method == "POST";
                    if about_something && row.access != Access::Public {
                        assert_eq!(missing.status, 404, "{} of nothing", said(who));
                    }
                    let reply = w.call(objects.ask(&w, row).by(caller)).await;
                    assert_eq!(reply.status, expected[stage], "{} {:?}", said(who), reply.body);
                    if reply.status == 404 {
                        // Refusal and absence are not told apart.
                        assert_eq!((reply.body, reply.headers), (missing.body, missing.headers), "{}", said(who));
                    }
                }
            }
        }
    }

    /// A delegate may what their delegator may, where the route allows it, while the delegation lasts.
    async fn every_route_and_every_delegate(dialect) {
        let w = Ground::on(dialect).options(|o| o.pending_uploads = 1000).build().await;
        let delegate = account(&w.hub, w.sender.organisation, "collegue@cabinet.example", "Collègue").await;
        let (now, day) = (w.now(), DAY);
        let whole = w.delegated(&w.sender, &delegate, None, now, now.plus_seconds(day)).await;
        let limited = w.delegated(&w.sender, &delegate, Some(uuid::Uuid::now_v7()), now, now.plus_seconds(day)).await;
        let past = w.delegated(&w.sender, &delegate, None, now.plus_seconds(-day), now).await;
        let future = w.delegated(&w.sender, &delegate, None, now.plus_seconds(1), now.plus_seconds(day)).await;
        let revoked = w.delegated(&w.sender, &delegate, None, now, now.plus_seconds(day)).await;
        w.change("UPDATE delegations SET revoked = $2 WHERE id = $1", args![revoked, now]).await;
        let anothers = w.delegated(&w.sender, &w.recipient, None, now, now.plus_seconds(day)).await;
        let closed = account(&w.hub, w.sender.organisation, "parti@cabinet.example", "Parti").await;
        let of_closed = w.delegated(&closed, &delegate, None, now, now.plus_seconds(day)).await;
        w.change("UPDATE boxes SET closed = $2 WHERE id = $1", args![closed.id.0, now]).await;
        for row in MATRIX.iter().filter(|row| row.access != Access::Public) {
            let objects = Objects::at(&w, "draft").await;
            let ask = |delegation: String| objects.ask(&w, row).by(&delegate).header("pli-delegation", delegation);
            let said = format!("{} {}", row.method, row.path);
            for refused in [limited, past, future, revoked, anothers, of_closed, uuid::Uuid::now_v7()] {
                let scoped = refused == limited && row.access == Access::Scoped;
                if !scoped {
                    assert_eq!(w.call(ask(refused.to_string())).await.status, 403, "{said}");
                }
            }
            assert_eq!(w.call(ask("x".into())).await.status, 403, "{said}");
            // Without naming a delegation, the delegate is a stranger.
            if row.sender[0] != row.stranger[0] {
                assert_eq!(w.call(objects.ask(&w, row).by(&delegate)).await.status, row.stranger[0], "{said}");
            }
            let expected = if row.access == Access::Account { 403 } else { row.sender[0] };
            assert_eq!(w.call(ask(whole.to_string())).await.status, expected, "{said}");
        }
        // « X pour Y »: what was done says by whom and for whom.
        let rows = w.rows("SELECT DISTINCT actor FROM events WHERE on_behalf = $1", args![w.sender.id.0]).await;
        assert_eq!(rows.iter().map(|row| row.get::<uuid::Uuid>("actor").unwrap()).collect::<Vec<_>>(), [delegate.id.0]);
        // It ends in the middle of the work.
        let draft = w.draft().await;
        let show = || ask("GET", format!("/api/v1/deposits/{draft}")).by(&delegate).header("pli-delegation", whole.to_string());
        w.call(show()).await.expect(200);
        w.pass(DAY);
        w.call(show()).await.problem(403, "not-delegated");
    }

    async fn paths_and_methods_that_are_none(dialect) {
        let w = World::on(dialect).await;
        w.call(ask("GET", "/api/v1/nulle/part").by(&w.sender)).await.problem(404, "not-found");
        w.call(ask("GET", "/")).await.problem(404, "not-found");
        for row in MATRIX {
            let path = row.path.replace("{id}", &DepositId::new().to_string());
            w.call(ask("PUT", path).by(&w.sender)).await.problem(405, "method-not-allowed");
            let path = row.path.replace("{id}", "pas-un-identifiant");
            if row.access != Access::Public && path != row.path {
                let reply = w.call(ask(row.method, path).by(&w.sender)).await;
                assert!(reply.status.is_client_error(), "{} {}", row.method, row.path);
            }
        }
    }
}
