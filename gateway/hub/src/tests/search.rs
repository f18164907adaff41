//! Lists of boxes and what a search finds in them.

use super::messages::{list, own_box, path, procedure, sent, service, subjects, to};
use crate::testing::*;
use serde_json::json;
use std::collections::BTreeSet;

/// A query as it stands in an address.
fn q(query: &str) -> String {
    let mut encoded = String::from("?q=");
    for byte in query.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b':' | b'-' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

on_both! {
    async fn pages_of_several_boxes(dialect) {
        let w = World::on(dialect).await;
        service(&w.hub, w.recipient.organisation, "accueil@experts.example", "Accueil", &[&w.recipient]).await;
        service(&w.hub, w.recipient.organisation, "bureau@experts.example", "Bureau", &[&w.recipient]).await;
        // At the same instant, some of them in several boxes: the order is still one.
        for n in 0..5 {
            let all = json!([w.recipient.address, "accueil@experts.example", "bureau@experts.example"]);
            sent(&w, &w.sender, json!({ "to": all, "subject": format!("même instant {n}") })).await;
        }
        for n in 0..4 {
            w.pass(1);
            let to = if n % 2 == 0 { "accueil@experts.example" } else { &w.recipient.address };
            sent(&w, &w.sender, json!({ "to": [to], "subject": format!("plus tard {n}") })).await;
        }
        let whole = list(&w, &w.recipient, "?limit=200").await;
        assert_eq!(whole.len(), 19);
        let expected: Vec<_> = whole.iter().take(4).map(|item| item["subject"].clone()).collect();
        assert_eq!(expected, ["plus tard 3", "plus tard 2", "plus tard 1", "plus tard 0"]);
        for limit in [1, 2, 3, 7, 19] {
            let (mut after, mut paged) = (String::new(), Vec::new());
            loop {
                let page = w.call(ask("GET", format!("/api/v1/inbox?limit={limit}{after}")).by(&w.recipient)).await.expect(200).json();
                paged.extend(page["items"].as_array().unwrap().clone());
                match page["next"].as_str() {
                    Some(next) => after = format!("&after={next}"),
                    None => break,
                }
            }
            assert_eq!(paged, whole, "pages of {limit}");
        }
        let unique: BTreeSet<_> = whole.iter().map(|item| (item["message"].to_string(), item["box"]["address"].to_string())).collect();
        assert_eq!(unique.len(), 19);
        w.call(ask("GET", "/api/v1/inbox?after=x").by(&w.recipient)).await.problem(422, "invalid");
        w.call(ask("GET", "/api/v1/inbox?folder=corbeille").by(&w.recipient)).await.expect(400);
        assert_eq!(list(&w, &w.sender, "?folder=sent").await.len(), 9);
        assert!(list(&w, &w.sender, "").await.is_empty());
    }

    async fn each_criterion(dialect) {
        let w = World::on(dialect).await;
        let case = procedure(&w, "Incendie de l'Hôtel-Dieu", "n° 24/1234-A", &[
            (own_box(&w.sender), "manager"), (own_box(&w.recipient), "reader")]).await;
        w.clock.store(pli_time("2026-03-10T08:00:00Z"), std::sync::atomic::Ordering::SeqCst);
        let first = sent(&w, &w.sender, json!({ "to": [w.recipient.address], "procedure": case, "kind": "mission",
            "subject": "Désignation de l'expert", "body": "Les expertises ordonnées portent sur le gros œuvre du bâtiment." })).await;
        w.clock.store(pli_time("2026-07-13T22:30:00Z"), std::sync::atomic::Ordering::SeqCst);
        sent(&w, &w.sender, json!({ "to": [w.stranger.address], "copy": [w.recipient.address],
            "subject": "Réunion d'été", "body": "Le bâtiment sera visité. L'œuvre de gros calibre." })).await;
        sent(&w, &w.recipient, to(&w.sender, "Question", "Faut-il visiter le bâtiment ?")).await;
        w.call(ask("POST", path(&first) + "/read").by(&w.recipient)).await.expect(204);

        let (a, b, c) = ("Désignation de l'expert", "Réunion d'été", "Question");
        for (query, found) in [
            ("", vec![b, a]),
            ("bâtiment", vec![c, b, a]),
            ("BATIMENTS", vec![c, b, a]),
            ("expertise", vec![a]),
            ("ordonnee", vec![a]),
            ("gros oeuvre", vec![b, a]),
            ("\"gros œuvre\"", vec![a]),
            ("\"du bâtiment\" expertise", vec![a]),
            ("\"œuvre du bâti\"", vec![]),
            ("visite bâtiment", vec![c, b]),
            ("inexistant", vec![]),
            ("de:greffe", vec![b, a]),
            ("de:greffe@cabinet.example", vec![b, a]),
            ("de:@cabinet.example", vec![b, a]),
            ("de:@abinet.example", vec![]),
            ("de:ref", vec![]),
            ("de:EXP", vec![c]),
            ("a:autre", vec![b]),
            ("à:expert@experts.example", vec![b, a]),
            ("a:%", vec![]),
            ("dossier:24/1234-A", vec![]),
            ("dossier:\"n° 24/1234-A\"", vec![a]),
            ("dossier:hôtel", vec![a]),
            ("dossier:\"dieu incendie\"", vec![a]),
            ("dossier:autre", vec![]),
            ("est:lu", vec![a]),
            ("est:nonlu", vec![b]),
            ("est:archive", vec![]),
            ("type:mission", vec![a]),
            ("type:correspondance bâtiment", vec![c, b]),
            ("type:avis", vec![]),
            // Midnight in France, not in Greenwich.
            ("apres:14/07/2026", vec![c, b]),
            ("apres:2026-07-15", vec![]),
            ("avant:14/07/2026", vec![a]),
            ("avant:11/03/2026 apres:10/03/2026", vec![a]),
            ("apres:11/03/2026 est:nonlu de:greffe visite", vec![b]),
        ] {
            if query == "a:%" {
                w.call(ask("GET", format!("/api/v1/inbox{}", q(query))).by(&w.recipient)).await.problem(422, "invalid");
                continue;
            }
            assert_eq!(subjects(&w, &w.recipient, &q(query)).await, found, "{query}");
        }
        // What one box has, no other finds; nor a procedure that one does not see.
        assert_eq!(subjects(&w, &w.stranger, &q("bâtiment")).await, [b]);
        assert!(subjects(&w, &w.stranger, &q("expertise")).await.is_empty());
        w.change("UPDATE procedure_members SET removed = $2 WHERE box = $1", pli_storage::args![w.recipient.id.0, w.now()]).await;
        assert!(subjects(&w, &w.recipient, &q("dossier:hôtel")).await.is_empty());
        // A folder narrows a search too.
        assert_eq!(subjects(&w, &w.recipient, &(q("bâtiment") + "&folder=sent")).await, [c]);
        assert_eq!(subjects(&w, &w.recipient, &(q("bâtiment") + "&folder=received&limit=1")).await, [b]);
        w.call(ask("PUT", path(&first) + "/archive").by(&w.recipient)).await.expect(204);
        assert_eq!(subjects(&w, &w.recipient, &q("est:archive expertise")).await, [a]);
        assert_eq!(subjects(&w, &w.recipient, &q("expertise")).await, [a]);
        // What is not understood is said in French.
        for (query, said) in [("objet:x", "n'est pas un critère"), ("avant:demain", "n'est pas une date"), ("le", "trop courant"), ("\"a", "guillemet")] {
            let reply = w.call(ask("GET", format!("/api/v1/inbox{}", q(query))).by(&w.recipient)).await.problem(422, "invalid");
            let detail = reply.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.starts_with("Recherche : ") && detail.contains(said), "{query}: {detail}");
        }
        // Nothing that is typed is SQL.
        for query in ["de:x'--", "a:x';drop", "etiquette:x'", "dossier:\"') OR 1=1 --\"", "\"' OR ''='\"", "o'brien"] {
            assert!(subjects(&w, &w.recipient, &q(query)).await.is_empty(), "{query}");
        }
    }

    async fn a_long_text_is_indexed_within_limits(dialect) {
        let w = World::on(dialect).await;
        let words: Vec<String> = (0..10_000).map(|n| format!("mot{n:05}")).collect();
        let body: String = words.join(" ").chars().take(99_000).collect();
        sent(&w, &w.sender, to(&w.recipient, "long", &body)).await;
        let kept = w.number("SELECT COUNT(*) AS n FROM message_words", pli_storage::args![]).await;
        assert!((1000..=4001).contains(&kept), "{kept}");
        assert_eq!(subjects(&w, &w.recipient, &q("mot00001")).await, ["long"]);
        let item = &list(&w, &w.recipient, "").await[0];
        assert_eq!(item["excerpt"].as_str().unwrap().chars().count(), 200);
    }
}

fn pli_time(text: &str) -> i64 {
    serde_json::from_value::<pli_api::Time>(json!(text)).unwrap().micros()
}
