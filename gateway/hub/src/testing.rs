//! The common ground of the tests: a hub on a fresh database, with people, documents and a clock.
//!
//! Owns the making of requests and the reading back of everything a request may have left behind. What
//! is stored is opened here by other means than the hub's own, so that a fault in reading cannot hide
//! one in writing.

use crate::evidence::{Evidence, EvidenceKeys, TimestampAuthority};
use crate::{Clock, Hub, HubOptions, KeySource, MIGRATIONS, OWNER, admin};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use pli_api::{AccountId, DepositId, DocumentId, NewToken, OrganisationId, OrganisationKind, Time, UploadId};
use pli_seal::{DocumentKey, KeyRing, Passphrase, open_packet};
use pli_signature::Development;
use pli_storage::{Args, Blobs, Class, Db, DbOptions, Dialect, ObjectKey, Row, args};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

/// Makes of each case a test on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($dialect:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn case($dialect: pli_storage::Dialect) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                case(pli_storage::Dialect::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                case(pli_storage::Dialect::Postgres).await;
            }
        }
    )*};
}
pub(crate) use on_both;

pub(crate) const KIB: usize = 1 << 10;
pub(crate) const MIB: usize = 1 << 20;
pub(crate) const DAY: i64 = 86_400;

/// Content bytes of a full segment in the tests, unless one says otherwise.
pub(crate) const SEGMENT: usize = 256 * KIB;

pub(crate) const PASSWORD: &str = "un mot de passe de test";

/// The rings of a hub after a rotation.
pub(crate) struct Rotated {
    /// The new certificate is current, the old one retired.
    pub(crate) both: KeyRing,
    /// The new certificate alone.
    pub(crate) new: KeyRing,
}

fn passphrase() -> Passphrase {
    Passphrase::new("phrase secrète des tests").unwrap()
}

fn old_key() -> &'static Vec<u8> {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| KeyRing::generate("Pli, essais", &passphrase()).unwrap())
}

/// The ring of every hub here. Made once in a process: opening a secret key is slow by design.
pub(crate) fn ring() -> &'static KeyRing {
    static RING: OnceLock<KeyRing> = OnceLock::new();
    RING.get_or_init(|| KeyRing::open(std::slice::from_ref(old_key()), &passphrase()).unwrap())
}

/// What takes the place of [`ring`] when keys are rotated.
pub(crate) fn rotated() -> &'static Rotated {
    static RINGS: OnceLock<Rotated> = OnceLock::new();
    RINGS.get_or_init(|| {
        let new = KeyRing::generate("Pli, essais, suite", &passphrase()).unwrap();
        let open = |keys: &[Vec<u8>]| KeyRing::open(keys, &passphrase()).unwrap();
        Rotated { both: open(&[new.clone(), old_key().clone()]), new: open(&[new]) }
    })
}

/// The seal of every hub here, and the authority that issued it.
pub(crate) fn development() -> &'static Development {
    static SEAL: OnceLock<Development> = OnceLock::new();
    SEAL.get_or_init(|| {
        let from = Clock::System.now().plus_seconds(-DAY);
        pli_signature::development_seal(from, 3650).unwrap()
    })
}

/// What every hub here signs with.
pub(crate) fn evidence() -> &'static Evidence {
    static EVIDENCE: OnceLock<Evidence> = OnceLock::new();
    EVIDENCE.get_or_init(|| evidence_with(None))
}

pub(crate) fn evidence_with(timestamps: Option<TimestampAuthority>) -> Evidence {
    let seal = development();
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    seed.copy_from_slice(&sha256(b"journal des essais"));
    Evidence::new(EvidenceKeys {
        journal: pli_journal::SigningKey::from_seed("pli.example/journal", &seed).unwrap(),
        retired: Vec::new(),
        seal: pli_signature::SealKey::from_pem(&seal.certificates, &seal.key).unwrap(),
        issuer: "Tribunal judiciaire de Démonstration".into(),
        timestamps,
        register_years: 6,
    })
}

fn unwrap(wrapped: &[u8]) -> DocumentKey {
    DocumentKey::unwrap(wrapped, ring()).or_else(|_| DocumentKey::unwrap(wrapped, &rotated().both)).unwrap()
}

/// An account of the world.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) id: AccountId,
    pub(crate) address: String,
    pub(crate) organisation: OrganisationId,
    pub(crate) token: String,
}

/// What a world is made of.
pub(crate) struct Ground {
    pub(crate) dialect: Dialect,
    pub(crate) options: HubOptions,
    /// A folder store instead of one in memory.
    pub(crate) folder: bool,
    pub(crate) quota: u64,
    pub(crate) keys: Option<KeySource>,
    /// Another store than either.
    pub(crate) blobs: Option<Blobs>,
    /// Another database than a fresh one.
    pub(crate) url: Option<String>,
    pub(crate) db: DbOptions,
}

impl Ground {
    pub(crate) fn on(dialect: Dialect) -> Self {
        let options = HubOptions {
            max_size: 1 << 30,
            segment_size: SEGMENT,
            transfer_memory: 64 * MIB,
            upload_memory: 8 * MIB,
            pending_uploads: 20,
            evidence: Some(evidence().clone()),
            ..HubOptions::default()
        };
        let db = DbOptions { max_connections: 12, ..DbOptions::default() };
        Self { dialect, options, folder: false, quota: 1 << 30, keys: None, blobs: None, url: None, db }
    }

    pub(crate) fn folder(mut self) -> Self {
        self.folder = true;
        self
    }

    pub(crate) fn options(mut self, change: impl FnOnce(&mut HubOptions)) -> Self {
        change(&mut self.options);
        self
    }

    pub(crate) async fn build(self) -> World {
        let dir = tempfile::tempdir().unwrap();
        let url = match (self.url, self.dialect) {
            (Some(url), _) => url,
            (None, Dialect::Sqlite) => format!("sqlite:{}", dir.path().join("pli.db").display()),
            (None, Dialect::Postgres) => pli_storage::testing::postgres().await.unwrap(),
        };
        let store = dir.path().join("store");
        let blobs = match self.blobs {
            Some(blobs) => blobs,
            None if self.folder => Blobs::folder(&store).unwrap(),
            None => Blobs::memory(),
        };
        let keys = self.keys.unwrap_or_else(|| KeySource::new(|| Ok(ring().clone())).unwrap());
        let clock = Arc::new(AtomicI64::new(Clock::System.now().micros()));
        let db = Db::open(&url, self.db.clone()).await.unwrap();
        db.migrate_jobs().await.unwrap();
        db.migrate(OWNER, MIGRATIONS).await.unwrap();
        let hub = Hub::new(db, blobs.clone(), keys, self.options, Clock::Set(clock.clone()));
        let office =
            admin::add_organisation(&hub, OrganisationKind::Office, "Cabinet d'instruction", self.quota);
        let office = office.await.unwrap();
        let experts =
            admin::add_organisation(&hub, OrganisationKind::Company, "Experts", 1 << 20).await.unwrap();
        let others =
            admin::add_organisation(&hub, OrganisationKind::Court, "Autre cour", 1 << 20).await.unwrap();
        let sender = account(&hub, office, "greffe@cabinet.example", "Greffe").await;
        let recipient = account(&hub, experts, "expert@experts.example", "Expert").await;
        let stranger = account(&hub, others, "autre@cour.example", "Autre").await;
        World { hub, blobs, clock, url, dir, db: self.db, sender, recipient, stranger }
    }
}

pub(crate) async fn account(hub: &Hub, organisation: OrganisationId, address: &str, name: &str) -> Who {
    let named = organisation.to_string();
    let id = admin::add_account(hub, &named, address, name, None).await.unwrap();
    let token = admin::add_token(hub, address, &NewToken { name: "essai".into(), days: 366 }).await.unwrap();
    Who { id, address: address.to_owned(), organisation, token: token.token }
}

/// A hub with its people.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) blobs: Blobs,
    pub(crate) clock: Arc<AtomicI64>,
    pub(crate) url: String,
    pub(crate) dir: tempfile::TempDir,
    db: DbOptions,
    pub(crate) sender: Who,
    pub(crate) recipient: Who,
    pub(crate) stranger: Who,
}

/// An upload just created.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) id: UploadId,
    pub(crate) document: Option<DocumentId>,
}

/// A row of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) kind: String,
    pub(crate) actor: Option<AccountId>,
    pub(crate) deposit: Option<DepositId>,
    pub(crate) document: Option<DocumentId>,
    pub(crate) detail: Value,
}

impl World {
    pub(crate) async fn on(dialect: Dialect) -> Self {
        Ground::on(dialect).build().await
    }

    /// One more process on the same database and store.
    pub(crate) async fn node(&self) -> Hub {
        self.node_with(self.hub.keys().clone(), &self.url).await
    }

    pub(crate) async fn node_with(&self, keys: KeySource, url: &str) -> Hub {
        let db = Db::open(url, self.db.clone()).await.unwrap();
        let clock = Clock::Set(self.clock.clone());
        Hub::new(db, self.blobs.clone(), keys, self.hub.options().clone(), clock)
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Time {
        self.hub.now()
    }

    pub(crate) async fn call(&self, ask: Ask) -> Reply {
        call(&self.hub, ask).await
    }

    /// Runs every job that is due.
    pub(crate) async fn jobs(&self) {
        self.hub.run_due_jobs().await.unwrap();
    }

    // Deposits and uploads, by the requests a client makes.

    pub(crate) async fn draft(&self) -> DepositId {
        let body = json!({ "recipients": [self.recipient.address], "subject": "Procédure 24/1234" });
        let reply = self.call(ask("POST", "/api/v1/deposits").by(&self.sender).json(&body)).await;
        reply.expect(201).json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// A delegation from one to another; in one procedure, or in everything.
    pub(crate) async fn delegated(
        &self,
        from: &Who,
        to: &Who,
        procedure: Option<uuid::Uuid>,
        starts: Time,
        ends: Time,
    ) -> uuid::Uuid {
        let id = uuid::Uuid::now_v7();
        let sql = "INSERT INTO delegations (id, delegator, delegate, kind, procedure, starts, ends, created)
                   VALUES ($1, $2, $3, 'delegation', $4, $5, $6, $5)";
        self.change(sql, args![id, from.id.0, to.id.0, procedure, starts, ends]).await;
        id
    }

    pub(crate) async fn send(&self, deposit: DepositId) -> Reply {
        self.call(ask("POST", format!("/api/v1/deposits/{deposit}/send")).by(&self.sender)).await
    }

    pub(crate) async fn deposit(&self, who: &Who, deposit: DepositId) -> Reply {
        self.call(ask("GET", format!("/api/v1/deposits/{deposit}")).by(who)).await
    }

    /// Creates an upload of the sender's; without a size, the length is deferred.
    pub(crate) async fn begin(&self, deposit: DepositId, name: &str, size: Option<usize>) -> Begun {
        let reply = self.call(creation(deposit, name, size).by(&self.sender)).await;
        reply.expect(201).begun()
    }

    pub(crate) async fn begin_part(&self, size: usize) -> Begun {
        let ask =
            tus("POST", "/api/v1/uploads").header("upload-concat", "partial").header("upload-length", size);
        self.call(ask.by(&self.sender)).await.expect(201).begun()
    }

    pub(crate) async fn patch(&self, id: UploadId, offset: usize, bytes: &[u8]) -> Reply {
        self.call(append(id, offset).octets(bytes).by(&self.sender)).await
    }

    /// The durable offset, as HEAD says it.
    pub(crate) async fn offset(&self, id: UploadId) -> usize {
        offset(&self.hub, &self.sender, id).await
    }

    /// A document received whole, not yet finished.
    /// A PATCH under way, whose body the test feeds.
    pub(crate) fn feed(&self, id: UploadId, at: usize) -> (Feed, tokio::task::JoinHandle<Reply>) {
        let (feed, body) = Feed::new();
        let (hub, ask) = (self.hub.clone(), append(id, at).body(body).by(&self.sender));
        (feed, tokio::spawn(async move { call(&hub, ask).await }))
    }

    pub(crate) async fn watched(&self, id: UploadId) -> usize {
        watched(&self.hub, &self.sender, id).await
    }

    pub(crate) async fn upload(&self, deposit: DepositId, name: &str, content: &[u8]) -> DocumentId {
        let begun = self.begin(deposit, name, Some(content.len())).await;
        if !content.is_empty() {
            self.patch(begun.id, 0, content).await.expect(204);
        }
        begun.document.unwrap()
    }

    /// A deposit at its recipient's disposal.
    pub(crate) async fn available(&self, files: &[(&str, &[u8])]) -> (DepositId, Vec<DocumentId>) {
        let deposit = self.draft().await;
        let mut documents = Vec::new();
        for (name, content) in files {
            documents.push(self.upload(deposit, name, content).await);
        }
        self.send(deposit).await.expect(202);
        self.jobs().await;
        let state = self.deposit(&self.recipient, deposit).await.expect(200).json();
        assert_eq!(state["state"], "available");
        (deposit, documents)
    }

    pub(crate) async fn document(&self, document: DocumentId) -> Value {
        self.call(ask("GET", format!("/api/v1/documents/{document}")).by(&self.sender))
            .await
            .expect(200)
            .json()
    }

    pub(crate) async fn download(&self, who: &Who, document: DocumentId) -> Reply {
        self.call(content_of(document).by(who)).await
    }

    // What is left behind.

    pub(crate) async fn rows(&self, sql: &'static str, args: Args) -> Vec<Row> {
        self.hub.db().rows(sql, args).await.unwrap()
    }

    pub(crate) async fn number(&self, sql: &'static str, args: Args) -> i64 {
        self.hub.db().optional(sql, args).await.unwrap().unwrap().get("n").unwrap()
    }

    pub(crate) async fn change(&self, sql: &'static str, args: Args) -> u64 {
        let mut tx = self.hub.db().write().await.unwrap();
        let changed = tx.execute(sql, args).await.unwrap();
        tx.commit().await.unwrap();
        changed
    }

    /// Bytes that the sender's organisation has been charged with.
    pub(crate) async fn used(&self) -> i64 {
        self.number("SELECT used AS n FROM organisations WHERE id = $1", args![self.sender.organisation.0])
            .await
    }

    /// Keys of every object in the store.
    pub(crate) async fn objects(&self, class: Class) -> Vec<ObjectKey> {
        let entries = self.blobs.list(class, None, 100_000).await.unwrap();
        entries.into_iter().map(|entry| entry.key).collect()
    }

    pub(crate) async fn store_is_empty(&self) {
        for class in Class::ALL {
            assert_eq!(self.objects(class).await, [], "objects left in the store");
        }
    }

    /// Length and object of each segment of an upload, in order.
    pub(crate) async fn segments(&self, upload: UploadId) -> Vec<(usize, ObjectKey)> {
        let sql = "SELECT length, object FROM segments WHERE upload = $1 ORDER BY idx";
        let rows = self.rows(sql, args![upload.0]).await;
        let segment = |row: &Row| {
            let length = usize::try_from(row.get::<i64>("length").unwrap()).unwrap();
            (length, row.get::<String>("object").unwrap().parse().unwrap())
        };
        rows.iter().map(segment).collect()
    }

    /// The objects of a document's segments, in order.
    pub(crate) async fn pieces(&self, document: DocumentId) -> Vec<ObjectKey> {
        let sql = "SELECT s.object FROM document_parts p JOIN segments s ON s.upload = p.upload
                   WHERE p.document = $1 ORDER BY p.part, s.idx";
        let rows = self.rows(sql, args![document.0]).await;
        rows.iter().map(|row| row.get::<String>("object").unwrap().parse().unwrap()).collect()
    }

    /// What the rows and the store hold of an upload, opened without the hub's own reader.
    pub(crate) async fn stored(&self, upload: UploadId) -> Vec<u8> {
        let sql = "SELECT wrapped_key, received, segments FROM uploads WHERE id = $1";
        let row = self.rows(sql, args![upload.0]).await.pop().unwrap();
        let key = unwrap(&row.get::<Vec<u8>>("wrapped_key").unwrap());
        let sql =
            "SELECT idx, start, length, object, object_length FROM segments WHERE upload = $1 ORDER BY idx";
        let rows = self.rows(sql, args![upload.0]).await;
        let mut content = Vec::new();
        for (idx, segment) in (0_i64..).zip(&rows) {
            assert_eq!(segment.get::<i64>("idx").unwrap(), idx);
            assert_eq!(segment.get::<i64>("start").unwrap(), i64::try_from(content.len()).unwrap());
            let object = segment.get::<String>("object").unwrap().parse().unwrap();
            let packet = self.blobs.read(&object, 1 << 30).await.unwrap();
            assert_eq!(segment.get::<i64>("object_length").unwrap(), i64::try_from(packet.len()).unwrap());
            let plain = open_packet(&key, &packet, 1 << 30).unwrap();
            assert_eq!(segment.get::<i64>("length").unwrap(), i64::try_from(plain.len()).unwrap());
            content.extend_from_slice(&plain);
        }
        assert_eq!(row.get::<i64>("received").unwrap(), i64::try_from(content.len()).unwrap());
        assert_eq!(row.get::<i64>("segments").unwrap(), i64::try_from(rows.len()).unwrap());
        content
    }

    /// The parts of a document, opened one after the other.
    pub(crate) async fn stored_document(&self, document: DocumentId) -> Vec<u8> {
        let sql = "SELECT upload FROM document_parts WHERE document = $1 ORDER BY part";
        let mut content = Vec::new();
        for row in self.rows(sql, args![document.0]).await {
            content.extend(self.stored(UploadId(row.get("upload").unwrap())).await);
        }
        content
    }

    /// The journal, in the order in which it was written.
    pub(crate) async fn journal(&self) -> Vec<Told> {
        let sql = "SELECT kind, actor, deposit, document, detail FROM events ORDER BY id";
        let id = |row: &Row, column: &str| row.get::<Option<uuid::Uuid>>(column).unwrap();
        let told = |row: &Row| Told {
            kind: row.get("kind").unwrap(),
            actor: id(row, "actor").map(AccountId),
            deposit: id(row, "deposit").map(DepositId),
            document: id(row, "document").map(DocumentId),
            detail: serde_json::from_str(&row.get::<String>("detail").unwrap()).unwrap(),
        };
        self.rows(sql, args![]).await.iter().map(told).collect()
    }

    /// The events of a kind.
    pub(crate) async fn told(&self, kind: &str) -> Vec<Told> {
        self.journal().await.into_iter().filter(|told| told.kind == kind).collect()
    }

    /// Kinds of all events whose kind begins with this, in order.
    pub(crate) async fn kinds(&self, prefix: &str) -> Vec<String> {
        self.journal()
            .await
            .into_iter()
            .map(|told| told.kind)
            .filter(|kind| kind.starts_with(prefix))
            .collect()
    }

    /// After the jobs: every row has its object, every object its row, every byte opens, every quota adds up.
    pub(crate) async fn is_sound(&self) {
        self.jobs().await;
        let options = admin::CheckOptions { deep: true, remove_orphans_after: None };
        let found = admin::check(&self.hub, options).await.unwrap();
        assert!(found.is_clean() && found.recent.is_empty() && found.leaving == 0, "{found:?}");
        let dead = pli_storage::JobFilter { state: Some(pli_storage::JobState::Dead), ..Default::default() };
        assert!(self.hub.db().jobs(dead).await.unwrap().is_empty(), "dead jobs");
        self.all_uploads_open().await;
    }

    /// What is durable of every living upload opens, and its running digest stands where it should.
    async fn all_uploads_open(&self) {
        let sql = "SELECT id, wrapped_key, digest, received FROM uploads WHERE wrapped_key IS NOT NULL";
        for row in self.rows(sql, args![]).await {
            let stored = self.stored(UploadId(row.get("id").unwrap())).await;
            if let Some(saved) = row.get::<Option<Vec<u8>>>("digest").unwrap() {
                let wrapped = row.get::<Vec<u8>>("wrapped_key").unwrap();
                let key = unwrap(&wrapped);
                let digest = pli_seal::ContentDigest::restore(&saved, &key).unwrap();
                assert_eq!(digest.length(), stored.len() as u64);
                assert_eq!(digest.finalize().to_vec(), sha256(&stored), "the running digest");
            }
        }
    }

    /// The document is available, and every way to read it gives these bytes.
    pub(crate) async fn holds(&self, document: DocumentId, content: &[u8]) {
        let told = self.document(document).await;
        assert_eq!(told["state"], "available");
        assert_eq!(told["size"], content.len());
        assert_eq!(told["sha256"], hex::encode(sha256(content)));
        assert!(self.stored_document(document).await == content, "stored bytes");
        let reply = self.download(&self.sender, document).await.expect(200);
        assert!(reply.body == content, "downloaded bytes");
    }
}

pub(crate) fn sha256(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

/// Bytes that do not repeat, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Waits for something that happens elsewhere; a minute is never needed.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let patience = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), patience).await.is_ok(), "never: {what}");
}

/// The durable offset as the list tells it, which touches nothing.
pub(crate) async fn watched(hub: &Hub, who: &Who, id: UploadId) -> usize {
    let list = call(hub, ask("GET", "/api/v1/uploads").by(who)).await.expect(200).json();
    let item = list["items"].as_array().unwrap().iter().find(|item| item["id"] == id.to_string()).cloned();
    item.unwrap()["offset"].as_u64().unwrap() as usize
}

pub(crate) async fn offset(hub: &Hub, who: &Who, id: UploadId) -> usize {
    let reply = call(hub, tus("HEAD", format!("/api/v1/uploads/{id}")).by(who)).await.expect(200);
    reply.header("upload-offset").unwrap().parse().unwrap()
}

/// A body that the test feeds by hand.
pub(crate) struct Feed(mpsc::Sender<Result<Bytes, std::io::Error>>);

impl Feed {
    pub(crate) fn new() -> (Self, Body) {
        let (to, from) = mpsc::channel(1);
        let body = stream::unfold(from, |mut from| async move { from.recv().await.map(|next| (next, from)) });
        (Self(to), Body::from_stream(body))
    }

    /// False when nobody reads any more.
    pub(crate) async fn give(&self, bytes: &[u8]) -> bool {
        self.0.send(Ok(Bytes::copy_from_slice(bytes))).await.is_ok()
    }

    /// The connection dies.
    pub(crate) async fn cut(self) {
        let _ = self.0.send(Err(std::io::Error::other("connection reset"))).await;
    }

    /// The server no longer waits.
    pub(crate) async fn give_up(self) {
        let _ = self.0.send(Err(std::io::ErrorKind::TimedOut.into())).await;
    }
}

/// A body that gives these bytes in pieces, then an error.
pub(crate) fn cut_after(bytes: &[u8], piece: usize) -> Body {
    let mut pieces: Vec<Result<Bytes, std::io::Error>> =
        bytes.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    pieces.push(Err(std::io::Error::other("connection reset")));
    Body::from_stream(stream::iter(pieces))
}

/// A body without a length, in pieces.
pub(crate) fn chunked(bytes: &[u8], piece: usize) -> Body {
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        bytes.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(stream::iter(pieces))
}

/// A request in the making.
pub(crate) struct Ask {
    request: Request<Body>,
}

pub(crate) fn ask(method: &str, path: impl AsRef<str>) -> Ask {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = path.as_ref().parse().unwrap();
    request.headers_mut().insert(header::HOST, http::HeaderValue::from_static("pli.example"));
    Ask { request }
}

pub(crate) fn tus(method: &str, path: impl AsRef<str>) -> Ask {
    ask(method, path).header("tus-resumable", "1.0.0")
}

pub(crate) fn append(id: UploadId, offset: usize) -> Ask {
    let ask = tus("PATCH", format!("/api/v1/uploads/{id}")).header("upload-offset", offset);
    ask.header("content-type", "application/offset+octet-stream")
}

pub(crate) fn content_of(document: DocumentId) -> Ask {
    ask("GET", format!("/api/v1/documents/{document}/content"))
}

/// `Upload-Metadata` of these pairs.
pub(crate) fn metadata(pairs: &[(&str, &str)]) -> String {
    use base64::Engine as _;
    let encode = |value: &str| base64::engine::general_purpose::STANDARD.encode(value);
    pairs.iter().map(|(key, value)| format!("{key} {}", encode(value))).collect::<Vec<_>>().join(",")
}

pub(crate) fn creation(deposit: DepositId, name: &str, size: Option<usize>) -> Ask {
    let metadata =
        metadata(&[("filename", name), ("deposit", &deposit.to_string()), ("filetype", "application/pdf")]);
    let ask = tus("POST", "/api/v1/uploads").header("upload-metadata", metadata);
    match size {
        Some(size) => ask.header("upload-length", size),
        None => ask.header("upload-defer-length", 1),
    }
}

impl Ask {
    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.request.headers_mut().append(name, value.to_string().parse().unwrap());
        self
    }

    pub(crate) fn by(self, who: &Who) -> Self {
        self.token(&who.token)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub(crate) fn json(mut self, value: &Value) -> Self {
        *self.request.body_mut() = Body::from(value.to_string());
        self.header("content-type", "application/json")
    }

    /// A body of known length.
    pub(crate) fn octets(mut self, bytes: &[u8]) -> Self {
        *self.request.body_mut() = Body::from(bytes.to_vec());
        self.header("content-length", bytes.len())
    }

    /// A body of unknown length.
    pub(crate) fn body(mut self, body: Body) -> Self {
        *self.request.body_mut() = body;
        self
    }

    pub(crate) fn method(mut self, method: &Method) -> Self {
        *self.request.method_mut() = method.clone();
        self
    }

    pub(crate) fn into_request(self) -> Request<Body> {
        self.request
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body ended before its end.
    pub(crate) cut: bool,
}

pub(crate) async fn call(hub: &Hub, ask: Ask) -> Reply {
    let response = hub.router().oneshot(ask.into_request()).await.unwrap();
    let (parts, mut body) = response.into_parts();
    let (mut bytes, mut cut) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    Reply { status: parts.status, headers: parts.headers, body: bytes.into(), cut }
}

/// Makes a request and drops it after so many polls, unless it was answered before.
pub(crate) async fn drop_after(hub: &Hub, ask: Ask, polls: usize) {
    let mut request = Box::pin(hub.router().oneshot(ask.into_request()));
    for _ in 0..polls {
        if futures_util::poll!(request.as_mut()).is_ready() {
            return;
        }
        // Databases and files answer meanwhile.
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
}

impl Reply {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(self.body.get(..self.body.len().min(2000)).unwrap_or_default());
        assert_eq!(self.status.as_u16(), status, "{:?} {body}", self.headers);
        assert!(!self.cut, "the body was cut");
        self
    }

    /// A problem of this status and code, said in the form of RFC 9457.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        let problem = reply.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:pli:problem:{code}"));
        reply
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn begun(&self) -> Begun {
        let location = self.header("location").unwrap();
        let id = location.strip_prefix("/api/v1/uploads/").unwrap().parse().unwrap();
        Begun { id, document: self.header("pli-document").map(|id| id.parse().unwrap()) }
    }
}
