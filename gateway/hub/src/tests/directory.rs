//! The directory: found however it is typed, and never more than one may see.

use crate::boxes::{self, NewBox};
use crate::testing::*;
use crate::{admin, organisations, services};
use pli_api::{AccountId, BoxKind, NewService, OrganisationId, OrganisationKind};
use pli_storage::args;
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn found(w: &World, who: &Who, query: &str) -> Vec<Value> {
    let reply = w.call(ask("GET", format!("/api/v1/directory?{query}")).by(who)).await.expect(200).json();
    reply["items"].as_array().unwrap().clone()
}

async fn addresses(w: &World, who: &Who, query: &str) -> BTreeSet<String> {
    found(w, who, query).await.iter().map(|item| item["address"].as_str().unwrap().to_owned()).collect()
}

fn set(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|address| (*address).to_owned()).collect()
}

/// As many people as that, with few statements.
async fn crowd(w: &World, organisation: OrganisationId, label: &str, count: usize) {
    for start in (0..count).step_by(500) {
        let names: Vec<_> = (start..count.min(start + 500))
            .map(|n| (format!("{label}-{n}@foule.example"), format!("{label} {n:05}")))
            .collect();
        let new: Vec<_> = names
            .iter()
            .map(|(address, name)| NewBox {
                id: AccountId::new().into(),
                kind: BoxKind::Person,
                organisation,
                address,
                name,
                function: "Agent",
                speciality: "",
            })
            .collect();
        let mut tx = w.hub.db().write().await.unwrap();
        boxes::insert_all(&mut tx, w.now(), &new).await.unwrap();
        tx.commit().await.unwrap();
    }
}

struct Ville {
    w: World,
    agent: Who,
    other_agent: Who,
    expert: Who,
}

/// An administration, an office of a court with a service, experts with specialities.
async fn ville(dialect: pli_storage::Dialect) -> Ville {
    let w = World::on(dialect).await;
    let tax =
        admin::add_organisation(&w.hub, OrganisationKind::Administration, "Impôts", 1 << 20).await.unwrap();
    let customs =
        admin::add_organisation(&w.hub, OrganisationKind::Administration, "Douanes", 1 << 20).await.unwrap();
    let agent = account(&w.hub, tax, "agent@impots.example", "Agent Dupont").await;
    let other_agent = account(&w.hub, customs, "agent@douanes.example", "Agent Durand").await;
    let expert =
        account(&w.hub, w.recipient.organisation, "lœwé@experts.example", "Élise de L\u{2019}Œuvre").await;
    let mut tx = w.hub.db().write().await.unwrap();
    let texts = boxes::Texts {
        name: "Élise de L\u{2019}Œuvre",
        function: "Expert judiciaire",
        speciality: "C.4 Génie civil ; C.10 Plomberie",
    };
    assert!(boxes::describe(&mut tx, expert.id.into(), None, texts).await.unwrap());
    tx.commit().await.unwrap();
    organisations::set_court(
        &w.hub,
        &w.sender.organisation.to_string(),
        &w.stranger.organisation.to_string(),
    )
    .await
    .unwrap();
    let service = NewService {
        organisation: None,
        address: "service@cabinet.example".into(),
        name: "Greffe de l'instruction".into(),
        function: "Scellés".into(),
    };
    services::add_service(&w.hub, &w.sender.organisation.to_string(), &service).await.unwrap();
    Ville { w, agent, other_agent, expert }
}

on_both! {
    async fn each_sees_what_their_organisation_may(dialect) {
        let Ville { w, agent, other_agent, expert } = ville(dialect).await;
        let justice = set(&[&w.sender.address, "service@cabinet.example", &w.recipient.address, &expert.address, &w.stranger.address]);
        assert_eq!(addresses(&w, &w.sender, "").await, justice);
        assert_eq!(addresses(&w, &w.stranger, "").await, justice);
        let company = set(&[&w.recipient.address, &expert.address]);
        assert_eq!(addresses(&w, &w.recipient, "").await, company);
        assert_eq!(addresses(&w, &agent, "").await, set(&[&agent.address, "service@cabinet.example"]));
        assert_eq!(addresses(&w, &other_agent, "").await, set(&[&other_agent.address, "service@cabinet.example"]));
        // Nor by naming what they may not see.
        for (who, query) in [
            (&w.recipient, format!("organisation={}", w.sender.organisation)), (&w.recipient, "q=greffe".into()),
            (&agent, "q=expert".into()), (&agent, "kind=person&q=agent%20durand".into()),
            (&w.sender, format!("organisation={}", agent.organisation)),
        ] {
            assert_eq!(addresses(&w, who, &query).await, set(&[]), "{query}");
        }
        // A draft makes nobody known; a deposit at their disposal does.
        let draft = w.draft().await;
        assert_eq!(addresses(&w, &w.recipient, "").await, company);
        w.upload(draft, "a.pdf", b"abc").await;
        w.send(draft).await.expect(202);
        w.jobs().await;
        let mut known = company.clone();
        known.insert(w.sender.address.clone());
        assert_eq!(addresses(&w, &w.recipient, "").await, known);
        assert_eq!(addresses(&w, &w.recipient, "q=greffe").await, set(&[&w.sender.address]));
        assert_eq!(addresses(&w, &expert, "").await, company, "it is not their colleague's");
        // Never a closed box.
        w.change("UPDATE boxes SET closed = $1", args![w.now()]).await;
        w.change("UPDATE boxes SET closed = NULL WHERE id = $1", args![w.sender.id.0]).await;
        assert_eq!(addresses(&w, &w.sender, "").await, set(&[&w.sender.address]));
    }

    async fn found_however_it_is_typed(dialect) {
        let Ville { w, expert, .. } = ville(dialect).await;
        let only = set(&[&expert.address]);
        for query in ["q=elise", "q=%C3%89LISE%20oeuv", "q=L%E2%80%99%C5%92uvre", "q=oeuvre%20el", "speciality=genie%20civil",
            "speciality=PLOMB", "q=plomberie", "q=judiciaire%20elise&kind=person", "q=experts%20elise"] {
            assert_eq!(addresses(&w, &w.sender, query).await, only, "{query}");
        }
        for query in ["q=lise", "q=elise%20durand", "speciality=elise", "speciality=expert", "q=elise&kind=service"] {
            assert_eq!(addresses(&w, &w.sender, query).await, set(&[]), "{query}");
        }
        // By function, by organisation, by court.
        assert_eq!(addresses(&w, &w.sender, "q=scelles").await, set(&["service@cabinet.example"]));
        assert_eq!(addresses(&w, &w.sender, "q=cabinet%20greffe").await, set(&["service@cabinet.example", &w.sender.address]));
        assert_eq!(addresses(&w, &w.sender, "q=autre%20cour&kind=service").await, set(&["service@cabinet.example"]));
        let service = found(&w, &w.sender, "kind=service").await.remove(0);
        assert_eq!((&service["court"], &service["organisation_kind"]), (&json!("Autre cour"), &json!("office")));
        // What folds to nothing narrows nothing; what would match anything in SQL matches itself.
        assert_eq!(addresses(&w, &w.sender, "q=--").await.len(), 5);
        for odd in ["q=%25", "q=_", "q=%27%20OR%201%3D1%20--", "q=%E2%80%AEelise"] {
            w.call(ask("GET", format!("/api/v1/directory?{odd}")).by(&w.sender)).await.expect(200);
        }
        assert_eq!(addresses(&w, &w.sender, "q=e%25").await.len(), addresses(&w, &w.sender, "q=e").await.len());
        for bad in [format!("q={}", "x".repeat(201)), "q=a%20b%20c%20d%20e%20f%20g%20h%20i".into(), format!("after={}", uuid::Uuid::now_v7())] {
            w.call(ask("GET", format!("/api/v1/directory?{bad}")).by(&w.sender)).await.problem(422, "invalid");
        }
        for bad in ["kind=roi", "limit=x", "more=1", "after=x"] {
            assert!(w.call(ask("GET", format!("/api/v1/directory?{bad}")).by(&w.sender)).await.status.is_client_error());
        }
        w.call(ask("GET", format!("/api/v1/directory?q={}", "x".repeat(200))).by(&w.sender)).await.expect(200);
    }

    async fn whoever_is_away_has_a_substitute(dialect) {
        let Ville { w, .. } = ville(dialect).await;
        let substitute = account(&w.hub, w.sender.organisation, "suppleant@cabinet.example", "Suppléant").await;
        let body = json!({ "delegate": substitute.address, "kind": "absence", "starts": w.now().plus_seconds(DAY), "ends": w.now().plus_seconds(2 * DAY) });
        w.call(ask("POST", "/api/v1/delegations").by(&w.sender).json(&body)).await.expect(201);
        w.delegated(&w.sender, &substitute, None, w.now(), w.now().plus_seconds(9 * DAY)).await;
        let absence = async || found(&w, &w.stranger, "q=greffe&kind=person").await.remove(0)["absence"].clone();
        assert_eq!(absence().await, Value::Null, "not yet, and a delegation is no absence");
        w.pass(DAY);
        assert_eq!(absence().await["substitute"], json!({ "address": substitute.address, "name": "Suppléant" }));
        w.change("UPDATE boxes SET closed = $2 WHERE id = $1", args![substitute.id.0, w.now()]).await;
        assert_eq!(absence().await, Value::Null, "the substitute has gone");
        w.change("UPDATE boxes SET closed = NULL WHERE id = $1", args![substitute.id.0]).await;
        w.pass(DAY);
        assert_eq!(absence().await, Value::Null);
    }

    /// More than one request visits: every entry once, in one order, on pages that end.
    async fn a_large_directory_by_pages(dialect) {
        let Ville { w, agent, .. } = ville(dialect).await;
        crowd(&w, w.recipient.organisation, "Foule", 4500).await;
        crowd(&w, agent.organisation, "Guichet", 2100).await;
        let pages = async |who: &Who, query: &str| {
            let (mut after, mut seen, mut calls) = (String::new(), Vec::new(), 0);
            loop {
                let page = ask("GET", format!("/api/v1/directory?limit=200&{query}{after}")).by(who);
                let page = w.call(page).await.expect(200).json();
                seen.extend(page["items"].as_array().unwrap().iter().map(|i| i["address"].as_str().unwrap().to_owned()));
                calls += 1;
                assert!(calls < 60, "pages without end");
                let Some(next) = page["next"].as_str() else { break };
                after = format!("&after={next}");
            }
            let unique: BTreeSet<_> = seen.iter().cloned().collect();
            assert_eq!(unique.len(), seen.len(), "an entry twice");
            (seen, calls)
        };
        assert_eq!(pages(&w.sender, "").await.0.len(), 4505);
        assert_eq!(pages(&w.recipient, "").await.0.len(), 4502);
        assert_eq!(pages(&agent, "").await.0.len(), 2102);
        assert_eq!(pages(&w.sender, "q=foule").await.0.len(), 4500, "a word that most have");
        assert_eq!(pages(&w.sender, "q=foule%2004").await.0.len(), 500, "with one that few have");
        let (rare, calls) = pages(&w.sender, "q=foule%2004321%20agent").await;
        assert_eq!((rare.len(), calls), (1, 1));
        assert_eq!(pages(&w.sender, "q=agent%20expert%20cour").await.0.len(), 0);
        assert_eq!(pages(&agent, "q=agent").await.0.len(), 2101);
        // The order is the same on every page.
        let (seen, _) = pages(&w.sender, "q=foule&kind=person").await;
        assert!(seen.windows(2).all(|pair| pair[0].len() != pair[1].len() || pair[0] < pair[1]));
    }

    /// A search goes by indexes: no plan walks a whole table.
    async fn the_plan_of_each_query(dialect) {
        if dialect != pli_storage::Dialect::Sqlite {
            return; // On a small table PostgreSQL rightly walks.
        }
        let w = World::on(dialect).await;
        for sql in [
            "EXPLAIN QUERY PLAN SELECT 1 FROM box_words WHERE field = 'any' AND word >= x'61' AND word < x'61ff' LIMIT 9",
            "EXPLAIN QUERY PLAN SELECT id FROM boxes WHERE kind = 'service' AND (folded, id) > ('a', x'00') ORDER BY folded, id LIMIT 1 OFFSET 9",
            "EXPLAIN QUERY PLAN SELECT id FROM boxes WHERE TRUE AND (folded, id) > ('a', x'00') ORDER BY folded, id LIMIT 1 OFFSET 9",
            "EXPLAIN QUERY PLAN SELECT b.id FROM boxes b WHERE b.id IN (SELECT box FROM box_words WHERE field = 'any' AND word >= x'61' AND word < x'61ff')
             AND (b.folded || '', b.id) > ('a', x'00') AND EXISTS (SELECT 1 FROM box_words w WHERE w.box = b.id AND w.field = 'any' AND w.word >= x'62')
             ORDER BY b.folded || '', b.id LIMIT 9",
        ] {
            for row in w.rows(sql, args![]).await {
                let detail: String = row.get("detail").unwrap();
                assert!(!detail.starts_with("SCAN") || detail.contains("USING"), "{detail}: {sql}");
            }
        }
    }
}
