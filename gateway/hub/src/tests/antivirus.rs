//! The antivirus, with a real clamd whose only signatures are those of the EICAR test file.
//!
//! Run under `tests/env/with.sh postgres clamd --`. What kills or freezes clamd starts one of its own.

use crate::antivirus::{self, probe};
use crate::clamd::{Answer, Clamd, ClamdAddress, ClamdError};
use crate::testing::*;
use crate::{AntivirusOptions, HubOptions};
use pli_api::{DepositId, DocumentId, NotAnalysed, OrganisationKind};
use pli_storage::{Dialect, args};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// `MaxScanSize` of `tests/env/clamd.sh`.
const MAX_SIZE: u64 = 3 << 20;
const PATIENCE: i64 = 600;

fn shared() -> AntivirusOptions {
    let host = std::env::var("PLI_TEST_CLAMD").expect("run under tests/env/with.sh clamd --");
    options(ClamdAddress::Tcp(host))
}

fn options(clamd: ClamdAddress) -> AntivirusOptions {
    let (stall, scan) = (Duration::from_secs(20), Duration::from_secs(60));
    AntivirusOptions { clamd, max_size: MAX_SIZE, stall, scan, patience: PATIENCE }
}

fn with(antivirus: AntivirusOptions) -> impl FnOnce(&mut HubOptions) {
    move |options| options.antivirus = Some(antivirus)
}

/// A clamd of this test's own; it ends with it.
struct Own {
    folder: tempfile::TempDir,
    alerts: &'static str,
}

impl Own {
    fn started(alerts: &'static str) -> Self {
        let own = Self { folder: tempfile::tempdir().unwrap(), alerts };
        own.script("start");
        own
    }

    fn script(&self, action: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/env/clamd.sh");
        let mut command = Command::new(script);
        let out =
            command.arg(action).arg(self.folder.path()).env("PLI_TEST_CLAMD_ALERTS", self.alerts).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }

    /// By its Unix socket, so that both ways are tried.
    fn options(&self) -> AntivirusOptions {
        options(ClamdAddress::Unix(self.folder.path().join("clamd.sock")))
    }

    fn client(&self) -> Clamd {
        let AntivirusOptions { clamd, stall, scan, .. } = self.options();
        Clamd { address: clamd, stall, scan }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A frozen one does not hear that it should end.
        for action in ["thaw", "kill"] {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/env/clamd.sh");
            let _ = Command::new(script).arg(action).arg(self.folder.path()).output();
        }
    }
}

impl World {
    async fn scan(&self, document: DocumentId) -> Value {
        self.document(document).await["scan"].clone()
    }

    async fn sent(&self, content: &[u8]) -> (DepositId, DocumentId) {
        let deposit = self.draft().await;
        let document = self.upload(deposit, "pièce.bin", content).await;
        self.send(deposit).await.expect(202);
        (deposit, document)
    }

    async fn state_of(&self, deposit: DepositId) -> Value {
        self.deposit(&self.sender, deposit).await.expect(200).json()["state"].clone()
    }

    /// Nobody gets a byte of it.
    async fn is_kept_from_all(&self, deposit: DepositId, document: DocumentId, code: &str) {
        self.download(&self.sender, document).await.problem(403, code);
        self.call(ask("GET", format!("/api/v1/deposits/{deposit}/zip")).by(&self.sender))
            .await
            .problem(403, code);
        self.call(content_of(document).method(&http::Method::HEAD).by(&self.sender)).await.expect(403);
        self.download(&self.recipient, document).await.problem(404, "not-found");
        self.deposit(&self.recipient, deposit).await.problem(404, "not-found");
        assert_eq!(self.state_of(deposit).await, "sent");
    }
}

fn not_analysed(reason: NotAnalysed) -> Value {
    json!({ "state": "not_analysed", "reason": reason })
}

on_both! {
    async fn what_is_clean_is_released(dialect) {
        let w = Ground::on(dialect).options(with(shared())).build().await;
        for content in [b"bonjour".to_vec(), Vec::new(), noise(1, SEGMENT * 3 + 7), probe::archive(b"bonjour")] {
            let (deposit, document) = w.sent(&content).await;
            assert_eq!(w.scan(document).await, json!({ "state": "pending" }));
            w.deposit(&w.recipient, deposit).await.problem(404, "not-found");
            w.jobs().await;
            assert_eq!(w.scan(document).await, json!({ "state": "clean" }));
            assert!(w.download(&w.recipient, document).await.expect(200).body == content);
        }
        for told in w.told("scan.done").await {
            assert_eq!(told.detail["verdict"], "clean");
            assert!(told.detail["engine"].as_str().unwrap().starts_with("ClamAV "));
        }
        assert!(w.told("deposit.held").await.is_empty());
        w.is_sound().await;
    }

    async fn what_is_infected_leaves_for_nobody(dialect) {
        let w = Ground::on(dialect).options(with(shared())).build().await;
        let eicar = probe::eicar();
        let in_text = [b"a".repeat(SEGMENT - 30), eicar.clone(), b"b".to_vec()].concat();
        let zipped = probe::archive(&eicar);
        let cases = [("raw", eicar), ("across two segments", in_text), ("in a ZIP", zipped.clone()), ("in a ZIP in a ZIP", probe::archive(&zipped))];
        for (name, content) in cases {
            let (deposit, document) = w.sent(&content).await;
            w.jobs().await;
            let scan = w.scan(document).await;
            assert_eq!(scan["state"], "infected", "{name}");
            assert!(scan["signature"].as_str().unwrap().starts_with("Pli.Test.EICAR"), "{scan}");
            w.is_kept_from_all(deposit, document, "infected").await;
        }
        assert_eq!(w.told("scan.done").await.len(), 4);
        assert_eq!(w.told("deposit.held").await.len(), 4);
        assert!(w.told("download.begun").await.is_empty());

        // Known while it is a draft: it is not sent, and it can be taken out.
        let deposit = w.draft().await;
        let begun = w.begin(deposit, "b", Some(68)).await;
        w.patch(begun.id, 0, &probe::eicar()).await.expect(204);
        w.jobs().await;
        w.send(deposit).await.problem(403, "infected");
        w.call(tus("DELETE", format!("/api/v1/uploads/{}", begun.id)).by(&w.sender)).await.expect(204);
        w.upload(deposit, "c", b"bonjour").await;
        w.jobs().await;
        w.send(deposit).await.expect(202);
        w.deposit(&w.recipient, deposit).await.expect(200);

        // One infected document holds the deposit; the others of it are not given out by themselves.
        let deposit = w.draft().await;
        let good = w.upload(deposit, "bon", b"bonjour").await;
        w.upload(deposit, "mauvais", &probe::eicar()).await;
        w.send(deposit).await.expect(202);
        w.jobs().await;
        assert_eq!(w.scan(good).await["state"], "clean");
        w.download(&w.recipient, good).await.problem(404, "not-found");
        // Not even when its organisation takes what was not analysed.
        let takes = |who: &Who| who.organisation.to_string();
        assert_eq!(antivirus::set_takes_unanalysed(&w.hub, &takes(&w.recipient), true).await.unwrap(), 0);
        assert_eq!(w.state_of(deposit).await, "sent");
        w.is_sound().await;

        // Held for as long as it would have been available; then its keys go.
        w.pass(31 * DAY);
        w.jobs().await;
        w.jobs().await;
        assert_eq!(w.state_of(deposit).await, "expired");
        assert_eq!(w.used().await, 0);
        w.store_is_empty().await;
        w.is_sound().await;
    }

    async fn what_the_engine_does_not_read_in_full_is_never_clean(dialect) {
        let w = Ground::on(dialect).options(with(shared())).build().await;
        let bomb = probe::oversized(50 << 20);
        let armoured = b"-----BEGIN PGP MESSAGE-----\n\nwcBMA0000\n-----END PGP MESSAGE-----\n";
        let cases: &[(&str, Vec<u8>, NotAnalysed)] = &[
            ("encrypted", probe::encrypted(), NotAnalysed::Encrypted),
            ("an archive with something encrypted", probe::archive(&probe::encrypted()), NotAnalysed::Encrypted),
            ("an OpenPGP message", armoured.to_vec(), NotAnalysed::Encrypted),
            ("larger than is sent to the engine", noise(2, (3 << 20) + 1), NotAnalysed::TooLarge),
            ("a member of 50 MiB", bomb.clone(), NotAnalysed::TooLarge),
            ("an archive in the archive with it", probe::archive(&bomb), NotAnalysed::TooLarge),
            ("110 archives deep", probe::nested(110), NotAnalysed::TooLarge),
        ];
        for (name, content, reason) in cases {
            let (deposit, document) = w.sent(content).await;
            w.jobs().await;
            assert_eq!(w.scan(document).await, not_analysed(*reason), "{name}");
            w.deposit(&w.recipient, deposit).await.problem(404, "not-found");
            assert_eq!(w.state_of(deposit).await, "sent", "{name}");
            // What is their own they may have.
            assert!(w.download(&w.sender, document).await.expect(200).body == *content);
        }
        assert_eq!(w.told("deposit.held").await.len(), cases.len());
        w.is_sound().await;
    }

    async fn an_organisation_says_whether_it_takes_what_was_not_analysed(dialect) {
        let w = Ground::on(dialect).options(with(shared())).build().await;
        let (deposit, document) = w.sent(&probe::encrypted()).await;
        w.jobs().await;
        assert_eq!(w.state_of(deposit).await, "sent");
        // The sender's own does not matter.
        antivirus::set_takes_unanalysed(&w.hub, &w.sender.organisation.to_string(), true).await.unwrap();
        assert_eq!(w.state_of(deposit).await, "sent");
        w.pass(DAY);
        let named = "Experts";
        assert_eq!(antivirus::set_takes_unanalysed(&w.hub, named, true).await.unwrap(), 1);
        let told = w.deposit(&w.recipient, deposit).await.expect(200).json();
        assert_eq!(told["state"], "available");
        assert_eq!(told["documents"][0]["scan"], not_analysed(NotAnalysed::Encrypted));
        assert_eq!(told["expires"], json!(w.now().plus_seconds(30 * DAY)), "counted from its release");
        w.download(&w.recipient, document).await.expect(200);
        let zip = || ask("GET", format!("/api/v1/deposits/{deposit}/zip"));
        w.call(zip().by(&w.recipient)).await.expect(200);

        // Someone of an organisation that does not, however they came to be a recipient.
        let sql = "INSERT INTO recipients (deposit, box, added) VALUES ($1, $2, $3)";
        w.change(sql, args![deposit.0, w.stranger.id.0, w.now()]).await;
        w.deposit(&w.stranger, deposit).await.expect(200);
        w.download(&w.stranger, document).await.problem(403, "not-analysed");
        w.call(zip().by(&w.stranger)).await.problem(403, "not-analysed");
        // And one that no longer does.
        antivirus::set_takes_unanalysed(&w.hub, named, false).await.unwrap();
        w.download(&w.recipient, document).await.problem(403, "not-analysed");
        w.download(&w.sender, document).await.expect(200);

        // Two recipients, one of whom does not take it.
        antivirus::set_takes_unanalysed(&w.hub, named, true).await.unwrap();
        let body = json!({ "recipients": [w.recipient.address, w.stranger.address], "subject": "x" });
        let both = w.call(ask("POST", "/api/v1/deposits").by(&w.sender).json(&body)).await.expect(201).json();
        let both: DepositId = both["id"].as_str().unwrap().parse().unwrap();
        w.upload(both, "a", &probe::encrypted()).await;
        w.jobs().await;
        w.send(both).await.expect(202);
        assert_eq!(w.state_of(both).await, "sent");
        assert!(antivirus::set_takes_unanalysed(&w.hub, "Nulle part", true).await.is_err());
        w.is_sound().await;
    }

    async fn an_engine_that_is_down_is_asked_again_for_a_time(dialect) {
        let own = Own::started("yes");
        let w = Ground::on(dialect).options(with(own.options())).build().await;
        own.script("kill");
        let (first, _) = w.sent(b"bonjour").await;
        let (second, infected) = w.sent(&probe::eicar()).await;
        for _ in 0..4 {
            w.jobs().await;
            w.pass(60);
        }
        assert_eq!(w.state_of(first).await, "sent");
        assert_eq!(w.scan(infected).await, json!({ "state": "pending" }));
        own.script("start");
        w.pass(PATIENCE / 2);
        w.jobs().await;
        assert_eq!(w.state_of(first).await, "available");
        assert_eq!(w.scan(infected).await["state"], "infected");
        assert_eq!(w.state_of(second).await, "sent");

        own.script("kill");
        let (third, document) = w.sent(b"bonjour").await;
        w.jobs().await;
        w.pass(PATIENCE);
        w.jobs().await;
        assert_eq!(w.scan(document).await, not_analysed(NotAnalysed::EngineDown));
        assert_eq!(w.state_of(third).await, "sent");
        // The operator has it asked again.
        own.script("start");
        assert_eq!(antivirus::rescan(&w.hub, &[NotAnalysed::EngineDown]).await.unwrap(), 1);
        assert_eq!(antivirus::rescan(&w.hub, &[NotAnalysed::EngineDown]).await.unwrap(), 0);
        w.jobs().await;
        assert_eq!(w.scan(document).await, json!({ "state": "clean" }));
        assert_eq!(w.state_of(third).await, "available");
        w.is_sound().await;
    }

    async fn an_engine_that_stands_still_gives_no_verdict(dialect) {
        let own = Own::started("yes");
        let slow = AntivirusOptions { stall: Duration::from_millis(200), patience: i64::MAX / 2_000_000, ..own.options() };
        let w = Ground::on(dialect).options(with(slow)).build().await;
        let (first, document) = w.sent(b"bonjour").await;
        own.script("freeze");
        w.jobs().await;
        assert_eq!(w.scan(document).await, json!({ "state": "pending" }));
        own.script("thaw");
        let scanned = async || {
            w.pass(4000);
            w.jobs().await;
            w.state_of(first).await == "available"
        };
        until("the engine to answer again", scanned).await;
        assert_eq!(w.scan(document).await, json!({ "state": "clean" }));
        w.is_sound().await;
    }

    /// As Debian installs it: « OK » for what is encrypted or over its limits.
    async fn an_engine_that_does_not_tell_its_limits_is_not_believed(dialect) {
        let own = Own::started("no");
        let w = Ground::on(dialect).options(with(own.options())).build().await;
        let (deposit, document) = w.sent(b"bonjour").await;
        w.jobs().await;
        w.pass(PATIENCE);
        w.jobs().await;
        assert_eq!(w.scan(document).await, not_analysed(NotAnalysed::EngineDown));
        assert_eq!(w.state_of(deposit).await, "sent");
    }

    async fn two_workers_give_one_verdict_each(dialect) {
        let w = Ground::on(dialect).options(with(shared())).build().await;
        let other = w.node().await;
        let mut documents = Vec::new();
        for number in 0..6 {
            documents.push(w.sent(&if number % 2 == 0 { probe::eicar() } else { noise(number, 1000) }).await.1);
        }
        let (one, two) = tokio::join!(w.hub.run_due_jobs(), other.run_due_jobs());
        one.unwrap();
        two.unwrap();
        w.jobs().await;
        for (number, document) in documents.iter().enumerate() {
            let state = if number % 2 == 0 { "infected" } else { "clean" };
            assert_eq!(w.scan(*document).await["state"], state);
        }
        let mut told: Vec<_> = w.told("scan.done").await.into_iter().map(|told| told.document.unwrap()).collect();
        told.sort_unstable_by_key(|id| id.0);
        documents.sort_unstable_by_key(|id| id.0);
        assert_eq!(told, documents);
        w.is_sound().await;
    }

    async fn without_an_antivirus_nothing_is_called_clean(dialect) {
        let w = World::on(dialect).await;
        let (deposit, documents) = w.available(&[("a", b"bonjour"), ("b", &probe::eicar())]).await;
        for document in documents {
            assert_eq!(w.scan(document).await, not_analysed(NotAnalysed::Disabled));
            w.download(&w.recipient, document).await.expect(200);
        }
        assert!(w.told("scan.done").await.is_empty() && w.told("deposit.held").await.is_empty());
        assert_eq!(w.state_of(deposit).await, "available");
        w.is_sound().await;
    }

    async fn a_document_that_does_not_open_is_damaged_and_not_clean(dialect) {
        let w = Ground::on(dialect).options(with(shared())).build().await;
        let content = noise(9, 2 * SEGMENT);
        let (deposit, document) = w.sent(&content).await;
        let objects = w.pieces(document).await;
        let object = objects.last().unwrap();
        let mut sealed = w.blobs.read(object, 1 << 30).await.unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        w.blobs.put(object, vec![sealed.into()]).await.unwrap();
        for _ in 0..4 {
            w.jobs().await;
            w.pass(60);
        }
        assert_eq!(w.document(document).await["state"], "damaged");
        assert_eq!(w.scan(document).await, json!({ "state": "pending" }));
        assert_eq!(w.state_of(deposit).await, "sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_killed_in_the_middle_gives_no_answer() {
    let own = Own::started("yes");
    let client = own.client();
    assert!(client.version().await.unwrap().starts_with("ClamAV "));
    client.ping().await.unwrap();
    let mut stream = client.stream().await.unwrap();
    assert!(stream.give(b"bonjour").await.unwrap());
    own.script("kill");
    let mut outcome = Ok(true);
    while let Ok(true) = outcome {
        outcome = stream.give(&[0; 1 << 16]).await;
    }
    assert!(matches!(stream.end().await, Err(ClamdError::Cut)));
    assert!(matches!(client.ping().await, Err(ClamdError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_takes_nothing_is_given_up() {
    let own = Own::started("yes");
    let client =
        Clamd { stall: Duration::from_millis(200), scan: Duration::from_millis(200), ..own.client() };
    let mut stream = client.stream().await.unwrap();
    own.script("freeze");
    assert!(stream.give(b"bonjour").await.unwrap(), "the system takes it");
    assert!(matches!(stream.end().await, Err(ClamdError::Late(_))));
    assert!(matches!(client.ping().await, Err(ClamdError::Late(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_over_the_engines_limit_is_told() {
    let AntivirusOptions { clamd: address, stall, scan, .. } = shared();
    let client = Clamd { address, stall, scan };
    // StreamMaxLength is 4 MiB.
    let mut stream = client.stream().await.unwrap();
    let mut given = 0_usize;
    while stream.give(&[0; 1 << 20]).await.unwrap() {
        given += 1;
        assert!(given < 100, "it has to end");
    }
    assert_eq!(stream.end().await.unwrap(), Answer::StreamTooLong);
    // Under it, and over MaxFileSize.
    let mut stream = client.stream().await.unwrap();
    assert!(stream.give(&noise(3, (3 << 20) + 100)).await.unwrap());
    assert_eq!(
        stream.end().await.unwrap(),
        Answer::Found("Heuristics.Limits.Exceeded.MaxFileSize".to_owned())
    );
}

/// The members of a ZIP are cut at `MaxFileSize` in silence: only `MaxScanSize` tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_size_that_is_configured_must_be_the_engines() {
    let fit = shared();
    assert!(antivirus::check(&fit).await.unwrap().starts_with("ClamAV "));
    let smaller = AntivirusOptions { max_size: 1 << 20, ..fit };
    let fault = antivirus::check(&smaller).await.unwrap_err();
    assert!(fault.sentence().contains("MaxScanSize"), "{}", fault.sentence());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_of_before_the_antivirus_stay_as_they_were() {
    let w = World::on(Dialect::Sqlite).await;
    let (deposit, documents) = w.available(&[("a", b"bonjour")]).await;
    // As the migration leaves them; then the operator turns an antivirus on.
    let mut options = w.hub.options().clone();
    options.antivirus = Some(shared());
    let hub = crate::Hub::new(
        w.hub.db().clone(),
        w.blobs.clone(),
        w.hub.keys().clone(),
        options,
        crate::Clock::Set(w.clock.clone()),
    );
    assert_eq!(antivirus::rescan(&hub, &[NotAnalysed::Disabled]).await.unwrap(), 1);
    hub.run_due_jobs().await.unwrap();
    assert_eq!(w.scan(documents[0]).await, json!({ "state": "clean" }));
    assert_eq!(w.state_of(deposit).await, "available");
    assert_eq!(w.told("deposit.available").await.len(), 1);
    let named = crate::admin::add_organisation(&w.hub, OrganisationKind::Office, "Experts", 1).await;
    named.unwrap();
    assert!(antivirus::set_takes_unanalysed(&w.hub, "Experts", true).await.is_err(), "two of that name");
}
