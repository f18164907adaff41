//! « X pour Y »: delegations and absences, from the first day to the last.

use crate::testing::*;
use pli_storage::args;
use serde_json::{Value, json};

async fn colleague(w: &World) -> Who {
    account(&w.hub, w.sender.organisation, "collegue@cabinet.example", "Collègue").await
}

fn grant(w: &World, by: &Who, to: &Who, days: i64, more: Value) -> Ask {
    let mut body = json!({ "delegate": to.address, "ends": w.now().plus_seconds(days * DAY) });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask("POST", "/api/v1/delegations").by(by).json(&body)
}

async fn list(w: &World, by: &Who, side: &str) -> Vec<Value> {
    let reply =
        w.call(ask("GET", format!("/api/v1/delegations?side={side}")).by(by)).await.expect(200).json();
    reply["items"].as_array().unwrap().clone()
}

on_both! {
    async fn given_used_and_ended(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        let made = w.call(grant(&w, &w.sender, &delegate, 7, json!({}))).await.expect(201).json();
        assert_eq!((&made["kind"], &made["delegator"]["address"]), (&json!("delegation"), &json!(w.sender.address)));
        assert_eq!(made["starts"], w.now().to_string());
        let me = w.call(ask("GET", "/api/v1/me").by(&delegate)).await.expect(200).json();
        assert_eq!(me["delegations"], json!([made]));
        assert_eq!(list(&w, &w.sender, "given").await, std::slice::from_ref(&made));
        assert_eq!(list(&w, &delegate, "received").await, std::slice::from_ref(&made));
        assert!(list(&w, &delegate, "given").await.is_empty() && list(&w, &w.recipient, "received").await.is_empty());

        let id = made["id"].as_str().unwrap();
        let draft = || ask("POST", "/api/v1/deposits").by(&delegate).header("pli-delegation", id)
            .json(&json!({ "recipients": [w.recipient.address] }));
        w.call(draft()).await.expect(201);
        let path = format!("/api/v1/delegations/{id}");
        w.call(ask("DELETE", &path).by(&w.recipient)).await.problem(404, "not-found");
        w.call(ask("DELETE", &path).by(&w.sender)).await.expect(204);
        w.call(draft()).await.problem(403, "not-delegated");
        w.call(ask("DELETE", &path).by(&delegate)).await.problem(409, "conflict");
        let me = w.call(ask("GET", "/api/v1/me").by(&delegate)).await.expect(200).json();
        assert_eq!(me["delegations"], json!([]));
        assert!(list(&w, &delegate, "received").await[0]["revoked"].is_string(), "the past is shown");
        let granted = w.told("delegation.granted").await;
        assert_eq!((granted[0].actor, &granted[0].detail["delegate"]), (Some(w.sender.id), &json!(delegate.id)));
        assert_eq!(w.told("delegation.revoked").await[0].detail["delegation"], id);
    }

    /// The delegation ends between the draft and its sending: what was begun is the delegator's to end.
    async fn it_ends_in_the_middle(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        let made = w.call(grant(&w, &w.sender, &delegate, 1, json!({}))).await.expect(201).json();
        let id = made["id"].as_str().unwrap().to_owned();
        let acting = |ask: Ask| ask.by(&delegate).header("pli-delegation", &id);
        let body = json!({ "recipients": [w.recipient.address], "subject": "Mission" });
        let draft = w.call(acting(ask("POST", "/api/v1/deposits")).json(&body)).await.expect(201).json();
        let deposit: pli_api::DepositId = draft["id"].as_str().unwrap().parse().unwrap();
        let upload = w.call(acting(creation(deposit, "a.pdf", Some(6)))).await.expect(201).begun();
        w.call(acting(append(upload.id, 0)).octets(b"abc")).await.expect(204);
        w.pass(DAY - 1);
        w.call(acting(append(upload.id, 3)).octets(b"d")).await.expect(204);
        w.pass(1);
        w.call(acting(append(upload.id, 4)).octets(b"ef")).await.problem(403, "not-delegated");
        let send = format!("/api/v1/deposits/{deposit}/send");
        w.call(acting(ask("POST", &send))).await.problem(403, "not-delegated");
        assert_eq!(w.call(ask("GET", "/api/v1/me").by(&delegate)).await.expect(200).json()["delegations"], json!([]));
        // Nothing is lost: the delegator goes on from the durable offset.
        assert_eq!(w.offset(upload.id).await, 4);
        w.patch(upload.id, 4, b"ef").await.expect(204);
        w.send(deposit).await.expect(202);
        let journal = w.rows("SELECT kind, actor, on_behalf FROM events WHERE deposit = $1 ORDER BY id", args![deposit.0]).await;
        let told: Vec<(String, Option<uuid::Uuid>, Option<uuid::Uuid>)> = journal.iter()
            .map(|row| (row.get("kind").unwrap(), row.get("actor").unwrap(), row.get("on_behalf").unwrap())).collect();
        assert!(told.contains(&("deposit.drafted".into(), Some(delegate.id.0), Some(w.sender.id.0))));
        assert!(told.contains(&("deposit.sent".into(), Some(w.sender.id.0), None)));
    }

    async fn nobody_delegates_further(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        let third = account(&w.hub, w.sender.organisation, "tiers@cabinet.example", "Tiers").await;
        let made = w.call(grant(&w, &w.sender, &delegate, 7, json!({}))).await.expect(201).json();
        let further = grant(&w, &delegate, &third, 1, json!({})).header("pli-delegation", made["id"].as_str().unwrap());
        w.call(further).await.problem(403, "not-delegated");
        // One's own right may be delegated; it reaches no other's by it.
        let own = w.call(grant(&w, &delegate, &third, 1, json!({}))).await.expect(201).json();
        for id in [&own["id"], &made["id"]] {
            let draft = w.draft().await;
            let show = ask("GET", format!("/api/v1/deposits/{draft}")).by(&third).header("pli-delegation", id.as_str().unwrap());
            assert!(w.call(show).await.status.is_client_error());
        }
    }

    async fn bounds(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        let at = |days: i64| json!(w.now().plus_seconds(days * DAY));
        for more in [
            json!({ "ends": at(0) }), json!({ "ends": at(-1) }), json!({ "ends": at(367) }),
            json!({ "starts": at(5), "ends": at(5) }), json!({ "starts": at(367), "ends": at(368) }),
            json!({ "starts": at(5), "ends": at(372) }),
            json!({ "kind": "absence", "procedure": uuid::Uuid::now_v7() }),
            json!({ "delegate": "pas une adresse" }), json!({ "delegate": "inconnue@cabinet.example" }),
            json!({ "delegate": w.sender.address }), json!({ "delegate": w.recipient.address }),
        ] {
            w.call(grant(&w, &w.sender, &delegate, 1, more)).await.problem(422, "invalid");
        }
        w.call(grant(&w, &w.sender, &delegate, 1, json!({ "starts": at(-30), "ends": at(366) }))).await.expect(201);
        for odd in [json!({ "kind": "roi" }), json!({ "more": 1 }), json!({ "ends": "demain" })] {
            assert!(w.call(grant(&w, &w.sender, &delegate, 1, odd)).await.status.is_client_error());
        }
        // Never to a closed account, told as an unknown one is.
        let unknown = w.call(grant(&w, &w.sender, &delegate, 1, json!({ "delegate": "inconnue@cabinet.example" }))).await;
        w.change("UPDATE boxes SET closed = $2 WHERE id = $1", args![delegate.id.0, w.now()]).await;
        let closed = w.call(grant(&w, &w.sender, &delegate, 1, json!({}))).await.problem(422, "invalid");
        assert_eq!(closed.body, unknown.body);
        // A service is nobody.
        let new = pli_api::NewService { organisation: None, address: "s@cabinet.example".into(), name: "S".into(), function: String::new() };
        crate::services::add_service(&w.hub, &w.sender.organisation.to_string(), &new).await.unwrap();
        w.call(grant(&w, &w.sender, &delegate, 1, json!({ "delegate": "s@cabinet.example" }))).await.problem(422, "invalid");
    }

    async fn only_so_many_also_at_once(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        for _ in 0..48 {
            w.delegated(&w.sender, &delegate, None, w.now(), w.now().plus_seconds(DAY)).await;
        }
        let all = futures_util::future::join_all((0..5).map(|_| w.call(grant(&w, &w.sender, &delegate, 1, json!({}))))).await;
        assert_eq!(all.iter().filter(|reply| reply.status == 201).count(), 2);
        assert_eq!(all.iter().filter(|reply| reply.status == 429).count(), 3);
        w.pass(DAY);
        w.call(grant(&w, &w.sender, &delegate, 1, json!({}))).await.expect(201);
    }

    async fn an_absence_has_one_substitute(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        let at = |days: i64| json!(w.now().plus_seconds(days * DAY));
        let absence = |from: i64, to: i64| {
            grant(&w, &w.sender, &delegate, 1, json!({ "kind": "absence", "starts": at(from), "ends": at(to) }))
        };
        let made = w.call(absence(10, 20)).await.expect(201).json();
        for (from, to) in [(5, 11), (19, 25), (12, 13), (5, 25)] {
            w.call(absence(from, to)).await.problem(409, "conflict");
        }
        w.call(absence(20, 25)).await.expect(201);
        w.call(ask("DELETE", format!("/api/v1/delegations/{}", made["id"].as_str().unwrap())).by(&w.sender)).await.expect(204);
        w.call(absence(5, 11)).await.expect(201);
        // Not yet there, it opens nothing.
        assert_eq!(w.call(ask("GET", "/api/v1/me").by(&delegate)).await.expect(200).json()["delegations"], json!([]));
    }

    async fn lists_by_pages(dialect) {
        let w = World::on(dialect).await;
        let delegate = colleague(&w).await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(w.delegated(&w.sender, &delegate, None, w.now(), w.now().plus_seconds(DAY)).await.to_string());
        }
        let (mut after, mut seen) = (String::new(), Vec::new());
        loop {
            let page = ask("GET", format!("/api/v1/delegations?side=received&limit=2{after}")).by(&delegate);
            let page = w.call(page).await.expect(200).json();
            seen.extend(page["items"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        made.reverse();
        assert_eq!(seen, made);
        assert!(w.call(ask("GET", "/api/v1/delegations").by(&delegate)).await.status.is_client_error());
    }
}
