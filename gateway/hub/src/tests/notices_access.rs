//! The access matrix of notices, webhooks, holds and recipients: every route, every kind of caller.

use crate::testing::*;
use crate::{Access, Access::Account, Access::Delegable};
use pli_api::{BoxId, DepositId, HoldId, WebhookDeliveryId, WebhookId};
use pli_storage::args;
use serde_json::json;
use uuid::Uuid;

pub(super) struct Row {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) access: Access,
    /// By the sender, a recipient, a magistrate and a manager of the sender's organisation, and a manager of another.
    by: [u16; 5],
}

const fn row(method: &'static str, path: &'static str, access: Access, by: [u16; 5]) -> Row {
    Row { method, path, access, by }
}

const OWN: [u16; 5] = [200; 5];

pub(super) const MATRIX: &[Row] = &[
    row("GET", "/api/v1/deposits/{id}/recipients", Delegable, [200, 404, 404, 404, 404]),
    row("POST", "/api/v1/deposits/{id}/recipients", Delegable, [201, 404, 404, 404, 404]),
    row("DELETE", "/api/v1/deposits/{id}/recipients/{box}", Delegable, [204, 404, 404, 404, 404]),
    row("POST", "/api/v1/holds", Delegable, [403, 403, 201, 404, 404]),
    row("GET", "/api/v1/holds", Delegable, [403, 403, 200, 200, 200]),
    row("POST", "/api/v1/holds/{id}/lift", Delegable, [404, 404, 200, 404, 404]),
    row("GET", "/api/v1/notices", Account, OWN),
    row("GET", "/api/v1/notices/preferences", Account, OWN),
    row("PUT", "/api/v1/notices/preferences", Account, OWN),
    row("GET", "/api/v1/bounces", Delegable, OWN),
    row("PUT", "/api/v1/me/certificate", Account, OWN),
    row("GET", "/api/v1/me/certificate", Account, OWN),
    row("DELETE", "/api/v1/me/certificate", Account, [204; 5]),
    row("POST", "/api/v1/webhooks", Account, [403, 403, 403, 201, 201]),
    row("GET", "/api/v1/webhooks", Account, [403, 403, 403, 200, 200]),
    row("DELETE", "/api/v1/webhooks/{id}", Account, [403, 403, 403, 204, 404]),
    row("GET", "/api/v1/webhooks/{id}/deliveries", Account, [403, 403, 403, 200, 404]),
    row("POST", "/api/v1/webhooks/{id}/deliveries/{delivery}/redeliver", Account, [403, 403, 403, 202, 404]),
];

struct Objects {
    deposit: DepositId,
    recipient: BoxId,
    hold: HoldId,
    webhook: WebhookId,
    delivery: WebhookDeliveryId,
}

impl Objects {
    /// Of the sender's organisation: an available deposit, held, and a webhook with a dead letter.
    async fn make(w: &World, magistrate: &Who) -> Self {
        let (deposit, _) = w.available(&[("a.pdf", b"abc")]).await;
        let (hold, webhook, notice, delivery) =
            (HoldId::new(), WebhookId::new(), Uuid::now_v7(), WebhookDeliveryId::new());
        let now = w.now();
        let organisation = w.sender.organisation.0;
        let sql = "INSERT INTO holds (id, organisation, deposit, motive, placed, placed_by) VALUES ($1, $2, $3, 'x', $4, $5)";
        w.change(sql, args![hold.0, organisation, deposit.0, now, magistrate.id.0]).await;
        let sql = "INSERT INTO notices (id, kind, box, created) VALUES ($1, 'piece.filed', $2, $3)";
        w.change(sql, args![notice, w.sender.id.0, now]).await;
        let sql = "INSERT INTO webhooks (id, organisation, url, kinds, wrapped_key, wrapped_for, public_key, created, created_by, removed)
                   VALUES ($1, $2, 'https://si.example/', 'scan.infected', $3, 'x', $3, $4, $5, NULL)";
        w.change(sql, args![webhook.0, organisation, vec![0_u8; 32], now, magistrate.id.0]).await;
        let sql = "INSERT INTO webhook_deliveries (id, webhook, notice, state, attempts, created)
                   VALUES ($1, $2, $3, 'dead', 30, $4)";
        w.change(sql, args![delivery.0, webhook.0, notice, now]).await;
        Self { deposit, recipient: w.recipient.id.into(), hold, webhook, delivery }
    }

    fn unknown() -> Self {
        Self {
            deposit: DepositId::new(),
            recipient: BoxId::new(),
            hold: HoldId::new(),
            webhook: WebhookId::new(),
            delivery: WebhookDeliveryId::new(),
        }
    }

    fn ask(&self, w: &World, row: &Row) -> Ask {
        let id = match row.path {
            path if path.contains("/deposits/{id}") => self.deposit.to_string(),
            path if path.contains("/holds/{id}") => self.hold.to_string(),
            _ => self.webhook.to_string(),
        };
        let path = row.path.replace("{id}", &id);
        let path = path
            .replace("{box}", &self.recipient.to_string())
            .replace("{delivery}", &self.delivery.to_string());
        let ask = ask(row.method, path);
        match (row.method, row.path) {
            ("POST", "/api/v1/deposits/{id}/recipients") => {
                ask.json(&json!({ "address": w.stranger.address }))
            }
            ("POST", "/api/v1/holds") => ask.json(&json!({ "deposit": self.deposit, "motive": "x" })),
            ("POST", "/api/v1/holds/{id}/lift") => ask.json(&json!({ "motive": "x" })),
            ("PUT", "/api/v1/notices/preferences") => ask.json(&json!([])),
            ("PUT", "/api/v1/me/certificate") => ask.octets(&ring().certificate().unwrap()),
            ("POST", "/api/v1/webhooks") => ask.json(&json!({ "url": "https://si.example/" })),
            _ => ask,
        }
    }
}

async fn with_role(w: &World, like: &Who, address: &str, role: &str) -> Who {
    let who = account(&w.hub, like.organisation, address, "Collègue").await;
    let sql = "INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, $3, $4)";
    w.change(sql, args![who.id.0, who.organisation.0, role, w.now()]).await;
    who
}

on_both! {
    async fn every_route_and_every_caller(dialect) {
        // Registering asks for the way to webhooks.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let w = World::on(dialect).await;
        let magistrate = with_role(&w, &w.sender, "juge@cabinet.example", "magistrate").await;
        let manager = with_role(&w, &w.sender, "gestion@cabinet.example", "manager").await;
        let foreign = with_role(&w, &w.stranger, "gestion@cour.example", "manager").await;
        let delegate = account(&w.hub, w.stranger.organisation, "delegue@cour.example", "Délégué").await;
        let (now, end) = (w.now(), w.now().plus_seconds(DAY));
        let whole = w.delegated(&magistrate, &delegate, None, now, end).await;
        let limited = w.delegated(&magistrate, &delegate, Some(Uuid::now_v7()), now, end).await;
        for row in MATRIX {
            let said = |who: &str| format!("{} {} by {who}", row.method, row.path);
            let callers = [
                ("the sender", &w.sender),
                ("a recipient", &w.recipient),
                ("a magistrate", &magistrate),
                ("a manager", &manager),
                ("another's manager", &foreign),
            ];
            for ((who, caller), expected) in callers.into_iter().zip(row.by) {
                let objects = Objects::make(&w, &magistrate).await;
                let unknown = Objects::unknown();
                w.call(objects.ask(&w, row)).await.problem(401, "sign-in-required");
                // What is the caller's own is there, or is not, without a name.
                let named = row.path.contains('{') || (row.method, row.path) == ("POST", "/api/v1/holds");
                let missing = if named { Some(w.call(unknown.ask(&w, row).by(caller)).await) } else { None };
                let reply = w.call(objects.ask(&w, row).by(caller)).await;
                assert_eq!(reply.status, expected, "{} {:?}", said(who), reply.body);
                let Some(missing) = missing else { continue };
                if reply.status == 404 {
                    // Refusal and absence are not told apart.
                    assert_eq!((reply.body, reply.headers), (missing.body, missing.headers), "{}", said(who));
                } else if row.path.contains('{') {
                    let absent = if expected == 403 { 403 } else { 404 };
                    assert_eq!(missing.status, absent, "{} of nothing", said(who));
                }
            }
            let objects = Objects::make(&w, &magistrate).await;
            let acting = |delegation: Uuid| objects.ask(&w, row).by(&delegate).header("pli-delegation", delegation);
            w.call(acting(limited)).await.problem(403, "not-delegated");
            let expected = if row.access == Account { 403 } else { row.by[2] };
            assert_eq!(w.call(acting(whole)).await.status, expected, "{}", said("a delegate of the magistrate"));
        }
        let rows = w.rows("SELECT placed_by, placed_for FROM holds WHERE placed_for IS NOT NULL", args![]).await;
        assert_eq!(rows.len(), 1, "« X pour Y »");
        assert_eq!(rows[0].get::<Uuid>("placed_by").unwrap(), delegate.id.0);
        assert_eq!(rows[0].get::<Uuid>("placed_for").unwrap(), magistrate.id.0);
    }

    async fn methods_and_identifiers_that_are_none(dialect) {
        let w = World::on(dialect).await;
        for row in MATRIX {
            let path = row.path.replace("{id}", "x").replace("{box}", "x").replace("{delivery}", "x");
            w.call(ask("PATCH", &path).by(&w.sender)).await.problem(405, "method-not-allowed");
            if path != row.path {
                let reply = w.call(ask(row.method, &path).by(&w.sender)).await;
                assert!(reply.status.is_client_error(), "{} {}", row.method, row.path);
            }
        }
    }
}
