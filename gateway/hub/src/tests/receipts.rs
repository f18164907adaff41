//! Receipts and the trail: who is given what, and what holds away from the hub.

use crate::receipts::{self, ReceiptRefused, ReceiptTrust};
use crate::testing::*;
use pli_api::{DepositId, EventId, ReceiptId, ReceiptJson, ReceiptKind};
use pli_signature::Certificate;
use pli_storage::args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Routes of evidence: the status for each caller, about an available deposit that the recipient has read.
pub(crate) struct Row {
    pub(crate) path: &'static str,
    sender: u16,
    recipient: u16,
    stranger: u16,
    /// An auditor of the sender's organisation.
    auditor: u16,
}

pub(crate) const MATRIX: &[Row] = &[
    Row { path: "/api/v1/deposits/{id}/trail", sender: 200, recipient: 404, stranger: 404, auditor: 404 },
    Row { path: "/api/v1/receipts", sender: 200, recipient: 200, stranger: 200, auditor: 200 },
    // The sender's receipt of submission.
    Row { path: "/api/v1/receipts/{id}", sender: 200, recipient: 404, stranger: 404, auditor: 404 },
    Row { path: "/api/v1/journal/checkpoint", sender: 200, recipient: 200, stranger: 200, auditor: 200 },
    // Of the event of availability.
    Row { path: "/api/v1/journal/proof/inclusion", sender: 200, recipient: 404, stranger: 404, auditor: 200 },
    Row {
        path: "/api/v1/journal/proof/consistency",
        sender: 200,
        recipient: 200,
        stranger: 200,
        auditor: 200,
    },
];

/// A deposit that its recipient has read.
async fn read(w: &World) -> (DepositId, Vec<pli_api::DocumentId>) {
    let (deposit, documents) = w.available(&[("PV d'été.pdf", b"abc"), ("b.pdf", b"")]).await;
    w.download(&w.recipient, documents[0]).await.expect(200);
    until("the end of the download", || async { !w.told("download.completed").await.is_empty() }).await;
    w.jobs().await;
    (deposit, documents)
}

async fn listed(w: &World, who: &Who, deposit: DepositId) -> Vec<Value> {
    let reply = w.call(ask("GET", format!("/api/v1/receipts?deposit={deposit}")).by(who)).await;
    reply.expect(200).json()["items"].as_array().unwrap().clone()
}

async fn fetched(w: &World, who: &Who, id: &Value, form: &str) -> Reply {
    w.call(ask("GET", format!("/api/v1/receipts/{}{form}", id.as_str().unwrap())).by(who)).await.expect(200)
}

fn trust() -> ReceiptTrust {
    let seals = Certificate::from_pem(&development().authority).unwrap();
    ReceiptTrust { seals, journal: evidence().verifier_keys(), ..ReceiptTrust::default() }
}

on_both! {
    async fn every_route_of_evidence_and_every_caller(dialect) {
        let w = World::on(dialect).await;
        let auditor = account(&w.hub, w.sender.organisation, "controle@cabinet.example", "Contrôle").await;
        w.change("INSERT INTO roles (account, organisation, role, granted) VALUES ($1, $2, 'auditor', $3)", args![auditor.id.0, auditor.organisation.0, w.now()]).await;
        let delegate = account(&w.hub, w.stranger.organisation, "collegue@cour.example", "Collègue").await;
        let (now, end) = (w.now(), w.now().plus_seconds(DAY));
        let whole = w.delegated(&w.sender, &delegate, None, now, end).await;
        let limited = w.delegated(&w.sender, &delegate, Some(uuid::Uuid::now_v7()), now, end).await;
        let past = w.delegated(&w.sender, &delegate, None, now.plus_seconds(-DAY), now).await;
        let (deposit, _) = read(&w).await;
        let receipt = listed(&w, &w.sender, deposit).await.into_iter().find(|item| item["kind"] == "submission-acceptance").unwrap();
        let event = w.rows("SELECT id FROM events WHERE kind = 'deposit.available'", args![]).await[0].get::<uuid::Uuid>("id").unwrap();
        let size = w.number("SELECT MIN(size) AS n FROM journal_checkpoints", args![]).await;
        let request = |path: &str, known: bool| {
            let (deposit, receipt, event) = if known {
                (deposit.to_string(), receipt["id"].as_str().unwrap().to_owned(), event.to_string())
            } else {
                (DepositId::new().to_string(), ReceiptId::new().to_string(), EventId::new().to_string())
            };
            ask("GET", match path {
                "/api/v1/deposits/{id}/trail" => format!("/api/v1/deposits/{deposit}/trail"),
                "/api/v1/receipts/{id}" => format!("/api/v1/receipts/{receipt}"),
                "/api/v1/journal/proof/inclusion" => format!("{path}?event={event}"),
                "/api/v1/journal/proof/consistency" => format!("{path}?from={size}"),
                path => path.to_owned(),
            })
        };
        for row in MATRIX {
            w.call(request(row.path, true)).await.problem(401, "sign-in-required");
            for (who, expected) in [(&w.sender, row.sender), (&w.recipient, row.recipient), (&w.stranger, row.stranger), (&auditor, row.auditor), (&delegate, row.stranger)] {
                let reply = w.call(request(row.path, true).by(who)).await;
                assert_eq!(reply.status, expected, "{} by {}", row.path, who.address);
                if expected == 404 {
                    let absent = w.call(request(row.path, false).by(who)).await;
                    assert_eq!((reply.status, reply.body), (absent.status, absent.body), "refusal and absence");
                }
            }
            let acting = |delegation: uuid::Uuid| request(row.path, true).by(&delegate).header("pli-delegation", delegation);
            assert_eq!(w.call(acting(whole)).await.status, row.sender, "{}", row.path);
            for refused in [limited, past] {
                w.call(acting(refused)).await.problem(403, "not-delegated");
            }
        }
        assert!(listed(&w, &w.stranger, deposit).await.is_empty());
        // Each is given their own.
        let kinds = |items: Vec<Value>| items.iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(kinds(listed(&w, &w.sender, deposit).await).len(), 3);
        assert_eq!(kinds(listed(&w, &w.recipient, deposit).await), ["content-handover"]);
        for form in [".txt", ".json.pdf", "."] {
            let path = format!("/api/v1/receipts/{}{form}", receipt["id"].as_str().unwrap());
            w.call(ask("GET", path).by(&w.sender)).await.problem(404, "not-found");
        }
        // What was withdrawn since: the recipient's own receipt stays theirs, the trail never was.
        w.change("UPDATE recipients SET withdrawn = $1", args![w.now()]).await;
        assert_eq!(listed(&w, &w.recipient, deposit).await.len(), 1);
    }

    async fn a_receipt_holds_away_from_the_hub(dialect) {
        let w = World::on(dialect).await;
        let (deposit, documents) = read(&w).await;
        for item in listed(&w, &w.sender, deposit).await {
            let pdf = fetched(&w, &w.sender, &item["id"], ".pdf").await;
            assert_eq!(pdf.header("content-type"), Some("application/pdf"));
            let json = fetched(&w, &w.sender, &item["id"], ".json").await;
            let checked = receipts::check(&pdf.body, &trust()).unwrap();
            let receipt: ReceiptJson = serde_json::from_slice(&json.body).unwrap();
            assert_eq!(serde_json::to_value(&checked.receipt).unwrap(), serde_json::to_value(&receipt).unwrap(), "the same is embedded");
            assert!(checked.seal.as_ref().unwrap().0.contains("cachet de développement"));
            assert_eq!(receipts::check(&json.body, &trust()).unwrap().proved, checked.proved);
            assert_eq!((receipt.deposit.id, receipt.deposit.subject.as_str()), (deposit, "Procédure 24/1234"));
            assert_eq!(receipt.deposit.recipients[0].name, "Expert");
            assert_eq!(checked.proved, receipt.documents.len(), "the journal proves each digest");
            let first = &receipt.documents[0];
            assert_eq!((first.id, first.name.as_str(), first.size, first.sha256.as_deref()), (documents[0], "PV d'été.pdf", 3, Some(hex::encode(sha256(b"abc")).as_str())));
            let (expected, given) = match receipt.kind {
                ReceiptKind::SubmissionAcceptance | ReceiptKind::ContentConsignment => (2, 1),
                ReceiptKind::ContentHandover => (1, 2),
            };
            assert_eq!((receipt.documents.len(), receipt.given_to.len()), (expected, given));
            // The journal knows the file that was given out.
            let issued = w.told("receipt.issued").await;
            assert!(issued.iter().any(|told| told.detail["sha256"] == hex::encode(sha256(&pdf.body))));
        }
        // Once each, whatever is downloaded again.
        w.download(&w.recipient, documents[0]).await.expect(200);
        until("the second download", || async { w.told("download.completed").await.len() == 2 }).await;
        w.jobs().await;
        assert_eq!(listed(&w, &w.sender, deposit).await.len(), 3);
        // They outlive what they are about.
        w.pass(31 * DAY);
        w.jobs().await;
        for item in listed(&w, &w.sender, deposit).await {
            receipts::check(&fetched(&w, &w.sender, &item["id"], ".pdf").await.body, &trust()).unwrap();
        }
    }

    async fn a_receipt_that_was_changed_does_not_hold(dialect) {
        let w = World::on(dialect).await;
        let (deposit, _) = read(&w).await;
        let items = listed(&w, &w.sender, deposit).await;
        let item = items.iter().find(|item| item["kind"] == "content-consignment").unwrap();
        let pdf = fetched(&w, &w.sender, &item["id"], ".pdf").await.body;
        let json = fetched(&w, &w.sender, &item["id"], ".json").await.json();
        for at in [200, pdf.len() / 2] {
            let mut bad = pdf.to_vec();
            bad[at] ^= 1;
            receipts::check(&bad, &trust()).unwrap_err();
        }
        let no_seal = ReceiptTrust { seals: Vec::new(), ..trust() };
        assert!(matches!(receipts::check(&pdf, &no_seal), Err(ReceiptRefused::NoTrust(_))));
        let other = pli_signature::development_seal(w.now().plus_seconds(-DAY), 30).unwrap();
        let another = ReceiptTrust { seals: Certificate::from_pem(&other.authority).unwrap(), ..trust() };
        assert!(matches!(receipts::check(&pdf, &another), Err(ReceiptRefused::Seal(_))));
        let no_key = ReceiptTrust { journal: Vec::new(), ..trust() };
        receipts::check(&pdf, &no_key).unwrap();
        assert!(matches!(receipts::check(json.to_string().as_bytes(), &no_key), Err(ReceiptRefused::NoTrust(_))));
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 9] = [
            ("digest", |json| json["documents"][0]["sha256"] = json!("00".repeat(32))),
            ("size", |json| json["documents"][0]["size"] = json!(4)),
            ("instant", |json| json["deposit"]["available"] = json!("2020-01-01T00:00:00Z")),
            ("kind", |json| json["kind"] = json!("content-handover")),
            ("leaf", |json| json["events"][0]["leaf"] = json!(json["events"][0]["leaf"].as_str().unwrap().replace("available", "sent"))),
            ("index", |json| json["events"][0]["index"] = json!(0)),
            ("proof", |json| json["events"][0]["proof"].as_array_mut().unwrap().clear()),
            ("events", |json| json["events"] = json!([])),
            ("deposit", |json| json["deposit"]["id"] = json!(DepositId::new())),
        ];
        receipts::check(json.to_string().as_bytes(), &trust()).unwrap();
        for (what, change) in changes {
            let mut json = json.clone();
            change(&mut json);
            assert!(receipts::check(json.to_string().as_bytes(), &trust()).is_err(), "{what}");
        }
        assert!(matches!(receipts::check(b"{}", &trust()), Err(ReceiptRefused::Form(_))));
        assert!(matches!(receipts::check(b"", &trust()), Err(ReceiptRefused::Form(_))));
    }

    async fn a_document_is_handed_over_by_its_last_octet(dialect) {
        let w = World::on(dialect).await;
        let (deposit, documents) = w.available(&[("a.pdf", &noise(1, 1000))]).await;
        let handover = async || listed(&w, &w.recipient, deposit).await.len();
        let asked = [("bytes=0-399", 0), ("bytes=600-999", 0), ("bytes=300-599", 1)];
        for (before, (range, handed)) in asked.into_iter().enumerate() {
            w.call(content_of(documents[0]).header("range", range).by(&w.recipient)).await.expect(206);
            until("its end", || async { w.told("download.completed").await.len() == before + 1 }).await;
            w.jobs().await;
            assert_eq!(handover().await, handed, "{range}");
        }
        // The sender's own reading hands nothing over.
        let (other, documents) = w.available(&[("a.pdf", &noise(1, 1000))]).await;
        w.download(&w.sender, documents[0]).await.expect(200);
        until("its end", || async { w.told("download.completed").await.len() == 4 }).await;
        w.jobs().await;
        assert_eq!(listed(&w, &w.sender, other).await.len(), 2);
        // A whole ZIP hands over everything.
        w.call(ask("GET", format!("/api/v1/deposits/{other}/zip")).by(&w.recipient)).await.expect(200);
        until("its end", || async { w.told("download.completed").await.len() == 5 }).await;
        w.jobs().await;
        assert_eq!(listed(&w, &w.recipient, other).await.len(), 1);
    }

    async fn the_sender_sees_the_trail_of_what_they_sent(dialect) {
        let w = World::on(dialect).await;
        let (deposit, documents) = read(&w).await;
        let page = |query: String| w.call(ask("GET", format!("/api/v1/deposits/{deposit}/trail{query}")).by(&w.sender));
        let trail = page(String::new()).await.expect(200).json();
        let items = trail["items"].as_array().unwrap();
        let of = |kind: &str| items.iter().find(|item| item["kind"] == kind).unwrap();
        assert_eq!(of("deposit.sent")["actor"]["name"], "Greffe");
        let completed = of("download.completed");
        assert_eq!((&completed["actor"]["address"], &completed["document"]["name"], &completed["detail"]["bytes"]), (&json!("expert@experts.example"), &json!("PV d'été.pdf"), &json!(3)));
        assert_eq!(completed["document"]["id"], documents[0].to_string());
        assert!(items.iter().all(|item| item["seq"].is_u64()));
        // Names are those of now.
        w.change("UPDATE boxes SET name = 'Nom nouveau' WHERE id = $1", args![w.recipient.id.0]).await;
        let again = page(String::new()).await.json();
        assert!(again["items"].as_array().unwrap().iter().any(|item| item["actor"]["name"] == "Nom nouveau"));
        // Page by page.
        let (mut after, mut seen) = (String::new(), 0);
        loop {
            let part = page(format!("?limit=2{after}")).await.expect(200).json();
            seen += part["items"].as_array().unwrap().len();
            let Some(next) = part["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, items.len());
    }

    /// With the loops of a process that serves, and nobody asking for jobs.
    async fn a_receipt_comes_by_itself(dialect) {
        let w = World::on(dialect).await;
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (hub, stop) = (w.hub.clone(), stop.clone());
            async move { hub.run_jobs(stop).await }
        });
        let deposit = w.draft().await;
        w.upload(deposit, "a.pdf", b"abc").await;
        w.send(deposit).await.expect(202);
        // The clock of the tests stands; the log waits for its second.
        until("a receipt", || async {
            w.pass(1);
            listed(&w, &w.sender, deposit).await.len() == 2
        }).await;
        stop.cancel();
        serving.await.unwrap();
    }
}
